"""Neighbour solicitation and advertisement (RFC 4861 sections 4.3, 4.4, 7.1)."""

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


class Neighbour(NamedTuple):
    """A solicitation or an advertisement for ``target``.

    ``link`` is the source (solicitation) or target (advertisement) link-layer address option, None if
    it is not there; ``solicited`` and ``override`` are an advertisement's flags.
    """

    is_solicitation: bool
    target: bytes
    link: bytes | None
    solicited: bool = False
    override: bool = False


def solicited_node(address: bytes) -> bytes:
    """The multicast group of an address (RFC 4291 section 2.7.1)."""
    return _SOLICITED_NODE + address[-3:]


def parse_neighbour(ip: IP) -> Neighbour:
    """Read a message and check it as RFC 4861 sections 7.1.1 and 7.1.2 demand. Raises PacketError."""
    if ip.version != 6:
        raise PacketError("not IPv6")
    message = parse_icmp(ip)
    if message.type not in (SOLICITATION, ADVERTISEMENT) or message.code:
        raise PacketError(f"ICMPv6 type {message.type} code {message.code}")
    if ip.ttl != 255:
        raise PacketError(f"hop limit {ip.ttl}: it was forwarded, or pretends not to be")
    if len(message.body) < 16:
        raise PacketError("cut off before the target")
    target, options = message.body[:16], message.body[16:]
    if target[0] == 0xFF:
        raise PacketError("the target is a multicast address")
    asks = message.type == SOLICITATION
    link = _link_option(options, _SOURCE_LINK if asks else _TARGET_LINK)
    if asks:
        if ip.source == _UNSPECIFIED and (ip.destination[:13] != _SOLICITED_NODE or link is not None):
            raise PacketError("duplicate address detection to a wrong group or with a link-layer address")
        return Neighbour(True, target, link)
    solicited = bool(message.rest[0] & _SOLICITED)
    if solicited and ip.destination[0] == 0xFF:
        raise PacketError("a solicited advertisement to a group")
    return Neighbour(False, target, link, solicited, bool(message.rest[0] & _OVERRIDE))


def _link_option(options: bytes, wanted: int) -> bytes | None:
    found, at = None, 0
    while at < len(options):
        if at + 2 > len(options):
            raise PacketError("an option is cut off")
        size = options[at + 1] * 8
        if size == 0 or at + size > len(options):
            raise PacketError("an option's length is zero or beyond the end")
        if options[at] == wanted and size == 8:
            found = options[at + 2 : at + 8]
        at += size
    return found


def solicitation(mac: bytes, source: bytes, target: bytes) -> bytes:
    """The whole frame that asks for ``target``'s MAC address, to its solicited-node group."""
    group = solicited_node(target)
    body = target + bytes([_SOURCE_LINK, 1]) + mac
    packet = _packet(source, group, ICMP(SOLICITATION, 0, bytes(4), body))
    return ethernet(multicast_mac(group), mac, ETH_IPV6, packet)


def advertisement(
    destination_mac: bytes, mac: bytes, target: bytes, asker: bytes, *, router: bool = True
) -> bytes:
    """The whole frame that answers ``asker``'s solicitation (RFC 4861 section 7.2.4).

    An asker that has no address yet is told by a message to all nodes.
    """
    unspecified = asker == _UNSPECIFIED
    flags = _OVERRIDE | (_ROUTER if router else 0) | (0 if unspecified else _SOLICITED)
    body = target + bytes([_TARGET_LINK, 1]) + mac
    to = ALL_NODES if unspecified else asker
    packet = _packet(target, to, ICMP(ADVERTISEMENT, 0, bytes([flags, 0, 0, 0]), body))
    return ethernet(multicast_mac(ALL_NODES) if unspecified else destination_mac, mac, ETH_IPV6, packet)


def _packet(source: bytes, destination: bytes, message: ICMP) -> bytes:
    return build_ip(source, destination, PROTO_ICMPV6, build_icmp(source, destination, message), ttl=255)
