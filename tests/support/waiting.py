"""Waiting for what comes by itself: an event, a row, a line of a log, what another process does.

A test waits for a condition, never for a time, and long enough for a machine with ten times too much to do:
that costs something only if the test fails anyway.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

import pytest

#: seconds until something has to have happened
SECONDS = 30.0

T = TypeVar("T")


def eventually(condition: Callable[[], T], what: object = "it happens", seconds: float = SECONDS) -> T:
    """Block until a condition holds, and return its value. Fails with ``what`` after some seconds."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds:g} s: {what}: {found!r}"[:2000])
        time.sleep(0.01)
    return found


async def awaited(condition: Callable[[], T], what: object = "it happens", seconds: float = SECONDS) -> T:
    """As :func:`eventually`, in a coroutine."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds:g} s: {what}: {found!r}"[:2000])
        await asyncio.sleep(0.01)
    return found
