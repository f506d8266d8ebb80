"""Routing: the rules of networks that are one router (``forwarding`` L3).

The ingress switch looks up the route, decrements the TTL and selects the egress endpoint. The egress switch
knows the neighbours there, and sets the MAC addresses. So each switch holds a rule for each prefix of the
network, but rules for neighbours only at its own endpoints: a host that appears, moves or disappears changes
one switch. Packets to the router itself, and packets that no rule handles, are sent to the controller
(`packetin.slow_path`).

The longest prefix wins because priorities grow with its length (:func:`_rank`). The tables are described in
`dataplane.pipeline`.
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
    MARTIANS,
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
    """Precedence of rules for the same prefix. The odd numbers in between are for rules that send a packet
    back out of the port that it came in at."""

    ROUTE = 0
    ROUTE_KNOWN = 2  # the route's next hop is a known neighbour
    PREFIX = 4
    NEIGHBOUR = 6


def _rank(length: int, rank: Rank) -> int:
    return 1000 + 8 * length + rank


def is_routed(record: NetworkRecord) -> bool:
    """Whether the network is one router."""
    return record.description.forwarding is Forwarding.L3


def gateway_of(record: NetworkRecord) -> int:
    """The MAC address of the network's router, as a number."""
    return int.from_bytes(gateway_mac(record.uuid))


def to_prefix(net: AnyNetwork, **fields: int | tuple[int, int]) -> of.Match:
    """A match for packets to a prefix."""
    return _within(net, _DESTINATIONS, **fields)


def _from(net: AnyNetwork, **fields: int | tuple[int, int]) -> of.Match:
    """A match for packets from a prefix."""
    return _within(net, _SOURCES, **fields)


def _within(net: AnyNetwork, names: dict[int, str], **fields: int | tuple[int, int]) -> of.Match:
    where = (int(net.network_address), int(net.netmask))
    return of.Match(**fields, eth_type=ETHERTYPES[net.version], **{names[net.version]: where})


