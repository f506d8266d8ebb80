"""Instructions of rules (OpenFlow 1.3.5, section 7.2.4).

Instructions are frozen dataclasses: hashable, and compared by value.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import Struct
from typing import ClassVar, Final

from libnetvirt.openflow.actions import ACTIONS, Action
from libnetvirt.openflow.constants import InstructionType
from libnetvirt.openflow.layout import Layout, RawBytes, Structure, TlvList, pack_tlv, require_multiple

_HEAD: Final = Struct("!HH4x")


def _pack_actions(tag: int, actions: tuple[Action, ...]) -> bytes:
    """Pack an instruction that holds actions. Hand-written for speed, as nearly every rule has one."""
    body = b"".join([action.encode() for action in actions])
    length = 8 + len(body)
    if length > 0xFFFF:
        raise ValueError(f"actions of {len(body)} bytes; at most {0xFFFF - 8} are allowed")
    return _HEAD.pack(tag, length) + body


@dataclass(frozen=True, slots=True)
class GotoTable(Structure):
    """Continue in this table; its number must be greater than the current table's."""

    WIRE: ClassVar = Layout("!HHB3x", "= # table_id", tag=InstructionType.GOTO_TABLE)
    table_id: int


@dataclass(frozen=True, slots=True)
class WriteMetadata(Structure):
    """Write the bits of `metadata` that are set in `mask` to the packet's metadata."""

    WIRE: ClassVar = Layout("!HH4xQQ", "= # metadata mask", tag=InstructionType.WRITE_METADATA)
    metadata: int
    mask: int = 0xFFFF_FFFF_FFFF_FFFF


@dataclass(frozen=True, slots=True)
class WriteActions(Structure):
    """Merge the actions into the packet's action set. The wire form is computed once and cached."""

    WIRE: ClassVar = Layout("!HH4x", "= #", tag=InstructionType.WRITE_ACTIONS, actions=ACTIONS)
    actions: tuple[Action, ...]
    _wire: bytes | None = field(default=None, init=False, repr=False, compare=False)

    def encode(self) -> bytes:
        """Return the wire form. Raises ValueError if a field does not fit."""
        wire = self._wire
        if wire is None:
            wire = _pack_actions(3, self.actions)
            object.__setattr__(self, "_wire", wire)
        return wire


@dataclass(frozen=True, slots=True)
class ApplyActions(Structure):
    """Apply the actions immediately, in order. The wire form is computed once and cached."""

    WIRE: ClassVar = Layout("!HH4x", "= #", tag=InstructionType.APPLY_ACTIONS, actions=ACTIONS)
    actions: tuple[Action, ...]
    _wire: bytes | None = field(default=None, init=False, repr=False, compare=False)

    def encode(self) -> bytes:
        """Return the wire form. Raises ValueError if a field does not fit."""
        wire = self._wire
        if wire is None:
            wire = _pack_actions(4, self.actions)
            object.__setattr__(self, "_wire", wire)
        return wire


@dataclass(frozen=True, slots=True)
class ClearActions(Structure):
    """Clear the packet's action set."""

    WIRE: ClassVar = Layout("!HH4x", "= #", tag=InstructionType.CLEAR_ACTIONS)


@dataclass(frozen=True, slots=True)
class Meter(Structure):
    """Apply this meter to the packet, before all other instructions."""

    WIRE: ClassVar = Layout("!HHI", "= # meter_id", tag=InstructionType.METER)
    meter_id: int


@dataclass(frozen=True, slots=True)
class ExperimenterInstruction(Structure):
    """An instruction defined by an experimenter. `payload` is opaque; its length is a multiple of 8 bytes."""

    WIRE: ClassVar = Layout("!HHI", "= # experimenter", tag=InstructionType.EXPERIMENTER, payload=RawBytes())
    experimenter: int
    payload: bytes = b""

    def encode(self) -> bytes:
        """Return the wire form. Raises ValueError if the payload's length is not a multiple of 8 bytes."""
        require_multiple(len(self.payload), 8, "an experimenter instruction's payload")
        return self.WIRE.pack(self)


@dataclass(frozen=True, slots=True)
class UnknownInstruction:
    """An instruction of a type that OpenFlow 1.3 does not define. `body` is all bytes after the length."""

    type: int
    body: bytes

    def encode(self) -> bytes:
        """Return the wire form. Raises ValueError if its length is not a multiple of 8 bytes or too large."""
        require_multiple(4 + len(self.body), 8, "an instruction")
        return pack_tlv(self.type, self.body)


Instruction = (
    GotoTable
    | WriteMetadata
    | WriteActions
    | ApplyActions
    | ClearActions
    | Meter
    | ExperimenterInstruction
    | UnknownInstruction
)
"""Any instruction."""

INSTRUCTIONS: Final = TlvList(
    "an instruction",
    {
        InstructionType.GOTO_TABLE: GotoTable,
        InstructionType.WRITE_METADATA: WriteMetadata,
        InstructionType.WRITE_ACTIONS: WriteActions,
        InstructionType.APPLY_ACTIONS: ApplyActions,
        InstructionType.CLEAR_ACTIONS: ClearActions,
        InstructionType.METER: Meter,
        InstructionType.EXPERIMENTER: ExperimenterInstruction,
    },
    UnknownInstruction,
)
"""The variable-length field that holds a list of instructions."""
