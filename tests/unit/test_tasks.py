"""Background tasks of a connection."""

from __future__ import annotations

import asyncio
import logging

import pytest

from libnetvirt.errors import NoPath
from libnetvirt.event_loop import new_event_loop
from libnetvirt.tasks import Tasks


async def fail(error: Exception) -> None:
    raise error


async def wait(ended: list[str]) -> None:
    try:
        await asyncio.sleep(3600)
    finally:
        ended.append("ended")


def test_an_unexpected_error_is_logged_and_reported(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> list[str]:
        found: list[str] = []
        tasks = Tasks(lambda error: found.append(repr(error)))
        tasks.spawn(fail(KeyError("x")))
        tasks.spawn(fail(NoPath("raised in the code that awaits it")))
        await tasks.finish(10)
        await asyncio.sleep(0)
        return found

    assert asyncio.run(story()) == ["KeyError('x')"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_a_repeated_action_survives_its_errors() -> None:
    async def story() -> int:
        calls: list[int] = []
        done = asyncio.Event()

        def action() -> None:
            calls.append(1)
            if len(calls) == 3:
                done.set()
            raise ValueError

        tasks = Tasks()
        tasks.every(0.001, action)
        await asyncio.wait_for(done.wait(), 10)
        await tasks.close()
        return len(calls)

    assert asyncio.run(story()) >= 3


def test_closing_cancels_and_waits_and_finishing_only_waits() -> None:
    async def story() -> list[str]:
        ended: list[str] = []
        tasks = Tasks()
        await tasks.finish(0)
        tasks.spawn(wait(ended))
        await tasks.finish(0.001)
        assert not ended
        await tasks.close()
        return ended

    assert asyncio.run(story()) == ["ended"]


def test_an_event_loop_is_made_with_and_without_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("libnetvirt.event_loop.uvloop", None)
    loop = new_event_loop()
    assert type(loop).__module__.startswith("asyncio")
    loop.close()
    monkeypatch.undo()
    loop = new_event_loop()
    assert loop.run_until_complete(asyncio.sleep(0, 7)) == 7
    loop.close()