def _martian_matches() -> Iterator[tuple[Table, int, of.Match]]:
    """(table, priority, match) for packets that no router forwards, whatever the network (RFC 1812, section
    5.3.7)."""
    for version, prefixes in MARTIANS.items():
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

    def mtu(self, record: NetworkRecord) -> int:
        """The largest packet, in bytes, that fits into the network's tunnels."""
        return self._link_mtu - (TUNNELLINGS[record.tunnel].overhead if record.tunnel else 0)

    def base(self, dpid: int) -> Iterator[PlacedEntry]:
        """The rules that every switch holds, with or without networks: they drop martian packets."""
        cookie = pipeline.cookie(0, Kind.BASE)
        for table, priority, match in _martian_matches():
            yield PlacedEntry(dpid, Order.RECEIVE, Flow(table, priority, match, (), cookie))

    def gateway(self, record: NetworkRecord, dpid: int) -> Iterator[PlacedEntry]:
        """The rules that a network has on each of its switches, whatever its addresses are."""
        index, own = record.index, gateway_of(record)
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
        if len(record.by_switch) > 1 and record.tunnel is not None:
            large = (index << 32 | _LARGE, _UNTUNNELLED | _LARGE)
            flow = Flow(Table.ONWARD, 5000, of.Match(metadata=large), (_UP,), cookie)
            yield PlacedEntry(dpid, Order.SEND, flow)
            yield service(self._labels, record, record.tunnel, dpid, Table.NEIGHBOUR)

    def endpoint(self, attachment: Attachment) -> Iterator[PlacedEntry]:
        """The rules that drop an IP version at an endpoint without addresses of that version."""
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

    def host(self, record: NetworkRecord, host: Host) -> Iterator[PlacedEntry]:
        """The rules of a declared host: it may send from its own endpoint, and not from others."""
        attachment = record.endpoints.get(host.endpoint)
        if attachment is None:
            return
        cookie = pipeline.cookie(record.index, Kind.DECLARED)
        if attachment.port is not None:
            match = of.Match(in_port=attachment.port, metadata=attachment.entered, eth_src=host.mac)
            flow = Flow(Table.SOURCE, 100, match, (of.GotoTable(Table.GATEWAY),), cookie)
            yield PlacedEntry(attachment.dpid, Order.ADMIT, flow)
        match = of.Match(metadata=(record.index << 32, pipeline.METADATA_NETWORK), eth_src=host.mac)
        for dpid in record.by_switch:
            yield PlacedEntry(dpid, Order.ADMIT, Flow(Table.SOURCE, 10, match, (), cookie))

    def prefixes(self, attachment: Attachment, dpid: int, checks_length: bool) -> Iterator[PlacedEntry]:
        """The rules for an endpoint's addresses and routes on one switch of the network.

        ``checks_length``: whether the switch can tell packets that are too large for a tunnel.
        """
        record, e = attachment.network, attachment.endpoint
        cookie = pipeline.cookie(record.index, Kind.GATEWAY)
        for a in e.address:
            yield from self._own(record, dpid, ip_network(a.ip), a.network, cookie)
        for net, priority in prefixes_at(e):
            if dpid == attachment.dpid:
                yield from self._here(record, dpid, net, priority, cookie)
            else:
                yield from self._elsewhere(attachment, dpid, net, priority, checks_length)

    def _own(
        self, record: NetworkRecord, dpid: int, own: AnyNetwork, net: AnyNetwork, cookie: int
    ) -> Iterator[PlacedEntry]:
        entering = (record.index << 32, _UNTUNNELLED)
        drops = [(Table.GATEWAY, 300, _from(own, metadata=entering))]
        for address in map(ip_network, reserved(net)):
            drops += [
                (Table.GATEWAY, 300, _from(address, metadata=entering)),
                (Table.ROUTE, 4000, to_prefix(address, metadata=entering)),
            ]
        for table, priority, match in drops:
            yield PlacedEntry(dpid, Order.SEND, Flow(table, priority, match, (), cookie))
        here = to_prefix(own, metadata=entering, eth_dst=gateway_of(record))
        yield PlacedEntry(dpid, Order.SEND, Flow(Table.GATEWAY, 200, here, (_UP,), cookie))

    def _here(
        self, record: NetworkRecord, dpid: int, net: AnyNetwork, priority: int, cookie: int
    ) -> Iterator[PlacedEntry]:
        """The rules for a prefix at an endpoint of this switch."""
        anywhere = to_prefix(net, metadata=(record.index << 32, pipeline.METADATA_NETWORK))
        asking = Flow(Table.NEIGHBOUR, priority, anywhere, (_UP,), cookie)
        yield PlacedEntry(dpid, Order.RECEIVE, asking)
        match = to_prefix(net, metadata=(record.index << 32, _UNTUNNELLED))
        onward = (apply(of.DecNwTtl()), of.GotoTable(Table.NEIGHBOUR))
        yield PlacedEntry(dpid, Order.SEND, Flow(Table.ROUTE, priority, match, onward, cookie))

    def _elsewhere(
        self, attachment: Attachment, dpid: int, net: AnyNetwork, priority: int, checks_length: bool
    ) -> Iterator[PlacedEntry]:
        """The rules for a prefix at an endpoint of another switch."""
        record = attachment.network
        cookie = pipeline.cookie(record.index, Kind.GATEWAY)
        match = to_prefix(net, metadata=(record.index << 32, _UNTUNNELLED))
        # Only packets that go into a tunnel are checked: Open vSwitch counts a packet twice after a check.
        size = self.mtu(record) + ETHERNET_LENGTH
        limit = (check_pkt_larger(size, pipeline.METADATA_LARGE),) if checks_length else ()
        then = (*only(*limit), of.GotoTable(Table.ONWARD))
        yield PlacedEntry(dpid, Order.SEND, Flow(Table.ROUTE, priority, match, then, cookie))
        transport = self._transports.find(record, dpid, attachment.dpid)
        enter = (apply(of.DecNwTtl(), *(transport.ingress_actions if transport else ())),)
        yield PlacedEntry(dpid, Order.SEND, Flow(Table.ONWARD, priority, match, enter, cookie))

    def neighbour(self, attachment: Attachment, neighbour: Neighbour) -> Iterator[PlacedEntry]:
        """The rules for a known neighbour, and for the static routes through it."""
        if attachment.port is None or neighbour.mac is None:
            return
        index = attachment.network.index
        cookie = pipeline.cookie(index, Kind.NEIGHBOUR)
        network = (index << 32, pipeline.METADATA_NETWORK)
        addressed = (
            of.SetField("eth_src", gateway_of(attachment.network)),
            of.SetField("eth_dst", int.from_bytes(neighbour.mac)),
        )
        for net, priority in _prefixes_via(attachment.endpoint, neighbour.address):
            then = (apply(*addressed, *deliver(attachment)),)
            flow = Flow(Table.NEIGHBOUR, priority, to_prefix(net, metadata=network), then, cookie)
            yield PlacedEntry(attachment.dpid, Order.RECEIVE, flow)
            # A switch does not output to the input port unless told so, and a router may have to.
            match = to_prefix(net, metadata=network, in_port=attachment.port)
            then = (apply(*addressed, *deliver(attachment, attachment.port)),)
            flow = Flow(Table.NEIGHBOUR, priority + 1, match, then, cookie)
            yield PlacedEntry(attachment.dpid, Order.RECEIVE, flow)

    def suppress_unresolved(
        self, attachment: Attachment, neighbour: Neighbour, seconds: int
    ) -> Iterator[Flow]:
        """Rules that drop packets to an incomplete neighbour for some seconds, instead of sending them to the
        controller. The rules of :meth:`neighbour` replace them."""
        index = attachment.network.index
        network = (index << 32, pipeline.METADATA_NETWORK)
        for net, priority in _prefixes_via(attachment.endpoint, neighbour.address):
            match = to_prefix(net, metadata=network)
            yield Flow(Table.NEIGHBOUR, priority, match, (), pipeline.cookie(index, Kind.QUIET), hard=seconds)

    def suppress_no_route(self, attachment: Attachment, seconds: int) -> Flow:
        """The rule that drops an endpoint's packets without a route for some seconds, instead of sending them
        to the controller."""
        assert attachment.port is not None
        index = attachment.network.index
        match = of.Match(in_port=attachment.port, metadata=attachment.entered)
        return Flow(Table.ROUTE, 2, match, (), pipeline.cookie(index, Kind.QUIET), hard=seconds)


