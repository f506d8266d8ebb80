"""What a network's router answers: ARP, neighbour discovery, ping, and errors about packets. Pure.

Given a frame that came up from an endpoint, :func:`respond` says what the router does; it keeps nothing.
"""

from __future__ import annotations

from typing import NamedTuple

from libnetvirt.controller.intent.addressing import AddressPlan, NextHop, is_link_local
from libnetvirt.packet import (
    ARP,
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
    advertisement,
    arp_frame,
    decrement_ttl,
    ethernet,
    fragments,
    is_group,
    parse_arp,
    parse_ethernet,
    parse_ip,
    parse_neighbour,
    solicitation,
)
from libnetvirt.packet.icmp_replies import (
    HOST_UNREACHABLE,
    NO_ROUTE,
    PORT_UNREACHABLE,
    PROTOCOL_UNREACHABLE,
    TIME_EXCEEDED,
    TOO_BIG,
    IcmpError,
    echo_reply,
    icmp_error,
)

_REQUEST, _REPLY = 1, 2
_GROUP6 = 0xFF
_DISCOVERY = (135, 136)
_ECHO = {4: PROTO_ICMP, 6: PROTO_ICMPV6}


class Heard(NamedTuple):
    """A neighbour said its MAC address. ``expected``: believed only of one that is known or awaited.
    ``kept``: a known MAC address is not replaced (RFC 4861, section 7.2.5)."""

    address: bytes
    mac: bytes
    expected: bool = False
    kept: bool = False


class Onward(NamedTuple):
    """A packet that is to be forwarded, its TTL already less by one."""

    hop: NextHop
    packet: bytes


class Reaction(NamedTuple):
    """What the router does about a frame: an answer where it came in (``error``: an ICMP error, of which
    there must not be too many), something learned, or a packet that goes on."""

    answer: bytes | None = None
    error: bool = False
    heard: Heard | None = None
    onward: Onward | None = None


NOTHING = Reaction()


class Side(NamedTuple):
    """An endpoint of a router: the plan and the endpoint's uuid."""

    plan: AddressPlan
    endpoint: str


def respond(side: Side, frame: bytes) -> Reaction:
    """React to an untagged frame that came in at an endpoint. Nothing is raised, whatever is wrong."""
    try:
        packet = parse_ethernet(frame)
        if packet.source == side.plan.gateway:
            return NOTHING
        if packet.ethertype == ETH_ARP:
            return _arp(side, packet)
        if packet.ethertype in (ETH_IPV4, ETH_IPV6):
            return _ip(side, packet)
    except PacketError:
        pass
    return NOTHING


def narrow(side: Side, frame: bytes, packet: bytes, mtu: int) -> Reaction | list[bytes]:
    """What to do with a routed ``packet``, which came in as ``frame``, where only ``mtu`` octets pass: an
    error to its sender (RFC 1191, RFC 8201), or its fragments."""
    pieces = fragments(packet, mtu)
    if pieces is not None:
        return pieces
    whole = parse_ethernet(frame)
    return _error(side, whole, parse_ip(whole.payload), TOO_BIG, mtu=mtu)


def question(side: Side, address: bytes) -> bytes:
    """The frame that asks a neighbour at the endpoint for its MAC address."""
    source = side.plan.facing(side.endpoint, address)
    if len(address) == 16:
        return solicitation(side.plan.gateway, source, address)
    return arp_frame(BROADCAST, ARP(_REQUEST, side.plan.gateway, source, bytes(6), address))


def unreachable(plan: AddressPlan, packet: bytes) -> Onward | None:
    """The error about a packet whose neighbour does not answer, on its way to the packet's source."""
    try:
        ip = parse_ip(packet)
    except PacketError:
        return None
    hop = plan.hop(ip.source)
    if hop is None:
        return None
    error = icmp_error(HOST_UNREACHABLE, ip, packet, plan.facing(hop.endpoint, hop.address))
    return None if error is None else Onward(hop, error)


def onward(plan: AddressPlan, frame: bytes) -> Onward | None:
    """A frame that the switch has routed already: where it goes."""
    try:
        packet = parse_ethernet(frame).payload
        hop = plan.hop(parse_ip(packet).destination)
    except PacketError:
        return None
    return None if hop is None else Onward(hop, packet)


