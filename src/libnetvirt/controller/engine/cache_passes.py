"""CachePasses: whether a switch has gone through its cache since its rules were changed.

Open vSwitch caches what it does with the frames of a flow. It confirms a changed rule before its cache
follows: for a moment, and longer on a busy machine, the rules of before are applied to frames of a cached
flow. Most operations need not wait for that, as cached flows lead where frames are still delivered. But when
an endpoint comes back to a switch, or to one where frames for it were flooded, that switch may have flows in
its cache that drop them or deliver them elsewhere.

So before anyone sends there, a rule is changed that only probes meet:

1. Two probes of one flow are sent into the switch over a link, one after the other. When the second has come
   up, their flow is in the cache.
2. `CHANGES` times, the rule that sends them up is replaced by one with another cookie, and probes of the same
   flow are sent until one comes up with it.

The switch goes through its cache again and again, as long as rules change (``udpif_revalidator`` in
ofproto/ofproto-dpif-upcall.c of Open vSwitch), and looks at each flow once at a time. The first change may be
seen in a pass that began before the operation's rules were there. The second is seen in a later one, and the
third only after that one has ended; so then every flow that was cached before has been looked at.

A switch that does not cache what leads a frame to the controller shows each change at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import Flow, add_message, delete_message
from libnetvirt.controller.dataplane.pipeline import Kind
from libnetvirt.controller.engine.effects import Effects
from libnetvirt.controller.engine.state import ControllerState
from libnetvirt.controller.rules import probing
from libnetvirt.controller.topology.link_probes import SMALL, Tokens, probe_frame, token_of
from libnetvirt.controller.topology.pathfinder import Edge
from libnetvirt.model import Encapsulation

#: probes of an unchanged rule, and changes of the rule, that are seen one after the other
UNCHANGED, CHANGES = 2, 3
#: seconds after which a switch removes the replaced rule by itself
RULE_TIMEOUT = 10


@dataclass(slots=True, eq=False)
class CachePass:
    """One switch, while it is waited for. ``head``: the first bytes of the tokens of its probes, and so their
    source address."""

    edge: Edge
    kind: Encapsulation
    head: bytes
    rule: Flow
    #: called when a probe of the present step has come up
    when_seen: Callable[[], None] = lambda: None
    #: the step: so many probes have been seen as they were expected
    step: int = 0
    tokens: set[bytes] = field(default_factory=set)

    @property
    def changed(self) -> bool:
        """Whether probes of the present step have to come up by the replaced rule."""
        return self.step >= UNCHANGED and (self.step - UNCHANGED) % 2 == 0

    @property
    def is_over(self) -> bool:
        """Whether the switch has gone through its cache."""
        return self.step == UNCHANGED + CHANGES


class CachePasses:
    """Makes the probes, and recognises them."""

    def __init__(self, state: ControllerState, secret: bytes) -> None:
        self._state = state
        self._tokens = Tokens(secret, b"cache pass")
        self._sent: dict[bytes, CachePass] = {}

    def begin(self, dpid: int) -> CachePass | None:
        """Begin with a switch. None if it has no such cache, or if no link leads there for probes."""
        state = self._state
        view = state.switches.get(dpid)
        if view is None or not view.is_open_vswitch:
            return None
        for kind in state.link_probes.kinds:
            for edge in state.link_probes.passing(kind):
                if edge.destination == dpid and state.can_probe(edge):
                    rule = probing.replacement(view, kind, Kind.PASS, RULE_TIMEOUT)
                    return CachePass(edge, kind, self._tokens.flow(), rule)
        return None

    def enter(self, one: CachePass) -> Effects:
        """The message that begins the present step."""
        self._forget(one)
        if one.step < UNCHANGED:
            return Effects()
        message = add_message(one.rule) if one.changed else delete_message(one.rule)
        return Effects(((one.edge.destination, message),))

    def probe(self, one: CachePass) -> Effects:
        """A probe of the present step. Send it again until it was seen."""
        token = self._tokens.next(one.head)
        one.tokens.add(token)
        self._sent[token] = one
        message = probing.over_link(one.kind, one.edge.source_port, probe_frame(token, SMALL))
        return Effects(((one.edge.source, message),))

    def arrived(self, dpid: int, cookie: int, frame: bytes) -> bool:
        """Process the first bytes of a probe received at a switch, sent up by a rule with this cookie.
        Returns whether it was one."""
        if not self._sent:
            return False
        one = self._sent.pop(token_of(frame), None)
        if one is None:
            return False
        if one.edge.destination == dpid and (cookie == pipeline.cookie(0, Kind.PASS)) is one.changed:
            self._forget(one)
            one.step += 1
            one.when_seen()
        return True

    def end(self, one: CachePass) -> Effects:
        """The switch is no longer waited for."""
        one.when_seen = lambda: None
        self._forget(one)
        if one.step <= UNCHANGED:
            return Effects()
        return Effects(((one.edge.destination, delete_message(one.rule)),))

    def _forget(self, one: CachePass) -> None:
        """Frames of the step before say nothing about this one."""
        for token in one.tokens:
            self._sent.pop(token, None)
        one.tokens.clear()
