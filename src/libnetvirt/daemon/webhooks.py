"""Webhooks: the events of a connection's log, sent to receivers in their order, again until they are taken.

Each hook has a position in the log, the number of the last event that its receiver has taken, or that is not
for it. It is kept in the log, so that a hook goes on there after a restart. A receiver that takes no events
is tried again and again; those that are too old for the log by then are lost, and it is told so.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

from libnetvirt.configuration.webhooks import Webhook
from libnetvirt.daemon import activity
from libnetvirt.daemon.broadcast import Broadcast
from libnetvirt.daemon.event_file import Row
from libnetvirt.daemon.event_log import EventLog
from libnetvirt.daemon.webhook_post import DeliveryFailed, SideLoop, place, post
from libnetvirt.events import LOST
from libnetvirt.model import Event, Measured, Metric
from libnetvirt.tasks import Tasks

#: Events that are sent at once, at most, and their bytes, unless one has more.
EVENTS: Final = 100
BYTES: Final = 256 * 2**10
#: Seconds until a receiver that failed is tried again: at first, and at most. They double with each failure.
RETRY: Final = 1.0
RETRY_MAX: Final = 300.0
#: Seconds after which a hook that fails is reported by an event.
FAILING: Final = 60.0
# Events that are not for a hook after which its position is kept all the same.
_SKIPPED: Final = 1000


class Hook:
    """One webhook and one connection.

    ``report``: publishes an event of a kind with a message. ``connection``: its name.
    """

    def __init__(
        self,
        settings: Webhook,
        connection: str,
        events: Broadcast,
        log: EventLog,
        side: SideLoop,
        report: Callable[[str, str], None],
    ) -> None:
        self.settings = settings
        self.connection = connection
        #: events that its receiver has taken, and deliveries that failed
        self.delivered = self.failures = 0
        self._events, self._log, self._side, self._report = events, log, side, report
        self._position = self._kept = 0
        # Since when the first event that its receiver has not taken waits, in seconds of the epoch.
        self._waits_since: float | None = None
        self._failing_since: float | None = None
        self._reported = False

    @property
    def lag(self) -> float:
        """For how many seconds the first event waits that the receiver has not taken."""
        return 0.0 if self._waits_since is None else max(0.0, time.time() - self._waits_since)

    async def run(self) -> None:
        """Deliver events until cancelled."""
        written = asyncio.Event()
        self._log.readers.add(written)
        try:
            await self._begin()
            while True:
                written.clear()
                if not await self._step():
                    await written.wait()
        finally:
            self._log.readers.discard(written)

    async def keep(self) -> None:
        """Keep the position."""
        if self._position != self._kept:
            self._kept = position = self._position
            await self._log.ask(lambda: self._log.file.set_position(self.settings.name, position), None)

    async def _begin(self) -> None:
        """A new hook begins with the events from now on."""
        now = self._events.published
        nothing: dict[str, int] | None = None
        while (positions := await self._log.ask(self._positions, nothing)) is None:  # noqa: ASYNC110
            await asyncio.sleep(RETRY)
        self._kept = positions.get(self.settings.name, -1)
        self._position = now if self._kept < 0 else min(self._kept, now)
        await self.keep()

    def _positions(self) -> dict[str, int] | None:
        return self._log.file.positions()

    async def _step(self) -> bool:
        """Deliver the next events. Returns whether there were any."""
        rows = await self._log.after(self._position, BYTES, EVENTS)
        if not rows:
            return False
        lines = self._lines(rows)
        if lines:
            # Those before the first one for this hook need not be read again.
            self._waits_since = rows[0].time
            await self._deliver(lines)
            self._waits_since = None
        self._position = rows[-1].number
        if lines or self._position - self._kept > _SKIPPED:
            await self.keep()
        return True

    def _lines(self, rows: Sequence[Row]) -> list[bytes]:
        """What the receiver gets of these events."""
        lines, position = [], self._position
        for row in rows:
            if row.number != position + 1:
                lines.append(self._events.lost_between(position, row.number - 1).strip())
            if self._wants(row.line):
                lines.append(row.line.strip())
            position = row.number
        return lines

    def _wants(self, line: bytes) -> bool:
        kinds, networks = self.settings.kinds, self.settings.networks
        if not kinds and not networks:
            return True
        event: dict[str, Any] = json.loads(line)
        if event["kind"] == LOST:
            return True
        return (not networks or event["network"] in networks) and (
            not kinds or any(fnmatchcase(event["kind"], pattern) for pattern in kinds)
        )

    async def _deliver(self, lines: Sequence[bytes]) -> None:
        """Send events until they are taken."""
        head = json.dumps({"webhook": self.settings.name, "connection": self.connection})
        body = head[:-1].encode() + b', "events": [' + b",".join(lines) + b"]}"
        delay = RETRY
        while True:
            try:
                await self._side.run(post(self.settings, body))
            except DeliveryFailed as error:
                self._failed(str(error))
                # So that receivers that were gone do not get all at the same moment.
                await asyncio.sleep(delay * random.uniform(0.8, 1.2))
                delay = min(2 * delay, RETRY_MAX)
            else:
                self.delivered += len(lines)
                self._succeeded()
                return

    def _failed(self, reason: str) -> None:
        self.failures += 1
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        if not self._reported and now - self._failing_since >= FAILING:
            self._reported = True
            self._report(
                "webhook.failing",
                f"webhook {self.settings.name}: {place(self.settings)} has taken no events for "
                f"{now - self._failing_since:.0f} s: {reason}",
            )

    def _succeeded(self) -> None:
        self._failing_since = None
        if self._reported:
            self._reported = False
            self._report(
                "webhook.recovered",
                f"webhook {self.settings.name}: {place(self.settings)} takes events again",
            )


class Hooks:
    """The webhooks of one connection, and how a new configuration changes them."""

    def __init__(self, events: Broadcast, publish: Callable[[Event], None]) -> None:
        self._events = events
        self._publish = publish
        self._side = SideLoop()
        self._tasks = Tasks()
        self._running: dict[str, tuple[Hook, asyncio.Task[None]]] = {}

    def metrics(self) -> Iterator[tuple[Metric, list[Measured]]]:
        """What monitoring tells of them."""
        hooks = [(hook, (hook.settings.name,)) for hook, _ in self._running.values()]
        if hooks:
            yield activity.HOOK_DELIVERED, [Measured(labels, hook.delivered) for hook, labels in hooks]
            yield activity.HOOK_FAILURES, [Measured(labels, hook.failures) for hook, labels in hooks]
            yield activity.HOOK_LAG, [Measured(labels, hook.lag) for hook, labels in hooks]

    async def set(self, wanted: Iterable[Webhook], connection: str) -> None:
        """Have these webhooks, and no others. One that stays the same goes on; the position of one that is
        gone is forgotten."""
        log = self._events.log
        if log is None:
            return
        by_name = {one.name: one for one in wanted}
        for name, (hook, task) in list(self._running.items()):
            hook.connection = connection
            if by_name.get(name) != hook.settings:
                await self._stop(name, hook, task)
        await log.ask(lambda: log.file.forget_hooks(tuple(by_name)), None)
        for name, settings in by_name.items():
            if name not in self._running:
                hook = Hook(settings, connection, self._events, log, self._side, self._reporting(name))
                self._running[name] = hook, self._tasks.spawn(hook.run())

    async def close(self) -> None:
        """End all; they go on where they are when they are opened again."""
        for name, (hook, task) in list(self._running.items()):
            await self._stop(name, hook, task)
        await self._tasks.close()
        self._side.close()

    async def _stop(self, name: str, hook: Hook, task: asyncio.Task[None]) -> None:
        del self._running[name]
        task.cancel()
        await asyncio.wait({task})
        await hook.keep()

    def _reporting(self, name: str) -> Callable[[str, str], None]:
        def report(kind: str, message: str) -> None:
            self._publish(Event(time=time.time(), kind=kind, message=message, fields={"webhook": name}))

        return report
