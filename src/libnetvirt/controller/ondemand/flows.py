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
from libnetvirt.controller.dataplane.entries import EntryKey, Flow, deleting
from libnetvirt.controller.intent.locator import Host, Locator
from libnetvirt.controller.intent.rulesdb import Attachment, NetworkRecord
from libnetvirt.controller.ondemand.flow_templates import (
    SOURCE,
    EgressTemplate,
    IngressTemplate,
    PathTemplate,
    TransitTemplate,
    packet_outs,
    with_header,
)
from libnetvirt.controller.rules.encapsulation import Actions
from libnetvirt.controller.rules.instructions import apply
from libnetvirt.controller.rules.transport import Transports
from libnetvirt.controller.topology.pathfinder import Edge, PathFinder

#: frames that wait for one path's rules
QUEUE_LIMIT: Final = 64
#: pairs of switches of a network for which a path is kept ready
TRACK_LIMIT = 10_000
#: copies of a flooded frame that cost as much as a message
COPIES = 16
#: pairs that one endpoint may have rules for; more are served without
ROUTE_LIMIT: Final = 16_384

EndpointKey = tuple[str, str]  # network, endpoint


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


class PairFlows:
    """The rules of one (source, destination) pair. ``macs``: destination and source, as in a frame."""

    __slots__ = ("egress", "ingress", "macs", "path_template", "pending", "source", "target")

    def __init__(
        self, macs: bytes, source: Host | None, target: Host | None,
        ingress: IngressTemplate, egress: EgressTemplate, path_template: PathTemplate | None,
    ) -> None:  # fmt: skip
        self.macs = macs
        self.source = source
        self.target = target
        self.ingress = ingress
        self.egress = egress
        self.path_template = path_template
        #: the frames that wait for the switches behind the first; None: the rules are there, or gone
        self.pending: list[bytes] | None = None

    @property
    def place(self) -> EndpointKey:
        """Where it begins."""
        return self.ingress.place

    @property
    def addresses(self) -> tuple[int, int]:
        """Source and destination."""
        return int.from_bytes(self.macs[6:]), int.from_bytes(self.macs[:6])

    @property
    def first(self) -> tuple[int, Flow]:
        """The first switch and its rule."""
        return self.ingress.dpid, self.ingress.match_template.flow(*self.addresses, self.ingress_actions)

    @property
    def ingress_actions(self) -> Actions:
        """What the first rule does."""
        if self.path_template is not None:
            return self.path_template.actions
        return self.egress.hairpin if self.ingress.port == self.egress.port else self.egress.actions

    @property
    def further(self) -> list[tuple[int, Flow]] | None:
        """The other switches and their rules, the last hop first; None if they are not known."""
        return [
            (hop.dpid, self._behind(hop)) for hop in (self.path_template.hops if self.path_template else ())
        ]

    def on(self, dpid: int) -> Iterator[Flow]:
        """The rules that a switch has of it, as far as they are known."""
        if self.ingress.dpid == dpid:
            yield self.first[1]
        for hop in self.path_template.hops if self.path_template else ():
            if hop.dpid == dpid:
                yield self._behind(hop)

    def _behind(self, hop: TransitTemplate) -> Flow:
        """The rule of a switch behind the first."""
        return hop.match_template.flow(*self.addresses, hop.actions or self.egress.actions)

    def leads_to(self, endpoints: Iterable[str]) -> bool:
        """Whether it may end at one of these endpoints."""
        return self.egress.endpoint in endpoints


