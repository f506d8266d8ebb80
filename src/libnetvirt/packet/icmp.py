"""ICMP (RFC 792) and ICMPv6 (RFC 4443)."""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from libnetvirt.packet.checksum import checksum
from libnetvirt.packet.ethernet import PacketError
from libnetvirt.packet.ip import IP, PROTO_ICMP, PROTO_ICMPV6

_HEADER = Struct("!BBH4s")
_PSEUDO = Struct("!16s16sIHBB")
# Unreachable, source quench, redirect, time exceeded, parameter problem (RFC 1122 section 3.2.2).
_V4_ERRORS = (3, 4, 5, 11, 12)


class ICMP(NamedTuple):
    """``rest`` is the second word of the header, ``body`` what follows it."""

    type: int
    code: int
    rest: bytes
    body: bytes


def _pseudo_header(source: bytes, destination: bytes, size: int) -> bytes:
    """Covered by ICMPv6's checksum (RFC 8200 section 8.1); ICMP's covers the message alone."""
    return _PSEUDO.pack(source, destination, size, 0, 0, PROTO_ICMPV6) if len(source) == 16 else b""


def parse_icmp(ip: IP) -> ICMP:
    """Read the message of an unfragmented ICMP or ICMPv6 packet; checks the checksum. Raises PacketError."""
    if ip.fragment or ip.protocol != (PROTO_ICMP if ip.version == 4 else PROTO_ICMPV6):
        raise PacketError("not a whole ICMP packet")
    message = ip.payload
    if len(message) < _HEADER.size:
        raise PacketError(f"ICMP message of {len(message)} octets: at least {_HEADER.size} are needed")
    if checksum(_pseudo_header(ip.source, ip.destination, len(message)) + message):
        raise PacketError("ICMP checksum is wrong")
    kind, code, _, rest = _HEADER.unpack_from(message)
    return ICMP(kind, code, rest, message[_HEADER.size :])


def build_icmp(source: bytes, destination: bytes, message: ICMP) -> bytes:
    """The message's octets with its checksum, for a packet between these addresses."""
    octets = _HEADER.pack(message.type, message.code, 0, message.rest) + message.body
    total = checksum(_pseudo_header(source, destination, len(octets)) + octets)
    return octets[:2] + total.to_bytes(2, "big") + octets[4:]


def is_icmp_error(ip: IP) -> bool:
    """Is it an ICMP error message, as far as its first octet tells? Truncated ones count as errors."""
    if ip.version == 4 and ip.protocol == PROTO_ICMP:
        return not ip.payload or ip.payload[0] in _V4_ERRORS
    if ip.version == 6 and ip.protocol == PROTO_ICMPV6:
        return not ip.payload or ip.payload[0] < 128
    return False
