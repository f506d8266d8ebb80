"""The daemon's own resources: its connections, its configuration and its reload."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from fastapi import FastAPI, Request
from fastapi.responses import Response

from libnetvirt import __version__
from libnetvirt.configuration import Configuration
from libnetvirt.daemon.access import access
from libnetvirt.daemon.bodies import Bodies, read_body
from libnetvirt.daemon.connections import Connections
from libnetvirt.daemon.error_handlers import handle_errors
from libnetvirt.daemon.idempotency import Idempotency
from libnetvirt.daemon.monitoring import CountRequests, Monitor, monitoring
from libnetvirt.daemon.openapi import IDEMPOTENCY_KEY, RESPONSES, body, describe
from libnetvirt.daemon.preconditions import check_none
from libnetvirt.daemon.wire import AccessReport, ConfigurationReport, ConnectionReport, ReloadRequest, dump

__all__ = ["Daemon", "build_resources"]


class Daemon(Protocol):
    """What the resources are about."""

    configuration: Configuration
    connections: Connections
    monitor: Monitor
    #: the file of the configuration; empty if there is none
    file: str

    async def reload(self, *, degrade: bool) -> Sequence[str]:
        """Reload the configuration and the operator's files; tells what was done. Raises NetvirtError."""

    async def preview_reload(self, *, degrade: bool) -> Sequence[str]:
        """Tell what a reload would do, and change nothing. Raises NetvirtError."""


def build_resources(daemon: Daemon) -> FastAPI:
    """The application with the daemon's own resources."""
    app = FastAPI(
        title="netvirtd",
        version=__version__,
        openapi_url="/v1/configuration/openapi.json",
        docs_url=None,
        redoc_url=None,
        responses=RESPONSES,
    )
    describe(app)
    bodies = Bodies()

    @app.get("/v1/connections", response_model=list[ConnectionReport])
    async def connections(request: Request) -> Response:
        """The connections: name, driver's URI, whether it is open, else why not."""
        found = access(request.scope)
        return _reply(
            [
                ConnectionReport(
                    name=slot.name, uri=slot.settings.uri, open=slot.opened is not None, reason=slot.reason
                )
                for slot in daemon.connections
                if found.sees_connection(slot.name)
            ]
        )

    @app.get("/v1/access", response_model=AccessReport)
    async def permitted(request: Request) -> Response:
        """What this client may do: its token's name and role, and what it is limited to."""
        return _reply(access(request.scope).report())

    @app.get("/v1/configuration", response_model=ConfigurationReport)
    async def configuration() -> Response:
        """The configuration in use, and the file it was read from."""
        content = daemon.configuration.model_dump(mode="json", by_alias=True, exclude_none=True)
        return _reply(ConfigurationReport(file=daemon.file, configuration=content))

    @app.post(
        "/v1/configuration/reloads",
        response_model=list[str],
        openapi_extra=body(ReloadRequest, IDEMPOTENCY_KEY),
    )
    async def reload(request: Request) -> Response:
        """Reload the configuration, and the operator's files of every connection; replies with what was
        done, a string each. A configuration with a fault is refused as a whole."""
        asked = await read_body(bodies, request, ReloadRequest)
        check_none(request)
        reload = daemon.preview_reload if asked.dry_run else daemon.reload
        return _reply(list(await reload(degrade=asked.degrade)))

    app.include_router(monitoring(daemon.monitor))
    handle_errors(app)
    app.add_middleware(Idempotency, bodies=bodies)
    app.add_middleware(CountRequests, requests=daemon.monitor.requests)
    return app


def _reply(value: Any) -> Response:
    return Response(dump(value), media_type="application/json")
