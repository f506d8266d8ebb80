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
from libnetvirt.controller.dataplane.entries import EntryKey, Flow, delete_message
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
PATH_LIMIT = 10_000
#: copies of a flooded frame that cost as much as a message
COPIES = 16
#: pairs that one endpoint may have rules for; more are served without
PAIR_LIMIT: Final = 16_384

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
    def origin(self) -> EndpointKey:
        """Where it begins."""
        return self.ingress.endpoint_key

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
    def downstream(self) -> list[tuple[int, Flow]] | None:
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

    def may_end_at(self, endpoints: Iterable[str]) -> bool:
        """Whether it may end at one of these endpoints."""
        return self.egress.endpoint in endpoints


class AdoptedFlows(PairFlows):
    """What another run of the controller made: only the first rule is known, until `adoption` knows all."""

    __slots__ = ("_first", "_origin")

    def __init__(
        self,
        origin: EndpointKey,
        macs: bytes,
        source: Host | None,
        target: Host | None,
        first: tuple[int, Flow],
    ) -> None:
        self.macs, self.source, self.target = macs, source, target
        self.path_template = self.pending = None
        self._origin = origin
        self._first = first

    @property
    def origin(self) -> EndpointKey:
        """Where it begins."""
        return self._origin

    @property
    def first(self) -> tuple[int, Flow]:
        """The first switch and its rule."""
        return self._first

    def starts_like(self, pair: PairFlows) -> bool:
        """Whether the first rule does what this pair's does."""
        return self._first[1].instructions == (apply(*pair.ingress_actions),)

    @property
    def downstream(self) -> None:
        """Not known."""

    def on(self, dpid: int) -> Iterator[Flow]:
        """The first rule, if it is there."""
        where, flow = self._first
        if where == dpid:
            yield flow

    def may_end_at(self, endpoints: Iterable[str]) -> bool:  # noqa: ARG002
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
    pairs: dict[bytes, PairFlows]
    #: to send straight out at all other endpoints: per switch, a packet-out up to its frame, less its header
    floods: list[tuple[int, bytes]] | None = None


