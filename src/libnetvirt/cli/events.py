"""``events``: a line for each, until the reader has enough."""

from __future__ import annotations

import asyncio
import select
import sys
import time
from typing import Annotated

import typer

from libnetvirt import Event, aio
from libnetvirt.cli.options import Connect, Format, Output, address, chosen
from libnetvirt.cli.output import line

# A closed pipe is noticed at the next event, or after this many seconds.
_LOOK = 0.5
#: seconds that a stream of events has to end
_END = 2.0


def events(
    ctx: typer.Context,
    count: Annotated[int | None, typer.Option(min=1, metavar="N", help="End after N events.")] = None,
    connect: Connect = None,
    output: Output = None,
) -> None:
    """Print what happens, as it happens.

    From now on, one event a line, until Ctrl-C or until the reader closes the pipe.

    \b
    Examples:
      netvirt events
      netvirt events --format json | jq -r .kind
      netvirt events --count 1
    """
    wanted = chosen(ctx, output, (Format.TABLE, Format.JSON))
    uri = address(ctx, connect)
    try:
        asyncio.run(_follow(uri, wanted, count))
    except KeyboardInterrupt:
        # The usual way to end it.
        return


async def _follow(uri: str, output: Format, count: int | None) -> None:
    async with await aio.open(uri) as connection:
        printing = asyncio.create_task(_print(connection, output, count))
        watching = asyncio.create_task(_reader_gone())
        try:
            await asyncio.wait({printing, watching}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (printing, watching):
                task.cancel()
            # A stream that is being read may take the first cancellation for its own. The loop's end cancels
            # once more.
            ended, _ = await asyncio.wait({printing, watching}, timeout=_END)
        for task in ended:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error


async def _print(connection: aio.Connection, output: Format, count: int | None) -> None:
    printed = 0
    async for event in connection.events():
        line(event.model_dump_json(by_alias=True) if output is Format.JSON else text(event))
        sys.stdout.flush()
        printed += 1
        if count is not None and printed >= count:
            return


def text(event: Event) -> str:
    """An event as a line: local time, kind, message."""
    moment = time.localtime(event.time)
    clock = f"{time.strftime('%Y-%m-%d %H:%M:%S', moment)}.{int(event.time % 1 * 1000):03d}"
    message = "".join(c if c.isprintable() else "?" for c in event.message)
    return f"{clock}  {event.kind:<20}  {message}"


async def _reader_gone() -> None:
    try:
        handle = sys.stdout.fileno()
    except (OSError, ValueError):
        await asyncio.Event().wait()
    poll = select.poll()
    poll.register(handle, 0)
    # Terminals and pipes cannot all be watched by the event loop, so look from time to time.
    while not any(found & (select.POLLERR | select.POLLHUP) for _, found in poll.poll(0)):  # noqa: ASYNC110
        await asyncio.sleep(_LOOK)
