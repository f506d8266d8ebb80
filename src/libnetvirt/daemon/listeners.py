"""The listeners of a daemon: all kinds of :data:`libnetvirt.configuration.models.Listener`.

A new kind is a model beside UnixListener and a case in :func:`opened`. What it does with all of its requests,
such as to check a token, is an ASGI middleware around its Front, in :meth:`Listeners.prepare`. A unix socket
needs none: its permissions decide who may connect.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from starlette.types import ASGIApp

from libnetvirt.configuration import Configuration
from libnetvirt.configuration.models import Listener
from libnetvirt.daemon.connections import Connections
from libnetvirt.daemon.front import Front
from libnetvirt.daemon.http_server import HttpServer
from libnetvirt.daemon.listener import let_in, listening


def key(settings: Listener) -> tuple[str, str]:
    """What makes a listener another one: all else can be changed while it listens."""
    return settings.kind, settings.path


class Listeners:
    """The open listeners. ``server`` serves the connections they accept."""

    def __init__(self, server: HttpServer, connections: Connections, own: ASGIApp) -> None:
        self._server = server
        self._connections = connections
        self._own = own
        self._open: dict[tuple[str, str], Open] = {}
        self._settled: set[tuple[str, str]] = set()

    def prepare(self, configuration: Configuration) -> list[str]:
        """Open those that are not open yet, and let the groups in that are named now; :meth:`undo` takes that
        back. Tells what was done. Raises ConnectionFailed, AddressInUse; then nothing is."""
        lines: list[str] = []
        try:
            for settings in configuration.listeners:
                if (one := self._open.get(key(settings))) is None:
                    one = self._open[key(settings)] = Open(settings)
                    one.default = configuration.default_of(settings)
                    one.stop = self._server.add(one.socket, self._front(one))
                    lines.append(f"listening on {settings.path}")
                elif settings.group != one.settings.group:
                    let_in(Path(settings.path), settings.group)
                    who = f"group {settings.group}" if settings.group else "its owner"
                    lines.append(f"{settings.path} is now for {who}")
        except BaseException:
            self.undo()
            raise
        return lines

    def undo(self) -> None:
        """Take back what :meth:`prepare` did."""
        for name in [name for name in self._open if name not in self._settled]:
            self._open.pop(name).close()
        for one in self._open.values():
            let_in(Path(one.settings.path), one.settings.group)

    def settle(self, configuration: Configuration) -> list[str]:
        """Close those that are no longer wanted, and take over what is new in the others. Tells what was
        done."""
        wanted = {key(settings): settings for settings in configuration.listeners}
        lines = []
        for name in [name for name in self._open if name not in wanted]:
            one = self._open.pop(name)
            one.close()
            lines.append(f"no longer listening on {one.settings.path}")
        for name, one in self._open.items():
            one.settings = wanted[name]
            one.default = configuration.default_of(one.settings)
        self._settled = set(self._open)
        return lines

    def _front(self, one: Open) -> Front:
        return Front(self._connections, lambda: one.default, self._own)

    def close(self) -> None:
        """Close all, and remove their sockets."""
        while self._open:
            self._open.popitem()[1].close()


class Open:
    """A listener that is open. ``default``: the connection of clients that name none."""

    def __init__(self, settings: Listener) -> None:
        self._stack = ExitStack()
        self.settings = settings
        self.socket = self._stack.enter_context(opened(settings))
        self.default: str | None = None
        self.stop: Callable[[], None] = lambda: None

    def close(self) -> None:
        """Stop accepting, and remove the socket. Connections stay open."""
        self.stop()
        self._stack.close()


def opened(settings: Listener) -> AbstractContextManager[socket.socket]:
    """The listening socket of a listener. Each kind has its own."""
    return listening(Path(settings.path), settings.group)
