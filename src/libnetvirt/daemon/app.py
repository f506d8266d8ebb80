"""The web application: resources under ``/v1`` for one open connection.

Replies are serialised by the models themselves and not validated again by FastAPI: a network of 10,000
endpoints is one call into pydantic.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.responses import Response

from libnetvirt import __version__, aio
from libnetvirt.daemon import preconditions
from libnetvirt.daemon.access import access
from libnetvirt.daemon.activity import Activity, kind_of
from libnetvirt.daemon.bodies import Bodies
from libnetvirt.daemon.broadcast import Broadcast
from libnetvirt.daemon.error_handlers import handle_errors
from libnetvirt.daemon.explaining import ExplanationQuery
from libnetvirt.daemon.idempotency import Idempotency
from libnetvirt.daemon.listing import ListQuery, check_once
from libnetvirt.daemon.monitoring import CountRequests, Monitor, monitoring
from libnetvirt.daemon.openapi import (
    IDEMPOTENCY_KEY,
    IF_MATCH,
    IF_NONE_MATCH,
    RESPONSES,
    WITH_ETAG,
    WITH_LINK,
    body,
    content,
    describe,
)
from libnetvirt.daemon.operations import NameOperations, Operations, check_name
from libnetvirt.daemon.stream import EventResponse, stream_of
from libnetvirt.daemon.warnings import Warnings
from libnetvirt.daemon.webhooks import Hooks
from libnetvirt.daemon.wire import (
    INTERFACE,
    ChangeRequest,
    DecisionRequest,
    E,
    Outcome,
    ReloadRequest,
    RepairRequest,
    VerificationRequest,
    Version,
    dump,
    parse,
    parse_change,
)
from libnetvirt.driver import Capabilities, Change
from libnetvirt.errors import NetvirtError, StaleChange
from libnetvirt.model import (
    ConstraintCounters,
    Counters,
    Event,
    Explanation,
    Forecast,
    Measurement,
    NetworkState,
    Path,
    Recovered,
    RuleLine,
    Substrate,
    Verification,
    VirtualNetwork,
)
from libnetvirt.tasks import Tasks

log = logging.getLogger("libnetvirt.daemon")

#: The name of the only connection of a server, in the label ``connection`` of metrics.
DEFAULT = "default"
#: The media type of a backup.
BACKUP = "application/vnd.sqlite3"
# Bodies of more bytes than this are parsed in a thread, so as not to block the driver's event loop.
_LARGE = 64 * 2**10


class Service:
    """The state that all resources share: the connection and its events, running changes, the bodies of
    requests, and the warnings in the log.

    ``on_event``: called with each event of the connection. Without it, events that tell what was refused or
    dropped are logged as warnings. ``name``: the connection, in a server with several. ``events``: the
    broadcast of its events, if these are kept in a log.
    """

    def __init__(
        self,
        connection: aio.Connection,
        on_event: Callable[[Event], None] | None = None,
        name: str = "",
        events: Broadcast | None = None,
    ) -> None:
        self.connection = connection
        self.operations = Operations()
        self.warnings = Warnings(connection=name)
        self.bodies = Bodies()
        self.activity = Activity()
        self.events = events or Broadcast()
        self.events.on_loss = self.warnings.event
        self._on_event = on_event or self.warnings.event
        self.hooks = Hooks(self.events, self._happened)
        self._tasks = Tasks()
        self._watching = False

    def watch(self) -> None:
        """Start to read the events of the connection, if that has not begun."""
        if not self._watching:
            self._watching = True
            self._tasks.spawn(self._watch(self.connection.events()))
            self._tasks.spawn(self.events.keep_alive())

    def rename(self, name: str) -> None:
        """The connection got another name."""
        self.warnings.connection = name

    async def close(self) -> None:
        """Wait for running changes, and end what :meth:`watch` began."""
        await self.operations.finish()
        await self.hooks.close()
        self.events.close()
        await self._tasks.close()
        if self.events.log is not None:
            await self.events.log.close()

    async def _watch(self, events: AsyncIterator[Event]) -> None:
        async for event in events:
            self._happened(event)

    def _happened(self, event: Event) -> None:
        self.events.publish(event)
        self.activity.event(event.kind)
        self._on_event(event)


def build_app(
    connection: aio.Connection,
    on_event: Callable[[Event], None] | None = None,
    name: str = "",
    events: Broadcast | None = None,
) -> FastAPI:
    """Build the application for an open connection, which it does not close. Its Service is
    ``app.state.service``.

    ``on_event``, ``name``, ``events``: as for :class:`Service`.
    """
    service = Service(connection, on_event, name, events)
    app = FastAPI(
        title="netvirtd",
        version=__version__,
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        responses=RESPONSES,
    )
    describe(app)
    app.state.service = service
    app.state.monitor = monitor = Monitor(lambda: {name or DEFAULT: service})
    app.include_router(monitoring(monitor))
    app.include_router(_reading(service), prefix="/v1")
    app.include_router(_changing(service), prefix="/v1")
    handle_errors(app)
    app.add_middleware(NameOperations)
    app.add_middleware(Idempotency, bodies=service.bodies)
    app.add_middleware(CountRequests, requests=service.activity.requests)
    return app


def _reading(service: Service) -> APIRouter:
    router = APIRouter()
    connection = service.connection

    @router.get("/version", response_model=Version)
    async def version() -> Response:
        """The versions of the library and of this interface, and the driver's name."""
        offered = await connection.capabilities()
        return _reply(Version(version=__version__, interface=INTERFACE, driver=offered.driver))

    @router.get("/capabilities", response_model=Capabilities)
    async def capabilities() -> Response:
        """What the driver offers."""
        return _reply(await connection.capabilities())

    @router.get("/networks", response_model=list[VirtualNetwork], responses=WITH_LINK)
    async def networks(request: Request, query: Annotated[ListQuery, Query()]) -> Response:
        """The descriptions of all networks, ordered by creation; or of some; or a page, ordered by name."""
        check_once(request)
        states = {} if query.status is None else await connection.driver.states()
        found, headers = query.select(access(request.scope).seen(await connection.descriptions()), states)
        return _reply(found, headers=headers)

    @router.get(
        "/networks/{key}",
        response_model=VirtualNetwork,
        responses=WITH_ETAG,
        openapi_extra={"parameters": [IF_NONE_MATCH]},
    )
    async def network(request: Request, key: str) -> Response:
        """The description of the network with this uuid, or else this name. Its ETag is for ``If-Match``."""
        found = await (await connection.lookup(key)).description()
        headers = {"etag": preconditions.quoted(found)}
        if preconditions.unchanged(request, found):
            return Response(status_code=304, headers=headers)
        return _reply(found, headers=headers)

    @router.get("/networks/{key}/state", response_model=NetworkState)
    async def state(key: str) -> Response:
        """State of a network and its endpoints, and the hosts it knows."""
        return _reply(await (await connection.lookup(key)).state())

    @router.get("/networks/{key}/paths", response_model=list[Path])
    async def paths(key: str) -> Response:
        """The current paths between the endpoints."""
        return _reply(await (await connection.lookup(key)).paths())

    @router.get("/networks/{key}/statistics", response_model=list[Counters])
    async def statistics(key: str) -> Response:
        """Counters per endpoint, read from the switches."""
        return _reply(await (await connection.lookup(key)).statistics())

    @router.get("/networks/{key}/constraint-statistics", response_model=list[ConstraintCounters])
    async def constraint_statistics(key: str) -> Response:
        """Counters per constraint, read from the switches twice, a second apart."""
        return _reply(await (await connection.lookup(key)).constraint_statistics())

    @router.get("/networks/{key}/rules", response_model=list[RuleLine])
    async def rules_of(key: str) -> Response:
        """The rules of one network, read from the switches."""
        return _reply(await connection.rules(key))

    @router.get("/networks/{key}/explanation", response_model=Explanation)
    async def explanation(
        request: Request, key: str, query: Annotated[ExplanationQuery, Query()]
    ) -> Response:
        """Why frames between two endpoints arrive or not, in both directions. Asks the switches."""
        check_once(request)
        return _reply(await connection.explain(key, query.source, query.destination, query.traffic()))

    @router.get("/rules", response_model=list[RuleLine])
    async def rules() -> Response:
        """The rules of all networks, read from the switches."""
        return _reply(await connection.rules())

    @router.get("/substrate", response_model=Substrate)
    async def substrate() -> Response:
        """The switches, ports and links."""
        return _reply(await connection.substrate())

    @router.get("/metrics", response_model=list[Measurement])
    async def metrics() -> Response:
        """The driver's numbers for monitoring. ``/metrics``, without ``/v1``, has all for Prometheus."""
        return _reply(await connection.metrics())

    @router.get("/recovered", response_model=Recovered)
    async def recovered() -> Response:
        """The networks that the rules of refused switches were made for, and what the rules do not tell."""
        return _reply(await connection.recover())

    @router.get("/backup", response_class=Response, responses=content(BACKUP, format="binary"))
    async def backup() -> Response:
        """A consistent copy of the stored networks, as a file that ``netvirt restore`` reads."""
        return Response(await connection.backup(), media_type=BACKUP)

    @router.get("/events", response_class=EventResponse)
    async def events(request: Request, after: str = "", since: str = "") -> Response:
        """Events from now on, or those after the event with the id ``after``, or ``since`` a time (in seconds
        of the epoch): one JSON object a line, and empty lines that keep the connection alive. With the header
        ``Accept: text/event-stream`` as server-sent events; ``Last-Event-ID`` is as good as ``after``.

        Events are kept in a log, also over restarts. A client that reads too slowly, or comes back too late,
        loses the oldest ones: an event ``events.lost`` says how many (``count``), and after which id the
        stream goes on (``resume``).
        """
        service.watch()
        return await stream_of(service.events, request, after, since)

    return router


