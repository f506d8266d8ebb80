"""What routers say themselves (ARP, neighbour discovery, ICMP), without what they may choose."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from libnetvirt import VirtualNetwork
from libnetvirt.conformance.harness import Allowance
from libnetvirt.conformance.support.frames import AD, ARP, IPV4, IPV6, VLAN, checksum
from libnetvirt.model import Forwarding
from libnetvirt.semantics import gateway_mac

#: router's MAC address -> its IP addresses
Routers = Mapping[bytes, frozenset[bytes]]

#: without its checksum; what a network card pads shorter ones to
SMALLEST = 60
TTLS = (64, 255)
DONT_FRAGMENT = 0x40
ICMP, ICMPV6 = 1, 58
DISCOVERY = range(133, 138)


def routers_of(networks: Iterable[VirtualNetwork]) -> Routers:
    """The routers that networks look like."""
    return {
        gateway_mac(network.uuid): frozenset(a.ip.packed for e in network.endpoints for a in e.address)
        for network in networks
        if network.forwarding is Forwarding.L3
    }


def canonical(frame: bytes, routers: Routers, allowed: frozenset[Allowance]) -> bytes:
    """The same for all frames that say the same.

    Frames that no router says itself are returned as they are: what is forwarded is compared octet by octet.
    Of what it says, standards leave to the router: the identification of IPv4 packets (RFC 6864), a
    TTL of 64 or 255 (neighbour discovery: 255, RFC 4861) and whether a short frame is padded, with zeros.
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
        packet = _canonical_ipv4(packet, allowed)
    elif kind == IPV6 and packet[8:24] in own:
        packet = _canonical_ipv6(packet, allowed)
    elif kind != ARP:
        return frame
    return frame[: at + 2] + packet


def _size(kind: int, body: bytes) -> int:
    """How much of what follows an Ethernet header is not padding."""
    if kind == ARP:
        return 28
    if kind == IPV4:
        return int.from_bytes(body[2:4], "big")
    return 40 + int.from_bytes(body[4:6], "big") if kind == IPV6 else len(body)


def _canonical_ipv4(packet: bytes, allowed: frozenset[Allowance]) -> bytes:
    if checksum(packet[:20]):
        return packet
    octets = bytearray(packet)
    octets[4:6] = octets[10:12] = bytes(2)
    octets[8] = _canonical_ttl(octets[8], allowed)
    if Allowance.FRAGMENTS in allowed:
        octets[6] &= ~DONT_FRAGMENT
    octets[10:12] = checksum(bytes(octets[:20])).to_bytes(2, "big")
    return bytes(octets)


def _canonical_ipv6(packet: bytes, allowed: frozenset[Allowance]) -> bytes:
    if packet[6] == ICMPV6 and int.from_bytes(packet[40:41], "big") in DISCOVERY:
        return packet
    return packet[:7] + bytes((_canonical_ttl(packet[7], allowed),)) + packet[8:]


def _canonical_ttl(ttl: int, allowed: frozenset[Allowance]) -> int:
    usual = TTLS if Allowance.HOPS not in allowed else (*TTLS, *(one - 1 for one in TTLS))
    return TTLS[0] if ttl in usual else ttl
