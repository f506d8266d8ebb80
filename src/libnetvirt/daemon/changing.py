"""The resources of changes, repairs and all else that a POST asks for."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from libnetvirt.daemon import preconditions
from libnetvirt.daemon.access import access
from libnetvirt.daemon.activity import kind_of
from libnetvirt.daemon.bodies import read_body
from libnetvirt.daemon.openapi import ACCEPTED, IDEMPOTENCY_KEY, IF_MATCH, PREFER, body
from libnetvirt.daemon.operations import About, Result, check_name
from libnetvirt.daemon.performing import Serving, perform
from libnetvirt.daemon.wire import (
    ChangeRequest,
    DecisionRequest,
    OperationKind,
    Outcome,
    ReloadRequest,
    RepairRequest,
    VerificationRequest,
    dump,
    parse_change,
)
from libnetvirt.driver import Change
from libnetvirt.errors import NetvirtError, StaleChange
from libnetvirt.model import Forecast, Verification

# Bodies of more bytes than this are parsed in a thread, so as not to block the driver's event loop.
_LARGE = 64 * 2**10


def changing(service: Serving) -> APIRouter:
    """The resources that take requests for changes, and those that check or foretell them."""
    router = APIRouter()

    @router.post(
        "/changes",
        status_code=204,
        responses=ACCEPTED,
        openapi_extra=body(ChangeRequest, IF_MATCH, IDEMPOTENCY_KEY, PREFER),
    )
    async def change(request: Request) -> Response:
        """Perform one atomic operation; replies when the switches have confirmed it.

        With ``If-Match``, the network has to have this ETag, ``before`` may be left out, and the reply has
        the ETag of what the network has become.

        The operation continues if the client disconnects. A client that named it in the header
        ``Netvirt-Operation`` (64 characters at most) can withdraw it. Events and lines of the log have that
        name; the reply has it in the same header.

        With ``Prefer: respond-async`` the reply, 202, comes when the operation has begun.
        """
        changed: list[Change] = []

        async def check() -> None:
            changed[:] = [await preconditions.checked(request, service.connection, requested)]

        async def work() -> Result:
            await check()
            try:
                await service.connection.carry_out(changed[0])
            except StaleChange:
                if conditional:
                    raise preconditions.stale(changed[0].uuid) from None
                raise
            after = changed[0].after
            return Result(etag=preconditions.quoted(after) if conditional and after is not None else "")

        try:
            check_name(request)
            requested, size = await _change_of(service, request)
            conditional = preconditions.conditions(request) is not None
            about = _about(requested)
            return await perform(service, request, about, work, reply=_done, check=check, size=size)
        except NetvirtError as error:
            service.warnings.failed(error)
            raise

    @router.post(
        "/repairs",
        response_model=list[str],
        responses=ACCEPTED,
        openapi_extra=body(RepairRequest, IF_MATCH, IDEMPOTENCY_KEY, PREFER),
    )
    async def repair(request: Request) -> Response:
        """Restore what others changed in networks; replies with what was done, a string each."""
        asked = await read_body(service.bodies, request, RepairRequest)
        found = access(request.scope)
        found.check_repair(asked.network, orphans=asked.orphans)
        if found.limited and asked.network is not None:
            found.check_network((await service.connection.lookup(asked.network)).uuid, asked.network)

        async def check() -> None:
            if asked.network is None:
                preconditions.check_none(request)
            else:
                await preconditions.check_network(request, service.connection, asked.network)

        async def work() -> Result:
            await check()
            return Result(tuple(await service.connection.repair(asked.network, orphans=asked.orphans)))

        network = None if asked.network is None else await service.connection.driver.lookup(asked.network)
        about = About(OperationKind.REPAIR, network.uuid if network else "", network.name if network else "")
        return await perform(service, request, about, work, reply=_lines, check=check)

    @router.post("/verifications", response_model=Verification, openapi_extra=body(VerificationRequest))
    async def verify(request: Request) -> Response:
        """Prove that all frames are forwarded as networks promise; replies with what was proved. Asks the
        switches, and changes nothing."""
        asked = await read_body(service.bodies, request, VerificationRequest)
        return _reply(await service.connection.verify(*asked.networks))

    @router.post(
        "/reloads",
        response_model=list[str],
        responses=ACCEPTED,
        openapi_extra=body(ReloadRequest, IDEMPOTENCY_KEY, PREFER),
    )
    async def reload(request: Request) -> Response:
        """Reload the operator's files; replies with what became of constraints, a string each."""
        asked = await read_body(service.bodies, request, ReloadRequest)
        preconditions.check_none(request)
        if asked.dry_run:
            return _lines(Result(tuple(await service.connection.rehearsal().reload(degrade=asked.degrade))))

        async def work() -> Result:
            return Result(tuple(await service.connection.reload(degrade=asked.degrade)))

        about = About(OperationKind.RELOAD)
        return await perform(service, request, about, work, reply=_lines, check=_nothing)

    @router.post(
        "/decisions",
        response_model=list[str],
        responses=ACCEPTED,
        openapi_extra=body(DecisionRequest, IDEMPOTENCY_KEY, PREFER),
    )
    async def decide(request: Request) -> Response:
        """Take over or leave switches that are refused because of another controller; replies with their
        names."""
        asked = await read_body(service.bodies, request, DecisionRequest)
        preconditions.check_none(request)
        decide = service.connection.adopt if asked.decision == "adopt" else service.connection.forget

        async def work() -> Result:
            return Result(tuple(await decide(asked.switch)))

        about = About(OperationKind(asked.decision))
        return await perform(service, request, about, work, reply=_lines, check=_nothing)

    @router.post("/checks", status_code=204, openapi_extra=body(ChangeRequest, IF_MATCH))
    async def check(request: Request) -> Response:
        """Check whether an operation would be accepted now. Changes nothing."""
        requested, _ = await _change_of(service, request)
        with service.activity.operation("check"):
            requested = await preconditions.checked(request, service.connection, requested)
            await service.connection.examine(requested)
        return Response(status_code=204)

    @router.post("/forecasts", response_model=Forecast, openapi_extra=body(ChangeRequest, IF_MATCH))
    async def forecast(request: Request) -> Response:
        """Tell what an operation would change. Changes nothing."""
        requested, _ = await _change_of(service, request)
        with service.activity.operation("forecast"):
            requested = await preconditions.checked(request, service.connection, requested)
            return _reply(await service.connection.foresee(requested))

    @router.delete("/changes/{operation}", response_model=Outcome)
    async def withdraw(request: Request, operation: str) -> Response:
        """Undo a running operation; replies with its outcome."""
        outcome = await service.operations.withdraw(operation, access(request.scope))
        return _reply(Outcome(outcome=outcome))

    return router


def _reply(value: Any) -> Response:
    return Response(dump(value), media_type="application/json")


def _done(result: Result) -> Response:
    return Response(status_code=204, headers={"etag": result.etag} if result.etag else None)


def _lines(result: Result) -> Response:
    return _reply(result.lines)


async def _nothing() -> None:
    pass


def _about(change: Change) -> About:
    network = change.after or change.before
    assert network is not None
    return About(OperationKind(kind_of(change)), network.uuid, network.name)


async def _change_of(service: Serving, request: Request) -> tuple[Change, int]:
    """The change that a request asks for, and the size of the request."""
    async with service.bodies.read(request) as content:
        if len(content) > _LARGE:
            change = await asyncio.to_thread(parse_change, content)
        else:
            change = parse_change(content)
    access(request.scope).check_change(change)
    return change, len(content)
