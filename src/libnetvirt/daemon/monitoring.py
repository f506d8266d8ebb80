"""What is watched: ``/metrics`` for Prometheus, ``/healthz`` and ``/readyz`` for what starts and restarts
servers.

Nothing here is on the way of a frame. Numbers that drivers count anyway are read when they are asked for,
and a page is written in pieces between which the event loop does other things.
"""

from __future__ import annotations

import asyncio
import json
import logging
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Protocol

from fastapi import APIRouter, FastAPI
from fastapi.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from libnetvirt import __version__, aio, model
from libnetvirt.daemon import activity
from libnetvirt.daemon.activity import SERIES, Activity, Lag
from libnetvirt.daemon.broadcast import Broadcast
from libnetvirt.daemon.exposition import MEDIA_TYPE, Page, Tally
from libnetvirt.daemon.openapi import content
from libnetvirt.daemon.webhooks import Hooks
from libnetvirt.errors import NetvirtError
from libnetvirt.model import Measured
from libnetvirt.model.report import Report

log = logging.getLogger("libnetvirt.daemon")

#: Seconds for which a page is served again: asking more often costs nothing.
FRESH: Final = 0.25
#: Seconds that a connection has to say whether it is ready.
READY_TIMEOUT: Final = 5.0
_METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


class Served(Protocol):
    """What is read of a connection that is served."""

    connection: aio.Connection
    activity: Activity
    events: Broadcast
    hooks: Hooks


class Monitor:
    """Reads all connections of a server. ``connections``: those that there are now, by the names that they
    have in metrics; for one that is not open, why that is so."""

    def __init__(self, connections: Callable[[], Mapping[str, Served | str]]) -> None:
        self._connections = connections
        self.requests = Tally(activity.REQUESTS, SERIES)
        self.lag = Lag()
        self._reading = asyncio.Lock()
        self._text, self._written = "", 0.0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Measure how late the event loop is, in the block."""
        task = asyncio.get_running_loop().create_task(self.lag.watch())
        try:
            yield
        finally:
            task.cancel()

    async def text(self) -> str:
        """All metrics in Prometheus' format."""
        async with self._reading:
            if not self._text or time.monotonic() - self._written >= FRESH:
                page = Page()
                self._server(page)
                for name, served in self._connections().items():
                    await self._connection(page, name, served)
                parts = []
                for piece in page.pieces():
                    parts.append(piece)
                    await asyncio.sleep(0)
                self._text, self._written = "".join(parts), time.monotonic()
            return self._text

    def _server(self, page: Page) -> None:
        build = (__version__, platform.python_version())
        page.add(activity.BUILD, {}, [Measured(build, 1)])
        page.add(activity.REQUESTS, {}, self.requests.read())
        page.add(activity.LAG, {}, self.lag.histogram)
        for metric, value in activity.of_process():
            page.add(metric, {}, [Measured((), value)])

    async def _connection(self, page: Page, name: str, served: Served | str) -> None:
        labels = {"connection": name}
        if isinstance(served, str):
            page.add(activity.READ, labels, [Measured((), 0)])
            return
        did = served.activity
        page.add(activity.OPERATIONS, labels, did.durations)
        page.add(activity.ERRORS, labels, did.errors.read())
        page.add(activity.REQUESTS, labels, did.requests.read())
        page.add(activity.RUNNING, labels, [Measured((), did.running)])
        page.add(activity.EVENTS, labels, did.events.read())
        page.add(activity.READERS, labels, [Measured((), served.events.readers)])
        page.add(activity.CLIENT_LOSSES, labels, [Measured((), served.events.lost)])
        if (kept := served.events.log) is not None:
            page.add(activity.UNWRITTEN, labels, [Measured((), kept.failed)])
        for of_hooks, values in served.hooks.metrics():
            page.add(of_hooks, labels, values)
        try:
            offered = await served.connection.capabilities()
            found = await served.connection.metrics() if "metrics" in offered.features else ()
        except NetvirtError as error:
            log.warning("the metrics of connection %s cannot be read: %s", name, error)
            page.add(activity.READ, labels, [Measured((), 0)])
            return
        page.add(activity.READ, labels, [Measured((), 1)])
        page.add(activity.CONNECTION, labels, [Measured((offered.driver,), 1)])
        left_out = []
        for one in found:
            metric = model.METRICS.get(one.name)
            if metric is None:
                continue  # of a driver that does not keep to the catalogue
            if (more := len(one.values) - SERIES) > 0:
                left_out.append(Measured((one.name,), more))
            page.add(metric, labels, one.values[:SERIES])
        page.add(activity.LEFT_OUT, labels, left_out)

    async def reasons(self) -> dict[str, list[str]]:
        """Why the connections are not ready, by name; empty if all are."""
        served = self._connections()
        found = await asyncio.gather(*map(self._unready, served.values()))
        return {name: reasons for name, reasons in zip(served, found, strict=True) if reasons}

    async def _unready(self, served: Served | str) -> list[str]:
        if isinstance(served, str):
            return [f"it is not open: {served}"]
        try:
            async with asyncio.timeout(READY_TIMEOUT):
                return list(await served.connection.driver.readiness())
        except NetvirtError as error:
            return [str(error)]
        except TimeoutError:
            return [f"the driver did not answer within {READY_TIMEOUT:g} s"]


