"""LinkProbes: whether links pass the frames that tunnels send, and of which size.

LLDP frames are short and untagged. That they pass says nothing about the frames of tunnels: a switch may
parse one VLAN tag only, a link may have too small an MTU, a device in between may drop what it does not
know. So each direction of a link is *probed* in each encapsulation in use: a small frame and one of the
size of the largest tunnelled frame, encapsulated as in a tunnel, with labels that are reserved for that.
The far end takes them through the same tables as the frames of tunnels, and sends them up.

A round of probes ends with *witnesses*: LLDP frames, which are sent behind the probes. If all witnesses
have arrived and a probe has not, the link has lost the probe, however slow the machine is. If a witness is
missing, the round says nothing: the link may be congested or down, which is for Discovery to find. A first
loss is confirmed by rounds with several copies, all of which have to be lost.

No LLDP frame passes a *static* link (see `static_links`), so its rounds have no witnesses: a probe is lost if
it has not arrived when both switches have answered since. A static link that passes the small probes of no
encapsulation, in one of its directions, is dead, and not used for any.

A probe that comes up at another port than that of the far end shows a segment with other links on it, where
frames would be doubled: the link fails at once.

A link that was never seen to pass is *unproven*: it is used if there is no other way. One that fails is not
used for this encapsulation until it has passed several rounds in a row; more, the more often it has failed.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from math import inf
from struct import Struct

from libnetvirt.controller.dataplane.pipeline import PROBE_ADDRESS, PROBE_SOURCE, TPID_SERVICE
from libnetvirt.controller.topology.discovery import Forged, lldp, organisation_value
from libnetvirt.controller.topology.pathfinder import Edge, LinkEnd, Unfit
from libnetvirt.model import Encapsulation

#: lost rounds in a row after which a link fails: one that was seen to pass, and another one
LOST_ROUNDS, FIRST_LOST_ROUNDS = 3, 2
#: copies of each probe, and witnesses, in rounds that confirm a loss
COPIES = 3
#: rounds in a row that a link that has failed has to pass; doubled by each further failure up to the limit
PASSED_ROUNDS, PASSED_LIMIT = 3, 24
#: seconds without a failure after which earlier ones no longer count
FORGIVEN = 300.0
#: seconds that a probe may arrive later than the witnesses behind it
GRACE = 0.3
#: seconds after which a round without its witnesses is given up
ROUND_TIMEOUT = 2.0
#: seconds after which the probes of a static link are lost, if both switches answer
STATIC_TIMEOUT = 1.0
#: seconds between two rounds of a link that passes, as a multiple of the LLDP interval
PERIOD = 2.0
#: rounds that are begun at once
ROUNDS_AT_ONCE = 100
#: sizes that are tried at once to find the largest that passes
LADDER = 12
#: bytes of the IP packet in a small probe
SMALL = 64
#: seconds that tokens are remembered, so that late frames are told from forged ones
MEMORY = 300.0

#: the first bytes of a token make the source address of its probe: probes with the same are of one flow
FLOW = 3

_SUBTYPE = 3
_TOKEN = 16
_ETHERNET = Struct("!6s6sH")
# RFC 791, with the protocol number for experiments (RFC 3692) and addresses for documentation (RFC 5737).
_IPV4 = Struct("!BBHHHBBH4s4s")
_PROTOCOL, _FROM, _TO = 253, bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2))
_PAYLOAD = _ETHERNET.size + _IPV4.size
_SERVICE, _TAG = TPID_SERVICE.to_bytes(2), 4


class Tokens:
    """Makes tokens that cannot be guessed."""

    def __init__(self, secret: bytes, purpose: bytes) -> None:
        self._secret = secret
        self._purpose = purpose
        self._count = 0

    def next(self, flow: bytes = b"") -> bytes:
        """A token that was not there before; of a flow, if that is given."""
        self._count += 1
        token = hmac.digest(self._secret, self._purpose + self._count.to_bytes(8), hashlib.sha256)[:_TOKEN]
        return flow + token[len(flow) :]

    def flow(self) -> bytes:
        """What the tokens of one flow begin with."""
        return self.next()[:FLOW]


def probe_frame(token: bytes, size: int) -> bytes:
    """The frame of a probe, as a host would send it: an IP packet of ``size`` bytes.

    Each has a source address of its own, which makes a switch look at its tables: Open vSwitch may have lost
    what a cached flow that sends frames up refers to (seen after ``vlan-limit`` was changed while it ran).
    """
    head = _IPV4.pack(0x45, 0, size, 0, 0x4000, 64, _PROTOCOL, 0, _FROM, _TO)
    total = sum(int.from_bytes(head[at : at + 2]) for at in range(0, len(head), 2))
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + (~total & 0xFFFF).to_bytes(2) + head[12:]
    source = PROBE_SOURCE | int.from_bytes(token[:FLOW])
    ethernet = _ETHERNET.pack(PROBE_ADDRESS.to_bytes(6), source.to_bytes(6), 0x0800)
    return ethernet + head + token + bytes(size - len(head) - len(token))


def token_of(frame: bytes) -> bytes:
    """The token in the first bytes of a probe's frame; nonsense in others."""
    start = _PAYLOAD + (_TAG if has_tag(frame) else 0)
    return frame[start : start + _TOKEN]


