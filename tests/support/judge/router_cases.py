"""Differences between the kernel's router and a network that random trials avoid, each shown once.

Most change what one of both has learned, so the trial could not go on; others are packets that nobody sends.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from libnetvirt import Endpoint, VirtualNetwork
from libnetvirt.conformance.support import frames
from libnetvirt.semantics import gateway_mac
from tests.support.judge import packets

A, B, C, D = (frames.mac(n) for n in (1, 2, 5, 6))
NETWORK = VirtualNetwork(
    uuid=7,
    name="judged",
    forwarding="L3",
    endpoints=(
        Endpoint(uuid=1, switch=1, port=1, address=("10.0.1.254/24", "fd00:1::fe/64")),
        Endpoint(uuid=2, switch=1, port=2, address=("10.0.2.254/24", "fd00:2::fe/64")),
    ),
)
GATEWAY = frames.mac_text(gateway_mac("7"))
#: endpoint and frame: what host A at endpoint 1 and host B at endpoint 2 say first
INTRODUCTIONS = (
    (1, packets.arp(A, "10.0.1.1", "10.0.1.254")),
    (1, packets.solicitation(A, "fd00:1::1", "fd00:1::fe")),
    (2, packets.arp(B, "10.0.2.1", "10.0.2.254")),
    (2, packets.solicitation(B, "fd00:2::1", "fd00:2::fe")),
)


@dataclass(frozen=True)
class Step:
    """A frame into an endpoint, and what oracle and kernel do with it: see :func:`described`."""

    endpoint: int
    frame: bytes
    oracle: tuple[str, ...]
    kernel: tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """One difference: what it is called, what differs and why, and frames that show it."""

    name: str
    why: str
    steps: Sequence[Step]


def described(endpoint: int, frame: bytes) -> str:
    """A frame that leaves, in a few words: ``2: udp 10.0.1.1 > 10.0.2.1``, and ``to C`` if host C gets it."""
    kind, body = int.from_bytes(frame[12:14], "big"), frame[14:]
    if kind == frames.ARP:
        operation = "asks for" if body[7] == 1 else "answers"
        return f"{endpoint}: arp {operation} {ip_address(body[24:28])}"
    v4 = kind == frames.IPV4
    head = (body[0] & 15) * 4 if v4 else 40
    protocol, message = (body[9], body[head:]) if v4 else (body[6], body[head:])
    names = {packets.UDP: "udp", packets.TCP: "tcp", 60: "options"}
    name = names.get(protocol, "")
    if protocol in (packets.ICMP, packets.ICMPV6):
        name = f"icmp {message[0]}/{message[1]}"
    a, b = (body[12:16], body[16:20]) if v4 else (body[8:24], body[24:40])
    more = " with options" * (v4 and head > 20) + " to C" * (
        name == "udp" and frame[:6] == frames.mac_bytes(C)
    )
    return f"{endpoint}: {name} {ip_address(a)} > {ip_address(b)}{more}"


def _udp(source: str, target: str, mac: str = A) -> bytes:
    packet = packets.ip(source, target, packets.UDP, packets.udp(source, target, b"x"))
    return packets.ethernet(mac, GATEWAY, packet)


def _echo(source: str, target: str, code: int = 0) -> bytes:
    protocol = packets.ICMPV6 if ":" in source else packets.ICMP
    message = packets.echo(source, target, b"sixteen bytes...", code=code)
    return packets.ethernet(A, GATEWAY, packets.ip(source, target, protocol, message))


def _ipv4(protocol: int, payload: bytes, position: int = 0) -> bytes:
    """A packet of host A to the router."""
    packet = packets.ip("10.0.1.1", "10.0.1.254", protocol, payload, position=position)
    return packets.ethernet(A, GATEWAY, packet)


def _with_options(options: bytes) -> bytes:
    """A datagram from host A to host B whose header has these options."""
    packet = _udp("10.0.1.1", "10.0.2.1")[14:]
    options += bytes(-len(options) % 4)
    length = struct.pack("!H", len(packet) + len(options))
    head = bytes([0x45 + len(options) // 4]) + packet[1:2] + length + packet[4:10]
    head += bytes(2) + packet[12:20] + options
    head = head[:10] + struct.pack("!H", frames.checksum(head)) + head[12:]
    return packets.ethernet(A, GATEWAY, head + packet[20:])


def _ipv6(protocol: int, payload: bytes) -> bytes:
    """A packet from host A to host B."""
    return packets.ethernet(A, GATEWAY, packets.ip("fd00:1::1", "fd00:2::1", protocol, payload))


def _from_another(frame: bytes) -> bytes:
    """The frame with another source address than the one that its payload tells."""
    return frame[:6] + frames.mac_bytes(D) + frame[12:]


def _wrong_checksum(datagram: bytes) -> bytes:
    return datagram[:6] + bytes([datagram[6] ^ 1]) + datagram[7:]


V4, V6 = "10.0.1.1 > 10.0.2.1", "fd00:1::1 > fd00:2::1"
_PING = packets.echo("10.0.1.1", "10.0.1.254", b"sixteen bytes...")
_DATAGRAM = packets.udp("10.0.1.1", "10.0.1.254", b"x")
_CHAIN = bytes([60, 0, 1, 4, 0, 0, 0, 0]) * 9 + bytes([17, 0, 1, 4, 0, 0, 0, 0])

_table: Sequence[tuple[str, str, Sequence[tuple[int, bytes, Sequence[str], Sequence[str]]]]] = (
    (
        "lowest_address",
        "Linux takes the lowest address of a prefix for a host's (draft-schoen-intarea-unicast-lowest-"
        "address); a network takes it for a broadcast, as RFC 1122 3.3.6 says",
        [
            (1, _udp("10.0.1.0", "10.0.2.1"), [], ["2: udp 10.0.1.0 > 10.0.2.1"]),
            (1, _udp("10.0.1.1", "10.0.2.0"), [], ["2: arp asks for 10.0.2.0"]),
        ],
    ),
    (
        "error_to_a_broadcast",
        "Linux looks for a route before it looks at the source, and reports a missing one even to a "
        "broadcast address; a network sends no error there (RFC 1812 4.3.2.7)",
        [(1, _udp("10.0.1.255", "192.0.2.1"), [], ["1: icmp 3/0 10.0.1.254 > 10.0.1.255"])],
    ),
    (
        "this_network",
        "Linux routes 0.0.0.0/8 like any prefix; a network drops what is sent there (RFC 1122 3.2.1.3 (b))",
        [(1, _udp("10.0.1.1", "0.1.2.3"), [], ["1: icmp 3/0 10.0.1.254 > 10.0.1.1"])],
    ),
    (
        "link_local_ipv4",
        "Linux routes 169.254.0.0/16 like any prefix; a network never does (RFC 3927 7)",
        [(1, _udp("10.0.1.1", "169.254.1.1"), [], ["1: icmp 3/0 10.0.1.254 > 10.0.1.1"])],
    ),
    (
        "link_local_ipv6",
        "a router has a link-local address at each interface and answers for it, and a router of Linux "
        "sends packets for others back to their link; a network has none and drops them (RFC 4291 2.5.6)",
        [
            (1, _echo("fd00:1::1", "fe80::fe"), [], ["1: icmp 129/0 fe80::fe > fd00:1::1"]),
            (1, _udp("fe80::1", "fd00:2::1"), [], ["1: icmp 135/0 fe80::fe > ff02::1:ff00:1"]),
        ],
    ),
    (
        "subnet_router_anycast",
        "a router answers for the lowest address of its prefixes (RFC 4291 2.6.1); a network does not: "
        "nobody uses these addresses, and no switch could tell which endpoint is nearest",
        [(1, _echo("fd00:1::1", "fd00:1::"), [], ["1: icmp 129/0 fd00:1::fe > fd00:1::1"])],
    ),
    (
        "unspecified_ipv6",
        "Linux forwards packets from :: that leave where they came in, and looks for a route to it; a "
        "network drops both (RFC 4291 2.5.2)",
        [
            (1, _udp("::", "fd00:1::1"), [], ["1: udp :: > fd00:1::1"]),
            (1, _udp("fd00:1::1", "::"), [], ["1: icmp 1/0 fd00:1::fe > fd00:1::1"]),
        ],
    ),
    (
        "own_source_ipv6",
        "Linux forwards IPv6 packets that come from outside with an address of the router itself; a "
        "network drops them, as both do with IPv4 (RFC 1812 5.3.7)",
        [(1, _udp("fd00:2::fe", "fd00:2::1"), [], ["2: udp fd00:2::fe > fd00:2::1"])],
    ),
    (
        "solicitation_from_own_address",
        "Linux answers a host that uses the router's address; a network neither answers nor learns from it",
        [
            (
                1, packets.solicitation(C, "fd00:1::fe", "fd00:1::fe"), [],
                ["1: icmp 136/0 fd00:1::fe > fd00:1::fe"],
            ),
        ],
    ),
    (
        "solicitation_without_address",
        "to a solicitation to a group that lacks its sender's link-layer address, which RFC 4861 4.3 "
        "forbids, Linux answers only if it knows the sender; a network answers to the MAC address that it "
        "came from",
        [
            (
                1, packets.solicitation(C, "fd00:1::5", "fd00:1::fe", option=False),
                ["1: icmp 136/0 fd00:1::fe > fd00:1::5"], [],
            ),
        ],
    ),
    (
        "sender_of_another_frame",
        "Linux believes the MAC address in ARP and neighbour discovery, whatever frame they come in; a "
        "network wants both to be the same, so that no host redirects another's traffic",
        [
            (1, _from_another(packets.arp(C, "10.0.1.5", "10.0.1.254")), [], ["1: arp answers 10.0.1.5"]),
            (
                1, _from_another(packets.solicitation(C, "fd00:1::5", "fd00:1::fe")), [],
                ["1: icmp 136/0 fd00:1::fe > fd00:1::5"],
            ),
        ],
    ),
    (
        "reply_to_no_request",
        "Linux makes no entry from a reply for which it has not asked (RFC 4861 7.2.5: should not); a "
        "network does if it is addressed to the router (RFC 826 allows it): it may answer a request from "
        "before a restart",
        [
            (2, packets.arp(C, "10.0.2.5", "10.0.2.254", operation=2, to=GATEWAY), [], []),
            (
                1, _udp("10.0.1.1", "10.0.2.5"), ["2: udp 10.0.1.1 > 10.0.2.5 to C"],
                ["2: arp asks for 10.0.2.5"],
            ),
            (2, packets.advertisement(C, "fd00:2::5", "fd00:2::fe", GATEWAY), [], []),
            (
                1, _udp("fd00:1::1", "fd00:2::5"), ["2: udp fd00:1::1 > fd00:2::5 to C"],
                ["2: icmp 135/0 fe80::fe > ff02::1:ff00:5"],
            ),
        ],
    ),
    (
        "request_for_another_interface",
        "Linux does not look at a request for an address of another interface; a network learns from it the "
        "new MAC address of a host that it knows (RFC 826: before the target is looked at)",
        [
            (2, packets.arp(C, "10.0.2.1", "10.0.1.254"), [], []),
            (1, _udp("10.0.1.1", "10.0.2.1"), [f"2: udp {V4} to C"], [f"2: udp {V4}"]),
        ],
    ),
    (
        "request_for_each_packet",
        "the oracle has no clock and asks for each packet that waits; Linux asks once a second "
        "(RFC 1122 2.3.2.1)",
        [
            (1, _udp("10.0.1.1", "10.0.2.9"), ["2: arp asks for 10.0.2.9"], ["2: arp asks for 10.0.2.9"]),
            (1, _udp("10.0.1.1", "10.0.2.9"), ["2: arp asks for 10.0.2.9"], []),
            (
                2, packets.arp(C, "10.0.2.9", "10.0.2.254", operation=2, to=GATEWAY),
                ["2: udp 10.0.1.1 > 10.0.2.9 to C"] * 2, ["2: udp 10.0.1.1 > 10.0.2.9 to C"] * 2,
            ),
        ],
    ),
    (
        "reply_to_a_host_that_is_not_known",
        "Linux asks for the MAC address of a host before it answers its ping; a network answers to where "
        "the ping came from",
        [
            (
                1, _echo("10.0.1.44", "10.0.1.254"), ["1: icmp 0/0 10.0.1.254 > 10.0.1.44"],
                ["1: arp asks for 10.0.1.44"],
            ),
        ],
    ),
    (
        "reassembly",
        "Linux puts fragments to the router together; a network drops them",
        [
            (1, _ipv4(packets.ICMP, _PING[:8], packets.MORE_FRAGMENTS), [], []),
            (1, _ipv4(packets.ICMP, _PING[8:], 1), [], ["1: icmp 0/0 10.0.1.254 > 10.0.1.1"]),
        ],
    ),
    (
        "code_of_a_ping",
        "Linux answers echo requests of every code with that code; a network those of code 0, the only one"
        " that RFC 792 and RFC 4443 4.1 know",
        [
            (1, _echo("10.0.1.1", "10.0.1.254", 3), [], ["1: icmp 0/3 10.0.1.254 > 10.0.1.1"]),
            (1, _echo("fd00:1::1", "fd00:1::fe", 3), [], ["1: icmp 129/3 fd00:1::fe > fd00:1::1"]),
        ],
    ),
    (
        "malformed_udp",
        "Linux drops UDP to the router that is malformed (RFC 1122 4.1.3.4); a network does not look "
        "behind the IP header and says that the port is unreachable",
        [
            (1, _ipv4(packets.UDP, _wrong_checksum(_DATAGRAM)), ["1: icmp 3/3 10.0.1.254 > 10.0.1.1"], []),
            (1, _ipv4(packets.UDP, b"abc"), ["1: icmp 3/3 10.0.1.254 > 10.0.1.1"], []),
        ],
    ),
    (
        "igmp",
        "Linux has IGMP and hears it in silence; for a network it is a protocol that it does not have",
        [(1, _ipv4(2, bytes([0x16, 0, 0xE9, 0xFF, 0, 0, 0, 0])), ["1: icmp 3/2 10.0.1.254 > 10.0.1.1"], [])],
    ),
    (
        "extension_headers",
        "Linux looks at no extension header of a packet on its way but hop-by-hop options (RFC 8200 4); a "
        "network drops a chain of more than eight, and one that ends before its packet: switches cannot "
        "parse them",
        [
            (1, _ipv6(60, _CHAIN + packets.udp("fd00:1::1", "fd00:2::1", b"x")), [], [f"2: options {V6}"]),
            (1, _ipv6(60, bytes([17, 9, 1, 4])), [], [f"2: options {V6}"]),
        ],
    ),
    (
        "options_of_ipv4",
        "Linux drops source routes, as configured, and reports options that are malformed (RFC 1812 "
        "4.2.2.1, 5.2.4.1); a network forwards all options as they are, as switches do",
        [
            (1, _with_options(b"\x01\x01\x01"), [f"2: udp {V4} with options"], [f"2: udp {V4} with options"]),
            (1, _with_options(bytes([0x83, 7, 4, 10, 0, 2, 9])), [f"2: udp {V4} with options"], []),
            (
                1, _with_options(bytes([7, 1])), [f"2: udp {V4} with options"],
                ["1: icmp 12/0 10.0.1.254 > 10.0.1.1"],
            ),
        ],
    ),
)  # fmt: skip

CASES = [
    Case(name, why, [Step(at, frame, tuple(one), tuple(other)) for at, frame, one, other in steps])
    for name, why, steps in _table
]
