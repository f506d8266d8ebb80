"""Rules of networks that are one router.

The ingress switch decides which endpoint a packet leaves at and takes one from its TTL; the egress switch
knows the neighbours there, and gives the packet its MAC addresses. So a switch holds a rule per prefix of
the whole network, and one per neighbour at its own endpoints only: a host that comes, moves or goes
changes one switch. What is for the router itself, and what has no rule yet, goes to the controller.

Within a network and an IP version, the longest prefix wins by priority (:func:`_rank`).
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from ipaddress import ip_network
from typing import NamedTuple

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import Flow, Order, PlacedEntry
from libnetvirt.controller.dataplane.pipeline import Kind, Table
from libnetvirt.controller.intent.addressing import (
    LINK_LOCAL,
    NO_SOURCE,
    AnyNetwork,
    families,
    reserved,
)
from libnetvirt.controller.intent.labels import Labels
from libnetvirt.controller.intent.locator import Host
from libnetvirt.controller.intent.neighbours import Neighbour
from libnetvirt.controller.intent.rulesdb import Attachment, NetworkRecord
from libnetvirt.controller.rules.encapsulation import TUNNELLINGS, deliver
from libnetvirt.controller.rules.instructions import apply, only, service
from libnetvirt.controller.rules.transport import Transports
from libnetvirt.model import Endpoint, Forwarding
from libnetvirt.model.gateway import gateway_mac
from libnetvirt.openflow.nicira import check_pkt_larger
from libnetvirt.packet import BROADCAST, ETH_ARP, ETH_IPV4, ETH_IPV6, ETHERNET_LENGTH, PROTO_ICMPV6

ETHERTYPES = {4: ETH_IPV4, 6: ETH_IPV6}
_SOURCES = {4: "ipv4_src", 6: "ipv6_src"}
_DESTINATIONS = {4: "ipv4_dst", 6: "ipv6_dst"}
_MULTICAST6 = (0x3333 << 32, 0xFFFF << 32)
_DISCOVERY = (135, 136)
_UP = apply(of.Output(of.Port.CONTROLLER, of.CONTROLLER_NO_BUFFER))
_UNTUNNELLED = pipeline.METADATA_SIDE
_LARGE = 1 << pipeline.METADATA_LARGE


class Rank(IntEnum):
    """What goes before what within one prefix. The odd ones: back through the port a packet came in at."""

    ROUTE = 0
    ROUTE_KNOWN = 2  # through a neighbour that is known
    PREFIX = 4
    NEIGHBOUR = 6


def _rank(length: int, rank: Rank) -> int:
    return 1000 + 8 * length + rank


def is_routed(entry: NetworkRecord) -> bool:
    """Whether the network is one router."""
    return entry.description.forwarding is Forwarding.L3


def gateway_of(entry: NetworkRecord) -> int:
    """The network's own MAC address."""
    return int.from_bytes(gateway_mac(entry.uuid))


def to_prefix(net: AnyNetwork, **fields: int | tuple[int, int]) -> of.Match:
    """Matches packets to a prefix."""
    return _within(net, _DESTINATIONS, **fields)


def _from(net: AnyNetwork, **fields: int | tuple[int, int]) -> of.Match:
    """Matches packets from a prefix."""
    return _within(net, _SOURCES, **fields)


def _within(net: AnyNetwork, names: dict[int, str], **fields: int | tuple[int, int]) -> of.Match:
    where = (int(net.network_address), int(net.netmask))
    return of.Match(**fields, eth_type=ETHERTYPES[net.version], **{names[net.version]: where})


def _untaken() -> Iterator[tuple[Table, int, of.Match]]:
    """(table, priority, match) of what no router takes, whatever its network is."""
    for version, prefixes in NO_SOURCE.items():
        local = ip_network(LINK_LOCAL[version])
        yield Table.ROUTE, 5000, _from(local)
        for text in prefixes:
            yield Table.GATEWAY, 300, _from(ip_network(text))
        for text in (*prefixes, LINK_LOCAL[version]):
            yield Table.ROUTE, 4000, to_prefix(ip_network(text))


