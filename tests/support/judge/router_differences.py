"""What the Linux kernel's router does otherwise than a network, and why: each difference has a name.

Each function turns the frames that were expected so far into those that are expected of the kernel. What it
does not name is judged as it is. docs/testing.md lists them with those of ``router_cases``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address

from libnetvirt import Endpoint, VirtualNetwork
from libnetvirt.conformance.support import frames
from tests.support.judge import packets
from tests.support.judge.kernel import Left
from tests.support.judge.router import LINK_LOCAL, Exchange

UNREACHABLE, TIME_EXCEEDED = 3, 11
ECHO6 = 128
SOLICITATION, ADVERTISEMENT, REDIRECT = 135, 136, 137
INTERNETWORK_CONTROL, TOS = 0xC0, 0x1E


def is_arp(frame: bytes) -> bool:
    return frame[12:14] == b"\x08\x06"


def _icmp(frame: bytes) -> int | None:
    """The type of an ICMP message in IPv4; None for other frames."""
    return frame[34] if frame[12:15] == b"\x08\x00\x45" and frame[23] == packets.ICMP else None


def _icmpv6(frame: bytes) -> int | None:
    """The type of an ICMPv6 message; None for other frames."""
    return frame[54] if frame[12:14] == b"\x86\xdd" and frame[20] == packets.ICMPV6 else None


def _end(packet: bytes) -> int:
    """The length of an IP packet without padding."""
    if packet[0] >> 4 == 4:
        return int.from_bytes(packet[2:4], "big")
    return 40 + int.from_bytes(packet[4:6], "big")


def _source(frame: bytes) -> str:
    """The source address of an IP packet in a frame."""
    return str(ip_address(frame[26:30] if frame[12:14] == b"\x08\x00" else frame[22:38]))


def _destination(frame: bytes) -> str:
    return str(ip_address(frame[30:34] if frame[12:14] == b"\x08\x00" else frame[38:54]))


def _ipv6(frame: bytes, source: str, message: bytes) -> bytes:
    """An ICMPv6 packet in a frame with another source address and message."""
    destination = _destination(frame)
    packet = packets.ip(
        source, destination, packets.ICMPV6, packets.icmpv6(source, destination, message), ttl=frame[21]
    )
    return frame[:14] + packet


def _own(network: VirtualNetwork) -> set[str]:
    return {str(a.ip) for e in network.endpoints for a in e.address}


def padding(_: Exchange, expected: list[Left]) -> Iterator[Left]:
    """The kernel forwards a packet without the padding of its frame, a network with it: a switch does not
    look where a packet ends, and receivers ignore what is behind it (IEEE 802.3 3.2.8)."""
    for port, frame in expected:
        yield port, frame if is_arp(frame) else frame[: 14 + _end(frame[14:])]


def solicitation_source(x: Exchange, expected: list[Left]) -> Iterator[Left]:
    """The kernel solicits from its link-local address, a network from the endpoint's own: it has no other.
    RFC 4861 7.2.2 allows any address of the interface."""
    for port, frame in expected:
        own = _icmpv6(frame) == SOLICITATION and _source(frame) in _own(x.network)
        yield port, _ipv6(frame, LINK_LOCAL, frame[54:]) if own else frame


def error_precedence(x: Exchange, expected: list[Left]) -> Iterator[Left]:
    """ICMP errors of the kernel have the precedence of internetwork control and the type of service of
    their cause (RFC 1812 4.3.2.4 and 4.3.2.5: should); those of a network have neither, like those of
    OVN."""
    for port, frame in expected:
        if _icmp(frame) in (UNREACHABLE, TIME_EXCEEDED) and _source(frame) in _own(x.network):
            tos = x.frame[15] & TOS | INTERNETWORK_CONTROL
            head = frame[14:15] + bytes([tos]) + frame[16:24] + bytes(2) + frame[26:34]
            head = head[:10] + struct.pack("!H", frames.checksum(head)) + head[12:]
            yield port, frame[:14] + head + frame[34:]
        else:
            yield port, frame


def tcp_reset(x: Exchange, expected: list[Left]) -> Iterator[Left]:
    """The kernel resets a TCP connection to the router (RFC 9293 3.10.7.1); a network sends "port
    unreachable", which RFC 1122 3.2.2.1 allows, so that the controller need not know TCP."""
    head = 34 if x.frame[12:14] == b"\x08\x00" else 54
    protocol = x.frame[23] if head == 34 else x.frame[20]
    source, destination = (_source(x.frame), _destination(x.frame)) if expected else ("", "")
    dscp = (x.frame[15] if head == 34 else int.from_bytes(x.frame[14:16], "big") >> 4) & 0xFC
    for port, frame in expected:
        if protocol == packets.TCP and destination in _own(x.network):
            number, acknowledged, flags = struct.unpack_from("!II1xB", x.frame, head + 4)
            answer = (
                packets.tcp(destination, source, acknowledged, 0, 0x04, back=True)
                if flags & 0x10
                else packets.tcp(destination, source, 0, number + 1, 0x14, back=True)
            )
            yield port, frame[:14] + packets.ip(destination, source, packets.TCP, answer, traffic_class=dscp)
        else:
            yield port, frame