class AdoptedFlows(PairFlows):
    """What another run of the controller made: only the first rule is known, until `adoption` knows all."""

    __slots__ = ("_first", "_place")

    def __init__(
        self,
        place: EndpointKey,
        macs: bytes,
        source: Host | None,
        target: Host | None,
        first: tuple[int, Flow],
    ) -> None:
        self.macs, self.source, self.target = macs, source, target
        self.path_template = self.pending = None
        self._place = place
        self._first = first

    @property
    def place(self) -> EndpointKey:
        """Where it begins."""
        return self._place

    @property
    def first(self) -> tuple[int, Flow]:
        """The first switch and its rule."""
        return self._first

    def leads_like(self, route: PairFlows) -> bool:
        """Whether the first rule does what this route's does."""
        return self._first[1].instructions == (apply(*route.ingress_actions),)

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
class NetworkTemplates:
    """What is kept ready for a network's frames."""

    egresses: dict[str, EgressTemplate] = field(default_factory=dict)  # by endpoint
    path_templates: dict[tuple[int, int], PathTemplate] = field(
        default_factory=dict
    )  # by first and last switch


@dataclass(slots=True)
class FlowCache:
    """What is kept ready for frames that enter at an endpoint; kept in its `Attachment`."""

    epoch: int
    endpoint: str
    ingress: IngressTemplate
    network: NetworkTemplates
    hosts: Mapping[int, Host]
    routes: dict[bytes, PairFlows]
    #: to send straight out at all other endpoints: per switch, a packet-out up to its frame, less its header
    floods: list[tuple[int, bytes]] | None = None


