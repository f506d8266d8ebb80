"""``top``: what networks and links carry, live or once."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import suppress
from typing import Annotated, Any

import typer

from libnetvirt import aio
from libnetvirt.cli import events, screen
from libnetvirt.cli.live import LiveScreen
from libnetvirt.cli.naming import find_async
from libnetvirt.cli.options import REPORTS, Connect, Format, Output, address, chosen
from libnetvirt.cli.output import clean, document, line, member
from libnetvirt.cli.traffic import Sample, link_rows, rate, rates, sample

_TRAFFIC = ["RECEIVED", "PACKETS/S", "DELIVERED", "PACKETS/S"]
LINKS = ["FROM", "PORT", "TO", "PORT", "STATE", "LOAD", "OF", "CAPACITY", "RESERVED"]


def top(
    ctx: typer.Context,
    network: Annotated[
        str | None, typer.Argument(metavar="[VN]", help="The endpoints of this network (UUID or name).")
    ] = None,
    interval: Annotated[
        float, typer.Option("--interval", "-i", min=0.1, metavar="S", help="Seconds between two readings.")
    ] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print one reading and exit.")] = False,
    count: Annotated[int | None, typer.Option(min=1, metavar="N", help="Print N readings and exit.")] = None,
    connect: Connect = None,
    output: Output = None,
) -> None:
    """Show the traffic of networks and links.

    Shows what hosts send into each network and what is delivered to them, as the mean of the last --interval
    seconds, and the load of each link, if the driver measures it. On a terminal, the screen is drawn again
    until 'q' or Ctrl-C; elsewhere, readings are printed one after the other. Each reading asks the switches.

    \b
    Examples:
      netvirt top
      netvirt top blue
      netvirt top --once --format json | jq '.networks[0]'
    """
    wanted = chosen(ctx, output, REPORTS)
    if once and count not in (None, 1):
        raise typer.BadParameter("--once and --count exclude each other.", ctx=ctx)
    count = 1 if once else count
    uri = address(ctx, connect)
    live = screen.is_terminal() and wanted is Format.TABLE and count is None
    try:
        asyncio.run(_run(uri, network, interval, live, wanted, count))
    except KeyboardInterrupt:
        # Ctrl-C is how this command is normally ended.
        return


async def _run(
    uri: str, name: str | None, interval: float, live: bool, output: Format, count: int | None
) -> None:
    async with await aio.open(uri) as connection:
        uuid = None if name is None else (await find_async(connection, name)).uuid
        before = await sample(connection, uuid)
        if live:
            await _draw(connection, uuid, interval, before)
            return
        closed = asyncio.create_task(events.pipe_closed())
        try:
            printed = 0
            while count is None or printed < count:
                await asyncio.wait({closed}, timeout=interval)
                if closed.done():
                    return
                now = await sample(connection, uuid)
                _print(before, now, uuid, output, count == 1)
                before, printed = now, printed + 1
        finally:
            closed.cancel()
            with suppress(asyncio.CancelledError):
                await closed


async def _draw(connection: aio.Connection, uuid: str | None, interval: float, before: Sample) -> None:
    with LiveScreen() as screen_:
        now = before
        while True:
            screen_.draw(_lines(before, now, uuid, screen.width(), headline=True))
            if not await screen_.wait(interval):
                return
            before, now = now, await sample(connection, uuid)


def _print(before: Sample, now: Sample, uuid: str | None, output: Format, only: bool) -> None:
    """Print a reading; ``only``: there is no other."""
    if output.tabular:
        room = sys.maxsize if output is Format.WIDE or not screen.is_terminal() else screen.width()
        for text in [*_lines(before, now, uuid, room, headline=False), *([] if only else [""])]:
            line(text)
    else:
        found = _reading(before, now, uuid)
        (document if only else member)(found, output)
    sys.stdout.flush()


def _reading(before: Sample, now: Sample, uuid: str | None) -> dict[str, Any]:
    rows = None if now.counters is None else rates(before, now)
    return {
        "time": time.time(),
        "seconds": round(now.at - before.at, 3),
        "networks" if uuid is None else "endpoints": rows,
        "links": link_rows(now),
    }


def _lines(before: Sample, now: Sample, uuid: str | None, room: int, headline: bool) -> list[str]:
    lines: list[str] = []
    if headline:
        name = f"network {clean(now.names.get(uuid, uuid))}  " if uuid else ""
        lines = [f"{time.strftime('%H:%M:%S')}  {name}(q: quit)", ""]
    if now.counters is None:
        lines += ["This driver does not count traffic."]
    else:
        first = "NAME" if uuid is None else "ENDPOINT"
        rows = [
            [
                clean(row["name"] if uuid is None else row["uuid"]),
                rate(row["received-bits-per-second"]), str(row["received-packets-per-second"]),
                rate(row["delivered-bits-per-second"]), str(row["delivered-packets-per-second"]),
            ]
            for row in rates(before, now)
        ]  # fmt: skip
        lines += _table([first, *_TRAFFIC], rows, room)
    links = [
        [
            *(clean(row[name]) for name in ("switch", "port", "peer", "peer-port", "state")),
            rate(row["load"]), "-" if row["utilisation"] is None else f"{row['utilisation']:.0%}",
            rate(row["capacity"] or None), rate(row["reserved"] or None),
        ]
        for row in link_rows(now)
    ]  # fmt: skip
    return [*lines, "", *_table(LINKS, links, room)]


def _table(headings: list[str], rows: list[list[str]], room: int) -> list[str]:
    return screen.fitted(headings, rows, room) if screen.is_terminal() else screen.plain(headings, rows)