def _changing(service: Service) -> APIRouter:
    router = APIRouter()

    @router.post("/changes", status_code=204, openapi_extra=body(ChangeRequest, IF_MATCH, IDEMPOTENCY_KEY))
    async def change(request: Request) -> Response:
        """Perform one atomic operation; replies when the switches have confirmed it.

        With ``If-Match``, the network has to have this ETag, ``before`` may be left out, and the reply has
        the ETag of what the network has become.

        The operation continues if the client disconnects. A client that named it in the header
        ``Netvirt-Operation`` (64 characters at most) can withdraw it. Events and lines of the log have that
        name; the reply has it in the same header.
        """
        try:
            name = access(request.scope).owner + check_name(request)
            requested = await _change_of(service, request)
            with service.activity.operation(kind_of(requested)):
                requested = await preconditions.checked(request, service.connection, requested)
                await service.operations.run(name, service.connection.carry_out(requested))
        except NetvirtError as error:
            if isinstance(error, StaleChange) and preconditions.conditions(request) is not None:
                error = preconditions.stale(requested.uuid)
            service.warnings.failed(error)
            raise error from None
        if requested.after is not None and preconditions.conditions(request) is not None:
            return Response(status_code=204, headers={"etag": preconditions.quoted(requested.after)})
        return Response(status_code=204)

    @router.post(
        "/repairs", response_model=list[str], openapi_extra=body(RepairRequest, IF_MATCH, IDEMPOTENCY_KEY)
    )
    async def repair(request: Request) -> Response:
        """Restore what others changed in networks; replies with what was done, a string each."""
        asked = await read_body(service.bodies, request, RepairRequest)
        found = access(request.scope)
        found.check_repair(asked.network, orphans=asked.orphans)
        if found.limited and asked.network is not None:
            found.check_network((await service.connection.lookup(asked.network)).uuid, asked.network)
        with service.activity.operation("repair"):
            if asked.network is None:
                preconditions.check_none(request)
            else:
                await preconditions.check_network(request, service.connection, asked.network)
            return _reply(await service.connection.repair(asked.network, orphans=asked.orphans))

    @router.post("/verifications", response_model=Verification, openapi_extra=body(VerificationRequest))
    async def verify(request: Request) -> Response:
        """Prove that all frames are forwarded as networks promise; replies with what was proved. Asks the
        switches, and changes nothing."""
        asked = await read_body(service.bodies, request, VerificationRequest)
        return _reply(await service.connection.verify(*asked.networks))

    @router.post("/reloads", response_model=list[str], openapi_extra=body(ReloadRequest, IDEMPOTENCY_KEY))
    async def reload(request: Request) -> Response:
        """Reload the operator's files; replies with what became of constraints, a string each."""
        asked = await read_body(service.bodies, request, ReloadRequest)
        preconditions.check_none(request)
        if asked.dry_run:
            return _reply(await service.connection.rehearsal().reload(degrade=asked.degrade))
        with service.activity.operation("reload"):
            return _reply(await service.connection.reload(degrade=asked.degrade))

    @router.post("/decisions", response_model=list[str], openapi_extra=body(DecisionRequest, IDEMPOTENCY_KEY))
    async def decide(request: Request) -> Response:
        """Take over or leave switches that are refused because of another controller; replies with their
        names."""
        asked = await read_body(service.bodies, request, DecisionRequest)
        preconditions.check_none(request)
        decide = service.connection.adopt if asked.decision == "adopt" else service.connection.forget
        with service.activity.operation(asked.decision):
            return _reply(await decide(asked.switch))

    @router.post("/checks", status_code=204, openapi_extra=body(ChangeRequest, IF_MATCH))
    async def check(request: Request) -> Response:
        """Check whether an operation would be accepted now. Changes nothing."""
        requested = await _change_of(service, request)
        with service.activity.operation("check"):
            requested = await preconditions.checked(request, service.connection, requested)
            await service.connection.examine(requested)
        return Response(status_code=204)

    @router.post("/forecasts", response_model=Forecast, openapi_extra=body(ChangeRequest, IF_MATCH))
    async def forecast(request: Request) -> Response:
        """Tell what an operation would change. Changes nothing."""
        requested = await _change_of(service, request)
        with service.activity.operation("forecast"):
            requested = await preconditions.checked(request, service.connection, requested)
            return _reply(await service.connection.foresee(requested))

    @router.delete("/changes/{operation}", response_model=Outcome)
    async def withdraw(request: Request, operation: str) -> Response:
        """Undo a running operation; replies with its outcome."""
        name = access(request.scope).owner + operation
        return _reply(Outcome(outcome=await service.operations.withdraw(name)))

    return router


def _reply(value: Any, headers: Mapping[str, str] | None = None) -> Response:
    return Response(dump(value), headers=headers, media_type="application/json")


async def _change_of(service: Service, request: Request) -> Change:
    async with service.bodies.read(request) as content:
        if len(content) > _LARGE:
            change = await asyncio.to_thread(parse_change, content)
        else:
            change = parse_change(content)
    access(request.scope).check_change(change)
    return change


async def read_body(bodies: Bodies, request: Request, kind: type[E]) -> E:
    """Read and parse the body of a request. Raises InvalidDescription with every fault."""
    async with bodies.read(request) as content:
        return parse(kind, content)
