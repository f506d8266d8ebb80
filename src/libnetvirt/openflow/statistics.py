"""Multipart requests and replies about what a switch holds besides rules: ports, queues, groups, meters.

OpenFlow 1.3.5 §7.3.5.6 to 7.3.5.14.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from libnetvirt.openflow.constants import ALL_QUEUES, GroupId, MeterId, MultipartType, Port
from libnetvirt.openflow.layout import Layout, Numbers, Records, Wired
from libnetvirt.openflow.modify import BANDS, Band, Bucket
from libnetvirt.openflow.multipart import MultipartReply, MultipartRequest
from libnetvirt.openflow.packets import PortDesc

# --- ports and queues (§7.3.5.6-7.3.5.8) ---


@dataclass(slots=True)
class PortDescRequest(MultipartRequest):
    """Ask for the ports."""

    PART: ClassVar = MultipartType.PORT_DESC


@dataclass(slots=True)
class PortDescReply(MultipartReply):
    """The ports."""

    PART: ClassVar = MultipartType.PORT_DESC
    LISTED: ClassVar = "ports"
    WIRE: ClassVar = Layout("!", "", ports=Records(PortDesc))

    ports: tuple[PortDesc, ...] = ()


@dataclass(slots=True)
class PortStatsRequest(MultipartRequest):
    """Ask for one port's counters, or with ANY for all."""

    PART: ClassVar = MultipartType.PORT_STATS
    WIRE: ClassVar = Layout("!I4x", "port_no")

    port_no: int = Port.ANY


@dataclass(frozen=True, slots=True)
class PortStatsEntry(Wired):
    """One port's counters; all ones where the switch does not count."""

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
    """The ports' counters."""

    PART: ClassVar = MultipartType.PORT_STATS
    LISTED: ClassVar = "entries"
    WIRE: ClassVar = Layout("!", "", entries=Records(PortStatsEntry))

    entries: tuple[PortStatsEntry, ...] = ()


@dataclass(slots=True)
class QueueStatsRequest(MultipartRequest):
    """Ask for queues' counters; ANY and ALL_QUEUES for all."""

    PART: ClassVar = MultipartType.QUEUE
    WIRE: ClassVar = Layout("!II", "port_no queue_id")

    port_no: int = Port.ANY
    queue_id: int = ALL_QUEUES


@dataclass(frozen=True, slots=True)
class QueueStatsEntry(Wired):
    """One queue's counters."""

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
    """The queues' counters."""

    PART: ClassVar = MultipartType.QUEUE
    LISTED: ClassVar = "entries"
    WIRE: ClassVar = Layout("!", "", entries=Records(QueueStatsEntry))

    entries: tuple[QueueStatsEntry, ...] = ()


# --- groups (§7.3.5.9-7.3.5.11) ---


@dataclass(slots=True)
class GroupStatsRequest(MultipartRequest):
    """Ask for one group's counters, or with ALL for all."""

    PART: ClassVar = MultipartType.GROUP
    WIRE: ClassVar = Layout("!I4x", "group_id")

    group_id: int = GroupId.ALL


@dataclass(frozen=True, slots=True)
class BucketStats(Wired):
    """One bucket's counters."""

    WIRE: ClassVar = Layout("!QQ", "packet_count byte_count")

    packet_count: int = 0
    byte_count: int = 0


