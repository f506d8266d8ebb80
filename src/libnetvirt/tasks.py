"""Background tasks of a connection: each is kept until it ends, and unexpected errors are reported."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from libnetvirt.errors import NetvirtError

log = logging.getLogger(__name__)
T = TypeVar("T")


class Tasks:
    """The tasks in progress. All methods are called from the event loop's thread.

    ``report`` is called with each error of a task that is no NetvirtError, after it was logged. A
    NetvirtError is raised in the code that awaits the task; it is dropped if none does.
    """

    def __init__(self, report: Callable[[BaseException], None] = lambda _: None) -> None:
        self._report_error = report
        self._all: set[asyncio.Task[Any]] = set()

    def spawn(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a coroutine in a task of its own."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._all.add(task)
        task.add_done_callback(self._ended)
        return task

    def every(self, interval: float, action: Callable[[], None]) -> None:
        """Call ``action`` repeatedly, with ``interval`` seconds between two calls. Its errors are
        reported and do not end the repetition."""
        self.spawn(self._repeat(interval, action))

    async def finish(self, timeout: float) -> None:
        """Wait until all have ended, for ``timeout`` seconds at most."""
        if self._all:
            await asyncio.wait(set(self._all), timeout=timeout)

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
            except Exception as error:  # the next call may succeed, and without any, switches are lost
                self._report(error)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._all.discard(task)
        # Asking for the exception also marks it as seen.
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, NetvirtError):
            self._report(error)

    def _report(self, error: BaseException) -> None:
        log.error("internal error in a background task", exc_info=error)
        self._report_error(error)
