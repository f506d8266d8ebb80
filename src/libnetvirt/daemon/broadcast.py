"""The events of a connection for any number of readers, as lines of JSON.

Each event is encoded once. Its lines are handed to readers a few at a time, so that what else runs in the
event loop (the driver, which serves switches) never waits for all of them; and the more readers there are,
the more events each gets at once. A reader that is too slow loses the oldest events and is told so. It, and a
client whose connection was lost, can go on after the last event that they have: each has an identifier.

The last events are in memory. Older ones are in the log (:mod:`libnetvirt.daemon.event_log`), if there is
one.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final
from weakref import WeakSet

from libnetvirt.daemon.event_file import Row
from libnetvirt.daemon.event_log import EventLog, memory_id
from libnetvirt.events import LOST
from libnetvirt.model import Event

#: Events that are kept for readers that are slow or come back.
KEPT: Final = 4096
#: Seconds of silence after which an empty line is sent, so that each side notices when the other is gone.
KEEP_ALIVE: Final = 5.0
#: Readers that are woken in one iteration of the event loop.
WOKEN: Final = 16
#: A round of wake-ups is followed by a pause of so many times its duration.
PAUSES: Final = 3
#: How many events were lost, if that is not known.
UNKNOWN: Final = "an unknown number of"
#: Bytes that a reader is handed at once, unless one event has more.
PIECE: Final = 64 * 2**10
# Before the identifier in a line. Only the operation follows it.
_ID: Final = b'"id":"'
# Longest number of an identifier: SQLite has no larger ones.
_DIGITS: Final = 19


class Broadcast:
    """The events of one connection. All methods are called from the event loop's thread.

    ``on_loss``: called with each event that tells a reader that it has lost events. ``kept``: how many are in
    memory. ``log``: has older ones, also those of earlier runs of the server; ``recent``: its last events.
    """

    def __init__(
        self,
        on_loss: Callable[[Event], None] = lambda _: None,
        kept: int = KEPT,
        log: EventLog | None = None,
        recent: Sequence[Row] = (),
    ) -> None:
        self.log = log
        # Identifiers of another log, or of another run without one, must not be taken for ours.
        self._id = memory_id() if log is None else log.id
        self.on_loss = on_loss
        self._lines: deque[bytes] = deque((row.line for row in recent), maxlen=kept)
        self._times: deque[float] = deque((row.time for row in recent), maxlen=kept)
        self._published = 0 if log is None else log.last
        self._waiting: dict[asyncio.Future[None], None] = {}
        self._due = False
        self._rounds: asyncio.Task[None] | None = None
        self.closed = False
        self._readers: WeakSet[Reader] = WeakSet()
        #: the number of events that readers have lost
        self.lost = 0

    @property
    def published(self) -> int:
        """The number of the last event."""
        return self._published

    @property
    def readers(self) -> int:
        """How many readers there are."""
        return len(self._readers)

    def publish(self, event: Event) -> None:
        """Add an event. Does not block."""
        self._published += 1
        line = _line(event, self._identifier(self._published))
        self._lines.append(line)
        self._times.append(event.time)
        if self.log is not None:
            self.log.add(Row(self._published, event.time, line))
        self.wake()

    async def keep_alive(self, interval: float = KEEP_ALIVE) -> None:
        """Have all readers send something after each ``interval`` seconds of silence, until cancelled."""
        before = self._published
        while True:
            await asyncio.sleep(interval)
            if self._published == before:
                self.wake()
            before = self._published

    def close(self) -> None:
        """End all readers. May be called twice."""
        self.closed = True
        if self._rounds is not None:
            self._rounds.cancel()
        for waiter in self._waiting:
            _release(waiter)

    def reader(self, after: str = "") -> Reader:
        """A reader of the events from now on, or of those after the one with the identifier ``after``.

        Some of these may not be kept any more, or the identifier may be of an earlier run of the server: then
        an event ``events.lost`` comes first.
        """
        reader = self._reader(after)
        self._readers.add(reader)
        return reader

    async def reader_since(self, moment: float) -> Reader:
        """A reader of the events from a moment on, in seconds of the epoch. If events of that time may not be
        kept any more, an event ``events.lost`` comes first."""
        position, lost = await self._before(moment)
        reader = Reader(self, position, self._loss(UNKNOWN, position) if lost else b"")
        self._readers.add(reader)
        return reader

    def _reader(self, after: str) -> Reader:
        if not after:
            return Reader(self, self._published)
        log, _, number = after.rpartition("-")
        known = log == self._id and number.isascii() and number.isdigit() and len(number) < _DIGITS
        if known and int(number) <= self._published:
            return Reader(self, int(number))
        return Reader(self, self._published, self._loss(UNKNOWN, self._published))

    async def _before(self, moment: float) -> tuple[int, bool]:
        """The position before the first event from a moment on, and whether some may have been removed."""
        published = self._published
        if self.log is not None:
            found, lost = await self.log.before(moment)
            return (published if found is None else found), lost
        for skipped, time_ in enumerate(self._times):
            if time_ >= moment:
                position = self._oldest + skipped
                return position, position == self._oldest > 0
        return published, False

    # ---- for readers ---------------------------------------------------------------------------

    @property
    def _oldest(self) -> int:
        """The position before the oldest event in memory."""
        return self._published - len(self._lines)

    async def after(self, position: int) -> tuple[int, bytes]:
        """The lines after a position, as many as fit one piece, and the position after them."""
        if position < self._oldest and self.log is not None:
            return await self._logged(self.log, position)
        return self._take(position)

    async def _logged(self, log: EventLog, position: int) -> tuple[int, bytes]:
        rows = await log.after(position, PIECE)
        if not rows:
            return self._take(position)
        parts = []
        for row in rows:
            if row.number != position + 1:
                parts.append(self.lost_between(position, row.number - 1))
            parts.append(row.line)
            position = row.number
        return position, b"".join(parts)

    def _take(self, position: int) -> tuple[int, bytes]:
        oldest = self._oldest
        parts, size = [], 0
        if position < oldest:
            parts.append(self.lost_between(position, oldest))
            position = oldest
        for line in islice(self._lines, position - oldest, None):
            if parts and size + len(line) > PIECE:
                break
            parts.append(line)
            size += len(line)
            position += 1
        return position, b"".join(parts)

    def lost_between(self, position: int, resume: int) -> bytes:
        """The line that tells a reader that it has lost the events after a position, until another one."""
        if self.log is not None and self.log.unknown(position, resume + 1):
            return self._loss(UNKNOWN, resume)
        self.lost += resume - position
        return self._loss(str(resume - position), resume)

    async def wait(self, waiter: asyncio.Future[None], position: int) -> None:
        """Wait for the next round. ``position``: what the reader has taken so far."""
        self._waiting[waiter] = None
        try:
            if position < self._published:
                self.wake()
            await waiter
        finally:
            del self._waiting[waiter]

    def wake(self) -> None:
        """Wake all readers that wait, in the present round of wake-ups or the next."""
        self._due = True
        if self._rounds is None and self._waiting and not self.closed:
            self._rounds = asyncio.get_running_loop().create_task(self._wake_all())

    async def _wake_all(self) -> None:
        try:
            while self._due and self._waiting:
                self._due = False
                began = time.monotonic()
                waiting = list(self._waiting)
                for first in range(0, len(waiting), WOKEN):
                    for waiter in waiting[first : first + WOKEN]:
                        _release(waiter)
                    await asyncio.sleep(0)
                await asyncio.sleep(PAUSES * (time.monotonic() - began))
        finally:
            self._rounds = None

    def _loss(self, count: str, position: int) -> bytes:
        killed = ", or the server was killed" if count == UNKNOWN else ""
        event = Event(
            time=time.time(),
            kind=LOST,
            message=f"{count} event{'' if count == '1' else 's'} lost: this reader is too slow, or was away"
            f"{killed}",
            fields={"count": count, "resume": self._identifier(position)},
        )
        self.on_loss(event)
        return _line(event, self._identifier(position))

    def _identifier(self, number: int) -> str:
        return f"{self._id}-{number}"


class Reader:
    """Reads a broadcast from a position on; for one task."""

    def __init__(self, broadcast: Broadcast, position: int, first: bytes = b"") -> None:
        self._broadcast = broadcast
        self._position = position
        self._first = first
        self._more = True
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False

    async def read(self) -> bytes | None:
        """The next lines, as one piece: an empty line if there was nothing to send for a while, None at the
        end. Waits for the next round of wake-ups, unless there was more than one piece."""
        if first := self._first:
            self._first = b""
            return first
        if not self._more and not self._closed and not self._broadcast.closed:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._broadcast.wait(self._waiter, self._position)
        if self._closed or self._broadcast.closed:
            return None
        self._position, piece = await self._broadcast.after(self._position)
        self._more = self._position < self._broadcast.published
        return piece or b"\n"

    def close(self) -> None:
        """End the reader: :meth:`read` returns None. May be called twice."""
        self._closed = True
        if self._waiter is not None:
            _release(self._waiter)


def _release(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def identifier(line: bytes) -> bytes:
    """The identifier of the event on a line: no quotation mark of a text is like this, it is escaped."""
    return line[line.rfind(_ID) + len(_ID) :].partition(b'"')[0]


def _line(event: Event, identifier: str) -> bytes:
    return event.model_copy(update={"id": identifier}).model_dump_json(by_alias=True).encode() + b"\n"
