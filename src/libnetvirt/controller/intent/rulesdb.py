"""RulesDB: the networks as described, and the look-up from (switch, port, tag) to endpoint and network.

It is in memory only; the store keeps descriptions, indexes and rules options. Endpoints name ports by number
or name: an endpoint is bound to an OpenFlow port number as soon as its switch has connected and reported its
ports, and again whenever they change. Part of the hot path: a frame that comes up is assigned to its endpoint
with one dictionary look-up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from libnetvirt.controller.dataplane.pipeline import (
    FLOOD_CHUNKS,
    MAX_NETWORKS,
    METADATA_KEEPS,
    kept_code,
    tag_code,
)
from libnetvirt.controller.intent.switches import SwitchView, parse_switch
from libnetvirt.controller.intent.token_bucket import TokenBucket
from libnetvirt.errors import EndpointClaimed, LabelsExhausted
from libnetvirt.model import Encapsulation, Endpoint, Insertion, Rules, VirtualNetwork
from libnetvirt.model.customer_tags import PortClaims, is_wide, overlap

#: datapath id, port (its number, or its name while that is not known) and tag (see `pipeline.tag_code`)
AttachmentPoint = tuple[int, int | str, int]


@dataclass(slots=True)
class Attachment:
    """An endpoint as it is attached to a switch. ``port`` is None while no port of the switch matches the
    description.

    Of an endpoint on several ports, a link aggregation group, ``members`` are those that the switch has, and
    ``port`` is the lowest of them. The rule that admits its frames sets their input port to that one, so all
    other rules, and frames that are sent up, know one port only (see `rules.link_aggregation`).
    """

    endpoint: Endpoint
    dpid: int
    port: int | None
    network: NetworkRecord
    tokens: TokenBucket = field(default_factory=TokenBucket)
    #: limits the ICMP errors sent to it
    errors: TokenBucket = field(default_factory=TokenBucket)
    #: the templates for flow entries from this endpoint (`ondemand.flows.FlowCache`)
    flow_cache: Any = None
    #: the endpoint's uuid, kept here as it is read for each frame
    uuid: str = ""
    members: tuple[int, ...] = ()
    #: those of several ports that the switch does not have, as the description names them
    absent: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.uuid = self.endpoint.uuid
        if self.is_aggregate:
            self.absent = tuple(map(_canonical, self.endpoint.ports))

    @property
    def point(self) -> AttachmentPoint:
        """Switch, port and tag: no two endpoints may have the same."""
        port = self.endpoint.port if self.port is None else self.port
        return (self.dpid, port, self.tag_code)

    @property
    def tag_code(self) -> int:
        """The endpoint's tag as the metadata has it."""
        vlan = self.endpoint.vlan
        return kept_code(vlan) if isinstance(vlan, str) else tag_code(vlan, self.endpoint.mpls)

    @property
    def points(self) -> list[AttachmentPoint]:
        """The attachment points of all its ports, which the switch may have or not."""
        dpid, port, tag = self.point
        if not self.is_aggregate:
            return [(dpid, port, tag)]
        absent = [(dpid, name, tag) for name in self.absent]
        return [*((dpid, member, tag) for member in self.members), *absent]

    @property
    def is_aggregate(self) -> bool:
        """Whether the endpoint is on several ports, be they there or not."""
        return "," in self.endpoint.port

    @property
    def ports(self) -> tuple[int, ...]:
        """The numbers of its ports, as far as the switch has them."""
        return self.members or (() if self.port is None else (self.port,))

    @property
    def entered(self) -> int:
        """The metadata of a frame that entered at this endpoint."""
        keeps = METADATA_KEEPS if self.endpoint.kept_tags is not None else 0
        return self.network.index << 32 | keeps | self.tag_code

    @property
    def slot(self) -> int:
        """The slot of flood groups, below `FLOOD_CHUNKS`, that the endpoint belongs to: a hash of port and
        tag."""
        assert self.port is not None
        tag = self.tag_code if self.endpoint.kept_tags else self.endpoint.own_vlan or 0
        code = self.port * 0x9E3779B1 + tag * 0x85EBCA6B
        return (code >> 7) % FLOOD_CHUNKS


