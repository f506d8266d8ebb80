"""Multipart requests and replies: the switch, its rules and its tables (OpenFlow 1.3.5 §7.3.5).

Each reply is one part; `more` says that another with the same xid follows. `MultipartAssembler` joins them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from libnetvirt.openflow.constants import (
    ALL_TABLES,
    GroupId,
    MsgType,
    MultipartType,
    Port,
)
from libnetvirt.openflow.errors import ProtocolError
from libnetvirt.openflow.instructions import INSTRUCTIONS, Instruction
from libnetvirt.openflow.layout import TEXT32, TEXT256, Layout, Records, Wired
from libnetvirt.openflow.match import MATCH, Match
from libnetvirt.openflow.message import Multipart

_EMPTY: Final = Match()


@dataclass(slots=True)
class MultipartRequest(Multipart):
    """Base of all multipart requests."""

    TYPE: ClassVar = MsgType.MULTIPART_REQUEST


@dataclass(slots=True)
class MultipartReply(Multipart):
    """Base of all multipart replies."""

    TYPE: ClassVar = MsgType.MULTIPART_REPLY


# --- the switch (§7.3.5.1) ---


@dataclass(slots=True)
class DescRequest(MultipartRequest):
    """Ask who made the switch."""

    PART: ClassVar = MultipartType.DESC


@dataclass(slots=True)
class DescReply(MultipartReply):
    """Who made the switch."""

    PART: ClassVar = MultipartType.DESC
    WIRE: ClassVar = Layout(
        "!256s256s256s32s256s",
        "mfr_desc hw_desc sw_desc serial_num dp_desc",
        convert={
            "mfr_desc": TEXT256,
            "hw_desc": TEXT256,
            "sw_desc": TEXT256,
            "serial_num": TEXT32,
            "dp_desc": TEXT256,
        },
    )

    mfr_desc: str = ""
    hw_desc: str = ""
    sw_desc: str = ""
    serial_num: str = ""
    dp_desc: str = ""


# --- rules (§7.3.5.2, 7.3.5.3) ---


@dataclass(slots=True)
class FlowStatsRequest(MultipartRequest):
    """Ask for the rules that match, as a loose delete would."""

    PART: ClassVar = MultipartType.FLOW
    WIRE: ClassVar = Layout("!B3xII4xQQ", "table_id out_port out_group cookie cookie_mask", match=MATCH)

    table_id: int = ALL_TABLES
    out_port: int = Port.ANY
    out_group: int = GroupId.ANY
    cookie: int = 0
    cookie_mask: int = 0
    match: Match = _EMPTY


@dataclass(frozen=True, slots=True)
class FlowStatsEntry(Wired):
    """One rule and its counters. Durations are in seconds and nanoseconds, timeouts in seconds."""

    WIRE: ClassVar = Layout(
        "!HBxIIHHHH4xQQQ",
        "# table_id duration_sec duration_nsec priority idle_timeout hard_timeout flags cookie packet_count"
        " byte_count",
        align=8,
        match=MATCH,
        instructions=INSTRUCTIONS,
    )

    table_id: int
    duration_sec: int = 0
    duration_nsec: int = 0
    priority: int = 0
    idle_timeout: int = 0
    hard_timeout: int = 0
    flags: int = 0
    cookie: int = 0
    packet_count: int = 0
    byte_count: int = 0
    match: Match = _EMPTY
    instructions: tuple[Instruction, ...] = ()


@dataclass(slots=True)
class FlowStatsReply(MultipartReply):
    """The rules that match."""

    PART: ClassVar = MultipartType.FLOW
    LISTED: ClassVar = "entries"
    WIRE: ClassVar = Layout("!", "", entries=Records(FlowStatsEntry))

    entries: tuple[FlowStatsEntry, ...] = ()


@dataclass(slots=True)
class AggregateStatsRequest(MultipartRequest):
    """Ask for the sums over the rules that match."""

    PART: ClassVar = MultipartType.AGGREGATE
    WIRE: ClassVar = Layout("!B3xII4xQQ", "table_id out_port out_group cookie cookie_mask", match=MATCH)

    table_id: int = ALL_TABLES
    out_port: int = Port.ANY
    out_group: int = GroupId.ANY
    cookie: int = 0
    cookie_mask: int = 0
    match: Match = _EMPTY


@dataclass(slots=True)
class AggregateStatsReply(MultipartReply):
    """The sums over the rules that match."""

    PART: ClassVar = MultipartType.AGGREGATE
    WIRE: ClassVar = Layout("!QQI4x", "packet_count byte_count flow_count")

    packet_count: int
    byte_count: int
    flow_count: int


# --- tables (§7.3.5.4, 7.3.5.5) ---


@dataclass(slots=True)
class TableStatsRequest(MultipartRequest):
    """Ask for the tables' counters."""

    PART: ClassVar = MultipartType.TABLE


