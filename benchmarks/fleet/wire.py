"""The OpenFlow 1.3 messages that an emulated switch sends, as bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct

VERSION = 4
HELLO, ERROR, ECHO_REQUEST, ECHO_REPLY, EXPERIMENTER = 0, 1, 2, 3, 4
FEATURES_REQUEST, FEATURES_REPLY, GET_CONFIG, GET_CONFIG_REPLY, SET_CONFIG = 5, 6, 7, 8, 9
PACKET_IN, FLOW_REMOVED, PORT_STATUS, PACKET_OUT, FLOW_MOD, GROUP_MOD = 10, 11, 12, 13, 14, 15
MULTIPART_REQUEST, MULTIPART_REPLY, BARRIER_REQUEST, BARRIER_REPLY = 18, 19, 20, 21
ROLE_REQUEST, ROLE_REPLY, METER_MOD = 24, 25, 29

DESC, FLOW, AGGREGATE, TABLE, PORT_STATS, GROUP_DESC = 0, 1, 2, 3, 4, 7
METER_CONFIG, METER_FEATURES, PORT_DESC = 10, 11, 13

PORT_IN, PORT_FLOOD, PORT_ALL, PORT_CONTROLLER = 0xFFFFFFF8, 0xFFFFFFFB, 0xFFFFFFFC, 0xFFFFFFFD
NO_BUFFER = 0xFFFFFFFF
ONF, BUNDLE_CONTROL, BUNDLE_ADD = 0x4F4E4600, 2300, 2301
LLDP = b"\x88\xcc"
#: Length of the hosts' frames in bytes.
FRAME_LENGTH = 60

HEADER = Struct("!BBHI")
MULTIPART = Struct("!BBHIHH4x")
_FEATURES = Struct("!QIBB2xII")
_PORT = Struct("!I4x6s2x16sIIIIIIII")
_PACKET_IN = Struct("!IHBBQ")
_DESC = Struct("!256s256s256s32s256s")
_PART_LIMIT = 0xFFFF - MULTIPART.size


def message(kind: int, xid: int, body: bytes = b"") -> bytes:
    """A message."""
    return HEADER.pack(VERSION, kind, 8 + len(body), xid) + body


def features_reply(xid: int, dpid: int) -> bytes:
    """The features reply: 254 tables, no buffers."""
    return message(FEATURES_REPLY, xid, _FEATURES.pack(dpid, 0, 254, 0, 0x0F, 0))


def multipart_replies(xid: int, kind: int, entries: Iterable[bytes]) -> Iterator[bytes]:
    """A multipart reply, split into as many messages as needed."""
    parts: list[bytes] = []
    size = 0
    for entry in entries:
        if size + len(entry) > _PART_LIMIT:
            yield MULTIPART.pack(VERSION, MULTIPART_REPLY, 16 + size, xid, kind, 1) + b"".join(parts)
            parts, size = [], 0
        parts.append(entry)
        size += len(entry)
    yield MULTIPART.pack(VERSION, MULTIPART_REPLY, 16 + size, xid, kind, 0) + b"".join(parts)


def description(dpid: int) -> bytes:
    """The body of a description reply."""
    texts = (b"libnetvirt", b"emulated switch", b"1", str(dpid).encode(), f"s{dpid}".encode())
    return _DESC.pack(*texts)


def port(dpid: int, number: int, up: bool = True) -> bytes:
    """A port's description: 10 Gbit/s, copper."""
    hw_addr = (0x02 << 40 | (dpid & 0xFFFF) << 24 | number & 0xFFFFFF).to_bytes(6)
    name = f"s{dpid}-{number}".encode()
    ten, state = 1 << 6, 4 if up else 1
    return _PORT.pack(number, hw_addr, name, 0, state, ten, 0, ten, 0, 10_000_000, 10_000_000)


def port_status(dpid: int, number: int, up: bool) -> bytes:
    """A port status message."""
    return message(PORT_STATUS, 0, b"\x02" + bytes(7) + port(dpid, number, up))


def packet_in_head(
    in_port: int, length: int = FRAME_LENGTH, table: int = 0, cookie: int = (1 << 64) - 1,
    metadata: int | None = None, reason: int = 0,
) -> bytes:  # fmt: skip
    """A PACKET_IN up to the frame."""
    oxms = b"\x80\x00\x00\x04" + in_port.to_bytes(4)
    if metadata is not None:
        oxms += b"\x80\x00\x04\x08" + metadata.to_bytes(8)
    match = (1).to_bytes(2) + (4 + len(oxms)).to_bytes(2) + oxms
    match += bytes(-len(match) % 8)
    body = _PACKET_IN.pack(NO_BUFFER, length, reason, table, cookie) + match + bytes(2)
    return HEADER.pack(VERSION, PACKET_IN, 8 + len(body) + length, 0) + body


def group_of(actions: bytes) -> int | None:
    """The number of the group in a list of actions; None if there is none."""
    pos = 0
    while pos + 8 <= len(actions) and (length := int.from_bytes(actions[pos + 2 : pos + 4])) >= 8:
        if actions[pos : pos + 2] == b"\0\x16":
            return int.from_bytes(actions[pos + 4 : pos + 8])
        pos += length
    return None


def outputs(actions: bytes) -> list[int]:
    """The ports of the output actions in a list of actions."""
    found, pos = [], 0
    while pos + 8 <= len(actions):
        length = int.from_bytes(actions[pos + 2 : pos + 4])
        if length < 8:
            break
        if actions[pos : pos + 2] == b"\0\0":
            found.append(int.from_bytes(actions[pos + 4 : pos + 8]))
        pos += length
    return found
