"""The stream of events as lines of JSON."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from libnetvirt.events import LOST
from libnetvirt.model import Event

#: Seconds of silence after which an empty line is sent, so that each side notices when the other is gone.
KEEP_ALIVE = 5.0


async def lines(
    events: AsyncIterator[Event],
    stopping: asyncio.Event,
    keep_alive: float = KEEP_ALIVE,
    on_loss: Callable[[Event], None] = lambda _: None,
) -> AsyncIterator[bytes]:
    """One line per event; an empty line at once and after each ``keep_alive`` seconds of silence.

    Ends when the events end or ``stopping`` is set. ``on_loss`` is called with each
    event that tells of a loss.
    """
    following = asyncio.create_task(_next(events))
    stop = asyncio.create_task(stopping.wait())
    try:
        # A driver may subscribe only at the first anext(). The empty line tells the client that it has.
        await asyncio.sleep(0)
        yield b"\n"
        while True:
            either: set[asyncio.Task[Any]] = {following, stop}
            done, _ = await asyncio.wait(either, timeout=keep_alive, return_when=asyncio.FIRST_COMPLETED)
            if following in done:
                event = following.result()
                if event is None:
                    return
                if event.kind == LOST:
                    on_loss(event)
                yield event.model_dump_json(by_alias=True).encode() + b"\n"
                following = asyncio.create_task(_next(events))
            elif stop in done:
                return
            else:
                yield b"\n"
    finally:
        following.cancel()
        stop.cancel()
        await asyncio.gather(following, stop, return_exceptions=True)


async def _next(events: AsyncIterator[Event]) -> Event | None:
    return await anext(events, None)
