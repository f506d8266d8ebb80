"""HTTP connections: how many there may be, and how long a client may take for the head of a request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

#: Seconds from a connection, or from the first byte of a further request, until the head of the request must
#: be complete.
HEAD_TIMEOUT: Final = 10.0
#: What a client is told that is one too many.
FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n"
    b'{"code": "server-busy", "message": "the server has as many connections as it can have: try again"}'
)
_TOO_SLOW: Final = b'{"code": "error", "message": "the request was not complete in time"}'


class HttpProtocol(H11Protocol):
    """A connection whose client must not take longer than :data:`HEAD_TIMEOUT` for the head of a request.

    Uvicorn waits without a limit for the first request, and for the rest of every request.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head: asyncio.TimerHandle | None = None
        self._lost: Callable[[], None] | None = None

    def when_lost(self, tell: Callable[[], None]) -> None:
        """Have the end of the connection told, once."""
        self._lost = tell

    def lost(self) -> None:
        """The connection has ended, or never began."""
        tell, self._lost = self._lost, None
        if tell is not None:
            tell()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        self.lost()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Start the timer if a request has begun and none is being answered, else stop it."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop()
        elif self._head is None:
            self._head = self.loop.call_later(HEAD_TIMEOUT, self._too_slow)

    def _stop(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _too_slow(self) -> None:
        self._head = None
        if self.transport.is_closing():
            return
        headers = [("content-type", "application/json"), ("connection", "close")]
        try:
            self.transport.write(self.conn.send(h11.Response(status_code=408, headers=headers)))
            self.transport.write(self.conn.send(h11.Data(data=_TOO_SLOW)))
            self.transport.write(self.conn.send(h11.EndOfMessage()))
        except h11.LocalProtocolError:
            pass  # it sent something else than a request
        self.transport.close()
