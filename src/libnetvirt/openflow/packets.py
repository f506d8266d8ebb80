"""Asynchronous messages of a switch, packet-outs, and port descriptions.

OpenFlow 1.3.5, sections 7.4.1 to 7.4.3, 7.3.7 and 7.2.1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import Struct, error
from typing import ClassVar, Final

from libnetvirt.openflow.actions import ACTIONS, Action
from libnetvirt.openflow.constants import MAX_MESSAGE_LENGTH, NO_BUFFER, OFP_VERSION, MsgType, Port
from libnetvirt.openflow.errors import ProtocolError
from libnetvirt.openflow.framer import packet_offset
from libnetvirt.openflow.layout import MAC, TEXT16, Layout, SingleStructure, Structure
from libnetvirt.openflow.match import MATCH, Match
from libnetvirt.openflow.message import Message

_EMPTY: Final = Match()
_PACKET_IN: Final = Struct("!IHBBQ")
_MATCH_START: Final = 16
_PACKET_OUT: Final = Struct("!BBHIIIH6x")
_PACKET_OUT_BODY: Final = Struct("!IIH")


@dataclass(frozen=True, slots=True)
class PacketInHead:
    """The fields of a PACKET_IN, without the packet (section 7.4.1).

    `total_len` is the packet's whole length in bytes. `match` holds the pipeline fields: `in_port` and,
    unless it is zero, `metadata`.
    """

    buffer_id: int
    total_len: int
    reason: int
    table_id: int
    cookie: int
    match: Match
    #: the port at which the packet came in; 0 if the switch did not tell
    in_port: int = field(init=False, compare=False, repr=False)
    #: the pipeline's metadata; 0 if the switch did not tell
    metadata: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "in_port", self.match.value("in_port"))
        object.__setattr__(self, "metadata", self.match.value("metadata"))


@dataclass(slots=True)
class PacketIn(Message):
    """A packet sent to the controller (section 7.4.1).

    `frame` starts with the Ethernet header; it is truncated if the switch sends only the start of packets.
    """

    TYPE: ClassVar = MsgType.PACKET_IN

    head: PacketInHead
    frame: bytes = b""

    def encode(self) -> bytes:
        """Return the whole message. Raises ValueError if a field does not fit."""
        head, match = self.head, self.head.match.encode()
        length = 26 + len(match) + len(self.frame)
        try:
            fixed = _PACKET_IN_WHOLE.pack(
                OFP_VERSION, 10, length, self.xid,
                head.buffer_id, head.total_len, head.reason, head.table_id, head.cookie,
            )  # fmt: skip
        except error as fault:
            raise ValueError(f"PacketIn of {length} bytes cannot be encoded: {fault}") from fault
        return b"".join((fixed, match, b"\0\0", self.frame))

    @classmethod
    def parse_body(cls, frame: bytes, xid: int) -> PacketIn:
        """Parse the message from a whole frame. Raises ProtocolError."""
        start = packet_offset(frame)
        return cls(parse_packet_in_head(frame[8:start]), frame[start:], xid=xid)


def parse_packet_in_head(wire: bytes) -> PacketInHead:
    """Parse the bytes between the header of a PACKET_IN and its packet. Raises ProtocolError."""
    match, pos = MATCH.parse(wire, _MATCH_START, len(wire))
    if pos + 2 != len(wire):
        raise ProtocolError("a packet-in whose match does not end at the packet")
    buffer_id, total_len, reason, table_id, cookie = _PACKET_IN.unpack_from(wire)
    return PacketInHead(buffer_id, total_len, reason, table_id, cookie, match)


_PACKET_IN_WHOLE: Final = Struct("!BBHIIHBBQ")


@dataclass(slots=True)
class PacketOut(Message):
    """Send a packet (section 7.3.7): apply `actions` to `frame`, or to the packet buffered as `buffer_id`."""

    TYPE: ClassVar = MsgType.PACKET_OUT

    buffer_id: int = NO_BUFFER
    in_port: int = Port.CONTROLLER
    actions: tuple[Action, ...] = ()
    frame: bytes = b""

    def encode(self) -> bytes:
        """Return the whole message. Raises ValueError if a field does not fit."""
        actions = b"".join([action.encode() for action in self.actions])
        frame = self.frame
        size = len(actions)
        length = 24 + size + len(frame)
        if length > MAX_MESSAGE_LENGTH:
            raise ValueError(f"a packet-out of {length} bytes; at most {MAX_MESSAGE_LENGTH} are allowed")
        try:
            head = _PACKET_OUT.pack(OFP_VERSION, 13, length, self.xid, self.buffer_id, self.in_port, size)
        except error as fault:
            raise ValueError(f"PacketOut cannot be encoded: {fault}") from fault
        return head + actions + frame

    @classmethod
    def parse_body(cls, frame: bytes, xid: int) -> PacketOut:
        """Parse the message from a whole frame. Raises ProtocolError."""
        end = len(frame)
        if end < 24:
            raise ProtocolError(f"a packet-out of {end} bytes; at least 24 are needed")
        buffer_id, in_port, size = _PACKET_OUT_BODY.unpack_from(frame, 8)
        if size > end - 24:
            raise ProtocolError(f"actions of {size} bytes, {end - 24} are left")
        actions, _ = ACTIONS.parse(frame, 24, 24 + size)
        return cls(buffer_id, in_port, actions, frame[24 + size :], xid=xid)


@dataclass(slots=True)
class FlowRemoved(Message):
    """A rule was removed (section 7.4.2).

    It existed for `duration_sec` seconds and `duration_nsec` nanoseconds; timeouts are in seconds.
    """

    TYPE: ClassVar = MsgType.FLOW_REMOVED
    WIRE: ClassVar = Layout(
        "!QHBBIIHHQQ",
        "cookie priority reason table_id duration_sec duration_nsec idle_timeout hard_timeout"
        " packet_count byte_count",
        match=MATCH,
    )

    cookie: int
    priority: int
    reason: int
    table_id: int
    duration_sec: int = 0
    duration_nsec: int = 0
    idle_timeout: int = 0
    hard_timeout: int = 0
    packet_count: int = 0
    byte_count: int = 0
    match: Match = _EMPTY


@dataclass(frozen=True, slots=True)
class PortDesc(Structure):
    """The description of a port (section 7.2.1).

    `hw_addr` is a MAC address as a 48-bit int. `config` holds bits of `PortConfig`, `state` of `PortState`,
    the next four fields of `PortFeatures`. Speeds are in kbit/s.
    """

    WIRE: ClassVar = Layout(
        "!I4x6s2x16sIIIIIIII",
        "port_no hw_addr name config state curr advertised supported peer curr_speed max_speed",
        convert={"hw_addr": MAC, "name": TEXT16},
    )

    port_no: int
    hw_addr: int = 0
    name: str = ""
    config: int = 0
    state: int = 0
    curr: int = 0
    advertised: int = 0
    supported: int = 0
    peer: int = 0
    curr_speed: int = 0
    max_speed: int = 0


@dataclass(slots=True)
class PortStatus(Message):
    """A port was added, removed or modified (section 7.4.3); `reason` is a `PortStatusReason`."""

    TYPE: ClassVar = MsgType.PORT_STATUS
    WIRE: ClassVar = Layout("!B7x", "reason", desc=SingleStructure(PortDesc))

    reason: int
    desc: PortDesc
