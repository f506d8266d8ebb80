"""Rules of on-demand pairs that another program removes, changes or adds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import Flow
from libnetvirt.controller.dataplane.pipeline import Kind
from libnetvirt.drivers.openflow import runtime
from libnetvirt.drivers.openflow.execution import pair_audit
from libnetvirt.model import Encapsulation, Insertion, Rules, State, Timeout
from tests.support.controller_rig import endpoint, frame, mac, network
from tests.unit.drivers.openflow.execution.test_audit import OFTEN, AuditedLab, tell

ON_DEMAND = Rules(encapsulation=Encapsulation.VLAN, insertion=Insertion.ON_DEMAND, timeout=Timeout.PERMANENT)
PAIRS = network(5, endpoint(51, 1, 4), endpoint(52, 2, 4), rules=ON_DEMAND)
BOTH_WAYS = 2


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_audit, "ROUND_TIME", 0.03)
    monkeypatch.setattr(pair_audit, "AGAIN", 0.005)
    monkeypatch.setattr(runtime, "LINGER", 0.05)


def pair_rules(lab: AuditedLab, dpid: int) -> list[Flow]:
    return [f for f in lab.fabric.switches[dpid].flows.values() if f.cookie & 0xFFFF == Kind.PATH]


async def talk(lab: AuditedLab) -> list[Any]:
    """Two hosts send each other a frame. Returns what comes out."""
    out = []
    for source, destination in ((1, 2), (2, 1)):
        out += lab.fabric.inject(source, 4, frame(mac(destination), mac(source)))
        for wire in lab.wires.values():
            for dpid, up in lab.fabric.up:
                if wire.agent.switch.dpid == dpid:
                    wire.say(up)
        lab.fabric.up.clear()
        await lab.rest()
    return out


def tell_of_pairs(
    story: Callable[[AuditedLab], Coroutine[Any, Any, None]], interval: float = OFTEN, repairs: bool = True
) -> None:
    async def whole(lab: AuditedLab) -> None:
        await lab.apply(None, PAIRS)
        await talk(lab)
        await talk(lab)
        assert [len(pair_rules(lab, d)) for d in (1, 2)] == [BOTH_WAYS, BOTH_WAYS]
        await story(lab)

    tell(whole, interval, repairs)


@pytest.mark.parametrize("dpid", [1, 2])
@pytest.mark.parametrize("change", [None, ()])
def test_a_pair_that_lost_a_rule_is_set_up_again_by_its_next_frame(dpid: int, change: Any) -> None:
    async def story(lab: AuditedLab) -> None:
        flows = lab.fabric.switches[dpid].flows
        rule = pair_rules(lab, dpid)[0]
        if change is None:
            del flows[rule.key]
        else:
            flows[rule.key] = replace(rule, instructions=change)
        await lab.until(lambda: lab.drift_events() == ["drift.found", "drift.mended"])
        found = next(e for e in lab.events if e.kind == "drift.found")
        assert (found.network, found.switch) == ("5", str(dpid))
        assert "set up again by their next frames" in found.message
        # What is behind the first switch lingers.
        await lab.until(lambda: sum(len(pair_rules(lab, d)) for d in (1, 2)) == BOTH_WAYS)
        await talk(lab)
        await talk(lab)
        assert [len(pair_rules(lab, d)) for d in (1, 2)] == [BOTH_WAYS, BOTH_WAYS]
        assert lab.state("5") is State.ACTIVE

    tell_of_pairs(story)


def test_a_rule_that_belongs_to_no_pair_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_audit, "STRANGE_TIME", 0.1)

    async def story(lab: AuditedLab) -> None:
        rule = pair_rules(lab, 1)[0]
        surplus = replace(rule, match=rule.match.replace(eth_src=mac(77)))
        lab.fabric.switches[1].flows[surplus.key] = surplus
        await lab.until(lambda: lab.drift_events() == ["drift.found", "drift.mended"])
        assert len(pair_rules(lab, 1)) == BOTH_WAYS
        assert all(pipeline.is_ours(f.cookie) for f in pair_rules(lab, 1))

    tell_of_pairs(story)


def test_drift_of_pairs_is_reported_once_and_repaired_on_demand() -> None:
    async def story(lab: AuditedLab) -> None:
        del lab.fabric.switches[2].flows[pair_rules(lab, 2)[0].key]
        await lab.until(lambda: lab.state("5") is State.DEGRADED)
        await asyncio.sleep(0.2)
        assert lab.drift_events() == ["drift.found"]
        assert lab.state("1") is State.ACTIVE
        assert await lab.runtime.auditor.repair([1, 2], "1") == []
        lines = await lab.runtime.auditor.repair([1, 2], "5")
        assert len(lines) == 1
        assert lines[0].startswith("network n5: repaired: switch 2: rule ")
        assert lab.state("5") is State.ACTIVE

    tell_of_pairs(story, repairs=False)


def test_pairs_that_come_and_go_are_no_drift() -> None:
    async def story(lab: AuditedLab) -> None:
        for _ in range(20):
            await talk(lab)
            lab.runtime.core.state.ondemand.remove_where(lambda _: True)
            await asyncio.sleep(0.01)
        assert lab.drift_events() == []

    tell_of_pairs(story)
