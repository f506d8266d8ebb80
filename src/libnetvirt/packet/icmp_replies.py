"""The ICMP and ICMPv6 packets that a router originates: echo replies and errors."""

from __future__ import annotations

from typing import NamedTuple

from libnetvirt.packet.icmp import ICMP, build_icmp, is_icmp_error, parse_icmp
from libnetvirt.packet.ip import IP, PROTO_ICMP, PROTO_ICMPV6, build_ip

# An error quotes as much of the packet as fits (RFC 1812, section 4.3.2.3; RFC 4443, section 2.4 (c)).
_ERROR_SIZE = {4: 576, 6: 1280}
_ECHO_REQUEST = {4: 8, 6: 128}
_ECHO_REPLY = {4: 0, 6: 129}


class IcmpError(NamedTuple):
    """The (type, code) of an error in ICMP and in ICMPv6, and the pointer of an ICMPv6 parameter problem."""

    v4: tuple[int, int]
    v6: tuple[int, int]
    pointer: int = 0


NO_ROUTE = IcmpError((3, 0), (1, 0))
HOST_UNREACHABLE = IcmpError((3, 1), (1, 3))
TOO_BIG = IcmpError((3, 4), (2, 0))
TIME_EXCEEDED = IcmpError((11, 0), (3, 0))
PORT_UNREACHABLE = IcmpError((3, 3), (1, 4))
# The pointer is the offset of "next header" in the fixed IPv6 header.
PROTOCOL_UNREACHABLE = IcmpError((3, 2), (4, 1), 6)


def icmp_error(error: IcmpError, ip: IP, packet: bytes, source: bytes, mtu: int = 0) -> bytes | None:
    """Return the IP packet that reports an error about ``packet`` to its sender.

    ``ip`` is the parsed ``packet``, ``source`` the source address of the error, ``mtu`` the MTU in bytes for
    :data:`TOO_BIG`. Returns None if no error may be sent about this packet (RFC 1812, section 4.3.2.7; RFC
    4443, section 2.4 (e)).
    """
    if ip.offset or is_icmp_error(ip):
        return None
    v4 = ip.version == 4
    kind, code = error.v4 if v4 else error.v6
    # In ICMP the MTU is the lower half of the word (RFC 1191, section 4).
    rest = mtu or (0 if v4 else error.pointer)
    cause = packet[: min(ip.length, _ERROR_SIZE[ip.version] - (28 if v4 else 48))]
    return _icmp(source, ip.source, ICMP(kind, code, rest.to_bytes(4, "big"), cause))


def echo_reply(ip: IP) -> bytes | None:
    """Return the reply to an echo request, with its traffic class (RFC 1812, section 4.3.2.5).

    None for other messages. Raises PacketError as `parse_icmp`.
    """
    message = parse_icmp(ip)
    if message.type != _ECHO_REQUEST[ip.version] or message.code:
        return None
    reply = message._replace(type=_ECHO_REPLY[ip.version])
    return _icmp(ip.destination, ip.source, reply, ip.traffic_class)


def _icmp(source: bytes, destination: bytes, message: ICMP, traffic_class: int = 0) -> bytes:
    protocol = PROTO_ICMP if len(source) == 4 else PROTO_ICMPV6
    wire = build_icmp(source, destination, message)
    return build_ip(source, destination, protocol, wire, traffic_class=traffic_class)
