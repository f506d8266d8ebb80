"""Normalisation of the packets that routers originate (ARP, neighbour discovery, ICMP) for comparison."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from libnetvirt import VirtualNetwork
from libnetvirt.conformance.harness import Allowance
from libnetvirt.conformance.support.frames import AD, ARP, IPV4, IPV6, MPLS, VLAN, checksum
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
SOLICITATION = 135
#: the prefix fe80::/64
LINK_LOCAL = bytes.fromhex("fe80000000000000")


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
    elif kind == IPV6 and _is_solicitation(packet) and Allowance.LINK_LOCAL in allowed:
        packet = _normalise_solicitation(packet, own)
    elif kind == IPV6 and packet[8:24] in own:
        packet = _normalise_ipv6(packet, allowed)
    elif kind != ARP:
        return frame
    return frame[: at + 2] + packet


def reports_no_route(frame: bytes, routers: Routers) -> bool:
    """Whether this is a router's own ICMP error about a destination without a route.

    Drivers that do not offer ``router.no-route`` drop such packets silently.
    """
    if int.from_bytes(frame[12:14], "big") == MPLS:
        frame = frame[18:]  # an endpoint's label, and behind it the whole frame
    elif int.from_bytes(frame[12:14], "big") == VLAN:
        frame = frame[:12] + frame[16:]
    own = routers.get(frame[6:12], frozenset())
    if frame[12:14] == IPV4.to_bytes(2, "big") and frame[26:30] in own:
        return frame[23] == ICMP and frame[34:36] == bytes((3, 0))
    if frame[12:14] == IPV6.to_bytes(2, "big") and frame[22:38] in own:
        return frame[20] == ICMPV6 and frame[54:56] == bytes((1, 0))
    return False


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


def _is_solicitation(packet: bytes) -> bool:
    return packet[6:7] == bytes((ICMPV6,)) and packet[40:41] == bytes((SOLICITATION,))


def _normalise_solicitation(packet: bytes, own: frozenset[bytes]) -> bytes:
    """A solicitation without source and checksum, if both are right (RFC 4861, section 4.3)."""
    pseudo_header = packet[8:40] + packet[4:6].rjust(4, b"\0") + ICMPV6.to_bytes(4, "big")
    valid = not checksum(pseudo_header + packet[40:])
    if not valid or (packet[8:24] not in own and packet[8:16] != LINK_LOCAL):
        return packet
    return packet[:8] + bytes(16) + packet[24:42] + bytes(2) + packet[44:]


def _normalise_ttl(ttl: int, allowed: frozenset[Allowance]) -> int:
    usual = TTLS if Allowance.HOPS not in allowed else (*TTLS, *(one - 1 for one in TTLS))
    return TTLS[0] if ttl in usual else ttl
