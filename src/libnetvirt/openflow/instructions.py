"""Instructions (OpenFlow 1.3.5 §7.2.4): frozen, hashable, compared by value."""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import Struct
from typing import ClassVar, Final

from libnetvirt.openflow.actions import ACTIONS, Action
from libnetvirt.openflow.constants import InstructionType
from libnetvirt.openflow.layout import Family, Layout, Rest, Wired, pack_tlv, require_multiple

_HEAD: Final = Struct("!HH4x")


def _pack_actions(tag: int, actions: tuple[Action, ...]) -> bytes:
    """An instruction that holds actions; written out because nearly every rule has one."""
    body = b"".join([action.encode() for action in actions])
    length = 8 + len(body)
    if length > 0xFFFF:
        raise ValueError(f"actions of {len(body)} bytes; at most {0xFFFF - 8} are possible")
    return _HEAD.pack(tag, length) + body


@dataclass(frozen=True, slots=True)
class GotoTable(Wired):
    """Go on in that table, which must be a later one."""

    WIRE: ClassVar = Layout("!HHB3x", "= # table_id", tag=InstructionType.GOTO_TABLE)
    table_id: int


@dataclass(frozen=True, slots=True)
class WriteMetadata(Wired):
    """Write the bits of `metadata` that are in `mask`."""

    WIRE: ClassVar = Layout("!HH4xQQ", "= # metadata mask", tag=InstructionType.WRITE_METADATA)
    metadata: int
    mask: int = 0xFFFF_FFFF_FFFF_FFFF


@dataclass(frozen=True, slots=True)
class WriteActions(Wired):
    """Merge the actions into the packet's action set. The wire form is computed once."""

    WIRE: ClassVar = Layout("!HH4x", "= #", tag=InstructionType.WRITE_ACTIONS, actions=ACTIONS)
    actions: tuple[Action, ...]
    _wire: bytes | None = field(default=None, init=False, repr=False, compare=False)

    def encode(self) -> bytes:
        """The wire form. Raises ValueError when a field does not fit."""
        wire = self._wire
        if wire is None:
            wire = _pack_actions(3, self.actions)
            object.__setattr__(self, "_wire", wire)
        return wire


@dataclass(frozen=True, slots=True)
class ApplyActions(Wired):
    """Do the actions now, in order. The wire form is computed once."""

    WIRE: ClassVar = Layout("!HH4x", "= #", tag=InstructionType.APPLY_ACTIONS, actions=ACTIONS)
    actions: tuple[Action, ...]
    _wire: bytes | None = field(default=None, init=False, repr=False, compare=False)

    def encode(self) -> bytes:
        """The wire form. Raises ValueError when a field does not fit."""
        wire = self._wire
        if wire is None:
            wire = _pack_actions(4, self.actions)
            object.__setattr__(self, "_wire", wire)
        return wire


@dataclass(frozen=True, slots=True)
class ClearActions(Wired):
    """Empty the packet's action set."""

    WIRE: ClassVar = Layout("!HH4x", "= #", tag=InstructionType.CLEAR_ACTIONS)


@dataclass(frozen=True, slots=True)
class Meter(Wired):
    """Send the packet through that meter first."""

    WIRE: ClassVar = Layout("!HHI", "= # meter_id", tag=InstructionType.METER)
    meter_id: int


@dataclass(frozen=True, slots=True)
class ExperimenterInstruction(Wired):
    """An experimenter's instruction; `payload` is a multiple of 8 bytes, kept as it is."""

    WIRE: ClassVar = Layout("!HHI", "= # experimenter", tag=InstructionType.EXPERIMENTER, payload=Rest())
    experimenter: int
    payload: bytes = b""

    def encode(self) -> bytes:
        """The wire form. Raises ValueError when the payload is not a multiple of 8 bytes."""
        require_multiple(len(self.payload), 8, "an experimenter instruction's payload")
        return self.WIRE.pack(self)


@dataclass(frozen=True, slots=True)
class UnknownInstruction:
    """An instruction of a type that OpenFlow 1.3 does not define; `body` is what follows the length."""

    type: int
    body: bytes

    def encode(self) -> bytes:
        """The wire form. Raises ValueError when it is not a multiple of 8 bytes, or too long."""
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

INSTRUCTIONS: Final = Family(
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
"""The layout part for a list of instructions."""
