"""How far an operation is: told by what carries it out, to the task that it is for.

It goes with the task, and with the tasks that this one starts (:mod:`contextvars`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

#: Called with the number of steps that are done, and of all.
Listener = Callable[[int, int], None]
_listener: ContextVar[Listener | None] = ContextVar("libnetvirt_progress", default=None)


@contextmanager
def told_to(listener: Listener | None) -> Iterator[None]:
    """In the block, ``listener`` is told how far the operation is; None: nobody is."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def tell(done: int, steps: int) -> None:
    """``done`` of all ``steps`` of the operation under way are done. An operation that begins again tells
    less than before."""
    if (listener := _listener.get()) is not None:
        listener(done, steps)
