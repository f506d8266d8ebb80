"""HTTP/1.1 on a unix socket: one connection, over which one request after the other is sent (RFC 9112).

h11 has the protocol; here are the bytes. A general client would do the same, but importing one takes a third
of the time of a whole command, and each of its requests longer than the answer of the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Self

import h11

_READ = 1 << 16
_CONNECT = 5.0


class Broken(Exception):
    """The connection ended, or what came is not HTTP, before an answer was complete."""


class Wire:
    """A connection to the server on a unix socket. Used by one coroutine at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT)

    @classmethod
    async def open(cls, path: str) -> Self:
        """Connect. Raises OSError; TimeoutError, which is one, after five seconds."""
        async with asyncio.timeout(_CONNECT):
            return cls(*await asyncio.open_unix_connection(path))

    async def request(self, method: str, target: str, body: bytes, headers: dict[str, str]) -> int:
        """Send a request and wait for the head of its answer, however long: its status. Raises Broken."""
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
            # Perhaps it was refused before it was read: then the answer is there.
            pass
        while isinstance(event := await self._event(), h11.InformationalResponse):
            pass
        if not isinstance(event, h11.Response):
            raise Broken("no answer")
        return event.status_code

    async def body(self) -> AsyncGenerator[bytes]:
        """The answer's body in pieces, as they come. Raises Broken."""
        while isinstance(event := await self._event(), h11.Data):
            yield bytes(event.data)

    async def whole(self) -> bytes:
        """The answer's body. Raises Broken."""
        return b"".join([piece async for piece in self.body()])

    def again(self) -> bool:
        """Whether another request may be sent: the answer is whole, and the server keeps the connection."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    @property
    def ended(self) -> bool:
        """Whether the server has closed the connection, as far as we have heard."""
        return self._reader.at_eof() or self._writer.is_closing()

    def close(self) -> None:
        """End it, whatever is under way."""
        self._writer.close()

    async def _event(self) -> Any:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(await self._reader.read(_READ))
        except (OSError, h11.RemoteProtocolError) as error:
            raise Broken(str(error) or type(error).__name__) from None
        return event
