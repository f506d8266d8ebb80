"""Ethernet II frames without preamble and FCS, and vlan tags (IEEE 802.1Q)."""

from __future__ import annotations

import re
from struct import Struct
from typing import NamedTuple

#: octets of a header without tags
ETHERNET_LENGTH = 14
ETH_IPV4 = 0x0800
ETH_ARP = 0x0806
ETH_IPV6 = 0x86DD
ETH_MPLS = 0x8847
#: what marks a vlan tag: 802.1Q customer tags and 802.1ad service tags
VLAN_TPIDS = (0x8100, 0x88A8)
BROADCAST = b"\xff" * 6

#: where a frame with labels is sent if the station at the other end of the cable is not known (RFC 7213)
POINT_TO_POINT = bytes.fromhex("01005e900000")

_ZERO = bytes(6)
_MPLS_OCTETS = b"\x88\x47"
_BOTTOM_OF_STACK = 0x100
_LABEL_TTL = 64
_TPID_OCTETS = (b"\x81\x00", b"\x88\xa8")
_HEADER = Struct("!6s6sH")
_MAC = re.compile(r"[0-9a-fA-F]{2}(?:[:-][0-9a-fA-F]{2}){5}", re.ASCII)


class PacketError(ValueError):
    """The bytes are not a valid packet of the kind that was to be read."""


class Ethernet(NamedTuple):
    """A frame whose ``ethertype`` is the two octets after the addresses, tag or not."""

    destination: bytes
    source: bytes
    ethertype: int
    payload: bytes


def parse_ethernet(frame: bytes) -> Ethernet:
    """Split a frame of at least 14 octets. Raises PacketError."""
    if len(frame) < 14:
        raise PacketError(f"a frame of {len(frame)} octets: at least 14 are needed")
    destination, source, ethertype = _HEADER.unpack_from(frame)
    return Ethernet(destination, source, ethertype, frame[14:])


def ethernet(destination: bytes, source: bytes, ethertype: int, payload: bytes) -> bytes:
    """Build a frame; not padded, which is the network card's work."""
    return _HEADER.pack(destination, source, ethertype) + payload


def is_tagged(frame: bytes) -> bool:
    """Does a vlan tag follow the addresses?"""
    return frame[12:14] in _TPID_OCTETS


def split_tag(frame: bytes) -> tuple[int | None, bytes]:
    """The vlan id (None: no tag) of a frame's outermost tag, and the frame without that tag.

    Priority and drop-eligible bits are forgotten. Raises PacketError for a truncated frame.
    """
    if len(frame) < 14:
        raise PacketError(f"a frame of {len(frame)} octets: at least 14 are needed")
    if frame[12:14] not in _TPID_OCTETS:
        return None, frame
    if len(frame) < 18:
        raise PacketError(f"a tagged frame of {len(frame)} octets: at least 18 are needed")
    return int.from_bytes(frame[14:16], "big") & 0xFFF, frame[:12] + frame[16:]


def add_tag(vlan: int | None, frame: bytes) -> bytes:
    """The frame with a customer tag of priority 0 put in; unchanged if ``vlan`` is None."""
    if vlan is None:
        return frame
    return frame[:12] + b"\x81\x00" + vlan.to_bytes(2, "big") + frame[12:]


def split_label(frame: bytes) -> tuple[int, bytes] | None:
    """The label of an Ethernet frame that a lone mpls label carries (RFC 4448, without control word), and
    that frame. None if it is no frame with exactly one label; the outer addresses are not looked at."""
    if frame[12:14] != _MPLS_OCTETS or len(frame) < 18:
        return None
    entry = int.from_bytes(frame[14:18], "big")
    return (entry >> 12, frame[18:]) if entry & _BOTTOM_OF_STACK else None


def add_label(label: int, frame: bytes) -> bytes:
    """The frame in an mpls label, sent to whoever is at the other end of the cable (RFC 7213)."""
    entry = label << 12 | _BOTTOM_OF_STACK | _LABEL_TTL
    return ethernet(POINT_TO_POINT, _ZERO, ETH_MPLS, entry.to_bytes(4, "big") + frame)


def is_group(mac: bytes) -> bool:
    """Is it a multicast or broadcast address (IEEE 802 individual/group bit)?"""
    return bool(mac[0] & 1)


def is_host_mac(mac: bytes) -> bool:
    """Can it be a host's own address: neither a group's nor zero?"""
    return not mac[0] & 1 and mac != _ZERO


def mac_text(mac: bytes) -> str:
    """``02:00:00:00:00:01``."""
    return mac.hex(":")


def mac_bytes(text: str) -> bytes:
    """The six octets of ``02:00:00:00:00:01``. Raises PacketError."""
    if not _MAC.fullmatch(text):
        raise PacketError(f"{text[:40]!r} is not a MAC address")
    return bytes.fromhex(text.replace(":", "").replace("-", ""))


def multicast_mac(address: bytes) -> bytes:
    """Where frames to an IP multicast group go (RFC 1112 section 6.4, RFC 2464 section 7)."""
    if len(address) == 16:
        return b"\x33\x33" + address[-4:]
    return b"\x01\x00\x5e" + bytes([address[1] & 0x7F]) + address[2:]