def prefixes_at(endpoint: Endpoint) -> Iterator[tuple[AnyNetwork, int]]:
    """(prefix, priority) of the prefixes that are reached at an endpoint: on-link ones, and static routes.
    The priority above is free for steering rules at the ingress."""
    for net in dict.fromkeys(a.network for a in endpoint.address):
        yield net, _rank(net.prefixlen, Rank.PREFIX)
    for route in endpoint.route:
        yield route.prefix, _rank(route.prefix.prefixlen, Rank.ROUTE)


def connected_prefix(priority: int) -> bool:
    """Whether this is the priority of a rule for an on-link prefix."""
    return (priority - _rank(0, Rank.PREFIX)) % 8 == 0


def _prefixes_via(endpoint: Endpoint, address: bytes) -> Iterator[tuple[AnyNetwork, int]]:
    """(prefix, priority) of what is reached through a neighbour: its own address, and static routes."""
    host = ip_network(address)
    net = next((a.network for a in endpoint.address if host.network_address in a.network), None)
    if net is not None:
        yield host, _rank(net.prefixlen, Rank.NEIGHBOUR)
    for route in endpoint.route:
        if route.via.packed == address:
            yield route.prefix, _rank(route.prefix.prefixlen, Rank.ROUTE_KNOWN)


class RuleNeighbour(NamedTuple):
    """The IP and MAC address of a neighbour, read back from its rule."""

    address: bytes
    mac: bytes


def neighbour_of_rule(flow: of.FlowStatsEntry) -> RuleNeighbour | None:
    """The neighbour that a rule of :meth:`Routing.neighbour` leads to; None for a rule of a static route."""
    if (flow.priority - _rank(0, Rank.NEIGHBOUR)) % 8 > 1:
        return None
    for version, field in _DESTINATIONS.items():
        address = flow.match.get(field)
        if not isinstance(address, int):
            continue  # a prefix, or another IP version
        for instruction in flow.instructions:
            for action in instruction.actions if isinstance(instruction, of.ApplyActions) else ():
                if isinstance(action, of.SetField) and action.name == "eth_dst":
                    return RuleNeighbour(
                        address.to_bytes(4 if version == 4 else 16), action.value.to_bytes(6)
                    )
    return None
