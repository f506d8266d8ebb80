"""Multipart requests and replies about ports, queues, groups and meters.

OpenFlow 1.3.5, sections 7.3.5.6 to 7.3.5.14. In all entries, `duration_sec` and `duration_nsec` are the age
in seconds and the rest of it in nanoseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from libnetvirt.openflow.constants import ALL_QUEUES, GroupId, MeterId, MultipartType, Port
from libnetvirt.openflow.layout import IntegerArray, Layout, Structure, StructureList
from libnetvirt.openflow.modify import BANDS, Band, Bucket
from libnetvirt.openflow.multipart import MultipartReply, MultipartRequest
from libnetvirt.openflow.packets import PortDesc

# --- ports and queues (sections 7.3.5.6 to 7.3.5.8) ---


@dataclass(slots=True)
class PortDescRequest(MultipartRequest):
    """Request the descriptions of all ports."""

    MULTIPART_TYPE: ClassVar = MultipartType.PORT_DESC


@dataclass(slots=True)
class PortDescReply(MultipartReply):
    """The descriptions of all ports."""

    MULTIPART_TYPE: ClassVar = MultipartType.PORT_DESC
    ENTRIES_FIELD: ClassVar = "ports"
    WIRE: ClassVar = Layout("!", "", ports=StructureList(PortDesc))

    ports: tuple[PortDesc, ...] = ()


@dataclass(slots=True)
class PortStatsRequest(MultipartRequest):
    """Request the counters of one port, or with `Port.ANY` of all ports."""

    MULTIPART_TYPE: ClassVar = MultipartType.PORT_STATS
    WIRE: ClassVar = Layout("!I4x", "port_no")

    port_no: int = Port.ANY


@dataclass(frozen=True, slots=True)
class PortStatsEntry(Structure):
    """The counters of one port; a counter that the switch does not support is all ones."""

    WIRE: ClassVar = Layout(
        "!I4x12QII",
        "port_no rx_packets tx_packets rx_bytes tx_bytes rx_dropped tx_dropped rx_errors tx_errors"
        " rx_frame_err rx_over_err rx_crc_err collisions duration_sec duration_nsec",
    )

    port_no: int
    rx_packets: int = 0
    tx_packets: int = 0
    rx_bytes: int = 0
    tx_bytes: int = 0
    rx_dropped: int = 0
    tx_dropped: int = 0
    rx_errors: int = 0
    tx_errors: int = 0
    rx_frame_err: int = 0
    rx_over_err: int = 0
    rx_crc_err: int = 0
    collisions: int = 0
    duration_sec: int = 0
    duration_nsec: int = 0


@dataclass(slots=True)
class PortStatsReply(MultipartReply):
    """The counters of the requested ports."""

    MULTIPART_TYPE: ClassVar = MultipartType.PORT_STATS
    ENTRIES_FIELD: ClassVar = "entries"
    WIRE: ClassVar = Layout("!", "", entries=StructureList(PortStatsEntry))

    entries: tuple[PortStatsEntry, ...] = ()


@dataclass(slots=True)
class QueueStatsRequest(MultipartRequest):
    """Request the counters of one queue, or with `Port.ANY` and `ALL_QUEUES` of all queues."""

    MULTIPART_TYPE: ClassVar = MultipartType.QUEUE
    WIRE: ClassVar = Layout("!II", "port_no queue_id")

    port_no: int = Port.ANY
    queue_id: int = ALL_QUEUES


@dataclass(frozen=True, slots=True)
class QueueStatsEntry(Structure):
    """The counters of one queue."""

    WIRE: ClassVar = Layout(
        "!IIQQQII", "port_no queue_id tx_bytes tx_packets tx_errors duration_sec duration_nsec"
    )

    port_no: int
    queue_id: int
    tx_bytes: int = 0
    tx_packets: int = 0
    tx_errors: int = 0
    duration_sec: int = 0
    duration_nsec: int = 0


@dataclass(slots=True)
class QueueStatsReply(MultipartReply):
    """The counters of the requested queues."""

    MULTIPART_TYPE: ClassVar = MultipartType.QUEUE
    ENTRIES_FIELD: ClassVar = "entries"
    WIRE: ClassVar = Layout("!", "", entries=StructureList(QueueStatsEntry))

    entries: tuple[QueueStatsEntry, ...] = ()


# --- groups (sections 7.3.5.9 to 7.3.5.11) ---


@dataclass(slots=True)
class GroupStatsRequest(MultipartRequest):
    """Request the counters of one group, or with `GroupId.ALL` of all groups."""

    MULTIPART_TYPE: ClassVar = MultipartType.GROUP
    WIRE: ClassVar = Layout("!I4x", "group_id")

    group_id: int = GroupId.ALL


@dataclass(frozen=True, slots=True)
class BucketStats(Structure):
    """The counters of one bucket."""

    WIRE: ClassVar = Layout("!QQ", "packet_count byte_count")

    packet_count: int = 0
    byte_count: int = 0


@dataclass(frozen=True, slots=True)
class GroupStatsEntry(Structure):
    """The counters of one group and its buckets."""

    WIRE: ClassVar = Layout(
        "!H2xII4xQQII",
        "# group_id ref_count packet_count byte_count duration_sec duration_nsec",
        buckets=StructureList(BucketStats),
    )

    group_id: int
    ref_count: int = 0
    packet_count: int = 0
    byte_count: int = 0
    duration_sec: int = 0
    duration_nsec: int = 0
    buckets: tuple[BucketStats, ...] = ()


@dataclass(slots=True)
class GroupStatsReply(MultipartReply):
    """The counters of the requested groups."""

    MULTIPART_TYPE: ClassVar = MultipartType.GROUP
    ENTRIES_FIELD: ClassVar = "entries"
    WIRE: ClassVar = Layout("!", "", entries=StructureList(GroupStatsEntry))

    entries: tuple[GroupStatsEntry, ...] = ()


@dataclass(slots=True)
class GroupDescRequest(MultipartRequest):
    """Request the descriptions of all groups."""

    MULTIPART_TYPE: ClassVar = MultipartType.GROUP_DESC


@dataclass(frozen=True, slots=True)
class GroupDesc(Structure):
    """The description of one group: its `GroupType`, number and buckets."""

    WIRE: ClassVar = Layout("!HBxI", "# type group_id", align=8, buckets=StructureList(Bucket))

    type: int
    group_id: int
    buckets: tuple[Bucket, ...] = ()


@dataclass(slots=True)
class GroupDescReply(MultipartReply):
    """The descriptions of all groups."""

    MULTIPART_TYPE: ClassVar = MultipartType.GROUP_DESC
    ENTRIES_FIELD: ClassVar = "entries"
    WIRE: ClassVar = Layout("!", "", entries=StructureList(GroupDesc))

    entries: tuple[GroupDesc, ...] = ()


@dataclass(slots=True)
class GroupFeaturesRequest(MultipartRequest):
    """Request the switch's group features."""

    MULTIPART_TYPE: ClassVar = MultipartType.GROUP_FEATURES


