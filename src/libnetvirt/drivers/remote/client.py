"""HTTP to the daemon: requests, and its errors as ours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from urllib.parse import quote

from libnetvirt.drivers.remote.http import Broken, Wire
from libnetvirt.errors import ConnectionFailed, DaemonUnreachable, NetvirtError, from_json

_ROOT = "/v1"
# The server writes an empty line into an endless resource at least every five seconds.
_SILENCE = 30.0
# Idle connections that are kept for reading.
_KEPT = 4


class Client:
    """Requests to one server. They take as long as the server does: only connecting is bounded.

    A kept connection may be dead, because the server was restarted. So each change has a connection of its
    own, as it cannot simply be sent twice. What is only read is read over kept connections, and over a new
    one if that fails.
    """

    def __init__(self, path: str, driver: str) -> None:
        self.path = path
        self.driver = driver
        self._idle: list[Wire] = []
        self._closed = False

    async def get(self, *parts: str) -> bytes:
        """The body of a resource; each part is one segment of its path. Raises what the server raised."""
        place = segments(*parts)
        while self._idle:
            wire = self._idle.pop()
            if wire.ended:
                wire.close()
                continue
            try:
                return _checked(*await self._ask(wire, "GET", place))
            except Broken:
                break
        return await self._ask_once("GET", place)

    async def post(self, part: str, document: bytes, headers: dict[str, str]) -> bytes:
        """Send a JSON document; what was answered. Raises what the server raised."""
        return await self._ask_once(
            "POST", segments(part), document, {"content-type": "application/json", **headers}
        )

    async def delete(self, *parts: str) -> bytes:
        """Delete a resource. Raises what the server raised."""
        return await self._ask_once("DELETE", segments(*parts))

    @asynccontextmanager
    async def lines(self, part: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """The lines of an endless resource. Raises what the server raised; ConnectionFailed after silence."""
        with self._failures():
            wire = await self._open()
            try:
                status = await wire.request("GET", _ROOT + segments(part), b"", {})
                if not _succeeded(status):
                    raise refusal(status, await wire.whole())
                async with aclosing(_lines(wire)) as source:
                    yield source
            finally:
                wire.close()

    async def close(self) -> None:
        """Close what is open."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()
        # Their transports end at the loop's next turn.
        await asyncio.sleep(0)

    async def _ask_once(
        self, method: str, place: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> bytes:
        with self._failures():
            status, answer = await self._ask(await self._open(), method, place, body, headers)
        return _checked(status, answer)

    async def _ask(
        self, wire: Wire, method: str, place: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status and body. The connection is kept after a request that only reads, and closed otherwise."""
        kept = False
        try:
            status = await wire.request(method, _ROOT + place, body, headers or {})
            answer = await wire.whole()
            kept = method == "GET" and len(self._idle) < _KEPT and not self._closed and wire.again()
        finally:
            if not kept:
                wire.close()
        if kept:
            self._idle.append(wire)
        return status, answer

    async def _open(self) -> Wire:
        try:
            return await Wire.open(self.path)
        except OSError as error:
            raise self._unreachable(error) from None

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Turns the end of a connection into an error of ours."""
        try:
            yield
        except Broken as error:
            raise ConnectionFailed(
                f"the server on {self.path} went away during a request ({error}): "
                "look at 'netvirt list' whether it was carried out"
            ) from None

    def _unreachable(self, error: OSError) -> NetvirtError:
        if isinstance(error, PermissionError):
            return DaemonUnreachable(
                f"permission denied on the socket {self.path}: it belongs to the user who started the "
                "server; run this as that user"
            )
        return DaemonUnreachable(
            f"no server answers on {self.path}: start one with: "
            f"netvirt serve -c '{self.driver}:///…' --socket {self.path}"
        )


def segments(*parts: str) -> str:
    """A path of quoted segments. A dot is quoted too: ``..`` is a name like any other."""
    return "/" + "/".join(quote(part, safe="").replace(".", "%2E") for part in parts)


async def _lines(wire: Wire) -> AsyncGenerator[bytes]:
    left = b""
    async with aclosing(wire.body()) as pieces:
        while True:
            try:
                async with asyncio.timeout(_SILENCE):
                    piece = await anext(pieces, None)
            except TimeoutError:
                raise Broken(f"nothing was heard for {_SILENCE:g} s") from None
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
    """The error that a reply carries."""
    try:
        document = json.loads(body)
        if isinstance(document, dict) and "code" in document:
            return from_json(document)
    except (ValueError, TypeError):
        pass
    return ConnectionFailed(
        f"the server answered with status {status} and no error that we know: is it netvirt's?"
    )
