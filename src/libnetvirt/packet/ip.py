"""IPv4 (RFC 791) and IPv6 (RFC 8200) packets, with one class for both versions."""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from libnetvirt.packet.checksum import checksum, update_checksum
from libnetvirt.packet.ethernet import PacketError

PROTO_ICMP = 1
PROTO_TCP = 6
PROTO_UDP = 17
PROTO_ICMPV6 = 58

_V4 = Struct("!BBHHHBBH4s4s")
_V6 = Struct("!IHBB16s16s")
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION = 0, 43, 44, 60
# RFC 8200, section 4.1, lists six headers, one of them twice; no legitimate packet has a longer chain.
_MAX_EXTENSIONS = 8
_DONT_FRAGMENT, _MORE_FRAGMENTS = 0x4000, 0x2000
_NO_OPERATION, _COPIED = 1, 0x80


class IP(NamedTuple):
    """A parsed packet of either version.

    ``ttl`` is the TTL or hop limit. ``protocol`` is the upper-layer protocol, behind all IPv6 extension
    headers, and ``payload`` its data without Ethernet padding. ``fragment``: whether the packet is a
    fragment; ``offset`` is its offset in bytes. ``length`` is the packet's length in bytes, headers included.
    ``extensions``: whether there are IPv6 extension headers. ``traffic_class`` is the byte of that name, in
    IPv4 the type of service. ``fragment_header``: whether there is an IPv6 fragment header, also in a packet
    that is whole.
    """

    version: int
    source: bytes
    destination: bytes
    protocol: int
    ttl: int
    payload: bytes
    offset: int
    fragment: bool
    length: int
    extensions: bool
    traffic_class: int
    fragment_header: bool


def parse_ip(packet: bytes) -> IP:
    """Parse an IPv4 or IPv6 packet; padding at its end is ignored.

    Raises PacketError if the version, a length or the IPv4 header checksum is wrong (RFC 1812, section
    5.2.2).
    """
    version = packet[0] >> 4 if packet else 0
    if version == 4:
        return _parse_v4(packet)
    if version == 6:
        return _parse_v6(packet)
    raise PacketError(f"IP version {version}")


def _parse_v4(packet: bytes) -> IP:
    if len(packet) < _V4.size:
        raise PacketError(f"IPv4 packet of {len(packet)} bytes: at least {_V4.size} are needed")
    first, tos, length, _, position, ttl, protocol, _, source, destination = _V4.unpack_from(packet)
    header = (first & 15) * 4
    if header < _V4.size or not header <= length <= len(packet):
        raise PacketError(f"IPv4 header of {header} and packet of {length} bytes, {len(packet)} received")
    if checksum(packet[:header]):
        raise PacketError("IPv4 header checksum is wrong")
    offset = (position & 0x1FFF) * 8
    return IP(
        4,
        source,
        destination,
        protocol,
        ttl,
        packet[header:length],
        offset,
        bool(position & 0x3FFF),
        length,
        False,
        tos,
        False,
    )


def _parse_v6(packet: bytes) -> IP:
    if len(packet) < _V6.size:
        raise PacketError(f"IPv6 packet of {len(packet)} bytes: at least {_V6.size} are needed")
    first, size, protocol, ttl, source, destination = _V6.unpack_from(packet)
    length = _V6.size + size
    if length > len(packet):
        raise PacketError(f"IPv6 packet of {length} bytes, {len(packet)} received")
    at, offset, fragment, extensions, header = _V6.size, 0, False, False, False
    for _ in range(_MAX_EXTENSIONS):
        # Only the first fragment has headers after the fragment header (RFC 8200, section 4.5).
        if protocol not in (_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION) or offset:
            break
        if at + 8 > length:
            raise PacketError("IPv6 extension header is truncated")
        extensions = True
        step = 8 if protocol == _FRAGMENT else (packet[at + 1] + 1) * 8
        if protocol == _FRAGMENT:
            position = int.from_bytes(packet[at + 2 : at + 4], "big")
            # An "atomic" fragment is a whole packet (RFC 6946).
            offset, fragment, header = position & 0xFFF8, bool(position & 0xFFF9), True
        if at + step > length:
            raise PacketError("IPv6 extension header is truncated")
        protocol, at = packet[at], at + step
    else:
        raise PacketError(f"more than {_MAX_EXTENSIONS} IPv6 extension headers")
    payload = packet[at:length]
    traffic_class = first >> 20 & 0xFF
    return IP(
        6,
        source,
        destination,
        protocol,
        ttl,
        payload,
        offset,
        fragment,
        length,
        extensions,
        traffic_class,
        header,
    )


