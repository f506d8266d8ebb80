"""The log of a connection's events: written and read in a thread of its own, in batches.

The event loop, which serves switches, only appends to a list. A batch is written :data:`BATCH` seconds after
its first event, or when the file is read. What the disk does not take is dropped, never waited for: readers
see from the numbers that events are missing.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import sqlite3
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final, Self, TypeVar

from libnetvirt.daemon.event_file import EventFile, Row

log = logging.getLogger("libnetvirt.daemon")

T = TypeVar("T")

#: Seconds until an event is in the file, at most, while the disk follows.
BATCH: Final = 0.1
#: Events that wait to be written. More are dropped, the oldest ones first.
WAITING: Final = 10_000
#: Events that are removed at once because there are too many, as a part of those that are kept.
SLACK: Final = 16
#: Seconds between two looks for events that are too old.
AGEING: Final = 60.0
_FAILURES = (sqlite3.Error, OSError)


class EventLog:
    """An open log. All methods are called in the event loop's thread.

    ``keep``, ``age``: how many events are kept, and for how many seconds; they may be changed.
    """

    def __init__(self, file: EventFile, executor: ThreadPoolExecutor, keep: int, age: float) -> None:
        self.file = file
        self.keep, self.age = keep, age
        #: identifies this log among all
        self.id = file.id
        #: the number after which events are numbered
        self.last = file.last
        self._executor = executor
        self._waiting: list[Row] = []
        # Events that were handed to the thread and are not written yet.
        self._handed = 0
        self._timer: asyncio.TimerHandle | None = None
        self._newest = file.last
        # Events that were not handed over, and those that the thread could not write.
        self._dropped = self._unwritten = 0
        self._added_since_pruning, self._pruned = 0, -AGEING
        self._complaint = ""
        self._closed = False
        #: set when more events are in the file
        self.readers: set[asyncio.Event] = set()

    @classmethod
    async def open(cls, path: Path, keep: int, age: float) -> Self | None:
        """Open the log in a file, which is made if there is none. None if it cannot be opened: the log of the
        server tells why."""
        executor = ThreadPoolExecutor(1, thread_name_prefix="netvirt-events")
        loop = asyncio.get_running_loop()
        try:
            file = await loop.run_in_executor(executor, EventFile, path)
        except _FAILURES as error:
            executor.shutdown(wait=False)
            log.warning("events are kept in memory only: %s cannot be used: %s", path, error)
            return None
        if file.set_aside is not None:
            log.warning(
                "%s is no log of events that can be read: it is now %s, and a new one begins",
                path,
                file.set_aside,
            )
        return cls(file, executor, keep, age)

    @property
    def failed(self) -> int:
        """How many events could not be written."""
        return self._dropped + self._unwritten

    async def newest(self, count: int) -> list[Row]:
        """The last events before this run, as many as follow one another, in order."""
        return await self.ask(lambda: self.file.newest(count), [])

    def add(self, row: Row) -> None:
        """Keep an event. Does not block."""
        if self._closed:
            return
        self._newest = row.number
        if len(self._waiting) + self._handed >= WAITING:
            self._dropped += 1
            self._complain("the disk does not follow")
            return
        self._waiting.append(row)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(BATCH, self._write)

    async def after(self, number: int, size: int, limit: int = -1) -> Sequence[Row]:
        """The events after a number, in order, as many as ``size`` bytes hold. Events may be missing before
        the first and between them, as their numbers tell."""
        return await self.ask(lambda: self.file.after(number, size, limit), [])

    async def before(self, moment: float) -> tuple[int | None, bool]:
        """As :meth:`EventFile.before`."""
        return await self.ask(lambda: self.file.before(moment), (None, False))

    def unknown(self, number: int, following: int) -> bool:
        """Whether it is not known how many events there were between two numbers."""
        runs = self.file.runs
        found = bisect_right(runs, number)
        return found < len(runs) and runs[found] <= following

    async def ask(self, question: Callable[[], T], otherwise: T) -> T:
        """What a question to the file, in its thread, returns when all events until now are written;
        ``otherwise`` if it fails, or the log is closed."""
        if self._closed:
            return otherwise
        self._write()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, question)
        except _FAILURES as error:
            self._complain(error)
            return otherwise

    async def close(self) -> None:
        """Write what waits, and close the file. May be called twice."""
        if self._closed:
            return
        self._write()
        self._closed = True
        last = self._newest
        try:
            # In the thread, what was handed over before has been written then.
            await asyncio.get_running_loop().run_in_executor(
                self._executor, lambda: self.file.close(None if self.failed else last)
            )
        except _FAILURES as error:
            self._complain(error)
        self._executor.shutdown(wait=False)

    def _write(self) -> None:
        """Have what waits written."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._waiting:
            return
        rows, self._waiting = self._waiting, []
        self._handed += len(rows)
        future = asyncio.get_running_loop().run_in_executor(self._executor, self._write_rows, rows)
        future.add_done_callback(lambda done: self._written(done, len(rows)))

    def _written(self, done: asyncio.Future[None], count: int) -> None:
        self._handed -= count
        if done.cancelled() or (error := done.exception()) is None:
            self._complaint = ""
            for reader in self.readers:
                reader.set()
        else:
            self._complain(error)

    def _write_rows(self, rows: Sequence[Row]) -> None:
        """In the thread."""
        try:
            self.file.write(rows)
        except _FAILURES:
            self._unwritten += len(rows)
            raise
        self._added_since_pruning += len(rows)
        now = time.monotonic()
        if self._added_since_pruning > self.keep // SLACK or now - self._pruned >= AGEING:
            self._added_since_pruning, self._pruned = 0, now
            with suppress(*_FAILURES):  # writing will fail as well, and tell
                self.file.prune(self.keep, time.time() - self.age)

    def _complain(self, error: object) -> None:
        if (text := str(error)) != self._complaint:
            self._complaint = text
            log.warning("events are not written to %s: %s", self.file.path, text)


def log_path(state: str, directory: str | None, name: str) -> Path | None:
    """Where the log of a connection is: beside its state file, or else in a directory, if there is one."""
    if state:
        return Path(f"{state}-events")
    return Path(directory) / f"{name}-events" if directory and name else None


def memory_id() -> str:
    """Identifies the events of a connection without a log: those of another run are not taken for them."""
    return secrets.token_hex(6)
