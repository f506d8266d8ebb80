"""The router's processing of a packet: replies to ARP, neighbour discovery and ping; ICMP errors; forwarding.
Pure.

Given a frame that came up from an endpoint, :func:`respond` returns the router's :class:`Reaction`
to it. Nothing is kept between frames.
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


class NeighbourUpdate(NamedTuple):
    """A neighbour announced its MAC address.

    ``only_if_known``: ignored unless the neighbour is known or incomplete. ``no_override``: a MAC address
    that is known already is kept (RFC 4861, section 7.2.5).
    """

    address: bytes
    mac: bytes
    only_if_known: bool = False
    no_override: bool = False


class RoutedPacket(NamedTuple):
    """A packet to forward, its TTL decremented, and its next hop."""

    hop: NextHop
    packet: bytes


class Reaction(NamedTuple):
    """The router's reaction to a frame. All fields are empty if there is none.

    ``answer``: a frame to send back out of the endpoint (``error``: it is an ICMP error, whose rate is
    limited); ``update``: a neighbour to learn; ``routed``: a packet to forward; ``claimed``: an address of
    the router that the sender takes for its own.
    """

    answer: bytes | None = None
    error: bool = False
    update: NeighbourUpdate | None = None
    routed: RoutedPacket | None = None
    claimed: bytes = b""


NOTHING = Reaction()


class RouterInterface(NamedTuple):
    """The router's side of an endpoint: the address plan, and the endpoint's uuid."""

    plan: AddressPlan
    endpoint: str


def respond(interface: RouterInterface, frame: bytes) -> Reaction:
    """React to an untagged frame that entered at an endpoint. Never raises, whatever the frame is."""
    try:
        packet = parse_ethernet(frame)
        if packet.source == interface.plan.gateway:
            return NOTHING
        if packet.ethertype == ETH_ARP:
            return _arp(interface, packet)
        if packet.ethertype in (ETH_IPV4, ETH_IPV6):
            return _ip(interface, packet)
    except PacketError:
        pass
    return NOTHING


def fit_to_mtu(interface: RouterInterface, frame: bytes, packet: bytes, mtu: int) -> Reaction | list[bytes]:
    """Make a routed ``packet``, which entered as ``frame``, fit an MTU of so many bytes.

    Returns its fragments, or the reaction with an ICMP error to its sender (RFC 1191, RFC 8201).
    """
    pieces = fragments(packet, mtu)
    if pieces is not None:
        return pieces
    whole = parse_ethernet(frame)
    return _error(interface, whole, parse_ip(whole.payload), TOO_BIG, mtu=mtu)


def solicit(interface: RouterInterface, address: bytes) -> bytes:
    """The frame that asks a neighbour at the endpoint for its MAC address."""
    source = interface.plan.source_address(interface.endpoint, address)
    if len(address) == 16:
        return solicitation(interface.plan.gateway, source, address)
    return arp_frame(BROADCAST, ARP(_REQUEST, interface.plan.gateway, source, bytes(6), address))


def unreachable(plan: AddressPlan, packet: bytes) -> RoutedPacket | None:
    """The ICMP error about a packet whose neighbour does not answer, on its way back to the packet's source.
    None if there is no error to send."""
    try:
        ip = parse_ip(packet)
    except PacketError:
        return None
    hop = plan.next_hop(ip.source)
    if hop is None:
        return None
    error = icmp_error(HOST_UNREACHABLE, ip, packet, plan.source_address(hop.endpoint, hop.address))
    return None if error is None else RoutedPacket(hop, error)


def route_frame(plan: AddressPlan, frame: bytes) -> RoutedPacket | None:
    """The next hop of a frame whose TTL the switch has decremented already. None without a route."""
    try:
        packet = parse_ethernet(frame).payload
        hop = plan.next_hop(parse_ip(packet).destination)
    except PacketError:
        return None
    return None if hop is None else RoutedPacket(hop, packet)


def _arp(interface: RouterInterface, frame: Ethernet) -> Reaction:
    """React to an ARP packet (RFC 826). Probes are answered, too (RFC 5227, section 2.1.1)."""
    if frame.destination not in (interface.plan.gateway, BROADCAST):
        return NOTHING
    arp = parse_arp(frame.payload)
    plan, endpoint = interface.plan, interface.endpoint
    if plan.is_own_at(endpoint, arp.sender):
        return Reaction(claimed=arp.sender)
    if arp.sender_mac != frame.source:
        return NOTHING
    asked = plan.is_own_at(endpoint, arp.target)
    answer = None
    if asked and arp.is_request:
        reply = ARP(_REPLY, interface.plan.gateway, arp.target, arp.sender_mac, arp.sender)
        answer = arp_frame(arp.sender_mac, reply)
    update = None
    if plan.is_on_link(endpoint, arp.sender):
        update = NeighbourUpdate(arp.sender, arp.sender_mac, only_if_known=not asked)
    return Reaction(answer, update=update)


def _ip(interface: RouterInterface, frame: Ethernet) -> Reaction:
    plan = interface.plan
    ip = parse_ip(frame.payload)
    if ip.version != (4 if frame.ethertype == ETH_IPV4 else 6) or not plan.has_family(
        interface.endpoint, ip.version
    ):
        return NOTHING
    if _is_discovery(interface, frame, ip):
        return _discovery(interface, frame, ip)
    if frame.destination != interface.plan.gateway:
        return NOTHING
    if ip.source in plan.own or plan.is_non_host(ip.source):
        return NOTHING
    if ip.destination in plan.own:
        return _own(interface, frame, ip)
    if is_link_local(ip.source) or is_link_local(ip.destination) or plan.is_non_host(ip.destination):
        return NOTHING
    hop = plan.next_hop(ip.destination)
    if hop is None:
        return _error(interface, frame, ip, NO_ROUTE)
    if ip.ttl <= 1:
        return _error(interface, frame, ip, TIME_EXCEEDED)
    return Reaction(routed=RoutedPacket(hop, decrement_ttl(frame.payload)))


def _is_discovery(interface: RouterInterface, frame: Ethernet, ip: IP) -> bool:
    if ip.protocol != PROTO_ICMPV6 or ip.version != 6 or ip.offset or not ip.payload:
        return False
    if frame.destination != interface.plan.gateway and frame.destination[:2] != b"\x33\x33":
        return False
    for_us = ip.destination[0] == _GROUP6 or interface.plan.is_own_at(interface.endpoint, ip.destination)
    return for_us and ip.payload[0] in _DISCOVERY


def _discovery(interface: RouterInterface, frame: Ethernet, ip: IP) -> Reaction:
    """React to a neighbour solicitation or advertisement (RFC 4861, section 7.2)."""
    message = parse_neighbour(ip)
    plan, endpoint = interface.plan, interface.endpoint
    claimed = ip.source if message.is_solicitation else message.target
    if plan.is_own_at(endpoint, claimed):
        return Reaction(claimed=claimed)
    if plan.is_own_at(endpoint, ip.source) or message.mac not in (None, frame.source):
        return NOTHING
    if message.is_solicitation:
        if not plan.is_own_at(endpoint, message.target):
            return NOTHING
        answer = advertisement(frame.source, interface.plan.gateway, message.target, ip.source)
        near = message.mac is not None and plan.is_on_link(endpoint, ip.source)
        return Reaction(answer, update=NeighbourUpdate(ip.source, frame.source) if near else None)
    if message.mac is None or is_group(message.mac) or not plan.is_on_link(endpoint, message.target):
        return NOTHING
    to_all = ip.destination[0] == _GROUP6
    return Reaction(
        update=NeighbourUpdate(
            message.target, message.mac, only_if_known=to_all, no_override=not message.override
        )
    )


def _own(interface: RouterInterface, frame: Ethernet, ip: IP) -> Reaction:
    """React to a packet to one of the router's own addresses."""
    if ip.fragment:
        return NOTHING  # the router does not reassemble fragments
    if ip.protocol == _ECHO[ip.version]:
        reply = echo_reply(ip)
        return NOTHING if reply is None else Reaction(_back(interface, frame, reply))
    if ip.protocol in (PROTO_UDP, PROTO_TCP):
        return _error(interface, frame, ip, PORT_UNREACHABLE, ip.destination)
    # With extension headers, the error's pointer would be wrong.
    return NOTHING if ip.extensions else _error(interface, frame, ip, PROTOCOL_UNREACHABLE, ip.destination)


def _error(
    interface: RouterInterface,
    frame: Ethernet,
    ip: IP,
    fault: IcmpError,
    source: bytes | None = None,
    mtu: int = 0,
) -> Reaction:
    source = source or interface.plan.source_address(interface.endpoint, ip.source)
    error = icmp_error(fault, ip, frame.payload, source, mtu)
    return NOTHING if error is None else Reaction(_back(interface, frame, error), error=True)


def _back(interface: RouterInterface, frame: Ethernet, packet: bytes) -> bytes:
    """A frame that carries a packet back to where ``frame`` came from, whatever the routes are."""
    return ethernet(frame.source, interface.plan.gateway, frame.ethertype, packet)
