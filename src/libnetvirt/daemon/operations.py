"""Running changes, independent of the connections of the clients that requested them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from libnetvirt import operation_id
from libnetvirt.errors import Conflict, InvalidDescription, NotFound, ServerBusy

#: Operations that may run at a time. Each holds its request in memory.
MAX_RUNNING = 1024


HEADER: Final = "netvirt-operation"


class NameOperations:
    """Gives each request the identifier of its operation: that of its header, or a new one. The reply has it
    in the same header."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application."""
        if scope["type"] != "http" or scope["method"] == "GET":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        name = given if operation_id.acceptable(given) else uuid4().hex

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = name
            await send(message)

        with operation_id.of(name):
            await self.app(scope, receive, sending)


def check_name(request: Request) -> str:
    """The name of the operation that a request asks for. Raises InvalidDescription if the client has chosen
    one that is not allowed."""
    given = request.headers.get(HEADER, "")
    if given and not operation_id.acceptable(given):
        raise InvalidDescription(
            f"header {HEADER}: an operation is named with 1 to {operation_id.LIMIT} printable characters of "
            "ASCII, without spaces"
        )
    return operation_id.current()


class Withdrawn(Conflict):
    """A change was withdrawn by its client while it was carried out, and has been undone."""


class Operations:
    """The running changes by name. Each runs in its own task, so it survives a client that disconnects.

    Only its task decides the outcome of a change. A client may withdraw a change by name while it runs;
    the driver then undoes it, unless it has completed.
    """

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Task[None]] = {}

    async def run(self, name: str, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run ``coroutine`` to its end, even if the caller is cancelled meanwhile. Raises what it raises.

        Raises Conflict if the name is in use or the change was withdrawn, ServerBusy if
        :data:`MAX_RUNNING` operations are running.
        """
        if name in self._running:
            coroutine.close()
            raise Conflict(f"the operation name {name!r} is in use: choose a unique name for each operation")
        if len(self._running) >= MAX_RUNNING:
            coroutine.close()
            raise ServerBusy(f"{MAX_RUNNING} operations are running, which is the limit: try again later")
        task = asyncio.create_task(coroutine)
        self._running[name] = task
        task.add_done_callback(lambda done: self._ended(name, done))
        await asyncio.wait({task})
        if task.cancelled():
            raise Withdrawn("the change was withdrawn before it completed, and has been undone")
        task.result()

    async def withdraw(self, name: str) -> str:
        """Undo a running change. Returns its outcome: ``undone``, ``done`` or ``failed``.

        Raises NotFound if no operation of that name is running.
        """
        task = self._running.get(name)
        if task is None:
            raise NotFound(f"no operation named {name!r} is running")
        task.cancel()
        await asyncio.wait({task})
        if task.cancelled():
            return "undone"
        return "failed" if task.exception() else "done"

    async def finish(self) -> None:
        """Wait until every running change has ended."""
        while self._running:
            await asyncio.wait(set(self._running.values()))

    def cancel(self) -> None:
        """Cancel every running change; the driver undoes it."""
        for task in self._running.values():
            task.cancel()

    def _ended(self, name: str, task: asyncio.Task[None]) -> None:
        del self._running[name]
        if not task.cancelled():
            # Retrieve the exception, or asyncio logs it if the client has disconnected.
            task.exception()
