"""Audits: drift is found, told from changes in progress, undone, and not undone too often."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from itertools import pairwise
from typing import Any

import pytest

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane.pipeline import Kind, Table
from libnetvirt.controller.engine.controller import Options
from libnetvirt.controller.reports import views
from libnetvirt.drivers.openflow.execution import audit
from libnetvirt.drivers.openflow.execution.audit import Repairs
from libnetvirt.drivers.openflow.runtime import Runtime
from libnetvirt.drivers.openflow.southbound.backoff import Backoff
from libnetvirt.errors import RuleRefused, SwitchTimeout
from libnetvirt.model import Event, State
from tests.support.controller_rig import VLAN, endpoint, frame, mac, network
from tests.unit.drivers.openflow.test_runtime import HASTY, MORE, ONE, PATIENT, Lab

NEAR = network(2, endpoint(21, 1, 4), endpoint(22, 1, 4, 20))
OFTEN = 0.002


class AuditedLab(Lab):
    """Two switches that are audited."""

    def __init__(self, interval: float, repairs: bool, confirm: float) -> None:
        super().__init__(1000.0)
        self.runtime = Runtime(Options(VLAN), self.store, b"s" * 32, confirm, audit=interval, repairs=repairs)
        self.runtime.backoff = Backoff(first=0.0)
        self.events: list[Event] = []

    async def start(self) -> None:
        stream = self.runtime.events.subscribe()

        async def collect() -> None:
            async for event in stream:
                self.events.append(event)

        self.runtime.tasks.spawn(collect())
        await super().start()

    async def agree(self) -> None:
        """Switches, controller and store say the same, when no audit is under way."""
        await self.idle()
        self.agrees()

    def drift_events(self) -> list[str]:
        return [e.kind for e in self.events if e.kind.startswith("drift.")]

    def lose(self, dpid: int, table: Table = Table.CLASSIFY) -> None:
        """Another program removes a network's rules of one table from a switch."""
        switch = self.fabric.switches[dpid]
        gone = [
            key for key, flow in switch.flows.items() if flow.table == table and flow.cookie & 0xFFFF_0000
        ]
        assert gone
        for key in gone:
            del switch.flows[key]

    def state(self, uuid: str = "1") -> State:
        state = self.runtime.core.state
        return views.network_state(state, state.rulesdb.networks[uuid], self.runtime.now()).state

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENT):
            while not true():  # noqa: ASYNC110
                await asyncio.sleep(0.001)


def tell(
    story: Callable[[AuditedLab], Coroutine[Any, Any, None]],
    interval: float = OFTEN,
    repairs: bool = True,
    confirm: float = PATIENT,
) -> None:
    """Tell a story of a lab that is audited."""

    async def whole() -> None:
        lab = AuditedLab(interval, repairs, confirm)
        await lab.start()
        try:
            await lab.apply(None, ONE)
            await story(lab)
        finally:
            await lab.runtime.close()
            await lab.rest()

    asyncio.run(whole())


def test_lost_rules_are_found_and_restored() -> None:
    async def story(lab: AuditedLab) -> None:
        lab.lose(1)
        await lab.until(lambda: lab.drift_events() == ["drift.found", "drift.mended"])
        await lab.agree()
        assert lab.state() is State.ACTIVE
        found = next(e for e in lab.events if e.kind == "drift.found")
        assert (found.network, found.switch, found.fields["count"]) == ("1", "1", "1")
        assert "network n1 on switch 1" in found.message
        assert "in_port=3" in found.message
        assert "repaired now" in found.message

    tell(story)


