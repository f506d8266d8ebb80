"""TunnelChecks: whether frames get from switch to switch, before an operation is confirmed.

A switch that has confirmed a rule need not forward by it: Open vSwitch follows a moment later, and what is
between switches confirms nothing. So an operation that lets switches of a network send to others sends a
probe of full size each of these ways, through the very rules that frames of the network take: into the
group of a tunnel or along the path of a constraint, with an inner label that every switch sends up; without
tunnels, over each link of the path. A way that was seen to pass lately, and has not changed since, is not
probed again.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import permutations

from libnetvirt import openflow as of
from libnetvirt.controller.engine.effects import NOTHING, Effects
from libnetvirt.controller.engine.state import ControllerState
from libnetvirt.controller.intent.rulesdb import NetworkRecord
from libnetvirt.controller.intent.switches import switch_text
from libnetvirt.controller.rules import probing
from libnetvirt.controller.topology.link_probes import Tokens, probe_frame, token_of
from libnetvirt.controller.topology.pathfinder import Edge
from libnetvirt.model import Encapsulation

#: seconds that a way counts as seen
FRESH = 30.0
#: ways that one operation probes; of more, each switch is probed as the first and as the last of some
WAYS_LIMIT = 2000
#: seconds until a probe that was not seen is sent again: first, and doubled up to the last
FIRST_PAUSE, LAST_PAUSE = 0.02, 0.2
#: Probes that are sent again in a second: slow switches must not get them faster than they can send them.
AGAIN = 2000


@dataclass(frozen=True, slots=True)
class Way:
    """A way that frames take. ``key`` is another one when the way changes; ``edges`` are the links of it."""

    key: Hashable
    ends: tuple[int, int]
    edges: tuple[Edge, ...]
    #: makes the message that sends a frame this way
    message: Callable[[bytes], of.PacketOut]

    def __str__(self) -> str:
        return f"from switch {switch_text(self.ends[0])} to switch {switch_text(self.ends[1])}"


class Check:
    """The ways of one operation that have yet to be seen."""

    def __init__(self, ways: Iterable[Way], kind: Encapsulation, size: int) -> None:
        self.kind = kind
        self.missing = {way.key: way for way in ways}
        #: called when all have been seen
        self.when_seen: Callable[[], None] = lambda: None
        self.size = size
        self.pause = FIRST_PAUSE

    @property
    def edges(self) -> set[Edge]:
        """The links of the ways that have yet to be seen."""
        return {edge for way in self.missing.values() for edge in way.edges}


class TunnelChecks:
    """Sends probes through tunnels, and remembers which have been seen."""

    def __init__(self, state: ControllerState, secret: bytes) -> None:
        self._state = state
        self._tokens = Tokens(secret, b"tunnel probe")
        self._seen: dict[Hashable, float] = {}
        self._sent: dict[bytes, tuple[Check, Way]] = {}

    def check(self, uuid: str, before: set[int], now: float) -> Check | None:
        """The ways to be seen after an operation on a network, which was on the switches ``before``. None if
        there are none."""
        record = self._state.rulesdb.networks.get(uuid)
        if record is None or len(record.by_switch) < 2:
            return None
        self._seen = {key: at for key, at in self._seen.items() if now - at < FRESH}
        ways = {way.key: way for way in self._ways(record, before) if way.key not in self._seen}
        kind = record.encapsulation
        size = self._state.options.link_mtu - probing.overhead(kind)
        return Check(ways.values(), kind, size) if ways else None

    def _ways(self, record: NetworkRecord, before: set[int]) -> Iterator[Way]:
        state, kind = self._state, record.encapsulation
        switches = sorted(d for d in record.by_switch if self._connected(d))
        pairs = [pair for pair in permutations(switches, 2) if not before.issuperset(pair)]
        if len(pairs) > WAYS_LIMIT:
            # Around: each switch to its neighbours in the list, then to those behind them.
            count = len(switches)
            place = {dpid: n for n, dpid in enumerate(switches)}
            pairs.sort(key=lambda pair: (place[pair[1]] - place[pair[0]]) % count)
            del pairs[WAYS_LIMIT:]
        for ingress, egress in pairs:
            edges = state.paths.path(ingress, egress, kind)
            if edges:
                yield from self._along(kind, ingress, egress, edges)
        for key, te_path in state.te_paths.of(record.uuid).items():
            if te_path.label is not None and te_path.edges and self._connected(te_path.ends[0]):
                port, label = te_path.edges[0].source_port, te_path.label
                message = partial(probing.over_link, kind, port, outer=label)
                yield Way((key, label), te_path.ends, te_path.edges, message)

    def _along(self, kind: Encapsulation, ingress: int, egress: int, edges: list[Edge]) -> Iterator[Way]:
        if kind is Encapsulation.NATIVE:
            for edge in edges:
                message = partial(probing.over_link, kind, edge.source_port)
                ends = (edge.source, edge.destination)
                yield Way((kind, edge.source, edge.source_port), ends, (edge,), message)
            return
        tunnel = self._state.labels.spaces[kind].tunnel(egress)
        number = (kind, ingress, egress, tunnel, edges[0].source_port)
        message = partial(probing.into_tunnel, kind, tunnel.number)
        yield Way(number, (ingress, egress), tuple(edges), message)

    def _connected(self, dpid: int) -> bool:
        return self._state.control.is_reachable(dpid)

    def send(self, check: Check) -> Effects:
        """Send a probe each way that has not been seen; again whenever ``check.pause`` is over."""
        messages: list[tuple[int, of.Message]] = []
        for way in check.missing.values():
            token = self._tokens.next()
            self._sent[token] = check, way
            messages.append((way.ends[0], way.message(probe_frame(token, check.size))))
        check.pause = max(min(2 * check.pause, LAST_PAUSE), len(messages) / AGAIN)
        return Effects(tuple(messages)) if messages else NOTHING

    def arrived(self, dpid: int, frame: bytes, now: float) -> bool:
        """Process the first bytes of a probe received at a switch. Returns whether it was one."""
        check, way = self._sent.pop(token_of(frame), (None, None))
        if check is None or way is None or way.ends[1] != dpid:
            return False
        self._seen[way.key] = now
        if check.missing.pop(way.key, None) is not None and not check.missing:
            check.when_seen()
        return True

    def end(self, check: Check) -> None:
        """The operation no longer waits for it."""
        check.when_seen = lambda: None
        self._sent = {token: one for token, one in self._sent.items() if one[0] is not check}

    def unseen_text(self, check: Check) -> str:
        """Which ways were not seen to pass, for people."""
        ways = sorted(check.missing.values(), key=lambda way: way.ends)
        more = f", and {len(ways) - 3} other ways" if len(ways) > 3 else ""
        return (
            f"no frame of {check.size + 14} bytes gets {', '.join(map(str, ways[:3]))}{more}, although the "
            "switches have confirmed their rules: 'netvirt substrate' shows links that do not pass frames"
        )
