"""Builders of Ethernet frames as hosts send them, well-formed and malformed."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address

BROADCAST = "ff:ff:ff:ff:ff:ff"
VLAN, AD = 0x8100, 0x88A8
IPV4, ARP, IPV6, MPLS, MPLS_MULTICAST, LLDP = 0x0800, 0x0806, 0x86DD, 0x8847, 0x8848, 0x88CC
#: destination of an MPLS frame on a point-to-point link whose peer's address is unknown (RFC 7213)
POINT_TO_POINT = "01:00:5e:90:00:00"
#: local experimental ethertype (IEEE 802): carries the suite's numbered and marked frames
EXPERIMENT = 0x88B5


def mac(number: int) -> str:
    """The locally administered address 02:00:… of host ``number``."""
    return mac_text((0x02 << 40 | number).to_bytes(6, "big"))


def mac_bytes(address: str) -> bytes:
    """The six bytes of an address such as ``"02:00:00:00:00:01"``."""
    return bytes.fromhex(address.replace(":", ""))


def mac_text(address: bytes) -> str:
    """The text form of a MAC address of six bytes."""
    return address.hex(":")


def tag(vid: int, *, tpid: int = VLAN, priority: int = 0) -> bytes:
    """A VLAN tag of four bytes, to be inserted before the ethertype."""
    return struct.pack("!HH", tpid, priority << 13 | vid)


def ethernet(
    source: str, destination: str, kind: int, payload: bytes, *, tags: Iterable[bytes] = (), pad: bool = True
) -> bytes:
    """An Ethernet frame, padded to 60 bytes unless ``pad`` is false."""
    frame = mac_bytes(destination) + mac_bytes(source) + b"".join(tags) + struct.pack("!H", kind) + payload
    return frame.ljust(60, b"\0") if pad else frame


def tagged(frame: bytes, *tags: bytes) -> bytes:
    """The frame with tags pushed, outermost first."""
    return frame[:12] + b"".join(tags) + frame[12:]


def is_priority_tagged(frame: bytes) -> bool:
    """Whether the outermost tag has VLAN 0."""
    kind, control = frame[12:14], int.from_bytes(frame[14:16], "big")
    return int.from_bytes(kind, "big") in (VLAN, AD) and not control & 0xFFF


def checksum(content: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(content) % 2:
        content += b"\0"
    total = sum(struct.unpack(f"!{len(content) // 2}H", content))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(total) ^ 0xFFFF


def marked(source: str, destination: str, text: bytes) -> bytes:
    """A frame with the experimental ethertype and ``text`` as payload."""
    return ethernet(source, destination, EXPERIMENT, text.ljust(46, b"\0"))


def arp(
    source: str, sender: str, target: str, *, reply_to: str = "", operation: int = 0, claimed: str = ""
) -> bytes:
    """An ARP request for ``target`` from ``sender``; with ``reply_to`` (a MAC address), the reply.

    ``claimed`` is the sender hardware address, if it differs from the frame's source address.
    """
    answer = bool(reply_to)
    body = struct.pack("!HHBBH", 1, IPV4, 6, 4, operation or (2 if answer else 1))
    body += mac_bytes(claimed or source) + IPv4Address(sender).packed
    body += (mac_bytes(reply_to) if answer else bytes(6)) + IPv4Address(target).packed
    return ethernet(source, reply_to or BROADCAST, ARP, body)


def ipv4(
    source: str, destination: str, sender: str, target: str, payload: bytes = b"", *, protocol: int = 17,
    ttl: int = 64, tos: int = 0,
) -> bytes:  # fmt: skip
    """An IPv4 packet in a frame."""
    head = struct.pack("!BBHHHBBH", 0x45, tos, 20 + len(payload), 1, 0, ttl, protocol, 0)
    head += IPv4Address(sender).packed + IPv4Address(target).packed
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    return ethernet(source, destination, IPV4, head + payload)


def udp(source_port: int, destination_port: int, content: bytes) -> bytes:
    """A UDP datagram without a checksum, for ``ipv4``."""
    return struct.pack("!HHHH", source_port, destination_port, 8 + len(content), 0) + content


def echo(identifier: int, sequence: int, content: bytes = b"netvirt") -> bytes:
    """An ICMP echo request, for ``ipv4(protocol=1)``."""
    body = struct.pack("!BBHHH", 8, 0, 0, identifier, sequence) + content
    return body[:2] + struct.pack("!H", checksum(body)) + body[4:]


def ipv6(
    source: str,
    destination: str,
    sender: str,
    target: str,
    payload: bytes,
    *,
    following: int,
    hops: int = 255,
) -> bytes:
    """An IPv6 packet in a frame."""
    head = struct.pack("!IHBB", 6 << 28, len(payload), following, hops)
    head += IPv6Address(sender).packed + IPv6Address(target).packed
    return ethernet(source, destination, IPV6, head + payload)


def _icmpv6(sender: str, target: str, body: bytes) -> bytes:
    pseudo = IPv6Address(sender).packed + IPv6Address(target).packed + struct.pack("!II", len(body), 58)
    return body[:2] + struct.pack("!H", checksum(pseudo + body)) + body[4:]


def solicitation(source: str, sender: str, target: str) -> bytes:
    """IPv6 neighbour solicitation: to the target's solicited-node multicast group (RFC 4861)."""
    low = IPv6Address(target).packed[-3:]
    group = str(IPv6Address(IPv6Address("ff02::1:ff00:0").packed[:13] + low))
    body = bytes((135, 0, 0, 0)) + bytes(4) + IPv6Address(target).packed + b"\x01\x01" + mac_bytes(source)
    multicast = mac_text(b"\x33\x33\xff" + low)
    return ipv6(source, multicast, sender, group, _icmpv6(sender, group, body), following=58)


