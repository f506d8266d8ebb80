"""Changes that are being carried out, detached from the clients that asked for them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from libnetvirt.errors import Conflict, NotFound


class Operations:
    """Each change runs in a task of its own: a client that goes away cannot stop it half-way.

    Whether a change happened is decided once, by its task. A client may withdraw it by name while it
    runs; then the driver undoes it, unless it was done already.
    """

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Task[None]] = {}

    async def run(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` to its end and raise what it raises, even if the caller is cancelled meanwhile.

        Raises Conflict if the name is in use, or if the change was withdrawn.
        """
        if name in self._running:
            work.close()
            raise Conflict(f"an operation named {name!r} is running already: give each a name of its own")
        task = asyncio.create_task(work)
        self._running[name] = task
        task.add_done_callback(lambda done: self._ended(name, done))
        await asyncio.wait({task})
        if task.cancelled():
            raise Conflict("the change was withdrawn before it was complete: nothing of it is left")
        task.result()

    async def withdraw(self, name: str) -> str:
        """Undo a running change. Returns its outcome: ``undone``, ``done`` or ``failed``.

        Raises NotFound if no operation of that name is running.
        """
        task = self._running.get(name)
        if task is None:
            raise NotFound(f"no operation {name!r} is running")
        task.cancel()
        await asyncio.wait({task})
        if task.cancelled():
            return "undone"
        return "failed" if task.exception() else "done"

    async def finish(self) -> None:
        """Wait for every running change."""
        while self._running:
            await asyncio.wait(set(self._running.values()))

    def cancel(self) -> None:
        """Let the driver undo every running change."""
        for task in self._running.values():
            task.cancel()

    def _ended(self, name: str, task: asyncio.Task[None]) -> None:
        del self._running[name]
        if not task.cancelled():
            # Marks the exception as seen: nobody may be waiting for it any more.
            task.exception()
