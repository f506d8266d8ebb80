"""The driver contract, carried out by a server on the other side of a unix socket."""

from __future__ import annotations

import asyncio
import json
import uuid as rfc4122
from collections.abc import AsyncIterator, Sequence
from typing import Any, Self, TypeVar

from pydantic import TypeAdapter, ValidationError

from libnetvirt.driver import Capabilities, Change, Driver
from libnetvirt.drivers.remote.client import Client
from libnetvirt.errors import (
    ConnectionFailed,
    InvalidDescription,
    InvalidURI,
    NetvirtError,
    NetworkNotFound,
    NotFound,
)
from libnetvirt.model import (
    ConstraintCounters,
    Counters,
    Event,
    NetworkState,
    Path,
    RuleLine,
    Substrate,
    VirtualNetwork,
)
from libnetvirt.uri import URI

INTERFACE = 1
# Of a unix socket's address, see unix(7).
_MAX_PATH = 107
# How long a withdrawn change is followed: the server decides when its switches have answered.
_WITHDRAW = 10.0
_RETRY = 0.05

T = TypeVar("T")


class RemoteDriver(Driver):
    """A session with a served driver; it offers what that one offers.

    The server validates again, so :meth:`validate` does nothing. Cancelling :meth:`apply` asks the
    server to undo the change and waits for its decision; a client that dies without a word does not
    stop the change.
    """

    def __init__(self, client: Client, capabilities: Capabilities) -> None:
        self._client = client
        self._capabilities = capabilities
        self._changing: set[asyncio.Task[bytes]] = set()
        self._closed = asyncio.Event()

    @classmethod
    def offers(cls) -> Capabilities:
        """Nothing by itself: what the served driver offers, :attr:`capabilities` says."""
        return Capabilities(driver="remote", description="whatever the served driver offers")

    @classmethod
    async def open(cls, uri: URI) -> Self:
        """Ask the server who it is. Raises InvalidURI, DaemonUnreachable, ConnectionFailed."""
        uri.expect({})
        client = Client(_socket_path(uri), uri.driver)
        try:
            served = _document(await client.get("version"))
            if served.get("driver") != uri.driver:
                raise InvalidURI(
                    f"{uri.text!r} asks for the {uri.driver} driver and the server on {client.path} serves "
                    f"{served.get('driver')}: write {served.get('driver')}+{uri.transport}://{client.path}"
                )
            if served.get("interface") != INTERFACE:
                raise ConnectionFailed(
                    f"the server on {client.path} is libnetvirt {served.get('version')} with interface "
                    f"{served.get('interface')}; this side speaks interface {INTERFACE}: use the same version"
                )
            capabilities = _parsed(Capabilities, await client.get("capabilities"))
        except BaseException:
            await client.close()
            raise
        return cls(client, capabilities)

    @property
    def capabilities(self) -> Capabilities:
        """What the served driver offered when the session was opened."""
        return self._capabilities

    async def networks(self) -> Sequence[VirtualNetwork]:
        """The descriptions of all networks, ordered by creation."""
        return _parsed(tuple[VirtualNetwork, ...], await self._client.get("networks"))

    async def lookup(self, key: str) -> VirtualNetwork | None:
        """The network with this uuid, or else this name."""
        if not key or "/" in key:
            return None
        try:
            return _parsed(VirtualNetwork, await self._client.get("networks", key))
        except NetworkNotFound:
            return None

    def validate(self, change: Change) -> None:
        """Does nothing: the server validates before it applies."""

    async def check(self, change: Change) -> None:
        """Let the server look whether it would carry a change out."""
        await self._client.post("checks", _body(change), {})

    async def apply(self, change: Change) -> None:
        """Let the server carry a change out. Raises what it raises there."""
        operation = rfc4122.uuid4().hex
        body = _body(change)
        request = asyncio.create_task(self._client.post("changes", body, {"netvirt-operation": operation}))
        self._changing.add(request)
        request.add_done_callback(self._changed)
        try:
            await asyncio.shield(request)
        except asyncio.CancelledError:
            await self._withdraw(operation, request)
            raise

    def _changed(self, request: asyncio.Task[bytes]) -> None:
        self._changing.discard(request)
        if not request.cancelled():
            # Marks the exception as seen: a cancelled caller does not ask for it.
            request.exception()

    async def _withdraw(self, operation: str, request: asyncio.Task[bytes]) -> None:
        try:
            async with asyncio.timeout(_WITHDRAW):
                while not request.done():
                    try:
                        await self._client.delete("changes", operation)
                    except NotFound:
                        # The request has not arrived there yet, or has ended and its answer is on the way.
                        await asyncio.wait({request}, timeout=_RETRY)
                    else:
                        await asyncio.wait({request})
        except (TimeoutError, NetvirtError):
            # The server will complete the change, or is gone; nothing more can be done from here.
            request.cancel()

    async def state(self, uuid: str) -> NetworkState:
        """State of a network and its endpoints, and the hosts it knows."""
        return _parsed(NetworkState, await self._client.get("networks", uuid, "state"))

    async def substrate(self) -> Substrate:
        """The switches, ports and links."""
        return _parsed(Substrate, await self._client.get("substrate"))

    async def paths(self, uuid: str) -> Sequence[Path]:
        """The ways between the endpoints of a network."""
        return _parsed(tuple[Path, ...], await self._client.get("networks", uuid, "paths"))

    async def statistics(self, uuid: str) -> Sequence[Counters]:
        """Counters per endpoint."""
        return _parsed(tuple[Counters, ...], await self._client.get("networks", uuid, "statistics"))

    async def constraint_statistics(self, uuid: str) -> Sequence[ConstraintCounters]:
        """Counters per constraint."""
        body = await self._client.get("networks", uuid, "constraint-statistics")
        return _parsed(tuple[ConstraintCounters, ...], body)

    async def rules(self, uuid: str | None) -> Sequence[RuleLine]:
        """The rules in the switches, of one network or of all."""
        place = ("rules",) if uuid is None else ("networks", uuid, "rules")
        return _parsed(tuple[RuleLine, ...], await self._client.get(*place))

    async def repair(self, uuid: str | None, *, orphans: bool) -> Sequence[str]:
        """Put right what others changed below one network, or below all."""
        body = json.dumps({"network": uuid, "orphans": orphans}).encode()
        return _parsed(tuple[str, ...], await self._client.post("repairs", body, {}))

    async def reload(self, *, degrade: bool) -> Sequence[str]:
        """Let the server read its operator's files again."""
        body = json.dumps({"degrade": degrade}).encode()
        return _parsed(tuple[str, ...], await self._client.post("reloads", body, {}))

    async def events(self) -> AsyncIterator[Event]:
        """Events from now on, until the session is closed.

        Raises ConnectionFailed if the server goes away.
        """
        closed = asyncio.ensure_future(self._closed.wait())
        try:
            async with self._client.lines("events") as lines:
                while (line := await _next(lines, closed)) is not None:
                    if line:
                        yield _parsed(Event, line)
                if closed.done():
                    return
        finally:
            closed.cancel()
        raise ConnectionFailed(f"the server on {self._client.path} went away: its events end here")

    async def close(self) -> None:
        """End the session; the server goes on. Waits until changes that were withdrawn are decided."""
        self._closed.set()
        if self._changing:
            await asyncio.wait(set(self._changing), timeout=_WITHDRAW)
        # Event readers see the flag at the loop's next turn and leave their stream themselves.
        await asyncio.sleep(0)
        await self._client.close()


