"""The client: what a server has, and changes of it."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Self

from libnetvirt.errors import (
    AlreadyExists,
    Conflict,
    ConnectionFailed,
    DaemonUnreachable,
    EndpointNotFound,
    InvalidDescription,
    InvalidURI,
    NetworkNotFound,
    StaleChange,
)
from libnetvirt.thin.events import Events
from libnetvirt.thin.http import HttpConnection, Reply
from libnetvirt.thin.server import LOST, Server, checked, path
from libnetvirt.uri import URI

#: what a JSON object holds, with the names of documents: ``{"uuid": "7", "endpoints": […]}``
Document = dict[str, Any]

INTERFACE = 1
# Seconds that a server waits at most; and between two questions to one that is not to wait.
_LONGEST_WAIT = 60
_PAUSE = 0.2
# How often a change is tried if other clients change the network meanwhile.
_ATTEMPTS = 16


def connect(uri: str, timeout: float | None = None) -> Client:
    """A client of the server that a URI names: ``openflow+unix:///run/netvirt.sock``, or with TLS
    ``openflow+tls://controller.example:8443/?ca=FILE&token-file=FILE``. The options are those that other
    clients have (``netvirt drivers``). Blocks for five seconds at most.

    ``timeout``: how long a reply may take, in seconds; without it, as long as the switches take.

    Raises InvalidURI if the URI is wrong, or names another driver than the server's; DaemonUnreachable if no
    server answers; TokenRefused if the server does not accept the token.
    """
    parsed = URI.parse(uri)
    client = Client(Server(parsed), timeout)
    try:
        found = client.get("version")
        if found.get("driver") != parsed.driver:
            raise InvalidURI(
                f"{uri!r} names the driver {parsed.driver}, and the server serves {found['driver']}"
            )
        if found.get("interface") != INTERFACE:
            raise ConnectionFailed(
                f"the server is libnetvirt {found.get('version')} with interface {found.get('interface')}, "
                f"but this client has {INTERFACE}: use the same version"
            )
    except BaseException:
        client.close()
        raise
    return client


class Client:
    """Requests to a server, made by :func:`connect`. For one thread at a time; readers of events are
    independent of it.

    All methods block, and raise the server's errors: a change that fails leaves no trace. Those that change a
    network return when the switches have confirmed it, and take

    - ``pending``: whether switches and ports of endpoints may be absent;
    - ``operation``: an identifier of at most 64 characters, for :meth:`withdraw`; the server's log and events
      have it, too.

    A change is sent again if the connection is lost before its reply, and is carried out once. If the server
    cannot be reached again, ConnectionFailed is raised; it completes the change if it is running.
    """

    def __init__(self, server: Server, timeout: float | None = None) -> None:
        self._server = server
        self._timeout = timeout
        self._idle: HttpConnection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection. A later request opens another one."""
        idle, self._idle = self._idle, None
        if idle is not None:
            idle.close()

    # ---- what is there -------------------------------------------------------------------------

    def get(self, *parts: str) -> Any:
        """Any resource below ``/v1``, by the segments of its path: ``get("networks", "blue", "paths")``."""
        return self._get(path(*parts))

    def _get(self, resource: str) -> Any:
        idle, self._idle = self._idle, None
        if idle is not None:
            try:
                return self._ask(idle, resource)
            except LOST:
                pass  # the server has been restarted, or has closed it
        try:
            return self._ask(self._server.open(self._timeout), resource)
        except LOST as error:
            raise self._lost(error) from None

    def networks(self) -> list[Document]:
        """The descriptions of all networks, ordered by creation."""
        found: list[Document] = self.get("networks")
        return found

    def network(self, key: str | int) -> Document:
        """The description of the network with this uuid, or else this name. Raises NetworkNotFound."""
        found: Document = self.get("networks", _segment(key))
        return found

    def state(self, key: str | int) -> Document:
        """The state of a network and its endpoints, and the hosts that it knows. Raises NetworkNotFound."""
        found: Document = self.get("networks", _segment(key), "state")
        return found

    def substrate(self) -> Document:
        """The switches, ports and links."""
        found: Document = self.get("substrate")
        return found

    def events(self, after: str = "", wait: float = 30.0) -> Events:
        """The events from now on, or those after the one with the id ``after``; see :class:`Events`."""
        return Events(self._server, after, wait)

    # ---- changes -------------------------------------------------------------------------------

    def create(
        self, description: Mapping[str, Any], *, pending: bool = False, operation: str = ""
    ) -> Document:
        """Create a network, and return its description as the server has it. Without a ``uuid`` it gets one.

        Raises InvalidDescription, Conflict, Unsupported, SubstrateError.
        """
        if not isinstance(description, Mapping):
            raise InvalidDescription(
                f"a network is a mapping of its fields, not {type(description).__name__}"
            )
        wanted = dict(description)
        if "uuid" not in wanted:
            from uuid import uuid4  # not needed by programs that have uuids

            wanted["uuid"] = str(uuid4())
        self._change(None, wanted, pending, operation)
        return self.network(_text(wanted["uuid"]))

    def remove(self, key: str | int, *, operation: str = "") -> None:
        """Remove a network. Raises NetworkNotFound."""
        self.edit(key, lambda _: None, operation=operation)

    def add_endpoint(
        self, key: str | int, endpoint: Mapping[str, Any], *, pending: bool = False, operation: str = ""
    ) -> Document:
        """Add an endpoint to a network, and return it as the server has it.

        Raises NetworkNotFound, AlreadyExists, InvalidDescription, Conflict, Unsupported, SubstrateError.
        """
        if "uuid" not in endpoint:
            raise InvalidDescription("an endpoint without a uuid: give one that is unique in its network")
        uuid = _text(endpoint["uuid"])

        def edit(now: Document) -> Document:
            if any(one["uuid"] == uuid for one in now.get("endpoints", ())):
                raise AlreadyExists(
                    f"network {now['name']} has an endpoint {uuid} already: modify it instead"
                )
            return {**now, "endpoints": [*now.get("endpoints", ()), dict(endpoint)]}

        return _endpoint(self.edit(key, edit, pending=pending, operation=operation), uuid)

    def modify_endpoint(
        self,
        key: str | int,
        uuid: str | int,
        changes: Mapping[str, Any],
        *,
        pending: bool = False,
        operation: str = "",
    ) -> Document:
        """Change the given fields of an endpoint, each as a whole; None removes one. Returns the endpoint as
        the server has it.

        Raises NetworkNotFound, EndpointNotFound, InvalidDescription, Conflict, Unsupported, SubstrateError.
        """
        given = {name.replace("_", "-"): value for name, value in changes.items()}
        if _text(given.get("uuid", uuid)) != _text(uuid):
            raise InvalidDescription(
                f"the uuid of endpoint {uuid} cannot be changed: remove the one and add the other"
            )

        def edit(now: Document) -> Document:
            old = _endpoint(now, _text(uuid))
            new = {name: value for name, value in {**old, **given}.items() if value is not None}
            return {**now, "endpoints": [new if one is old else one for one in now["endpoints"]]}

        return _endpoint(self.edit(key, edit, pending=pending, operation=operation), _text(uuid))

    def remove_endpoint(self, key: str | int, uuid: str | int, *, operation: str = "") -> None:
        """Remove an endpoint, with its constraints. Raises NetworkNotFound, EndpointNotFound."""

        def edit(now: Document) -> Document:
            old = _endpoint(now, _text(uuid))
            left = {**now, "endpoints": [one for one in now["endpoints"] if one is not old]}
            if "constraints" in now:
                ends = ("source", "destination")
                left["constraints"] = [
                    one for one in now["constraints"] if all(one[end] != old["uuid"] for end in ends)
                ]
            return left

        self.edit(key, edit, operation=operation)

    def edit(
        self,
        key: str | int,
        function: Callable[[Document], Document | None],
        *,
        pending: bool = False,
        operation: str = "",
    ) -> Document:
        """Change a network to what ``function`` makes of its description (None removes it), and return its
        description as the server has it, empty if it is removed.

        ``function`` must not change what it is given, and is called again if another client has changed the
        network meanwhile. Raises NetworkNotFound, what ``function`` raises, and what the change raises.
        """
        before = self.network(key)
        uuid = before["uuid"]
        for attempt in range(_ATTEMPTS):
            after = function(before)
            try:
                self._change(before, after, pending, operation)
                break
            except StaleChange:
                if attempt == _ATTEMPTS - 1:
                    raise
                before = self.network(uuid)
        return {} if after is None else self.network(uuid)

    def withdraw(self, operation: str) -> str:
        """Undo the running change of this name, begun by another thread or program; its outcome: ``undone``,
        ``done`` or ``failed``. Raises NotFound if no such change is running."""
        reply = self._request("DELETE", path("changes", operation))
        return str(reply["outcome"])

    # ---- operations that are not waited for ----------------------------------------------------

    def begin(
        self,
        before: Mapping[str, Any] | None,
        after: Mapping[str, Any] | None,
        *,
        pending: bool = False,
        operation: str = "",
    ) -> Document:
        """Begin to change the network ``before``, which has to be as it is now (None: create one), to
        ``after`` (None: remove it). Returns the operation, with its ``id``, and does not wait for its end.

        Raises what the server knows without the switches: InvalidDescription, Conflict, AccessDenied.
        """
        body = {"before": before, "after": after, "pending": pending}
        found: Document = self._request("POST", "/changes", body, operation, wait=False)
        return found

    def operation(self, operation: str, wait: float = 0.0) -> Document:
        """How an operation is by now, or when it has ended, at most ``wait`` seconds later: its ``state``
        (``running``, ``succeeded``, ``failed``, ``cancelled``), ``progress``, ``problem`` and so on.

        Raises NotFound if it has ended and is not kept any more, or the server was restarted since.
        """
        end = time.monotonic() + wait
        # A reply that takes longer than the timeout is taken for lost.
        longest = _LONGEST_WAIT if self._timeout is None else min(_LONGEST_WAIT, int(self._timeout / 2))
        while True:
            seconds = max(0, min(longest, math.ceil(end - time.monotonic())))
            found: Document = self._get(f"{path('operations', operation)}?wait={seconds}")
            if found["state"] != "running" or time.monotonic() >= end:
                return found
            if not longest:
                time.sleep(_PAUSE)

    def cancel(self, operation: str) -> Document:
        """Cancel an operation, and return it when it has ended: undone as a whole (``cancelled``), or as it
        had ended before. Raises NotFound, Conflict if it cannot be undone, AccessDenied."""
        found: Document = self._request("POST", path("operations", operation, "cancel"))
        return found

    # ---- requests ------------------------------------------------------------------------------

    def _change(self, before: Document | None, after: Document | None, pending: bool, operation: str) -> None:
        body = {"before": before, "after": after, "pending": pending}
        self._request("POST", "/changes", body, operation)

    def _request(
        self, method: str, resource: str, body: Any = None, operation: str = "", wait: bool = True
    ) -> Any:
        """A change, on a connection of its own. If that is lost, the request is sent once more with the same
        key, and the server, which carries it out only once, sends the reply that was lost."""
        key = os.urandom(16).hex()
        try:
            return self._once(method, resource, body, operation, key, wait)
        except LOST as error:
            lost = self._lost(error)
            if isinstance(error, TimeoutError):
                raise lost from None
        try:
            return self._once(method, resource, body, operation, key, wait)
        except (*LOST, Conflict, DaemonUnreachable):
            # A conflict: the server has been restarted, and does not know the key any more.
            raise lost from None

    def _once(self, method: str, resource: str, body: Any, operation: str, key: str, wait: bool) -> Any:
        http = self._server.open(self._timeout)
        try:
            return self._content(self._server.send(http, method, resource, body, operation, key, wait=wait))
        finally:
            http.close()

    def _ask(self, http: HttpConnection, resource: str) -> Any:
        """Read a resource. Keeps the connection."""
        kept = False
        try:
            reply = self._server.send(http, "GET", resource)
            found = self._content(reply)
            kept = reply.keeps
        finally:
            if not kept:
                http.close()
        if kept:
            self._idle = http
        return found

    def _content(self, reply: Reply) -> Any:
        content = checked(reply)
        if not content:
            return None
        try:
            return json.loads(content)
        except ValueError:
            raise ConnectionFailed(f"what answers on {self._server} is no netvirt server") from None

    def _lost(self, error: BaseException) -> ConnectionFailed:
        if isinstance(error, TimeoutError):
            return ConnectionFailed(
                f"the server on {self._server} did not reply within {self._timeout} s: a change may still be "
                "carried out"
            )
        return ConnectionFailed(
            f"the server on {self._server} went away during a request ({error or type(error).__name__}): "
            "check whether the request took effect"
        )


def _segment(key: str | int) -> str:
    """A uuid or name as a segment of a path. Raises NetworkNotFound if no network can have it."""
    if not str(key) or "/" in str(key):
        raise NetworkNotFound(f"there is no network {key!r}")
    return str(key)


def _text(uuid: str | int) -> str:
    """A uuid as the server writes it."""
    text = str(uuid).strip().lower()
    return str(int(text)) if text.isascii() and text.isdecimal() and len(text) <= 20 else text


def _endpoint(network: Document, uuid: str) -> Document:
    for one in network.get("endpoints", ()):
        if one["uuid"] == uuid:
            found: Document = one
            return found
    raise EndpointNotFound(f"network {network.get('name')} has no endpoint {uuid}")
