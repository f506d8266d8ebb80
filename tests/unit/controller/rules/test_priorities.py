"""Priorities of tags in rules: what they cost, who has them, and what is refused."""

from __future__ import annotations

import pytest

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane.pipeline import Table
from libnetvirt.controller.intent.switches import SwitchView
from libnetvirt.controller.reports.recovery import recovered
from libnetvirt.controller.rules import priorities
from libnetvirt.errors import Unsupported
from libnetvirt.model import Pcp, Rules
from tests.support.controller_rig import VLAN, Rig, endpoint, line, network

ENDS = (
    endpoint(11, 1, 3, 20, 1, 2),
    endpoint(12, 3, 3, None, 3),
    endpoint(13, 3, 4, 30, 4),
    endpoint(14, 2, 3),
)
MPLS = VLAN.changed(encapsulation="mpls")


def rules_of(rig: Rig) -> list[of.FlowStatsEntry]:
    return [flow for switch in rig.fabric.switches.values() for flow in switch.dump().flows]


@pytest.mark.parametrize("rules", [VLAN, MPLS], ids=str)
def test_priorities_cost_no_rules_but_a_few_of_their_endpoints(rules: Rules) -> None:
    rig = Rig()
    line(rig, 3)
    plain = network(1, *ENDS, rules=rules)
    rig.change(None, plain)
    before = rules_of(rig)
    assert not any("move:" in of.format_flow(flow) for flow in before)
    kept = plain.changed(endpoints=(ENDS[0].changed(pcp={}), *plain.endpoints[1:]))
    rig.change(plain, kept)
    assert len(rules_of(rig)) == len(before)
    mapped = kept.changed(
        endpoints=(
            ENDS[0].changed(pcp={"map": "5:3,6:3,7:7"}),
            ENDS[1].changed(pcp={"map": "1:2"}),
            *ENDS[2:],
        )
    )
    rig.change(kept, mapped)
    # One for each PCP that changes; two for priority tags at the untagged endpoint.
    assert len(rules_of(rig)) == len(before) + 2 + (1 + 2)
    # Frames enter switch 2 without a priority, and go on without one, but other frames pass it.
    (note,) = [
        n for n in recovered({d: s.dump().flows for d, s in rig.fabric.switches.items()}).notes if "pcp" in n
    ]
    assert "endpoints keep priorities (pcp), which have to be described again" in note
    rig.change(mapped, plain)
    assert {of.format_flow(flow) for flow in rules_of(rig)} == {of.format_flow(flow) for flow in before}
    assert not rig.core.state.priority_users[rules.encapsulation].by_egress.get(1)  # type: ignore[index]


def test_a_tunnel_carries_priorities_for_networks_that_have_them() -> None:
    rig = Rig()
    line(rig, 3)

    def marked() -> set[int]:
        return {
            dpid
            for dpid, switch in rig.fabric.switches.items()
            for group in switch.groups.values()
            if "move:" in of.actions_text(group.buckets[0].actions) and group.group_id >> 24 == 1
        }

    plain = network(1, endpoint(11, 1, 3), endpoint(12, 2, 3), endpoint(13, 3, 3), rules=VLAN)
    urgent = network(2, endpoint(21, 1, 4, 20).changed(pcp={}), endpoint(22, 2, 4), rules=VLAN)
    rig.change(None, plain)
    assert marked() == set()
    rig.change(None, urgent)
    assert marked() == {1, 2}
    wider = urgent.changed(endpoints=(*urgent.endpoints, endpoint(23, 3, 4)))
    rig.change(urgent, wider)
    assert marked() == {1, 2, 3}
    rig.change(wider, None)
    assert marked() == set()


def test_untagged_endpoints_note_priority_tags_before_they_are_removed() -> None:
    rig = Rig()
    line(rig, 2)
    rig.change(
        None, network(1, endpoint(11, 1, 3).changed(pcp={"default": 2}), endpoint(12, 2, 3), rules=VLAN)
    )
    entering = {
        of.format_flow(flow).rpartition("priority=")[2]
        for flow in rig.fabric.switches[1].dump().flows
        if flow.table_id == Table.CLASSIFY and flow.match.get("in_port") == 3
    }
    assert {text.partition(" actions=")[2].split(",")[0] for text in entering} == {
        "set_field:0x8->oxm_0001_2_4",  # VLAN 0
        "move:NXM_NX_REG2[0..2]->NXM_NX_REG1[0..2]",  # what had it
        "set_field:0x2->oxm_0001_1_4",  # no tag
    }


def test_all_switches_of_a_network_with_priorities_are_open_vswitch() -> None:
    acme = SwitchView(2, connected=True, known=True, description="ACME 2000")
    ours = SwitchView(1, connected=True, known=True, description="Open vSwitch 3.1.0")
    kept = network(1, endpoint(11, 1, 3, 20).changed(pcp=Pcp()), endpoint(12, 2, 3))
    priorities.check(network(1, *ENDS), {2: acme})
    priorities.check(kept, {1: ours})
    with pytest.raises(
        Unsupported, match="endpoint 11 has a pcp, and switch 2 of its network is not Open vSwitch"
    ):
        priorities.check(kept, {1: ours, 2: acme})
