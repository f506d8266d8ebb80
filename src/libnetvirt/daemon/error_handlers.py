"""What becomes of errors that the handlers of requests raise: problem documents."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from libnetvirt.daemon.access import access
from libnetvirt.daemon.listing import ListQuery, OperationsQuery
from libnetvirt.daemon.problems import INTERNAL, http_problem, refusal
from libnetvirt.errors import Fault, InvalidDescription, NetvirtError
from libnetvirt.model import wording
from libnetvirt.suggestions import did_you_mean

log = logging.getLogger("libnetvirt.daemon")


def handle_errors(app: FastAPI) -> None:
    """Have all errors of an application answered as problems."""
    app.add_exception_handler(NetvirtError, _refused)
    app.add_exception_handler(HTTPException, _no_such_resource)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_middleware(Guard)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, NetvirtError)
    return refusal(access(request.scope).told(error))


async def _no_such_resource(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}. /v1/openapi.json lists the resources."
    return http_problem(error.status_code, message, error.headers)


async def _invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    query = OperationsQuery if request.url.path.endswith("/operations") else ListQuery
    faults = [Fault(_text(fault, query), "/".join(map(str, fault["loc"]))) for fault in error.errors()]
    return await _refused(request, InvalidDescription(faults))


def _text(fault: Mapping[str, Any], query: type[BaseModel]) -> str:
    if fault["type"] == "extra_forbidden":
        name, known = str(fault["loc"][-1]), list(query.model_fields)
        return "is not known here." + (did_you_mean(name, known) or f" Allowed are {', '.join(known)}")
    return wording.text_of(fault)


class Guard:
    """Turns an unexpected exception into status 500 for the client and a traceback in the server's log."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application."""
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, sending)
        except ClientDisconnect:
            return
        except Exception as error:
            if len(found := _leaves(error)) == 1 and isinstance(found[0], ConnectionError):
                return
            log.exception("%s %s failed", scope.get("method"), scope.get("path"))
            if not started:
                await http_problem(500, INTERNAL)(scope, receive, send)


def _leaves(error: BaseException) -> Sequence[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [reason for part in error.exceptions for reason in _leaves(part)]
    return [error]