class Health(Report):
    """Whether a server can do what it is for: the ``status``, and for each connection that is not ready the
    ``reasons``."""

    status: str
    reasons: dict[str, list[str]] | None = None


def monitoring(monitor: Monitor) -> APIRouter:
    """The resources of monitoring."""
    router = APIRouter()

    @router.get("/metrics", response_class=Response, responses=content(MEDIA_TYPE))
    async def metrics() -> Response:
        """All metrics, in Prometheus' text format."""
        return Response(await monitor.text(), media_type=MEDIA_TYPE)

    @router.get("/healthz", response_model=Health)
    async def healthz() -> Response:
        """Status 200 as long as the server's event loop runs."""
        return _status(200, {"status": "ok"})

    @router.get("/readyz", response_model=Health, responses={503: {"model": Health}})
    async def readyz() -> Response:
        """Status 200 if all connections can do what they are for, else 503 with the reasons."""
        reasons = await monitor.reasons()
        if not reasons:
            return _status(200, {"status": "ready"})
        return _status(503, {"status": "not ready", "reasons": reasons})

    return router


def build_monitoring_app(monitor: Monitor) -> FastAPI:
    """An application that offers nothing else, for a TCP port."""
    app = FastAPI(
        title="netvirtd metrics", version=__version__, openapi_url=None, docs_url=None, redoc_url=None
    )
    app.include_router(monitoring(monitor))
    app.add_middleware(CountRequests, requests=monitor.requests)
    return app


def _status(status: int, document: object) -> Response:
    return Response(json.dumps(document), status, media_type="application/json")


def _pattern(scope: Scope) -> str:
    """The pattern of a request's path, such as ``/v1/networks/{key}``: paths as clients write them would be
    as many as clients like."""
    pattern: str | None = getattr(scope.get("route"), "path", None)
    if pattern is None:
        return "(none)"
    # Some versions of FastAPI give the pattern without the prefix of its router.
    return "/".join(scope["path"].split("/")[: -pattern.count("/")]) + pattern


class CountRequests:
    """Counts requests by method, the pattern of their path, and status."""

    def __init__(self, app: ASGIApp, requests: Tally) -> None:
        self.app = app
        self._requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                method = scope["method"] if scope["method"] in _METHODS else "(other)"
                self._requests.add(method, _pattern(scope), str(message["status"]))
            await send(message)

        await self.app(scope, receive, sending if scope["type"] == "http" else send)
