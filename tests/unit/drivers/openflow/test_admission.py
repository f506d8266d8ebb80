"""Admission: paths of constraints are computed once, with the lock; a dry run computes them without it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from libnetvirt import openflow as of
from libnetvirt.controller.qos.te_paths import TePaths
from libnetvirt.driver import Change
from libnetvirt.drivers.openflow import runtime
from libnetvirt.drivers.openflow.opened import OpenedDriver
from libnetvirt.errors import ConstraintUnmet
from libnetvirt.model import Substrate, VirtualNetwork
from tests.support.controller_rig import endpoint, network
from tests.support.session_switch import Wire
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
        driver = OpenedDriver(lab.runtime, OpenedDriver.offers())
        driver.validate(KEPT)
        assert planned == []
        await driver.apply(KEPT)
        assert planned == ["1"]
        assert lab.descriptions() == [KEPT.after]
        lab.agrees()

    run(story)


def test_what_cannot_be_admitted_is_refused_and_leaves_no_trace(planned: list[str]) -> None:
    async def story(lab: Lab) -> None:
        driver = OpenedDriver(lab.runtime, OpenedDriver.offers())
        held = lab.held()
        with pytest.raises(ConstraintUnmet, match="max-hops"):
            await driver.apply(UNMET)
        assert planned == ["1"]
        assert lab.held() == held
        lab.agrees()

    run(story)


def test_a_dry_run_says_the_same_while_a_task_has_the_lock(planned: list[str]) -> None:
    async def story(lab: Lab) -> None:
        driver = OpenedDriver(lab.runtime, OpenedDriver.offers())
        async with lab.runtime.executor.lock:
            await asyncio.wait_for(driver.check(KEPT), 1)
            with pytest.raises(ConstraintUnmet, match="max-hops"):
                await driver.check(UNMET)
        assert len(planned) == 2
        assert not lab.descriptions()

    run(story)


def test_texts_of_switches_that_are_not_utf8_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def say(self: Wire, message: of.Message) -> None:
        wire = message.encode().replace(b"eth3\0", b"e\xff\xfe3\0").replace(b"test\0", b"t\xe9st\0")
        self.session.data_received(wire)

    async def story(lab: Lab) -> None:
        monkeypatch.setattr(Wire, "say", say)
        await lab.connect(7)
        status = of.PortStatus(of.PortStatusReason.MODIFY, of.PortDesc(4, name="other")).encode()
        lab.wires[7].session.data_received(status.replace(b"other", b"\x80ther"))
        await lab.rest()
        seen = await OpenedDriver(lab.runtime, OpenedDriver.offers()).substrate()
        assert Substrate.model_validate_json(seen.model_dump_json(by_alias=True)) == seen
        (switch,) = [s for s in seen.switches if s.id == "7"]
        assert switch.description == "t\ufffdst"
        assert [p.name for p in switch.ports] == ["eth1", "eth2", "e\ufffd\ufffd3", "\ufffdther"]
        await lab.apply(None, network(9, endpoint(91, 7, 1), endpoint(92, 7, 3)))

    run(story)


def test_what_was_dropped_is_shown_with_the_substrate(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(lab: Lab) -> None:
        driver = OpenedDriver(lab.runtime, OpenedDriver.offers())
        assert (await driver.substrate()).notes == ()
        lab.runtime.dispatcher.dropped = 1
        lab.runtime.core.state.ondemand.dropped = 2
        lab.runtime.core.state.neighbours.dropped = 4
        monkeypatch.setattr(runtime, "EARLY_LIMIT", 1)
        async with lab.runtime.executor.lock:
            early = Wire(lab.runtime, lab.fabric, 7)
            await lab.rest()
            for number in range(3):
                early.say(of.PortStatus(of.PortStatusReason.MODIFY, of.PortDesc(number + 1)))
        await lab.rest()
        reader = driver.events()
        for _ in range(1030):
            lab.runtime.publish("test.event", "an event")
        frames, messages, events = (await driver.substrate()).notes
        assert frames.startswith("7 frames")
        assert messages.startswith("2 messages of switches were dropped")
        assert events.startswith("6 events were lost")
        await anext(reader)
        del reader
        assert (await driver.substrate()).notes[2] == events, "also when the reader is gone"

    run(story)


def test_dropped_frames_are_reported_at_a_bounded_rate() -> None:
    async def story(lab: Lab) -> None:
        reader = lab.runtime.events.subscribe()
        reporter = lab.runtime.reporter
        for now, total in ((100.0, 0), (101.0, 3), (102.0, 9), (110.0, 10), (111.0, 12), (125.0, 12)):
            reporter.dropped(now, total)
        lab.runtime.events.close()
        found = [e async for e in reader if e.kind == "frames.dropped"]
        assert [e.fields for e in found] == [{"count": "3"}, {"count": "9"}]
        assert found[0].message.startswith("3 frames of hosts that came to the controller were dropped: ")

    run(story)
