"""The HTTP server: any number of listening sockets, each with an application of its own."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from libnetvirt.acceptor import Acceptor
from libnetvirt.daemon.door import Door
from libnetvirt.daemon.http_protocol import FULL, HttpProtocol

log = logging.getLogger("libnetvirt.daemon")

# Seconds after a signal in which requests can end: longer than any change takes. It is bounded so that a
# client that does not read its events cannot keep the server alive.
_SHUTDOWN = 30


class HttpServer(uvicorn.Server):
    """Accepts connections itself: uvicorn leaves that to asyncio, which does not survive a lack of
    descriptors.

    At most ``connections`` clients are served at a time; ``ready`` is called when they can connect.
    """

    def __init__(self, connections: int, ready: Callable[[], None] = lambda: None) -> None:
        super().__init__(_config(_nothing))
        self._connections = connections
        self._ready = ready
        self._waiting: list[Acceptor] = []

    def add(self, listener: socket.socket, app: ASGIApp, door: Door | None = None) -> Callable[[], None]:
        """Serve ``app`` to those who connect to ``listener``, and whom its ``door`` lets in. Returns what
        ends that; connections stay."""
        config = _config(app)
        config.load()
        acceptor = Acceptor(listener, partial(self._serve_one, config, door), _exhausted)
        if self.started:
            self.servers.append(acceptor.start())  # type: ignore[arg-type]
        else:
            self._waiting.append(acceptor)

        def end() -> None:
            acceptor.close()
            for listed in (self._waiting, getattr(self, "servers", [])):
                if acceptor in listed:
                    listed.remove(acceptor)

        return end

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002
        await super().startup([])
        # Uvicorn closes what is in this list, and waits for it.
        self.servers = [acceptor.start() for acceptor in self._waiting]  # type: ignore[misc]
        self._waiting.clear()
        collect_seldom()
        self._ready()

    async def _serve_one(
        self, config: uvicorn.Config, door: Door | None, peer: socket.socket, address: Any
    ) -> None:
        if len(self.server_state.connections) >= self._connections:
            with peer, suppress(OSError):
                # One that waits for a handshake of TLS would not understand it.
                if door is None:
                    peer.send(FULL)
            return
        protocol = HttpProtocol(config, self.server_state, self.lifespan.state)
        if door is not None:
            # It must not keep the next client waiting.
            door.let_in(peer, address, protocol)
            return
        await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, peer)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # The daemon handles signals, since it has to end the streams and the running changes first. Uvicorn
        # would also raise them again at its end.
        yield


def collect_seldom() -> None:
    """Exempt all existing objects from garbage collection and collect the others less often.

    A controller's objects live long. Traversing all of them delays packet-ins by up to a second.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


async def _nothing(_scope: Scope, _receive: Receive, _send: Send) -> None:
    """The application that uvicorn wants for the server as a whole; no listener has it."""


def _config(app: ASGIApp) -> uvicorn.Config:
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


def _exhausted(reason: str) -> None:
    log.warning(
        "no more connections are accepted (%s): raise the limit of open files, for example with LimitNOFILE= "
        "in the unit of systemd",
        reason,
    )
