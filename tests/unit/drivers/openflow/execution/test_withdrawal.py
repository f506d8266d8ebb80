"""An operation whose caller is cancelled is undone before the caller is told, or else committed."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from libnetvirt.store import Batch
from tests.unit.drivers.openflow.execution.test_unresponsive_switches import CHANGES, FAR, NEAR, TIMEOUT
from tests.unit.drivers.openflow.test_runtime import ONE, Lab, run


async def _withdraw(task: asyncio.Task[None]) -> bool:
    """Whether it was undone."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.result()
    return task.cancelled()


async def _agrees(lab: Lab) -> None:
    """Switches, controller and store say the same, as soon as nothing is under way: neither what follows an
    operation, nor the marker that counts commits, which is written every two seconds."""
    for _ in range(100):
        await lab.rest()
        await lab.idle()
        with contextlib.suppress(AssertionError):
            return lab.agrees()
        await asyncio.sleep(0.02)
    return lab.agrees()


@CHANGES
def test_what_waits_for_a_switch_is_undone_elsewhere_at_once_and_there_when_it_answers(
    before: Any, after: Any
) -> None:
    async def story(lab: Lab) -> None:
        if before:
            await lab.apply(None, before)
        held, networks = lab.held(), lab.descriptions()
        lab.wires[2].freeze()
        slow = asyncio.create_task(lab.apply(before, after))
        await lab.rest()
        assert lab.wires[2].frozen
        assert await _withdraw(slow)
        assert lab.held()[1] == held[1]
        assert lab.descriptions() == networks
        await lab.apply(None, NEAR)
        await lab.apply(NEAR, None)
        lab.wires[2].thaw()
        await lab.rest()
        await lab.idle()
        assert lab.held() == held
        await _agrees(lab)
        await lab.apply(before, after)
        await _agrees(lab)

    run(story, TIMEOUT)


def test_at_any_moment_the_caller_is_told_what_has_become_of_it() -> None:
    async def story(lab: Lab) -> None:
        undone: set[bool] = set()
        for turns in range(60):
            slow = asyncio.create_task(lab.apply(None, ONE))
            for _ in range(turns):
                await asyncio.sleep(0)
            done = not await _withdraw(slow)
            assert lab.descriptions() == ([ONE] if done else []), turns
            undone.add(not done)
            await _agrees(lab)
            if done:
                await lab.apply(ONE, None)
        assert undone == {True, False}

    run(story, TIMEOUT)


def test_a_commit_that_has_begun_is_not_withdrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(lab: Lab) -> None:
        committing = asyncio.Event()
        loop, commit = asyncio.get_running_loop(), lab.store.commit

        def committed(batch: Batch) -> None:
            if batch.put:
                loop.call_soon_threadsafe(committing.set)
            commit(batch)

        monkeypatch.setattr(lab.store, "commit", committed)
        slow = asyncio.create_task(lab.apply(None, ONE))
        await committing.wait()
        assert not await _withdraw(slow)
        assert lab.descriptions() == [ONE]
        await _agrees(lab)

    run(story, TIMEOUT)


def test_what_waits_for_a_switch_without_the_lock_is_withdrawn_at_once() -> None:
    async def story(lab: Lab) -> None:
        held = lab.held()
        lab.wires[2].freeze()
        slow = [asyncio.create_task(lab.apply(None, one)) for one in (ONE, FAR)]
        await lab.rest()
        await lab.apply(None, NEAR)
        await lab.apply(NEAR, None)
        for one in slow:
            assert await _withdraw(one)
        assert lab.held() == held
        lab.wires[2].thaw()
        await lab.rest()
        await lab.idle()
        assert lab.descriptions() == []
        assert lab.held() == held
        await _agrees(lab)

    run(story, TIMEOUT)


def test_who_is_cancelled_twice_waits_for_the_end_too() -> None:
    async def story(lab: Lab) -> None:
        held = lab.held()
        lab.wires[2].freeze()
        slow = asyncio.create_task(lab.apply(None, ONE))
        await lab.rest()
        for _ in range(3):
            slow.cancel()
            await asyncio.sleep(0)
        with contextlib.suppress(asyncio.CancelledError):
            await slow
        assert slow.cancelled()
        assert lab.held()[1] == held[1]
        lab.wires[2].thaw()
        await _agrees(lab)

    run(story, TIMEOUT)