@dataclass(frozen=True, slots=True)
class GroupStatsEntry(Wired):
    """One group's counters."""

    WIRE: ClassVar = Layout(
        "!H2xII4xQQII",
        "# group_id ref_count packet_count byte_count duration_sec duration_nsec",
        buckets=Records(BucketStats),
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
    """The groups' counters."""

    PART: ClassVar = MultipartType.GROUP
    LISTED: ClassVar = "entries"
    WIRE: ClassVar = Layout("!", "", entries=Records(GroupStatsEntry))

    entries: tuple[GroupStatsEntry, ...] = ()


@dataclass(slots=True)
class GroupDescRequest(MultipartRequest):
    """Ask for the groups."""

    PART: ClassVar = MultipartType.GROUP_DESC


@dataclass(frozen=True, slots=True)
class GroupDesc(Wired):
    """One group."""

    WIRE: ClassVar = Layout("!HBxI", "# type group_id", align=8, buckets=Records(Bucket))

    type: int
    group_id: int
    buckets: tuple[Bucket, ...] = ()


@dataclass(slots=True)
class GroupDescReply(MultipartReply):
    """The groups."""

    PART: ClassVar = MultipartType.GROUP_DESC
    LISTED: ClassVar = "entries"
    WIRE: ClassVar = Layout("!", "", entries=Records(GroupDesc))

    entries: tuple[GroupDesc, ...] = ()


@dataclass(slots=True)
class GroupFeaturesRequest(MultipartRequest):
    """Ask what groups can do."""

    PART: ClassVar = MultipartType.GROUP_FEATURES


@dataclass(slots=True)
class GroupFeaturesReply(MultipartReply):
    """What groups can do: bits by `GroupType`, `GroupCapabilities`, and per type the most groups and the
    actions (bits by `ActionType`)."""

    PART: ClassVar = MultipartType.GROUP_FEATURES
    WIRE: ClassVar = Layout("!II", "types capabilities", max_groups=Numbers("!4I"), actions=Numbers("!4I"))

    types: int = 0
    capabilities: int = 0
    max_groups: tuple[int, int, int, int] = (0, 0, 0, 0)
    actions: tuple[int, int, int, int] = (0, 0, 0, 0)


# --- meters (§7.3.5.12-7.3.5.14) ---


@dataclass(slots=True)
class MeterStatsRequest(MultipartRequest):
    """Ask for one meter's counters, or with ALL for all."""

    PART: ClassVar = MultipartType.METER
    WIRE: ClassVar = Layout("!I4x", "meter_id")

    meter_id: int = MeterId.ALL


@dataclass(frozen=True, slots=True)
class BandStats(Wired):
    """One band's counters: what exceeded it."""

    WIRE: ClassVar = Layout("!QQ", "packet_count byte_count")

    packet_count: int = 0
    byte_count: int = 0


@dataclass(frozen=True, slots=True)
class MeterStatsEntry(Wired):
    """One meter's counters."""

    WIRE: ClassVar = Layout(
        "!IH6xIQQII",
        "meter_id # flow_count packet_count byte_count duration_sec duration_nsec",
        bands=Records(BandStats),
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
    """The meters' counters."""

    PART: ClassVar = MultipartType.METER
    LISTED: ClassVar = "entries"
    WIRE: ClassVar = Layout("!", "", entries=Records(MeterStatsEntry))

    entries: tuple[MeterStatsEntry, ...] = ()


@dataclass(slots=True)
class MeterConfigRequest(MultipartRequest):
    """Ask for one meter, or with ALL for all."""

    PART: ClassVar = MultipartType.METER_CONFIG
    WIRE: ClassVar = Layout("!I4x", "meter_id")

    meter_id: int = MeterId.ALL


@dataclass(frozen=True, slots=True)
class MeterConfig(Wired):
    """One meter."""

    WIRE: ClassVar = Layout("!HHI", "# flags meter_id", align=8, bands=BANDS)

    flags: int
    meter_id: int
    bands: tuple[Band, ...] = ()


@dataclass(slots=True)
class MeterConfigReply(MultipartReply):
    """The meters."""

    PART: ClassVar = MultipartType.METER_CONFIG
    LISTED: ClassVar = "entries"
    WIRE: ClassVar = Layout("!", "", entries=Records(MeterConfig))

    entries: tuple[MeterConfig, ...] = ()


@dataclass(slots=True)
class MeterFeaturesRequest(MultipartRequest):
    """Ask what meters can do."""

    PART: ClassVar = MultipartType.METER_FEATURES


@dataclass(slots=True)
class MeterFeaturesReply(MultipartReply):
    """What meters can do: bits by `BandType`, bits of `MeterFlags`."""

    PART: ClassVar = MultipartType.METER_FEATURES
    WIRE: ClassVar = Layout("!IIIBB2x", "max_meter band_types capabilities max_bands max_color")

    max_meter: int = 0
    band_types: int = 0
    capabilities: int = 0
    max_bands: int = 0
    max_color: int = 0