def _arp(side: Side, frame: Ethernet) -> Reaction:
    """RFC 826; answers to probes, too (RFC 5227, section 2.1.1)."""
    if frame.destination not in (side.plan.gateway, BROADCAST):
        return NOTHING
    arp = parse_arp(frame.payload)
    plan, endpoint = side.plan, side.endpoint
    if arp.sender_mac != frame.source or plan.is_own_at(endpoint, arp.sender):
        return NOTHING  # who says that is a liar, or has the router's address by mistake
    asked = plan.is_own_at(endpoint, arp.target)
    answer = None
    if asked and arp.is_request:
        reply = ARP(_REPLY, side.plan.gateway, arp.target, arp.sender_mac, arp.sender)
        answer = arp_frame(arp.sender_mac, reply)
    heard = None
    if plan.is_near(endpoint, arp.sender):
        heard = Heard(arp.sender, arp.sender_mac, expected=not asked)
    return Reaction(answer, heard=heard)


def _ip(side: Side, frame: Ethernet) -> Reaction:
    plan = side.plan
    ip = parse_ip(frame.payload)
    if ip.version != (4 if frame.ethertype == ETH_IPV4 else 6) or not plan.has_family(
        side.endpoint, ip.version
    ):
        return NOTHING
    if _is_discovery(side, frame, ip):
        return _discovery(side, frame, ip)
    if frame.destination != side.plan.gateway:
        return NOTHING
    if ip.source in plan.own or plan.is_no_host(ip.source):
        return NOTHING
    if ip.destination in plan.own:
        return _own(side, frame, ip)
    if is_link_local(ip.source) or is_link_local(ip.destination) or plan.is_no_host(ip.destination):
        return NOTHING
    hop = plan.hop(ip.destination)
    if hop is None:
        return _error(side, frame, ip, NO_ROUTE)
    if ip.ttl <= 1:
        return _error(side, frame, ip, TIME_EXCEEDED)
    return Reaction(onward=Onward(hop, decrement_ttl(frame.payload)))


def _is_discovery(side: Side, frame: Ethernet, ip: IP) -> bool:
    if ip.protocol != PROTO_ICMPV6 or ip.version != 6 or ip.offset or not ip.payload:
        return False
    if frame.destination != side.plan.gateway and frame.destination[:2] != b"\x33\x33":
        return False
    for_us = ip.destination[0] == _GROUP6 or side.plan.is_own_at(side.endpoint, ip.destination)
    return for_us and ip.payload[0] in _DISCOVERY


def _discovery(side: Side, frame: Ethernet, ip: IP) -> Reaction:
    """RFC 4861, section 7.2."""
    message = parse_neighbour(ip)
    plan, endpoint = side.plan, side.endpoint
    if plan.is_own_at(endpoint, ip.source) or message.mac not in (None, frame.source):
        return NOTHING
    if message.is_solicitation:
        if not plan.is_own_at(endpoint, message.target):
            return NOTHING
        answer = advertisement(frame.source, side.plan.gateway, message.target, ip.source)
        near = message.mac is not None and plan.is_near(endpoint, ip.source)
        return Reaction(answer, heard=Heard(ip.source, frame.source) if near else None)
    if message.mac is None or is_group(message.mac) or not plan.is_near(endpoint, message.target):
        return NOTHING
    to_all = ip.destination[0] == _GROUP6
    return Reaction(heard=Heard(message.target, message.mac, expected=to_all, kept=not message.override))


def _own(side: Side, frame: Ethernet, ip: IP) -> Reaction:
    """A packet to one of the network's addresses."""
    if ip.fragment:
        return NOTHING  # nothing is reassembled
    if ip.protocol == _ECHO[ip.version]:
        reply = echo_reply(ip)
        return NOTHING if reply is None else Reaction(_back(side, frame, reply))
    if ip.protocol in (PROTO_UDP, PROTO_TCP):
        return _error(side, frame, ip, PORT_UNREACHABLE, ip.destination)
    # The pointer is right only where the protocol is in the fixed header.
    return NOTHING if ip.extensions else _error(side, frame, ip, PROTOCOL_UNREACHABLE, ip.destination)


def _error(
    side: Side, frame: Ethernet, ip: IP, fault: IcmpError, source: bytes | None = None, mtu: int = 0
) -> Reaction:
    source = source or side.plan.facing(side.endpoint, ip.source)
    error = icmp_error(fault, ip, frame.payload, source, mtu)
    return NOTHING if error is None else Reaction(_back(side, frame, error), error=True)


def _back(side: Side, frame: Ethernet, packet: bytes) -> bytes:
    """To where the frame came from, whatever the routes say."""
    return ethernet(frame.source, side.plan.gateway, frame.ethertype, packet)
