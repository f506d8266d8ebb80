"""Tests in several processes (pytest-xdist): which run in one process, and which run alone."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def group(item: pytest.Item) -> str:
    """The group of a test: its module, as tests share fixtures, and its rules option if it has one."""
    callspec = getattr(item, "callspec", None)
    module = item.path.relative_to(item.config.rootpath).with_suffix("").as_posix()
    option = callspec.params.get("rules_option") if callspec is not None else None
    shown = "-".join(map(str, (option.encapsulation, option.insertion, option.timeout))) if option else ""
    return f"{module}-{shown}" if shown else module


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
