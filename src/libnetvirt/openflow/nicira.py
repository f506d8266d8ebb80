"""Experimenter actions of Open vSwitch (experimenter Nicira, 0x2320), named as in ovs-actions(7).

A packet type is that of OpenFlow 1.5, section 7.2.3.11: a 16-bit namespace and a 16-bit type within it. In
namespace 1 the types are ethertypes.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Final

from libnetvirt.openflow.actions import Action, Experimenter
from libnetvirt.openflow.oxm import FIELDS

EXPERIMENTER: Final = 0x2320
ETHERNET: Final = 0x0000_0000
MPLS: Final = 0x0001_8847
#: packet type for `decap`: that of the next header, as told by the header that is removed
NEXT_HEADER: Final = 0x0000_FFFE

_ENCAP: Final = 46
_DECAP: Final = 47
_CHECK_PKT_LARGER: Final = 49
_BODY: Final = Struct("!HHI")
_RESUBMIT: Final = 14
_RESUBMIT_BODY: Final = Struct("!HHB3x")
_CLONE: Final = 42
_CLONE_HEAD: Final = Struct("!H6x")
_CHECK_BODY: Final = Struct("!HHH4s6x")
_REG_MOVE: Final = 6
_REG_MOVE_BODY: Final = Struct("!HHHHII")
_REG_LOAD: Final = 7
_REG_LOAD_BODY: Final = Struct("!HHIQ")
# The tag control information of the outermost vlan tag (NXM_OF_VLAN_TCI), and its low 12 bits.
_VLAN_TCI: Final = 0x0000_0802
_VLAN_ID_BITS: Final = 0 << 6 | 12 - 1
# The bits of the same that hold the priority (PCP), and those of an mpls label's traffic class.
VLAN_PCP: Final = (_VLAN_TCI, 13)
MPLS_TC: Final = (int.from_bytes(FIELDS["mpls_tc"].header, "big"), 0)
_PACKET_TYPE_NAMES: Final = {ETHERNET: "ethernet", MPLS: "mpls"}


def encap(packet_type: int) -> Experimenter:
    """Return an action that pushes a header of this packet type: an MPLS label, or Ethernet above a label."""
    return Experimenter(EXPERIMENTER, _BODY.pack(_ENCAP, 0, packet_type))


def decap(packet_type: int = NEXT_HEADER) -> Experimenter:
    """Return an action that removes the outermost header; ``packet_type`` is that of the next header.

    The switch parses the packet again afterwards.
    """
    return Experimenter(EXPERIMENTER, _BODY.pack(_DECAP, 0, packet_type))


def resubmit(port: int, table: int) -> Experimenter:
    """Return an action that looks the packet up in a table, as if it had come in at ``port``.

    Allowed in group buckets.
    """
    return Experimenter(EXPERIMENTER, _RESUBMIT_BODY.pack(_RESUBMIT, port, table))


def clone(*actions: Action) -> Experimenter:
    """Return an action that applies ``actions`` to a copy of the packet; the packet itself is not changed.

    Open vSwitch ignores it in group buckets.
    """
    return Experimenter(EXPERIMENTER, _CLONE_HEAD.pack(_CLONE) + b"".join(a.encode() for a in actions))


def clone_actions(action: Experimenter) -> bytes | None:
    """Return the wire form of the actions in a clone; None if ``action`` is not a clone."""
    head = _CLONE_HEAD.pack(_CLONE)
    if action.experimenter != EXPERIMENTER or not action.payload.startswith(head):
        return None
    return action.payload[len(head) :]


def resubmit_target(action: Experimenter) -> tuple[int, int] | None:
    """Return (port, table) of a resubmit; None if ``action`` is not a resubmit."""
    if action.experimenter != EXPERIMENTER or len(action.payload) != _RESUBMIT_BODY.size:
        return None
    kind, port, table = _RESUBMIT_BODY.unpack(action.payload)
    return (port, table) if kind == _RESUBMIT else None


def check_pkt_larger(length: int, bit: int, field: str = "metadata") -> Experimenter:
    """Return an action that sets a bit of a field if the packet is longer than ``length``, else clears it.

    ``length`` is in bytes, Ethernet header included. Since Open vSwitch 2.12.
    """
    header = FIELDS[field].header
    return Experimenter(EXPERIMENTER, _CHECK_BODY.pack(_CHECK_PKT_LARGER, length, bit, header))


def set_vlan_id(vlan: int) -> Experimenter:
    """Return an action that sets the vlan id of the outermost tag, which the frame must have.

    Unlike a set-field of ``vlan_vid``, it needs no match on that field.
    """
    return Experimenter(EXPERIMENTER, _REG_LOAD_BODY.pack(_REG_LOAD, _VLAN_ID_BITS, _VLAN_TCI, vlan))


def vlan_id_set(action: Experimenter) -> int | None:
    """Return the vlan id of :func:`set_vlan_id`; None if ``action`` is another one."""
    if action.experimenter != EXPERIMENTER or len(action.payload) != _REG_LOAD_BODY.size:
        return None
    *head, vlan = _REG_LOAD_BODY.unpack(action.payload)
    return int(vlan) if head == [_REG_LOAD, _VLAN_ID_BITS, _VLAN_TCI] else None


def register(number: int) -> tuple[int, int]:
    """Return the lowest bits of a register (NXM_NX_REG0 and following), for :func:`move`."""
    return 0x0001_0004 | number << 9, 0


def move(source: tuple[int, int], target: tuple[int, int], bits: int) -> Experimenter:
    """Return an action that copies some ``bits`` from one field to another. A place is the header of a field
    and the number of a bit, such as `VLAN_PCP`. Allowed in group buckets."""
    (from_field, from_bit), (to_field, to_bit) = source, target
    body = _REG_MOVE_BODY.pack(_REG_MOVE, bits, from_bit, to_bit, from_field, to_field)
    return Experimenter(EXPERIMENTER, body)


def moved(action: Experimenter) -> tuple[tuple[int, int], tuple[int, int], int] | None:
    """Return the arguments of :func:`move`; None if ``action`` is another one."""
    if action.experimenter != EXPERIMENTER or len(action.payload) != _REG_MOVE_BODY.size:
        return None
    kind, bits, from_bit, to_bit, from_field, to_field = _REG_MOVE_BODY.unpack(action.payload)
    return ((from_field, from_bit), (to_field, to_bit), bits) if kind == _REG_MOVE else None


def action_text(action: Experimenter, actions_text: Callable[[bytes], str]) -> str | None:
    """Return the action in the syntax of ovs-ofctl; None if it is not an action of this module.

    ``actions_text`` formats a list of actions that is given in wire form.
    """
    if action.experimenter != EXPERIMENTER:
        return None
    cloned = clone_actions(action)
    if cloned is not None:
        return f"clone({actions_text(cloned)})"
    target = resubmit_target(action)
    if target is not None:
        return f"resubmit({target[0]},{target[1]})"
    if (vlan := vlan_id_set(action)) is not None:
        return f"load:{vlan:#x}->NXM_OF_VLAN_TCI[0..11]"
    if (copied := moved(action)) is not None:
        source, destination = (_place_text(*place, copied[2]) for place in copied[:2])
        return f"move:{source}->{destination}"
    if len(action.payload) == _CHECK_BODY.size:
        return _check_text(action)
    if len(action.payload) != _BODY.size:
        return None
    kind, zero, packet_type = _BODY.unpack(action.payload)
    if kind == _ENCAP and not zero and packet_type in _PACKET_TYPE_NAMES:
        return f"encap({_PACKET_TYPE_NAMES[packet_type]})"
    if kind != _DECAP:
        return None
    if packet_type == NEXT_HEADER:
        return "decap()"
    return f"decap(packet_type(ns={packet_type >> 16},type={_type_text(packet_type & 0xFFFF)}))"


def _type_text(number: int) -> str:
    return f"{number:#x}" if number else "0"


def _place_text(header: int, bit: int, bits: int) -> str:
    """Some bits of a field, in the syntax of ovs-ofctl."""
    if header == _VLAN_TCI:
        name = "NXM_OF_VLAN_TCI"
    elif header & 0xFFFF_00FF == 0x0001_0004 and header >> 9 & 0x7F < 16:
        name = f"NXM_NX_REG{header >> 9 & 0x7F}"
    else:
        known = (f.name for f in FIELDS.values() if f.header == header.to_bytes(4, "big"))
        name = f"OXM_OF_{next(known, format(header, '#010x')).upper()}"
    return f"{name}[{bit}]" if bits == 1 else f"{name}[{bit}..{bit + bits - 1}]"


def _check_text(action: Experimenter) -> str | None:
    kind, length, bit, header = _CHECK_BODY.unpack(action.payload)
    name = next((f.name for f in FIELDS.values() if f.header == header), None)
    if kind != _CHECK_PKT_LARGER or name is None:
        return None
    return f"check_pkt_larger({length})->OXM_OF_{name.upper()}[{bit}]"