def test_drift_that_is_only_reported_is_reported_once_and_repaired_on_demand() -> None:
    async def story(lab: AuditedLab) -> None:
        lab.lose(1)
        await lab.until(lambda: lab.state() is State.DEGRADED)
        await asyncio.sleep(20 * OFTEN)
        assert lab.drift_events() == ["drift.found"]
        reads = lab.fabric.switches[1].flows
        lab.lose(2)
        await lab.until(lambda: len(lab.drift_events()) == 2)
        assert [e.switch for e in lab.events if e.kind == "drift.found"] == ["1", "2"]
        lines = await lab.runtime.auditor.repair([1, 2], "1")
        assert len(lines) == 2
        assert all(line.startswith("network n1: repaired: switch ") for line in lines)
        assert reads
        await lab.agree()
        assert lab.state() is State.ACTIVE
        assert await lab.runtime.auditor.repair([1, 2], None) == []
        await lab.until(lambda: lab.drift_events()[-2:] == ["drift.mended"] * 2)

    tell(story, repairs=False)


def test_without_audits_a_repair_finds_what_differs() -> None:
    async def story(lab: AuditedLab) -> None:
        lab.lose(1)
        await asyncio.sleep(0.05)
        assert lab.drift_events() == []
        assert len(await lab.runtime.auditor.repair([1, 2], None)) == 1
        await lab.agree()

    tell(story, interval=0.0)


def test_a_repair_of_one_network_leaves_others_alone() -> None:
    async def story(lab: AuditedLab) -> None:
        await lab.apply(None, NEAR)
        lab.lose(1)
        lines = await lab.runtime.auditor.repair([1], "2")
        assert lines
        assert all(line.startswith("network n2: ") for line in lines)
        assert (lab.state("1"), lab.state("2")) == (State.DEGRADED, State.ACTIVE)

    tell(story, interval=0.0)


def test_changes_in_progress_are_no_drift() -> None:
    """Operations, hosts that are learned and paths that linger, while switches are read all the time."""

    async def story(lab: AuditedLab) -> None:
        for number in range(40):
            await lab.apply(ONE, MORE)
            lab.fabric.inject(1, 3, frame(mac(1), mac(100 + number)))
            await lab.apply(None, NEAR)
            lab.fabric.inject(1, 4, frame(mac(1), mac(200 + number)))
            await asyncio.sleep(0)
            await lab.apply(NEAR, None)
            await lab.apply(MORE, ONE)
        await asyncio.sleep(10 * OFTEN)
        await lab.agree()
        assert lab.drift_events() == []

    tell(story, interval=0.0004)


def test_a_switch_that_is_slow_to_answer_delays_no_operation_and_is_not_asked_again_and_again() -> None:
    async def story(lab: AuditedLab) -> None:
        def asked() -> int:
            kinds = (of.FlowStatsRequest, of.GroupDescRequest, of.MeterConfigRequest)
            return sum(m == kind(xid=m.xid) for m in lab.wires[2].frozen for kind in kinds)

        lab.wires[2].freeze()
        await lab.until(lambda: asked() > 0)
        await lab.apply(None, NEAR)
        await asyncio.sleep(10 * OFTEN)
        # Twice if it was asked with the lock held, which others waited for.
        assert asked() <= 2
        lab.wires[2].thaw()
        lab.lose(2)
        await lab.until(lambda: lab.drift_events() == ["drift.found", "drift.mended"])

    tell(story, confirm=HASTY)


def test_a_repair_of_a_switch_that_does_not_answer_fails_in_time() -> None:
    async def story(lab: AuditedLab) -> None:
        lab.wires[2].freeze()
        with pytest.raises(SwitchTimeout, match="switch 2 did not tell in time"):
            await lab.runtime.auditor.repair([1, 2], None)
        lab.wires[2].thaw()
        assert not lab.wires[2].session.ended
        assert await lab.runtime.auditor.repair([1, 2], None) == []

    tell(story, interval=0.0, confirm=HASTY)


