"""L3: the network as one router."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from libnetvirt.model import Endpoint, VirtualNetwork
from libnetvirt.model.gateway import gateway_mac
from libnetvirt.packet import (
    BROADCAST,
    ETH_ARP,
    ETH_IPV4,
    ETH_IPV6,
    IP,
    PROTO_ICMP,
    PROTO_ICMPV6,
    PROTO_TCP,
    PROTO_UDP,
    Ethernet,
    PacketError,
    decrement_ttl,
    ethernet,
    is_group,
    parse_ethernet,
    parse_ip,
)
from libnetvirt.packet.icmp_replies import (
    NO_ROUTE,
    PORT_UNREACHABLE,
    PROTOCOL_UNREACHABLE,
    TIME_EXCEEDED,
    IcmpError,
    echo_reply,
    icmp_error,
)
from libnetvirt.semantics.knowledge import Learned
from libnetvirt.semantics.neighbour import ask, hear_arp, hear_neighbour, is_discovery
from libnetvirt.semantics.outcome import Drop, Dropped, Output

_LIMITED_BROADCAST = b"\xff" * 4


Work = tuple[tuple[Output, ...], Learned, Drop | None]


@dataclass(frozen=True, slots=True)
class _Arrival:
    """An IP packet, where it came in, and what is needed to handle it."""

    network: VirtualNetwork
    endpoint: Endpoint
    gateway: bytes
    frame: Ethernet
    ip: IP

    def back(self, packet: bytes) -> Output:
        """A packet to the arrived one's source: to the MAC and endpoint it came from."""
        return self.endpoint.uuid, ethernet(self.frame.source, self.gateway, self.frame.ethertype, packet)

    def own_address(self) -> bytes:
        """The endpoint's address that the packet's source sees: on its own prefix, if there is one."""
        source = ip_address(self.ip.source)
        own = [a for a in self.endpoint.address if a.version == self.ip.version]
        return next((a for a in own if source in a.network), own[0]).ip.packed

    def error(self, fault: IcmpError, source: bytes | None = None) -> tuple[Output, ...]:
        """The ICMP error about the packet, unless there must be none."""
        error = icmp_error(fault, self.ip, self.frame.payload, source or self.own_address())
        return () if error is None else (self.back(error),)


def route(network: VirtualNetwork, endpoint: Endpoint, learned: Learned, limit: int, frame: bytes) -> Work:
    """Handle an untagged frame whose source may be at this endpoint. Raises Dropped, PacketError."""
    packet = parse_ethernet(frame)
    gateway = gateway_mac(network.uuid)
    if packet.source == gateway:
        raise Dropped(Drop.GATEWAY)
    if packet.ethertype == ETH_ARP:
        if packet.destination not in (gateway, BROADCAST):
            raise Dropped(Drop.NOT_MINE)
        outputs, learned = hear_arp(endpoint, gateway, learned, limit, packet)
        return outputs, learned, None if outputs else Drop.UNANSWERED
    if packet.ethertype not in (ETH_IPV4, ETH_IPV6):
        raise Dropped(Drop.PROTOCOL)
    if packet.destination != gateway and packet.destination[:2] != b"\x33\x33":
        raise Dropped(Drop.NOT_MINE)
    ip = parse_ip(packet.payload)
    if ip.version != (4 if packet.ethertype == ETH_IPV4 else 6):
        raise PacketError("the IP version is not the frame's")
    if not any(a.version == ip.version for a in endpoint.address):
        raise Dropped(Drop.FAMILY)
    if is_discovery(endpoint, ip):
        outputs, learned = hear_neighbour(endpoint, gateway, learned, limit, packet, ip)
        return outputs, learned, None if outputs else Drop.UNANSWERED
    if is_group(packet.destination):
        raise Dropped(Drop.NOT_MINE)
    return _handle(_Arrival(network, endpoint, gateway, packet, ip), learned, limit)


def _handle(arrival: _Arrival, learned: Learned, limit: int) -> Work:
    network, ip = arrival.network, arrival.ip
    source, destination = ip_address(ip.source), ip_address(ip.destination)
    own = {a.ip for e in network.endpoints for a in e.address}
    if source in own or _is_no_host(network, source):
        raise Dropped(Drop.MARTIAN)
    if destination in own:
        outputs = _answer(arrival)
        return outputs, learned, None if outputs else Drop.UNANSWERED
    if source.is_link_local or destination.is_link_local or _is_no_host(network, destination):
        raise Dropped(Drop.NOT_ROUTED)
    found = _next_hop(network, destination)
    if found is None or found[1] in own:
        outputs = arrival.error(NO_ROUTE)
        return outputs, learned, None if outputs else Drop.UNANSWERED
    if ip.ttl <= 1:
        outputs = arrival.error(TIME_EXCEEDED)
        return outputs, learned, None if outputs else Drop.UNANSWERED
    egress, neighbour = found
    packet = decrement_ttl(arrival.frame.payload)
    near = (egress.uuid, neighbour.packed)
    mac = learned.neighbours.get(near)
    if mac is not None:
        out = ethernet(mac, arrival.gateway, arrival.frame.ethertype, packet)
        return ((egress.uuid, out),), learned, None
    return (
        (ask(egress, arrival.gateway, neighbour),),
        learned.with_waiting(near, packet, limit),
        None,
    )


def _is_no_host(network: VirtualNetwork, address: IPv4Address | IPv6Address) -> bool:
    """Is it a group's, a loop's or no address at all (RFC 1812 sections 4.2.2.11 and 5.3.7)?"""
    if address.is_multicast or address.is_loopback or address.is_unspecified:
        return True
    if isinstance(address, IPv4Address) and (address.packed[0] == 0 or address.packed == _LIMITED_BROADCAST):
        return True
    for e in network.endpoints:
        for a in e.address:
            net = a.network
            # A /31 (RFC 3021) and a /127 (RFC 6164) have two hosts and nothing else.
            if a.version == address.version and net.prefixlen < net.max_prefixlen - 1:
                if address == net.network_address:
                    return True
                if address.version == 4 and address == net.broadcast_address:
                    return True
    return False


def _answer(arrival: _Arrival) -> tuple[Output, ...]:
    """What the network itself says to a packet for one of its addresses."""
    ip = arrival.ip
    if ip.fragment:
        return ()
    if ip.protocol == (PROTO_ICMP if ip.version == 4 else PROTO_ICMPV6):
        reply = echo_reply(ip)
        return () if reply is None else (arrival.back(reply),)
    if ip.protocol in (PROTO_UDP, PROTO_TCP):
        return arrival.error(PORT_UNREACHABLE, ip.destination)
    # The pointer is right only where the protocol is in the fixed header.
    return () if ip.extensions else arrival.error(PROTOCOL_UNREACHABLE, ip.destination)


def _next_hop(
    network: VirtualNetwork, destination: IPv4Address | IPv6Address
) -> tuple[Endpoint, IPv4Address | IPv6Address] | None:
    """The endpoint to leave at and the neighbour to send to: longest prefix, connected first."""
    best: tuple[int, bool] = (-1, False)
    found: tuple[Endpoint, IPv4Address | IPv6Address] | None = None
    for e in network.endpoints:
        for a in e.address:
            rank = (a.network.prefixlen, True)
            if rank > best and destination in a.network:
                best, found = rank, (e, destination)
        for r in e.route:
            rank = (r.prefix.prefixlen, False)
            if rank > best and destination in r.prefix:
                best, found = rank, (e, r.via)
    return found
