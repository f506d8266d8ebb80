"""Admission: paths of constraints are computed once, with the lock; a dry run computes them without it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from libnetvirt.controller.qos.te_paths import TePaths
from libnetvirt.driver import Change
from libnetvirt.drivers.openflow.driver import OpenFlowDriver
from libnetvirt.errors import ConstraintUnmet
from libnetvirt.model import VirtualNetwork
from tests.support.controller_rig import endpoint, network
from tests.unit.drivers.openflow.test_runtime import Lab, run


def _bounded(hops: int) -> VirtualNetwork:
    constraint = {"source": "11", "destination": "12", "max-hops": hops}
    return network(1, endpoint(11, 1, 3), endpoint(12, 2, 3)).changed(constraints=(constraint,))


KEPT, UNMET = Change(None, _bounded(3)), Change(None, _bounded(1))


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The networks that paths were computed for."""
    names: list[str] = []
    plan = TePaths.plan

    def noted(te_paths: TePaths, network: VirtualNetwork, *args: Any) -> Any:
        names.append(network.uuid)
        return plan(te_paths, network, *args)

    monkeypatch.setattr(TePaths, "plan", noted)
    return names


def test_an_operation_computes_the_paths_of_its_constraints_once(planned: list[str]) -> None:
    async def story(lab: Lab) -> None:
        driver = OpenFlowDriver(lab.runtime, OpenFlowDriver.offers())
        driver.validate(KEPT)
        assert planned == []
        await driver.apply(KEPT)
        assert planned == ["1"]
        assert lab.descriptions() == [KEPT.after]
        lab.agrees()

    run(story)


def test_what_cannot_be_admitted_is_refused_and_leaves_no_trace(planned: list[str]) -> None:
    async def story(lab: Lab) -> None:
        driver = OpenFlowDriver(lab.runtime, OpenFlowDriver.offers())
        held = lab.held()
        with pytest.raises(ConstraintUnmet, match="max-hops"):
            await driver.apply(UNMET)
        assert planned == ["1"]
        assert lab.held() == held
        lab.agrees()

    run(story)


def test_a_dry_run_says_the_same_while_a_task_has_the_lock(planned: list[str]) -> None:
    async def story(lab: Lab) -> None:
        driver = OpenFlowDriver(lab.runtime, OpenFlowDriver.offers())
        async with lab.runtime.executor.lock:
            await asyncio.wait_for(driver.check(KEPT), 1)
            with pytest.raises(ConstraintUnmet, match="max-hops"):
                await driver.check(UNMET)
        assert len(planned) == 2
        assert not lab.descriptions()

    run(story)


def test_what_was_dropped_is_shown_with_the_substrate() -> None:
    async def story(lab: Lab) -> None:
        driver = OpenFlowDriver(lab.runtime, OpenFlowDriver.offers())
        reader = driver.events()
        assert (await driver.substrate()).notes == ()
        lab.runtime.dispatcher.dropped = 3
        for _ in range(1030):
            lab.runtime.publish("test.event", "an event")
        frames, events = (await driver.substrate()).notes
        assert frames.startswith("3 frames")
        assert events.startswith("6 events were lost")
        await anext(reader)

    run(story)