def test_a_switch_that_refuses_to_be_repaired_stays_connected_and_is_tried_again_later() -> None:
    async def story(lab: AuditedLab) -> None:
        lab.wires[1].faults.refuses = True
        lab.lose(1)
        await lab.until(lambda: "drift.refused" in lab.drift_events())
        changes = len(lab.drift_events())
        await asyncio.sleep(20 * OFTEN)
        assert len(lab.drift_events()) - changes < audit.BURST
        assert lab.state() is State.DEGRADED
        assert not lab.wires[1].session.ended
        with pytest.raises(RuleRefused):
            await lab.runtime.auditor.repair([1], None)
        lab.wires[1].faults.refuses = False
        # Unless the audit was faster.
        assert await lab.runtime.auditor.repair([1], None) or "drift.mended" in lab.drift_events()
        await lab.agree()
        assert lab.state() is State.ACTIVE

    tell(story)


def test_a_switch_is_repaired_some_times_in_a_row_and_then_seldom() -> None:
    repairs, now, begun = Repairs(), 0.0, []
    while now < 120:
        if not repairs.wait(now):
            repairs.begin(now)
            begun.append(now)
        now += 0.5
    gaps = [later - earlier for earlier, later in pairwise(begun)]
    assert gaps[: audit.BURST - 1] == [0.5] * (audit.BURST - 1)
    assert len(begun) == audit.BURST + 120 // audit.REPAIR_TIME - 1
    assert min(gaps[audit.BURST :]) > audit.REPAIR_TIME - 1
    assert repairs.wait(now + audit.BURST * audit.REPAIR_TIME) == 0.0


def test_two_programs_do_not_undo_each_others_work_without_end() -> None:
    async def story(lab: AuditedLab) -> None:
        before = lab.wires[1].agent.changes
        async with asyncio.timeout(PATIENT):
            while "times in a row" not in lab.events[-1].message:
                flows = lab.fabric.switches[1].flows
                for key in [k for k, f in flows.items() if f.table == Table.CLASSIFY and f.priority == 200]:
                    del flows[key]
                await asyncio.sleep(OFTEN)
        assert lab.wires[1].agent.changes - before == audit.BURST
        events = lab.drift_events()
        assert events.count("drift.found") <= audit.BURST + 1
        await asyncio.sleep(20 * OFTEN)
        assert lab.drift_events() == events
        assert lab.wires[1].agent.changes - before == audit.BURST
        assert lab.state() is State.DEGRADED
        assert await lab.runtime.auditor.repair([1], None)
        assert lab.state() is State.ACTIVE

    tell(story)


def test_a_switch_that_connects_again_has_no_drift() -> None:
    async def story(lab: AuditedLab) -> None:
        lab.lose(1)
        await lab.until(lambda: lab.state() is State.DEGRADED)
        lab.wires[1].abort()
        await lab.rest()
        await lab.connect(1)
        assert lab.state() is State.ACTIVE
        await lab.agree()

    tell(story, repairs=False)


def test_entries_are_read_with_or_without_those_of_pairs() -> None:
    def selected(requests: tuple[of.FlowStatsRequest, ...]) -> list[int]:
        return [c for c in range(16) for r in requests if c & r.cookie_mask == r.cookie]

    assert sorted(selected(audit.WHOLE)) == list(range(16))
    assert sorted(selected(audit.WITHOUT_PAIRS)) == [c for c in range(16) if c != Kind.PATH]


def test_many_switches_are_read_in_turn_at_the_pace_of_their_entries() -> None:
    """No more are read at the same time than may be, and none waits for a timer while others are due."""

    async def story(lab: AuditedLab) -> None:
        for dpid in range(3, 40):
            await lab.connect(dpid)
        agents = [wire.agent for wire in lab.wires.values()]
        before = [agent.reads for agent in agents]

        def reads() -> list[int]:
            return [agent.reads - count for agent, count in zip(agents, before, strict=True)]

        await lab.until(lambda: min(reads()) >= 4)
        assert max(reads()) <= min(reads()) + 2
        assert lab.drift_events() == []

    tell(story)
