"""The driver contract implemented by a server behind a unix socket or TLS."""

from __future__ import annotations

import asyncio
import json
import pathlib
import re
from collections.abc import Sequence
from typing import Annotated, Any, Self, TypeVar

from pydantic import Field, TypeAdapter

from libnetvirt import operation_id
from libnetvirt.driver import Capabilities, Change, Driver
from libnetvirt.drivers.remote.client import Client
from libnetvirt.drivers.remote.events import ServerEvents
from libnetvirt.drivers.remote.places import ServerPlace, UnixPlace
from libnetvirt.drivers.remote.replies import json_object, parsed
from libnetvirt.errors import (
    ConnectionFailed,
    InvalidURI,
    NetvirtError,
    NetworkNotFound,
    NotFound,
)
from libnetvirt.model import (
    ConstraintCounters,
    Counters,
    Explanation,
    Forecast,
    NetworkState,
    Path,
    Recovered,
    RuleLine,
    Substrate,
    Traffic,
    Verification,
    VirtualNetwork,
)
from libnetvirt.model.metrics import Measurement
from libnetvirt.settings import DriverSettings, Shown
from libnetvirt.tasks import Tasks
from libnetvirt.uri import URI

INTERFACE = 1
# Longest path of a unix socket in bytes, see unix(7).
_MAX_PATH = 107
# Seconds to wait for the outcome of a withdrawn change, which depends on the switches' replies.
_WITHDRAW = 10.0
_RETRY = 0.05

T = TypeVar("T")


class RemoteSettings(DriverSettings):
    """The options of a server's URI."""

    connection: Annotated[str, Shown("the name of a connection", "the server's default connection")] = Field(
        default="", description="which of the server's connections is meant"
    )


