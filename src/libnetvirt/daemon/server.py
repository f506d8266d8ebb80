"""Runs a daemon: opens its connections and listeners, reloads its configuration, ends it."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from libnetvirt.acceptor import raise_descriptor_limit
from libnetvirt.configuration import (
    Configuration,
    ConnectionSettings,
    MetricsSettings,
    TcpListener,
    UnixListener,
    load,
)
from libnetvirt.configuration.models import TOKENS
from libnetvirt.daemon.connections import Connections, OnEvent, also
from libnetvirt.daemon.http_server import HttpServer
from libnetvirt.daemon.listeners import Listeners
from libnetvirt.daemon.metrics_listener import MetricsListener
from libnetvirt.daemon.monitoring import Monitor, Served
from libnetvirt.daemon.notify import Notifier
from libnetvirt.daemon.resources import build_resources
from libnetvirt.errors import Conflict, InvalidURI, NetvirtError, Unsupported
from libnetvirt.event_loop import new_event_loop
from libnetvirt.model import Event
from libnetvirt.tasks import Tasks
from libnetvirt.uri import URI

log = logging.getLogger("libnetvirt.daemon")

#: Descriptors that clients leave to switches, databases and files.
RESERVED = 4096
# Seconds that a reload may go on after a signal to end.
_RELOADING = 60.0
_NOT_RELOADED = "the link capacities were not reloaded"


class Daemon:
    """A daemon with a configuration. ``file``: where the configuration is read again from at a reload;
    without it, a reload concerns only the files of the operator that the drivers read."""

    def __init__(
        self,
        configuration: Configuration,
        file: Path | None = None,
        *,
        ready: Callable[[], None] = lambda: None,
        on_event: OnEvent | None = None,
        configured: Callable[[Configuration], None] = lambda _: None,
    ) -> None:
        self.configuration = configuration
        self.file = "" if file is None else str(file)
        self.connections = Connections(on_event, several=file is not None)
        self._ready = ready
        self._configured = configured
        self._notifier = Notifier.from_environment()
        self._reloads = asyncio.Lock()
        self._tasks = Tasks()
        self._hang_ups = Tasks()
        self._server = HttpServer(_share_of_descriptors(raise_descriptor_limit()), self._started)
        self.monitor = Monitor(self._watched)
        self._listeners = Listeners(self._server, self.connections, build_resources(self))
        self._metrics = MetricsListener(self._server, self.monitor)

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Must run in the main thread. SIGHUP reloads, and logs the outcome. After SIGTERM or SIGINT, running
        changes are completed (a second signal has the drivers undo them), the connections are closed and the
        sockets removed. Raises what prevents the start: InvalidURI, AddressInUse, StateUnusable,
        ConnectionFailed.
        """
        with _ignoring_hang_up():
            try:
                self._listeners.prepare(self.configuration)
                self._listeners.settle(self.configuration)
                self._metrics.prepare(self.configuration)
                self._metrics.settle()
                self.connections.keep_events(self.configuration.events)
                await self.connections.set_hooks(self.configuration.webhook)
                await self.connections.open(self.configuration.connections)
                with self._signals(), self.monitor.watching():
                    await self._serve()
            except NetvirtError as error:
                self._notifier.failed(error)
                raise
            finally:
                await self._hang_ups.close()
                await self.connections.close()
                await self._listeners.close()
                self._metrics.close()
                await self._tasks.close()

    async def reload(self, *, degrade: bool) -> Sequence[str]:
        """Read the configuration again and do what it says, then have all drivers reload their files.

        Returns what was done, one line each. ``degrade``: as for ``Connection.reload``. Connections that did
        not change are not touched. If the configuration has a fault, or something in it cannot be opened, it
        is refused as a whole, and the one before stays in use. Raises InvalidDescription, AddressInUse,
        ConnectionFailed, StateUnusable, Conflict if the server ends.
        """
        async with self._reloads:
            if self._server.should_exit:
                raise Conflict("the server ends: nothing is reloaded")
            self._notifier.reloading()
            try:
                lines = await self._reconfigure(Path(self.file)) if self.file else []
                try:
                    return [*lines, *await self.connections.reload(degrade=degrade)]
                except NetvirtError as error:
                    raise also(error, f"Done: {'; '.join(lines)}." if lines else "") from None
            finally:
                self._tell_ready()

    async def preview_reload(self, *, degrade: bool) -> Sequence[str]:
        """What :meth:`reload` would do, one line each. Changes and opens nothing, so whether what is new can
        be opened is not told. Raises InvalidDescription, and what drivers raise."""
        lines: list[str] = []
        connections: Mapping[str, ConnectionSettings] = self.configuration.connections
        if self.file:
            wanted = await asyncio.to_thread(load, Path(self.file))
            lines += self._listeners.planned(wanted)
            if (metrics := wanted.metrics.listen) != (before := self.configuration.metrics.listen):
                lines += [f"metrics would no longer be served on {before}"] if before else []
                lines += [f"metrics would be served on {metrics}"] if metrics else []
            lines += self.connections.planned(wanted.connections)
            changed = wanted != self.configuration
            lines = lines or [f"the configuration {'would change' if changed else 'has not changed'}"]
            connections = wanted.connections
        return [*lines, *await self.connections.preview_reload(connections, degrade=degrade)]

    async def _reconfigure(self, file: Path) -> list[str]:
        wanted = await asyncio.to_thread(load, file)
        lines = self._listeners.prepare(wanted)
        self.connections.keep_events(wanted.events)
        try:
            lines += self._metrics.prepare(wanted)
            lines += await self.connections.change(wanted.connections)
        except BaseException:
            self._listeners.undo()
            self._metrics.undo()
            self.connections.keep_events(self.configuration.events)
            raise
        changed = wanted != self.configuration
        self.configuration = wanted
        lines += self._listeners.settle(wanted)
        lines += self._metrics.settle()
        await self.connections.set_hooks(wanted.webhook)
        self._configured(wanted)
        return lines or [f"the configuration has {'changed' if changed else 'not changed'}"]

    async def _serve(self) -> None:
        serving = asyncio.create_task(self._server.serve())
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            # Shut down as after a signal, so that no client's connection outlives the server.
            self._stop()
            await serving
            raise
        finally:
            await self._hang_ups.finish(_RELOADING)

    def _watched(self) -> dict[str, Served | str]:
        return {
            slot.name: slot.reason if slot.opened is None else slot.opened.service
            for slot in self.connections
        }

    def _started(self) -> None:
        if self._notifier.watchdog is not None:
            self._tasks.every(self._notifier.watchdog / 3, self._notifier.alive)
        self._tell_ready()
        self._ready()

    def _tell_ready(self) -> None:
        if not self._server.should_exit:
            slots = list(self.connections)
            closed = [slot.name for slot in slots if slot.opened is None]
            not_open = f"; not open: {', '.join(closed)}" if closed else ""
            self._notifier.ready(f"serving {', '.join(slot.name for slot in slots)}{not_open}")

    def _stop(self) -> None:
        self._notifier.stopping()
        self.connections.stop(withdraw=self._server.should_exit)
        self._server.should_exit = True

    @contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._hang_ups.spawn(self._hang_up()))
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)
            # The loop has restored the default, which ends the process.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

    async def _hang_up(self) -> None:
        try:
            lines = await self.reload(degrade=False)
        except Unsupported as error:
            log.info("SIGHUP: nothing to reload: %s", error)
        except Conflict as error:
            log.info("SIGHUP: %s", error)
        except NetvirtError as error:
            what = "not reloaded, what was configured stays" if self.file else _NOT_RELOADED
            log.warning("SIGHUP: %s: %s", what, "; ".join(str(error).splitlines()))
        else:
            log.info("SIGHUP: %s", "; ".join(lines))


