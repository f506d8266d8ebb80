"""The TCP socket for metrics and health: on the loopback interface only, since nothing there asks who one
is."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from libnetvirt.configuration import Configuration
from libnetvirt.configuration.loopback import loopback
from libnetvirt.daemon.http_server import HttpServer
from libnetvirt.daemon.monitoring import Monitor, build_monitoring_app
from libnetvirt.errors import AddressInUse, ConnectionFailed

_BACKLOG = 128


@contextmanager
def listening_on_loopback(text: str) -> Iterator[socket.socket | None]:
    """A socket that listens there; None if ``text`` is empty. Raises InvalidURI as :func:`loopback` does,
    AddressInUse, ConnectionFailed."""
    if not text:
        yield None
        return
    host, port = loopback(text)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        kind = AddressInUse if error.errno == errno.EADDRINUSE else ConnectionFailed
        raise kind(f"cannot listen on {text} for metrics: {error.strerror}: choose another port") from None
    with listener:
        yield listener


class MetricsListener:
    """The socket that the configuration asks for, as one replaces the other."""

    def __init__(self, server: HttpServer, monitor: Monitor) -> None:
        self._server = server
        self._app = build_monitoring_app(monitor)
        self._open: tuple[str, ExitStack] = "", ExitStack()
        self._next: tuple[str, ExitStack] | None = None

    def prepare(self, configuration: Configuration) -> list[str]:
        """Listen where it is wanted, unless that is so already; :meth:`undo` takes that back. Tells what was
        done. Raises AddressInUse, ConnectionFailed."""
        wanted = configuration.metrics.listen or ""
        if wanted == self._open[0]:
            return []
        stack = ExitStack()
        listener = stack.enter_context(listening_on_loopback(wanted))
        if listener is not None:
            end: Callable[[], None] = self._server.add(listener, self._app)
            stack.callback(end)
        self._next = wanted, stack
        return [f"metrics are served on {wanted}"] if wanted else []

    def undo(self) -> None:
        """Take back what :meth:`prepare` did."""
        if self._next is not None:
            self._next[1].close()
            self._next = None

    def settle(self) -> list[str]:
        """Close the socket that is no longer wanted. Tells what was done."""
        if self._next is None:
            return []
        (old, stack), self._open, self._next = self._open, self._next, None
        stack.close()
        return [f"metrics are no longer served on {old}"] if old else []

    def close(self) -> None:
        """Stop listening."""
        self.undo()
        self._open[1].close()
