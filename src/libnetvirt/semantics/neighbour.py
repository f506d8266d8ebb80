"""ARP (RFC 826) and IPv6 neighbour discovery (RFC 4861) of an L3 network.

The functions answer requests for the router's addresses, learn neighbours, and release the packets that are
queued for a neighbour when its MAC address becomes known.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

from libnetvirt.model import Endpoint
from libnetvirt.packet import (
    ARP,
    BROADCAST,
    ETH_IPV4,
    ETH_IPV6,
    IP,
    PROTO_ICMPV6,
    Ethernet,
    advertisement,
    arp_frame,
    ethernet,
    is_group,
    parse_arp,
    parse_neighbour,
    solicitation,
)
from libnetvirt.semantics.learned_state import HostTables
from libnetvirt.semantics.outcome import DropReason, EndpointFrame, FrameDropped

_REQUEST, _REPLY = 1, 2
_DISCOVERY = (135, 136)


def _is_own_address(endpoint: Endpoint, address: bytes) -> bool:
    return any(a.ip.packed == address for a in endpoint.address)


def _is_on_link_host(endpoint: Endpoint, address: bytes) -> bool:
    """Whether the address can be that of a host on one of the endpoint's prefixes."""
    found = ip_address(address)
    for a in endpoint.address:
        net = a.network
        if found not in net or found == a.ip:
            continue
        if net.prefixlen >= net.max_prefixlen - 1:
            return True
        last = net.broadcast_address if net.version == 4 else None
        return found not in (net.network_address, last)
    return False


def neighbour_request(
    endpoint: Endpoint, gateway: bytes, neighbour: IPv4Address | IPv6Address
) -> EndpointFrame:
    """Return the ARP request or neighbour solicitation for a neighbour at an endpoint.

    Its source is the endpoint's address on the neighbour's prefix.
    """
    own = [a for a in endpoint.address if a.version == neighbour.version]
    source = next((a for a in own if neighbour in a.network), own[0]).ip.packed
    target = neighbour.packed
    if neighbour.version == 6:
        return endpoint.uuid, solicitation(gateway, source, target)
    return endpoint.uuid, arp_frame(BROADCAST, ARP(_REQUEST, gateway, source, bytes(6), target))


def _update_neighbour(
    endpoint: Endpoint, gateway: bytes, tables: HostTables, limit: int, address: bytes, mac: bytes
) -> tuple[tuple[EndpointFrame, ...], HostTables]:
    """Learn a neighbour's MAC address. Returns the packets that were queued for it, and the new tables."""
    neighbour_key = (endpoint.uuid, address)
    ethertype = ETH_IPV4 if len(address) == 4 else ETH_IPV6
    queue = tables.waiting.get(neighbour_key, ())
    outputs = tuple((endpoint.uuid, ethernet(mac, gateway, ethertype, packet)) for packet in queue)
    return outputs, tables.with_neighbour(neighbour_key, mac, limit)


def process_arp(
    endpoint: Endpoint, gateway: bytes, tables: HostTables, limit: int, frame: Ethernet
) -> tuple[tuple[EndpointFrame, ...], HostTables]:
    """Answer and learn from an ARP packet. Raises FrameDropped, PacketError."""
    arp = parse_arp(frame.payload)
    if arp.sender_mac != frame.source:
        raise FrameDropped(DropReason.MALFORMED)
    if _is_own_address(endpoint, arp.sender):
        # A host that uses the gateway's address: spoofed or misconfigured.
        raise FrameDropped(DropReason.MARTIAN)
    asked = _is_own_address(endpoint, arp.target)
    neighbour_key = (endpoint.uuid, arp.sender)
    outputs: tuple[EndpointFrame, ...] = ()
    if asked and arp.is_request:
        reply = ARP(_REPLY, gateway, arp.target, arp.sender_mac, arp.sender)
        outputs = ((endpoint.uuid, arp_frame(arp.sender_mac, reply)),)
    known = neighbour_key in tables.neighbours or neighbour_key in tables.waiting
    if _is_on_link_host(endpoint, arp.sender) and (asked or known):
        released, tables = _update_neighbour(endpoint, gateway, tables, limit, arp.sender, arp.sender_mac)
        outputs += released
    return outputs, tables


def is_neighbour_discovery(endpoint: Endpoint, ip: IP) -> bool:
    """Whether the packet is neighbour discovery for the router at this endpoint, not a packet to route."""
    if ip.version != 6 or ip.protocol != PROTO_ICMPV6 or ip.offset or ip.payload[:1] == b"":
        return False
    to_us = ip.destination[0] == 0xFF or _is_own_address(endpoint, ip.destination)
    return to_us and ip.payload[0] in _DISCOVERY


def process_discovery(
    endpoint: Endpoint, gateway: bytes, tables: HostTables, limit: int, frame: Ethernet, ip: IP
) -> tuple[tuple[EndpointFrame, ...], HostTables]:
    """Answer and learn from a neighbour discovery message. Raises FrameDropped, PacketError."""
    message = parse_neighbour(ip)
    if message.mac is not None and message.mac != frame.source:
        raise FrameDropped(DropReason.MALFORMED)
    if _is_own_address(endpoint, ip.source):
        raise FrameDropped(DropReason.MARTIAN)
    if message.is_solicitation:
        if not _is_own_address(endpoint, message.target):
            return (), tables
        answer = advertisement(frame.source, gateway, message.target, ip.source)
        outputs: tuple[EndpointFrame, ...] = ((endpoint.uuid, answer),)
        # Only a solicitation with the link-layer address option is learned from (RFC 4861, section 7.2.3).
        if message.mac is not None and _is_on_link_host(endpoint, ip.source):
            released, tables = _update_neighbour(endpoint, gateway, tables, limit, ip.source, message.mac)
            outputs += released
        return outputs, tables
    if message.mac is None or is_group(message.mac) or not _is_on_link_host(endpoint, message.target):
        return (), tables
    neighbour_key = (endpoint.uuid, message.target)
    known = tables.neighbours.get(neighbour_key)
    if known is None and neighbour_key not in tables.waiting and ip.destination[0] == 0xFF:
        return (), tables
    if known is not None and known != message.mac and not message.override:
        return (), tables
    return _update_neighbour(endpoint, gateway, tables, limit, message.target, message.mac)
