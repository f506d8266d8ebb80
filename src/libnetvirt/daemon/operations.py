"""Running changes, independent of the connections of the clients that requested them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from libnetvirt.errors import Conflict, NotFound

#: Operations that may run at a time. Each holds its request in memory.
MAX_RUNNING = 1024


class Withdrawn(Conflict):
    """A change was withdrawn by its client while it was carried out, and has been undone."""


class Operations:
    """The running changes by name. Each runs in its own task, so it survives a client that disconnects.

    Only its task decides the outcome of a change. A client may withdraw a change by name while it runs;
    the driver then undoes it, unless it has completed.
    """

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Task[None]] = {}

    async def run(self, name: str, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run ``coroutine`` to its end, even if the caller is cancelled meanwhile. Raises what it raises.

        Raises Conflict if the name is in use, if :data:`MAX_RUNNING` operations are running, or if the
        change was withdrawn.
        """
        if name in self._running:
            coroutine.close()
            raise Conflict(f"the operation name {name!r} is in use: choose a unique name for each operation")
        if len(self._running) >= MAX_RUNNING:
            coroutine.close()
            raise Conflict(f"{MAX_RUNNING} operations are running, which is the limit: try again later")
        task = asyncio.create_task(coroutine)
        self._running[name] = task
        task.add_done_callback(lambda done: self._ended(name, done))
        await asyncio.wait({task})
        if task.cancelled():
            raise Withdrawn("the change was withdrawn before it completed, and has been undone")
        task.result()

    async def withdraw(self, name: str) -> str:
        """Undo a running change. Returns its outcome: ``undone``, ``done`` or ``failed``.

        Raises NotFound if no operation of that name is running.
        """
        task = self._running.get(name)
        if task is None:
            raise NotFound(f"no operation named {name!r} is running")
        task.cancel()
        await asyncio.wait({task})
        if task.cancelled():
            return "undone"
        return "failed" if task.exception() else "done"

    async def finish(self) -> None:
        """Wait until every running change has ended."""
        while self._running:
            await asyncio.wait(set(self._running.values()))

    def cancel(self) -> None:
        """Cancel every running change; the driver undoes it."""
        for task in self._running.values():
            task.cancel()

    def _ended(self, name: str, task: asyncio.Task[None]) -> None:
        del self._running[name]
        if not task.cancelled():
            # Retrieve the exception, or asyncio logs it if the client has disconnected.
            task.exception()
