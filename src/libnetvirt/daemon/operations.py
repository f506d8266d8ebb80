"""Operations: running changes, independent of the connections of the clients that requested them.

Each runs in a task of its own, which alone decides how it ends. It can be found by its identifier, which is
the one of its lines in the log and of its events. How an operation ended is kept, in memory, if its client
did not wait for it (``Prefer: respond-async``); such operations are bounded by number and size: who has most
of them loses the oldest first. What is running is never dropped.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from libnetvirt import operation_id, progress
from libnetvirt.daemon.access import EVERYTHING, Access
from libnetvirt.daemon.problems import INTERNAL, document
from libnetvirt.daemon.wire import OperationKind, OperationReport, OperationState, Problem, Progress, dump
from libnetvirt.errors import AccessDenied, Conflict, InvalidDescription, NetvirtError, NotFound, ServerBusy

log = logging.getLogger("libnetvirt.daemon")

#: Operations that may run at a time, and those of them that no client waits for. Each holds its request in
#: memory.
MAX_RUNNING = 1024
MAX_UNATTENDED = 512
#: Operations that have ended and are kept, and the bytes of their reports together.
KEPT: Final = 1000
SIZE: Final = 16 * 2**20

HEADER: Final = "netvirt-operation"
#: What a driver undoes if it is cancelled.
UNDOABLE: Final = frozenset((OperationKind.CREATE, OperationKind.CHANGE, OperationKind.REMOVE))

#: The outcomes of changes that are withdrawn.
_OUTCOMES: Final = {
    OperationState.CANCELLED: "undone",
    OperationState.SUCCEEDED: "done",
    OperationState.FAILED: "failed",
}
T = TypeVar("T")


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


@dataclass(frozen=True, slots=True)
class Result:
    """What an operation that succeeded has to tell: lines, and the ETag of its network."""

    lines: tuple[str, ...] = ()
    etag: str = ""


@dataclass(frozen=True, slots=True)
class About:
    """What an operation is: its kind, the uuid and name of its network, and who asked for it. ``attended``:
    the client waits for it."""

    kind: OperationKind = OperationKind.CHANGE
    network: str = ""
    name: str = ""
    client: Access = EVERYTHING
    attended: bool = True


@dataclass(eq=False, slots=True)
class Operation:
    """One operation. ``task``: None once it has ended, because a task holds on to the request; then ``final``
    is what clients are told of it."""

    id: str
    number: int
    about: About
    task: asyncio.Task[Any] | None = None
    began: float = field(default_factory=time.time)
    progress: Progress | None = None
    final: OperationReport | None = None
    size: int = 0

    def tell(self, done: int, steps: int) -> None:
        """It has got so far."""
        self.progress = Progress(done=done, all=steps)

    def report(self) -> OperationReport:
        """What clients are told of it."""
        return self.final or OperationReport(
            id=self.id,
            number=self.number,
            kind=self.about.kind,
            state=OperationState.RUNNING,
            network=self.about.network,
            name=self.about.name,
            token=self.about.client.report().token,
            began=self.began,
            progress=self.progress,
        )

    def end(self, task: asyncio.Task[Any]) -> None:
        """Its task has ended."""
        running = self.report()
        ended: dict[str, Any] = {"state": OperationState.CANCELLED, "ended": time.time()}
        error = None if task.cancelled() else task.exception()
        if isinstance(error, NetvirtError):
            told = self.about.client.told(error)
            problem = document(told.http_status, **told.to_json())
            ended |= {"state": OperationState.FAILED, "problem": Problem.model_validate(problem)}
        elif error is not None:
            problem = document(500, NetvirtError.code, INTERNAL)
            ended |= {"state": OperationState.FAILED, "problem": Problem.model_validate(problem)}
        elif not task.cancelled():
            result = task.result() if isinstance(task.result(), Result) else Result()
            ended |= {"state": OperationState.SUCCEEDED, "result": result.lines, "etag": result.etag}
        self.final = running.model_copy(update=ended)
        self.task = None


class Operations:
    """The running operations of one connection, and those that have ended and are kept. For the event loop's
    thread.

    Only its task decides the outcome of an operation. A client may withdraw a change by name while it runs;
    the driver then undoes it, unless it has completed.
    """

    def __init__(self) -> None:
        self._running: dict[str, Operation] = {}
        self._kept: dict[int, Operation] = {}
        self._count = 0
        self._size = 0
        # Set when nobody may wait for operations any more, because the server ends.
        self._ending = asyncio.Event()

    def begin(self, name: str, coroutine: Coroutine[Any, Any, T], about: About | None = None) -> Operation:
        """Begin to run ``coroutine``, which is the client's operation ``name``.

        Raises Conflict if the client has used the name, ServerBusy if too many are running.
        """
        about = about or About()
        key = about.client.owner + name
        try:
            self._check(key, name, about)
        except NetvirtError:
            coroutine.close()
            raise
        self._count += 1
        operation = Operation(name, self._count, about)
        with progress.told_to(operation.tell):
            task = operation.task = asyncio.create_task(coroutine)
        self._running[key] = operation
        task.add_done_callback(lambda _: self._ended(key, operation, task))
        return operation

    async def run(self, name: str, coroutine: Coroutine[Any, Any, T], about: About | None = None) -> T:
        """Run ``coroutine`` to its end, even if the caller is cancelled meanwhile; returns its result. Raises
        what it and :meth:`begin` raise, and Conflict if it was withdrawn."""
        task = self.begin(name, coroutine, about).task
        assert task is not None
        await asyncio.wait({task})
        if task.cancelled():
            raise Withdrawn("the change was withdrawn before it completed, and has been undone")
        result: T = task.result()
        return result

    async def withdraw(self, name: str, client: Access = EVERYTHING) -> str:
        """Undo a running change of a client. Returns its outcome: ``undone``, ``done`` or ``failed``.

        Raises NotFound if no operation of that name is running, Conflict if it cannot be undone.
        """
        operation = self._running.get(client.owner + name)
        if operation is None:
            raise NotFound(f"no operation named {name!r} is running")
        await self._cancel(operation)
        return _OUTCOMES[operation.report().state]

    def seen(self, client: Access) -> list[Operation]:
        """The operations that a client sees, in the order in which they began."""
        found = [one for one in self._all() if client.sees_operation(one.about.client, one.about.network)]
        return sorted(found, key=lambda one: one.number)

    def find(self, name: str, client: Access) -> Operation:
        """The operation of this name that a client sees: its own, or else another client's; the latest of
        several. Raises NotFound."""
        found = [one for one in self.seen(client) if one.id == name]
        if not found:
            raise NotFound(
                f"there is no operation {name!r}: it has ended and is not kept any more, the server was "
                "restarted since, or it is not yours. Look at the network instead"
            )
        return max(found, key=lambda one: (one.about.client.identity == client.identity, one.number))

    async def cancel_one(self, operation: Operation, client: Access) -> None:
        """Undo an operation, if it is running, and wait until it has ended.

        Raises AccessDenied if it is another client's, Conflict if such an operation cannot be undone.
        """
        if not client.may_cancel(operation.about.client):
            raise AccessDenied(
                f"operation {operation.id!r} was begun by another client: only that one, or a token with the "
                "role admin, may cancel it"
            )
        await self._cancel(operation)

    async def wait(self, operation: Operation, seconds: float) -> None:
        """Wait until an operation has ended, for so long at most; not while the server ends."""
        if operation.task is None or not seconds:
            return
        ending = asyncio.create_task(self._ending.wait())
        try:
            await asyncio.wait({operation.task, ending}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ending.cancel()

    async def finish(self) -> None:
        """Wait until every running operation has ended."""
        while self._running:
            await asyncio.wait({one.task for one in self._running.values() if one.task is not None})

    def cancel(self) -> None:
        """Cancel every running operation; the driver undoes changes."""
        for operation in self._running.values():
            if operation.task is not None:
                operation.task.cancel()

    def end_waits(self) -> None:
        """End all of :meth:`wait`: the server ends."""
        self._ending.set()

    def _all(self) -> Iterator[Operation]:
        yield from self._kept.values()
        yield from self._running.values()

    def _check(self, key: str, name: str, about: About) -> None:
        kept = not about.attended and any(
            one.id == name and one.about.client.identity == about.client.identity
            for one in self._kept.values()
        )
        if key in self._running or kept:
            raise Conflict(f"the operation name {name!r} is in use: choose a unique name for each operation")
        if len(self._running) >= MAX_RUNNING:
            raise ServerBusy(f"{MAX_RUNNING} operations are running, which is the limit: try again later")
        if about.attended:
            return
        if sum(not one.about.attended for one in self._running.values()) >= MAX_UNATTENDED:
            raise ServerBusy(
                f"{MAX_UNATTENDED} operations are running that no client waits for, which is the limit: "
                "try again later"
            )

    @staticmethod
    async def _cancel(operation: Operation) -> None:
        task = operation.task
        if task is None:
            return
        if operation.about.kind not in UNDOABLE:
            raise Conflict(
                f"operation {operation.id!r} cannot be cancelled, as it cannot be undone: it goes on"
            )
        task.cancel()
        await asyncio.wait({task})

    def _ended(self, key: str, operation: Operation, task: asyncio.Task[Any]) -> None:
        del self._running[key]
        # This retrieves the exception, too, or asyncio logs it if the client has disconnected.
        operation.end(task)
        if operation.about.attended:
            return
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, NetvirtError):
            log.error("operation %s failed", operation.id, exc_info=error)
        self._keep(operation)

    def _keep(self, operation: Operation) -> None:
        operation.size = len(dump(operation.report()))
        self._kept[operation.number] = operation
        self._size += operation.size
        while len(self._kept) > KEPT or self._size > SIZE:
            sizes: dict[str, int] = {}
            for one in self._kept.values():
                who = one.about.client.identity
                sizes[who] = sizes.get(who, 0) + one.size
            most = max(sizes, key=lambda who: sizes[who])
            oldest = next(one for one in self._kept.values() if one.about.client.identity == most)
            self._size -= self._kept.pop(oldest.number).size
