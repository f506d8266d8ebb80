"""L3 forwarding: the network is one router, with an interface at each endpoint."""

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
from libnetvirt.semantics.learned_state import HostTables
from libnetvirt.semantics.neighbour import (
    is_neighbour_discovery,
    neighbour_request,
    process_arp,
    process_discovery,
)
from libnetvirt.semantics.outcome import DropReason, EndpointFrame, FrameDropped

_LIMITED_BROADCAST = b"\xff" * 4


RouterResult = tuple[tuple[EndpointFrame, ...], HostTables, DropReason | None]


@dataclass(frozen=True, slots=True)
class _ReceivedPacket:
    """A received IP packet: network, endpoint, the gateway's MAC address, frame and parsed header."""

    network: VirtualNetwork
    endpoint: Endpoint
    gateway: bytes
    frame: Ethernet
    ip: IP

    def reply(self, packet: bytes) -> EndpointFrame:
        """Return a frame with ``packet`` to the MAC address and endpoint of the received packet's sender."""
        return self.endpoint.uuid, ethernet(self.frame.source, self.gateway, self.frame.ethertype, packet)

    def own_address(self) -> bytes:
        """Return the endpoint's address on the source's prefix or, if there is none, its first address."""
        source = ip_address(self.ip.source)
        own = [a for a in self.endpoint.address if a.version == self.ip.version]
        return next((a for a in own if source in a.network), own[0]).ip.packed

    def error(self, kind: IcmpError, source: bytes | None = None) -> tuple[EndpointFrame, ...]:
        """Return the ICMP error about the packet; empty if no error may be sent about it."""
        error = icmp_error(kind, self.ip, self.frame.payload, source or self.own_address())
        return () if error is None else (self.reply(error),)


def route(
    network: VirtualNetwork, endpoint: Endpoint, tables: HostTables, limit: int, frame: bytes
) -> RouterResult:
    """Forward a frame whose tag is removed and whose source address is valid at this endpoint.

    Returns the frames that leave, the new tables, and the reason if nothing leaves. Raises FrameDropped,
    PacketError.
    """
    packet = parse_ethernet(frame)
    gateway = gateway_mac(network.uuid)
    if packet.source == gateway:
        raise FrameDropped(DropReason.FROM_GATEWAY)
    if packet.ethertype == ETH_ARP:
        if packet.destination not in (gateway, BROADCAST):
            raise FrameDropped(DropReason.NOT_FOR_GATEWAY)
        outputs, tables = process_arp(endpoint, gateway, tables, limit, packet)
        return outputs, tables, None if outputs else DropReason.NO_REPLY
    if packet.ethertype not in (ETH_IPV4, ETH_IPV6):
        raise FrameDropped(DropReason.OTHER_PROTOCOL)
    if packet.destination != gateway and packet.destination[:2] != b"\x33\x33":
        raise FrameDropped(DropReason.NOT_FOR_GATEWAY)
    ip = parse_ip(packet.payload)
    if ip.version != (4 if packet.ethertype == ETH_IPV4 else 6):
        raise PacketError("the IP version differs from the ethertype")
    if not any(a.version == ip.version for a in endpoint.address):
        raise FrameDropped(DropReason.NO_ADDRESS_OF_FAMILY)
    if is_neighbour_discovery(endpoint, ip):
        outputs, tables = process_discovery(endpoint, gateway, tables, limit, packet, ip)
        return outputs, tables, None if outputs else DropReason.NO_REPLY
    if is_group(packet.destination):
        raise FrameDropped(DropReason.NOT_FOR_GATEWAY)
    return _route_packet(_ReceivedPacket(network, endpoint, gateway, packet, ip), tables, limit)


def _route_packet(received: _ReceivedPacket, tables: HostTables, limit: int) -> RouterResult:
    network, ip = received.network, received.ip
    source, destination = ip_address(ip.source), ip_address(ip.destination)
    own = {a.ip for e in network.endpoints for a in e.address}
    if source in own or _is_not_a_host(network, source):
        raise FrameDropped(DropReason.MARTIAN)
    if destination in own:
        outputs = _reply_locally(received)
        return outputs, tables, None if outputs else DropReason.NO_REPLY
    if source.is_link_local or destination.is_link_local or _is_not_a_host(network, destination):
        raise FrameDropped(DropReason.NOT_ROUTED)
    found = next_hop(network, destination)
    if found is None or found[1] in own:
        outputs = received.error(NO_ROUTE)
        return outputs, tables, None if outputs else DropReason.NO_REPLY
    if ip.ttl <= 1:
        outputs = received.error(TIME_EXCEEDED)
        return outputs, tables, None if outputs else DropReason.NO_REPLY
    egress, neighbour = found
    packet = decrement_ttl(received.frame.payload)
    neighbour_key = (egress.uuid, neighbour.packed)
    mac = tables.neighbours.get(neighbour_key)
    if mac is not None:
        out = ethernet(mac, received.gateway, received.frame.ethertype, packet)
        return ((egress.uuid, out),), tables, None
    return (
        (neighbour_request(egress, received.gateway, neighbour),),
        tables.with_queued_packet(neighbour_key, packet, limit),
        None,
    )


def _is_not_a_host(network: VirtualNetwork, address: IPv4Address | IPv6Address) -> bool:
    """Whether no host can have the address: multicast, loopback, broadcast or zero.

    RFC 1812, sections 4.2.2.11 and 5.3.7.
    """
    if address.is_multicast or address.is_loopback or address.is_unspecified:
        return True
    if isinstance(address, IPv4Address) and (address.packed[0] == 0 or address.packed == _LIMITED_BROADCAST):
        return True
    for e in network.endpoints:
        for a in e.address:
            net = a.network
            # In a /31 (RFC 3021) and a /127 (RFC 6164) both addresses are hosts.
            if a.version == address.version and net.prefixlen < net.max_prefixlen - 1:
                if address == net.network_address:
                    return True
                if address.version == 4 and address == net.broadcast_address:
                    return True
    return False


def _reply_locally(received: _ReceivedPacket) -> tuple[EndpointFrame, ...]:
    """Return the router's reply to a packet for one of its addresses; empty if there is none."""
    ip = received.ip
    if ip.fragment:
        return ()
    if ip.protocol == (PROTO_ICMP if ip.version == 4 else PROTO_ICMPV6):
        reply = echo_reply(ip)
        return () if reply is None else (received.reply(reply),)
    if ip.protocol in (PROTO_UDP, PROTO_TCP):
        return received.error(PORT_UNREACHABLE, ip.destination)
    # The error's pointer is correct only if the protocol is in the fixed header.
    return () if ip.extensions else received.error(PROTOCOL_UNREACHABLE, ip.destination)


def next_hop(
    network: VirtualNetwork, destination: IPv4Address | IPv6Address
) -> tuple[Endpoint, IPv4Address | IPv6Address] | None:
    """Return the egress endpoint and the next hop's address; None if there is no route.

    The longest prefix wins, a connected one over a static one, an earlier endpoint over a later one.
    """
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
