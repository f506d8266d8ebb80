"""The paper's first approach: rules are made when a packet asks for them.

For networks with native encapsulation and on-demand insertion. The first frame of a (source, destination)
pair comes up from the edge; its path's rules are confirmed by every switch behind the first before the
first gets its own, and only then is the frame released: no frame outruns its rules. Rules behind the
first switch live longer than the first's, so that the first always expires first and asks again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from libnetvirt import openflow as of
from libnetvirt.controller import layout
from libnetvirt.controller.compiler import apply, deliver
from libnetvirt.controller.entries import Flow, adding, deleting
from libnetvirt.controller.layout import Kind, Table
from libnetvirt.controller.locator import Locator, Verdict
from libnetvirt.controller.pathfinder import Edge, PathFinder
from libnetvirt.controller.rulesdb import Bound, Entry
from libnetvirt.model import Timeout

#: frames that wait for one path's rules
QUEUE_LIMIT = 64
#: seconds that rules behind the first switch outlive it
GRACE = 30

Key = tuple[str, str, int, int]  # network, source endpoint, source MAC, destination MAC


class Wire(Protocol):
    """How messages get to switches."""

    def send(self, dpid: int, message: of.Message) -> None:
        """Send a message; lost if the switch is away."""

    def confirm(self, dpid: int, done: Callable[[bool], None]) -> None:
        """Call ``done`` when the switch has done all it was sent so far; with False if it did not."""

    def linger(self, action: Callable[[], None]) -> None:
        """Call ``action`` when old paths have outlived their replacement long enough."""


@dataclass(slots=True)
class Route:
    """The rules of one (source, destination) pair. ``further`` is None if another run of the controller
    made them: then only the first is known."""

    key: Key
    destination: str
    first: tuple[int, Flow]
    further: list[tuple[int, Flow]] | None
    edges: tuple[Edge, ...] = ()
    missing: int = 0
    failed: bool = False
    waiting: list[bytes] = field(default_factory=list)


class Reactive:
    """Makes and removes the rules of native networks."""

    def __init__(self, wire: Wire, locator: Locator, paths: PathFinder) -> None:
        self._wire = wire
        self._locator = locator
        self._paths = paths
        self.routes: dict[Key, Route] = {}

    def packet(self, bound: Bound, frame: bytes, verdict: Verdict) -> None:
        """Forward a frame that came in at an endpoint and that no rule took."""
        if len(frame) < 14:
            return
        entry = bound.network
        mac = int.from_bytes(frame[:6])
        target = None if mac >> 40 & 1 else self._locator.find(entry.uuid, mac)
        if target is None:
            self._flood(bound, frame)
            return
        there = entry.endpoints.get(target.endpoint)
        if there is None or there is bound or there.port is None:
            return
        if verdict is Verdict.FULL:
            # The source is one of too many: it is served, but gets no rules.
            self._send_out([there], frame)
            return
        key = (entry.uuid, bound.endpoint.uuid, int.from_bytes(frame[6:12]), mac)
        route = self.routes.get(key)
        if route is None:
            self._make(key, bound, there, frame)
        elif route.missing:
            if len(route.waiting) < QUEUE_LIMIT:
                route.waiting.append(frame)
        else:
            # The rules are there; the frame was on its way up before them.
            self._send_out([there], frame)
            if route.further is None:
                # Of an earlier run, and the switch does not have it any more.
                self.drop(route)

    def drop(self, route: Route) -> None:
        """Remove a pair's rules: the first switch's, and when that is confirmed the others."""
        self.routes.pop(route.key, None)
        route.failed = True
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

    def drop_host(self, network: str, mac: int) -> None:
        """Remove the rules from and to a host."""
        self.drop_where(lambda r: r.key[0] == network and mac in r.key[2:])

    def drop_endpoints(self, network: str, endpoints: Iterable[str]) -> None:
        """Remove the rules from and to endpoints, and those that may lead there."""
        names = set(endpoints)
        if names:
            self.drop_where(
                lambda r: (
                    r.key[0] == network and (r.further is None or r.key[1] in names or r.destination in names)
                )
            )

    def forget(self, network: str) -> None:
        """The network is gone, and its rules with it."""
        for key in [key for key in self.routes if key[0] == network]:
            self.routes.pop(key).failed = True

    def reroute(self) -> list[Route]:
        """The topology has changed: remove the rules that no longer follow the best path."""
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
            self.routes[key] = Route(key, "", (dpid, flow), None)

    def expected(self, dpid: int) -> Iterator[tuple[Route, Flow]]:
        """The rules that a switch should hold."""
        for route in self.routes.values():
            for where, flow in (route.first, *(route.further or ())):
                if where == dpid and not route.missing:
                    yield route, flow

    def lose_switch(self, dpid: int) -> None:
        """A switch's connection is lost: what waits for its confirmation is given up."""
        for route in [r for r in self.routes.values() if r.missing]:
            if dpid in (where for where, _ in route.further or ()):
                self.drop(route)

    def _stale(self, route: Route) -> bool:
        if route.further is None:
            return True
        if not route.edges:
            return False
        return self._paths.path(route.edges[0].source, route.edges[-1].destination) != list(route.edges)

    def _make(self, key: Key, bound: Bound, there: Bound, frame: bytes) -> None:
        path = self._paths.path(bound.dpid, there.dpid)
        if path is None or bound.port is None:
            return
        first, further = self._rules(key, bound, there, path)
        route = Route(key, there.endpoint.uuid, first, further, tuple(path), len(further), False, [frame])
        self.routes[key] = route
        if not further:
            self._finish(route, there)
            return

        def confirmed(ok: bool) -> None:
            route.missing -= 1
            if route.failed:
                return
            if not ok:
                self.drop(route)
            elif not route.missing:
                self._finish(route, there)

        for dpid, flow in reversed(further):
            self._wire.send(dpid, adding(flow))
            self._wire.confirm(dpid, confirmed)

    def _finish(self, route: Route, there: Bound) -> None:
        dpid, flow = route.first
        self._wire.send(dpid, adding(flow))
        for frame in route.waiting:
            self._send_out([there], frame)
        route.waiting = []

    def _rules(
        self, key: Key, bound: Bound, there: Bound, path: list[Edge]
    ) -> tuple[tuple[int, Flow], list[tuple[int, Flow]]]:
        entry = bound.network
        source, mac = key[2:]
        cookie = layout.cookie(entry.index, Kind.PATH)
        seconds = int(entry.rules.duration or 0) // 10**6
        idle = seconds if entry.rules.timeout is Timeout.IDLE else 0
        hard = seconds if entry.rules.timeout is Timeout.FIXED else 0
        if path:
            out: tuple[of.Action, ...] = (of.Output(path[0].source_port),)
        else:
            out = deliver(there, bound.port)
        assert bound.port is not None
        match = of.Match(
            in_port=bound.port,
            metadata=layout.entered(entry.index, bound.endpoint.vlan),
            eth_src=source,
            eth_dst=mac,
        )
        first = (bound.dpid, Flow(Table.HOST, 20, match, (apply(*out),), cookie, idle, hard, notify=True))
        further = []
        for i, edge in enumerate(path):
            last = i == len(path) - 1
            out = deliver(there) if last else (of.Output(path[i + 1].source_port),)
            match = of.Match(in_port=edge.destination_port, eth_src=source, eth_dst=mac)
            longer = [min(65535, t + GRACE) if t else 0 for t in (idle, hard)]
            further.append(
                (edge.destination, Flow(Table.PATH, 20, match, (apply(*out),), cookie, longer[0], longer[1]))
            )
        return first, further

    def _flood(self, bound: Bound, frame: bytes) -> None:
        self._send_out([b for b in bound.network.endpoints.values() if b is not bound], frame)

    def _send_out(self, targets: Iterable[Bound], frame: bytes) -> None:
        """Send a frame straight out at endpoints: one message per switch, never through the substrate."""
        by_switch: dict[int, list[of.Action]] = {}
        for bound in targets:
            if bound.port is None:
                continue
            actions = by_switch.setdefault(bound.dpid, [])
            sent = deliver(bound)
            actions += sent if len(sent) == 1 else (*sent, of.PopVlan())
        for dpid, actions in by_switch.items():
            self._wire.send(dpid, of.PacketOut(actions=tuple(actions), frame=frame))


def is_on_demand(entry: Entry) -> bool:
    """Whether the reactive part looks after a network."""
    return entry.rules.insertion == "on-demand"