class RemoteDriver(Driver):
    """A session with a served driver, with that driver's capabilities.

    The server validates changes, so :meth:`validate` does nothing. Cancelling :meth:`apply` asks the
    server to undo the change and waits for the outcome. If the client dies, the server completes the
    change.
    """

    settings = RemoteSettings

    def __init__(self, client: Client, capabilities: Capabilities) -> None:
        self._client = client
        self._capabilities = capabilities
        self._changing = Tasks()
        self._closed = asyncio.Event()

    @classmethod
    def offers(cls) -> Capabilities:
        """No capabilities: those of the served driver are in :attr:`capabilities` of a session."""
        return Capabilities(driver="remote", description="whatever the served driver offers")

    @classmethod
    async def open(cls, uri: URI) -> Self:
        """Connect and read the server's version and capabilities.

        Raises InvalidURI if the URI names no socket or another driver than the server's, DaemonUnreachable
        if no server answers, ConnectionFailed if the server's interface version is another one.
        """
        settings = cls.settings.from_uri(uri)
        connection = settings.connection
        client = Client(cls._places(uri, settings), connection)
        try:
            served = json_object(await client.get("version"))
            if served.get("driver") != uri.driver:
                raise InvalidURI(
                    f"{uri.text!r} names the {uri.driver} driver, but the server on {client.place} serves "
                    f"{served.get('driver')}: write {served.get('driver')}+{uri.transport}://{client.place}"
                    + (f"?connection={connection}" if connection else "")
                )
            if served.get("interface") != INTERFACE:
                raise ConnectionFailed(
                    f"the server on {client.place} is libnetvirt {served.get('version')} with interface "
                    f"{served.get('interface')}, but this client has {INTERFACE}: use the same version"
                )
            capabilities = parsed(Capabilities, await client.get("capabilities"))
        except BaseException:
            await client.close()
            raise
        return cls(client, capabilities)

    @classmethod
    def _places(cls, uri: URI, settings: Any) -> Sequence[ServerPlace]:  # noqa: ARG003
        """Where the server is, or several of which one leads. Raises InvalidURI."""
        return [UnixPlace(path, uri.driver) for path in _socket_paths(uri)]

    @classmethod
    def restore(cls, uri: URI, *_: object, **__: object) -> Sequence[VirtualNetwork]:
        """Refuse: a server holds its state while it runs."""
        raise InvalidURI(
            f"{uri.text!r} names a server, and nothing can be restored while it runs: stop it, and name the "
            f"URI that it was started with, such as {uri.driver}:///?state=PATH"
        )

    @property
    def capabilities(self) -> Capabilities:
        """The served driver's capabilities when the session was opened."""
        return self._capabilities

    async def networks(self) -> Sequence[VirtualNetwork]:
        """The descriptions of all networks, ordered by creation."""
        return parsed(tuple[VirtualNetwork, ...], await self._client.get("networks"))

    async def lookup(self, key: str) -> VirtualNetwork | None:
        """The network with this uuid, or else this name."""
        if not key or "/" in key:
            return None
        try:
            return parsed(VirtualNetwork, await self._client.get("networks", key))
        except NetworkNotFound:
            return None

    async def named(self, name: str) -> VirtualNetwork | None:
        """The network with this name, which the server looks up."""
        if not name:
            return None
        # The server's filter has wildcards.
        pattern = re.sub(r"[*?[]", r"[\g<0>]", name)
        found = parsed(
            tuple[VirtualNetwork, ...], await self._client.get("networks", query={"name": pattern})
        )
        return next((network for network in found if network.name == name), None)

    def validate(self, change: Change) -> None:
        """Do nothing: the server validates each change before it applies it."""

    async def check(self, change: Change) -> None:
        """Have the server check a change. Raises its error if it would refuse the change."""
        await self._client.post("checks", _body(change), {})

    async def forecast(self, change: Change) -> Forecast:
        """What the server says that a change would change. Raises its error."""
        return parsed(Forecast, await self._client.post("forecasts", _body(change), {}))

    async def apply(self, change: Change) -> None:
        """Have the server apply a change. Raises its error."""
        with operation_id.some() as operation:
            await self._apply(change, operation)

    async def _apply(self, change: Change, operation: str) -> None:
        body = _body(change)
        request = self._changing.spawn(self._client.change("changes", body, {"netvirt-operation": operation}))
        try:
            await asyncio.shield(request)
        except asyncio.CancelledError:
            await self._withdraw(operation, request)
            raise

    async def _withdraw(self, operation: str, request: asyncio.Task[bytes]) -> None:
        try:
            async with asyncio.timeout(_WITHDRAW):
                while not request.done():
                    try:
                        await self._client.delete("changes", operation)
                    except NotFound:
                        # The request has not arrived yet, or the change has ended and the reply is coming.
                        await asyncio.wait({request}, timeout=_RETRY)
                    else:
                        await asyncio.wait({request})
        except (TimeoutError, NetvirtError):
            # The server is gone or will complete the change. The client can do nothing more.
            request.cancel()

    async def state(self, uuid: str) -> NetworkState:
        """State of a network and its endpoints, and the hosts it knows."""
        return parsed(NetworkState, await self._client.get("networks", uuid, "state"))

    async def substrate(self) -> Substrate:
        """The switches, ports and links."""
        return parsed(Substrate, await self._client.get("substrate"))

    async def paths(self, uuid: str) -> Sequence[Path]:
        """The paths between the endpoints of a network."""
        return parsed(tuple[Path, ...], await self._client.get("networks", uuid, "paths"))

    async def statistics(self, uuid: str) -> Sequence[Counters]:
        """Counters per endpoint."""
        return parsed(tuple[Counters, ...], await self._client.get("networks", uuid, "statistics"))

    async def constraint_statistics(self, uuid: str) -> Sequence[ConstraintCounters]:
        """Counters per constraint."""
        body = await self._client.get("networks", uuid, "constraint-statistics")
        return parsed(tuple[ConstraintCounters, ...], body)

    async def rules(self, uuid: str | None) -> Sequence[RuleLine]:
        """The rules in the switches, of one network or of all."""
        resource = ("rules",) if uuid is None else ("networks", uuid, "rules")
        return parsed(tuple[RuleLine, ...], await self._client.get(*resource))

    async def verify(self, uuids: Sequence[str]) -> Verification:
        """Whether the server's driver forwards all frames as networks promise."""
        body = json.dumps({"networks": list(uuids)}).encode()
        return parsed(Verification, await self._client.post("verifications", body, {}))

    async def explain(self, uuid: str, source: str, destination: str, traffic: Traffic) -> Explanation:
        """The server's explanation of what becomes of frames between two endpoints."""
        given = traffic.model_dump(mode="json", by_alias=True, exclude_none=True)
        query = {"source": source, "destination": destination, **given}
        return parsed(Explanation, await self._client.get("networks", uuid, "explanation", query=query))

    async def repair(self, uuid: str | None, *, orphans: bool) -> Sequence[str]:
        """Restore what others changed in one network, or in all."""
        body = json.dumps({"network": uuid, "orphans": orphans}).encode()
        return parsed(tuple[str, ...], await self._client.change("repairs", body))

    async def preview_reload(self, *, degrade: bool) -> Sequence[str]:
        """What the server says that a reload would do to constraints."""
        body = json.dumps({"degrade": degrade, "dry-run": True}).encode()
        return parsed(tuple[str, ...], await self._client.post("reloads", body, {}))

    async def reload(self, *, degrade: bool) -> Sequence[str]:
        """Have the server reload the operator's files."""
        body = json.dumps({"degrade": degrade}).encode()
        return parsed(tuple[str, ...], await self._client.change("reloads", body))

    async def adopt(self, switch: str | None) -> Sequence[str]:
        """Have the server take over a switch, or all that it refuses because of another controller."""
        return await self._decide(switch, "adopt")

    async def forget(self, switch: str | None) -> Sequence[str]:
        """Have the server leave a switch, or all such, to the other controller."""
        return await self._decide(switch, "forget")

    async def _decide(self, switch: str | None, decision: str) -> Sequence[str]:
        body = json.dumps({"switch": switch, "decision": decision}).encode()
        return parsed(tuple[str, ...], await self._client.change("decisions", body))

    async def recover(self) -> Recovered:
        """What the server reads from the switches that it refuses."""
        return parsed(Recovered, await self._client.get("recovered"))

    async def backup(self) -> bytes:
        """A consistent copy of the server's stored state."""
        return await self._client.get("backup")

    async def metrics(self) -> Sequence[Measurement]:
        """The numbers of the served driver."""
        return parsed(tuple[Measurement, ...], await self._client.get("metrics"))

    def events(self) -> ServerEvents:
        """Events from now on, until the session is closed.

        They begin with the first iteration, or when :meth:`ServerEvents.begin` returns. Iterating raises
        ConnectionFailed if the server goes away. Of several servers, the events are those of the one
        that leads; if another one leads later, an event ``events.lost`` says so, and its events follow.
        """
        return ServerEvents(self._client, {}, self._closed)

    def past_events(self, after: str, since: float | None) -> ServerEvents:
        """The events after one, or since a time, out of the server's log; then as :meth:`events`."""
        asked = {"after": after, "since": "" if since is None else repr(since)}
        query = {name: text for name, text in asked.items() if text}
        return ServerEvents(self._client, query, self._closed)

    async def close(self) -> None:
        """Close the session; the server keeps running. Waits for the outcome of withdrawn changes."""
        self._closed.set()
        await self._changing.finish(_WITHDRAW)
        # Readers of events see the flag in the loop's next iteration and close their streams.
        await asyncio.sleep(0)
        await self._client.close()


def _body(change: Change) -> bytes:
    document = {"before": change.before, "after": change.after, "pending": change.pending}
    return TypeAdapter(Any).dump_json(document, by_alias=True, exclude_none=True)


def _socket_paths(uri: URI) -> list[str]:
    if uri.host or uri.port is not None or not uri.path.startswith("/") or uri.path == "/":
        raise InvalidURI(
            f"{uri.text!r} does not name a socket: write its absolute path after three slashes, "
            f"for example {uri.driver}+unix:///run/netvirt.sock"
        )
    # Without a file of that very name, a comma and a slash separate the sockets of several servers.
    paths = [uri.path] if ",/" not in uri.path or pathlib.Path(uri.path).exists() else _separated(uri.path)
    if (length := max(len(path.encode()) for path in paths)) > _MAX_PATH:
        raise InvalidURI(
            f"the socket path in {uri.text[:60]!r}… is {length} bytes long and the system allows {_MAX_PATH}"
        )
    return paths


def _separated(paths: str) -> list[str]:
    first, *more = paths.split(",/")
    return [first, *(f"/{path}" for path in more)]
