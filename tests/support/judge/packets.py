"""Packets as hosts send them, with every field that a router looks at. Nothing of ``libnetvirt.packet``."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

from libnetvirt.conformance.support.frames import ARP, BROADCAST, IPV4, IPV6, checksum, mac_bytes

ICMP, TCP, UDP, ICMPV6, EXPERIMENT = 1, 6, 17, 58, 253
DONT_FRAGMENT, MORE_FRAGMENTS = 0x4000, 0x2000


def ethernet(source: str, destination: str, packet: bytes, kind: int = 0) -> bytes:
    """A frame without padding, whose type is that of the IP packet unless ``kind`` is given."""
    kind = kind or (IPV4 if packet[0] >> 4 == 4 else IPV6)
    return mac_bytes(destination) + mac_bytes(source) + struct.pack("!H", kind) + packet


def arp(source: str, sender: str, target: str, *, operation: int = 1, to: str = BROADCAST) -> bytes:
    """An ARP packet in a frame. ``to`` is the destination of the frame; of a reply, the target, too."""
    body = struct.pack("!HHBBH", 1, IPV4, 6, 4, operation) + mac_bytes(source) + IPv4Address(sender).packed
    body += (bytes(6) if operation == 1 else mac_bytes(to)) + IPv4Address(target).packed
    return ethernet(source, to, body, ARP)


def ip(
    source: str,
    destination: str,
    protocol: int,
    payload: bytes,
    *,
    ttl: int = 64,
    traffic_class: int = 0,
    position: int = 0,
) -> bytes:
    """An IP packet. ``position`` is the field with the flags and the fragment offset (IPv4 only)."""
    a, b = ip_address(source), ip_address(destination)
    if isinstance(a, IPv6Address):
        head = struct.pack("!IHBB", 6 << 28 | traffic_class << 20, len(payload), protocol, ttl)
        return head + a.packed + b.packed + payload
    fields = 0x45, traffic_class, 20 + len(payload), 7, position, ttl, protocol, 0
    head = struct.pack("!BBHHHBBH", *fields) + a.packed + b.packed
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def _pseudo_header(source: str, destination: str, protocol: int, size: int) -> bytes:
    a, b = ip_address(source), ip_address(destination)
    last = struct.pack("!II", size, protocol) if a.version == 6 else struct.pack("!HH", protocol, size)
    return a.packed + b.packed + last


def _with_checksum(source: str, destination: str, protocol: int, message: bytes, at: int) -> bytes:
    pseudo = b"" if protocol == ICMP else _pseudo_header(source, destination, protocol, len(message))
    total = checksum(pseudo + message) or 0xFFFF if protocol == UDP else checksum(pseudo + message)
    return message[:at] + struct.pack("!H", total) + message[at + 2 :]


def udp(source: str, destination: str, content: bytes) -> bytes:
    """A UDP datagram to a port where nothing listens."""
    message = struct.pack("!HHHH", 5000, 33434, 8 + len(content), 0) + content
    return _with_checksum(source, destination, UDP, message, 6)


def tcp(
    source: str, destination: str, number: int, acknowledged: int, flags: int, *, back: bool = False
) -> bytes:
    """A TCP segment without data to a port where nothing listens, or (``back``) from there."""
    ports = (80, 5000) if back else (5000, 80)
    message = struct.pack("!HHIIBBHHH", *ports, number, acknowledged, 0x50, flags, 0 if back else 512, 0, 0)
    return _with_checksum(source, destination, TCP, message, 16)


def echo(source: str, destination: str, content: bytes, *, reply: bool = False, code: int = 0) -> bytes:
    """An echo request or reply."""
    v6 = ip_address(source).version == 6
    kind = (129 if reply else 128) if v6 else (0 if reply else 8)
    message = struct.pack("!BBHHH", kind, code, 0, 7, 1) + content
    return _with_checksum(source, destination, ICMPV6 if v6 else ICMP, message, 2)


def icmpv6(source: str, destination: str, message: bytes) -> bytes:
    """An ICMPv6 message with its checksum set."""
    return _with_checksum(source, destination, ICMPV6, message[:2] + bytes(2) + message[4:], 2)


def solicited_node(address: str) -> tuple[str, str]:
    """The solicited-node group of an address, and the MAC address of that group."""
    low = ip_address(address).packed[-3:]
    group = bytes.fromhex("ff0200000000000000000001ff") + low
    return str(IPv6Address(group)), "33:33:ff:" + low.hex(":")


def solicitation(source: str, sender: str, target: str, *, option: bool = True, to: str = "") -> bytes:
    """A neighbour solicitation to the target's group, or to the target itself at the MAC address ``to``."""
    group, mac = solicited_node(target)
    destination = target if to else group
    body = bytes([135, 0, 0, 0]) + bytes(4) + ip_address(target).packed
    body += b"\x01\x01" + mac_bytes(source) if option else b""
    packet = ip(sender, destination, ICMPV6, icmpv6(sender, destination, body), ttl=255)
    return ethernet(source, to or mac, packet)


def advertisement(
    source: str, target: str, destination: str, to: str, *, flags: int = 0x60, option: bool = True
) -> bytes:
    """A neighbour advertisement for ``target``. ``flags``: 0x80 router, 0x40 solicited, 0x20 override."""
    body = bytes([136, 0, 0, 0, flags, 0, 0, 0]) + ip_address(target).packed
    body += b"\x02\x01" + mac_bytes(source) if option else b""
    packet = ip(target, destination, ICMPV6, icmpv6(target, destination, body), ttl=255)
    return ethernet(source, to, packet)
