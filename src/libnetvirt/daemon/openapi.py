"""What ``openapi.json`` says besides what FastAPI finds in the signatures of handlers.

FastAPI knows neither the bodies of our requests, which we parse ourselves, nor problem documents, and lists
replies to invalid requests that are never sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI

from libnetvirt.daemon.access import OPEN
from libnetvirt.daemon.input_schemas import INPUT, of_requests
from libnetvirt.daemon.preconditions import LIMIT
from libnetvirt.daemon.problems import MEDIA_TYPE
from libnetvirt.daemon.wire import (
    ChangeRequest,
    DecisionRequest,
    OperationReport,
    Problem,
    ReloadRequest,
    RepairRequest,
    VerificationRequest,
)
from libnetvirt.model.element import Element

#: What a FastAPI application is made with, so that errors have a schema.
RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    "default": {"model": Problem, "description": "An error, with a stable code; nothing was changed."}
}
_ETAG: Final = {"type": "string", "pattern": '^"[0-9a-f]{32}"$'}
_TAG: Final = '(W/)?"[!#-~]*"'
IF_MATCH: Final[Mapping[str, Any]] = {
    "name": "If-Match",
    "in": "header",
    "description": "The ETag that the network has to have; otherwise the reply is 412, and nothing is done.",
    "schema": {
        "type": "string",
        "pattern": rf"^\s*(\*|(,\s*)*{_TAG}(\s*,\s*({_TAG})?)*)\s*$",
        "maxLength": LIMIT,
    },
}
IDEMPOTENCY_KEY: Final[Mapping[str, Any]] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A new one for each change. The same request with the same key gets the same answer.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
}
#: RFC 7240
PREFER: Final[Mapping[str, Any]] = {
    "name": "Prefer",
    "in": "header",
    "description": "respond-async: the reply comes at once, and tells where the operation is found.",
    "schema": {"type": "string", "examples": ["respond-async"]},
}
IF_NONE_MATCH: Final[Mapping[str, Any]] = {
    "name": "If-None-Match",
    "in": "header",
    "description": "The ETag that the client has: if it is still that of the network, the reply is 304.",
    "schema": {"type": "string"},
}
_WITH_ETAG: Final = {"headers": {"ETag": {"schema": _ETAG}}}
#: For ``responses`` of a route.
WITH_ETAG: Final[dict[int | str, dict[str, Any]]] = {
    200: _WITH_ETAG,
    304: {"description": "The network has the ETag that If-None-Match gives.", **_WITH_ETAG},
}
WITH_LINK: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "headers": {
            "Link": {
                "description": 'The next page: <?…>; rel="next", as RFC 8288 has it. Not with the last one.',
                "schema": {"type": "string"},
            }
        }
    }
}
#: For ``responses`` of a route whose operation a client need not wait for.
ACCEPTED: Final[dict[int | str, dict[str, Any]]] = {
    202: {
        "model": OperationReport,
        "description": "The operation has begun: the request had Prefer: respond-async.",
        "headers": {
            "Location": {"description": "Where the operation is found.", "schema": {"type": "string"}},
            "Preference-Applied": {"schema": {"const": "respond-async"}},
        },
    }
}
#: The bodies of all requests, as routes name them.
_BODIES: Final[set[type[Element]]] = set()


_ENDS: Final = [
    {"uuid": 21, "switch": "1", "port": "2", "vlan": 20},
    {"uuid": 22, "switch": "4", "port": "1", "bandwidth": {"inbound": "10 Mbit/s"}},
]
_EXAMPLES: Final[Mapping[type[Element], Mapping[str, Any]]] = {
    ChangeRequest: {
        "create a network": {"after": {"uuid": 8, "name": "green", "endpoints": _ENDS}},
        "create one whose switches may be absent": {
            "after": {"name": "far", "forwarding": "L2", "endpoints": _ENDS[:1]},
            "pending": True,
        },
        "remove a network": {"before": {"uuid": 8, "name": "green", "endpoints": _ENDS}},
    },
    RepairRequest: {"one network": {"network": "green"}, "all": {"orphans": True}},
    VerificationRequest: {"one network": {"networks": ["green"]}, "all": {}},
    DecisionRequest: {"take over a switch": {"switch": "1", "decision": "adopt"}},
    ReloadRequest: {"refuse if something no longer fits": {"degrade": False}},
}


def body(kind: type[Element], *headers: Mapping[str, Any]) -> dict[str, Any]:
    """For ``openapi_extra`` of a route: its body, in JSON, and headers."""
    _BODIES.add(kind)
    schema = {"$ref": f"#/components/schemas/{kind.__name__}{INPUT}"}
    examples = {name: {"summary": name, "value": value} for name, value in _EXAMPLES.get(kind, {}).items()}
    content = {"schema": schema} | ({"examples": examples} if examples else {})
    return {
        "requestBody": {"required": True, "content": {"application/json": content}},
        "parameters": list(headers),
    }


def content(media_type: str, **schema: str) -> dict[int | str, dict[str, Any]]:
    """For ``responses`` of a route whose reply is no JSON."""
    return {200: {"content": {media_type: {"schema": {"type": "string", **schema}}}}}


def describe(app: FastAPI) -> None:
    """Have the application tell the whole of its interface."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _completed(generate())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _completed(document: dict[str, Any]) -> dict[str, Any]:
    components = document.setdefault("components", {})
    schemas: dict[str, Any] = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas.update(of_requests(sorted(_BODIES, key=lambda kind: kind.__name__)))
    components["securitySchemes"] = {
        "token": {
            "type": "http",
            "scheme": "bearer",
            "description": "Over the network. The unix socket asks for none.",
        }
    }
    document["security"] = [{"token": []}]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _corrected(operation["responses"])
            if path in OPEN:
                operation["security"] = []
    _link(document["paths"])
    return document


def _link(paths: dict[str, Any]) -> None:
    """Tell which resources the networks of the list lead to."""
    listed, of_one = paths.get("/v1/networks"), "/v1/networks/{key}"
    if listed is not None:
        listed["get"]["responses"]["200"]["links"] = {
            operations["get"]["operationId"]: {
                "operationId": operations["get"]["operationId"],
                "parameters": {"key": "$response.body#/0/uuid"},
            }
            for path, operations in paths.items()
            if path.startswith(of_one)
        }


def _corrected(responses: dict[str, Any]) -> None:
    # FastAPI lists it for each route with parameters, in its own form; ours is the default.
    if "HTTPValidationError" in str(responses.get("422")):
        del responses["422"]
    # It also takes an error to have the media type of the route's own reply.
    responses["default"]["content"] = {
        MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}
    }
