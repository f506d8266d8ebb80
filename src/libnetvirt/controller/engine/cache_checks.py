"""CacheChecks: whether switches apply changed rules to the frames of tunnels that they have in their cache.

Open vSwitch caches what it does with the frames of a flow, and goes through its cache when a rule changes.
How many tags its cache can tell apart is decided when a datapath is made. If ``vlan-limit`` was raised later,
frames of tunnels pass, but a changed rule is not applied to those in the cache (seen with 3.1; the cause is
not shown over OpenFlow). So a rule is changed that only probes meet, and it is looked at what becomes of
them. A *trial* of a switch:

1. A probe is sent into it over a link, and comes up: now its flow is in the cache.
2. The rule that sends probes up is replaced by one that differs in its cookie only.
3. Probes of the same flow are sent, each with one of a new flow behind it. As soon as one of the same flow
   comes up with the new cookie, the switch applies changed rules. If, after `APPLIED_WITHIN` seconds, they
   still come up with the old one, or no longer at all, while those of new flows come up with the new one, it
   does not.
   Otherwise the link is to blame, or the trial was interrupted, and it says nothing.

A switch is tried when it has connected, and when another link into it begins to pass the frames of tunnels,
as after ``vlan-limit`` was raised; one that does not apply changed rules, every `STALE_AGAIN` seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import Flow, add_message, delete_message
from libnetvirt.controller.dataplane.pipeline import Kind
from libnetvirt.controller.engine.effects import NOTHING, Effects
from libnetvirt.controller.engine.state import ControllerState
from libnetvirt.controller.intent.switches import SwitchView
from libnetvirt.controller.rules import probing
from libnetvirt.controller.topology.link_probes import SMALL, Tokens, has_tag, probe_frame, token_of
from libnetvirt.controller.topology.pathfinder import Edge
from libnetvirt.model import Encapsulation

#: seconds that a switch has to apply a changed rule, and frames of new flows that have to follow it after
#: that while those of the old flow do not
APPLIED_WITHIN, WITNESSES = 4.0, 5
#: seconds after which a trial is given up: if its first probe has not arrived, and if it has shown nothing
FIRST_TIMEOUT, TRIAL_TIMEOUT = 2.0, 20.0
#: seconds between two trials of a switch that does not apply changed rules, and of one that does
STALE_AGAIN, AGAIN = 30.0, 600.0
#: switches that are tried at once
AT_ONCE = 16
#: seconds after which a switch removes the replaced rule by itself
RULE_TIMEOUT = 60
_KIND = Encapsulation.VLAN


@dataclass(slots=True)
class _Trial:
    """A trial under way. ``head``: the first bytes of the tokens, and so the source address, of one flow."""

    edge: Edge
    view: SwitchView
    began: float
    head: bytes
    rule: Flow
    #: when the rule was changed
    changed: float | None = None
    #: the tokens of probes of the same flow, and those of new flows; how many of the latter count
    same: set[bytes] = field(default_factory=set)
    new: set[bytes] = field(default_factory=set)
    witnesses: int = 0


@dataclass(slots=True)
class _Known:
    """What the last trial of a switch has shown, and when: of one connection, over one of these links."""

    view: SwitchView
    edges: set[Edge]
    stale: bool
    at: float


class CacheChecks:
    """Tries switches. Times are in seconds of any steady clock."""

    def __init__(self, state: ControllerState, secret: bytes) -> None:
        self._state = state
        self._tokens = Tokens(secret, b"cache probe")
        self._trials: dict[int, _Trial] = {}
        self._known: dict[int, _Known] = {}
        self._sent: dict[bytes, int] = {}
        self._shown: list[tuple[int, bool]] = []

    def take(self) -> list[tuple[int, bool]]:
        """What trials have shown since the last call: switches, and whether they are *stale*, that is, do
        not apply changed rules to cached frames of tunnels."""
        shown, self._shown = self._shown, []
        return shown

    def tick(self, now: float) -> Effects:
        """Call once per LLDP interval: begin the trials that are due."""
        passing: dict[int, set[Edge]] = {}
        for edge in self._state.link_probes.passing(_KIND):
            passing.setdefault(edge.destination, set()).add(edge)
        for dpid in self._known.keys() - self._state.switches.keys():
            del self._known[dpid]
        for dpid, known in self._known.items():
            known.edges &= passing.get(dpid, set())
        effects = NOTHING
        for dpid, edges in passing.items():
            if len(self._trials) >= AT_ONCE:
                break
            view = self._state.switches.get(dpid)
            if view is not None and view.is_open_vswitch and dpid not in self._trials:
                effects |= self._begin(view, edges, now)
        return effects

    def _begin(self, view: SwitchView, edges: set[Edge], now: float) -> Effects:
        """Try a switch over one of these links, if that is due."""
        known, dpid = self._known.get(view.dpid), view.dpid
        if known is not None and known.view is view:
            again = now - known.at >= (STALE_AGAIN if known.stale else AGAIN)
            due = edges if again else edges - known.edges
        else:
            due = edges
        edge = min(filter(self._state.can_probe, due), default=None)
        if edge is None:
            return NOTHING
        head = self._tokens.flow()
        rule = probing.replacement(view, _KIND, Kind.CACHE, RULE_TIMEOUT)
        trial = self._trials[dpid] = _Trial(edge, view, now, head, rule)
        return Effects(tuple(self._probe(trial, trial.same)))

    def _probe(self, trial: _Trial, tokens: set[bytes]) -> Iterator[tuple[int, of.Message]]:
        token = self._tokens.next(trial.head if tokens is trial.same else b"")
        tokens.add(token)
        self._sent[token] = trial.edge.destination
        frame = probe_frame(token, SMALL)
        yield trial.edge.source, probing.over_link(_KIND, trial.edge.source_port, frame)

    def poll(self, now: float) -> Effects:
        """Call several times a second: go on with trials, and judge them."""
        effects = NOTHING
        for trial in list(self._trials.values()):
            limit = FIRST_TIMEOUT if trial.changed is None else TRIAL_TIMEOUT
            if not self._state.can_probe(trial.edge) or now - trial.began >= limit:
                effects |= self._end(trial)
            elif trial.changed is None:
                continue
            elif trial.witnesses >= WITNESSES:
                effects |= self._end(trial, now, stale=True)
            else:
                effects |= Effects((*self._probe(trial, trial.same), *self._probe(trial, trial.new)))
        return effects

    def awaits(self, frame: bytes) -> bool:
        """Whether a frame is a probe of a trial."""
        return bool(self._sent) and token_of(frame) in self._sent

    def arrived(self, dpid: int, cookie: int, frame: bytes, now: float) -> Effects:
        """Process the first bytes of a probe received at a switch, sent up by a rule with this cookie."""
        token = token_of(frame)
        trial = self._trials.get(self._sent.pop(token, 0))
        if trial is None or trial.edge.destination != dpid:
            return NOTHING
        by_new_rule = cookie == pipeline.cookie(0, Kind.CACHE)
        if token in trial.same:
            if trial.changed is not None:
                return self._end(trial, now) if by_new_rule else NOTHING
            if has_tag(frame):
                # It reads one tag only, and another rule has sent this up.
                return self._end(trial)
            trial.changed = now
            if by_new_rule:
                # The rule of an earlier trial is still there.
                return self._end(trial)
            return Effects(((dpid, add_message(trial.rule)),))
        if by_new_rule and trial.changed is not None and now - trial.changed >= APPLIED_WITHIN:
            trial.witnesses += 1
        return NOTHING

    def _end(self, trial: _Trial, now: float | None = None, *, stale: bool = False) -> Effects:
        """End a trial: ``now``: it has shown whether the switch is stale; else it has shown nothing."""
        dpid = trial.edge.destination
        del self._trials[dpid]
        for token in trial.same | trial.new:
            self._sent.pop(token, None)
        if now is not None:
            edges = {e for e in self._state.link_probes.passing(_KIND) if e.destination == dpid}
            self._known[dpid] = _Known(trial.view, edges, stale, now)
            self._shown.append((dpid, stale))
        return Effects(((dpid, delete_message(trial.rule)),)) if trial.changed is not None else NOTHING
