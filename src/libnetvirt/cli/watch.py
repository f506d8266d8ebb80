"""``watch``: the states of networks and the events, as they change."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Annotated, NamedTuple

import typer

from libnetvirt import Event, NetworkNotFound, NetworkState, State, aio
from libnetvirt.cli import events as event_lines
from libnetvirt.cli import screen
from libnetvirt.cli.live import LiveScreen
from libnetvirt.cli.naming import find_async
from libnetvirt.cli.options import STREAMS, Connect, Format, StreamOutput, address, chosen
from libnetvirt.cli.output import clean, line, member
from libnetvirt.errors import NetvirtError

#: Events that the screen remembers.
_REMEMBERED = 200
#: Seconds in which events are collected before states are read again because of them.
_TOGETHER = 0.2


class _Seen(NamedTuple):
    """The state of a network; ``why``: of what in it is not active."""

    name: str
    state: State
    why: str


def watch(
    ctx: typer.Context,
    network: Annotated[
        str | None, typer.Argument(metavar="[VN]", help="Only this network (UUID or name).")
    ] = None,
    interval: Annotated[
        float, typer.Option(min=0.1, metavar="S", help="Read all states again every S seconds.")
    ] = 2.0,
    count: Annotated[int | None, typer.Option(min=1, metavar="N", help="Exit after N lines.")] = None,
    connect: Connect = None,
    output: StreamOutput = None,
) -> None:
    """Watch the states of networks, and events.

    On a terminal, shows all networks with their states, and the last events below, until 'q' or Ctrl-C.
    Elsewhere, and with --count or --format json, prints a line for each state, for each one that changes, and
    for each event. A state is read again when an event is about its network, and every --interval seconds.

    \b
    Examples:
      netvirt watch
      netvirt watch blue > blue.log
      netvirt watch --format json | jq -r 'select(.kind == "state").state'
    """
    wanted = chosen(ctx, output, STREAMS)
    uri = address(ctx, connect)
    live = screen.is_terminal() and wanted is Format.TABLE and count is None
    try:
        asyncio.run(_watch(uri, network, interval, live, wanted, count))
    except KeyboardInterrupt:
        # Ctrl-C is how this command is normally ended.
        return


async def _watch(
    uri: str, key: str | None, interval: float, live: bool, output: Format, count: int | None
) -> None:
    async with await aio.open(uri) as connection:
        uuid = None if key is None else (await find_async(connection, key)).uuid
        async with _following(connection, uuid) as watching:
            await (_draw(watching, interval) if live else _print(watching, interval, output, count))


class _Watching:
    """The states as they were read last, and the events that were not taken yet."""

    def __init__(self, connection: aio.Connection, uuid: str | None) -> None:
        self._connection, self._uuid = connection, uuid
        self.states: dict[str, _Seen] = {}
        self.events: deque[Event] = deque()
        #: set when there are events, or the stream of events has ended
        self.news = asyncio.Event()
        self.ended: BaseException | None = None

    async def follow(self) -> None:
        """Collect events until the connection ends."""
        try:
            async for event in self._connection.events():
                if self._uuid is None or event.network in ("", self._uuid):
                    self.events.append(event)
                    self.news.set()
        except NetvirtError as error:
            self.ended = error
            self.news.set()

    async def read(self, only: set[str] | None = None) -> dict[str, tuple[_Seen | None, _Seen | None]]:
        """Read states again, of ``only`` these networks or of all. Returns what changed: before, now. Raises
        NetworkNotFound if the network that is watched is gone."""
        found: dict[str, _Seen] = {}
        for network in await self._connection.networks():
            if (self._uuid or network.uuid) != network.uuid:
                continue
            if only is not None and network.uuid not in only and network.uuid in self.states:
                found[network.uuid] = self.states[network.uuid]
                continue
            with suppress(NetworkNotFound):  # removed after the list was read
                state = await network.state()
                why = "; ".join([*_bad(state), *state.drift])
                found[network.uuid] = _Seen(state.name, state.state, clean(why))
        changed = {
            uuid: (self.states.get(uuid), found.get(uuid))
            for uuid in [*self.states, *(u for u in found if u not in self.states)]
            if self.states.get(uuid) != found.get(uuid)
        }
        self.states = found
        return changed


def _bad(state: NetworkState) -> Iterator[str]:
    """The endpoints and constraints that are not active."""
    for e in state.endpoints:
        if e.state is not State.ACTIVE:
            yield f"endpoint {e.uuid} {e.state}: {e.reason}"
    for c in state.constraints:
        if c.state is not State.ACTIVE:
            yield f"constraint {c.source}->{c.destination} {c.state}: {c.reason}"


@asynccontextmanager
async def _following(connection: aio.Connection, uuid: str | None) -> AsyncIterator[_Watching]:
    watching = _Watching(connection, uuid)
    task = asyncio.create_task(watching.follow())
    closed = asyncio.create_task(event_lines.pipe_closed())
    body = asyncio.current_task()
    assert body is not None
    gone = False

    def stop(_: object) -> None:
        nonlocal gone
        if not closed.cancelled():
            gone = True
            body.cancel()

    closed.add_done_callback(stop)
    try:
        yield watching
    except asyncio.CancelledError:
        # The reader of stdout has closed it, which ends the command.
        if not gone:
            raise
        body.uncancel()
    finally:
        closed.remove_done_callback(stop)
        for one in (task, closed):
            one.cancel()
        await asyncio.wait({task, closed}, timeout=event_lines.END)


async def _print(watching: _Watching, interval: float, output: Format, count: int | None) -> None:
    """Print lines until there are ``count``."""
    printed, full = 0, 0.0
    while True:
        lines: list[tuple[str, dict[str, object]]] = []
        seen = list(watching.events)
        watching.events.clear()
        watching.news.clear()
        lines += [(event_lines.text(event), event.to_json()) for event in seen]
        everything = time.monotonic() >= full or not all(event.network for event in seen)
        changed = await watching.read(None if everything else {event.network for event in seen})
        if everything:
            full = time.monotonic() + interval
        lines += [_state_line(uuid, *pair) for uuid, pair in changed.items()]
        for text, found in lines if count is None else lines[: count - printed]:
            if output is Format.TABLE:
                line(text)
            else:
                member(found, output)
            printed += 1
        sys.stdout.flush()
        if count is not None and printed >= count:
            return
        if watching.ended is not None:
            raise watching.ended
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, full - time.monotonic())):
                await watching.news.wait()
                await asyncio.sleep(_TOGETHER)


def _state_line(uuid: str, before: _Seen | None, now: _Seen | None) -> tuple[str, dict[str, object]]:
    """A change of a network's state, in words and as a document."""
    moment = time.time()
    one = now or before
    assert one is not None
    found: dict[str, object] = {
        "time": moment, "kind": "state", "network": uuid, "name": one.name,
        "before": before and str(before.state), "state": now and str(now.state),
        "reason": now.why if now else "",
    }  # fmt: skip
    was = f" (before: {before.state})" if before and now and before.state != now.state else ""
    why = f": {now.why}" if now and now.why else ""
    text = f"network {one.name} ({uuid}) is {now.state if now else 'gone'}{was}{why}"
    return event_lines.text(Event(time=moment, kind="state", message=text)), found


