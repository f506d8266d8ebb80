"""Actions of Open vSwitch for generic encapsulation: bytes and text as ovs-ofctl 3.1 writes them."""

from __future__ import annotations

import pytest

from libnetvirt import openflow as of
from libnetvirt.openflow import nicira

CASES = [
    (nicira.encap(nicira.MPLS), "ffff001000002320002e000000018847", "encap(mpls)"),
    (nicira.encap(nicira.ETHERNET), "ffff001000002320002e000000000000", "encap(ethernet)"),
    (nicira.decap(), "ffff001000002320002f00000000fffe", "decap()"),
    (nicira.decap(nicira.ETHERNET), "ffff001000002320002f000000000000", "decap(packet_type(ns=0,type=0))"),
    (
        nicira.set_vlan_id(20),
        "ffff0018000023200007000b000008020000000000000014",
        "load:0x14->NXM_OF_VLAN_TCI[0..11]",
    ),
    (
        nicira.move(nicira.VLAN_PCP, nicira.register(1), 3),
        "ffff00180000232000060003000d00000000080200010204",
        "move:NXM_OF_VLAN_TCI[13..15]->NXM_NX_REG1[0..2]",
    ),
    (
        nicira.move(nicira.register(1), nicira.MPLS_TC, 3),
        "ffff001800002320000600030000000000010204" + "80004601",
        "move:NXM_NX_REG1[0..2]->OXM_OF_MPLS_TC[0..2]",
    ),
    (nicira.decap(nicira.MPLS), "ffff001000002320002f000000018847", "decap(packet_type(ns=1,type=0x8847))"),
]


@pytest.mark.parametrize(("action", "wire", "text"), CASES)
def test_generic_encapsulation(action: of.Experimenter, wire: str, text: str) -> None:
    assert action.encode().hex() == wire
    assert of.actions_text((action,)) == text


@pytest.mark.parametrize(
    "action",
    [
        of.Experimenter(0x2321, nicira.decap().payload),
        of.Experimenter(nicira.EXPERIMENTER, bytes(16)),
        of.Experimenter(nicira.EXPERIMENTER, bytes(8)),
        nicira.encap(0x1_0800),
    ],
)
def test_other_actions_of_experimenters_are_shown_as_they_are(action: of.Experimenter) -> None:
    assert of.actions_text((action,)).startswith("experimenter(")
