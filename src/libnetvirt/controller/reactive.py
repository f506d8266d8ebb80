"""The paper's first approach: rules are made when a packet asks for them.

For networks with on-demand insertion. The first frame of a (source, destination)
pair comes up from the edge; its path's rules are confirmed by every switch behind the first before the
first gets its own, and only then is the frame released: no frame outruns its rules. Rules behind the
first switch live longer than the first's, so that the first always expires first and asks again. Frames for
everybody, and for hosts that nobody knows yet, are sent straight out at the network's endpoints.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from libnetvirt import openflow as of
from libnetvirt.controller.entries import Flow, deleting
from libnetvirt.controller.lanes import Lane, Sending, Stamped, sendings
from libnetvirt.controller.locator import Host, Locator
from libnetvirt.controller.pathfinder import PathFinder
from libnetvirt.controller.rulesdb import Bound
from libnetvirt.controller.ways import Ways

#: frames that wait for one path's rules
QUEUE_LIMIT = 64
#: pairs of endpoints for which messages are kept ready
LANE_LIMIT = 10_000
#: pairs that one endpoint may have rules for; more are served without
ROUTE_LIMIT = 16_384

Key = tuple[str, str, int, int]  # network, source endpoint, source MAC, destination MAC


class Sendable(Protocol):
    """A message, or what becomes one when it is sent."""

    xid: int

    def encode(self) -> bytes:
        """The whole message."""


class Wire(Protocol):
    """How messages get to switches."""

    def send(self, dpid: int, message: Sendable) -> None:
        """Send a message; lost if the switch is away."""

    def confirm(self, dpid: int, done: Callable[[bool], None]) -> None:
        """Call ``done`` when the switch has done all it was sent so far; with False if it did not."""

    def linger(self, action: Callable[[], None]) -> None:
        """Call ``action`` when old paths have outlived their replacement long enough."""


class Route:
    """The rules of one (source, destination) pair. Without ``lane``, another run of the controller made
    them, and only the first is known."""

    __slots__ = ("failed", "hosts", "key", "known", "lane", "missing", "waiting")

    def __init__(self, key: Key, lane: Lane | None, hosts: tuple[Host, ...]) -> None:
        self.key = key
        self.lane = lane
        self.known: tuple[int, Flow] | None = None
        self.hosts = hosts
        self.missing = 0
        self.failed = False
        self.waiting: list[bytes] | None = None

    @property
    def first(self) -> tuple[int, Flow]:
        """The first switch and its rule."""
        if self.lane is None:
            assert self.known is not None
            return self.known
        return self.lane.flows(*self.key[2:])[0]

    @property
    def further(self) -> list[tuple[int, Flow]] | None:
        """The other switches and their rules; None if they are not known."""
        return None if self.lane is None else self.lane.flows(*self.key[2:])[1:]


class Reactive:
    """Makes and removes the rules of pairs of hosts."""

    def __init__(self, wire: Wire, locator: Locator, paths: PathFinder, ways: Ways) -> None:
        self._wire = wire
        self._locator = locator
        self._paths = paths
        self._ways = ways
        self.routes: dict[Key, Route] = {}
        self._lanes: dict[tuple[str, str, str], Lane] = {}
        self._floods: dict[tuple[str, str], list[tuple[int, bytes]]] = {}
        self._counts: Counter[tuple[str, str]] = Counter()

    def packet(self, bound: Bound, frame: bytes, source: Host | None) -> int:
        """Forward a frame that came in at an endpoint and that no rule took.

        ``source``: the host that sent it; None if its frames are served but get no rules: one of too many, or
        of a network whose rules are there beforehand.
        Returns how many messages that took beyond what one frame to one host takes.
        """
        if len(frame) < 14:
            return 0
        entry = bound.network
        mac = int.from_bytes(frame[:6])
        target = None if mac >> 40 & 1 else self._locator.find(entry.uuid, mac)
        if target is None:
            return self._flood(bound, frame)
        name = bound.endpoint.uuid
        if target.endpoint == name:
            return 0
        lane = self._lanes.get((entry.uuid, name, target.endpoint)) or self._lane(bound, target.endpoint)
        if lane is None:
            return 0
        if source is None:
            self._release(lane, frame)
            return 0
        key = (entry.uuid, name, source.mac, mac)
        route = self.routes.get(key)
        if route is None:
            self._make(key, lane, source, target, frame)
        elif route.missing:
            if route.waiting is not None and len(route.waiting) < QUEUE_LIMIT:
                route.waiting.append(frame)
        else:
            # The rules are there; the frame was on its way up before them.
            self._release(lane, frame)
            if route.lane is None:
                # Of an earlier run, and the switch does not have it any more.
                self.drop(route)
        return 0

    def changed(self) -> None:
        """Endpoints or paths have changed: what was made ready for them is made anew."""
        self._lanes.clear()
        self._floods.clear()

    def drop(self, route: Route) -> None:
        """Remove a pair's rules: the first switch's, and when that is confirmed the others."""
        self._take_out(route)
        first, flow = route.first
        self._wire.send(first, deleting(flow))
        further = route.further
        if not further:
            return

        def gone() -> None:
            kept = self._in_use(route.key)
            for dpid, flow in reversed(further):
                if (dpid, flow.key) not in kept:
                    self._wire.send(dpid, deleting(flow))

        self._wire.confirm(first, lambda _: self._wire.linger(gone))

    def _in_use(self, key: Key) -> set[tuple[int, object]]:
        """The rules behind the first switch of the route that a pair has now, if any."""
        network, _, source, mac = key
        host = self._locator.find(network, source)
        route = self.routes.get((network, host.endpoint, source, mac)) if host is not None else None
        return {(dpid, flow.key) for dpid, flow in (route.further or ())} if route is not None else set()

    def drop_where(self, unwanted: Callable[[Route], bool]) -> list[Route]:
        """Remove the rules of all pairs for which ``unwanted`` is true."""
        dropped = [route for route in self.routes.values() if unwanted(route)]
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
            self.drop_where(
                lambda r: (
                    r.key[0] == network
                    and (r.lane is None or r.key[1] in names or r.lane.destination in names)
                )
            )

    def forget(self, network: str) -> None:
        """The network is gone, and its rules with it."""
        self.changed()
        for route in [route for key, route in self.routes.items() if key[0] == network]:
            self._take_out(route)

    def reroute(self) -> list[Route]:
        """The topology has changed: remove the rules that no longer follow the best path."""
        self.changed()
        return self.drop_where(self._stale)

    def expired(self, dpid: int, bound: Bound, flow: of.Match) -> None:
        """The first rule of a pair has gone: remove the others."""
        key = (bound.network.uuid, bound.endpoint.uuid, flow.value("eth_src"), flow.value("eth_dst"))
        route = self.routes.get(key)
        if route is not None and route.first[0] == dpid and not route.missing:
            self.drop(route)

    def adopt(self, dpid: int, bound: Bound, flow: Flow) -> None:
        """Take over a first rule that another run of the controller made."""
        source, mac = flow.match.value("eth_src"), flow.match.value("eth_dst")
        key = (bound.network.uuid, bound.endpoint.uuid, source, mac)
        if key not in self.routes:
            found = (self._locator.find(key[0], address) for address in (source, mac))
            route = Route(key, None, tuple(host for host in found if host is not None))
            route.known = (dpid, flow)
            self._put_in(route)

    def expected(self, dpid: int) -> Iterator[tuple[Route, Flow]]:
        """The rules that a switch should hold."""
        for route in self.routes.values():
            for where, flow in (route.first, *(route.further or ())):
                if where == dpid and not route.missing:
                    yield route, flow

    def lose_switch(self, dpid: int) -> None:
        """A switch's connection is lost: what waits for its confirmation is given up."""
        for route in [r for r in self.routes.values() if r.missing]:
            if route.lane is not None and dpid in (where for where, _ in route.lane.further):
                self.drop(route)

    def _stale(self, route: Route) -> bool:
        lane = route.lane
        if lane is None:
            return True
        if not lane.edges:
            return False
        return self._paths.path(lane.edges[0].source, lane.edges[-1].destination) != list(lane.edges)

    def _lane(self, bound: Bound, endpoint: str) -> Lane | None:
        there = bound.network.endpoints.get(endpoint)
        if there is None or there.port is None or bound.port is None:
            return None
        way = self._ways.find(bound.dpid, there) if bound.dpid != there.dpid else None
        if way is None and bound.dpid != there.dpid:
            return None
        if len(self._lanes) >= LANE_LIMIT:
            self._lanes.clear()
        lane = Lane(bound, there, way)
        self._lanes[bound.network.uuid, bound.endpoint.uuid, endpoint] = lane
        return lane

    def _make(self, key: Key, lane: Lane, source: Host, target: Host, frame: bytes) -> None:
        if self._counts[key[:2]] >= ROUTE_LIMIT:
            self._release(lane, frame)
            return
        route = Route(key, lane, (source, target))
        self._put_in(route)
        if not lane.further:
            dpid, stamp = lane.first
            self._wire.send(dpid, Stamped(stamp, frame[:12]))
            self._release(lane, frame)
            return
        route.missing = len(lane.further)
        route.waiting = [frame]

        def confirmed(ok: bool) -> None:
            route.missing -= 1
            if route.failed:
                return
            if not ok:
                self.drop(route)
                # A switch that takes no more rules does not stop the frames.
                for waiting in route.waiting or ():
                    self._release(lane, waiting)
            elif not route.missing:
                self._finish(route, lane)

        for dpid, stamp in lane.further:
            self._wire.send(dpid, Stamped(stamp, frame[:12]))
            self._wire.confirm(dpid, confirmed)

    def _finish(self, route: Route, lane: Lane) -> None:
        frames, route.waiting = route.waiting, None
        if not frames:
            return
        dpid, stamp = lane.first
        self._wire.send(dpid, Stamped(stamp, frames[0][:12]))
        for frame in frames:
            self._release(lane, frame)

    def _put_in(self, route: Route) -> None:
        self.routes[route.key] = route
        self._counts[route.key[:2]] += 1
        for host in route.hosts:
            host.routes[route] = None

    def _take_out(self, route: Route) -> None:
        route.failed = True
        if self.routes.get(route.key) is route:
            del self.routes[route.key]
            self._counts[route.key[:2]] -= 1
            if not self._counts[route.key[:2]]:
                del self._counts[route.key[:2]]
        for host in route.hosts:
            host.routes.pop(route, None)

    def _release(self, lane: Lane, frame: bytes) -> None:
        for dpid, rest in lane.release:
            self._wire.send(dpid, Sending(rest, frame))

    def _flood(self, bound: Bound, frame: bytes) -> int:
        """Send a frame straight out at all other endpoints: one message per switch."""
        key = (bound.network.uuid, bound.endpoint.uuid)
        ready = self._floods.get(key)
        if ready is None:
            ready = self._floods[key] = sendings(
                b for b in bound.network.endpoints.values() if b is not bound
            )
        for dpid, rest in ready:
            self._wire.send(dpid, Sending(rest, frame))
        return len(ready)