@dataclass(frozen=True, slots=True)
class TableStatsEntry(Wired):
    """One table's counters."""

    WIRE: ClassVar = Layout("!B3xIQQ", "table_id active_count lookup_count matched_count")

    table_id: int
    active_count: int = 0
    lookup_count: int = 0
    matched_count: int = 0


@dataclass(slots=True)
class TableStatsReply(MultipartReply):
    """The tables' counters."""

    PART: ClassVar = MultipartType.TABLE
    LISTED: ClassVar = "entries"
    WIRE: ClassVar = Layout("!", "", entries=Records(TableStatsEntry))

    entries: tuple[TableStatsEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class TableProperty(Wired):
    """One property of a table, opaque: a `TableFeatureType`, and what follows the length without padding."""

    type: int
    body: bytes = b""

    def encode(self) -> bytes:
        """The wire form, padded to 8 bytes. Raises ValueError when it does not fit."""
        length = 4 + len(self.body)
        if length > 0xFFFF or not 0 <= self.type <= 0xFFFF:
            raise ValueError(f"a table property of type {self.type} with {length} bytes")
        return self.type.to_bytes(2, "big") + length.to_bytes(2, "big") + self.body + bytes(-length % 8)

    @classmethod
    def parse(cls, buf: bytes, pos: int, end: int) -> tuple[TableProperty, int]:
        """One property of `buf[pos:end]`, and the position after its padding. Raises ProtocolError."""
        if end - pos < 4:
            raise ProtocolError(f"{end - pos} bytes left where a table property needs 4")
        length = int.from_bytes(buf[pos + 2 : pos + 4], "big")
        after = pos + length + -length % 8
        if length < 4 or after > end:
            raise ProtocolError(f"a table property with a length of {length}, {end - pos} bytes being left")
        return cls(int.from_bytes(buf[pos : pos + 2], "big"), buf[pos + 4 : pos + length]), after


@dataclass(frozen=True, slots=True)
class TableFeatures(Wired):
    """What one table can do. `metadata_match` and `metadata_write` are the bits that it supports."""

    WIRE: ClassVar = Layout(
        "!HB5x32sQQII",
        "# table_id name metadata_match metadata_write config max_entries",
        convert={"name": TEXT32},
        align=8,
        properties=Records(TableProperty),
    )

    table_id: int
    name: str = ""
    metadata_match: int = 0
    metadata_write: int = 0
    config: int = 0
    max_entries: int = 0
    properties: tuple[TableProperty, ...] = ()


@dataclass(slots=True)
class TableFeaturesRequest(MultipartRequest):
    """Ask what the tables can do; with entries, configure them."""

    PART: ClassVar = MultipartType.TABLE_FEATURES
    WIRE: ClassVar = Layout("!", "", entries=Records(TableFeatures))

    entries: tuple[TableFeatures, ...] = ()


@dataclass(slots=True)
class TableFeaturesReply(MultipartReply):
    """What the tables can do."""

    PART: ClassVar = MultipartType.TABLE_FEATURES
    LISTED: ClassVar = "entries"
    WIRE: ClassVar = Layout("!", "", entries=Records(TableFeatures))

    entries: tuple[TableFeatures, ...] = ()
