"""Tasks of a connection: each is referenced until it ends, is cancelled with the connection, and reports its
failure."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from libnetvirt.controller.engine.controller import Publish
from libnetvirt.errors import NetvirtError

log = logging.getLogger(__name__)
T = TypeVar("T")


class Tasks:
    """The tasks that are running."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._all: set[asyncio.Task[Any]] = set()

    def spawn(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a coroutine as a task."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._all.add(task)
        task.add_done_callback(self._ended)
        return task

    def every(self, interval: float, action: Callable[[], None]) -> None:
        """Call ``action`` again and again, ``interval`` seconds after the last call has returned."""
        self.spawn(self._repeat(interval, action))

    async def close(self) -> None:
        """Cancel all tasks, and wait until they have ended."""
        for task in list(self._all):
            task.cancel()
        await asyncio.gather(*self._all, return_exceptions=True)

    async def _repeat(self, interval: float, action: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(interval)
            try:
                action()
            except Exception as error:  # without the next call, switches would time out
                self._report(error)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._all.discard(task)
        error = None if task.cancelled() else task.exception()
        # The errors of an operation are raised to its caller.
        if error is not None and not isinstance(error, NetvirtError):
            self._report(error)

    def _report(self, error: BaseException) -> None:
        log.error("internal error in the controller", exc_info=error)
        self._publish("controller.error", f"internal error, please report it: {error!r}")
