"""The identifier of the operation that is being carried out: the same from the client to the rules.

It goes with the task, and with the tasks that this one starts (:mod:`contextvars`). A client's session makes
it, the header ``Netvirt-Operation`` takes it to a server, and lines of the log and events that the operation
causes have it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final
from uuid import uuid4

#: Characters that an identifier of a client may have.
LIMIT: Final = 64
_current: ContextVar[str] = ContextVar("libnetvirt_operation", default="")


def current() -> str:
    """The identifier of the operation; empty outside of one."""
    return _current.get()


@contextmanager
def of(identifier: str) -> Iterator[str]:
    """In the block, the operation with this identifier is carried out; empty: none."""
    token = _current.set(identifier)
    try:
        yield identifier
    finally:
        _current.reset(token)


@contextmanager
def some() -> Iterator[str]:
    """In the block, an operation is carried out: the one under way, or else a new one."""
    with of(current() or uuid4().hex) as identifier:
        yield identifier


def acceptable(text: str) -> bool:
    """Whether a client may use this as an identifier: short, and nothing that could forge a line of a log."""
    return 0 < len(text) <= LIMIT and text.isascii() and text.isprintable() and " " not in text
