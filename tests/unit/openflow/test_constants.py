"""The numbers of OpenFlow 1.3, one by one against those of os-ken; bundles against OpenFlow 1.4."""

from __future__ import annotations

from enum import Enum

import pytest
from os_ken.ofproto import ofproto_v1_3, ofproto_v1_4

from libnetvirt.openflow import constants as c
from libnetvirt.openflow import errors as e

#: the prefixes of names in os-ken
KINDS: dict[type[Enum], str] = {
    c.MsgType: "OFPT", c.HelloElement: "OFPHET", c.Port: "OFPP", c.PortConfig: "OFPPC", c.PortState: "OFPPS",
    c.PortFeatures: "OFPPF", c.PortStatusReason: "OFPPR", c.Capabilities: "OFPC", c.ConfigFlags: "OFPC",
    c.ActionType: "OFPAT", c.InstructionType: "OFPIT", c.FlowModCommand: "OFPFC", c.FlowModFlags: "OFPFF",
    c.FlowRemovedReason: "OFPRR", c.PacketInReason: "OFPR", c.GroupModCommand: "OFPGC",
    c.GroupType: "OFPGT", c.GroupId: "OFPG", c.GroupCapabilities: "OFPGFC", c.MeterModCommand: "OFPMC",
    c.MeterId: "OFPM", c.MeterFlags: "OFPMF", c.BandType: "OFPMBT", c.ControllerRole: "OFPCR_ROLE",
    c.MultipartType: "OFPMP", c.MultipartFlags: "OFPMPF_REPLY", c.TableFeatureType: "OFPTFPT",
    c.QueueProperty: "OFPQT", c.BundleCtrlType: "OFPBCT", c.BundleFlags: "OFPBF",
    e.ErrorType: "OFPET", e.HelloFailed: "OFPHFC", e.BadRequest: "OFPBRC", e.BadAction: "OFPBAC",
    e.BadInstruction: "OFPBIC", e.BadMatch: "OFPBMC", e.FlowModFailed: "OFPFMFC",
    e.GroupModFailed: "OFPGMFC", e.PortModFailed: "OFPPMFC", e.TableModFailed: "OFPTMFC",
    e.QueueOpFailed: "OFPQOFC", e.SwitchConfigFailed: "OFPSCFC", e.RoleRequestFailed: "OFPRRFC",
    e.MeterModFailed: "OFPMMFC", e.TableFeaturesFailed: "OFPTFFC", e.BundleFailed: "OFPBFC",
}  # fmt: skip


#: the codes of the errors of bundles in ONF extension 230 begin here
EXT_230 = 2300


def theirs(prefix: str, name: str) -> int | None:
    spellings = (name, name.replace("_", ""), "_".join(reversed(name.split("_"))))
    found = (
        getattr(module, f"{prefix}_{spelling}", None)
        for module in (ofproto_v1_3, ofproto_v1_4)
        for spelling in spellings
    )
    return next((number for number in found if number is not None), None)


@pytest.mark.parametrize(("kind", "prefix"), KINDS.items(), ids=lambda x: getattr(x, "__name__", ""))
def test_every_number_is_that_of_os_ken(kind: type[Enum], prefix: str) -> None:
    base = EXT_230 if kind is e.BundleFailed else 0
    ours = {name: member.value - base for name, member in kind.__members__.items()}
    assert ours == {name: theirs(prefix, name) for name in kind.__members__}