@dataclass(slots=True)
class NetworkRecord:
    """A network in the RulesDB. ``index`` is its number in cookies, metadata and groups; ``endpoints`` are by
    uuid."""

    description: VirtualNetwork
    index: int
    rules: Rules
    endpoints: dict[str, Attachment] = field(default_factory=dict)
    by_switch: dict[int, dict[str, Attachment]] = field(default_factory=dict)
    by_port: dict[tuple[int, int], dict[str, Attachment]] = field(default_factory=dict)
    #: by switch: ports with several endpoints of the network, told apart by tag
    shared_ports: dict[int, set[int]] = field(default_factory=dict)
    #: by switch: endpoints with an mpls label
    labelled: dict[int, dict[str, Attachment]] = field(default_factory=dict)
    #: endpoints with storm protection
    guarded: dict[str, Attachment] = field(default_factory=dict)
    #: endpoints that keep the priorities of frames
    prioritized: dict[str, Attachment] = field(default_factory=dict)
    #: by switch and slot: endpoints without mpls label whose port is known, which flood groups send to
    by_slot: dict[tuple[int, int], dict[str, Attachment]] = field(default_factory=dict)
    uuid: str = ""
    tokens: TokenBucket = field(default_factory=TokenBucket)
    #: the round of fair queueing in which it was served last, and the rest of its quantum
    fair_round: int = -1
    quantum_left: int = 0
    #: all quanta so far, see `packet_ins`; and frames dropped because endpoint or network sent too many
    granted: int = 0
    dropped: int = 0
    #: whether flow entries are installed for a pair of hosts when its first frame comes up
    on_demand: bool = False

    def __post_init__(self) -> None:
        self.uuid = self.description.uuid
        self.on_demand = self.rules.insertion is Insertion.ON_DEMAND

    @property
    def packet_ins(self) -> int:
        """The number of frames that came up from its hosts and were accepted."""
        # What sets `quantum_left` also adds the difference to `granted`: so frames are counted once a round.
        return self.granted - self.quantum_left

    @property
    def encapsulation(self) -> Encapsulation:
        """How its frames are carried between switches."""
        return self.tunnel or Encapsulation.NATIVE

    @property
    def tunnel(self) -> Encapsulation | None:
        """The kind of tunnel between switches; None for native encapsulation."""
        encapsulation = self.rules.encapsulation
        return None if encapsulation is Encapsulation.NATIVE else encapsulation

    @property
    def keeps_tags(self) -> bool:
        """Whether its frames have tags of customers, which are carried unchanged."""
        return self.description.keeps_tags

    @property
    def uses_labels(self) -> bool:
        """Whether frames get mpls labels, in tunnels or at endpoints."""
        return self.tunnel is Encapsulation.MPLS or bool(self.labelled)

    @property
    def carries_priority(self) -> bool:
        """Whether its frames have priorities, which go with them from switch to switch."""
        return bool(self.prioritized)

    @property
    def floods(self) -> bool:
        """Whether switches replicate broadcast and unknown unicast frames. Otherwise the controller does."""
        return self.tunnel is not None and not self.on_demand

    def on(self, dpid: int) -> Collection[Attachment]:
        """The endpoints on a switch."""
        return self.by_switch.get(dpid, {}).values()

    def beside(self, attachment: Attachment) -> Collection[Attachment]:
        """The endpoints of the network on the same port, this one included if it was added."""
        return self.by_port.get((attachment.dpid, attachment.port or 0), {}).values()

    def siblings(self, attachment: Attachment) -> list[Attachment]:
        """The other endpoints of the network on the same port, which have other tags."""
        if attachment.port is None:
            return []
        found = self.by_port.get((attachment.dpid, attachment.port), {})
        return [b for b in found.values() if b is not attachment]

    def add(self, attachment: Attachment) -> None:
        """Add an endpoint to the record's indexes."""
        uuid = attachment.endpoint.uuid
        self.endpoints[uuid] = attachment
        self.by_switch.setdefault(attachment.dpid, {})[uuid] = attachment
        if attachment.endpoint.storm is not None:
            self.guarded[uuid] = attachment
        if attachment.endpoint.pcp is not None:
            self.prioritized[uuid] = attachment
        if attachment.endpoint.mpls is not None:
            self.labelled.setdefault(attachment.dpid, {})[uuid] = attachment
        if attachment.port is not None:
            there = self.by_port.setdefault((attachment.dpid, attachment.port), {})
            there[uuid] = attachment
            if len(there) > 1:
                self.shared_ports.setdefault(attachment.dpid, set()).add(attachment.port)
            if attachment.endpoint.mpls is None:
                self.by_slot.setdefault((attachment.dpid, attachment.slot), {})[uuid] = attachment

    def remove(self, uuid: str) -> Attachment | None:
        """Remove an endpoint from the record's indexes. Returns it, or None if there is none."""
        attachment = self.endpoints.pop(uuid, None)
        self.guarded.pop(uuid, None)
        self.prioritized.pop(uuid, None)
        if attachment is not None:
            _discard(self.by_switch, attachment.dpid, uuid)
            if attachment.endpoint.mpls is not None:
                _discard(self.labelled, attachment.dpid, uuid)
            if attachment.port is not None:
                port_key = (attachment.dpid, attachment.port)
                _discard(self.by_port, port_key, uuid)
                if len(self.by_port.get(port_key, ())) < 2:
                    self.shared_ports.get(attachment.dpid, set()).discard(attachment.port)
                if attachment.endpoint.mpls is None:
                    _discard(self.by_slot, (attachment.dpid, attachment.slot), uuid)
        return attachment


