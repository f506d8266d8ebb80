"""RulesDB: what was asked for, and which (switch, port, tag) belongs to which endpoint.

Pure and in memory; the store keeps it durable. Switches are datapath ids (int), ports OpenFlow port
numbers where they are known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from libnetvirt.controller.dataplane.pipeline import (
    FLOOD_CHUNKS,
    MAX_NETWORKS,
    entered,
    tag_code,
)
from libnetvirt.controller.intent.switches import SwitchView, parse_switch
from libnetvirt.controller.intent.token_bucket import TokenBucket
from libnetvirt.errors import EndpointClaimed, LabelsExhausted
from libnetvirt.model import Encapsulation, Endpoint, Insertion, Rules, VirtualNetwork

#: datapath id, port (its number, or its name while that is not known) and tag (see `pipeline.tag_code`)
AttachmentPoint = tuple[int, int | str, int]


@dataclass(slots=True)
class Attachment:
    """An endpoint bound to a point. ``port`` is None while the switch's ports are not known."""

    endpoint: Endpoint
    dpid: int
    port: int | None
    network: NetworkRecord
    tokens: TokenBucket = field(default_factory=TokenBucket)
    #: ICMP errors that it may still get
    errors: TokenBucket = field(default_factory=TokenBucket)
    #: what the reactive part keeps ready for its frames
    flow_cache: Any = None
    #: the endpoint's
    uuid: str = ""

    def __post_init__(self) -> None:
        self.uuid = self.endpoint.uuid

    @property
    def point(self) -> AttachmentPoint:
        """What only one endpoint can hold."""
        port = self.endpoint.port if self.port is None else self.port
        return (self.dpid, port, tag_code(self.endpoint.vlan, self.endpoint.mpls))

    @property
    def entered(self) -> int:
        """The metadata of a frame that entered here."""
        return entered(self.network.index, self.endpoint.vlan, self.endpoint.mpls)

    @property
    def slot(self) -> int:
        """Which of the `FLOOD_CHUNKS` slots of flood groups it is in: a hash of port and tag."""
        assert self.port is not None
        code = self.port * 0x9E3779B1 + (self.endpoint.vlan or 0) * 0x85EBCA6B
        return (code >> 7) % FLOOD_CHUNKS


