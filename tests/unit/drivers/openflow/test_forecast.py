"""A forecast says what an operation then does, and has no effect of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from libnetvirt.controller.engine.controller import Options
from libnetvirt.driver import Change
from libnetvirt.drivers.openflow.execution.process_copy import CopyFailed, in_copy
from libnetvirt.drivers.openflow.opened import OpenedDriver
from libnetvirt.errors import ConstraintUnmet, LabelsExhausted, StaleChange
from libnetvirt.model import Forecast, Outcome, ReservationChange, RuleChanges, VirtualNetwork
from tests.support.controller_rig import endpoint
from tests.unit.drivers.openflow.test_runtime import MORE, ONE, Lab, run

MOVED = MORE.changed(endpoints=(*ONE.endpoints, endpoint(13, 1, 4, 20)))


def _bounded(bandwidth: str) -> VirtualNetwork:
    constraint = {"source": "11", "destination": "12", "min-bandwidth": bandwidth, "max-hops": 4}
    return ONE.changed(constraints=(constraint,))


@pytest.fixture(autouse=True)
def _capacity(monkeypatch: pytest.MonkeyPatch) -> None:
    options = partial(Options, capacities='capacity = "100 Mbit/s"')
    monkeypatch.setattr("tests.unit.drivers.openflow.test_runtime.Options", options)
    monkeypatch.setattr("tests.support.switch_agent.METERS", 1 << 16)
    monkeypatch.setattr("libnetvirt.drivers.openflow.execution.executor.LINGER", 0.02)


def _rules(lab: Lab) -> dict[int, dict[Any, Any]]:
    installed = lab.runtime.core.state.installed
    return {dpid: {key: one.entry for key, one in installed.on(dpid).items()} for dpid in (1, 2)}


def _state(lab: Lab) -> Any:
    """What an operation changes: rules, numbers, paths, networks, what the store has."""
    state = lab.runtime.core.state
    return (
        _rules(lab), lab.held(), lab.descriptions(), dict(state.te_paths.of("1")), state.labels.index("1"),
        state.te_paths.reservations.links(), state.installed.generation, lab.store.load(),
        lab.runtime.executor.following_up,
    )  # fmt: skip


async def _rests(lab: Lab) -> None:
    """Wait until nothing is under way, and no removal is deferred."""
    installed = lab.runtime.core.state.installed
    while any(map(installed.outlasting, (1, 2))) or lab.runtime.executor.lock.locked():  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    await lab.idle()


def _difference(
    before: dict[int, dict[Any, Any]], after: dict[int, dict[Any, Any]]
) -> tuple[RuleChanges, ...]:
    found = []
    for dpid in before:
        old, new = before[dpid], after[dpid]
        changed = sum(old[key] != new[key] for key in old.keys() & new.keys())
        found.append((str(dpid), len(new.keys() - old.keys()), changed, len(old.keys() - new.keys())))
    return tuple(
        RuleChanges(switch=name, added=a, changed=c, removed=r) for name, a, c, r in found if a or c or r
    )


def test_it_says_what_the_operation_then_does_and_changes_nothing() -> None:
    steps: list[VirtualNetwork | None] = [None, ONE, MORE, MOVED, _bounded("10 Mbit/s"), ONE, None]
    outcomes = [Outcome.CREATED, *[Outcome.CHANGED] * 4, Outcome.REMOVED]

    async def story(lab: Lab) -> None:
        driver = OpenedDriver(lab.runtime, OpenedDriver.offers())
        for (before, after), outcome in zip(pairwise(steps), outcomes, strict=True):
            now = _state(lab)
            found = await driver.forecast(Change(before, after))
            assert _state(lab) == now
            lab.agrees()
            old = _rules(lab)
            await driver.apply(Change(before, after))
            await _rests(lab)
            assert found.rules == _difference(old, _rules(lab))
            assert found.rules
            assert found.outcome is outcome
            lab.agrees()

    run(story)


def test_it_tells_reservations_with_their_paths_and_what_would_be_refused() -> None:
    async def story(lab: Lab) -> None:
        driver = OpenedDriver(lab.runtime, OpenedDriver.offers())
        await driver.apply(Change(None, ONE))
        asked = _bounded("10 Mbit/s")
        found = await driver.forecast(Change(ONE, asked))
        reserved = ReservationChange(
            source="11", destination="12", before=0, after=10_000_000, switches=("1", "2")
        )
        assert found.reservations == (reserved,)
        await driver.apply(Change(ONE, asked))
        assert (await driver.forecast(Change(asked, asked.changed(name="azure")))).reservations == ()
        gone = await driver.forecast(Change(asked, None))
        assert gone.reservations == (
            ReservationChange(source="11", destination="12", before=10_000_000, after=0),
        )
        with pytest.raises(ConstraintUnmet):
            await driver.forecast(Change(asked, _bounded("900 Gbit/s")))
        with pytest.raises(StaleChange):
            await driver.forecast(Change(ONE, None))

    run(story)


def test_it_tells_what_would_be_refused_when_the_operation_is_planned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story(lab: Lab) -> None:
        driver = OpenedDriver(lab.runtime, OpenedDriver.offers())
        now = _state(lab)
        with pytest.raises(LabelsExhausted, match="switch 1 has no meter left"):
            await driver.forecast(Change(None, _bounded("10 Mbit/s")))
        assert _state(lab) == now

    monkeypatch.setattr("tests.support.switch_agent.METERS", 9)
    run(story)


def test_without_a_copy_of_the_process_the_rest_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(lab: Lab) -> None:
        driver = OpenedDriver(lab.runtime, OpenedDriver.offers())

        def full() -> int:
            raise BlockingIOError(11, "Resource temporarily unavailable")

        with monkeypatch.context() as here:
            here.setattr(os, "fork", full)
            found = await driver.forecast(Change(None, ONE))
        assert found == Forecast(uuid="1", name=ONE.name, outcome=Outcome.CREATED, rules=None)

    run(story)


def _children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def test_a_copy_uses_nothing_of_the_process_and_is_ended_with_it() -> None:
    seen: list[int] = []

    def work() -> bytes:
        seen.append(1)
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        files = list(Path("/proc/self/fd").iterdir())
        return repr((os.getppid(), signal.SIGTERM in blocked, len(files) <= 5)).encode()

    def slow() -> bytes:
        time.sleep(600)
        return b""

    def fails() -> bytes:
        raise ValueError

    async def story() -> None:
        before = _children()
        assert await in_copy(work) == repr((os.getpid(), True, True)).encode()
        assert seen == []
        assert await in_copy(lambda: b"x" * 3_000_000) == b"x" * 3_000_000
        with pytest.raises(CopyFailed, match="status 1"):
            await in_copy(fails)
        with pytest.raises(CopyFailed, match=r"longer than 0\.05 s"):
            await in_copy(slow, timeout=0.05)
        task = asyncio.create_task(in_copy(slow))
        while _children() == before:  # noqa: ASYNC110
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert _children() == before

    asyncio.run(story())