K = TypeVar("K")


def _discard(index: dict[K, dict[str, Attachment]], key: K, uuid: str) -> None:
    held = index[key]
    del held[uuid]
    if not held:
        del index[key]


class RulesDB:
    """All networks, by uuid, name, index and attachment point."""

    def __init__(self) -> None:
        self.networks: dict[str, NetworkRecord] = {}
        self.by_index: dict[int, NetworkRecord] = {}
        self.by_point: dict[AttachmentPoint, Attachment] = {}
        #: where rules of before the last change may still say that frames entered, of endpoints on several
        #: ports whose lowest port has changed
        self.former: dict[AttachmentPoint, Attachment] = {}
        self.ports: dict[tuple[int, int], int] = {}  # (datapath id, port) -> number of endpoints on it
        #: by datapath id and (network, endpoint): endpoints with more than one tag
        self._wide: dict[int, dict[tuple[str, str], Attachment]] = {}
        self.unbound: Counter[int] = Counter()  # datapath id -> number of endpoints without a port
        self._names: dict[str, str] = {}
        self._positions: dict[str, int] = {}
        self._count = 0
        self._packet_ins_of_removed = 0

    def __iter__(self) -> Iterator[NetworkRecord]:
        return iter(self.networks.values())

    def find(self, key: str) -> NetworkRecord | None:
        """The network with this uuid or, if there is none, this name."""
        return self.networks.get(key.lower()) or self.networks.get(self._names.get(key, ""))

    def named(self, name: str) -> NetworkRecord | None:
        """The network with this name, whichever has it as its uuid."""
        return self.networks.get(self._names.get(name, ""))

    def at(self, dpid: int, port: int, tag: int) -> Attachment | None:
        """The endpoint at an attachment point, or None. ``tag`` as `pipeline.tag_code` encodes it."""
        return self.by_point.get((dpid, port, tag)) or self.former.get((dpid, port, tag))

    def holds_port(self, dpid: int, port: int) -> bool:
        """Whether any endpoint is on this port."""
        return (dpid, port) in self.ports

    def free_index(self, last: int) -> int:
        """The next index after the one assigned ``last`` that no network has. Raises LabelsExhausted."""
        for step in range(MAX_NETWORKS):
            index = (last + step) % MAX_NETWORKS + 1
            if index not in self.by_index:
                return index
        raise LabelsExhausted(f"{MAX_NETWORKS} networks exist: no number is left for one more")

    def check(
        self, network: VirtualNetwork, touched: Collection[str], switches: Mapping[int, SwitchView]
    ) -> None:
        """Raise EndpointClaimed if the attachment point of a touched endpoint is taken by another
        endpoint."""
        record = self.networks.get(network.uuid) or NetworkRecord(network, 0, Rules())
        seen: PortClaims[Attachment] = PortClaims()
        shared: dict[tuple[int, int], dict[str, Attachment]] = {}
        for endpoint in network.select(touched):
            attachment = _bind(endpoint, record, switches)
            for point in attachment.points:
                again = seen.claim(point[:2], endpoint.tag, attachment)
                for holder in (again,) if again is not None else self._holders(attachment, point):
                    ours = holder.network.uuid == network.uuid
                    if not ours or holder.endpoint.uuid not in touched or again is not None:
                        raise _claimed(
                            attachment, network if ours else holder.network.description, holder.endpoint
                        )
            if attachment.port is not None:
                there = {b.uuid: b for b in record.beside(attachment) if b.uuid not in touched}
                beside = shared.setdefault((attachment.dpid, attachment.port), there)
                beside[attachment.uuid] = attachment
                if len({b.ports for b in beside.values()}) > 1:
                    raise _overlapping(attachment, network, next(iter(beside.values())).endpoint)

    def _holders(self, attachment: Attachment, point: AttachmentPoint) -> Iterator[Attachment]:
        """The endpoints that hold an attachment point, or have tags on its port that overlap with its."""
        holder = self._holder(point)
        if holder is not None:
            yield holder
        yield from self._overlapping(attachment)

    def _overlapping(self, attachment: Attachment) -> Iterator[Attachment]:
        """The endpoints on a port whose tags overlap with an endpoint's, one of the two having several."""
        tag, dpid = attachment.endpoint.tag, attachment.dpid
        others: Iterable[Attachment] = self._wide.get(dpid, {}).values()
        if is_wide(tag):
            others = (b for record in self for b in record.on(dpid))
        names = {*attachment.ports, *map(str, attachment.ports), *attachment.endpoint.ports}
        for other in others:
            if not names.isdisjoint((*other.ports, *other.endpoint.ports)) and overlap(
                tag, other.endpoint.tag
            ):
                yield other

    def _holder(self, point: AttachmentPoint) -> Attachment | None:
        """The endpoint that holds an attachment point, be its port known by number or still as the text of
        the description."""
        dpid, port, tag = point
        if isinstance(port, int):
            return self.by_point.get(point) or self.by_point.get((dpid, str(port), tag))
        number = int(port) if port.isascii() and port.isdigit() else None
        by_number = self.by_point.get((dpid, number, tag)) if number is not None else None
        return self.by_point.get(point) or by_number

    def add(
        self, network: VirtualNetwork, index: int, rules: Rules, switches: Mapping[int, SwitchView]
    ) -> NetworkRecord:
        """Add a network, bind its endpoints to ports as far as these are known, and return its record."""
        record = NetworkRecord(network, index, rules)
        for endpoint in network.endpoints:
            self._insert(_bind(endpoint, record, switches))
        self.networks[network.uuid] = record
        if network.uuid not in self._positions:
            self._count += 1
            self._positions[network.uuid] = self._count
        self.by_index[index] = record
        self._names[network.name] = network.uuid
        return record

    def update(
        self,
        record: NetworkRecord,
        network: VirtualNetwork,
        touched: Iterable[str],
        switches: Mapping[int, SwitchView],
    ) -> list[Attachment]:
        """Replace a network's description, which differs in the ``touched`` endpoints. Returns these as they
        were before."""
        before = []
        for uuid in touched:
            old = record.remove(uuid)
            if old is not None:
                self._unclaim(old)
                before.append(old)
        for endpoint in network.select(touched):
            self._insert(_bind(endpoint, record, switches))
        self.former = {
            old.point: now
            for old in before
            if (now := record.endpoints.get(old.uuid)) is not None
            and old.point not in self.by_point
            and old.dpid == now.dpid
            and not set(old.ports).isdisjoint(now.ports)
        }
        self._names.pop(record.description.name, None)
        self._names[network.name] = network.uuid
        record.description = network
        return before

    def remove(self, uuid: str) -> NetworkRecord:
        """Remove a network and return its record. Its position in the order of creation is kept: the removal
        may be undone."""
        record = self.networks.pop(uuid)
        self._packet_ins_of_removed += record.packet_ins
        self._release(record)
        return record

    def release_position(self, uuid: str) -> None:
        """Release the position of a removed network in the order of creation, once the removal is final."""
        self._positions.pop(uuid, None)

    @property
    def packet_ins(self) -> int:
        """The number of frames that came up from the hosts of all networks, also of removed ones, and were
        accepted."""
        return self._packet_ins_of_removed + sum(record.packet_ins for record in self)

    def ordered(self) -> list[NetworkRecord]:
        """The networks by time of creation."""
        return sorted(self, key=lambda record: self._positions[record.uuid])

    def bind_ports(self, switch: SwitchView) -> list[NetworkRecord]:
        """Bind the endpoints of a switch whose ports have become known or have changed.

        Returns the networks with endpoints there. If two endpoints turn out to be at the same point (one
        named the port, the other gave its number), that of the later network stays unbound.
        """
        affected = [record for record in self if record.on(switch.dpid)]
        attachments = [attachment for record in affected for attachment in record.on(switch.dpid)]
        # All are released first: two ports may have swapped their numbers.
        for attachment in attachments:
            attachment.network.remove(attachment.endpoint.uuid)
            self._unclaim(attachment)
        for attachment in attachments:
            _find_ports(attachment, switch)
            if attachment.port is not None and (
                any(point in self.by_point for point in attachment.points)
                or any(b.ports != attachment.ports for b in attachment.network.beside(attachment))
                or any(True for _ in self._overlapping(attachment))
            ):
                attachment.port, attachment.members = None, ()
            self._insert(attachment)
        return affected

    def _insert(self, attachment: Attachment) -> None:
        attachment.network.add(attachment)
        self._claim(attachment)

    def _claim(self, attachment: Attachment) -> None:
        for point in attachment.points:
            self.by_point.setdefault(point, attachment)
        if is_wide(attachment.endpoint.tag):
            self._wide.setdefault(attachment.dpid, {})[attachment.network.uuid, attachment.uuid] = attachment
        if attachment.port is None:
            self.unbound[attachment.dpid] += 1
        for port in attachment.ports:
            key = (attachment.dpid, port)
            self.ports[key] = self.ports.get(key, 0) + 1

    def _unclaim(self, attachment: Attachment) -> None:
        for point in attachment.points:
            if self.by_point.get(point) is attachment:
                del self.by_point[point]
        if is_wide(attachment.endpoint.tag):
            self._wide.get(attachment.dpid, {}).pop((attachment.network.uuid, attachment.uuid), None)
        if attachment.port is None:
            self.unbound[attachment.dpid] -= 1
        for port in attachment.ports:
            key = (attachment.dpid, port)
            self.ports[key] -= 1
            if not self.ports[key]:
                del self.ports[key]

    def _release(self, record: NetworkRecord) -> None:
        for attachment in record.endpoints.values():
            self._unclaim(attachment)
        self.by_index.pop(record.index, None)
        self._names.pop(record.description.name, None)


