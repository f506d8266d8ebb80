"""Which connection, or which part of the daemon itself, a request is for.

==================================  ================================================================
``/v1/connections/NAME/…``          the resources of a connection, which are otherwise below ``/v1``
``/v1/connections``                 the connections
``/v1/configuration``               the configuration in use, and its reload
all else                            the resources of the listener's default connection
==================================  ================================================================
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from libnetvirt.daemon.app import refusal
from libnetvirt.daemon.connections import Connections
from libnetvirt.errors import NetvirtError, NotFound

_CONNECTIONS = "/v1/connections"
_OWN = "/v1/configuration"


class Front:
    """The application of one listener. ``default``: the name of its default connection, if it has one now;
    ``own``: the application with the daemon's own resources."""

    def __init__(self, connections: Connections, default: Callable[[], str | None], own: ASGIApp) -> None:
        self._connections = connections
        self._default = default
        self._own = own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request over."""
        path: str = scope["path"]
        if path in (_CONNECTIONS, _OWN) or path.startswith(_OWN + "/"):
            await self._own(scope, receive, send)
            return
        try:
            if path.startswith(_CONNECTIONS + "/"):
                name, _, rest = path.removeprefix(_CONNECTIONS + "/").partition("/")
                inner = f"/v1/{rest}"
                scope = {**scope, "path": inner, "raw_path": inner.encode()}
            else:
                name = self._named()
            app = self._connections.get(name).app
        except NetvirtError as error:
            await refusal(error)(scope, receive, send)
            return
        await app(scope, receive, send)

    def _named(self) -> str:
        if (name := self._default()) is not None:
            return name
        names = self._connections.names
        raise NotFound(
            f"the server has the connections {', '.join(names)}: name one in the URI, "
            f"as ?connection={names[0]}"
        )
