"""Events from one publisher to many readers, each with a bounded queue of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import Self
from weakref import WeakSet

from libnetvirt.model import Event

#: events that wait for a reader before its oldest are lost
LIMIT = 1024
#: the fields that an event of any kind may have
PLACES = ("network", "endpoint", "switch", "port")


class EventStream:
    """Fans events out. A reader that is too slow loses the oldest; it never delays the publisher.

    A reader that nobody holds any more is forgotten. All methods may be called from any thread.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._readers: WeakSet[Reader] = WeakSet()
        self._closed = False

    def publish(self, event: Event) -> None:
        """Give an event to every reader there is now. Does not block."""
        with self._lock:
            readers = tuple(self._readers)
        for reader in readers:
            reader._push(event)

    def report(self, kind: str, message: str, **fields: str) -> None:
        """Publish an event that happens now. Does not block.

        ``fields``: those of :class:`Event` (``network``, ``endpoint``, ``switch``, ``port``), and any others
        that belong to this kind.
        """
        places = {name: fields.pop(name) for name in PLACES if name in fields}
        self.publish(Event(time=time.time(), kind=kind, message=message, fields=fields, **places))

    def subscribe(self) -> Reader:
        """A reader of the events from this call on. It ends when the stream is closed."""
        reader = Reader(self._limit)
        with self._lock:
            if not self._closed:
                self._readers.add(reader)
                return reader
        reader.close()
        return reader

    def close(self) -> None:
        """End all readers, after what waits for them. May be called twice."""
        with self._lock:
            self._closed = True
            readers = tuple(self._readers)
            self._readers.clear()
        for reader in readers:
            reader.close()


class Reader(AsyncIterator[Event]):
    """One reader's view of a stream. ``lost`` counts the events that came too fast for it.

    One task at a time may wait for the next event.
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
        """End after the events that wait already."""
        with self._lock:
            self._closed = True
            self._wake()

    async def aclose(self) -> None:
        """End now and take no more events, as an asynchronous generator would."""
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
        # The publisher may be in another thread than the reader, or outlive the reader's loop.
        if not loop.is_closed():
            loop.call_soon_threadsafe(_settle, waiter)


def _settle(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