def _body(change: Change) -> bytes:
    document = {"before": change.before, "after": change.after, "pending": change.pending}
    return TypeAdapter(Any).dump_json(document, by_alias=True, exclude_none=True)


def _socket_path(uri: URI) -> str:
    if uri.host or uri.port is not None or not uri.path.startswith("/") or uri.path == "/":
        raise InvalidURI(
            f"{uri.text!r} does not name a socket: write its absolute path after three slashes, "
            f"as in {uri.driver}+unix:///run/netvirt.sock"
        )
    if (length := len(uri.path.encode())) > _MAX_PATH:
        raise InvalidURI(
            f"the socket path in {uri.text[:60]!r}… has {length} octets: the system allows {_MAX_PATH}"
        )
    return uri.path


async def _next(lines: AsyncIterator[bytes], closed: asyncio.Future[Any]) -> bytes | None:
    """The next line; None if there are no more, or if ``closed`` is done before it is here."""

    async def line() -> bytes | None:
        return await anext(lines, None)

    following = asyncio.create_task(line())
    try:
        await asyncio.wait({following, closed}, return_when=asyncio.FIRST_COMPLETED)
        return None if closed.done() else following.result()
    finally:
        if not following.done():
            following.cancel()
            await asyncio.wait({following})
        if not following.cancelled():
            # Marks the exception as seen: whoever closes the session does not ask for it.
            following.exception()


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise ConnectionFailed(
            "the server's answer is not what a netvirt server says: check the socket's path"
        )
    return document


def _parsed(kind: type[T], body: bytes) -> T:
    try:
        return TypeAdapter(kind).validate_json(body)
    except (ValidationError, InvalidDescription) as error:
        raise ConnectionFailed(f"the server's answer cannot be understood: {error}") from None
