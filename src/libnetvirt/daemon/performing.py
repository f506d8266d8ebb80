"""Carrying out what requests ask for, and operations as resources.

A request with ``Prefer: respond-async`` (RFC 7240) is answered when its operation has begun: with status 202
and where the operation is found. What can be said without the switches is said at once: a body with faults, a
token that does not permit it, a version of a network that is gone, a controller that does not lead.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any, Final, Protocol
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BeforeValidator

from libnetvirt import aio, operation_id
from libnetvirt.daemon.access import access
from libnetvirt.daemon.activity import Activity
from libnetvirt.daemon.bodies import Bodies
from libnetvirt.daemon.listing import OperationsQuery, check_once, whole_number
from libnetvirt.daemon.openapi import WITH_LINK
from libnetvirt.daemon.operations import About, Operation, Operations, Result
from libnetvirt.daemon.warnings import Warnings
from libnetvirt.daemon.wire import OperationReport, dump
from libnetvirt.errors import InvalidDescription, NetvirtError, NotFound

#: The key of a request's scope for what its path began with: ``/v1``, and its connection if it named one.
ROOT: Final = "libnetvirt.root"
RESPOND_ASYNC: Final = "respond-async"
#: Longest time in seconds that ``wait`` asks for.
LONGEST_WAIT: Final = 60
# What only the leader of several controllers answers: that there is no such network.
_NO_NETWORK: Final = "?"
# Longest header in characters that is read.
_LONGEST: Final = 1024
# preference: RFC 7240, section 2
_PREFERENCE: Final = re.compile(r'\s*([^\s=;,"]+)\s*(?:=\s*("(?:[^"\\]|\\.)*"|[^\s;,"]*))?[^,]*(?:,|$)')


class Serving(Protocol):
    """What operations are carried out with."""

    connection: aio.Connection
    operations: Operations
    activity: Activity
    bodies: Bodies
    warnings: Warnings


def wants_no_wait(request: Request) -> bool:
    """Whether the client prefers not to wait. What it asks for in any other way is ignored."""
    text = ",".join(request.headers.getlist("prefer"))
    found = (
        {name.lower(): value for name, value in _PREFERENCE.findall(text)} if len(text) <= _LONGEST else {}
    )
    return found.get(RESPOND_ASYNC, "no") in ("", '""')


async def perform(
    serving: Serving,
    request: Request,
    about: About,
    work: Callable[[], Awaitable[Result]],
    *,
    reply: Callable[[Result], Response],
    check: Callable[[], Awaitable[object]],
    size: int = 0,
) -> Response:
    """Carry out an operation, and reply when it has ended; or, if the client prefers that, when it has begun.

    ``check``: what is checked before the latter reply; ``size``: bytes of the request. Raises what ``work``
    raises, ServerBusy and Conflict.
    """
    about = replace(about, client=access(request.scope))
    name = operation_id.current()

    async def whole() -> Result:
        with serving.bodies.holding(size), serving.activity.operation(about.kind):
            try:
                return await work()
            except NetvirtError as error:
                serving.warnings.failed(error)
                raise

    if not wants_no_wait(request):
        with serving.activity.operation(about.kind):
            return reply(await serving.operations.run(name, _coroutine(work), about))
    if "/" in name or not name.strip("."):
        raise InvalidDescription(
            f"header Netvirt-Operation: {name!r} cannot be part of a path: choose a name without slashes "
            f"for an operation with Prefer: {RESPOND_ASYNC}"
        )
    await check()
    await _check_leads(serving)
    operation = serving.operations.begin(name, whole(), replace(about, attended=False))
    place = f"{request.scope.get(ROOT, '/v1')}/operations/{quote(operation.id, safe='')}"
    return _told(operation, 202, {"location": place, "preference-applied": RESPOND_ASYNC})


def operations(serving: Serving) -> APIRouter:
    """The resources of operations."""
    router = APIRouter()

    @router.get("/operations", response_model=list[OperationReport], responses=WITH_LINK)
    async def listed(request: Request, query: Annotated[OperationsQuery, Query()]) -> Response:
        """The operations that are running, and those that have ended and whose clients did not wait for them
        (``Prefer: respond-async``), in the order in which they began."""
        check_once(request)
        await _check_leads(serving)
        found, headers = query.select(
            [one.report() for one in serving.operations.seen(access(request.scope))]
        )
        return Response(dump(found), headers=headers, media_type="application/json")

    @router.get("/operations/{operation}", response_model=OperationReport)
    async def one(
        request: Request,
        operation: str,
        wait: Annotated[
            int,
            Query(ge=0, le=LONGEST_WAIT, description="Reply when it has ended, or after so many seconds."),
            BeforeValidator(whole_number),
        ] = 0,
    ) -> Response:
        """How an operation is, or has ended."""
        check_once(request)
        found = await _find(serving, request, operation)
        await serving.operations.wait(found, wait)
        return _told(found)

    @router.post("/operations/{operation}/cancel", response_model=OperationReport)
    async def cancel(request: Request, operation: str) -> Response:
        """Cancel a running operation: it is undone as a whole, unless it is completed by then. Replies when
        it has ended, and tells how; one that has ended is left as it is."""
        found = await _find(serving, request, operation)
        await serving.operations.cancel_one(found, access(request.scope))
        return _told(found)

    return router


async def _find(serving: Serving, request: Request, name: str) -> Operation:
    try:
        return serving.operations.find(name, access(request.scope))
    except NotFound:
        await _check_leads(serving)
        raise


async def _check_leads(serving: Serving) -> None:
    """Raises NotLeader if another controller leads."""
    await serving.connection.driver.lookup(_NO_NETWORK)


async def _coroutine(work: Callable[[], Awaitable[Result]]) -> Result:
    return await work()


def _told(operation: Operation, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    content: Any = dump(operation.report())
    return Response(content, status, headers, media_type="application/json")
