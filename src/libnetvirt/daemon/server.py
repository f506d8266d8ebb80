"""Runs the application on a unix socket."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import uvicorn
from fastapi import FastAPI

from libnetvirt import aio
from libnetvirt.acceptor import Acceptor, raise_descriptor_limit
from libnetvirt.daemon.app import Service, build_app
from libnetvirt.daemon.http_protocol import FULL, HttpProtocol
from libnetvirt.daemon.listener import listening
from libnetvirt.daemon.metrics_listener import listening_on_loopback
from libnetvirt.daemon.monitoring import build_monitoring_app
from libnetvirt.errors import InvalidURI, NetvirtError, Unsupported
from libnetvirt.event_loop import new_event_loop
from libnetvirt.model import Event
from libnetvirt.tasks import Tasks
from libnetvirt.uri import URI

log = logging.getLogger("libnetvirt.daemon")

# Seconds after a signal in which requests can end: longer than any change takes. It is bounded so that a
# client that does not read its events cannot keep the server alive.
_SHUTDOWN = 30
#: Descriptors that clients leave to switches, databases and files.
RESERVED = 4096


class _Server(uvicorn.Server):
    """Accepts connections itself: uvicorn leaves that to asyncio, which does not survive a lack of
    descriptors."""

    def __init__(
        self,
        config: uvicorn.Config,
        connections: int,
        ready: Callable[[], None] | None,
        others: Sequence[tuple[socket.socket, uvicorn.Config]] = (),
    ) -> None:
        """``others``: further sockets, each with the application that is served there."""
        super().__init__(config)
        self._others = others
        self._connections = connections
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])
        acceptors = [
            Acceptor(listener, partial(self._serve_one, config), _exhausted)
            for listener, config in (*((one, self.config) for one in sockets or ()), *self._others)
        ]
        for _, config in self._others:
            config.load()
        # Uvicorn closes what is in this list, and waits for it.
        self.servers = [acceptor.start() for acceptor in acceptors]  # type: ignore[misc]
        collect_seldom()
        if self._ready is not None:
            self._ready()

    async def _serve_one(self, config: uvicorn.Config, peer: socket.socket, _address: Any) -> None:
        if len(self.server_state.connections) >= self._connections:
            with peer, suppress(OSError):
                peer.send(FULL)
            return
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(
            lambda: HttpProtocol(config, self.server_state, self.lifespan.state), peer
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # serve() handles signals, since it has to end the streams and the running changes first. Uvicorn
        # would also raise them again at its end.
        yield


def collect_seldom() -> None:
    """Exempt all existing objects from garbage collection and collect the others less often.

    A controller's objects live long. Traversing all of them delays packet-ins by up to a second.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def run(
    uri: str,
    socket_path: str | Path,
    *,
    ready: Callable[[], None] | None = None,
    on_event: Callable[[Event], None] | None = None,
    metrics: str = "",
) -> None:
    """Run :func:`serve` in a new event loop. Blocks until a signal ends it."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve(uri, socket_path, ready=ready, on_event=on_event, metrics=metrics))


async def serve(
    uri: str,
    socket_path: str | Path,
    *,
    ready: Callable[[], None] | None = None,
    on_event: Callable[[Event], None] | None = None,
    metrics: str = "",
) -> None:
    """Open the driver of ``uri`` and serve it on a unix socket until SIGTERM or SIGINT.

    ``ready`` is called once clients can connect, ``on_event`` for each event of the driver. Without
    ``on_event``, events that tell what was refused or dropped are logged as warnings.

    SIGHUP reloads the capacities of links, as ``Connection.reload`` does, and logs the outcome; it never ends
    the server. After SIGTERM or SIGINT, running changes are completed (a second signal has the driver undo
    them), the connection is closed and the socket removed.

    ``metrics``: a loopback address and a port (``127.0.0.1:9091``) where metrics and health are served
    besides, for scrapers that cannot ask a unix socket; empty: none.

    Must run in the main thread. Raises InvalidURI if ``uri`` names a server or is wrong, or ``metrics`` is no
    loopback address; AddressInUse if the socket's path or the port is in use, ConnectionFailed if the driver
    or the socket cannot be opened.
    """
    if (parsed := URI.parse(uri)).transport:
        raise InvalidURI(
            f"{uri!r} names a server already: give the URI of a driver, such as {parsed.driver}:///"
        )
    with (
        _ignoring_hang_up(),
        listening(Path(socket_path)) as listener,
        listening_on_loopback(metrics) as scraped,
    ):
        async with await aio.open(uri) as connection:
            connection.driver.maintain()
            app = build_app(connection, on_event)
            others = [] if scraped is None else [(scraped, _config(build_monitoring_app(app.state.monitor)))]
            server = _Server(_config(app), _share_of_descriptors(raise_descriptor_limit()), ready, others)
            service: Service = app.state.service
            service.watch()
            with _signals(server, service), app.state.monitor.watching():
                serving = asyncio.create_task(server.serve(sockets=[listener]))
                try:
                    await asyncio.shield(serving)
                except asyncio.CancelledError:
                    # Shut down as after a signal, so that no client's connection outlives the server.
                    _stop(server, service)
                    await serving
                    raise
                finally:
                    await service.close()


def _config(app: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=HttpProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_SHUTDOWN,
    )


def _share_of_descriptors(limit: int) -> int:
    """How many clients may be connected: the rest of the descriptors is for switches and files."""
    return max(limit // 2, limit - RESERVED)


def _exhausted(reason: str) -> None:
    log.warning(
        "no more connections are accepted (%s): raise the limit of open files, for example with LimitNOFILE= "
        "in the unit of systemd",
        reason,
    )


@contextmanager
def _ignoring_hang_up() -> Iterator[None]:
    """Ignore SIGHUP, which ends a process by default, also while the driver is opened or closed."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


@contextmanager
def _signals(server: uvicorn.Server, service: Service) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    reloads = Tasks()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, server, service)
    loop.add_signal_handler(signal.SIGHUP, lambda: reloads.spawn(_reload(service)))
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)
        # The loop has restored the default, which ends the process.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


async def _reload(service: Service) -> None:
    """Reload the capacities of links, as a running change that the server completes before it ends."""

    async def reload() -> None:
        try:
            lines = await service.connection.reload(degrade=False)
        except Unsupported as error:
            log.info("SIGHUP: nothing to reload: %s", error)
        except NetvirtError as error:
            log.warning("SIGHUP: the link capacities were not reloaded: %s", error)
        else:
            log.info(
                "SIGHUP: %s", "; ".join(lines or ("capacities reloaded; every constraint keeps its path",))
            )

    await service.operations.run(f"SIGHUP {uuid4()}", reload())


def _stop(server: uvicorn.Server, service: Service) -> None:
    if server.should_exit:
        service.operations.cancel()
    server.should_exit = True
    service.events.close()