class OnDemandFlows:
    """Makes and removes the rules of pairs of hosts."""

    def __init__(self, wire: Wire, locator: Locator, paths: PathFinder, transports: Transports) -> None:
        self._wire = wire
        self._locator = locator
        self._paths = paths
        self._transports = transports
        self._pairs: dict[EndpointKey, dict[bytes, PairFlows]] = {}
        self._templates: dict[str, NetworkTemplates] = {}
        self._epoch = 0

    def __iter__(self) -> Iterator[PairFlows]:
        """All pairs."""
        return (pair for own in list(self._pairs.values()) for pair in list(own.values()))

    def packet(self, attachment: Attachment, frame: bytes, source: Host | None) -> int:
        """Forward a frame that came in at an endpoint and that no rule took.

        ``source``: the host that sent it; None if its frames are served but get no rules: one of too many,
        or of a network whose rules are there beforehand.
        Returns what that cost beyond what one frame to one host does.
        """
        cache = self._flow_cache(attachment)
        macs = frame[:12]
        target = None if macs[0] & 1 else cache.hosts.get(int.from_bytes(macs[:6]))
        if target is None:
            return self._flood(attachment, cache, frame)
        if target.endpoint == cache.endpoint:
            return 0
        pair = cache.pairs.get(macs)
        if pair is not None and pair.pending is not None:
            if len(pair.pending) < QUEUE_LIMIT:
                pair.pending.append(frame)
            return 0
        egress = cache.network.egresses.get(target.endpoint) or self._egress_template(
            cache, attachment.network, target.endpoint
        )
        if egress is None:
            return 0
        ingress, path_template = cache.ingress, None
        if egress.dpid != ingress.dpid:
            path_template = self._path_template(cache, attachment.network, egress.dpid)
            if path_template is None:
                return 0
        if pair is not None or source is None or len(cache.pairs) >= PAIR_LIMIT:
            # Served without rules, or before them on its way up.
            self._wire.post(egress.dpid, egress.release(len(frame)), frame)
            if isinstance(pair, AdoptedFlows):
                # Of an earlier run, and the switch does not have it any more.
                self.remove(pair)
            return 0
        pair = cache.pairs[macs] = PairFlows(macs, source, target, ingress, egress, path_template)
        source.pair_flows[pair] = target.pair_flows[pair] = None
        if path_template is not None:
            self._install_downstream(pair, path_template, frame)
            return 0
        template = egress.action_template if egress.port != ingress.port else egress.hairpin_template
        self._wire.post(
            ingress.dpid, template.header, ingress.head, macs[:6], SOURCE, macs[6:], template.tail,
            egress.release(len(frame)), frame,
        )  # fmt: skip
        return 0

    def changed(self) -> None:
        """Endpoints or paths have changed: what was made ready for them is made anew."""
        self._epoch += 1
        self._templates.clear()
        self._pairs = {origin: own for origin, own in self._pairs.items() if own}

    def remove(self, pair: PairFlows) -> None:
        """Remove a pair's rules: the first switch's, and when that is confirmed the others."""
        self._discard(pair)
        first, flow = pair.first
        self._wire.send(first, delete_message(flow))
        downstream = pair.downstream
        if not downstream:
            return

        def gone() -> None:
            kept = self.held(pair.origin[0], pair.macs)
            for dpid, flow in downstream:
                if (dpid, flow.key) not in kept:
                    self._wire.send(dpid, delete_message(flow))

        self._wire.confirm(first, lambda _: self._wire.linger(gone))

    def held(self, network: str, macs: bytes) -> set[tuple[int, EntryKey]]:
        """The switches and keys of the rules that a pair has now, as far as they are known."""
        host = self._locator.find(network, int.from_bytes(macs[6:]))
        now = self._pairs.get((network, host.endpoint), {}).get(macs) if host is not None else None
        rules = (now.first, *(now.downstream or ())) if now is not None else ()
        return {(dpid, flow.key) for dpid, flow in rules}

    def remove_where(self, unwanted: Callable[[PairFlows], bool]) -> list[PairFlows]:
        """Remove the rules of all pairs for which ``unwanted`` is true."""
        dropped = [pair for pair in self if unwanted(pair)]
        for pair in dropped:
            self.remove(pair)
        return dropped

    def remove_host(self, host: Host) -> None:
        """Remove the rules from and to a host."""
        for pair in list(host.pair_flows):
            if isinstance(pair, PairFlows):
                self.remove(pair)

    def remove_endpoints(self, network: str, endpoints: Iterable[str]) -> None:
        """Remove the rules from and to endpoints, and those that may lead there."""
        self.changed()
        names = set(endpoints)
        if names:
            self.remove_where(
                lambda r: r.origin[0] == network and (r.origin[1] in names or r.may_end_at(names))
            )

    def discard_network(self, network: str) -> None:
        """The network is gone, and its rules with it."""
        self.changed()
        for origin in [origin for origin in self._pairs if origin[0] == network]:
            for pair in list(self._pairs[origin].values()):
                self._discard(pair)

    def reroute(self, *, only_costs: bool) -> list[PairFlows]:
        """The topology has changed: remove the rules that no longer follow the best path.

        ``only_costs``: no link came or went. Then rules of another run, whose way is not known yet, stay: a
        switch that loses its connection again before all have come would take them along otherwise, while
        nobody knows where their destinations are.
        """
        self.changed()
        best: dict[tuple[Edge, ...], bool] = {}

        def stale(pair: PairFlows) -> bool:
            if pair.path_template is None:
                return isinstance(pair, AdoptedFlows) and not only_costs
            edges = pair.path_template.edges
            if not edges:
                return False
            kept = best.get(edges)
            if kept is None:
                path = self._paths.path(edges[0].source, edges[-1].destination)
                kept = best[edges] = path == list(edges)
            return not kept

        return self.remove_where(stale)

    def expired(self, dpid: int, attachment: Attachment, flow: of.Match) -> None:
        """The first rule of a pair has gone: remove the others."""
        pair = self._pairs.get((attachment.network.uuid, attachment.endpoint.uuid), {}).get(macs_of(flow))
        if pair is not None and pair.first[0] == dpid and pair.pending is None:
            self.remove(pair)

    def adopt(self, dpid: int, attachment: Attachment, flow: Flow) -> None:
        """Take over a first rule that another run of the controller made, unless it leads elsewhere than it
        would now."""
        origin, macs = (attachment.network.uuid, attachment.endpoint.uuid), macs_of(flow.match)
        own = self._pairs.setdefault(origin, {})
        if macs not in own:
            source, target = (
                self._locator.find(origin[0], flow.match.value(a)) for a in ("eth_src", "eth_dst")
            )
            pair = AdoptedFlows(origin, macs, source, target, (dpid, flow))
            if target is not None:
                now = self.expected_pair(attachment.network, pair, target.endpoint)
                if now is None or not pair.starts_like(now):
                    return
            own[macs] = pair
            for host in (source, target):
                if host is not None:
                    host.pair_flows[pair] = None

    def adopted(self, record: NetworkRecord) -> list[AdoptedFlows]:
        """The pairs of a network that were taken over, and of which not all is known yet."""
        places = (self._pairs.get((record.uuid, name), {}) for name in record.endpoints)
        return [pair for own in places for pair in own.values() if isinstance(pair, AdoptedFlows)]

    def expected_pair(self, record: NetworkRecord, adopted: AdoptedFlows, end: str) -> PairFlows | None:
        """What this run would make for a pair that ends at an endpoint; None if there is no way."""
        attachment = record.endpoints.get(adopted.origin[1])
        if attachment is None or attachment.port is None or end == attachment.endpoint.uuid:
            return None
        cache = self._flow_cache(attachment)
        egress, path_template = self._egress_template(cache, record, end), None
        if egress is not None and egress.dpid != attachment.dpid:
            path_template = self._path_template(cache, record, egress.dpid)
            egress = egress if path_template is not None else None
        return (
            PairFlows(adopted.macs, adopted.source, None, cache.ingress, egress, path_template)
            if egress
            else None
        )

    def complete(self, adopted: AdoptedFlows, pair: PairFlows) -> None:
        """All of a pair that was taken over is known now."""
        self._discard(adopted)
        self._pairs.setdefault(pair.origin, {})[pair.macs] = pair
        for host in (pair.source, pair.target):
            if host is not None:
                host.pair_flows[pair] = None

    def expected(self, dpid: int) -> Iterator[tuple[PairFlows, Flow]]:
        """The rules that a switch should hold."""
        for pair in self:
            if pair.pending is None:
                for flow in pair.on(dpid):
                    yield pair, flow

    def switch_down(self, dpid: int) -> None:
        """A switch's connection is lost: what waits for its confirmation is given up."""
        self.remove_where(
            lambda pair: (
                pair.pending is not None
                and pair.path_template is not None
                and any(hop.match_template.dpid == dpid for hop in pair.path_template.hops)
            )
        )

    def _flow_cache(self, attachment: Attachment) -> FlowCache:
        cache = attachment.flow_cache
        if not isinstance(cache, FlowCache) or cache.epoch != self._epoch:
            ingress = IngressTemplate(attachment)
            network, endpoint = ingress.endpoint_key
            templates = self._templates.setdefault(network, NetworkTemplates())
            pairs = self._pairs.setdefault(ingress.endpoint_key, {})
            hosts = self._locator.by_mac(network)
            cache = attachment.flow_cache = FlowCache(self._epoch, endpoint, ingress, templates, hosts, pairs)
        return cache

    def _egress_template(self, cache: FlowCache, record: NetworkRecord, end: str) -> EgressTemplate | None:
        egress = cache.network.egresses.get(end)
        if egress is None:
            there = record.endpoints.get(end)
            if there is None or there.port is None:
                return None
            egress = cache.network.egresses[end] = EgressTemplate(there)
        return egress

    def _path_template(
        self, cache: FlowCache, record: NetworkRecord, destination: int
    ) -> PathTemplate | None:
        path_templates, ends = cache.network.path_templates, (cache.ingress.dpid, destination)
        path_template = path_templates.get(ends)
        if path_template is None:
            transport = self._transports.find(record, *ends)
            if transport is None:
                return None
            if len(path_templates) >= PATH_LIMIT:
                path_templates.clear()
            path_template = path_templates[ends] = PathTemplate(record, transport)
        return path_template

    def _install_downstream(self, pair: PairFlows, path_template: PathTemplate, frame: bytes) -> None:
        """Make the rules behind the first switch, and the first's when they are confirmed."""
        macs, egress, wire = pair.macs, pair.egress, self._wire
        destination, source = macs[:6], macs[6:]
        pair.pending = [frame]
        missing = len(path_template.hops)

        def confirmed(ok: bool) -> None:
            nonlocal missing
            missing -= 1
            frames = pair.pending
            if frames is None or (ok and missing):
                return
            pair.pending = None
            if ok:
                ingress, end = pair.ingress, path_template.action_template
                wire.post(ingress.dpid, end.header, ingress.head, destination, SOURCE, source, end.tail)
            else:
                # A switch that takes no more rules does not stop the frames.
                self.remove(pair)
            for waiting in frames:
                wire.post(egress.dpid, egress.release(len(waiting)), waiting)

        for hop in path_template.hops:
            end = hop.action_template or egress.remote_action_template
            wire.track(hop.dpid, confirmed, end.header, hop.head, destination, SOURCE, source, end.tail)

    def _discard(self, pair: PairFlows) -> None:
        pair.pending = None
        own = self._pairs.get(pair.origin)
        if own is not None and own.get(pair.macs) is pair:
            del own[pair.macs]
        for host in (pair.source, pair.target):
            if host is not None:
                host.pair_flows.pop(pair, None)

    def _flood(self, attachment: Attachment, cache: FlowCache, frame: bytes) -> int:
        """Send a frame straight out at all other endpoints, with one message per switch.

        Returns what that costs beyond one frame to one host: the messages, and a part for each copy.
        """
        floods = cache.floods
        if floods is None:
            others = (b for b in attachment.network.endpoints.values() if b is not attachment)
            floods = cache.floods = packet_outs(others)
        for dpid, rest in floods:
            self._wire.post(dpid, with_header(of.MsgType.PACKET_OUT, rest, len(frame)), frame)
        return len(floods) + len(attachment.network.endpoints) // COPIES


def macs_of(match: of.Match) -> bytes:
    """Destination and source, as in a frame."""
    return match.value("eth_dst").to_bytes(6) + match.value("eth_src").to_bytes(6)