@dataclass(slots=True)
class GroupFeaturesReply(MultipartReply):
    """The switch's group features.

    Bit n of `types` is set if `GroupType` n is supported; `capabilities` holds bits of `GroupCapabilities`.
    `max_groups` and `actions` have one value for each type: the maximum number of groups, and a mask of the
    supported actions with one bit for each `ActionType`.
    """

    MULTIPART_TYPE: ClassVar = MultipartType.GROUP_FEATURES
    WIRE: ClassVar = Layout(
        "!II", "types capabilities", max_groups=IntegerArray("!4I"), actions=IntegerArray("!4I")
    )

    types: int = 0
    capabilities: int = 0
    max_groups: tuple[int, int, int, int] = (0, 0, 0, 0)
    actions: tuple[int, int, int, int] = (0, 0, 0, 0)


# --- meters (sections 7.3.5.12 to 7.3.5.14) ---


@dataclass(slots=True)
class MeterStatsRequest(MultipartRequest):
    """Request the counters of one meter, or with `MeterId.ALL` of all meters."""

    MULTIPART_TYPE: ClassVar = MultipartType.METER
    WIRE: ClassVar = Layout("!I4x", "meter_id")

    meter_id: int = MeterId.ALL


@dataclass(frozen=True, slots=True)
class BandStats(Structure):
    """The counters of one band: the traffic above its rate."""

    WIRE: ClassVar = Layout("!QQ", "packet_count byte_count")

    packet_count: int = 0
    byte_count: int = 0


@dataclass(frozen=True, slots=True)
class MeterStatsEntry(Structure):
    """The counters of one meter and its bands."""

    WIRE: ClassVar = Layout(
        "!IH6xIQQII",
        "meter_id # flow_count packet_count byte_count duration_sec duration_nsec",
        bands=StructureList(BandStats),
    )

    meter_id: int
    flow_count: int = 0
    packet_count: int = 0
    byte_count: int = 0
    duration_sec: int = 0
    duration_nsec: int = 0
    bands: tuple[BandStats, ...] = ()


@dataclass(slots=True)
class MeterStatsReply(MultipartReply):
    """The counters of the requested meters."""

    MULTIPART_TYPE: ClassVar = MultipartType.METER
    ENTRIES_FIELD: ClassVar = "entries"
    WIRE: ClassVar = Layout("!", "", entries=StructureList(MeterStatsEntry))

    entries: tuple[MeterStatsEntry, ...] = ()


@dataclass(slots=True)
class MeterConfigRequest(MultipartRequest):
    """Request the description of one meter, or with `MeterId.ALL` of all meters."""

    MULTIPART_TYPE: ClassVar = MultipartType.METER_CONFIG
    WIRE: ClassVar = Layout("!I4x", "meter_id")

    meter_id: int = MeterId.ALL


@dataclass(frozen=True, slots=True)
class MeterConfig(Structure):
    """The description of one meter: bits of `MeterFlags`, its number and bands."""

    WIRE: ClassVar = Layout("!HHI", "# flags meter_id", align=8, bands=BANDS)

    flags: int
    meter_id: int
    bands: tuple[Band, ...] = ()


@dataclass(slots=True)
class MeterConfigReply(MultipartReply):
    """The descriptions of the requested meters."""

    MULTIPART_TYPE: ClassVar = MultipartType.METER_CONFIG
    ENTRIES_FIELD: ClassVar = "entries"
    WIRE: ClassVar = Layout("!", "", entries=StructureList(MeterConfig))

    entries: tuple[MeterConfig, ...] = ()


@dataclass(slots=True)
class MeterFeaturesRequest(MultipartRequest):
    """Request the switch's meter features."""

    MULTIPART_TYPE: ClassVar = MultipartType.METER_FEATURES


@dataclass(slots=True)
class MeterFeaturesReply(MultipartReply):
    """The switch's meter features.

    Bit n of `band_types` is set if `BandType` n is supported; `capabilities` holds bits of `MeterFlags`.
    """

    MULTIPART_TYPE: ClassVar = MultipartType.METER_FEATURES
    WIRE: ClassVar = Layout("!IIIBB2x", "max_meter band_types capabilities max_bands max_color")

    max_meter: int = 0
    band_types: int = 0
    capabilities: int = 0
    max_bands: int = 0
    max_color: int = 0