class OnDemandFlows:
    """Makes and removes the rules of pairs of hosts."""

    def __init__(self, wire: Wire, locator: Locator, paths: PathFinder, transports: Transports) -> None:
        self._wire = wire
        self._locator = locator
        self._paths = paths
        self._transports = transports
        self._routes: dict[EndpointKey, dict[bytes, PairFlows]] = {}
        self._ready: dict[str, NetworkTemplates] = {}
        self._epoch = 0

    def __iter__(self) -> Iterator[PairFlows]:
        """All routes."""
        return (route for own in list(self._routes.values()) for route in list(own.values()))

    def packet(self, attachment: Attachment, frame: bytes, source: Host | None) -> int:
        """Forward a frame that came in at an endpoint and that no rule took.

        ``source``: the host that sent it; None if its frames are served but get no rules: one of too many,
        or of a network whose rules are there beforehand.
        Returns what that cost beyond what one frame to one host does.
        """
        sender = self._sender(attachment)
        macs = frame[:12]
        target = None if macs[0] & 1 else sender.hosts.get(int.from_bytes(macs[:6]))
        if target is None:
            return self._flood(attachment, sender, frame)
        if target.endpoint == sender.endpoint:
            return 0
        route = sender.routes.get(macs)
        if route is not None and route.pending is not None:
            if len(route.pending) < QUEUE_LIMIT:
                route.pending.append(frame)
            return 0
        egress = sender.network.egresses.get(target.endpoint) or self._egress_template(
            sender, attachment.network, target.endpoint
        )
        if egress is None:
            return 0
        ingress, path_template = sender.ingress, None
        if egress.dpid != ingress.dpid:
            path_template = self._path_template(sender, attachment.network, egress.dpid)
            if path_template is None:
                return 0
        if route is not None or source is None or len(sender.routes) >= ROUTE_LIMIT:
            # Served without rules, or before them on its way up.
            self._wire.post(egress.dpid, egress.release(len(frame)), frame)
            if isinstance(route, AdoptedFlows):
                # Of an earlier run, and the switch does not have it any more.
                self.drop(route)
            return 0
        route = sender.routes[macs] = PairFlows(macs, source, target, ingress, egress, path_template)
        source.routes[route] = target.routes[route] = None
        if path_template is not None:
            self._make_further(route, path_template, frame)
            return 0
        half = egress.action_template if egress.port != ingress.port else egress.hairpin_template
        self._wire.post(
            ingress.dpid, half.header, ingress.head, macs[:6], SOURCE, macs[6:], half.tail,
            egress.release(len(frame)), frame,
        )  # fmt: skip
        return 0

    def changed(self) -> None:
        """Endpoints or paths have changed: what was made ready for them is made anew."""
        self._epoch += 1
        self._ready.clear()
        self._routes = {place: own for place, own in self._routes.items() if own}

    def drop(self, route: PairFlows) -> None:
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

    def held(self, network: str, macs: bytes) -> set[tuple[int, EntryKey]]:
        """The switches and keys of the rules that a pair has now, as far as they are known."""
        host = self._locator.find(network, int.from_bytes(macs[6:]))
        now = self._routes.get((network, host.endpoint), {}).get(macs) if host is not None else None
        rules = (now.first, *(now.further or ())) if now is not None else ()
        return {(dpid, flow.key) for dpid, flow in rules}

    def drop_where(self, unwanted: Callable[[PairFlows], bool]) -> list[PairFlows]:
        """Remove the rules of all pairs for which ``unwanted`` is true."""
        dropped = [route for route in self if unwanted(route)]
        for route in dropped:
            self.drop(route)
        return dropped

    def drop_host(self, host: Host) -> None:
        """Remove the rules from and to a host."""
        for route in list(host.routes):
            if isinstance(route, PairFlows):
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

    def reroute(self, *, only_costs: bool) -> list[PairFlows]:
        """The topology has changed: remove the rules that no longer follow the best path.

        ``only_costs``: no link came or went. Then rules of another run, whose way is not known yet, stay: a
        switch that loses its connection again before all have come would take them along otherwise, while
        nobody knows where their destinations are.
        """
        self.changed()
        best: dict[tuple[Edge, ...], bool] = {}

        def stale(route: PairFlows) -> bool:
            if route.path_template is None:
                return isinstance(route, AdoptedFlows) and not only_costs
            edges = route.path_template.edges
            if not edges:
                return False
            kept = best.get(edges)
            if kept is None:
                path = self._paths.path(edges[0].source, edges[-1].destination)
                kept = best[edges] = path == list(edges)
            return not kept

        return self.drop_where(stale)

    def expired(self, dpid: int, attachment: Attachment, flow: of.Match) -> None:
        """The first rule of a pair has gone: remove the others."""
        route = self._routes.get((attachment.network.uuid, attachment.endpoint.uuid), {}).get(macs_of(flow))
        if route is not None and route.first[0] == dpid and route.pending is None:
            self.drop(route)

    def adopt(self, dpid: int, attachment: Attachment, flow: Flow) -> None:
        """Take over a first rule that another run of the controller made, unless it leads elsewhere than it
        would now."""
        place, macs = (attachment.network.uuid, attachment.endpoint.uuid), macs_of(flow.match)
        own = self._routes.setdefault(place, {})
        if macs not in own:
            source, target = (
                self._locator.find(place[0], flow.match.value(a)) for a in ("eth_src", "eth_dst")
            )
            route = AdoptedFlows(place, macs, source, target, (dpid, flow))
            if target is not None:
                now = self.as_now(attachment.network, route, target.endpoint)
                if now is None or not route.leads_like(now):
                    return
            own[macs] = route
            for host in (source, target):
                if host is not None:
                    host.routes[route] = None

    def adopted(self, entry: NetworkRecord) -> list[AdoptedFlows]:
        """The pairs of a network that were taken over, and of which not all is known yet."""
        places = (self._routes.get((entry.uuid, name), {}) for name in entry.endpoints)
        return [route for own in places for route in own.values() if isinstance(route, AdoptedFlows)]

    def as_now(self, entry: NetworkRecord, adopted: AdoptedFlows, end: str) -> PairFlows | None:
        """What this run would make for a pair that ends at an endpoint; None if there is no way."""
        attachment = entry.endpoints.get(adopted.place[1])
        if attachment is None or attachment.port is None or end == attachment.endpoint.uuid:
            return None
        sender = self._sender(attachment)
        egress, path_template = self._egress_template(sender, entry, end), None
        if egress is not None and egress.dpid != attachment.dpid:
            path_template = self._path_template(sender, entry, egress.dpid)
            egress = egress if path_template is not None else None
        return (
            PairFlows(adopted.macs, adopted.source, None, sender.ingress, egress, path_template)
            if egress
            else None
        )

    def replace(self, adopted: AdoptedFlows, route: PairFlows) -> None:
        """All of a pair that was taken over is known now."""
        self._take_out(adopted)
        self._routes.setdefault(route.place, {})[route.macs] = route
        for host in (route.source, route.target):
            if host is not None:
                host.routes[route] = None

    def expected(self, dpid: int) -> Iterator[tuple[PairFlows, Flow]]:
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
                and route.path_template is not None
                and any(hop.match_template.dpid == dpid for hop in route.path_template.hops)
            )
        )

    def _sender(self, attachment: Attachment) -> FlowCache:
        sender = attachment.ready
        if not isinstance(sender, FlowCache) or sender.epoch != self._epoch:
            ingress = IngressTemplate(attachment)
            network, endpoint = ingress.place
            ready = self._ready.setdefault(network, NetworkTemplates())
            routes = self._routes.setdefault(ingress.place, {})
            hosts = self._locator.known(network)
            sender = attachment.ready = FlowCache(self._epoch, endpoint, ingress, ready, hosts, routes)
        return sender

    def _egress_template(self, sender: FlowCache, entry: NetworkRecord, end: str) -> EgressTemplate | None:
        egress = sender.network.egresses.get(end)
        if egress is None:
            there = entry.endpoints.get(end)
            if there is None or there.port is None:
                return None
            egress = sender.network.egresses[end] = EgressTemplate(there)
        return egress

    def _path_template(
        self, sender: FlowCache, entry: NetworkRecord, destination: int
    ) -> PathTemplate | None:
        path_templates, ends = sender.network.path_templates, (sender.ingress.dpid, destination)
        path_template = path_templates.get(ends)
        if path_template is None:
            transport = self._transports.find(entry, *ends)
            if transport is None:
                return None
            if len(path_templates) >= TRACK_LIMIT:
                path_templates.clear()
            path_template = path_templates[ends] = PathTemplate(entry, transport)
        return path_template

    def _make_further(self, route: PairFlows, path_template: PathTemplate, frame: bytes) -> None:
        """Make the rules behind the first switch, and the first's when they are confirmed."""
        macs, egress, wire = route.macs, route.egress, self._wire
        destination, source = macs[:6], macs[6:]
        route.pending = [frame]
        missing = len(path_template.hops)

        def confirmed(ok: bool) -> None:
            nonlocal missing
            missing -= 1
            frames = route.pending
            if frames is None or (ok and missing):
                return
            route.pending = None
            if ok:
                ingress, end = route.ingress, path_template.action_template
                wire.post(ingress.dpid, end.header, ingress.head, destination, SOURCE, source, end.tail)
            else:
                # A switch that takes no more rules does not stop the frames.
                self.drop(route)
            for waiting in frames:
                wire.post(egress.dpid, egress.release(len(waiting)), waiting)

        for hop in path_template.hops:
            end = hop.action_template or egress.remote_action_template
            wire.track(hop.dpid, confirmed, end.header, hop.head, destination, SOURCE, source, end.tail)

    def _take_out(self, route: PairFlows) -> None:
        route.pending = None
        own = self._routes.get(route.place)
        if own is not None and own.get(route.macs) is route:
            del own[route.macs]
        for host in (route.source, route.target):
            if host is not None:
                host.routes.pop(route, None)

    def _flood(self, attachment: Attachment, sender: FlowCache, frame: bytes) -> int:
        """Send a frame straight out at all other endpoints, with one message per switch.

        Returns what that costs beyond one frame to one host: the messages, and a part for each copy.
        """
        floods = sender.floods
        if floods is None:
            others = (b for b in attachment.network.endpoints.values() if b is not attachment)
            floods = sender.floods = packet_outs(others)
        for dpid, rest in floods:
            self._wire.post(dpid, with_header(of.MsgType.PACKET_OUT, rest, len(frame)), frame)
        return len(floods) + len(attachment.network.endpoints) // COPIES


def macs_of(match: of.Match) -> bytes:
    """Destination and source, as in a frame."""
    return match.value("eth_dst").to_bytes(6) + match.value("eth_src").to_bytes(6)
