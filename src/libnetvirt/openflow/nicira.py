"""Actions of Open vSwitch's experimenter (Nicira, 0x2320), as ovs-actions(7) names them."""

from __future__ import annotations

from struct import Struct
from typing import Final

from libnetvirt.openflow.actions import Experimenter
from libnetvirt.openflow.oxm import FIELDS

EXPERIMENTER: Final = 0x2320

_CHECK_LARGER: Final = 49
_LARGER: Final = Struct("!HHH4s6x")


def check_larger(octets: int, bit: int, field: str = "metadata") -> Experimenter:
    """Set a bit of a field when the packet, Ethernet header included, has more octets, else clear it.

    Since Open vSwitch 2.12.
    """
    header = FIELDS[field].plain
    return Experimenter(EXPERIMENTER, _LARGER.pack(_CHECK_LARGER, octets, bit, header))


def text(action: Experimenter) -> str | None:
    """The action as ovs-ofctl writes it; None if it is not one of these."""
    if action.experimenter != EXPERIMENTER or len(action.payload) != _LARGER.size:
        return None
    kind, octets, bit, header = _LARGER.unpack(action.payload)
    name = next((f.name for f in FIELDS.values() if f.plain == header), None)
    if kind != _CHECK_LARGER or name is None:
        return None
    return f"check_pkt_larger({octets})->OXM_OF_{name.upper()}[{bit}]"
