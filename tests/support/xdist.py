"""Tests in several processes (pytest-xdist): what belongs together, and what nothing may run beside."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def group(item: pytest.Item) -> str:
    """The tests of a module share what it builds up, but there may be one of it for each rules option."""
    callspec = getattr(item, "callspec", None)
    module = item.path.relative_to(item.config.rootpath).with_suffix("").as_posix()
    option = callspec.params.get("rules_option") if callspec is not None else None
    shown = "-".join(map(str, (option.encapsulation, option.insertion, option.timeout))) if option else ""
    return f"{module}-{shown}" if shown else module


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