def build_ip(
    source: bytes, destination: bytes, protocol: int, payload: bytes, ttl: int = 64, traffic_class: int = 0
) -> bytes:
    """Return a packet without options, of the IP version of its addresses.

    Raises PacketError if the payload is too long.
    """
    room = 0xFFFF if len(source) == 16 else 0xFFFF - _V4.size
    if len(payload) > room:
        raise PacketError(f"a payload of {len(payload)} bytes: a packet holds at most {room}")
    if len(source) == 16:
        first = 6 << 28 | traffic_class << 20
        return _V6.pack(first, len(payload), protocol, ttl, source, destination) + payload
    # Identification 0 with "don't fragment": an atomic datagram (RFC 6864, section 4.1).
    length = _V4.size + len(payload)
    header = _V4.pack(0x45, traffic_class, length, 0, _DONT_FRAGMENT, ttl, protocol, 0, source, destination)
    return header[:10] + checksum(header).to_bytes(2, "big") + header[12:] + payload


def decrement_ttl(packet: bytes) -> bytes:
    """Return the packet with TTL or hop limit decremented and the IPv4 checksum updated (RFC 1624).

    The packet must be one that :func:`parse_ip` accepts, with a TTL of at least 1.
    """
    if packet[0] >> 4 == 6:
        return packet[:7] + bytes([packet[7] - 1]) + packet[8:]
    old = packet[8] << 8 | packet[9]
    new = update_checksum(int.from_bytes(packet[10:12], "big"), old, old - 0x100)
    return packet[:8] + bytes([packet[8] - 1, packet[9]]) + new.to_bytes(2, "big") + packet[12:]


def fragments(packet: bytes, mtu: int) -> list[bytes] | None:
    """Return the fragments of an IPv4 packet, each of at most ``mtu`` bytes (RFC 791, section 3.2).

    Returns None if the packet must not be fragmented: IPv6, or the flag "don't fragment". The packet must be
    one that :func:`parse_ip` accepts; ``mtu`` is at least 68.
    """
    position = int.from_bytes(packet[6:8], "big")
    if packet[0] >> 4 == 6 or position & _DONT_FRAGMENT:
        return None
    size, length = (packet[0] & 15) * 4, int.from_bytes(packet[2:4], "big")
    payload, pieces, done = packet[size:length], [], 0
    header = packet[:size]
    while done < len(payload):
        room = (mtu - len(header)) & ~7
        more = _MORE_FRAGMENTS if done + room < len(payload) else position & _MORE_FRAGMENTS
        at = (position & 0x1FFF) + done // 8 | more
        piece = payload[done : done + room]
        head = (
            header[:2] + (len(header) + len(piece)).to_bytes(2, "big") + header[4:6] + at.to_bytes(2, "big")
        )
        head += header[8:10] + bytes(2) + header[12:]
        pieces.append(head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + piece)
        done += room
        header = _later_header(packet[:size])
    return pieces


def _later_header(header: bytes) -> bytes:
    """Return the header of the second and later fragments: with the options that have to be copied only."""
    kept, at = b"", _V4.size
    while at < len(header) and header[at]:
        step = 1 if header[at] == _NO_OPERATION else max(2, header[at + 1] if at + 1 < len(header) else 2)
        if header[at] & _COPIED:
            kept += header[at : at + step]
        at += step
    kept += bytes(-len(kept) % 4)
    return bytes([0x40 | (_V4.size + len(kept)) // 4]) + header[1 : _V4.size] + kept
