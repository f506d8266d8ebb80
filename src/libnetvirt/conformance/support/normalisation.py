"""Normalisation of the packets that routers originate (ARP, neighbour discovery, ICMP) for comparison."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from libnetvirt import VirtualNetwork
from libnetvirt.conformance.harness import Allowance
from libnetvirt.conformance.support.frames import AD, ARP, IPV4, IPV6, VLAN, checksum
from libnetvirt.model import Forwarding
from libnetvirt.semantics import gateway_mac

#: router's MAC address -> its IP addresses
Routers = Mapping[bytes, frozenset[bytes]]

#: bytes of the shortest frame without its checksum, to which network cards pad shorter ones
SMALLEST = 60
TTLS = (64, 255)
DONT_FRAGMENT = 0x40
ICMP, ICMPV6 = 1, 58
DISCOVERY = range(133, 138)


def routers_of(networks: Iterable[VirtualNetwork]) -> Routers:
    """The routers among networks."""
    return {
        gateway_mac(network.uuid): frozenset(a.ip.packed for e in network.endpoints for a in e.address)
        for network in networks
        if network.forwarding is Forwarding.L3
    }


def normalise(frame: bytes, routers: Routers, allowed: frozenset[Allowance]) -> bytes:
    """Return a frame with the fields that a router may choose set to fixed values.

    Two frames of a router are equivalent if they are equal after this. A frame that no router originated is
    returned unchanged: forwarded frames are compared byte by byte. The standards leave to a router the
    identification of its IPv4 packets (RFC 6864), a TTL of 64 or 255 (neighbour discovery: always 255,
    RFC 4861), and whether short frames are padded with zeros.
    """
    own = routers.get(frame[6:12])
    if own is None:
        return frame
    at = 12
    while int.from_bytes(frame[at : at + 2], "big") in (VLAN, AD):
        at += 4
    kind, body = int.from_bytes(frame[at : at + 2], "big"), frame[at + 2 :]
    packet, padding = body[: _size(kind, body)], body[_size(kind, body) :]
    if padding and (any(padding) or len(frame) > SMALLEST + at - 12):
        return frame
    if kind == IPV4 and packet[12:16] in own:
        packet = _normalise_ipv4(packet, allowed)
    elif kind == IPV6 and packet[8:24] in own:
        packet = _normalise_ipv6(packet, allowed)
    elif kind != ARP:
        return frame
    return frame[: at + 2] + packet


def _size(kind: int, body: bytes) -> int:
    """The number of bytes behind an Ethernet header that are not padding."""
    if kind == ARP:
        return 28
    if kind == IPV4:
        return int.from_bytes(body[2:4], "big")
    return 40 + int.from_bytes(body[4:6], "big") if kind == IPV6 else len(body)


def _normalise_ipv4(packet: bytes, allowed: frozenset[Allowance]) -> bytes:
    if checksum(packet[:20]):
        return packet
    changed = bytearray(packet)
    changed[4:6] = changed[10:12] = bytes(2)
    changed[8] = _normalise_ttl(changed[8], allowed)
    if Allowance.FRAGMENTS in allowed:
        changed[6] &= ~DONT_FRAGMENT
    changed[10:12] = checksum(bytes(changed[:20])).to_bytes(2, "big")
    return bytes(changed)


def _normalise_ipv6(packet: bytes, allowed: frozenset[Allowance]) -> bytes:
    if packet[6] == ICMPV6 and int.from_bytes(packet[40:41], "big") in DISCOVERY:
        return packet
    return packet[:7] + bytes((_normalise_ttl(packet[7], allowed),)) + packet[8:]


def _normalise_ttl(ttl: int, allowed: frozenset[Allowance]) -> int:
    usual = TTLS if Allowance.HOPS not in allowed else (*TTLS, *(one - 1 for one in TTLS))
    return TTLS[0] if ttl in usual else ttl
