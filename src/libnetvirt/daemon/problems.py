"""Errors as clients get them: problem documents (RFC 9457) with stable codes.

``type`` is ``urn:libnetvirt:problem:`` and the code, ``title`` the same for all of a type; ``detail``
says what is wrong and how to correct it. ``code`` and ``message`` are as :mod:`libnetvirt.errors` has them:
clients of libnetvirt read these. Faults of the HTTP itself, which no class of error is for, have the codes of
:data:`HTTP_CODES`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from starlette.responses import Response

from libnetvirt.errors import NetvirtError, NotFound, NotLeader, ServerBusy

MEDIA_TYPE: Final = "application/problem+json"
#: The header that tells where the controller is that leads.
LEADER: Final = "netvirt-leader"
#: Seconds after which a client may try again what the server has no room for now (``Retry-After``).
RETRY_AFTER: Final = 1
#: What clients are told of an exception that nobody expected.
INTERNAL: Final = "internal error in the server: its log has the traceback"
#: What each type of a problem begins with.
TYPE: Final = "urn:libnetvirt:problem:"
#: status -> code of a problem that is none of libnetvirt's errors
HTTP_CODES: Final[Mapping[int, str]] = {
    400: "bad-request",
    404: NotFound.code,
    405: "method-not-allowed",
    408: "request-timeout",
    422: "idempotency-key-reused",
}


class ProblemResponse(Response):
    """A reply that is a problem document."""

    media_type = MEDIA_TYPE


def document(status: int, code: str, message: str, **more: Any) -> dict[str, Any]:
    """The problem document of an error."""
    return {
        "type": TYPE + code,
        "title": "Internal error" if code == NetvirtError.code else code.replace("-", " ").capitalize(),
        "status": status,
        "detail": message,
        "code": code,
        "message": message,
        **more,
    }


def refusal(error: NetvirtError) -> Response:
    """The reply that tells an error."""
    reply = ProblemResponse(json.dumps(document(error.http_status, **error.to_json())), error.http_status)
    if isinstance(error, NotLeader) and error.leader:
        reply.headers[LEADER] = quote(error.leader, safe=":[]/")
    if isinstance(error, ServerBusy):
        reply.headers["retry-after"] = str(RETRY_AFTER)
    return reply


def http_problem(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """The reply that tells a fault of the HTTP itself."""
    content = json.dumps(document(status, HTTP_CODES.get(status, NetvirtError.code), message))
    return ProblemResponse(content, status, headers)


def last_words(status: int, code: str, message: str) -> bytes:
    """A whole HTTP response, for a client that is not served at all."""
    body = json.dumps(document(status, code, message)).encode()
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: {MEDIA_TYPE}\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