class Routing:
    """Compiles the units of routed networks."""

    def __init__(self, labels: Labels, transports: Transports, link_mtu: int) -> None:
        self._labels = labels
        self._transports = transports
        self._link_mtu = link_mtu

    def mtu(self, entry: NetworkRecord) -> int:
        """Octets of the largest packet that fits into the network's tunnels."""
        return self._link_mtu - (TUNNELLINGS[entry.tunnel].cost if entry.tunnel else 0)

    def base(self, dpid: int) -> Iterator[PlacedEntry]:
        """What every switch drops, whether or not it has networks."""
        cookie = pipeline.cookie(0, Kind.BASE)
        for table, priority, match in _untaken():
            yield PlacedEntry(dpid, Order.RECEIVE, Flow(table, priority, match, (), cookie))

    def gateway(self, entry: NetworkRecord, dpid: int) -> Iterator[PlacedEntry]:
        """What a network has on each of its switches, whatever its addresses are."""
        index, own = entry.index, gateway_of(entry)
        cookie = pipeline.cookie(index, Kind.GATEWAY)
        entering = (index << 32, _UNTUNNELLED)

        def rule(
            table: Table, priority: int, *then: of.Instruction, **match: int | tuple[int, int]
        ) -> PlacedEntry:
            found = of.Match(metadata=entering, **match)
            return PlacedEntry(dpid, Order.SEND, Flow(table, priority, found, then, cookie))

        yield rule(Table.SOURCE, 200, eth_src=own)
        yield rule(Table.SOURCE, 1, of.GotoTable(Table.GATEWAY))
        for to in (own, int.from_bytes(BROADCAST)):
            yield rule(Table.GATEWAY, 400, _UP, eth_type=ETH_ARP, eth_dst=to)
        everybody = ip_network("ff00::/8")
        for kind in _DISCOVERY:
            for target in (own, _MULTICAST6):
                group = to_prefix(
                    everybody, metadata=entering, eth_dst=target, ip_proto=PROTO_ICMPV6, icmpv6_type=kind
                )
                yield PlacedEntry(dpid, Order.SEND, Flow(Table.GATEWAY, 350, group, (_UP,), cookie))
        for ethertype in ETHERTYPES.values():
            yield rule(Table.GATEWAY, 100, of.GotoTable(Table.ROUTE), eth_type=ethertype, eth_dst=own)
            yield rule(Table.ROUTE, 1, _UP, eth_type=ethertype)
        if len(entry.by_switch) > 1 and entry.tunnel is not None:
            large = (index << 32 | _LARGE, _UNTUNNELLED | _LARGE)
            flow = Flow(Table.ONWARD, 5000, of.Match(metadata=large), (_UP,), cookie)
            yield PlacedEntry(dpid, Order.SEND, flow)
            yield service(self._labels, entry, entry.tunnel, dpid, Table.NEIGHBOUR)

    def endpoint(self, attachment: Attachment) -> Iterator[PlacedEntry]:
        """At an endpoint without addresses of an IP version, that version goes nowhere."""
        if attachment.port is None:
            return
        index = attachment.network.index
        here = {"in_port": attachment.port, "metadata": attachment.entered}
        missing = [t for v, t in ETHERTYPES.items() if v not in families(attachment.endpoint)]
        for ethertype in (*missing, *((ETH_ARP,) if ETH_IPV4 in missing else ())):
            flow = Flow(
                Table.SOURCE,
                150,
                of.Match(**here, eth_type=ethertype),
                (),
                pipeline.cookie(index, Kind.GATEWAY),
            )
            yield PlacedEntry(attachment.dpid, Order.SEND, flow)

    def host(self, entry: NetworkRecord, host: Host) -> Iterator[PlacedEntry]:
        """Where a declared host may send from: its own endpoint, and no other."""
        attachment = entry.endpoints.get(host.endpoint)
        if attachment is None:
            return
        cookie = pipeline.cookie(entry.index, Kind.DECLARED)
        if attachment.port is not None:
            match = of.Match(in_port=attachment.port, metadata=attachment.entered, eth_src=host.mac)
            flow = Flow(Table.SOURCE, 100, match, (of.GotoTable(Table.GATEWAY),), cookie)
            yield PlacedEntry(attachment.dpid, Order.ADMIT, flow)
        match = of.Match(metadata=(entry.index << 32, pipeline.METADATA_NETWORK), eth_src=host.mac)
        for dpid in entry.by_switch:
            yield PlacedEntry(dpid, Order.ADMIT, Flow(Table.SOURCE, 10, match, (), cookie))

    def prefixes(self, attachment: Attachment, dpid: int, measures: bool) -> Iterator[PlacedEntry]:
        """What an endpoint's addresses and routes make of packets, on a switch of the network.

        ``measures``: whether the switch can tell packets that are too large for a tunnel.
        """
        entry, e = attachment.network, attachment.endpoint
        cookie = pipeline.cookie(entry.index, Kind.GATEWAY)
        for a in e.address:
            yield from self._own(entry, dpid, ip_network(a.ip), a.network, cookie)
        for net, priority in reached(e):
            if dpid == attachment.dpid:
                yield from self._here(entry, dpid, net, priority, cookie)
            else:
                yield from self._elsewhere(attachment, dpid, net, priority, measures)

    def _own(
        self, entry: NetworkRecord, dpid: int, own: AnyNetwork, net: AnyNetwork, cookie: int
    ) -> Iterator[PlacedEntry]:
        entering = (entry.index << 32, _UNTUNNELLED)
        drops = [(Table.GATEWAY, 300, _from(own, metadata=entering))]
        for address in map(ip_network, reserved(net)):
            drops += [
                (Table.GATEWAY, 300, _from(address, metadata=entering)),
                (Table.ROUTE, 4000, to_prefix(address, metadata=entering)),
            ]
        for table, priority, match in drops:
            yield PlacedEntry(dpid, Order.SEND, Flow(table, priority, match, (), cookie))
        here = to_prefix(own, metadata=entering, eth_dst=gateway_of(entry))
        yield PlacedEntry(dpid, Order.SEND, Flow(Table.GATEWAY, 200, here, (_UP,), cookie))

    def _here(
        self, entry: NetworkRecord, dpid: int, net: AnyNetwork, priority: int, cookie: int
    ) -> Iterator[PlacedEntry]:
        """The way to a prefix at an endpoint of this switch."""
        anywhere = to_prefix(net, metadata=(entry.index << 32, pipeline.METADATA_NETWORK))
        asking = Flow(Table.NEIGHBOUR, priority, anywhere, (_UP,), cookie)
        yield PlacedEntry(dpid, Order.RECEIVE, asking)
        match = to_prefix(net, metadata=(entry.index << 32, _UNTUNNELLED))
        onward = (apply(of.DecNwTtl()), of.GotoTable(Table.NEIGHBOUR))
        yield PlacedEntry(dpid, Order.SEND, Flow(Table.ROUTE, priority, match, onward, cookie))

    def _elsewhere(
        self, attachment: Attachment, dpid: int, net: AnyNetwork, priority: int, measures: bool
    ) -> Iterator[PlacedEntry]:
        """The way to a prefix at an endpoint of another switch."""
        entry = attachment.network
        cookie = pipeline.cookie(entry.index, Kind.GATEWAY)
        match = to_prefix(net, metadata=(entry.index << 32, _UNTUNNELLED))
        # Only what goes into a tunnel is measured: Open vSwitch counts a packet twice after that.
        octets = self.mtu(entry) + ETHERNET_LENGTH
        limit = (check_pkt_larger(octets, pipeline.METADATA_LARGE),) if measures else ()
        then = (*only(*limit), of.GotoTable(Table.ONWARD))
        yield PlacedEntry(dpid, Order.SEND, Flow(Table.ROUTE, priority, match, then, cookie))
        transport = self._transports.find(entry, dpid, attachment.dpid)
        enter = (apply(of.DecNwTtl(), *(transport.ingress_actions if transport else ())),)
        yield PlacedEntry(dpid, Order.SEND, Flow(Table.ONWARD, priority, match, enter, cookie))

    def neighbour(self, attachment: Attachment, neighbour: Neighbour) -> Iterator[PlacedEntry]:
        """What leads to a known neighbour, and to the networks behind it."""
        if attachment.port is None or neighbour.mac is None:
            return
        index = attachment.network.index
        cookie = pipeline.cookie(index, Kind.NEIGHBOUR)
        network = (index << 32, pipeline.METADATA_NETWORK)
        addressed = (
            of.SetField("eth_src", gateway_of(attachment.network)),
            of.SetField("eth_dst", int.from_bytes(neighbour.mac)),
        )
        for net, priority in _behind(attachment.endpoint, neighbour.address):
            then = (apply(*addressed, *deliver(attachment)),)
            flow = Flow(Table.NEIGHBOUR, priority, to_prefix(net, metadata=network), then, cookie)
            yield PlacedEntry(attachment.dpid, Order.RECEIVE, flow)
            # A switch sends nothing back by itself, and a router may have to.
            match = to_prefix(net, metadata=network, in_port=attachment.port)
            then = (apply(*addressed, *deliver(attachment, attachment.port)),)
            flow = Flow(Table.NEIGHBOUR, priority + 1, match, then, cookie)
            yield PlacedEntry(attachment.dpid, Order.RECEIVE, flow)

    def unanswered(self, attachment: Attachment, neighbour: Neighbour, seconds: int) -> Iterator[Flow]:
        """For a while, send nothing more to the controller that waits for a neighbour. What leads to the
        neighbour takes the place of these rules."""
        index = attachment.network.index
        network = (index << 32, pipeline.METADATA_NETWORK)
        for net, priority in _behind(attachment.endpoint, neighbour.address):
            match = to_prefix(net, metadata=network)
            yield Flow(Table.NEIGHBOUR, priority, match, (), pipeline.cookie(index, Kind.QUIET), hard=seconds)

    def nowhere(self, attachment: Attachment, seconds: int) -> Flow:
        """For a while, send nothing of an endpoint to the controller that has no route."""
        assert attachment.port is not None
        index = attachment.network.index
        match = of.Match(in_port=attachment.port, metadata=attachment.entered)
        return Flow(Table.ROUTE, 2, match, (), pipeline.cookie(index, Kind.QUIET), hard=seconds)


