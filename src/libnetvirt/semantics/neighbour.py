"""ARP (RFC 826) and IPv6 neighbour discovery (RFC 4861) of a network that is one router."""

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
from libnetvirt.semantics.knowledge import Learned
from libnetvirt.semantics.outcome import Drop, Dropped, Output

_REQUEST, _REPLY = 1, 2
_DISCOVERY = (135, 136)


def _is_own(endpoint: Endpoint, address: bytes) -> bool:
    return any(a.ip.packed == address for a in endpoint.address)


def _is_near(endpoint: Endpoint, address: bytes) -> bool:
    """Is it a host's address on one of the endpoint's prefixes?"""
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


def ask(endpoint: Endpoint, gateway: bytes, neighbour: IPv4Address | IPv6Address) -> Output:
    """The frame that asks at an endpoint for a neighbour's MAC, from the address on its prefix."""
    own = [a for a in endpoint.address if a.version == neighbour.version]
    source = next((a for a in own if neighbour in a.network), own[0]).ip.packed
    target = neighbour.packed
    if neighbour.version == 6:
        return endpoint.uuid, solicitation(gateway, source, target)
    return endpoint.uuid, arp_frame(BROADCAST, ARP(_REQUEST, gateway, source, bytes(6), target))


def _learn(
    endpoint: Endpoint, gateway: bytes, learned: Learned, limit: int, address: bytes, mac: bytes
) -> tuple[tuple[Output, ...], Learned]:
    """Note a neighbour; what waited for it leaves."""
    near = (endpoint.uuid, address)
    ethertype = ETH_IPV4 if len(address) == 4 else ETH_IPV6
    queue = learned.waiting.get(near, ())
    outputs = tuple((endpoint.uuid, ethernet(mac, gateway, ethertype, packet)) for packet in queue)
    return outputs, learned.with_neighbour(near, mac, limit)


def hear_arp(
    endpoint: Endpoint, gateway: bytes, learned: Learned, limit: int, frame: Ethernet
) -> tuple[tuple[Output, ...], Learned]:
    """Answer and learn from ARP. Raises Dropped, PacketError."""
    arp = parse_arp(frame.payload)
    if arp.sender_mac != frame.source:
        raise Dropped(Drop.MALFORMED)
    if _is_own(endpoint, arp.sender):
        # Somebody pretends to be, or is misconfigured as, the gateway.
        raise Dropped(Drop.MARTIAN)
    asked = _is_own(endpoint, arp.target)
    near = (endpoint.uuid, arp.sender)
    outputs: tuple[Output, ...] = ()
    if asked and arp.is_request:
        reply = ARP(_REPLY, gateway, arp.target, arp.sender_mac, arp.sender)
        outputs = ((endpoint.uuid, arp_frame(arp.sender_mac, reply)),)
    known = near in learned.neighbours or near in learned.waiting
    if _is_near(endpoint, arp.sender) and (asked or known):
        released, learned = _learn(endpoint, gateway, learned, limit, arp.sender, arp.sender_mac)
        outputs += released
    return outputs, learned


def is_discovery(endpoint: Endpoint, ip: IP) -> bool:
    """Is it neighbour discovery with this endpoint, rather than a packet to route?"""
    if ip.version != 6 or ip.protocol != PROTO_ICMPV6 or ip.offset or ip.payload[:1] == b"":
        return False
    to_us = ip.destination[0] == 0xFF or _is_own(endpoint, ip.destination)
    return to_us and ip.payload[0] in _DISCOVERY


def hear_neighbour(
    endpoint: Endpoint, gateway: bytes, learned: Learned, limit: int, frame: Ethernet, ip: IP
) -> tuple[tuple[Output, ...], Learned]:
    """Answer and learn from neighbour discovery. Raises Dropped, PacketError."""
    message = parse_neighbour(ip)
    if message.mac is not None and message.mac != frame.source:
        raise Dropped(Drop.MALFORMED)
    if _is_own(endpoint, ip.source):
        raise Dropped(Drop.MARTIAN)
    if message.is_solicitation:
        if not _is_own(endpoint, message.target):
            return (), learned
        answer = advertisement(frame.source, gateway, message.target, ip.source)
        outputs: tuple[Output, ...] = ((endpoint.uuid, answer),)
        # A solicitation without the option tells nothing to learn (section 7.2.3).
        if message.mac is not None and _is_near(endpoint, ip.source):
            released, learned = _learn(endpoint, gateway, learned, limit, ip.source, message.mac)
            outputs += released
        return outputs, learned
    if message.mac is None or is_group(message.mac) or not _is_near(endpoint, message.target):
        return (), learned
    near = (endpoint.uuid, message.target)
    known = learned.neighbours.get(near)
    if known is None and near not in learned.waiting and ip.destination[0] == 0xFF:
        return (), learned
    if known is not None and known != message.mac and not message.override:
        return (), learned
    return _learn(endpoint, gateway, learned, limit, message.target, message.mac)
