"""The paper's first approach: rules are made when a packet asks for them.

For networks with on-demand insertion. The first frame of a (source, destination) pair comes up from the
edge; the rules of its way are confirmed by every switch behind the first before the first gets its own, and
only then is the frame released: no frame outruns its rules. Rules behind the first switch live longer than
the first's, so that the first always expires first and asks again. Frames for everybody, and for hosts that
nobody knows yet, are sent straight out at the network's endpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane.entries import Flow, Key, deleting
from libnetvirt.controller.intent.locator import Host, Locator
from libnetvirt.controller.intent.rulesdb import Bound, Entry
from libnetvirt.controller.ondemand.flow_templates import SOURCE, Exit, Hop, Origin, Track, headed, sendings
from libnetvirt.controller.rules.encapsulation import Actions
from libnetvirt.controller.rules.instructions import apply
from libnetvirt.controller.rules.transport import Ways
from libnetvirt.controller.topology.pathfinder import Edge, PathFinder

#: frames that wait for one path's rules
QUEUE_LIMIT: Final = 64
#: pairs of switches of a network for which a path is kept ready
TRACK_LIMIT = 10_000
#: copies of a flooded frame that cost as much as a message
COPIES = 16
#: pairs that one endpoint may have rules for; more are served without
ROUTE_LIMIT: Final = 16_384

Place = tuple[str, str]  # network, endpoint


class Wire(Protocol):
    """How messages get to switches."""

    def send(self, dpid: int, message: of.Message) -> None:
        """Send a message; lost if the switch is away."""

    def post(self, dpid: int, *parts: bytes) -> None:
        """The same for messages made ready, in parts, that nobody asks about: their xid is 0."""

    def track(self, dpid: int, done: Callable[[bool], None], header: bytes, *parts: bytes) -> None:
        """Send one message made ready, and `confirm` it. The xid in its header is filled in."""

    def confirm(self, dpid: int, done: Callable[[bool], None]) -> None:
        """Call ``done`` when the switch has done all it was sent so far; with False if it did not."""

    def linger(self, action: Callable[[], None]) -> None:
        """Call ``action`` when old paths have outlived their replacement long enough."""


class Route:
    """The rules of one (source, destination) pair. ``macs``: destination and source, as in a frame."""

    __slots__ = ("exit", "macs", "origin", "pending", "source", "target", "track")

    def __init__(
        self, macs: bytes, source: Host | None, target: Host | None,
        origin: Origin, exit: Exit, track: Track | None,
    ) -> None:  # fmt: skip
        self.macs = macs
        self.source = source
        self.target = target
        self.origin = origin
        self.exit = exit
        self.track = track
        #: the frames that wait for the switches behind the first; None: the rules are there, or gone
        self.pending: list[bytes] | None = None

    @property
    def place(self) -> Place:
        """Where it begins."""
        return self.origin.place

    @property
    def addresses(self) -> tuple[int, int]:
        """Source and destination."""
        return int.from_bytes(self.macs[6:]), int.from_bytes(self.macs[:6])

    @property
    def first(self) -> tuple[int, Flow]:
        """The first switch and its rule."""
        return self.origin.dpid, self.origin.entrance.flow(*self.addresses, self.leave)

    @property
    def leave(self) -> Actions:
        """What the first rule does."""
        if self.track is not None:
            return self.track.actions
        return self.exit.back if self.origin.port == self.exit.port else self.exit.actions

    @property
    def further(self) -> list[tuple[int, Flow]] | None:
        """The other switches and their rules, the last hop first; None if they are not known."""
        return [(hop.dpid, self._behind(hop)) for hop in (self.track.hops if self.track else ())]

    def on(self, dpid: int) -> Iterator[Flow]:
        """The rules that a switch has of it, as far as they are known."""
        if self.origin.dpid == dpid:
            yield self.first[1]
        for hop in self.track.hops if self.track else ():
            if hop.dpid == dpid:
                yield self._behind(hop)

    def _behind(self, hop: Hop) -> Flow:
        """The rule of a switch behind the first."""
        return hop.entrance.flow(*self.addresses, hop.actions or self.exit.actions)

    def leads_to(self, endpoints: Iterable[str]) -> bool:
        """Whether it may end at one of these endpoints."""
        return self.exit.endpoint in endpoints


class Adopted(Route):
    """What another run of the controller made: only the first rule is known, until `takeover` knows all."""

    __slots__ = ("_first", "_place")

    def __init__(
        self, place: Place, macs: bytes, source: Host | None, target: Host | None, first: tuple[int, Flow]
    ) -> None:
        self.macs, self.source, self.target = macs, source, target
        self.track = self.pending = None
        self._place = place
        self._first = first

    @property
    def place(self) -> Place:
        """Where it begins."""
        return self._place

    @property
    def first(self) -> tuple[int, Flow]:
        """The first switch and its rule."""
        return self._first

    def leads_like(self, route: Route) -> bool:
        """Whether the first rule does what this route's does."""
        return self._first[1].instructions == (apply(*route.leave),)

    @property
    def further(self) -> None:
        """Not known."""

    def on(self, dpid: int) -> Iterator[Flow]:
        """The first rule, if it is there."""
        where, flow = self._first
        if where == dpid:
            yield flow

    def leads_to(self, endpoints: Iterable[str]) -> bool:  # noqa: ARG002
        """It may end anywhere."""
        return True