def run(
    uri: str,
    socket_path: str | Path,
    *,
    ready: Callable[[], None] | None = None,
    on_event: Callable[[Event], None] | None = None,
    metrics: str = "",
    page: str = "",
    tokens: str | Path = TOKENS,
) -> None:
    """Run :func:`serve` in a new event loop. Blocks until a signal ends it."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(
            serve(uri, socket_path, ready=ready, on_event=on_event, metrics=metrics, page=page, tokens=tokens)
        )


async def serve(
    uri: str,
    socket_path: str | Path,
    *,
    ready: Callable[[], None] | None = None,
    on_event: Callable[[Event], None] | None = None,
    metrics: str = "",
    page: str = "",
    tokens: str | Path = TOKENS,
) -> None:
    """Open the driver of ``uri`` and serve it on a unix socket until SIGTERM or SIGINT: a daemon with one
    connection, and without a file of configuration.

    ``ready`` is called once clients can connect, ``on_event`` for each event of the driver. Without
    ``on_event``, events that tell what was refused or dropped are logged as warnings.

    SIGHUP reloads the capacities of links, as ``Connection.reload`` does, and logs the outcome; it never ends
    the server. After SIGTERM or SIGINT, running changes are completed (a second signal has the driver undo
    them), the connection is closed and the socket removed.

    ``metrics``: a loopback address and a port (``127.0.0.1:9091``) where metrics and health are served
    besides, for scrapers that cannot ask a unix socket; empty: none. ``page``: such an address for the web
    page, and for other clients with a token of the file ``tokens``; empty: none.

    Must run in the main thread. Raises InvalidURI if ``uri`` names a server or is wrong, or ``metrics`` or
    ``page`` is no loopback address; AddressInUse if the socket's path or the port is in use,
    ConnectionFailed if the driver or the socket cannot be opened.
    """
    if (parsed := URI.parse(uri)).transport:
        raise InvalidURI(
            f"{uri!r} names a server already: give the URI of a driver, such as {parsed.driver}:///"
        )
    # The driver checks its URI itself, and says what is wrong in the words of a command line.
    configuration = Configuration.model_construct(
        connections={"default": ConnectionSettings.model_construct(uri=uri)},
        listeners=(
            UnixListener.model_construct(path=str(socket_path)),
            *((TcpListener.model_construct(kind="tcp", address=_loopback(page)),) if page else ()),
        ),
        tokens=str(tokens),
        metrics=MetricsSettings.model_construct(listen=metrics),
    )
    await Daemon(
        configuration,
        ready=ready or (lambda: None),
        on_event=None if on_event is None else lambda _: on_event,
    ).run()


def _loopback(page: str) -> str:
    try:
        return TcpListener.model_validate({"kind": "tcp", "address": page}).address
    except ValidationError as error:
        raise InvalidURI(f"the address of the page: {error.errors()[0]['ctx']['error']}") from None


def _share_of_descriptors(limit: int) -> int:
    """How many clients may be connected: the rest of the descriptors is for switches and files."""
    return max(limit // 2, limit - RESERVED)


@contextmanager
def _ignoring_hang_up() -> Iterator[None]:
    """Ignore SIGHUP, which ends a process by default, also while the driver is opened or closed."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)
