"""Multipart requests and replies about the switch, its rules and its tables (OpenFlow 1.3.5, section 7.3.5).

An instance of a reply class is one part of a reply; if `more` is true, another part with the same xid
follows. `MultipartAssembler` joins the parts. Ports, queues, groups and meters are in
`libnetvirt.openflow.statistics`.
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
from libnetvirt.openflow.layout import TEXT32, TEXT256, Layout, Structure, StructureList
from libnetvirt.openflow.match import MATCH, Match
from libnetvirt.openflow.message import Multipart

_EMPTY: Final = Match()


@dataclass(slots=True)
class MultipartRequest(Multipart):
    """The base of all multipart requests."""

    TYPE: ClassVar = MsgType.MULTIPART_REQUEST


@dataclass(slots=True)
class MultipartReply(Multipart):
    """The base of all multipart replies."""

    TYPE: ClassVar = MsgType.MULTIPART_REPLY


# --- the switch (section 7.3.5.1) ---


@dataclass(slots=True)
class DescRequest(MultipartRequest):
    """Request the description of the switch."""

    MULTIPART_TYPE: ClassVar = MultipartType.DESC


@dataclass(slots=True)
class DescReply(MultipartReply):
    """The switch's manufacturer, hardware, software, serial number and datapath name."""

    MULTIPART_TYPE: ClassVar = MultipartType.DESC
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


# --- rules (sections 7.3.5.2, 7.3.5.3) ---


@dataclass(slots=True)
class FlowStatsRequest(MultipartRequest):
    """Request the rules that a non-strict delete with the same fields would delete."""

    MULTIPART_TYPE: ClassVar = MultipartType.FLOW
    WIRE: ClassVar = Layout("!B3xII4xQQ", "table_id out_port out_group cookie cookie_mask", match=MATCH)

    table_id: int = ALL_TABLES
    out_port: int = Port.ANY
    out_group: int = GroupId.ANY
    cookie: int = 0
    cookie_mask: int = 0
    match: Match = _EMPTY


@dataclass(frozen=True, slots=True)
class FlowStatsEntry(Structure):
    """One rule and its counters.

    The rule's age is `duration_sec` seconds and `duration_nsec` nanoseconds; timeouts are in seconds.
    """

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
    """The selected rules."""

    MULTIPART_TYPE: ClassVar = MultipartType.FLOW
    ENTRIES_FIELD: ClassVar = "entries"
    WIRE: ClassVar = Layout("!", "", entries=StructureList(FlowStatsEntry))

    entries: tuple[FlowStatsEntry, ...] = ()


@dataclass(slots=True)
class AggregateStatsRequest(MultipartRequest):
    """Request the sums of the counters of the rules that a `FlowStatsRequest` would select."""

    MULTIPART_TYPE: ClassVar = MultipartType.AGGREGATE
    WIRE: ClassVar = Layout("!B3xII4xQQ", "table_id out_port out_group cookie cookie_mask", match=MATCH)

    table_id: int = ALL_TABLES
    out_port: int = Port.ANY
    out_group: int = GroupId.ANY
    cookie: int = 0
    cookie_mask: int = 0
    match: Match = _EMPTY


@dataclass(slots=True)
class AggregateStatsReply(MultipartReply):
    """The sums of the counters of the selected rules, and their number."""

    MULTIPART_TYPE: ClassVar = MultipartType.AGGREGATE
    WIRE: ClassVar = Layout("!QQI4x", "packet_count byte_count flow_count")

    packet_count: int
    byte_count: int
    flow_count: int


# --- tables (sections 7.3.5.4, 7.3.5.5) ---


@dataclass(slots=True)
class TableStatsRequest(MultipartRequest):
    """Request the counters of all tables."""

    MULTIPART_TYPE: ClassVar = MultipartType.TABLE


@dataclass(frozen=True, slots=True)
class TableStatsEntry(Structure):
    """One table's counters."""

    WIRE: ClassVar = Layout("!B3xIQQ", "table_id active_count lookup_count matched_count")

    table_id: int
    active_count: int = 0
    lookup_count: int = 0
    matched_count: int = 0


@dataclass(slots=True)
class TableStatsReply(MultipartReply):
    """The tables' counters."""

    MULTIPART_TYPE: ClassVar = MultipartType.TABLE
    ENTRIES_FIELD: ClassVar = "entries"
    WIRE: ClassVar = Layout("!", "", entries=StructureList(TableStatsEntry))

    entries: tuple[TableStatsEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class TableProperty(Structure):
    """One property of a table: a `TableFeatureType` and an opaque body, without the padding behind it."""

    type: int
    body: bytes = b""

    def encode(self) -> bytes:
        """Return the wire form, padded to a multiple of 8 bytes. Raises ValueError if it does not fit."""
        length = 4 + len(self.body)
        if length > 0xFFFF or not 0 <= self.type <= 0xFFFF:
            raise ValueError(f"a table property of type {self.type} with {length} bytes")
        return self.type.to_bytes(2, "big") + length.to_bytes(2, "big") + self.body + bytes(-length % 8)

    @classmethod
    def parse(cls, buf: bytes, pos: int, end: int) -> tuple[TableProperty, int]:
        """Parse one at `pos`. Returns it and the position behind its padding. Raises ProtocolError."""
        if end - pos < 4:
            raise ProtocolError(f"a table property needs 4 bytes, {end - pos} are left")
        length = int.from_bytes(buf[pos + 2 : pos + 4], "big")
        after = pos + length + -length % 8
        if length < 4 or after > end:
            raise ProtocolError(f"a table property with a length of {length}, {end - pos} bytes are left")
        return cls(int.from_bytes(buf[pos : pos + 2], "big"), buf[pos + 4 : pos + length]), after


@dataclass(frozen=True, slots=True)
class TableFeatures(Structure):
    """The features of one table. `metadata_match` and `metadata_write` are masks of the supported bits."""

    WIRE: ClassVar = Layout(
        "!HB5x32sQQII",
        "# table_id name metadata_match metadata_write config max_entries",
        convert={"name": TEXT32},
        align=8,
        properties=StructureList(TableProperty),
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
    """Request the features of all tables; with entries, set them."""

    MULTIPART_TYPE: ClassVar = MultipartType.TABLE_FEATURES
    WIRE: ClassVar = Layout("!", "", entries=StructureList(TableFeatures))

    entries: tuple[TableFeatures, ...] = ()


@dataclass(slots=True)
class TableFeaturesReply(MultipartReply):
    """The features of all tables."""

    MULTIPART_TYPE: ClassVar = MultipartType.TABLE_FEATURES
    ENTRIES_FIELD: ClassVar = "entries"
    WIRE: ClassVar = Layout("!", "", entries=StructureList(TableFeatures))

    entries: tuple[TableFeatures, ...] = ()
