"""Ethernet II frames without preamble and FCS, vlan tags (IEEE 802.1Q) and mpls labels (RFC 3032)."""

from __future__ import annotations

import re
from struct import Struct
from typing import NamedTuple

#: length in bytes of a header without tags
ETHERNET_LENGTH = 14
ETH_IPV4 = 0x0800
ETH_ARP = 0x0806
ETH_IPV6 = 0x86DD
ETH_MPLS = 0x8847
#: ethertypes of vlan tags: 802.1Q customer tags and 802.1ad service tags
VLAN_TPIDS = (0x8100, 0x88A8)
BROADCAST = b"\xff" * 6

#: the destination of frames of slow protocols, such as LACP (IEEE 802.3, annex 57A)
SLOW_PROTOCOLS = bytes.fromhex("0180c2000002")
#: destination of labelled frames to the other end of a point-to-point link (RFC 7213)
POINT_TO_POINT = bytes.fromhex("01005e900000")

_ZERO = bytes(6)
_MPLS_BYTES = b"\x88\x47"
_BOTTOM_OF_STACK = 0x100
_LABEL_TTL = 64
_TPID_BYTES = (b"\x81\x00", b"\x88\xa8")
_HEADER = Struct("!6s6sH")
_MAC = re.compile(r"[0-9a-fA-F]{2}(?:[:-][0-9a-fA-F]{2}){5}", re.ASCII)


class PacketError(ValueError):
    """Raised for bytes that are not a valid packet of the expected type."""


class Ethernet(NamedTuple):
    """A frame. ``ethertype`` is the two bytes after the addresses, also where they begin a tag."""

    destination: bytes
    source: bytes
    ethertype: int
    payload: bytes


def parse_ethernet(frame: bytes) -> Ethernet:
    """Parse a frame. Raises PacketError if it is shorter than 14 bytes."""
    if len(frame) < 14:
        raise PacketError(f"a frame of {len(frame)} bytes: at least 14 are needed")
    destination, source, ethertype = _HEADER.unpack_from(frame)
    return Ethernet(destination, source, ethertype, frame[14:])


def ethernet(destination: bytes, source: bytes, ethertype: int, payload: bytes) -> bytes:
    """Return a frame. It is not padded to the minimum length, which network cards do."""
    return _HEADER.pack(destination, source, ethertype) + payload


def is_tagged(frame: bytes) -> bool:
    """Whether a vlan tag follows the addresses."""
    return frame[12:14] in _TPID_BYTES


def split_tag(frame: bytes) -> tuple[int | None, bytes]:
    """Return the vlan id of the outermost tag (None: no tag) and the frame without that tag.

    Priority and drop-eligible bits are discarded. Raises PacketError if the frame is truncated.
    """
    if len(frame) < 14:
        raise PacketError(f"a frame of {len(frame)} bytes: at least 14 are needed")
    if frame[12:14] not in _TPID_BYTES:
        return None, frame
    if len(frame) < 18:
        raise PacketError(f"a tagged frame of {len(frame)} bytes: at least 18 are needed")
    return int.from_bytes(frame[14:16], "big") & 0xFFF, frame[:12] + frame[16:]


def tag_priority(frame: bytes) -> int | None:
    """Return the priority (PCP) in the outermost tag of a frame that is not truncated; None without a tag."""
    return frame[14] >> 5 if is_tagged(frame) else None


def add_tag(vlan: int | None, frame: bytes, priority: int = 0) -> bytes:
    """Return the frame with a customer tag; the frame itself if ``vlan`` is None."""
    if vlan is None:
        return frame
    return frame[:12] + b"\x81\x00" + (priority << 13 | vlan).to_bytes(2, "big") + frame[12:]


def with_vlan(vlan: int, frame: bytes) -> bytes:
    """Return a tagged frame with another vlan id in its outermost tag. Its type and priority bits stay."""
    control = int.from_bytes(frame[14:16], "big") & 0xF000 | vlan
    return frame[:14] + control.to_bytes(2, "big") + frame[16:]


def split_label(frame: bytes) -> tuple[int, bytes] | None:
    """Decapsulate an Ethernet frame behind a single mpls label (RFC 4448, without control word).

    Returns the label and the inner frame; None if the frame does not have exactly one label. The outer
    addresses are ignored.
    """
    if frame[12:14] != _MPLS_BYTES or len(frame) < 18:
        return None
    entry = int.from_bytes(frame[14:18], "big")
    return (entry >> 12, frame[18:]) if entry & _BOTTOM_OF_STACK else None


def add_label(label: int, frame: bytes) -> bytes:
    """Encapsulate a frame behind one mpls label (RFC 4448), addressed as RFC 7213 specifies."""
    entry = label << 12 | _BOTTOM_OF_STACK | _LABEL_TTL
    return ethernet(POINT_TO_POINT, _ZERO, ETH_MPLS, entry.to_bytes(4, "big") + frame)


def is_group(mac: bytes) -> bool:
    """Whether this is a multicast or broadcast address (IEEE 802 individual/group bit)."""
    return bool(mac[0] & 1)


def is_host_mac(mac: bytes) -> bool:
    """Whether this can be the address of a host: neither a group address nor zero."""
    return not mac[0] & 1 and mac != _ZERO


def mac_text(mac: bytes) -> str:
    """Format a MAC address as ``02:00:00:00:00:01``."""
    return mac.hex(":")


def mac_bytes(text: str) -> bytes:
    """Parse a MAC address such as ``02:00:00:00:00:01``. Raises PacketError."""
    if not _MAC.fullmatch(text):
        raise PacketError(f"{text[:40]!r} is not a MAC address")
    return bytes.fromhex(text.replace(":", "").replace("-", ""))


def multicast_mac(address: bytes) -> bytes:
    """Return the MAC address of an IP multicast group (RFC 1112, section 6.4; RFC 2464, section 7)."""
    if len(address) == 16:
        return b"\x33\x33" + address[-4:]
    return b"\x01\x00\x5e" + bytes([address[1] & 0x7F]) + address[2:]
