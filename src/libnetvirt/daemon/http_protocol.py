"""HTTP connections: how many there may be, and how long a client may take for the head of a request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from libnetvirt.daemon.problems import HTTP_CODES, MEDIA_TYPE, document, last_words
from libnetvirt.errors import ServerBusy

#: Seconds from a connection, or from the first byte of a further request, until the head of the request must
#: be complete.
HEAD_TIMEOUT: Final = 10.0
#: What a client is told that is one too many.
FULL: Final = last_words(
    ServerBusy.http_status, ServerBusy.code, "the server has as many connections as it can have: try again"
)


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
        self._end(408, "the request was not complete in time: send it as a whole, without a pause")

    def send_400_response(self, msg: str) -> None:
        """Tell the client that what it sent is not HTTP."""
        self._end(400, f"{msg.rstrip('.')}: HTTP/1.1 is spoken here (RFC 9112)")

    def _end(self, status: int, message: str) -> None:
        """Answer with a problem, and close the connection."""
        body = json.dumps(document(status, HTTP_CODES[status], message)).encode()
        headers = [
            ("content-type", MEDIA_TYPE), ("content-length", str(len(body))), ("connection", "close"),
        ]  # fmt: skip
        try:
            self.transport.write(self.conn.send(h11.Response(status_code=status, headers=headers)) or b"")
            self.transport.write(self.conn.send(h11.Data(data=body)) or b"")
            self.transport.write(self.conn.send(h11.EndOfMessage()) or b"")
        except h11.LocalProtocolError:
            pass  # a reply has begun
        self.transport.close()
