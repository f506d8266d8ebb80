"""HTTP requests to the daemon. Its error replies become the library's errors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from urllib.parse import quote, urlencode

from libnetvirt.drivers.remote.http import ConnectionLost, HttpConnection
from libnetvirt.drivers.remote.places import ServerPlace
from libnetvirt.errors import ConnectionFailed, NetvirtError, from_json

_ROOT = "/v1"
# The server sends at least an empty line every five seconds.
_SILENCE = 30.0
# Most idle connections.
_IDLE = 4
_NOTHING: Mapping[str, str] = {}


class Client:
    """Requests to one server, and there to the ``connection`` of that name, else to its default one.

    Only connecting is bounded: an operation takes as long as the switches take to confirm it. GET requests
    reuse idle connections; one that turns out to be dead, because the server was restarted, is replaced. A
    change must not be sent twice, so each uses a new connection.
    """

    def __init__(self, place: ServerPlace, connection: str = "") -> None:
        self.place = place
        # Where the resources of the server's connection are.
        self._root = _ROOT + (segments("connections", connection) if connection else "")
        self._idle: list[HttpConnection] = []
        self._closed = False
        # Whether the server has ever replied.
        self._answered = False

    async def get(self, *parts: str) -> bytes:
        """The body of a resource; each part is one segment of its path. Raises the server's error."""
        place = segments(*parts)
        while self._idle:
            http = self._idle.pop()
            if http.ended:
                http.close()
                continue
            try:
                return _checked(*await self._ask(http, "GET", place))
            except ConnectionLost:
                break
        return await self._request("GET", place)

    async def post(self, part: str, document: bytes, headers: dict[str, str]) -> bytes:
        """Send a JSON document; returns the body of the reply. Raises the server's error."""
        return await self._request(
            "POST", segments(part), document, {"content-type": "application/json", **headers}
        )

    async def delete(self, *parts: str) -> bytes:
        """Delete a resource; returns the body of the reply. Raises the server's error."""
        return await self._request("DELETE", segments(*parts))

    @asynccontextmanager
    async def lines(
        self, part: str, query: Mapping[str, str] = _NOTHING
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The lines of an endless resource. Raises the server's error, or ConnectionFailed."""
        place = self._root + segments(part) + (f"?{urlencode(query)}" if query else "")
        with self._failures():
            http = await self._open()
            try:
                status = await http.request("GET", place, b"", self.place.headers())
                if not _succeeded(status):
                    raise refusal(status, await http.body())
                async with aclosing(_lines(http)) as source:
                    yield source
            finally:
                http.close()

    async def close(self) -> None:
        """Close all idle connections."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()
        # Their transports close in the loop's next iteration.
        await asyncio.sleep(0)

    async def _request(
        self, method: str, place: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> bytes:
        with self._failures():
            status, reply = await self._ask(await self._open(), method, place, body, headers)
        return _checked(status, reply)

    async def _ask(
        self,
        http: HttpConnection,
        method: str,
        place: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """Send a request; returns the status and body of the reply. Keeps the connection after a GET."""
        kept = False
        try:
            fields = {**(headers or {}), **self.place.headers()}
            status = await http.request(method, self._root + place, body, fields)
            reply = await http.body()
            self._answered = True
            kept = method == "GET" and len(self._idle) < _IDLE and not self._closed and http.reusable()
        finally:
            if not kept:
                http.close()
        if kept:
            self._idle.append(http)
        return status, reply

    async def _open(self) -> HttpConnection:
        try:
            return await HttpConnection.open(self.place)
        except OSError as error:
            raise self.place.unreachable(error) from None

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Turn the loss of a connection into ConnectionFailed."""
        try:
            yield
        except ConnectionLost as error:
            if not self._answered and (told := self.place.refused()) is not None:
                raise told from None
            raise ConnectionFailed(
                f"the server on {self.place} went away during a request ({error}): "
                "check with 'netvirt list' whether the request took effect"
            ) from None


def segments(*parts: str) -> str:
    """A path of quoted segments. Dots are quoted too, so that ``..`` is an ordinary name."""
    return "/" + "/".join(quote(part, safe="").replace(".", "%2E") for part in parts)


async def _lines(http: HttpConnection) -> AsyncGenerator[bytes]:
    left = b""
    async with aclosing(http.pieces()) as pieces:
        while True:
            try:
                async with asyncio.timeout(_SILENCE):
                    piece = await anext(pieces, None)
            except TimeoutError:
                raise ConnectionLost(f"no data for {_SILENCE:g} s") from None
            if piece is None:
                return
            *whole, left = (left + piece).split(b"\n")
            for line in whole:
                yield line


def _succeeded(status: int) -> bool:
    return 200 <= status < 300


def _checked(status: int, body: bytes) -> bytes:
    if _succeeded(status):
        return body
    raise refusal(status, body)


def refusal(status: int, body: bytes) -> NetvirtError:
    """The error described by a reply."""
    try:
        document = json.loads(body)
        if isinstance(document, dict) and "code" in document:
            return from_json(document)
    except (ValueError, TypeError):
        pass
    return ConnectionFailed(
        f"the server replied with HTTP status {status} and no netvirt error: is it a netvirt server?"
    )
