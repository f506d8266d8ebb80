"""Which connection, or which part of the daemon itself, a request is for.

==================================  ================================================================
``/v1/connections/NAME/…``          the resources of a connection, which are otherwise below ``/v1``
``/v1/connections``                 the connections
``/v1/configuration``               the configuration in use, and its reload
``/v1/access``                      what the client may do
``/metrics``, ``/healthz`` …        monitoring of all connections
all else                            the resources of the listener's default connection
==================================  ================================================================
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from libnetvirt.daemon.access import Access, no_network
from libnetvirt.daemon.connections import Connections
from libnetvirt.daemon.performing import ROOT
from libnetvirt.daemon.problems import refusal
from libnetvirt.errors import NetvirtError, NotFound

_CONNECTIONS = "/v1/connections"
_NETWORKS = "/v1/networks/"
_OWN = "/v1/configuration"
_ACCESS = "/v1/access"
_WATCHED = ("/metrics", "/healthz", "/readyz")


class Front:
    """The application of one listener. ``default``: the name of its default connection, if it has one now;
    ``own``: the application with the daemon's own resources."""

    def __init__(self, connections: Connections, default: Callable[[], str | None], own: ASGIApp) -> None:
        self._connections = connections
        self._default = default
        self._own = own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request over."""
        if _is_own(scope["path"]):
            await self._own(scope, receive, send)
            return
        try:
            name, path = self._place(scope["path"])
            app = self._connections.get(name).app
        except NetvirtError as error:
            await refusal(error)(scope, receive, send)
            return
        root = f"{_CONNECTIONS}/{name}" if scope["path"].startswith(_CONNECTIONS + "/") else "/v1"
        await app({**_with_path(scope, path), ROOT: root}, receive, send)

    async def resolved(self, scope: Scope, found: Access) -> Scope:
        """The scope of a request that a client may make. That of a network has its uuid, not its name.

        Raises AccessDenied, or NotFound for a network that the client does not see.
        """
        method, path = scope["method"], scope["path"]
        if _is_own(path):
            found.check(method, path)
            return scope
        name, path = self._place(path)
        found.check_connection(name)
        found.check(method, path)
        if found.limited and path.startswith(_NETWORKS):
            key, slash, rest = path.removeprefix(_NETWORKS).partition("/")
            network = await self._connections.get(name).connection.driver.lookup(key)
            if network is None or not found.sees(network.uuid):
                raise no_network(key)
            path = f"{_NETWORKS}{network.uuid}{slash}{rest}"
        return _with_path(scope, f"{_CONNECTIONS}/{name}/{path.removeprefix('/v1/')}")

    def _place(self, path: str) -> tuple[str, str]:
        """The name of the connection that a path is about, and the path within it."""
        if path.startswith(_CONNECTIONS + "/"):
            name, _, rest = path.removeprefix(_CONNECTIONS + "/").partition("/")
            return name, f"/v1/{rest}"
        return self._named(), path

    def _named(self) -> str:
        if (name := self._default()) is not None:
            return name
        names = self._connections.names
        raise NotFound(
            f"the server has the connections {', '.join(names)}: name one in the URI, "
            f"as ?connection={names[0]}"
        )


def _is_own(path: str) -> bool:
    return path in (_CONNECTIONS, _OWN, _ACCESS, *_WATCHED) or path.startswith(_OWN + "/")


def _with_path(scope: Scope, path: str) -> Scope:
    """The scope of the same request for another path."""
    return {**scope, "path": path, "raw_path": path.encode()}
