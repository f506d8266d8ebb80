"""The open connections of a daemon, by name, and how a new configuration changes them."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from fastapi import FastAPI

from libnetvirt import aio
from libnetvirt.configuration import ConnectionSettings
from libnetvirt.configuration.events import EventsSettings
from libnetvirt.configuration.webhooks import Webhook
from libnetvirt.daemon.app import Service, build_app
from libnetvirt.daemon.broadcast import KEPT, Broadcast
from libnetvirt.daemon.event_log import EventLog, log_path
from libnetvirt.errors import ConnectionFailed, Fault, InvalidDescription, NetvirtError, NotFound, Unsupported
from libnetvirt.model import Event
from libnetvirt.suggestions import did_you_mean
from libnetvirt.tasks import Tasks

log = logging.getLogger("libnetvirt.daemon")

#: Seconds until a connection that cannot be opened is tried again: at first, and at most.
RETRY: Final = 1.0
RETRY_MAX: Final = 30.0
#: Seconds that the running changes of a connection have when it is closed; then the driver undoes them.
CLOSING: Final = 30.0

#: Seconds of a day.
DAY: Final = 86400.0

#: Makes what is called with each event of a connection, from its name; None: warnings are logged.
OnEvent = Callable[[str], Callable[[Event], None]]


class Opened:
    """A connection that is open, and the application that serves it."""

    def __init__(self, connection: aio.Connection, app: FastAPI) -> None:
        self.connection = connection
        self.app = app
        self.service: Service = app.state.service

    @classmethod
    async def open(cls, name: str, uri: str, on_event: OnEvent | None, events: EventsSettings) -> Opened:
        """Open the driver and begin to read its events. Raises what ``aio.open`` raises."""
        connection = await aio.open(uri)
        try:
            broadcast = await _broadcast(connection, name, events)
        except BaseException:
            await connection.close()
            raise
        connection.driver.maintain()
        app = build_app(connection, on_event(name) if on_event is not None else None, name, broadcast)
        app.state.service.watch()
        return cls(connection, app)

    async def close(self) -> None:
        """Wait for running changes, end the streams of events, close the driver."""
        limit = asyncio.get_running_loop().call_later(CLOSING, self.service.operations.cancel)
        try:
            await self.service.close()
        finally:
            limit.cancel()
            await self.connection.close()


@dataclasses.dataclass(eq=False)
class Slot:
    """A connection of the configuration. ``opened`` is None while it cannot be used, ``reason`` tells why."""

    name: str
    settings: ConnectionSettings
    opened: Opened | None = None
    reason: str = ""
    #: tries again, while it is not open
    retry: asyncio.Task[None] | None = None


class Connections:
    """The connections by name. All methods are called in the event loop's thread, those that change something
    one at a time."""

    def __init__(self, on_event: OnEvent | None = None, several: bool = True) -> None:
        self._on_event = on_event
        self._slots: dict[str, Slot] = {}
        self._tasks = Tasks()
        # Whether messages have to tell the connection.
        self._several = several
        self._events = EventsSettings()
        self._hooks: Sequence[Webhook] = ()

    def __iter__(self) -> Iterator[Slot]:
        return iter(self._slots.values())

    @property
    def names(self) -> list[str]:
        """The names, in the order of the configuration."""
        return list(self._slots)

    def get(self, name: str) -> Opened:
        """An open connection. Raises NotFound, or ConnectionFailed if it is not open now."""
        if (slot := self._slots.get(name)) is None:
            meant = did_you_mean(name, self._slots) or f" It has {', '.join(self._slots) or 'none'}"
            raise NotFound(f"the server has no connection {name!r}.{meant}")
        if slot.opened is None:
            raise ConnectionFailed(f"the server's connection {name!r} is not open: {slot.reason}")
        return slot.opened

    async def open(self, wanted: Mapping[str, ConnectionSettings]) -> None:
        """Open all; if one that is required cannot be, none. Raises what the driver raises."""
        await self.change(wanted)

    async def change(self, wanted: Mapping[str, ConnectionSettings]) -> list[str]:
        """Make the open connections those that are wanted. Returns what was done, one line each.

        What stays is not touched, nor is a connection that only gets another name. New ones are opened
        before old ones are closed, unless they need something that an old one holds, such as its port. If one
        cannot be opened, all is undone, and the error raised.
        """
        before = dict(self._slots)
        kept = self._kept(wanted)
        going = [slot for name, slot in before.items() if slot not in kept.values()]
        coming = [name for name in wanted if name not in kept]
        opened: dict[str, Slot] = {}
        closed: list[Slot] = []
        try:
            # One that replaces an old one of its name holds, as a rule, the same port and file.
            waiting = [name for name in coming if name in before]
            for name in coming:
                if name not in waiting:
                    try:
                        opened[name] = await self._open(name, wanted[name])
                    except NetvirtError:
                        if not going:
                            raise
                        waiting.append(name)
            for slot in going:
                closed.append(slot)
                await self._close(slot, "the configuration is being reloaded")
            for name in waiting:
                opened[name] = await self._open(name, wanted[name])
        except BaseException:
            for slot in opened.values():
                await self._close(slot, "it was not configured after all")
            for slot in closed:
                await self._reopen(slot)
            raise
        lines = [
            *(f"connection {slot.name} closed" for slot in going if slot.name not in wanted),
            *(
                f"connection {slot.name} is now called {name}"
                for name, slot in kept.items() if slot.name != name
            ),
            *(f"connection {name} opened {'again' if name in before else ''}".rstrip() for name in opened),
        ]  # fmt: skip
        self._slots = {name: opened.get(name) or kept[name] for name in wanted}
        for name, slot in self._slots.items():
            slot.name, slot.settings = name, wanted[name]
            if slot.opened is not None and self._several:
                slot.opened.service.rename(name)
        return lines

    def planned(self, wanted: Mapping[str, ConnectionSettings]) -> list[str]:
        """What :meth:`change` would do, one line each."""
        kept = self._kept(wanted)
        return [
            *(f"connection {slot.name} would be closed" for slot in self if slot.name not in wanted
              and slot not in kept.values()),
            *(f"connection {slot.name} would be called {name}" for name, slot in kept.items()
              if slot.name != name),
            *(f"connection {name} would be opened{' again' if name in self._slots else ''}"
              for name in wanted if name not in kept),
        ]  # fmt: skip

    async def preview_reload(self, wanted: Mapping[str, ConnectionSettings], *, degrade: bool) -> list[str]:
        """What :meth:`reload` would do in the connections that stay. Raises what a driver raises."""
        lines: list[str] = []
        for name, slot in self._kept(wanted).items():
            if slot.opened is None:
                continue
            where = f"connection {name}: " if self._several else ""
            try:
                planned = await slot.opened.connection.rehearsal().reload(degrade=degrade)
            except Unsupported:
                if not self._several:
                    raise
            except NetvirtError as error:
                raise (named(error, name) if where else error) from None
            else:
                planned = planned or ("capacities would be reloaded; every constraint keeps its path",)
                lines += [where + text for text in planned]
        return lines

    def keep_events(self, settings: EventsSettings) -> None:
        """How many events are kept, and for how long, in the logs of all connections. A new directory is for
        connections that are opened from now on."""
        self._events = settings
        for slot in self:
            if slot.opened is not None and (log := slot.opened.service.events.log) is not None:
                log.keep, log.age = settings.keep, settings.days * DAY

    async def set_hooks(self, wanted: Sequence[Webhook]) -> None:
        """Have these webhooks send events, those of connections that are opened later, too."""
        self._hooks = wanted
        for slot in self:
            if slot.opened is not None:
                await self._hook(slot.name, slot.opened)

    async def _hook(self, name: str, opened: Opened) -> None:
        hooks = [one for one in self._hooks if one.connection in (None, name)]
        await opened.service.hooks.set(hooks, name)
        if hooks and opened.service.events.log is None:
            log.warning(
                "connection %s has no log of events, and so no webhooks: "
                "name a directory in [events], and restart",
                name,
            )

    async def reload(self, *, degrade: bool) -> list[str]:
        """Have each driver reload the operator's files, such as the capacities of links; tells what came of
        it.

        Drivers without such files are passed over, unless there is only this one. Raises what a driver
        raises; the others have reloaded theirs then.
        """
        lines: list[str] = []
        errors: list[NetvirtError] = []
        for slot in list(self):
            if slot.opened is None:
                continue
            where = f"connection {slot.name}: " if self._several else ""
            try:
                done = await slot.opened.connection.reload(degrade=degrade)
                done = done or ("capacities reloaded; every constraint keeps its path",)
                lines += [where + text for text in done]
            except Unsupported:
                if not self._several:
                    raise
            except NetvirtError as error:
                errors.append(error if not where else named(error, slot.name))
        if errors:
            raise also(errors[0], "\n".join([*map(str, errors[1:]), *lines]))
        return lines

    def stop(self, *, withdraw: bool) -> None:
        """End all streams of events; ``withdraw``: the drivers undo running changes."""
        for slot in self:
            if slot.opened is not None:
                if withdraw:
                    slot.opened.service.operations.cancel()
                slot.opened.service.events.close()
                slot.opened.service.operations.end_waits()

    async def close(self) -> None:
        """Close all, when their running changes have ended."""
        await asyncio.gather(*(self._close(slot, "the server ends") for slot in self))

    def _kept(self, wanted: Mapping[str, ConnectionSettings]) -> dict[str, Slot]:
        """The slots that stay as they are, by their name in the future."""
        kept = {
            name: self._slots[name]
            for name, settings in wanted.items()
            if name in self._slots and self._slots[name].settings.uri == settings.uri
        }
        for name, settings in wanted.items():
            if name not in kept:
                for slot in self:
                    if slot not in kept.values() and slot.settings.uri == settings.uri:
                        kept[name] = slot
                        break
        return kept

    async def _open(self, name: str, settings: ConnectionSettings) -> Slot:
        slot = Slot(name, settings)
        try:
            slot.opened = await self._opened(slot)
        except NetvirtError as error:
            if settings.required:
                raise (named(error, name) if self._several else error) from None
            self._not_open(slot, error)
        return slot

    async def _close(self, slot: Slot, reason: str) -> None:
        if slot.retry is not None:
            slot.retry.cancel()
            await asyncio.wait({slot.retry})
            slot.retry = None
        slot.reason = reason
        opened, slot.opened = slot.opened, None
        if opened is not None:
            await opened.close()

    async def _reopen(self, slot: Slot) -> None:
        """Open a slot again that was closed for a change that failed."""
        try:
            slot.opened = await self._opened(slot)
        except NetvirtError as error:
            self._not_open(slot, error)

    async def _opened(self, slot: Slot) -> Opened:
        name = slot.name if self._several else ""
        opened = await Opened.open(name, slot.settings.uri, self._on_event, self._events)
        await self._hook(slot.name, opened)
        return opened

    async def _retry(self, slot: Slot) -> None:
        delay = RETRY
        while slot.opened is None:
            await asyncio.sleep(delay)
            delay = min(2 * delay, RETRY_MAX)
            try:
                slot.opened = await self._opened(slot)
            except NetvirtError as error:
                if str(error) != slot.reason:
                    self._not_open(slot, error)
        log.info("connection %s is open", slot.name)

    def _not_open(self, slot: Slot, error: NetvirtError) -> None:
        slot.reason = str(error)
        log.warning("connection %s is not open, and is tried again: %s", slot.name, error)
        if slot.retry is None:
            slot.retry = self._tasks.spawn(self._retry(slot))


async def _broadcast(connection: aio.Connection, name: str, settings: EventsSettings) -> Broadcast:
    """The events of a connection, with those in its log."""
    path = log_path(connection.driver.state_file, settings.directory, name)
    log = await EventLog.open(path, settings.keep, settings.days * DAY) if path is not None else None
    if log is None:
        return Broadcast()
    kept = min(KEPT, settings.keep)
    return Broadcast(kept=kept, log=log, recent=await log.newest(kept))


def named(error: NetvirtError, name: str) -> NetvirtError:
    """An error of the same kind that tells the connection, too."""
    if isinstance(error, InvalidDescription):
        return type(error)(
            dataclasses.replace(fault, path=f"connections.{name}{'.' if fault.path else ''}{fault.path}")
            for fault in error.faults
        )
    return type(error)(f"connection {name}: {error}")


def also(error: NetvirtError, text: str) -> NetvirtError:
    """An error of the same kind that tells something more, on lines of its own."""
    if not text:
        return error
    if isinstance(error, InvalidDescription):
        return type(error)([*error.faults, Fault(text)])
    return type(error)(f"{error}\n{text}")
