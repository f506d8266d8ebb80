"""ICMP (RFC 792) and ICMPv6 (RFC 4443)."""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from libnetvirt.packet.checksum import checksum
from libnetvirt.packet.ethernet import PacketError
from libnetvirt.packet.ip import IP, PROTO_ICMP, PROTO_ICMPV6

_HEADER = Struct("!BBH4s")
_PSEUDO = Struct("!16s16sIHBB")
# Unreachable, source quench, redirect, time exceeded, parameter problem (RFC 1122, section 3.2.2).
_V4_ERRORS = (3, 4, 5, 11, 12)


class ICMP(NamedTuple):
    """An ICMP or ICMPv6 message. ``rest`` is the second word of the header, ``body`` all bytes after it."""

    type: int
    code: int
    rest: bytes
    body: bytes


def _pseudo_header(source: bytes, destination: bytes, size: int) -> bytes:
    """The pseudo-header in ICMPv6's checksum (RFC 8200, section 8.1); empty for ICMP, which has none."""
    return _PSEUDO.pack(source, destination, size, 0, 0, PROTO_ICMPV6) if len(source) == 16 else b""


def parse_icmp(ip: IP) -> ICMP:
    """Parse the message in an unfragmented ICMP or ICMPv6 packet.

    Raises PacketError if it is no such packet, or if the message is truncated or its checksum wrong.
    """
    if ip.fragment or ip.protocol != (PROTO_ICMP if ip.version == 4 else PROTO_ICMPV6):
        raise PacketError("not a whole ICMP packet")
    message = ip.payload
    if len(message) < _HEADER.size:
        raise PacketError(f"ICMP message of {len(message)} bytes: at least {_HEADER.size} are needed")
    if checksum(_pseudo_header(ip.source, ip.destination, len(message)) + message):
        raise PacketError("ICMP checksum is wrong")
    kind, code, _, rest = _HEADER.unpack_from(message)
    return ICMP(kind, code, rest, message[_HEADER.size :])


def build_icmp(source: bytes, destination: bytes, message: ICMP) -> bytes:
    """Return the wire form of a message, with its checksum, for a packet between these addresses."""
    wire = _HEADER.pack(message.type, message.code, 0, message.rest) + message.body
    total = checksum(_pseudo_header(source, destination, len(wire)) + wire)
    return wire[:2] + total.to_bytes(2, "big") + wire[4:]


def is_icmp_error(ip: IP) -> bool:
    """Whether this is an ICMP or ICMPv6 error message, by its type. An empty message counts as one."""
    if ip.version == 4 and ip.protocol == PROTO_ICMP:
        return not ip.payload or ip.payload[0] in _V4_ERRORS
    if ip.version == 6 and ip.protocol == PROTO_ICMPV6:
        return not ip.payload or ip.payload[0] < 128
    return False
