"""Events from one publisher to many readers, each with its own bounded queue."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import Protocol, Self, runtime_checkable
from weakref import WeakSet

from libnetvirt import operation_id
from libnetvirt.model import Event

#: Events queued for a reader before its oldest are dropped.
LIMIT = 1024
#: Kind of the event that tells a reader how many events it lost.
LOST = "events.lost"
#: The fields that an event of any kind may have.
PLACES = ("network", "endpoint", "switch", "port")


@runtime_checkable
class Subscription(Protocol):
    """Events whose source is elsewhere, so that to subscribe takes time."""

    async def begin(self) -> None:
        """Subscribe. Returns when no later event is missed. Raises what iterating raises."""


class EventStream:
    """Delivers each event to every reader. Readers never delay the publisher.

    A reader that is too slow loses the oldest events, and an event of kind ``events.lost`` in their place
    says how many. A reader without references is dropped. All methods may be called from any thread.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._readers: WeakSet[Reader] = WeakSet()
        self._closed = False
        self._lost = 0

    def publish(self, event: Event) -> None:
        """Queue an event for every current reader. Does not block."""
        with self._lock:
            readers = tuple(self._readers)
        lost = sum(reader._push(event) for reader in readers)
        if lost:
            with self._lock:
                self._lost += lost

    def report(self, kind: str, message: str, **fields: str) -> None:
        """Publish an event that happens now. Does not block.

        ``fields``: those of :class:`Event` (``network``, ``endpoint``, ``switch``, ``port``), and any others
        that belong to this kind. It is of the operation that the caller carries out, if any.
        """
        places = {name: fields.pop(name) for name in PLACES if name in fields}
        now, operation = time.time(), operation_id.current()
        self.publish(
            Event(time=now, kind=kind, message=message, fields=fields, operation=operation, **places)
        )

    def subscribe(self) -> Reader:
        """A reader of the events from now on. It ends when the stream is closed."""
        reader = Reader(self._limit)
        with self._lock:
            if not self._closed:
                self._readers.add(reader)
                return reader
        reader.close()
        return reader

    @property
    def lost(self) -> int:
        """How many events readers have lost so far because they were too slow, also readers that are gone."""
        with self._lock:
            return self._lost

    def notes(self) -> list[str]:
        """A note for the operator if events were lost; else none."""
        if not self.lost:
            return []
        return [f"{self.lost} events were lost: a program that reads events is too slow"]

    def close(self) -> None:
        """End all readers once they have read their queues. May be called twice."""
        with self._lock:
            self._closed = True
            readers = tuple(self._readers)
            self._readers.clear()
        for reader in readers:
            reader.close()


class Reader(AsyncIterator[Event]):
    """The queue of one reader. ``lost`` counts all events that were dropped because it was full.

    Only one task at a time may wait for the next event.
    """

    def __init__(self, limit: int) -> None:
        self._events: deque[Event] = deque()
        self._limit = limit
        self._lock = threading.Lock()
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False
        self.lost = 0
        self._lost_and_told = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while True:
            with self._lock:
                if self.lost > self._lost_and_told:
                    return self._loss()
                if self._events:
                    return self._events.popleft()
                if self._closed:
                    raise StopAsyncIteration
                waiter = self._waiter = asyncio.get_running_loop().create_future()
            try:
                await waiter
            finally:
                self._waiter = None

    def _loss(self) -> Event:
        count = self.lost - self._lost_and_told
        self._lost_and_told = self.lost
        return Event(
            time=time.time(),
            kind=LOST,
            message=f"{count} event{'' if count == 1 else 's'} lost: this reader is too slow",
            fields={"count": str(count)},
        )

    def close(self) -> None:
        """End after the queued events."""
        with self._lock:
            self._closed = True
            self._wake()

    async def aclose(self) -> None:
        """End now and drop the queued events, as an asynchronous generator would."""
        self.close()
        self._events.clear()

    def _push(self, event: Event) -> bool:
        """Queue an event. Returns whether an older one was lost for it."""
        with self._lock:
            if self._closed:
                return False
            full = len(self._events) >= self._limit
            if full:
                self._events.popleft()
                self.lost += 1
            self._events.append(event)
            self._wake()
            return full

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is None:
            return
        loop = waiter.get_loop()
        # The publisher may run in another thread than the reader, and may outlive the reader's loop.
        if not loop.is_closed():
            loop.call_soon_threadsafe(_wake_waiter, waiter)


def _wake_waiter(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
