"""``events``: prints events, one a line."""

from __future__ import annotations

import asyncio
import re
import select
import sys
import time
from datetime import datetime
from typing import Annotated

import typer

from libnetvirt import Event, aio
from libnetvirt.cli.options import STREAMS, Connect, Format, StreamOutput, address, chosen
from libnetvirt.cli.output import line, member

#: Seconds between checks whether the reader of stdout has closed the pipe.
_PIPE_CHECK = 0.5
#: Seconds to wait for the event stream to end after its cancellation.
END = 2.0
_AGO = re.compile(r"(\d+(?:\.\d+)?) *([smhd])")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def moment(text: str) -> float:
    """A time as people write it, in seconds of the epoch: some time ago, or a date with or without a time and
    a zone (ISO 8601), which is the local one by default."""
    if found := _AGO.fullmatch(text.strip()):
        return time.time() - float(found[1]) * _SECONDS[found[2]]
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError, OSError):
        raise typer.BadParameter(
            f"{text!r} is no time: write 90s, 10m, 3h or 7d (ago), or a date and time such as "
            "'2026-01-31 12:00'"
        ) from None


def events(
    ctx: typer.Context,
    count: Annotated[int | None, typer.Option(min=1, metavar="N", help="Exit after N events.")] = None,
    after: Annotated[
        str, typer.Option(metavar="ID", help="Begin after the event with this id.", show_default=False)
    ] = "",
    since: Annotated[
        float | None,
        typer.Option(
            parser=moment,
            metavar="TIME",
            help="Begin with the events since then: 90s, 10m, 3h, 7d (ago), or a date and time.",
            show_default=False,
        ),
    ] = None,
    connect: Connect = None,
    output: StreamOutput = None,
) -> None:
    """Print events as they happen, one a line.

    Runs until Ctrl-C, until the reader closes the pipe, or until --count events were printed. An event
    'events.lost' says how many events were dropped because this command read them too slowly.

    A server keeps events, also over its restarts: with --after or --since those of the past come first. The
    id of each event is in the output of --format json.

    \b
    Examples:
      netvirt events
      netvirt events --since 10m
      netvirt events --since '2026-01-31 12:00'
      netvirt events --after 5b0c53f3a1d2-4711 --format json
      netvirt events --format json | jq -r .kind
      netvirt events --count 1
    """
    wanted = chosen(ctx, output, STREAMS)
    if after and since is not None:
        raise typer.BadParameter("--after and --since: give one of them.", ctx=ctx)
    uri = address(ctx, connect)
    try:
        asyncio.run(_follow(uri, wanted, count, after, since))
    except KeyboardInterrupt:
        # Ctrl-C is how this command is normally ended.
        return


async def _follow(uri: str, output: Format, count: int | None, after: str, since: float | None) -> None:
    async with await aio.open(uri) as connection:
        printing = asyncio.create_task(_print(connection, output, count, after, since))
        watching = asyncio.create_task(pipe_closed())
        try:
            await asyncio.wait({printing, watching}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (printing, watching):
                task.cancel()
            # The event stream may consume this cancellation while it closes. asyncio.run() cancels again.
            ended, _ = await asyncio.wait({printing, watching}, timeout=END)
        for task in ended:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error


async def _print(
    connection: aio.Connection, output: Format, count: int | None, after: str, since: float | None
) -> None:
    printed = 0
    # No name is given to the iterator: else it would not be closed before the loop is, if a line fails.
    async for event in connection.events(after=after, since=since):
        if output is Format.TABLE:
            line(text(event))
        else:
            member(event.to_json(), output)
        sys.stdout.flush()
        printed += 1
        if count is not None and printed >= count:
            return


def text(event: Event) -> str:
    """The event as one line: local time, kind, message."""
    moment = time.localtime(event.time)
    clock = f"{time.strftime('%Y-%m-%d %H:%M:%S', moment)}.{int(event.time % 1 * 1000):03d}"
    message = "".join(c if c.isprintable() else "?" for c in event.message)
    return f"{clock}  {event.kind:<20}  {message}"


async def pipe_closed() -> None:
    """Wait until the reader of stdout has closed it."""
    try:
        handle = sys.stdout.fileno()
    except (OSError, ValueError):
        await asyncio.Event().wait()
    poll = select.poll()
    poll.register(handle, 0)
    # The event loop cannot watch every kind of stdout, so poll.
    while not any(found & (select.POLLERR | select.POLLHUP) for _, found in poll.poll(0)):  # noqa: ASYNC110
        await asyncio.sleep(_PIPE_CHECK)
