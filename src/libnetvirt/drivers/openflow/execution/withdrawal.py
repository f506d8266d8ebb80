"""Withdrawal: an operation whose caller is cancelled is undone, unless it is being committed by then.

The operation runs in a task of its own. This task is interrupted only where everything is undone afterwards:
while it waits for the lock, for switches or for frames. Undoing and committing are never interrupted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Withdrawal:
    """Whether the operation of one task is to be withdrawn."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self._wanted = False
        self._settling = False

    async def await_end(self, task: asyncio.Task[None]) -> None:
        """Wait for the operation that ``task`` carries out. If the caller is cancelled, the operation is
        withdrawn; its end is waited for.

        Returns if it was committed, also if it was to be withdrawn; raises its error, or CancelledError once
        it has been undone.
        """
        self._task = task
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            while not task.done():
                self._withdraw()
                try:
                    await asyncio.wait({task})
                except asyncio.CancelledError:
                    continue  # it ends by itself, and not before that is known what has become of it
            if task.cancelled():
                raise
            task.result()

    @contextmanager
    def settling(self) -> Iterator[None]:
        """The operation is not interrupted in the block."""
        before, self._settling = self._settling, True
        try:
            yield
        finally:
            self._settling = before

    def check(self) -> None:
        """Raises CancelledError if the operation is to be withdrawn."""
        if self._wanted:
            raise asyncio.CancelledError

    def _withdraw(self) -> None:
        assert self._task is not None
        if not self._wanted and not self._settling:
            self._task.cancel()
        self._wanted = True
