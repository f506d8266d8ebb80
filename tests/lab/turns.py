"""Tests in several processes (pytest-xdist): what belongs together, what begins first, and what nothing may
run beside."""

from __future__ import annotations

import fcntl
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

#: Parameters that a module's fixtures are built up for: its tests with one value of them belong together.
_BUILT_FOR = ("rules_option", "world")


def group(item: pytest.Item) -> str:
    """The tests that run in one process, because they share what their module's fixtures build up.

    Tests marked ``apart`` share nothing. Those marked ``alone`` are a group of their own, as all of them run
    last.
    """
    if item.get_closest_marker("apart"):
        name = f"{item.path.stem}-{item.name}"
    else:
        callspec = getattr(item, "callspec", None)
        values = [callspec.params[name] for name in _BUILT_FOR if name in callspec.params] if callspec else []
        name = "-".join((item.path.stem, *map(repr, values)))
    name = re.sub(r"[^\w.-]+", "-", name)  # xdist looks for @ and ]
    return f"{name}-alone" if item.get_closest_marker("alone") else name


def order(item: pytest.Item) -> tuple[bool, bool]:
    """First the groups that take longest, or one process would still run them when all others have ended.

    Last the tests that run alone: before each, all processes have to wait until the others' tests have ended.
    """
    return item.get_closest_marker("alone") is not None, item.get_closest_marker("long") is None


# Files that are there in any case, to lock them.
_GATE, _MAIN = Path(__file__), Path(__file__).with_name("__init__.py")


@contextmanager
def turn(alone: bool) -> Iterator[None]:
    """Blocks until it is a test's turn, beside those of other processes or alone.

    Whoever wants to be alone lets nobody past meanwhile. A process that dies holds no lock.
    """
    with _MAIN.open() as main:
        with _GATE.open() as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            fcntl.flock(main, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
