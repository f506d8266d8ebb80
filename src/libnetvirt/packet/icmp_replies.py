"""What a router says to hosts by ICMP: echo replies and errors."""

from __future__ import annotations

from typing import NamedTuple

from libnetvirt.packet.icmp import ICMP, build_icmp, is_icmp_error, parse_icmp
from libnetvirt.packet.ip import IP, PROTO_ICMP, PROTO_ICMPV6, build_ip

# An error carries as much of its cause as fits (RFC 1812 4.3.2.3, RFC 4443 2.4 c).
_ERROR_SIZE = {4: 576, 6: 1280}
_ECHO_REQUEST = {4: 8, 6: 128}
_ECHO_REPLY = {4: 0, 6: 129}


class Fault(NamedTuple):
    """Type and code of an ICMP error, IPv4 and IPv6, and where an ICMPv6 one points."""

    v4: tuple[int, int]
    v6: tuple[int, int]
    pointer: int = 0


NO_ROUTE = Fault((3, 0), (1, 0))
HOST_UNREACHABLE = Fault((3, 1), (1, 3))
TOO_BIG = Fault((3, 4), (2, 0))
TIME_EXCEEDED = Fault((11, 0), (3, 0))
PORT_UNREACHABLE = Fault((3, 3), (1, 4))
# IPv6 points at the fixed header's "next header".
PROTOCOL_UNREACHABLE = Fault((3, 2), (4, 1), 6)


def icmp_error(fault: Fault, ip: IP, packet: bytes, source: bytes, mtu: int = 0) -> bytes | None:
    """The packet from ``source`` that reports a fault of ``packet``, which was read as ``ip``, to its sender.

    ``mtu``: in octets, for :data:`TOO_BIG`. None where there must be no error (RFC 1812 section 4.3.2.7,
    RFC 4443 section 2.4 e).
    """
    if ip.offset or is_icmp_error(ip):
        return None
    v4 = ip.version == 4
    kind, code = fault.v4 if v4 else fault.v6
    # RFC 1191 section 4 has the MTU in the lower half of the word.
    rest = mtu or (0 if v4 else fault.pointer)
    cause = packet[: min(ip.length, _ERROR_SIZE[ip.version] - (28 if v4 else 48))]
    return _icmp(source, ip.source, ICMP(kind, code, rest.to_bytes(4, "big"), cause))


def echo_reply(ip: IP) -> bytes | None:
    """The packet that answers an echo request; None to another ICMP message. Raises PacketError."""
    message = parse_icmp(ip)
    if message.type != _ECHO_REQUEST[ip.version] or message.code:
        return None
    return _icmp(ip.destination, ip.source, message._replace(type=_ECHO_REPLY[ip.version]))


def _icmp(source: bytes, destination: bytes, message: ICMP) -> bytes:
    protocol = PROTO_ICMP if len(source) == 4 else PROTO_ICMPV6
    return build_ip(source, destination, protocol, build_icmp(source, destination, message))
