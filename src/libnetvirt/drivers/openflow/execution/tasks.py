"""Tasks of a connection: each is kept until it ends, ends with the connection, and fails aloud."""

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
    """The tasks that are under way."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._all: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Have work done beside others."""
        task = asyncio.get_running_loop().create_task(work)
        self._all.add(task)
        task.add_done_callback(self._ended)
        return task

    def every(self, interval: float, action: Callable[[], None]) -> None:
        """Have something done again and again, with ``interval`` seconds between."""
        self.spawn(self._repeat(interval, action))

    async def close(self) -> None:
        """Cancel all, and wait until they have ended."""
        for task in list(self._all):
            task.cancel()
        await asyncio.gather(*self._all, return_exceptions=True)

    async def _repeat(self, interval: float, action: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(interval)
            try:
                action()
            except Exception as error:  # the next turn may go better, and without turns switches are lost
                self._report(error)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._all.discard(task)
        error = None if task.cancelled() else task.exception()
        # An operation's own errors go to its caller.
        if error is not None and not isinstance(error, NetvirtError):
            self._report(error)

    def _report(self, error: BaseException) -> None:
        log.error("internal error in the controller", exc_info=error)
        self._publish("controller.error", f"internal error, please report it: {error!r}")