def _bind(endpoint: Endpoint, record: NetworkRecord, switches: Mapping[int, SwitchView]) -> Attachment:
    dpid = parse_switch(endpoint.switch)
    switch = switches.get(dpid)
    if len(endpoint.ports) > 1:
        attachment = Attachment(endpoint, dpid, None, record)
        if switch is not None and switch.known:
            _find_ports(attachment, switch)
        return attachment
    port = switch.number_of(endpoint.port) if switch is not None and switch.known else None
    if port is None and endpoint.port.isascii() and endpoint.port.isdigit():
        # A port given by number needs no look-up: only its spelling is made canonical.
        endpoint = endpoint.changed(port=_canonical(endpoint.port))
    return Attachment(endpoint, dpid, port, record)


def _canonical(port: str) -> str:
    """A port given by number in its usual spelling ("7" for "007")."""
    return str(int(port)) if port.isascii() and port.isdigit() else port


def _find_ports(attachment: Attachment, switch: SwitchView) -> None:
    """Bind an endpoint to the ports that its switch has."""
    if not attachment.is_aggregate:
        attachment.port = switch.number_of(attachment.endpoint.port)
        return
    found = {name: switch.number_of(name) for name in attachment.endpoint.ports}
    attachment.members = tuple(sorted({number for number in found.values() if number is not None}))
    attachment.absent = tuple(_canonical(name) for name, number in found.items() if number is None)
    attachment.port = min(attachment.members, default=None)


def _overlapping(attachment: Attachment, network: VirtualNetwork, other: Endpoint) -> EndpointClaimed:
    return EndpointClaimed(
        f"endpoint {attachment.uuid}: {attachment.endpoint.place} shares a port with endpoint {other.uuid} "
        f"({other.place}): endpoints of one network that share a port have the same ports",
        network=network.uuid,
        endpoint=other.uuid,
    )


def _claimed(attachment: Attachment, holder: VirtualNetwork, endpoint: Endpoint) -> EndpointClaimed:
    return EndpointClaimed(
        f"endpoint {attachment.endpoint.uuid}: {attachment.endpoint.place} belongs to endpoint "
        f"{endpoint.uuid} of "
        f"network {holder.name} (uuid {holder.uuid}) already: use another port or tag, "
        "or remove that endpoint first",
        network=holder.uuid,
        endpoint=endpoint.uuid,
    )
