"""Actions: what a switch does with a packet (OpenFlow 1.3.5, section 7.2.5).

Actions are frozen dataclasses: hashable, and compared by value.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct, error
from typing import ClassVar, Final

from libnetvirt.openflow.constants import CONTROLLER_NO_BUFFER, ActionType
from libnetvirt.openflow.errors import ProtocolError
from libnetvirt.openflow.layout import (
    Layout,
    RawBytes,
    Structure,
    TlvList,
    bad_value,
    pack_tlv,
    require_multiple,
)
from libnetvirt.openflow.oxm import FIELDS, field_named, parse_field

_OUTPUT: Final = Struct("!HHIH6x")
_HEAD: Final = Struct("!HH")
_PADS: Final = tuple(b"\0" * count for count in range(8))


@dataclass(frozen=True, slots=True)
class Output(Structure):
    """Send the packet out of `port`. If `port` is the controller, send at most `max_len` bytes of it."""

    WIRE: ClassVar = Layout("!HHIH6x", "= # port max_len", tag=ActionType.OUTPUT)
    port: int
    max_len: int = CONTROLLER_NO_BUFFER

    def encode(self) -> bytes:
        """Return the wire form. Raises ValueError if a field does not fit.

        Hand-written for speed, because nearly every rule has an output action.
        """
        try:
            return _OUTPUT.pack(0, 16, self.port, self.max_len)
        except error as fault:
            raise ValueError(f"{self} cannot be encoded: {fault}") from fault


@dataclass(frozen=True, slots=True)
class CopyTtlOut(Structure):
    """Copy the TTL from the next-to-outermost header to the outermost."""

    WIRE: ClassVar = Layout("!HH4x", "= #", tag=ActionType.COPY_TTL_OUT)


@dataclass(frozen=True, slots=True)
class CopyTtlIn(Structure):
    """Copy the TTL from the outermost header to the next."""

    WIRE: ClassVar = Layout("!HH4x", "= #", tag=ActionType.COPY_TTL_IN)


@dataclass(frozen=True, slots=True)
class SetMplsTtl(Structure):
    """Set the outermost MPLS label's TTL."""

    WIRE: ClassVar = Layout("!HHB3x", "= # ttl", tag=ActionType.SET_MPLS_TTL)
    ttl: int


@dataclass(frozen=True, slots=True)
class DecMplsTtl(Structure):
    """Decrement the outermost MPLS label's TTL."""

    WIRE: ClassVar = Layout("!HH4x", "= #", tag=ActionType.DEC_MPLS_TTL)


@dataclass(frozen=True, slots=True)
class PushVlan(Structure):
    """Push an outermost VLAN tag with this ethertype (0x8100 or 0x88a8)."""

    WIRE: ClassVar = Layout("!HHH2x", "= # ethertype", tag=ActionType.PUSH_VLAN)
    ethertype: int = 0x8100


@dataclass(frozen=True, slots=True)
class PopVlan(Structure):
    """Pop the outermost VLAN tag."""

    WIRE: ClassVar = Layout("!HH4x", "= #", tag=ActionType.POP_VLAN)


@dataclass(frozen=True, slots=True)
class PushMpls(Structure):
    """Push an outermost MPLS label; `ethertype` is 0x8847 or 0x8848."""

    WIRE: ClassVar = Layout("!HHH2x", "= # ethertype", tag=ActionType.PUSH_MPLS)
    ethertype: int = 0x8847


@dataclass(frozen=True, slots=True)
class PopMpls(Structure):
    """Pop the outermost MPLS label; `ethertype` is that of the header below it."""

    WIRE: ClassVar = Layout("!HHH2x", "= # ethertype", tag=ActionType.POP_MPLS)
    ethertype: int


@dataclass(frozen=True, slots=True)
class SetQueue(Structure):
    """Enqueue the packet in this queue of its output port."""

    WIRE: ClassVar = Layout("!HHI", "= # queue_id", tag=ActionType.SET_QUEUE)
    queue_id: int


@dataclass(frozen=True, slots=True)
class Group(Structure):
    """Process the packet through this group."""

    WIRE: ClassVar = Layout("!HHI", "= # group_id", tag=ActionType.GROUP)
    group_id: int


@dataclass(frozen=True, slots=True)
class SetNwTtl(Structure):
    """Set the IPv4 TTL or IPv6 hop limit."""

    WIRE: ClassVar = Layout("!HHB3x", "= # ttl", tag=ActionType.SET_NW_TTL)
    ttl: int