@dataclass(slots=True)
class NetworkRecord:
    """A network in the RulesDB. ``index`` stands for it in cookies, metadata and group numbers."""

    description: VirtualNetwork
    index: int
    rules: Rules
    endpoints: dict[str, Attachment] = field(default_factory=dict)
    by_switch: dict[int, dict[str, Attachment]] = field(default_factory=dict)
    by_port: dict[tuple[int, int], dict[str, Attachment]] = field(default_factory=dict)
    #: per switch, the ports with several endpoints
    shared_ports: dict[int, set[int]] = field(default_factory=dict)
    #: per switch, the endpoints with an mpls label
    labelled: dict[int, dict[str, Attachment]] = field(default_factory=dict)
    #: per switch and slot, the other endpoints whose port is known: what a flood group is made of
    by_slot: dict[tuple[int, int], dict[str, Attachment]] = field(default_factory=dict)
    uuid: str = ""
    tokens: TokenBucket = field(default_factory=TokenBucket)
    #: the turn in which it was served last, and what it may still have of it
    fair_round: int = -1
    quantum_left: int = 0
    #: whether rules come pair by pair, when a packet asks for them
    on_demand: bool = False

    def __post_init__(self) -> None:
        self.uuid = self.description.uuid
        self.on_demand = self.rules.insertion is Insertion.ON_DEMAND

    @property
    def tunnel(self) -> Encapsulation | None:
        """The kind of tunnel that frames take between switches; None if they travel as they are."""
        encapsulation = self.rules.encapsulation
        return None if encapsulation is Encapsulation.NATIVE else encapsulation

    @property
    def uses_labels(self) -> bool:
        """Whether frames are put into mpls labels, in tunnels or at endpoints."""
        return self.tunnel is Encapsulation.MPLS or bool(self.labelled)

    @property
    def floods(self) -> bool:
        """Whether switches replicate frames for everybody; else the controller does."""
        return self.tunnel is not None and not self.on_demand

    def on(self, dpid: int) -> Collection[Attachment]:
        """The endpoints on a switch."""
        return self.by_switch.get(dpid, {}).values()

    def siblings(self, attachment: Attachment) -> list[Attachment]:
        """The other endpoints of the network on the same port, with other tags."""
        if attachment.port is None:
            return []
        found = self.by_port.get((attachment.dpid, attachment.port), {})
        return [b for b in found.values() if b is not attachment]

    def add(self, attachment: Attachment) -> None:
        """Add an endpoint."""
        uuid = attachment.endpoint.uuid
        self.endpoints[uuid] = attachment
        self.by_switch.setdefault(attachment.dpid, {})[uuid] = attachment
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
        """Remove an endpoint."""
        attachment = self.endpoints.pop(uuid, None)
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
    """The networks, and one dictionary look-up from (datapath, port, tag) to endpoint and network."""

    def __init__(self) -> None:
        self.networks: dict[str, NetworkRecord] = {}
        self.by_index: dict[int, NetworkRecord] = {}
        self.by_point: dict[AttachmentPoint, Attachment] = {}
        self.ports: dict[tuple[int, int], int] = {}  # (datapath, port) -> endpoints on it
        self.unbound: Counter[int] = Counter()  # datapath -> endpoints that wait for their port
        self._names: dict[str, str] = {}
        self._positions: dict[str, int] = {}
        self._count = 0

    def __iter__(self) -> Iterator[NetworkRecord]:
        return iter(self.networks.values())

    def find(self, key: str) -> NetworkRecord | None:
        """The network with this uuid, or else this name."""
        return self.networks.get(key.lower()) or self.networks.get(self._names.get(key, ""))

    def at(self, dpid: int, port: int, tag: int) -> Attachment | None:
        """The endpoint that holds this place (``tag`` as :func:`layout.tag_code` makes it)."""
        return self.by_point.get((dpid, port, tag))

    def holds_port(self, dpid: int, port: int) -> bool:
        """Whether any endpoint is on this port."""
        return (dpid, port) in self.ports

    def free_index(self, last: int) -> int:
        """The next index after the last one given that no network has. Raises LabelsExhausted."""
        for step in range(MAX_NETWORKS):
            index = (last + step) % MAX_NETWORKS + 1
            if index not in self.by_index:
                return index
        raise LabelsExhausted(f"{MAX_NETWORKS} networks exist: no number is left for one more")

    def check(
        self, network: VirtualNetwork, touched: Collection[str], switches: Mapping[int, SwitchView]
    ) -> None:
        """Raise EndpointClaimed if the place of a touched endpoint belongs to another endpoint."""
        record = self.networks.get(network.uuid) or NetworkRecord(network, 0, Rules())
        seen: dict[AttachmentPoint, Attachment] = {}
        for endpoint in network.select(touched):
            attachment = _bind(endpoint, record, switches)
            holder = seen.get(attachment.point) or self._holder(attachment)
            if holder is not None:
                ours = holder.network.uuid == network.uuid
                if not ours or holder.endpoint.uuid not in touched or attachment.point in seen:
                    raise _claimed(
                        attachment, network if ours else holder.network.description, holder.endpoint
                    )
            seen[attachment.point] = attachment

    def _holder(self, attachment: Attachment) -> Attachment | None:
        """Who holds an endpoint's place, by number or by the text of a port that was not there yet."""
        dpid, port, tag = attachment.point
        if isinstance(port, int):
            return self.by_point.get(attachment.point) or self.by_point.get((dpid, str(port), tag))
        number = int(port) if port.isascii() and port.isdigit() else None
        by_number = self.by_point.get((dpid, number, tag)) if number is not None else None
        return self.by_point.get(attachment.point) or by_number

    def add(
        self, network: VirtualNetwork, index: int, rules: Rules, switches: Mapping[int, SwitchView]
    ) -> NetworkRecord:
        """Insert a network."""
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
        """Make a network be as described; only ``touched`` endpoints differ. Returns what they were."""
        before = []
        for uuid in touched:
            old = record.remove(uuid)
            if old is not None:
                self._unclaim(old)
                before.append(old)
        for endpoint in network.select(touched):
            self._insert(_bind(endpoint, record, switches))
        self._names.pop(record.description.name, None)
        self._names[network.name] = network.uuid
        record.description = network
        return before

    def remove(self, uuid: str) -> NetworkRecord:
        """Remove a network."""
        record = self.networks.pop(uuid)
        self._release(record)
        return record

    def release_position(self, uuid: str) -> None:
        """The network's removal is final: its position in the order of creation is lost."""
        self._positions.pop(uuid, None)

    def ordered(self) -> list[NetworkRecord]:
        """The networks by creation."""
        return sorted(self, key=lambda record: self._positions[record.uuid])

    def bind_ports(self, switch: SwitchView) -> list[NetworkRecord]:
        """Bind the endpoints of a switch whose ports have become known or changed.

        Returns the networks with endpoints there. Of two endpoints that turn out to be at one point (one by
        port name, one by number), the later network's stays unbound.
        """
        affected = [record for record in self if record.on(switch.dpid)]
        attachments = [attachment for record in affected for attachment in record.on(switch.dpid)]
        # All let go first: ports may have changed numbers with one another.
        for attachment in attachments:
            attachment.network.remove(attachment.endpoint.uuid)
            self._unclaim(attachment)
        for attachment in attachments:
            attachment.port = switch.number_of(attachment.endpoint.port)
            if attachment.port is not None and attachment.point in self.by_point:
                attachment.port = None
            self._insert(attachment)
        return affected

    def _insert(self, attachment: Attachment) -> None:
        attachment.network.add(attachment)
        self._claim(attachment)

    def _claim(self, attachment: Attachment) -> None:
        self.by_point.setdefault(attachment.point, attachment)
        if attachment.port is None:
            self.unbound[attachment.dpid] += 1
        else:
            key = (attachment.dpid, attachment.port)
            self.ports[key] = self.ports.get(key, 0) + 1

    def _unclaim(self, attachment: Attachment) -> None:
        if self.by_point.get(attachment.point) is attachment:
            del self.by_point[attachment.point]
        if attachment.port is None:
            self.unbound[attachment.dpid] -= 1
        else:
            key = (attachment.dpid, attachment.port)
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
    port = switch.number_of(endpoint.port) if switch is not None and switch.known else None
    if port is None and endpoint.port.isascii() and endpoint.port.isdigit():
        # A number is a number, whether or not the switch has shown the port yet.
        endpoint = endpoint.changed(port=str(int(endpoint.port)))
    return Attachment(endpoint, dpid, port, record)


def _claimed(attachment: Attachment, holder: VirtualNetwork, endpoint: Endpoint) -> EndpointClaimed:
    return EndpointClaimed(
        f"endpoint {attachment.endpoint.uuid}: {attachment.endpoint.place} belongs to endpoint "
        f"{endpoint.uuid} of "
        f"network {holder.name} (uuid {holder.uuid}) already: use another port or tag, "
        "or remove that endpoint first"
    )