def unicast_solicitation(x: Exchange, expected: list[Left]) -> Iterator[Left]:
    """To a solicitation that is not sent to a group, the kernel's answer has no link-layer address and does
    not override; a network's is always complete. RFC 4861 7.2.4 allows both."""
    to_group = x.frame[38:39] == b"\xff"
    for port, frame in expected:
        own = _icmpv6(frame) == ADVERTISEMENT and _source(frame) in _own(x.network)
        if own and not to_group:
            flags = frame[58] & ~0x20
            message = frame[54:58] + bytes([flags]) + frame[59:78]
            yield port, _ipv6(frame, _source(frame), message)
        else:
            yield port, frame


def reply_path(x: Exchange, expected: list[Left]) -> Iterator[Left]:
    """The kernel routes its replies and errors; a network sends them back to where the packet came from, so
    that a host that uses another's address learns nothing of what is behind it, and no neighbour is
    asked."""
    network, known = x.network, x.before.network(x.network.uuid).neighbours
    for port, frame in expected:
        reply = _source(frame) in _own(network) if not is_arp(frame) else False
        if not reply or _icmpv6(frame) in (SOLICITATION, ADVERTISEMENT):
            yield port, frame
            continue
        e, hop = _route(network, _destination(frame))
        if (e.uuid, hop.packed) in known:
            yield int(e.uuid), known[e.uuid, hop.packed] + frame[6:]


def _route(network: VirtualNetwork, destination: str) -> tuple[Endpoint, IPv4Address | IPv6Address]:
    """The endpoint and the next hop of the longest prefix that has the destination."""
    to = ip_address(destination)
    connected = [(a.network, e, to) for e in network.endpoints for a in e.address]
    static = [(r.prefix, e, r.via) for e in network.endpoints for r in e.route]
    _, e, hop = max((x for x in (*connected, *static) if to in x[0]), key=lambda x: x[0].prefixlen)
    return e, hop


def arp_from_no_host(x: Exchange, expected: list[Left]) -> Iterator[Left]:
    """The kernel does not answer an ARP request whose sender's address is a broadcast or the router's own
    at another endpoint; a network answers, and learns nothing from it."""
    if is_arp(x.frame) and _no_host(x.network, str(IPv4Address(x.frame[28:32]))):
        return
    yield from expected


def _no_host(network: VirtualNetwork, address: str) -> bool:
    prefixes = [a.network for e in network.endpoints for a in e.address if a.version == 4]
    broadcast = {
        str(p.broadcast_address) for p in prefixes if isinstance(p, IPv4Network) and p.prefixlen < 31
    }
    return address in broadcast | _own(network)


#: in this order
DIFFERENCES: tuple[Callable[[Exchange, list[Left]], Iterator[Left]], ...] = (
    arp_from_no_host,
    padding,
    solicitation_source,
    tcp_reset,
    error_precedence,
    unicast_solicitation,
    reply_path,
)


def is_redirect(x: Exchange, left: Left) -> bool:
    """The kernel redirects a sender whose IPv6 packet leaves where it came in (RFC 4861 8.2: should); a
    network does not, as both hosts may be at different ports of it. Redirects cannot be switched off."""
    back = any(port == int(x.endpoint.uuid) and frame[6:12] != x.frame[6:12] for port, frame in _said(x))
    return _icmpv6(left[1]) == REDIRECT and back


def _said(x: Exchange) -> Iterator[Left]:
    return ((int(uuid), frame) for uuid, frame in x.outcome.outputs)