def reached(endpoint: Endpoint) -> Iterator[tuple[AnyNetwork, int]]:
    """(prefix, priority) of what is reached at an endpoint, whichever host it is. The next priority is free
    where packets enter."""
    for net in dict.fromkeys(a.network for a in endpoint.address):
        yield net, _rank(net.prefixlen, Rank.PREFIX)
    for route in endpoint.route:
        yield route.prefix, _rank(route.prefix.prefixlen, Rank.ROUTE)


def _behind(endpoint: Endpoint, address: bytes) -> Iterator[tuple[AnyNetwork, int]]:
    """(prefix, priority) of what is reached through a neighbour: itself, and static routes."""
    host = ip_network(address)
    net = next((a.network for a in endpoint.address if host.network_address in a.network), None)
    if net is not None:
        yield host, _rank(net.prefixlen, Rank.NEIGHBOUR)
    for route in endpoint.route:
        if route.via.packed == address:
            yield route.prefix, _rank(route.prefix.prefixlen, Rank.ROUTE_KNOWN)


class Adopted(NamedTuple):
    """A neighbour as its rule tells of it."""

    address: bytes
    mac: bytes


def adopted(flow: of.FlowStatsEntry) -> Adopted | None:
    """The neighbour that a rule of :meth:`Routing.neighbour` leads to; None of a rule for what is behind."""
    if (flow.priority - _rank(0, Rank.NEIGHBOUR)) % 8 > 1:
        return None
    for version, field in _DESTINATIONS.items():
        address = flow.match.get(field)
        if not isinstance(address, int):
            continue  # a prefix, or another IP version
        for instruction in flow.instructions:
            for action in instruction.actions if isinstance(instruction, of.ApplyActions) else ():
                if isinstance(action, of.SetField) and action.name == "eth_dst":
                    return Adopted(address.to_bytes(4 if version == 4 else 16), action.value.to_bytes(6))
    return None
