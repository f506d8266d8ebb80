"""On-demand flows: flow entries for a pair of hosts, installed when its first frame comes up. Hot path.

This is the first of the two approaches in the 2012 paper. The first frame of a (source, destination) pair
matches no rule and is sent up by its ingress switch. All switches behind the first one get their entries and
confirm them before the first one gets its own, and only then is the frame sent out at its endpoint: so no
frame overtakes its rules. Entries behind the first switch have longer time-outs than the first one, which
therefore always expires first and makes the controller act again.

Broadcast, multicast and frames to unknown hosts are sent out by the controller at the network's other
endpoints.

Messages are concatenated from templates (see `flow_templates`), which are kept until an endpoint or a path
changes.
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
from libnetvirt.model import Encapsulation

#: frames of a pair that wait until its entries are confirmed: no fewer than may have waited for the end of an
#: operation (`packetin.deferral`), which come all at once
QUEUE_LIMIT: Final = 512
#: path templates kept per network
PATH_LIMIT = 10_000
#: copies of a flooded frame that cost as many tokens as one message
COPIES = 16
#: pairs of one source endpoint that get flow entries; frames of others are forwarded by the controller
PAIR_LIMIT: Final = 16_384

#: uuids of network and endpoint
EndpointKey = tuple[str, str]


class Wire(Protocol):
    """How messages are sent to switches. A message to a switch that is not connected is lost."""

    def send(self, dpid: int, message: of.Message) -> None:
        """Send a message."""

    def post(self, dpid: int, *parts: bytes) -> None:
        """Send encoded messages, given in parts. Their xid is 0: errors are not attributed to anything."""

    def track(self, dpid: int, done: Callable[[bool], None], header: bytes, *parts: bytes) -> None:
        """Send one encoded message, given in parts, as `confirm` does. The xid in its header is filled in."""

    def confirm(self, dpid: int, done: Callable[[bool], None]) -> None:
        """Call ``done(True)`` when the switch has carried out everything sent so far, ``done(False)`` if it
        did not."""

    def linger(self, action: Callable[[], None]) -> None:
        """Call ``action`` when replaced rules have lingered long enough for frames in flight to pass."""


class PairFlows:
    """The flow entries of one (source, destination) pair of hosts. ``macs``: destination and source address,
    as in a frame."""

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
        #: frames that wait until the switches behind the first have confirmed; None: none has to wait
        self.pending: list[bytes] | None = None

    @property
    def origin(self) -> EndpointKey:
        """The source endpoint."""
        return self.ingress.endpoint_key

    @property
    def addresses(self) -> tuple[int, int]:
        """Source and destination MAC address."""
        return int.from_bytes(self.macs[6:]), int.from_bytes(self.macs[:6])

    @property
    def first(self) -> tuple[int, Flow]:
        """The first switch and its flow entry."""
        return self.ingress.dpid, self.ingress.match_template.flow(*self.addresses, self.ingress_actions)

    @property
    def ingress_actions(self) -> Actions:
        """The actions of the first flow entry."""
        if self.path_template is not None:
            return self.path_template.actions
        return self.egress.hairpin if self.ingress.port == self.egress.port else self.egress.actions

    @property
    def downstream(self) -> list[tuple[int, Flow]] | None:
        """The switches behind the first and their flow entries, egress first; None if they are not known."""
        return [
            (hop.dpid, self._behind(hop)) for hop in (self.path_template.hops if self.path_template else ())
        ]

    def on(self, dpid: int) -> Iterator[Flow]:
        """The flow entries of the pair in one switch, as far as they are known."""
        if self.ingress.dpid == dpid:
            yield self.first[1]
        for hop in self.path_template.hops if self.path_template else ():
            if hop.dpid == dpid:
                yield self._behind(hop)

    def places(self) -> list[int]:
        """The switches of the flow entries, as far as these are known."""
        behind = self.path_template.hops if self.path_template is not None else ()
        return [self.ingress.dpid, *[hop.dpid for hop in behind]]

    def _behind(self, hop: TransitTemplate) -> Flow:
        """The flow entry of a switch behind the first."""
        return hop.match_template.flow(*self.addresses, hop.actions or self.egress.actions)

    def may_end_at(self, endpoints: Iterable[str]) -> bool:
        """Whether the destination may be at one of these endpoints."""
        return self.egress.endpoint in endpoints


class AdoptedFlows(PairFlows):
    """A pair of an earlier run. Only its first flow entry is known, until `adoption` has found the others."""

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
        """The source endpoint."""
        return self._origin

    @property
    def first(self) -> tuple[int, Flow]:
        """The first switch and its flow entry."""
        return self._first

    def starts_like(self, pair: PairFlows) -> bool:
        """Whether the first flow entry has the actions that ``pair`` would give it."""
        return self._first[1].instructions == (apply(*pair.ingress_actions),)

    @property
    def downstream(self) -> None:
        """None: not known."""

    def on(self, dpid: int) -> Iterator[Flow]:
        """The first flow entry, if it is in this switch."""
        where, flow = self._first
        if where == dpid:
            yield flow

    def places(self) -> list[int]:
        """The switch of the first flow entry."""
        return [self._first[0]]

    def may_end_at(self, endpoints: Iterable[str]) -> bool:  # noqa: ARG002
        """True: the destination may be anywhere."""
        return True


@dataclass(slots=True)
class NetworkTemplates:
    """The templates of a network."""

    egresses: dict[str, EgressTemplate] = field(default_factory=dict)  # by endpoint
    path_templates: dict[tuple[int, int], PathTemplate] = field(
        default_factory=dict
    )  # by first and last switch


@dataclass(slots=True)
class FlowCache:
    """The templates and pairs of a source endpoint, kept at its `Attachment`. Stale if ``epoch`` is not the
    current one."""

    epoch: int
    endpoint: str
    ingress: IngressTemplate
    network: NetworkTemplates
    hosts: Mapping[int, Host]
    pairs: dict[bytes, PairFlows]
    #: to flood a frame: by switch, a packet-out to all other endpoints there, without header and frame
    floods: list[tuple[int, bytes]] | None = None


class OnDemandFlows:
    """Installs and removes the flow entries of pairs of hosts."""

    def __init__(self, wire: Wire, locator: Locator, paths: PathFinder, transports: Transports) -> None:
        self._wire = wire
        self._locator = locator
        self._paths = paths
        self._transports = transports
        self._pairs: dict[EndpointKey, dict[bytes, PairFlows]] = {}
        self._templates: dict[str, NetworkTemplates] = {}
        # How many removals of an entry behind the first switch wait until frames in flight have passed.
        self._leaving: dict[tuple[int, EntryKey], int] = {}
        self._epoch = 0
        #: the number of frames dropped because too many waited for the flow entries of their pair
        self.dropped = 0

    def __iter__(self) -> Iterator[PairFlows]:
        """All pairs. They may be removed during the iteration."""
        return (pair for own in list(self._pairs.values()) for pair in list(own.values()))

    def count_by_network(self) -> dict[str, int]:
        """The number of pairs of each network that has any."""
        found: dict[str, int] = {}
        for (network, _), own in self._pairs.items():
            found[network] = found.get(network, 0) + len(own)
        return found

    def packet(self, attachment: Attachment, frame: bytes, source: Host | None) -> int:
        """Forward a frame that entered at an endpoint and matched no rule.

        ``source`` is the host that sent it. With None the frame is forwarded, but gets no flow entries: its
        endpoint has too many hosts, or its network is not on-demand. Returns the number of tokens that this
        costs beyond the one for a frame to one host.
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
            else:
                self.dropped += 1
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
            # It gets no entries, or was sent up before they were installed.
            self._wire.post(egress.dpid, egress.release(len(frame)), frame)
            if isinstance(pair, AdoptedFlows):
                # The entry of an earlier run is not in the switch any more, else no frame would come up.
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
        """Discard all templates, because endpoints or paths have changed."""
        self._epoch += 1
        self._templates.clear()
        self._pairs = {origin: own for origin, own in self._pairs.items() if own}

    def find(self, network: str, macs: bytes) -> PairFlows | None:
        """The pair with these MAC addresses, as in a frame; None if it has no flow entries."""
        host = self._locator.find(network, int.from_bytes(macs[6:]))
        return self._pairs.get((network, host.endpoint), {}).get(macs) if host is not None else None

    def holds(self, pair: PairFlows) -> bool:
        """Whether a pair was not removed or replaced."""
        own = self._pairs.get(pair.origin)
        return own is not None and own.get(pair.macs) is pair

    def remove(self, pair: PairFlows) -> None:
        """Remove a pair's flow entries: that of the first switch, and the others when it has confirmed."""
        self._discard(pair)
        first, flow = pair.first
        self._wire.send(first, delete_message(flow))
        downstream = pair.downstream
        if not downstream:
            return

        leaving = self._leaving
        for dpid, flow in downstream:
            leaving[dpid, flow.key] = leaving.get((dpid, flow.key), 0) + 1

        def remove_downstream() -> None:
            kept = self.held(pair.origin[0], pair.macs)
            for dpid, flow in downstream:
                key = dpid, flow.key
                # A pair that was installed again and removed again meanwhile has frames in flight, too.
                leaving[key] -= 1
                if leaving[key]:
                    continue
                del leaving[key]
                if key not in kept:
                    self._wire.send(dpid, delete_message(flow))

        self._wire.confirm(first, lambda _: self._wire.linger(remove_downstream))

    def held(self, network: str, macs: bytes) -> set[tuple[int, EntryKey]]:
        """(datapath id, key) of the flow entries that a pair has now, as far as they are known."""
        now = self.find(network, macs)
        rules = (now.first, *(now.downstream or ())) if now is not None else ()
        return {(dpid, flow.key) for dpid, flow in rules}

    def remove_where(
        self, unwanted: Callable[[PairFlows], bool], *, deliver: bool = False
    ) -> list[PairFlows]:
        """Remove the flow entries of all pairs for which ``unwanted`` is true, and return the pairs.

        ``deliver``: frames that wait for such entries go to their destination all the same, which is where
        it was.
        """
        dropped = [pair for pair in self if unwanted(pair)]
        for pair in dropped:
            waiting = pair.pending
            self.remove(pair)
            if deliver and waiting is not None:
                self._release(pair, waiting)
        return dropped

    def _release(self, pair: PairFlows, frames: Iterable[bytes]) -> None:
        """Send frames out at the endpoint of a pair's destination."""
        egress = pair.egress
        for frame in frames:
            self._wire.post(egress.dpid, egress.release(len(frame)), frame)

    def remove_host(self, host: Host) -> None:
        """Remove the flow entries from and to a host."""
        for pair in list(host.pair_flows):
            if isinstance(pair, PairFlows):
                self.remove(pair)

    def remove_endpoints(self, network: str, endpoints: Iterable[str]) -> None:
        """Remove the flow entries from and to endpoints, and those that may lead there."""
        self.changed()
        names = set(endpoints)
        if names:
            self.remove_where(
                lambda r: r.origin[0] == network and (r.origin[1] in names or r.may_end_at(names))
            )

    def discard_network(self, network: str) -> None:
        """Discard the pairs of a network whose flow entries are removed otherwise, as a whole."""
        self.changed()
        for origin in [origin for origin in self._pairs if origin[0] == network]:
            for pair in list(self._pairs[origin].values()):
                self._discard(pair)

    def reroute(self, *, only_costs: bool) -> list[PairFlows]:
        """Remove the pairs that do not follow the shortest path after a change of the topology, and return
        them.

        With ``only_costs`` no link was added or removed. Then adopted pairs, whose paths are not known yet,
        are kept. Otherwise, a switch that loses its connection while others have not connected yet would
        cause them to be removed at a time when their destinations are not known.
        """
        self.changed()
        best: dict[tuple[str, tuple[Edge, ...]], bool] = {}

        def stale(pair: PairFlows) -> bool:
            if pair.path_template is None:
                return isinstance(pair, AdoptedFlows) and not only_costs
            edges = pair.path_template.edges
            if not edges:
                return False
            network = pair.origin[0]
            kept = best.get((network, edges))
            if kept is None:
                ends = edges[0].source, edges[-1].destination
                path = self._paths.path(*ends, Encapsulation.NATIVE, network) or ()
                # Whatever they cost now.
                kept = best[network, edges] = [e.ends for e in path] == [e.ends for e in edges]
            return not kept

        return self.remove_where(stale, deliver=True)

    def expired(self, dpid: int, attachment: Attachment, flow: of.Match) -> None:
        """Remove the other flow entries of a pair whose first one has expired."""
        pair = self._pairs.get((attachment.network.uuid, attachment.endpoint.uuid), {}).get(macs_of(flow))
        if pair is not None and pair.first[0] == dpid and pair.pending is None:
            self.remove(pair)

    def adopt(self, dpid: int, attachment: Attachment, flow: Flow) -> None:
        """Adopt a first flow entry of an earlier run, unless it is known to differ from what this run would
        install."""
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
        """The adopted pairs of a network whose other flow entries are not known yet."""
        by_endpoint = (self._pairs.get((record.uuid, name), {}) for name in record.endpoints)
        return [pair for own in by_endpoint for pair in own.values() if isinstance(pair, AdoptedFlows)]

    def expected_pair(self, record: NetworkRecord, adopted: AdoptedFlows, end: str) -> PairFlows | None:
        """The flow entries that this run would install for an adopted pair whose destination is at endpoint
        ``end``; None without a path."""
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
        """Replace an adopted pair by one that is known completely."""
        self._discard(adopted)
        self._pairs.setdefault(pair.origin, {})[pair.macs] = pair
        for host in (pair.source, pair.target):
            if host is not None:
                host.pair_flows[pair] = None

    def expected(self, dpid: int) -> Iterator[tuple[PairFlows, Flow]]:
        """(pair, flow entry) for all flow entries that a switch should hold."""
        for pair in self:
            if pair.pending is None:
                for flow in pair.on(dpid):
                    yield pair, flow

    def switch_down(self, dpid: int) -> None:
        """Remove the pairs that wait for a switch to confirm, because its connection is lost."""
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
        """Install the flow entries behind the first switch and, when all are confirmed, that of the first."""
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
                # A switch refused an entry (a full table, perhaps): the frames are delivered all the same.
                self.remove(pair)
            self._release(pair, frames)

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
        """Send a frame out at all other endpoints, with one message a switch or more.

        Returns the number of tokens that this costs beyond that of a frame to one host: one a message, and
        some for copies.
        """
        floods = cache.floods
        if floods is None:
            others = (b for b in attachment.network.endpoints.values() if b is not attachment)
            floods = cache.floods = packet_outs(others)
        for dpid, body in floods:
            self._wire.post(dpid, with_header(of.MsgType.PACKET_OUT, body, len(frame)), frame)
        return len(floods) + len(attachment.network.endpoints) // COPIES


def macs_of(match: of.Match) -> bytes:
    """Destination and source address of a flow entry's match, as in a frame."""
    return match.value("eth_dst").to_bytes(6) + match.value("eth_src").to_bytes(6)