def has_tag(frame: bytes) -> bool:
    """Whether a probe came up with its inner tag, which its switch cannot have seen."""
    return frame[12:14] == _SERVICE


@dataclass(frozen=True, slots=True)
class Probe:
    """A frame to send over a link. ``kind``: the encapsulation to give it; None: it is a witness."""

    edge: Edge
    kind: Encapsulation | None
    frame: bytes


@dataclass(slots=True, eq=False)
class _Round:
    """Probes and witnesses under way. ``sizes`` and ``seen``: MTUs; ``heard``: when the last witness
    arrived."""

    sent: float
    sizes: tuple[int, ...]
    seen: set[int] = field(default_factory=set)
    witnesses: set[bytes] = field(default_factory=set)
    heard: float | None = None


@dataclass(slots=True, eq=False)
class _Way:
    """One direction of a link with one encapsulation."""

    edge: Edge
    kind: Encapsulation
    #: whether it passes; None if that is not known. ``trusted``: an earlier run of the controller has used it
    passes: bool | None = None
    trusted: bool = False
    #: when the next round begins, and rounds in a row that contradict ``passes``
    due: float = inf
    streak: int = 0
    round: _Round | None = None
    #: the largest MTU that passed (0: none), and the least that did not
    most: int = 0
    least_lost: int = 0
    failures: int = 0
    failed_at: float = 0.0
    #: whether the far end sees the outer tag only
    blind: bool = False
    #: whether it is one of a static link
    static: bool = False
    #: the port elsewhere where a probe came up
    elsewhere: LinkEnd | None = None
    #: when the last probe arrived
    arrived_at: float = -inf

    @property
    def heard(self) -> bool:
        """Whether probes of any size pass, as far as is known."""
        return bool(self.passes or self.most or (self.trusted and self.passes is None))

    @property
    def searching(self) -> bool:
        """Whether the largest MTU that passes is not yet known exactly."""
        return bool(self.most) and self.least_lost - self.most > 1


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a link does not pass the frames of an encapsulation.

    ``most``: the largest MTU that passes, 0 if none does or it is not known yet; ``large``: whether only
    large frames are lost; ``blind``: whether the far end does not see the inner of two VLAN tags;
    ``elsewhere``: another port where a probe came up.
    """

    edge: Edge
    kind: Encapsulation
    most: int
    large: bool
    blind: bool
    elsewhere: LinkEnd | None = None


class LinkProbes:
    """Makes probes, and holds what they have shown. Times are in seconds of any steady clock.

    An *MTU* is the number of bytes behind the outer Ethernet header of a frame, labels included.
    """

    def __init__(self, secret: bytes, mtu: int, interval: float) -> None:
        """``mtu``: what links have to pass. ``interval``: seconds between LLDP frames."""
        self._tokens = Tokens(secret, b"link probe")
        self.mtu = mtu
        self.interval = interval
        self._ways: dict[tuple[Edge, Encapsulation], _Way] = {}
        # By token, oldest first: the round (None: it is over), the way, the MTU (0: a witness), when sent.
        self._sent: dict[bytes, tuple[_Round, _Way, int, float]] = {}
        # By token, oldest first, of probes that have arrived lately: the way, and when.
        self._taken: dict[bytes, tuple[_Way, float]] = {}
        self._trusted: set[Edge] = set()
        #: the encapsulations that links are probed with
        self.kinds: frozenset[Encapsulation] = frozenset()

    # ---- which links ---------------------------------------------------------------------------

    def trust(self, edges: Iterable[Edge]) -> None:
        """Links that an earlier run of the controller has used: they count as passing until they fail."""
        self._trusted.update(replace(edge, cost=0.0) for edge in edges)

    def update(
        self, edges: Iterable[Edge], kinds: Collection[Encapsulation], static: Collection[LinkEnd] = ()
    ) -> None:
        """The links that there are now, and the encapsulations to probe them with. ``static``: the sending
        ends of static ones."""
        self.kinds = frozenset(kinds)
        links = {replace(edge, cost=0.0) for edge in edges}
        wanted = {(edge, kind) for edge in links for kind in kinds}
        for key in self._ways.keys() - wanted:
            del self._ways[key]
        for edge, kind in wanted - self._ways.keys():
            self._ways[edge, kind] = _Way(edge, kind, trusted=edge in self._trusted)
        for way in self._ways.values():
            way.static = _source(way.edge) in static
        self._trusted &= links

    def ready(self) -> None:
        """The switches hold the rules that take probes of all these links: new ones can be probed."""
        for way in self._ways.values():
            if way.due == inf:
                way.due = 0.0

    def restart(self, dpid: int, port: int) -> None:
        """Probe the links of a port now, as it has changed."""
        for way in self._ways.values():
            if (dpid, port) in _ends(way.edge) and way.due != inf:
                way.round, way.due, way.failures, way.least_lost = None, 0.0, 0, 0

    def suspect(self, edges: Iterable[Edge], kind: Encapsulation) -> None:
        """Probe these links in an encapsulation now, as a frame was lost on one of them."""
        for edge in edges:
            way = self._ways.get((replace(edge, cost=0.0), kind))
            if way is not None and way.due != inf:
                way.due = 0.0

    # ---- rounds --------------------------------------------------------------------------------

    def begin(
        self, now: float, usable: Callable[[Edge], bool], overhead: Callable[[Encapsulation], int]
    ) -> list[Probe]:
        """The frames of rounds that are due, to be sent in this order.

        ``usable(edge)``: whether both ends can be reached by the controller. ``overhead(kind)``: bytes that
        the encapsulation adds to an IP packet, behind the outer Ethernet header.
        """
        for token in [t for t, (*_, sent) in self._sent.items() if now - sent > MEMORY]:
            del self._sent[token]
        while self._taken and now - next(iter(self._taken.values()))[1] > ROUND_TIMEOUT:
            del self._taken[next(iter(self._taken))]
        due = [w for w in self._ways.values() if w.round is None and w.due <= now and usable(w.edge)]
        due.sort(key=lambda way: (way.passes is not None, way.due))
        return [probe for way in due[:ROUNDS_AT_ONCE] for probe in self._begin(way, now, overhead(way.kind))]

    def _begin(self, way: _Way, now: float, overhead: int) -> Iterator[Probe]:
        copies = COPIES if way.streak or way.passes is False else 1
        small = SMALL + overhead
        one = way.round = _Round(now, tuple(sorted({small, self.mtu, *_ladder(way, small, self.mtu)})))
        for _ in range(copies):
            for mtu in one.sizes:
                token = self._tokens.next()
                self._sent[token] = one, way, mtu, now
                yield Probe(way.edge, way.kind, probe_frame(token, mtu - overhead))
        for _ in range(0 if way.static else copies):
            token = self._tokens.next()
            self._sent[token] = one, way, 0, now
            one.witnesses.add(token)
            frame = lldp(way.edge.source, way.edge.source_port, 0, 1, _SUBTYPE, token)
            yield Probe(way.edge, None, frame)

    def witnessed(self, dpid: int, port: int, frame: bytes, now: float) -> bool:
        """Process an LLDP frame received at a port. Returns whether it is a witness. Raises Forged if it is
        one that was not sent over this link or has been received before."""
        token = organisation_value(frame, _SUBTYPE)
        if token is None:
            return False
        found = self._sent.pop(token, None)
        if found is None or found[2]:
            raise Forged("it is a witness of a probe that is not in flight: a copy, or late")
        one, way, _, _ = found
        if _far_end(way.edge) != (dpid, port):
            raise Forged("it is a witness of a probe of another link")
        one.witnesses.discard(token)
        if not one.witnesses:
            one.heard = now
        return True

    def arrived(self, dpid: int, port: int, frame: bytes, now: float) -> bool:
        """Process the first bytes of a probe received at a port. Returns whether that changes which links
        are fit."""
        token = token_of(frame)
        if (taken := self._taken.get(token)) is not None:
            return self._strayed(taken[0], (dpid, port), now)
        one, way, mtu, _ = self._sent.get(token, (None, None, 0, 0.0))
        if one is None or way is None or not mtu:
            return False
        if _far_end(way.edge) != (dpid, port):
            return self._strayed(way, (dpid, port), now)
        del self._sent[token]
        self._taken[token] = way, now
        way.arrived_at = now
        way.blind = has_tag(frame)
        if way.blind:
            return False
        one.seen.add(mtu)
        return way.round is one and len(one.seen) == len(one.sizes) and self._end(way, one, now)

    def _strayed(self, way: _Way, where: LinkEnd, now: float) -> bool:
        """A probe came up at a port that may not be the far end of its link. Returns whether that changes
        which links are fit: an end of another link shares its segment."""
        if where in _ends(way.edge) or all(where != _far_end(one.edge) for one in self._ways.values()):
            return False
        before = way.passes
        way.elsewhere, way.round = where, None
        way.streak, way.due = 0, now + self.interval
        if way.passes is not False:
            way.passes = False
            way.failures += 1
        way.failed_at = now
        return way.passes is not before

    def poll(self, now: float, answered: Callable[[Edge, float], bool] = lambda _edge, _since: True) -> bool:
        """End rounds that have lost probes or got no answer. Returns whether that changes which links are
        fit. ``answered(edge, since)``: whether both switches of a link have answered since then."""
        changed = False
        for way in self._ways.values():
            one = way.round
            if one is None:
                continue
            if way.static:
                if now - one.sent >= STATIC_TIMEOUT and answered(way.edge, one.sent):
                    changed |= self._end(way, one, now)
            elif one.heard is not None and now - one.heard >= GRACE:
                changed |= self._end(way, one, now)
            elif one.heard is None and now - one.sent >= ROUND_TIMEOUT:
                way.round, way.due = None, now + self.interval
        return changed

    # ---- verdicts ------------------------------------------------------------------------------

    def _end(self, way: _Way, one: _Round, now: float) -> bool:
        way.round = None
        lost = set(one.sizes) - one.seen
        before = way.passes
        if not lost & {one.sizes[0], self.mtu}:
            self._passed(way, now)
        else:
            way.most = max(one.seen, default=0)
            way.least_lost = min((mtu for mtu in lost if mtu > way.most), default=self.mtu)
            self._lost(way, now)
        return way.passes is not before

    def _passed(self, way: _Way, now: float) -> None:
        way.due = now + self.interval * (1.0 if way.static else PERIOD)
        if way.passes is not False:
            way.passes, way.streak = True, 0
            way.most, way.least_lost = self.mtu, 0
            if way.failures and now - way.failed_at > FORGIVEN:
                way.failures = 0
            return
        way.streak += 1
        way.due = now + self.interval
        if way.streak >= min(PASSED_LIMIT, PASSED_ROUNDS << max(0, way.failures - 1)):
            way.passes, way.streak, way.elsewhere = True, 0, None
            way.most, way.least_lost = self.mtu, 0

    def _lost(self, way: _Way, now: float) -> None:
        if way.passes is False:
            way.streak = 0
            way.due = now if way.searching else now + self.interval
            return
        way.streak += 1
        way.due = now
        if way.streak >= (LOST_ROUNDS if way.passes or way.trusted else FIRST_LOST_ROUNDS):
            way.passes, way.streak = False, 0
            way.failures += 1
            way.failed_at = now

    def unfit(self) -> dict[Encapsulation, Unfit]:
        """The links that frames of each encapsulation cannot or should not take."""
        found, dead = {}, {_source(edge) for edge in self.dead()}
        for kind in {way.kind for way in self._ways.values()}:
            ways = [way for way in self._ways.values() if way.kind is kind]
            failed = frozenset(s for w in ways if (s := _source(w.edge)) in dead or w.passes is False)
            unproven = frozenset(
                s for w in ways if w.passes is None and not w.trusted and (s := _source(w.edge)) not in dead
            )
            # If nothing is proven, nothing is preferred.
            proven = len(failed) + len(unproven) < len(ways)
            found[kind] = Unfit(failed, unproven if proven else frozenset())
        return found

    def dead(self) -> set[Edge]:
        """The directions of static links that are not known to pass any probe, or whose other direction is
        not."""
        static = [way for way in self._ways.values() if way.static]
        alive = {way.edge for way in static if way.heard}
        return {way.edge for way in static if not {way.edge, _reverse(way.edge)} <= alive}

    def passed_at(self) -> dict[LinkEnd, float]:
        """When a probe last passed each direction of the static links, by its sending end."""
        found: dict[LinkEnd, float] = {}
        for way in self._ways.values():
            if way.static:
                end = _source(way.edge)
                found[end] = max(found.get(end, -inf), way.arrived_at)
        return found

    def doubtful(self) -> set[Edge]:
        """The links, without their costs, that fail or are unproven in any encapsulation."""
        return {w.edge for w in self._ways.values() if not w.passes and (w.passes is False or not w.trusted)}

    def state(self, edge: Edge, kind: Encapsulation) -> tuple[bool | None, int]:
        """Whether a link passes frames of an encapsulation (None: not known), and the largest MTU that was
        seen to pass; 0 if none was."""
        way = self._ways.get((replace(edge, cost=0.0), kind))
        return (None, 0) if way is None else (way.passes, way.most)

    def passing(self, kind: Encapsulation) -> Iterator[Edge]:
        """The links, without their costs, that were seen to pass frames of an encapsulation."""
        return (way.edge for way in self._ways.values() if way.passes and way.kind is kind)

    def passed(self, edge: Edge) -> tuple[int, tuple[Encapsulation, ...]]:
        """The largest MTU that a link was seen to pass in any encapsulation, 0 if none was, and the
        encapsulations whose frames pass."""
        bare = replace(edge, cost=0.0)
        ways = [way for kind in Encapsulation if (way := self._ways.get((bare, kind))) is not None]
        return max((way.most for way in ways), default=0), tuple(way.kind for way in ways if way.passes)

    def failed(self) -> list[Failure]:
        """What fails, sorted."""
        ways = (way for way in self._ways.values() if way.passes is False)
        return [
            Failure(
                way.edge,
                way.kind,
                0 if way.searching else way.most,
                bool(way.most) and way.elsewhere is None,
                way.blind,
                way.elsewhere,
            )
            for way in sorted(ways, key=lambda way: (way.edge, way.kind))
        ]


def _ladder(way: _Way, small: int, whole: int) -> Iterable[int]:
    """MTUs to try, to find the largest that passes."""
    if way.passes is not False or not way.most:
        return ()
    low, high = max(way.most, small), min(way.least_lost or whole, whole)
    return range(low, high, max(1, -((low - high) // (LADDER + 1))))


def _ends(edge: Edge) -> tuple[LinkEnd, LinkEnd]:
    return _source(edge), _far_end(edge)


def _source(edge: Edge) -> LinkEnd:
    return edge.source, edge.source_port


def _far_end(edge: Edge) -> LinkEnd:
    return edge.destination, edge.destination_port


def _reverse(edge: Edge) -> Edge:
    return replace(
        edge,
        source=edge.destination,
        source_port=edge.destination_port,
        destination=edge.source,
        destination_port=edge.source_port,
    )