@dataclass(frozen=True, slots=True)
class DecNwTtl(Structure):
    """Decrement the IPv4 TTL or IPv6 hop limit."""

    WIRE: ClassVar = Layout("!HH4x", "= #", tag=ActionType.DEC_NW_TTL)


@dataclass(frozen=True, slots=True)
class PushPbb(Structure):
    """Push a PBB service tag with this ethertype (0x88e7)."""

    WIRE: ClassVar = Layout("!HHH2x", "= # ethertype", tag=ActionType.PUSH_PBB)
    ethertype: int = 0x88E7


@dataclass(frozen=True, slots=True)
class PopPbb(Structure):
    """Pop the PBB service tag."""

    WIRE: ClassVar = Layout("!HH4x", "= #", tag=ActionType.POP_PBB)


@dataclass(frozen=True, slots=True)
class SetField(Structure):
    """Set the match field `name` to `value` (an int, as in `Match`)."""

    name: str
    value: int

    def encode(self) -> bytes:
        """Return the wire form, padded to a multiple of 8 bytes.

        Raises ValueError if the field is unknown or the value does not fit into it.
        """
        field = FIELDS.get(self.name) or field_named(self.name)
        if self.value < 0 or self.value > field.all_ones:
            raise ValueError(f"{self.name}={self.value:#x} does not fit in {field.bits} bits")
        body = field.header + self.value.to_bytes(field.width, "big")
        pad = -(4 + len(body)) % 8
        return _HEAD.pack(25, 4 + len(body) + pad) + body + _PADS[pad]

    @classmethod
    def parse(cls, buf: bytes, pos: int, end: int) -> tuple[SetField, int]:
        """Parse the set-field action that fills `buf[pos:end]`. Raises ProtocolError."""
        field, value, mask, after = parse_field(buf, pos + 4, end)
        if mask != field.all_ones:
            raise bad_value(f"set_field of {field.name} with a mask, which OpenFlow 1.3 does not have")
        if end - after >= 8:
            raise ProtocolError(f"set_field of {field.name} with {end - after} bytes of padding")
        return cls(field.name, value), end


@dataclass(frozen=True, slots=True)
class Experimenter(Structure):
    """An action defined by an experimenter. `payload` is opaque; its length is a multiple of 8 bytes."""

    WIRE: ClassVar = Layout("!HHI", "= # experimenter", tag=ActionType.EXPERIMENTER, payload=RawBytes())
    experimenter: int
    payload: bytes = b""

    def encode(self) -> bytes:
        """Return the wire form. Raises ValueError if the payload's length is not a multiple of 8 bytes."""
        require_multiple(len(self.payload), 8, "an experimenter action's payload")
        return self.WIRE.pack(self)


@dataclass(frozen=True, slots=True)
class UnknownAction:
    """An action of a type that OpenFlow 1.3 does not define. `body` is all bytes after the length field."""

    type: int
    body: bytes

    def encode(self) -> bytes:
        """Return the wire form. Raises ValueError if its length is not a multiple of 8 bytes or too large."""
        require_multiple(4 + len(self.body), 8, "an action")
        return pack_tlv(self.type, self.body)


Action = (
    Output
    | CopyTtlOut
    | CopyTtlIn
    | SetMplsTtl
    | DecMplsTtl
    | PushVlan
    | PopVlan
    | PushMpls
    | PopMpls
    | SetQueue
    | Group
    | SetNwTtl
    | DecNwTtl
    | PushPbb
    | PopPbb
    | SetField
    | Experimenter
    | UnknownAction
)
"""Any action."""

ACTIONS: Final = TlvList(
    "an action",
    {
        ActionType.OUTPUT: Output,
        ActionType.COPY_TTL_OUT: CopyTtlOut,
        ActionType.COPY_TTL_IN: CopyTtlIn,
        ActionType.SET_MPLS_TTL: SetMplsTtl,
        ActionType.DEC_MPLS_TTL: DecMplsTtl,
        ActionType.PUSH_VLAN: PushVlan,
        ActionType.POP_VLAN: PopVlan,
        ActionType.PUSH_MPLS: PushMpls,
        ActionType.POP_MPLS: PopMpls,
        ActionType.SET_QUEUE: SetQueue,
        ActionType.GROUP: Group,
        ActionType.SET_NW_TTL: SetNwTtl,
        ActionType.DEC_NW_TTL: DecNwTtl,
        ActionType.SET_FIELD: SetField,
        ActionType.PUSH_PBB: PushPbb,
        ActionType.POP_PBB: PopPbb,
        ActionType.EXPERIMENTER: Experimenter,
    },
    UnknownAction,
)
"""The variable-length field that holds a list of actions."""