async def _draw(watching: _Watching, interval: float) -> None:
    """Draw all states, and the last events, until a key ends it."""
    remembered: deque[Event] = deque(maxlen=_REMEMBERED)
    with LiveScreen() as live:
        only: set[str] | None = None
        while True:
            await watching.read(only)
            live.draw(_lines(watching, list(remembered), live.height))
            if watching.ended is not None:
                raise watching.ended
            if not await live.wait(interval, watching.news):
                return
            if watching.news.is_set():
                await asyncio.sleep(min(interval, _TOGETHER))
            networks = {event.network for event in watching.events}
            only = networks if networks and "" not in networks else None
            remembered += watching.events
            watching.events.clear()
            watching.news.clear()


def _lines(watching: _Watching, events: list[Event], height: int) -> list[str]:
    """The whole screen: the networks that are not active first, then the others, then the last events."""
    order = sorted(watching.states.items(), key=lambda item: item[1].state is State.ACTIVE)
    rows = [[uuid, clean(seen.name), str(seen.state), seen.why or "-"] for uuid, seen in order]
    below = min(len(events), max(3, height - len(rows) - 5))
    table = screen.fitted(["UUID", "NAME", "STATE", "REASON"], rows, screen.width())
    active = sum(seen.state is State.ACTIVE for seen in watching.states.values())
    networks = "1 network" if len(rows) == 1 else f"{len(rows)} networks"
    title = f"{time.strftime('%H:%M:%S')}  {networks}, {active} active   (q: quit)"
    room = max(2, height - below - 3)
    if len(table) > room:
        table = [*table[: room - 1], f"(and {len(table) - room + 1} more)"]
    return [title, "", *table, "", *(event_lines.text(event) for event in events[len(events) - below :])]
