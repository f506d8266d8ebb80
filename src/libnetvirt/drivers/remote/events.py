"""The events of a server, or of the one of several that leads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

from libnetvirt.drivers.remote.client import Client
from libnetvirt.drivers.remote.replies import parsed
from libnetvirt.errors import ConnectionFailed
from libnetvirt.events import LOST
from libnetvirt.model import Event

# The kind of the event that tells that a server does not lead any more.
_LOST_LEASE = "leader.lost"


class ServerEvents(AsyncIterator[Event]):
    """Events of a server, from :meth:`begin` or the first iteration on, until ``closing`` is set.

    Iterating raises ConnectionFailed if the only server goes away.
    """

    def __init__(self, client: Client, query: Mapping[str, str], closing: asyncio.Event) -> None:
        self._source = _events(client, query, closing)
        self._begun = False
        self._first: Event | None = None

    async def begin(self) -> None:
        """Subscribe. Returns when the server has confirmed, so that no later event is missed.

        Raises what iterating raises. May be called twice.
        """
        if not self._begun:
            self._begun = True
            self._first = await anext(self._source, None)

    async def __anext__(self) -> Event:
        await self.begin()
        if self._first is not None:
            event, self._first = self._first, None
            return event
        while (following := await anext(self._source)) is None:
            pass
        return following

    async def aclose(self) -> None:
        """Unsubscribe."""
        await self._source.aclose()


async def _events(
    client: Client, query: Mapping[str, str], closing: asyncio.Event
) -> AsyncGenerator[Event | None]:
    """The events; None whenever a server has confirmed that it sends them."""
    closed = asyncio.ensure_future(closing.wait())
    try:
        while True:
            if client.several:
                await client.find_leader()
            place = client.place
            try:
                async with client.lines("events", query) as lines:
                    yield None
                    while (line := await _next(lines, closed)) is not None:
                        if line:
                            yield (event := parsed(Event, line))
                            if client.several and event.kind == _LOST_LEASE:
                                break
                    if closed.done():
                        return
            except ConnectionFailed:
                if not client.several:
                    raise
            if not client.several:
                break
            text = f"the server on {place} does not lead any more, or went away: its last events are lost"
            count = {"count": "an unknown number of"}
            yield Event(time=time.time(), kind=LOST, message=text, fields=count)
            # Identifiers of events are those of one server.
            query = {}
    finally:
        closed.cancel()
    raise ConnectionFailed(f"the server on {client.place} went away, so no more events follow")


async def _next(lines: AsyncIterator[bytes], closed: asyncio.Future[Any]) -> bytes | None:
    """The next line; None after the last one, or if ``closed`` is done first."""

    async def line() -> bytes | None:
        return await anext(lines, None)

    following = asyncio.create_task(line())
    try:
        await asyncio.wait({following, closed}, return_when=asyncio.FIRST_COMPLETED)
        return None if closed.done() else following.result()
    finally:
        if not following.done():
            following.cancel()
            await asyncio.wait({following})
        if not following.cancelled():
            # Mark the exception as retrieved: it does not matter to a session that is closed.
            following.exception()
