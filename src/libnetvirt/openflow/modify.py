"""Messages that change a switch's rules, groups, meters, ports and tables.

OpenFlow 1.3.5, sections 7.3.3 and 7.3.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct, error
from typing import ClassVar, Final

from libnetvirt.openflow.actions import ACTIONS, Action
from libnetvirt.openflow.constants import (
    DEFAULT_PRIORITY,
    MAX_MESSAGE_LENGTH,
    NO_BUFFER,
    OFP_VERSION,
    BandType,
    FlowModCommand,
    GroupId,
    GroupType,
    MsgType,
    Port,
)
from libnetvirt.openflow.instructions import INSTRUCTIONS, Instruction
from libnetvirt.openflow.layout import (
    MAC,
    Layout,
    RawBytes,
    Structure,
    StructureList,
    TlvList,
    pack_tlv,
    require_multiple,
)
from libnetvirt.openflow.match import MATCH, Match
from libnetvirt.openflow.message import Message

_FLOW_MOD: Final = Struct("!BBHIQQBBHHHIIIH2x")
_EMPTY: Final = Match()


@dataclass(slots=True)
class FlowMod(Message):
    """Add, modify or delete rules (section 7.3.4.1).

    Timeouts are in seconds, 0 for none. `out_port` and `out_group` restrict a delete to rules with such an
    output. `flags` holds bits of `FlowModFlags`. A modify or delete applies only to rules whose cookie equals
    `cookie` in the bits of `cookie_mask`.
    """

    TYPE: ClassVar = MsgType.FLOW_MOD
    WIRE: ClassVar = Layout(
        "!QQBBHHHIIIH2x",
        "cookie cookie_mask table_id command idle_timeout hard_timeout priority buffer_id out_port out_group"
        " flags",
        match=MATCH,
        instructions=INSTRUCTIONS,
    )

    cookie: int = 0
    cookie_mask: int = 0
    table_id: int = 0
    command: int = FlowModCommand.ADD
    idle_timeout: int = 0
    hard_timeout: int = 0
    priority: int = DEFAULT_PRIORITY
    buffer_id: int = NO_BUFFER
    out_port: int = Port.ANY
    out_group: int = GroupId.ANY
    flags: int = 0
    match: Match = _EMPTY
    instructions: tuple[Instruction, ...] = ()

    def encode(self) -> bytes:
        """Return the whole message. Raises ValueError if a field does not fit.

        Hand-written for speed, because a large network has hundreds of thousands of rules.
        """
        body = self.match.encode() + b"".join([each.encode() for each in self.instructions])
        length = 48 + len(body)
        if length > MAX_MESSAGE_LENGTH:
            raise ValueError(f"a flow-mod of {length} bytes; at most {MAX_MESSAGE_LENGTH} are allowed")
        try:
            return (
                _FLOW_MOD.pack(
                    OFP_VERSION,
                    14,
                    length,
                    self.xid,
                    self.cookie,
                    self.cookie_mask,
                    self.table_id,
                    self.command,
                    self.idle_timeout,
                    self.hard_timeout,
                    self.priority,
                    self.buffer_id,
                    self.out_port,
                    self.out_group,
                    self.flags,
                )
                + body
            )
        except error as fault:
            raise ValueError(f"FlowMod cannot be encoded: {fault}") from fault


@dataclass(frozen=True, slots=True)
class Bucket(Structure):
    """One set of actions in a group (section 7.3.4.2).

    `weight` is for groups of type SELECT, `watch_port` and `watch_group` for type FAST_FAILOVER.
    """

    WIRE: ClassVar = Layout("!HHII4x", "# weight watch_port watch_group", align=8, actions=ACTIONS)

    weight: int = 0
    watch_port: int = Port.ANY
    watch_group: int = GroupId.ANY
    actions: tuple[Action, ...] = ()


@dataclass(slots=True)
class GroupMod(Message):
    """Add, modify or delete a group (section 7.3.4.2).

    `command` is a `GroupModCommand`, `type` a `GroupType`, `group_id` the group's number or a `GroupId`.
    """

    TYPE: ClassVar = MsgType.GROUP_MOD
    WIRE: ClassVar = Layout("!HBxI", "command type group_id", buckets=StructureList(Bucket))

    command: int
    type: int = GroupType.ALL
    group_id: int = 0
    buckets: tuple[Bucket, ...] = ()


@dataclass(slots=True)
class PortMod(Message):
    """Change the bits of a port's configuration that are set in `mask` (section 7.3.4.3)."""

    TYPE: ClassVar = MsgType.PORT_MOD
    WIRE: ClassVar = Layout(
        "!I4x6s2xIII4x", "port_no hw_addr config mask advertise", convert={"hw_addr": MAC}
    )

    port_no: int
    hw_addr: int
    config: int = 0
    mask: int = 0
    advertise: int = 0


