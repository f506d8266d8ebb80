"""Tests in several processes (pytest-xdist): groups in one process, their order, tests that run alone.

Tests that run alone mostly wait. Meanwhile the other processes run the property tests, which only compute,
and only when nobody else wants a processor.
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import pytest

#: parameters of fixtures with module scope
_PARAMETERS = ("rules_option", "world")


def group(item: pytest.Item) -> str:
    """The group of a test: tests in one process, because they share the fixtures of their module.

    Modules whose fixtures have parameters have a group for each value. Tests marked ``apart`` share nothing.
    Tests marked ``alone`` are one group: several processes could do no more than wait for each other.
    """
    if runs_alone(item):
        return "alone"
    module = item.path.relative_to(item.config.rootpath).with_suffix("").as_posix()
    if item.get_closest_marker("apart"):
        name = f"{module}-{item.name}"
    else:
        callspec = getattr(item, "callspec", None)
        values = (
            [callspec.params[name] for name in _PARAMETERS if name in callspec.params] if callspec else []
        )
        name = "-".join((module, *map(repr, values)))
    return re.sub(r"[^\w./-]+", "-", name)  # xdist parses @ and ]


def runs_alone(item: pytest.Item) -> bool:
    """Whether a test wants the machine for itself."""
    return item.get_closest_marker("alone") is not None


def only_computes(item: pytest.Item) -> bool:
    """Whether a test does nothing but compute: it has no clock, and uses nothing of the machine."""
    return (item.config.rootpath / "tests/property") in item.path.parents


def order(item: pytest.Item) -> tuple[int, bool]:
    """Sort key. Long groups start first, so that none of them is still running when all others have ended.

    Tests that run alone come late: before each of them, all processes wait for the tests that are running.
    Those that only compute are run beside them, and come last.
    """
    last = 2 if only_computes(item) else 1 if runs_alone(item) else 0
    return last, item.get_closest_marker("long") is None


# Files that always exist, as locks.
_GATE, _MAIN = Path(__file__), Path(__file__).with_name("__init__.py")


@contextmanager
def turn(alone: bool) -> Iterator[None]:
    """Wait until a test may run, beside those of other processes or alone.

    A test that waits to run alone blocks those behind it. Locks of a process that dies are released.
    """
    with _MAIN.open() as main:
        with _GATE.open() as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            fcntl.flock(main, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


class Aside:
    """Tests run in the time that no other process wants: one that wakes gets the processor at once.

    Not where the system lets no thread get out of that again (it lets root), nor for ever: the machine may be
    busy with something else. ``once``, ``in_all``: the seconds that one test, and all, may have to wait.
    """

    def __init__(self, once: float = 60.0, in_all: float = 300.0) -> None:
        self._once, self._left = once, in_all

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Run a test so, in this thread."""
        if self._left <= 0 or not may_step_aside():
            yield
            return
        thread, began = threading.get_native_id(), time.monotonic() - time.thread_time()
        timer = threading.Timer(min(self._once, self._left), _schedule, (thread, os.SCHED_OTHER))
        timer.daemon = True
        timer.start()
        _schedule(thread, os.SCHED_IDLE)
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
            _schedule(thread, os.SCHED_OTHER)
            self._left -= time.monotonic() - time.thread_time() - began


aside = Aside()


def _schedule(thread: int, policy: int) -> None:
    os.sched_setscheduler(thread, policy, os.sched_param(0))


@cache
def may_step_aside() -> bool:
    """Whether a thread may get out of the policy again: tried in one that ends."""
    done = []

    def attempt() -> None:
        with suppress(OSError):
            _schedule(0, os.SCHED_IDLE)
            _schedule(0, os.SCHED_OTHER)
            done.append(True)

    one = threading.Thread(target=attempt)
    one.start()
    one.join()
    return bool(done)
