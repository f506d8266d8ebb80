"""Actions of Open vSwitch's experimenter (Nicira, 0x2320): generic encapsulation (ovs-actions(7), "encap"),
and looking a packet up once more ("resubmit", "clone").

Packet types are as in OpenFlow 1.5 §7.2.3.11: a namespace and a type; namespace 1 are ethertypes.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Final

from libnetvirt.openflow.actions import Action, Experimenter

EXPERIMENTER: Final = 0x2320
ETHERNET: Final = 0x0000_0000
MPLS: Final = 0x0001_8847
#: what follows the header that is taken off, where its own type tells
NEXT: Final = 0x0000_FFFE

_ENCAP: Final = 46
_DECAP: Final = 47
_BODY: Final = Struct("!HHI")
_RESUBMIT: Final = 14
_LOOKUP: Final = Struct("!HHB3x")
_CLONE: Final = 42
_CLONE_HEAD: Final = Struct("!H6x")
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


def text(action: Experimenter, inner: Callable[[bytes], str]) -> str | None:
    """The action as ovs-ofctl writes it (``inner``: how actions on the wire are written); None if it is not
    one of these."""
    within = cloned(action)
    if within is not None:
        return f"clone({inner(within)})"
    again = looked_up(action)
    if again is not None:
        return f"resubmit({again[0]},{again[1]})"
    if action.experimenter != EXPERIMENTER or len(action.payload) != _BODY.size:
        return None
    kind, zero, packet_type = _BODY.unpack(action.payload)
    if kind == _ENCAP and not zero and packet_type in _NAMES:
        return f"encap({_NAMES[packet_type]})"
    if kind != _DECAP:
        return None
    if packet_type == NEXT:
        return "decap()"
    return f"decap(packet_type(ns={packet_type >> 16},type={packet_type & 0xFFFF:#x}))"