@dataclass(slots=True)
class Ready:
    """What is kept ready for a network's frames."""

    exits: dict[str, Exit] = field(default_factory=dict)  # by endpoint
    tracks: dict[tuple[int, int], Track] = field(default_factory=dict)  # by first and last switch


@dataclass(slots=True)
class Sender:
    """What is kept ready for frames that enter at an endpoint; kept in its `Bound`."""

    epoch: int
    endpoint: str
    origin: Origin
    network: Ready
    hosts: Mapping[int, Host]
    routes: dict[bytes, Route]
    #: to send straight out at all other endpoints: per switch, a packet-out up to its frame, less its header
    floods: list[tuple[int, bytes]] | None = None


class Reactive:
    """Makes and removes the rules of pairs of hosts."""

    def __init__(self, wire: Wire, locator: Locator, paths: PathFinder, ways: Ways) -> None:
        self._wire = wire
        self._locator = locator
        self._paths = paths
        self._ways = ways
        self._routes: dict[Place, dict[bytes, Route]] = {}
        self._ready: dict[str, Ready] = {}
        self._epoch = 0

    def __iter__(self) -> Iterator[Route]:
        """All routes."""
        return (route for own in list(self._routes.values()) for route in list(own.values()))

    def packet(self, bound: Bound, frame: bytes, source: Host | None) -> int:
        """Forward a frame that came in at an endpoint and that no rule took.

        ``source``: the host that sent it; None if its frames are served but get no rules: one of too many,
        or of a network whose rules are there beforehand.
        Returns what that cost beyond what one frame to one host does.
        """
        sender = self._sender(bound)
        macs = frame[:12]
        target = None if macs[0] & 1 else sender.hosts.get(int.from_bytes(macs[:6]))
        if target is None:
            return self._flood(bound, sender, frame)
        if target.endpoint == sender.endpoint:
            return 0
        route = sender.routes.get(macs)
        if route is not None and route.pending is not None:
            if len(route.pending) < QUEUE_LIMIT:
                route.pending.append(frame)
            return 0
        exit = sender.network.exits.get(target.endpoint) or self._exit(sender, bound.network, target.endpoint)
        if exit is None:
            return 0
        origin, track = sender.origin, None
        if exit.dpid != origin.dpid:
            track = self._track(sender, bound.network, exit.dpid)
            if track is None:
                return 0
        if route is not None or source is None or len(sender.routes) >= ROUTE_LIMIT:
            # Served without rules, or before them on its way up.
            self._wire.post(exit.dpid, exit.release(len(frame)), frame)
            if isinstance(route, Adopted):
                # Of an earlier run, and the switch does not have it any more.
                self.drop(route)
            return 0
        route = sender.routes[macs] = Route(macs, source, target, origin, exit, track)
        source.routes[route] = target.routes[route] = None
        if track is not None:
            self._make_further(route, track, frame)
            return 0
        half = exit.end if exit.port != origin.port else exit.back_end
        self._wire.post(
            origin.dpid, half.header, origin.head, macs[:6], SOURCE, macs[6:], half.tail,
            exit.release(len(frame)), frame,
        )  # fmt: skip
        return 0

    def changed(self) -> None:
        """Endpoints or paths have changed: what was made ready for them is made anew."""
        self._epoch += 1
        self._ready.clear()
        self._routes = {place: own for place, own in self._routes.items() if own}

    def drop(self, route: Route) -> None:
        """Remove a pair's rules: the first switch's, and when that is confirmed the others."""
        self._take_out(route)
        first, flow = route.first
        self._wire.send(first, deleting(flow))
        further = route.further
        if not further:
            return

        def gone() -> None:
            kept = self.held(route.place[0], route.macs)
            for dpid, flow in further:
                if (dpid, flow.key) not in kept:
                    self._wire.send(dpid, deleting(flow))

        self._wire.confirm(first, lambda _: self._wire.linger(gone))

    def held(self, network: str, macs: bytes) -> set[tuple[int, Key]]:
        """The switches and keys of the rules that a pair has now, as far as they are known."""
        host = self._locator.find(network, int.from_bytes(macs[6:]))
        now = self._routes.get((network, host.endpoint), {}).get(macs) if host is not None else None
        rules = (now.first, *(now.further or ())) if now is not None else ()
        return {(dpid, flow.key) for dpid, flow in rules}

    def drop_where(self, unwanted: Callable[[Route], bool]) -> list[Route]:
        """Remove the rules of all pairs for which ``unwanted`` is true."""
        dropped = [route for route in self if unwanted(route)]
        for route in dropped:
            self.drop(route)
        return dropped

    def drop_host(self, host: Host) -> None:
        """Remove the rules from and to a host."""
        for route in list(host.routes):
            if isinstance(route, Route):
                self.drop(route)

    def drop_endpoints(self, network: str, endpoints: Iterable[str]) -> None:
        """Remove the rules from and to endpoints, and those that may lead there."""
        self.changed()
        names = set(endpoints)
        if names:
            self.drop_where(lambda r: r.place[0] == network and (r.place[1] in names or r.leads_to(names)))

    def forget(self, network: str) -> None:
        """The network is gone, and its rules with it."""
        self.changed()
        for place in [place for place in self._routes if place[0] == network]:
            for route in list(self._routes[place].values()):
                self._take_out(route)

    def reroute(self, *, only_costs: bool) -> list[Route]:
        """The topology has changed: remove the rules that no longer follow the best path.

        ``only_costs``: no link came or went. Then rules of another run, whose way is not known yet, stay: a
        switch that loses its connection again before all have come would take them along otherwise, while
        nobody knows where their destinations are.
        """
        self.changed()
        best: dict[tuple[Edge, ...], bool] = {}

        def stale(route: Route) -> bool:
            if route.track is None:
                return isinstance(route, Adopted) and not only_costs
            edges = route.track.edges
            if not edges:
                return False
            kept = best.get(edges)
            if kept is None:
                path = self._paths.path(edges[0].source, edges[-1].destination)
                kept = best[edges] = path == list(edges)
            return not kept

        return self.drop_where(stale)

    def expired(self, dpid: int, bound: Bound, flow: of.Match) -> None:
        """The first rule of a pair has gone: remove the others."""
        route = self._routes.get((bound.network.uuid, bound.endpoint.uuid), {}).get(macs_of(flow))
        if route is not None and route.first[0] == dpid and route.pending is None:
            self.drop(route)

    def adopt(self, dpid: int, bound: Bound, flow: Flow) -> None:
        """Take over a first rule that another run of the controller made, unless it leads elsewhere than it
        would now."""
        place, macs = (bound.network.uuid, bound.endpoint.uuid), macs_of(flow.match)
        own = self._routes.setdefault(place, {})
        if macs not in own:
            source, target = (
                self._locator.find(place[0], flow.match.value(a)) for a in ("eth_src", "eth_dst")
            )
            route = Adopted(place, macs, source, target, (dpid, flow))
            if target is not None:
                now = self.as_now(bound.network, route, target.endpoint)
                if now is None or not route.leads_like(now):
                    return
            own[macs] = route
            for host in (source, target):
                if host is not None:
                    host.routes[route] = None

    def adopted(self, entry: Entry) -> list[Adopted]:
        """The pairs of a network that were taken over, and of which not all is known yet."""
        places = (self._routes.get((entry.uuid, name), {}) for name in entry.endpoints)
        return [route for own in places for route in own.values() if isinstance(route, Adopted)]

    def as_now(self, entry: Entry, adopted: Adopted, end: str) -> Route | None:
        """What this run would make for a pair that ends at an endpoint; None if there is no way."""
        bound = entry.endpoints.get(adopted.place[1])
        if bound is None or bound.port is None or end == bound.endpoint.uuid:
            return None
        sender = self._sender(bound)
        exit, track = self._exit(sender, entry, end), None
        if exit is not None and exit.dpid != bound.dpid:
            track = self._track(sender, entry, exit.dpid)
            exit = exit if track is not None else None
        return Route(adopted.macs, adopted.source, None, sender.origin, exit, track) if exit else None

    def replace(self, adopted: Adopted, route: Route) -> None:
        """All of a pair that was taken over is known now."""
        self._take_out(adopted)
        self._routes.setdefault(route.place, {})[route.macs] = route
        for host in (route.source, route.target):
            if host is not None:
                host.routes[route] = None

    def expected(self, dpid: int) -> Iterator[tuple[Route, Flow]]:
        """The rules that a switch should hold."""
        for route in self:
            if route.pending is None:
                for flow in route.on(dpid):
                    yield route, flow

    def lose_switch(self, dpid: int) -> None:
        """A switch's connection is lost: what waits for its confirmation is given up."""
        self.drop_where(
            lambda route: (
                route.pending is not None
                and route.track is not None
                and any(hop.entrance.dpid == dpid for hop in route.track.hops)
            )
        )

    def _sender(self, bound: Bound) -> Sender:
        sender = bound.ready
        if not isinstance(sender, Sender) or sender.epoch != self._epoch:
            origin = Origin(bound)
            network, endpoint = origin.place
            ready = self._ready.setdefault(network, Ready())
            routes = self._routes.setdefault(origin.place, {})
            hosts = self._locator.known(network)
            sender = bound.ready = Sender(self._epoch, endpoint, origin, ready, hosts, routes)
        return sender

    def _exit(self, sender: Sender, entry: Entry, end: str) -> Exit | None:
        exit = sender.network.exits.get(end)
        if exit is None:
            there = entry.endpoints.get(end)
            if there is None or there.port is None:
                return None
            exit = sender.network.exits[end] = Exit(there)
        return exit

    def _track(self, sender: Sender, entry: Entry, destination: int) -> Track | None:
        tracks, ends = sender.network.tracks, (sender.origin.dpid, destination)
        track = tracks.get(ends)
        if track is None:
            way = self._ways.find(entry, *ends)
            if way is None:
                return None
            if len(tracks) >= TRACK_LIMIT:
                tracks.clear()
            track = tracks[ends] = Track(entry, way)
        return track

    def _make_further(self, route: Route, track: Track, frame: bytes) -> None:
        """Make the rules behind the first switch, and the first's when they are confirmed."""
        macs, exit, wire = route.macs, route.exit, self._wire
        destination, source = macs[:6], macs[6:]
        route.pending = [frame]
        missing = len(track.hops)

        def confirmed(ok: bool) -> None:
            nonlocal missing
            missing -= 1
            frames = route.pending
            if frames is None or (ok and missing):
                return
            route.pending = None
            if ok:
                origin, end = route.origin, track.end
                wire.post(origin.dpid, end.header, origin.head, destination, SOURCE, source, end.tail)
            else:
                # A switch that takes no more rules does not stop the frames.
                self.drop(route)
            for waiting in frames:
                wire.post(exit.dpid, exit.release(len(waiting)), waiting)

        for hop in track.hops:
            end = hop.end or exit.far_end
            wire.track(hop.dpid, confirmed, end.header, hop.head, destination, SOURCE, source, end.tail)

    def _take_out(self, route: Route) -> None:
        route.pending = None
        own = self._routes.get(route.place)
        if own is not None and own.get(route.macs) is route:
            del own[route.macs]
        for host in (route.source, route.target):
            if host is not None:
                host.routes.pop(route, None)

    def _flood(self, bound: Bound, sender: Sender, frame: bytes) -> int:
        """Send a frame straight out at all other endpoints, with one message per switch.

        Returns what that costs beyond one frame to one host: the messages, and a part for each copy.
        """
        floods = sender.floods
        if floods is None:
            others = (b for b in bound.network.endpoints.values() if b is not bound)
            floods = sender.floods = sendings(others)
        for dpid, rest in floods:
            self._wire.post(dpid, headed(of.MsgType.PACKET_OUT, rest, len(frame)), frame)
        return len(floods) + len(bound.network.endpoints) // COPIES


def macs_of(match: of.Match) -> bytes:
    """Destination and source, as in a frame."""
    return match.value("eth_dst").to_bytes(6) + match.value("eth_src").to_bytes(6)
