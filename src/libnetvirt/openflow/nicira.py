"""Actions of Open vSwitch's experimenter (Nicira, 0x2320), as ovs-actions(7) names them.

Packet types are as in OpenFlow 1.5 §7.2.3.11: a namespace and a type; namespace 1 are ethertypes.
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
#: what follows the header that is taken off, where its own type tells
NEXT: Final = 0x0000_FFFE

_ENCAP: Final = 46
_DECAP: Final = 47
_CHECK_LARGER: Final = 49
_BODY: Final = Struct("!HHI")
_RESUBMIT: Final = 14
_LOOKUP: Final = Struct("!HHB3x")
_CLONE: Final = 42
_CLONE_HEAD: Final = Struct("!H6x")
_LARGER: Final = Struct("!HHH4s6x")
_NAMES: Final = {ETHERNET: "ethernet", MPLS: "mpls"}


def encap(packet_type: int) -> Experimenter:
    """Put a new header of that type before the packet: an MPLS label, or Ethernet before a label."""
    return Experimenter(EXPERIMENTER, _BODY.pack(_ENCAP, 0, packet_type))


def decap(packet_type: int = NEXT) -> Experimenter:
    """Take the outermost header off; what follows is of that type. The switch looks at the packet anew."""
    return Experimenter(EXPERIMENTER, _BODY.pack(_DECAP, 0, packet_type))


def resubmit(port: int, table: int) -> Experimenter:
    """Do what that table has for the packet, looked up as if it had come in at ``port``. Allowed in the
    buckets of groups."""
    return Experimenter(EXPERIMENTER, _LOOKUP.pack(_RESUBMIT, port, table))


def clone(*actions: Action) -> Experimenter:
    """Do the actions with a copy of the packet: whatever becomes of the copy, the packet goes on. In the
    buckets of groups Open vSwitch ignores it."""
    return Experimenter(EXPERIMENTER, _CLONE_HEAD.pack(_CLONE) + b"".join(a.encode() for a in actions))


def cloned(action: Experimenter) -> bytes | None:
    """The actions in a clone, as on the wire; None if it is none."""
    head = _CLONE_HEAD.pack(_CLONE)
    if action.experimenter != EXPERIMENTER or not action.payload.startswith(head):
        return None
    return action.payload[len(head) :]


def looked_up(action: Experimenter) -> tuple[int, int] | None:
    """The port and table of a resubmit; None if it is none."""
    if action.experimenter != EXPERIMENTER or len(action.payload) != _LOOKUP.size:
        return None
    kind, port, table = _LOOKUP.unpack(action.payload)
    return (port, table) if kind == _RESUBMIT else None


def check_larger(octets: int, bit: int, field: str = "metadata") -> Experimenter:
    """Set a bit of a field when the packet, Ethernet header included, has more octets, else clear it.

    Since Open vSwitch 2.12.
    """
    header = FIELDS[field].plain
    return Experimenter(EXPERIMENTER, _LARGER.pack(_CHECK_LARGER, octets, bit, header))


def text(action: Experimenter, inner: Callable[[bytes], str]) -> str | None:
    """The action as ovs-ofctl writes it (``inner``: how actions on the wire are written); None if it is not
    one of these."""
    if action.experimenter != EXPERIMENTER:
        return None
    within = cloned(action)
    if within is not None:
        return f"clone({inner(within)})"
    again = looked_up(action)
    if again is not None:
        return f"resubmit({again[0]},{again[1]})"
    if len(action.payload) == _LARGER.size:
        return _check_text(action)
    if len(action.payload) != _BODY.size:
        return None
    kind, zero, packet_type = _BODY.unpack(action.payload)
    if kind == _ENCAP and not zero and packet_type in _NAMES:
        return f"encap({_NAMES[packet_type]})"
    if kind != _DECAP:
        return None
    if packet_type == NEXT:
        return "decap()"
    return f"decap(packet_type(ns={packet_type >> 16},type={_type(packet_type & 0xFFFF)}))"


def _type(number: int) -> str:
    return f"{number:#x}" if number else "0"


def _check_text(action: Experimenter) -> str | None:
    kind, octets, bit, header = _LARGER.unpack(action.payload)
    name = next((f.name for f in FIELDS.values() if f.plain == header), None)
    if kind != _CHECK_LARGER or name is None:
        return None
    return f"check_pkt_larger({octets})->OXM_OF_{name.upper()}[{bit}]"
