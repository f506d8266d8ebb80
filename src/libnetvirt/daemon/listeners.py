"""The listeners of a daemon: all kinds of :data:`libnetvirt.configuration.models.Listener`.

A new kind is a model beside UnixListener and a case in :func:`opened`. What it does with all of its requests,
such as to check a token, is an ASGI middleware around its Front, in :meth:`Listeners._front`. A unix socket
needs none: its permissions decide who may connect.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from starlette.types import ASGIApp

from libnetvirt.configuration import Configuration, TlsListener, UnixListener
from libnetvirt.configuration.certificates import server_context
from libnetvirt.configuration.models import TOKENS, Listener
from libnetvirt.configuration.tokens import Keeper
from libnetvirt.daemon.connections import Connections
from libnetvirt.daemon.door import Door
from libnetvirt.daemon.front import Front
from libnetvirt.daemon.gate import Gate
from libnetvirt.daemon.http_server import HttpServer
from libnetvirt.daemon.listener import let_in, listening
from libnetvirt.daemon.network_listener import listening_on
from libnetvirt.daemon.warnings import Warnings
from libnetvirt.daemon.web import Page


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
        # The tokens, now and after the reload that is under way.
        self._keeper = self._next_keeper = Keeper(TOKENS)
        self._warnings = Warnings()

    def prepare(self, configuration: Configuration) -> list[str]:
        """Open those that are not open yet, and let the groups in that are named now; :meth:`undo` takes that
        back. Tells what was done. Raises ConnectionFailed, AddressInUse, StateUnusable; then nothing is."""
        lines: list[str] = []
        try:
            self._next_keeper = Keeper(Path(configuration.tokens))
            if not all(isinstance(one, UnixListener) for one in configuration.listeners):
                self._next_keeper.tokens()
            for settings in configuration.listeners:
                if (one := self._open.get(key(settings))) is None:
                    one = self._open[key(settings)] = Open(settings, self._warnings)
                    one.default = configuration.default_of(settings)
                    one.stop = self._server.add(one.socket, self._front(one), one.door)
                    lines.append(f"listening on {settings.path}")
                elif isinstance(settings, TlsListener):
                    one.next_tls = server_context(settings)
                elif isinstance(settings, UnixListener) and settings.group != _group(one.settings):
                    let_in(Path(settings.path), settings.group)
                    who = f"group {settings.group}" if settings.group else "its owner"
                    lines.append(f"{settings.path} is now for {who}")
        except BaseException:
            self.undo()
            raise
        return lines

    def planned(self, configuration: Configuration) -> list[str]:
        """What a reload would open, close and change, one line each."""
        wanted = {key(settings): settings for settings in configuration.listeners}
        lines = [
            f"{settings.path} would be listened on"
            for name, settings in wanted.items() if name not in self._open
        ]  # fmt: skip
        for name, one in self._open.items():
            if name not in wanted:
                lines.append(f"{one.settings.path} would no longer be listened on")
            elif wanted[name] != one.settings:
                lines.append(f"the listener on {one.settings.path} would be changed")
        return lines

    def undo(self) -> None:
        """Take back what :meth:`prepare` did."""
        for name in [name for name in self._open if name not in self._settled]:
            self._open.pop(name).close()
        for one in self._open.values():
            one.next_tls = one.tls
            if isinstance(one.settings, UnixListener):
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
            one.tls = one.next_tls
        self._keeper = self._next_keeper
        self._settled = set(self._open)
        return lines

    def _front(self, one: Open) -> ASGIApp:
        front = Front(self._connections, lambda: one.default, self._own)
        if isinstance(one.settings, UnixListener):
            return front
        gate = Gate(front, lambda: self._keeper, front.resolved, self._warnings)
        return Page(gate, lambda: _has_page(one.settings))

    async def close(self) -> None:
        """Close all, remove their sockets, and end handshakes that are under way."""
        while self._open:
            one = self._open.popitem()[1]
            one.close()
            if one.door is not None:
                await one.door.close()


def _group(settings: Listener) -> str | None:
    return settings.group if isinstance(settings, UnixListener) else None


def _has_page(settings: Listener) -> bool:
    return not isinstance(settings, UnixListener) and settings.page


def _limit(settings: Listener) -> int:
    return 0 if isinstance(settings, UnixListener) else settings.max_connections


class Open:
    """A listener that is open. ``default``: the connection of clients that name none."""

    def __init__(self, settings: Listener, warnings: Warnings) -> None:
        self._stack = ExitStack()
        self.settings = settings
        #: what new connections are encrypted with, now and after the reload that is under way
        self.tls: ssl.SSLContext | None = None
        if isinstance(settings, TlsListener):
            self.tls = server_context(settings)
        self.next_tls = self.tls
        self.door: Door | None = None
        if not isinstance(settings, UnixListener):
            self.door = Door(lambda: self.tls, lambda: _limit(self.settings), warnings)
        self.socket = self._stack.enter_context(opened(settings))
        self.default: str | None = None
        self.stop: Callable[[], None] = lambda: None

    def close(self) -> None:
        """Stop accepting, and remove the socket. Connections stay open."""
        self.stop()
        self._stack.close()


def opened(settings: Listener) -> AbstractContextManager[socket.socket]:
    """The listening socket of a listener. Each kind has its own."""
    if isinstance(settings, UnixListener):
        return listening(Path(settings.path), settings.group)
    return listening_on(settings.address)
