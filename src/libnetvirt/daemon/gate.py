"""Lets requests of clients on the network in: each has to have a token, which permits it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from libnetvirt.configuration.tokens import Keeper, Token, matching
from libnetvirt.daemon.access import ACCESS, OPEN, Access
from libnetvirt.daemon.problems import refusal
from libnetvirt.daemon.warnings import Warnings
from libnetvirt.errors import AccessDenied, NetvirtError, StateUnusable, TokenRefused

#: longest token in characters; those that we make have 51
MAX_TOKEN: Final = 256
_HOW = "'netvirt token create' on the server's machine makes one"


class Gate:
    """The application of a listener on the network, around its Front.

    ``resolve``: finds the connection that a request is for, checks that it is permitted, and returns the
    scope to go on with.
    """

    def __init__(
        self,
        app: ASGIApp,
        tokens: Callable[[], Keeper],
        resolve: Callable[[Scope, Access], Awaitable[Scope]],
        warnings: Warnings,
    ) -> None:
        self._app = app
        self._tokens = tokens
        self._resolve = resolve
        self._warnings = warnings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or tell why not."""
        if scope["path"] in OPEN and scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        try:
            found = self._admitted(scope)
            scope = await self._resolve({**scope, ACCESS: found}, found)
        except NetvirtError as error:
            await self._refuse(error, scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _admitted(self, scope: Scope) -> Access:
        given = Headers(scope=scope).getlist("authorization")
        if not given:
            raise TokenRefused(f"this server wants a token: {_HOW}")
        kind, _, secret = given[0].partition(" ")
        secret = secret.strip()
        if len(given) > 1 or kind.lower() != "bearer" or not secret or len(secret) > MAX_TOKEN:
            raise TokenRefused(f"the header Authorization is not one 'Bearer TOKEN': {_HOW}")
        token = matching(self._tokens().tokens(), secret)
        if token is None:
            raise TokenRefused(f"the server does not know this token, or it was revoked: {_HOW}")
        if token.expired:
            raise TokenRefused(f"token {token.name!r} has expired: {_HOW}")
        return Access(token, lambda: self._holds(token))

    def _holds(self, token: Token) -> bool:
        try:
            return token in self._tokens().tokens() and not token.expired
        except StateUnusable:
            return False

    async def _refuse(self, error: NetvirtError, scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client")
        place = client[0] if client else "?"
        if isinstance(error, AccessDenied | StateUnusable):
            self._warnings.refused(f"refused {scope['method']} {scope['path'][:200]} from {place}: {error}")
        if isinstance(error, StateUnusable):
            error = StateUnusable("the server cannot read its tokens: its log tells why")

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                if error.http_status == TokenRefused.http_status:
                    headers["www-authenticate"] = 'Bearer realm="netvirt"'
                    # Strangers have to begin again.
                    headers["connection"] = "close"
            await send(message)

        await refusal(error)(scope, receive, sending)
