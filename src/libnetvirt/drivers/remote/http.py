"""HTTP/1.1 (RFC 9112) over a unix socket or TLS: one connection, one request after the other.

The protocol is h11's; this module adds the socket, which :mod:`~libnetvirt.drivers.remote.places` opens. A
general HTTP client would add 0.1 s of import time to every command, and 1.5 ms of CPU time to every request.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Protocol, Self

import h11


class Place(Protocol):
    """Where a server is."""

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect. Raises OSError."""


_READ = 1 << 16


class ConnectionLost(Exception):
    """The connection ended, or delivered something else than HTTP, before the reply was complete."""


class HttpConnection:
    """A connection to a server, for one coroutine at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT)

    @classmethod
    async def open(cls, place: Place, timeout: float) -> Self:
        """Connect. Raises OSError, and its subclass TimeoutError after ``timeout`` seconds."""
        async with asyncio.timeout(timeout):
            return cls(*await place.connect())

    async def request(self, method: str, target: str, body: bytes, headers: dict[str, str]) -> int:
        """Send a request and wait for the status of the reply, without a timeout. Raises ConnectionLost."""
        fields = {"host": "netvirt", "content-length": str(len(body)), **headers}
        http = self._http
        try:
            parts = (
                http.send(h11.Request(method=method, target=target, headers=list(fields.items()))),
                http.send(h11.Data(data=body)),
                http.send(h11.EndOfMessage()),
            )
            self._writer.write(b"".join(filter(None, parts)))
            await self._writer.drain()
        except OSError:
            # The server may have replied before it had read the whole request.
            pass
        while isinstance(event := await self._event(), h11.InformationalResponse):
            pass
        if not isinstance(event, h11.Response):
            raise ConnectionLost("no reply")
        return event.status_code

    async def pieces(self) -> AsyncGenerator[bytes]:
        """The body of the reply in pieces, as they arrive. Raises ConnectionLost."""
        while isinstance(event := await self._event(), h11.Data):
            yield bytes(event.data)

    async def body(self) -> bytes:
        """The whole body of the reply. Raises ConnectionLost."""
        return b"".join([piece async for piece in self.pieces()])

    def reusable(self) -> bool:
        """Whether another request can be sent: the reply is complete and the server keeps the connection."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    @property
    def ended(self) -> bool:
        """Whether the server is known to have closed the connection."""
        return self._reader.at_eof() or self._writer.is_closing()

    def close(self) -> None:
        """Close the connection, even in the middle of a reply."""
        if self._writer.get_extra_info("sslcontext") is not None:
            # The end of TLS is not waited for: the loop may be closed before the server has answered it.
            # Where replies end is known without it.
            self._writer.transport.abort()
        else:
            self._writer.close()

    async def _event(self) -> Any:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(await self._reader.read(_READ))
        except (OSError, h11.RemoteProtocolError) as error:
            raise ConnectionLost(str(error) or type(error).__name__) from None
        return event
