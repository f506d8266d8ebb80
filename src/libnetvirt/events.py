"""Fan-out of events from one publisher to many readers, each with its own bounded queue.

Publishing never blocks: if a reader's queue is full, its oldest event is dropped and counted. Publisher and
readers may be in different threads and event loops.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator
from typing import Self
from weakref import WeakSet

from libnetvirt.model import Event

#: events in a reader's queue; if it is full, the oldest is dropped
QUEUE_LIMIT = 1024


class EventStream:
    """Passes each published event to all readers.

    Readers are held by weak references: a reader that is no longer used needs no closing. ``limit`` is the
    length of each reader's queue. All methods may be called from any thread, and none blocks.
    """

    def __init__(self, limit: int = QUEUE_LIMIT) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._readers: WeakSet[EventReader] = WeakSet()
        self._closed = False

    def publish(self, event: Event) -> None:
        """Add an event to the queue of every current reader."""
        with self._lock:
            readers = tuple(self._readers)
        for reader in readers:
            reader._push(event)

    def subscribe(self) -> EventReader:
        """Return a reader of all events published after this call. It ends when the stream is closed."""
        reader = EventReader(self._limit)
        with self._lock:
            if not self._closed:
                self._readers.add(reader)
                return reader
        reader.close()
        return reader

    def close(self) -> None:
        """End all readers, each after the events in its queue. May be called more than once."""
        with self._lock:
            self._closed = True
            readers = tuple(self._readers)
            self._readers.clear()
        for reader in readers:
            reader.close()


class EventReader(AsyncIterator[Event]):
    """An asynchronous iterator over a stream's events. ``lost`` is the number of events that were dropped.

    At most one task at a time may wait for the next event.
    """

    def __init__(self, limit: int) -> None:
        self._events: deque[Event] = deque()
        self._limit = limit
        self._lock = threading.Lock()
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False
        self.lost = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while True:
            with self._lock:
                if self._events:
                    return self._events.popleft()
                if self._closed:
                    raise StopAsyncIteration
                waiter = self._waiter = asyncio.get_running_loop().create_future()
            try:
                await waiter
            finally:
                self._waiter = None

    def close(self) -> None:
        """End the iteration after the events in the queue."""
        with self._lock:
            self._closed = True
            self._wake()

    async def aclose(self) -> None:
        """End the iteration at once and discard the queued events, as an asynchronous generator does."""
        self.close()
        self._events.clear()

    def _push(self, event: Event) -> None:
        with self._lock:
            if self._closed:
                return
            if len(self._events) >= self._limit:
                self._events.popleft()
                self.lost += 1
            self._events.append(event)
            self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is None:
            return
        loop = waiter.get_loop()
        # The publisher may run in another thread than the reader, and longer than the reader's event loop.
        if not loop.is_closed():
            loop.call_soon_threadsafe(_wake_waiter, waiter)


def _wake_waiter(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
