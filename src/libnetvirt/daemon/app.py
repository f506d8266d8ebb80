"""The web application: resources under ``/v1`` for one open connection.

Replies are serialised by the models themselves and not validated again by FastAPI: a network of 10,000
endpoints is one call into pydantic.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.responses import Response

from libnetvirt import __version__, aio
from libnetvirt.daemon import preconditions
from libnetvirt.daemon.access import access
from libnetvirt.daemon.activity import Activity
from libnetvirt.daemon.bodies import Bodies
from libnetvirt.daemon.broadcast import Broadcast
from libnetvirt.daemon.changing import changing
from libnetvirt.daemon.error_handlers import handle_errors
from libnetvirt.daemon.explaining import ExplanationQuery
from libnetvirt.daemon.idempotency import Idempotency
from libnetvirt.daemon.listing import ListQuery, check_once
from libnetvirt.daemon.monitoring import CountRequests, Monitor, monitoring
from libnetvirt.daemon.openapi import (
    IF_NONE_MATCH,
    RESPONSES,
    WITH_ETAG,
    WITH_LINK,
    content,
    describe,
)
from libnetvirt.daemon.operations import NameOperations, Operations
from libnetvirt.daemon.performing import operations
from libnetvirt.daemon.stream import EventResponse, stream_of
from libnetvirt.daemon.warnings import Warnings
from libnetvirt.daemon.webhooks import Hooks
from libnetvirt.daemon.wire import (
    INTERFACE,
    Version,
    dump,
)
from libnetvirt.driver import Capabilities
from libnetvirt.model import (
    ConstraintCounters,
    Counters,
    Event,
    Explanation,
    Measurement,
    NetworkState,
    Path,
    Recovered,
    RuleLine,
    Substrate,
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
    app.include_router(changing(service), prefix="/v1")
    app.include_router(operations(service), prefix="/v1")
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


def _reply(value: Any, headers: Mapping[str, str] | None = None) -> Response:
    return Response(dump(value), headers=headers, media_type="application/json")
