"""Tests in several processes (pytest-xdist): groups in one process, their order, tests that run alone."""

from __future__ import annotations

import fcntl
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

#: parameters of fixtures with module scope
_PARAMETERS = ("rules_option", "world")


def group(item: pytest.Item) -> str:
    """The group of a test: tests in one process, because they share the fixtures of their module.

    Modules whose fixtures have parameters have a group for each value. Tests marked ``apart`` share nothing.
    Tests marked ``alone`` have a group of their own, as all of them run last.
    """
    module = item.path.relative_to(item.config.rootpath).with_suffix("").as_posix()
    if item.get_closest_marker("apart"):
        name = f"{module}-{item.name}"
    else:
        callspec = getattr(item, "callspec", None)
        values = (
            [callspec.params[name] for name in _PARAMETERS if name in callspec.params] if callspec else []
        )
        name = "-".join((module, *map(repr, values)))
    name = re.sub(r"[^\w./-]+", "-", name)  # xdist parses @ and ]
    return f"{name}-alone" if item.get_closest_marker("alone") else name


def order(item: pytest.Item) -> tuple[bool, bool]:
    """Sort key. Long groups start first, so that none of them is still running when all others have ended.

    Tests that run alone come last: before each of them, all processes wait for the tests that are running.
    """
    return item.get_closest_marker("alone") is not None, item.get_closest_marker("long") is None


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
