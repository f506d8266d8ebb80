"""ARP for IPv4 over Ethernet (RFC 826)."""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from libnetvirt.packet.ethernet import ETH_ARP, PacketError, ethernet

REQUEST = 1
REPLY = 2

_BODY = Struct("!HHBBH6s4s6s4s")


class ARP(NamedTuple):
    """An ARP packet for IPv4. ``operation`` is 1 (request) or 2 (reply)."""

    operation: int
    sender_mac: bytes
    sender: bytes
    target_mac: bytes
    target: bytes

    @property
    def is_request(self) -> bool:
        """Whether the packet is a request."""
        return self.operation == REQUEST


def parse_arp(payload: bytes) -> ARP:
    """Parse the payload of an Ethernet frame; padding at its end is ignored. Raises PacketError."""
    if len(payload) < _BODY.size:
        raise PacketError(f"ARP of {len(payload)} bytes: {_BODY.size} are needed")
    hardware, protocol, hardware_size, protocol_size, operation, *addresses = _BODY.unpack_from(payload)
    if (hardware, protocol, hardware_size, protocol_size) != (1, 0x0800, 6, 4):
        raise PacketError("ARP for other protocols than IPv4 over Ethernet")
    if operation not in (REQUEST, REPLY):
        raise PacketError(f"ARP operation {operation}")
    return ARP(operation, *addresses)


def arp_frame(destination: bytes, packet: ARP) -> bytes:
    """Return a frame with this ARP packet, from the packet's sender MAC address to ``destination``."""
    body = _BODY.pack(
        1, 0x0800, 6, 4, packet.operation, packet.sender_mac, packet.sender, packet.target_mac, packet.target
    )
    return ethernet(destination, packet.sender_mac, ETH_ARP, body)