def advertisement(source: str, destination: str, sender: str, target: str) -> bytes:
    """IPv6 neighbour advertisement: solicited, override."""
    body = bytes((136, 0, 0, 0, 0x60, 0, 0, 0)) + IPv6Address(sender).packed + b"\x02\x01" + mac_bytes(source)
    return ipv6(source, destination, sender, target, _icmpv6(sender, target, body), following=58)


def lldp(source: str, chassis: bytes = b"forged", port: bytes = b"1", *, destination: str = "") -> bytes:
    """An LLDP frame such as a switch or a curious host sends."""

    def tlv(kind: int, value: bytes) -> bytes:
        return struct.pack("!H", kind << 9 | len(value)) + value

    body = tlv(1, b"\x07" + chassis) + tlv(2, b"\x07" + port) + tlv(3, b"\0\x78") + tlv(0, b"")
    return ethernet(source, destination or "01:80:c2:00:00:0e", LLDP, body)


def mpls(source: str, destination: str, *labels: int, kind: int = MPLS, payload: bytes = b"x" * 46) -> bytes:
    """An MPLS frame with a label stack."""
    entries = [label << 12 | 64 for label in labels]
    if entries:
        entries[-1] |= 0x100
    stack = b"".join(struct.pack("!I", entry) for entry in entries)
    return ethernet(source, destination, kind, stack + payload)


def in_label(label: int, frame: bytes) -> bytes:
    """The whole frame behind one MPLS label, as an endpoint with that label sends and receives it."""
    entry = struct.pack("!I", label << 12 | 0x100 | 64)
    return ethernet("00:00:00:00:00:00", POINT_TO_POINT, MPLS, entry + frame, pad=False)


def described(frame: bytes) -> str:
    """A line that describes a frame, for messages of failed tests."""
    if len(frame) < 14:
        return f"{len(frame)} bytes: {frame.hex()}"
    text, at = f"{mac_text(frame[6:12])} > {mac_text(frame[:6])}", 12
    while (kind := int.from_bytes(frame[at : at + 2], "big")) in (VLAN, AD):
        vid = int.from_bytes(frame[at + 2 : at + 4], "big")
        text += f" [{kind:04x} {vid & 0xFFF} p{vid >> 13}]"
        at += 4
    body = frame[at + 2 :]
    if kind == ARP and len(body) >= 28:
        asked, told = ip_address(body[24:28]), ip_address(body[14:18])
        return f"{text} arp {body[7]} {told} > {asked}"
    return f"{text} {kind:04x} {len(frame)} bytes {body[:24].rstrip(bytes(1))!r}"
