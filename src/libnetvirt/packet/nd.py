"""IPv6 neighbour solicitations and advertisements (RFC 4861, sections 4.3, 4.4 and 7.1)."""

from __future__ import annotations

from typing import NamedTuple

from libnetvirt.packet.ethernet import ETH_IPV6, PacketError, ethernet, multicast_mac
from libnetvirt.packet.icmp import ICMP, build_icmp, parse_icmp
from libnetvirt.packet.ip import IP, PROTO_ICMPV6, build_ip

SOLICITATION = 135
ADVERTISEMENT = 136
ALL_NODES = bytes.fromhex("ff020000000000000000000000000001")

_SOURCE_LINK, _TARGET_LINK = 1, 2
_ROUTER, _SOLICITED, _OVERRIDE = 0x80, 0x40, 0x20
_UNSPECIFIED = bytes(16)
_SOLICITED_NODE = bytes.fromhex("ff0200000000000000000001ff")


class NeighbourMessage(NamedTuple):
    """A neighbour solicitation or advertisement for the address ``target``.

    ``mac`` is the MAC address in the source (solicitation) or target (advertisement) link-layer address
    option; None if there is no such option. ``solicited`` and ``override`` are flags of an advertisement.
    """

    is_solicitation: bool
    target: bytes
    mac: bytes | None
    solicited: bool = False
    override: bool = False


def solicited_node(address: bytes) -> bytes:
    """Return the solicited-node multicast group of an address (RFC 4291, section 2.7.1)."""
    return _SOLICITED_NODE + address[-3:]


def parse_neighbour(ip: IP) -> NeighbourMessage:
    """Parse a message. Raises PacketError if it is not valid (RFC 4861, sections 7.1.1 and 7.1.2)."""
    if ip.version != 6:
        raise PacketError("not IPv6")
    if ip.fragment_header:
        raise PacketError("neighbour discovery behind a fragment header (RFC 6980, section 5)")
    message = parse_icmp(ip)
    if message.type not in (SOLICITATION, ADVERTISEMENT) or message.code:
        raise PacketError(f"ICMPv6 type {message.type} code {message.code}")
    if ip.ttl != 255:
        raise PacketError(f"hop limit {ip.ttl} instead of 255: not sent on this link")
    if len(message.body) < 16:
        raise PacketError("truncated before the target address")
    target, options = message.body[:16], message.body[16:]
    if target[0] == 0xFF:
        raise PacketError("the target is a multicast address")
    is_solicitation = message.type == SOLICITATION
    mac = _link_option(options, _SOURCE_LINK if is_solicitation else _TARGET_LINK)
    if is_solicitation:
        if ip.source == _UNSPECIFIED and (ip.destination[:13] != _SOLICITED_NODE or mac is not None):
            raise PacketError("duplicate address detection to a wrong group, or with a MAC address")
        return NeighbourMessage(True, target, mac)
    solicited = bool(message.rest[0] & _SOLICITED)
    if solicited and ip.destination[0] == 0xFF:
        raise PacketError("a solicited advertisement to a group")
    return NeighbourMessage(False, target, mac, solicited, bool(message.rest[0] & _OVERRIDE))


def _link_option(options: bytes, wanted: int) -> bytes | None:
    found, offset = None, 0
    while offset < len(options):
        if offset + 2 > len(options):
            raise PacketError("a truncated option")
        size = options[offset + 1] * 8
        if size == 0 or offset + size > len(options):
            raise PacketError("an option whose length is zero or beyond the end")
        if options[offset] == wanted and size == 8:
            found = options[offset + 2 : offset + 8]
        offset += size
    return found


def solicitation(mac: bytes, source: bytes, target: bytes) -> bytes:
    """Return a frame that solicits the MAC address of ``target``, sent to its solicited-node group."""
    group = solicited_node(target)
    body = target + bytes([_SOURCE_LINK, 1]) + mac
    packet = _packet(source, group, ICMP(SOLICITATION, 0, bytes(4), body))
    return ethernet(multicast_mac(group), mac, ETH_IPV6, packet)


def advertisement(
    destination_mac: bytes, mac: bytes, target: bytes, solicitor: bytes, *, router: bool = True
) -> bytes:
    """Return a frame that answers a solicitation (RFC 4861, section 7.2.4).

    ``solicitor`` is the source address of the solicitation, ``destination_mac`` its MAC address. If the
    solicitor has no address yet, the advertisement is sent to all nodes.
    """
    unspecified = solicitor == _UNSPECIFIED
    flags = _OVERRIDE | (_ROUTER if router else 0) | (0 if unspecified else _SOLICITED)
    body = target + bytes([_TARGET_LINK, 1]) + mac
    to = ALL_NODES if unspecified else solicitor
    packet = _packet(target, to, ICMP(ADVERTISEMENT, 0, bytes([flags, 0, 0, 0]), body))
    return ethernet(multicast_mac(ALL_NODES) if unspecified else destination_mac, mac, ETH_IPV6, packet)


def _packet(source: bytes, destination: bytes, message: ICMP) -> bytes:
    return build_ip(source, destination, PROTO_ICMPV6, build_icmp(source, destination, message), ttl=255)
