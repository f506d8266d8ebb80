"""Actions (OpenFlow 1.3.5 §7.2.5): frozen, hashable, compared by value."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct, error
from typing import ClassVar, Final

from libnetvirt.openflow.constants import CONTROLLER_NO_BUFFER, ActionType
from libnetvirt.openflow.errors import ProtocolError
from libnetvirt.openflow.layout import Family, Layout, Rest, Wired, bad_value, pack_tlv, require_multiple
from libnetvirt.openflow.oxm import FIELDS, field_named, parse_field

_OUTPUT: Final = Struct("!HHIH6x")
_HEAD: Final = Struct("!HH")
_PADS: Final = tuple(b"\0" * count for count in range(8))


@dataclass(frozen=True, slots=True)
class Output(Wired):
    """Send the packet out of `port`; to the controller, at most `max_len` bytes of it."""

    WIRE: ClassVar = Layout("!HHIH6x", "= # port max_len", tag=ActionType.OUTPUT)
    port: int
    max_len: int = CONTROLLER_NO_BUFFER

    def encode(self) -> bytes:
        """The wire form; written out because every rule has one."""
        try:
            return _OUTPUT.pack(0, 16, self.port, self.max_len)
        except error as fault:
            raise ValueError(f"{self} does not fit the wire: {fault}") from fault


@dataclass(frozen=True, slots=True)
class CopyTtlOut(Wired):
    """Copy the TTL from the next-to-outermost header to the outermost."""

    WIRE: ClassVar = Layout("!HH4x", "= #", tag=ActionType.COPY_TTL_OUT)


@dataclass(frozen=True, slots=True)
class CopyTtlIn(Wired):
    """Copy the TTL from the outermost header to the next."""

    WIRE: ClassVar = Layout("!HH4x", "= #", tag=ActionType.COPY_TTL_IN)


@dataclass(frozen=True, slots=True)
class SetMplsTtl(Wired):
    """Set the outermost MPLS label's TTL."""

    WIRE: ClassVar = Layout("!HHB3x", "= # ttl", tag=ActionType.SET_MPLS_TTL)
    ttl: int


@dataclass(frozen=True, slots=True)
class DecMplsTtl(Wired):
    """Take one from the outermost MPLS label's TTL."""

    WIRE: ClassVar = Layout("!HH4x", "= #", tag=ActionType.DEC_MPLS_TTL)


@dataclass(frozen=True, slots=True)
class PushVlan(Wired):
    """Add an outermost VLAN tag with that ethertype (0x8100 or 0x88a8)."""

    WIRE: ClassVar = Layout("!HHH2x", "= # ethertype", tag=ActionType.PUSH_VLAN)
    ethertype: int = 0x8100


@dataclass(frozen=True, slots=True)
class PopVlan(Wired):
    """Take the outermost VLAN tag away."""

    WIRE: ClassVar = Layout("!HH4x", "= #", tag=ActionType.POP_VLAN)


@dataclass(frozen=True, slots=True)
class PushMpls(Wired):
    """Add an outermost MPLS label; `ethertype` is 0x8847 or 0x8848."""

    WIRE: ClassVar = Layout("!HHH2x", "= # ethertype", tag=ActionType.PUSH_MPLS)
    ethertype: int = 0x8847


@dataclass(frozen=True, slots=True)
class PopMpls(Wired):
    """Take the outermost MPLS label away; what is below has `ethertype`."""

    WIRE: ClassVar = Layout("!HHH2x", "= # ethertype", tag=ActionType.POP_MPLS)
    ethertype: int


@dataclass(frozen=True, slots=True)
class SetQueue(Wired):
    """Use that queue of the output port."""

    WIRE: ClassVar = Layout("!HHI", "= # queue_id", tag=ActionType.SET_QUEUE)
    queue_id: int


@dataclass(frozen=True, slots=True)
class Group(Wired):
    """Let that group treat the packet."""

    WIRE: ClassVar = Layout("!HHI", "= # group_id", tag=ActionType.GROUP)
    group_id: int


@dataclass(frozen=True, slots=True)
class SetNwTtl(Wired):
    """Set the IPv4 TTL or IPv6 hop limit."""

    WIRE: ClassVar = Layout("!HHB3x", "= # ttl", tag=ActionType.SET_NW_TTL)
    ttl: int


@dataclass(frozen=True, slots=True)
class DecNwTtl(Wired):
    """Take one from the IPv4 TTL or IPv6 hop limit."""

    WIRE: ClassVar = Layout("!HH4x", "= #", tag=ActionType.DEC_NW_TTL)


@dataclass(frozen=True, slots=True)
class PushPbb(Wired):
    """Add a PBB service tag with that ethertype (0x88e7)."""

    WIRE: ClassVar = Layout("!HHH2x", "= # ethertype", tag=ActionType.PUSH_PBB)
    ethertype: int = 0x88E7


@dataclass(frozen=True, slots=True)
class PopPbb(Wired):
    """Take the PBB service tag away."""

    WIRE: ClassVar = Layout("!HH4x", "= #", tag=ActionType.POP_PBB)


@dataclass(frozen=True, slots=True)
class SetField(Wired):
    """Write `value` to the match field `name` (an int, as in `Match`). `encode` raises ValueError."""

    name: str
    value: int

    def encode(self) -> bytes:
        """The wire form, padded to 8 bytes."""
        field = FIELDS.get(self.name) or field_named(self.name)
        if self.value < 0 or self.value > field.full:
            raise ValueError(f"{self.name}={self.value:#x} does not fit in {field.bits} bits")
        body = field.plain + self.value.to_bytes(field.width, "big")
        pad = -(4 + len(body)) % 8
        return _HEAD.pack(25, 4 + len(body) + pad) + body + _PADS[pad]

    @classmethod
    def parse(cls, buf: bytes, pos: int, end: int) -> tuple[SetField, int]:
        """A set-field of exactly `buf[pos:end]`. Raises ProtocolError."""
        field, value, mask, after = parse_field(buf, pos + 4, end)
        if mask != field.full:
            raise bad_value(f"set_field of {field.name} with a mask, which OpenFlow 1.3 does not have")
        if end - after >= 8:
            raise ProtocolError(f"set_field of {field.name} with {end - after} bytes of padding")
        return cls(field.name, value), end


@dataclass(frozen=True, slots=True)
class Experimenter(Wired):
    """An experimenter's action; `payload` is a multiple of 8 bytes, kept as it is."""

    WIRE: ClassVar = Layout("!HHI", "= # experimenter", tag=ActionType.EXPERIMENTER, payload=Rest())
    experimenter: int
    payload: bytes = b""

    def encode(self) -> bytes:
        """The wire form. Raises ValueError when the payload is not a multiple of 8 bytes."""
        require_multiple(len(self.payload), 8, "an experimenter action's payload")
        return self.WIRE.pack(self)


@dataclass(frozen=True, slots=True)
class UnknownAction:
    """An action of a type that OpenFlow 1.3 does not define; `body` is what follows the length."""

    type: int
    body: bytes

    def encode(self) -> bytes:
        """The wire form. Raises ValueError when it is not a multiple of 8 bytes, or too long."""
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

ACTIONS: Final = Family(
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
"""The layout part for a list of actions."""
