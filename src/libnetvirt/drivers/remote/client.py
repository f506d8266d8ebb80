"""HTTP requests to the daemon. Its error replies become the library's errors."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from typing import Final
from urllib.parse import quote, urlencode

from libnetvirt.drivers.remote.http import ConnectionLost, HttpConnection
from libnetvirt.drivers.remote.places import ServerPlace
from libnetvirt.errors import (
    Conflict,
    ConnectionFailed,
    DaemonUnreachable,
    NetvirtError,
    NetworkNotFound,
    NotFound,
    NotLeader,
    ServerBusy,
    from_json,
)

_ROOT = "/v1"
#: Seconds to look for the server that leads, if there are several.
FOLLOW: Final = 10.0
# Seconds to wait for a connection; for one of several; and between two rounds of asking all.
_CONNECT: Final = 5.0
_TURN: Final = 1.0
_PAUSE: Final = 0.1
# Seconds without a reply after which it is looked whether another one leads.
_DOUBT: Final = 1.0
# What only the server that leads answers: that there is no such network.
_NO_NETWORK: Final = ("networks", "?")
# The server sends at least an empty line every five seconds.
_SILENCE = 30.0
# Most idle connections.
_IDLE = 4
_NOTHING: Mapping[str, str] = {}


class Client:
    """Requests to one server, and there to the ``connection`` of that name, else to its default one.

    Only connecting is bounded: an operation takes as long as the switches take to confirm it. GET requests
    reuse idle connections; one that turns out to be dead, because the server was restarted, is replaced. A
    change uses a new connection. If that is lost before the reply, it is sent once more with the same
    ``Idempotency-Key``, so that it is carried out once, and the reply is the one that was lost.

    Of several servers one leads. If a server cannot be connected to, or says that it does not lead, it has
    done nothing, and the request is sent to another one, for :data:`FOLLOW` seconds. The one that accepts it
    is asked from then on.
    """

    def __init__(self, places: Sequence[ServerPlace], connection: str = "") -> None:
        self.place, self._places = places[0], places
        # Where the resources of the server's connection are.
        self._root = _ROOT + (segments("connections", connection) if connection else "")
        self._idle: list[HttpConnection] = []
        self._closed = False
        # Whether the server has ever replied.
        self._answered = False

    async def get(self, *parts: str, query: Mapping[str, object] | None = None) -> bytes:
        """The body of a resource; each part is one segment of its path. Raises the server's error."""
        place = segments(*parts) + (f"?{urlencode(query)}" if query else "")
        return await self._from_leader(lambda: self._get(place))

    async def _get(self, place: str) -> bytes:
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
        fields = {"content-type": "application/json", **headers}
        return await self._once(lambda: self._request("POST", segments(part), document, fields))

    async def change(self, part: str, document: bytes, headers: Mapping[str, str] = _NOTHING) -> bytes:
        """Send a JSON document that asks for a change; returns the body of the reply. Raises the server's
        error, and ConnectionFailed if it is not known whether the change was made."""
        key = os.urandom(16).hex()
        fields = {"content-type": "application/json", "idempotency-key": key, **headers}
        return await self._once(lambda: self._change(segments(part), document, fields))

    async def _change(self, place: str, document: bytes, fields: dict[str, str]) -> bytes:
        with self._failures():
            http = await self._open()
            try:
                return _checked(*await self._ask(http, "POST", place, document, fields))
            except ConnectionLost:
                if not self._answered:
                    raise
                try:
                    return _checked(*await self._ask(await self._open(), "POST", place, document, fields))
                except (Conflict, NotLeader, DaemonUnreachable, ServerBusy):
                    # After a restart the server does not know the key, and a conflict may be with the change
                    # itself; another server does not know it either.
                    pass
                raise

    async def delete(self, *parts: str) -> bytes:
        """Delete a resource; returns the body of the reply. Raises the server's error."""
        return await self._once(lambda: self._request("DELETE", segments(*parts)))

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

    @property
    def several(self) -> bool:
        """Whether there are several servers."""
        return len(self._places) > 1

    async def find_leader(self) -> None:
        """Find the server that leads. Raises NotLeader, DaemonUnreachable."""
        with suppress(NetworkNotFound):
            await self.get(*_NO_NETWORK)

    async def close(self) -> None:
        """Close all idle connections."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()
        # Their transports close in the loop's next iteration.
        await asyncio.sleep(0)

    async def _once(self, change: Callable[[], Awaitable[bytes]]) -> bytes:
        """Ask for what must not be done twice."""
        try:
            return await self._from_leader(change, again=False)
        except _Superseded as error:
            raise ConnectionFailed(
                f"{error.place} did not reply, and {self.place} leads now: check with 'netvirt list' whether "
                "the request took effect"
            ) from None

    async def _from_leader(self, ask: Callable[[], Awaitable[bytes]], *, again: bool = True) -> bytes:
        """Ask the servers in turn, until one leads. ``again``: also if one was asked that did not reply, and
        another one leads by now; else raises _Superseded."""
        if len(self._places) == 1:
            return await ask()
        deadline = time.monotonic() + FOLLOW
        for tried in itertools.count(1):
            asked = self.place
            try:
                return await self._unless_superseded(ask)
            except _Superseded:
                if not again:
                    raise
                continue
            except (NotLeader, DaemonUnreachable) as error:
                if time.monotonic() > deadline:
                    raise
                if self.place is asked:
                    self._turn(error.leader if isinstance(error, NotLeader) else "")
            if tried % len(self._places) == 0:
                await asyncio.sleep(_PAUSE)
        raise AssertionError("never reached")

    async def _unless_superseded(self, ask: Callable[[], Awaitable[bytes]]) -> bytes:
        """Ask the present server. As long as it does not reply, look whether another one leads. Then raises
        _Superseded, and that one is asked from now on."""
        asked = self.place
        request = asyncio.ensure_future(ask())
        try:
            while True:
                await asyncio.wait({request}, timeout=_DOUBT)
                if request.done():
                    return request.result()
                for place in self._places:
                    if place is not asked and await self._leads(place):
                        self._go_to(place)
                        raise _Superseded(asked)
        finally:
            if not request.done():
                request.cancel()
                await asyncio.wait({request})

    async def _leads(self, place: ServerPlace) -> bool:
        """Whether a server answers questions that only the leader does: here, about a network without a
        name."""
        try:
            async with asyncio.timeout(_TURN):
                http = await HttpConnection.open(place, _TURN)
                try:
                    path = self._root + segments(*_NO_NETWORK)
                    return await http.request("GET", path, b"", place.headers()) == NotFound.http_status
                finally:
                    http.close()
        except (OSError, ConnectionLost):
            return False

    def _turn(self, leader: str) -> None:
        """Ask the server at this address from now on, or else the next one."""
        places = self._places
        known = [place for place in places if str(place) == leader and place is not self.place]
        self._go_to(known[0] if known else places[(places.index(self.place) + 1) % len(places)])

    def _go_to(self, place: ServerPlace) -> None:
        self.place = place
        while self._idle:
            self._idle.pop().close()

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
            return await HttpConnection.open(self.place, _CONNECT if len(self._places) == 1 else _TURN)
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


class _Superseded(Exception):
    """A server has not replied, and another one leads."""

    def __init__(self, place: ServerPlace) -> None:
        super().__init__(str(place))
        self.place = place


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