@dataclass(slots=True)
class TableMod(Message):
    """Configure a table (section 7.3.3); OpenFlow 1.3 defines no bits of `config`."""

    TYPE: ClassVar = MsgType.TABLE_MOD
    WIRE: ClassVar = Layout("!B3xI", "table_id config")

    table_id: int
    config: int = 0


@dataclass(frozen=True, slots=True)
class DropBand(Structure):
    """Drop packets above `rate`.

    `rate` is in kbit/s or packets/s, `burst_size` in kbit or packets, depending on the meter's flags.
    """

    WIRE: ClassVar = Layout("!HHII4x", "= # rate burst_size", tag=BandType.DROP)

    rate: int
    burst_size: int = 0


@dataclass(frozen=True, slots=True)
class DscpRemarkBand(Structure):
    """Raise the DSCP drop precedence of packets above `rate` by `prec_level`. Units as for `DropBand`."""

    WIRE: ClassVar = Layout("!HHIIB3x", "= # rate burst_size prec_level", tag=BandType.DSCP_REMARK)

    rate: int
    burst_size: int = 0
    prec_level: int = 0


@dataclass(frozen=True, slots=True)
class ExperimenterBand(Structure):
    """A band defined by an experimenter. `payload` is opaque; its length is a multiple of 8 bytes."""

    WIRE: ClassVar = Layout(
        "!HHIII", "= # rate burst_size experimenter", tag=BandType.EXPERIMENTER, payload=RawBytes()
    )

    rate: int
    burst_size: int
    experimenter: int
    payload: bytes = b""

    def encode(self) -> bytes:
        """Return the wire form. Raises ValueError if the payload's length is not a multiple of 8 bytes."""
        require_multiple(len(self.payload), 8, "an experimenter band's payload")
        return self.WIRE.pack(self)


@dataclass(frozen=True, slots=True)
class UnknownBand:
    """A band of a type that OpenFlow 1.3 does not define. `body` is all bytes after the length field."""

    type: int
    body: bytes

    def encode(self) -> bytes:
        """Return the wire form. Raises ValueError if it is too short or not a multiple of 8 bytes long."""
        require_multiple(4 + len(self.body), 8, "a meter band")
        if len(self.body) < 12:
            raise ValueError("a meter band has at least 16 bytes")
        return pack_tlv(self.type, self.body)


Band = DropBand | DscpRemarkBand | ExperimenterBand | UnknownBand
"""Any meter band."""

BANDS: Final = TlvList(
    "a meter band",
    {
        BandType.DROP: DropBand,
        BandType.DSCP_REMARK: DscpRemarkBand,
        BandType.EXPERIMENTER: ExperimenterBand,
    },
    UnknownBand,
    minimum=16,
)
"""The variable-length field that holds a list of bands."""


@dataclass(slots=True)
class MeterMod(Message):
    """Add, modify or delete a meter (section 7.3.4.4).

    `command` is a `MeterModCommand`, `flags` holds bits of `MeterFlags`, `meter_id` is the meter's number or
    a `MeterId`.
    """

    TYPE: ClassVar = MsgType.METER_MOD
    WIRE: ClassVar = Layout("!HHI", "command flags meter_id", bands=BANDS)

    command: int
    flags: int = 0
    meter_id: int = 0
    bands: tuple[Band, ...] = ()
