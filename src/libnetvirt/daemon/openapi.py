"""What ``openapi.json`` says besides what FastAPI finds in the signatures of handlers.

FastAPI knows neither the bodies of our requests, which we parse ourselves, nor problem documents, and lists
replies to invalid requests that are never sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from libnetvirt.daemon.problems import MEDIA_TYPE
from libnetvirt.daemon.wire import (
    ChangeRequest,
    DecisionRequest,
    Problem,
    ReloadRequest,
    RepairRequest,
)
from libnetvirt.model.element import Element

#: What the names of requests' schemas end with: requests may be written in more ways than replies.
INPUT: Final = "Input"
#: What a FastAPI application is made with, so that errors have a schema.
RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    "default": {"model": Problem, "description": "An error, with a stable code; nothing was changed."}
}
_ETAG: Final = {"type": "string", "pattern": '^"[0-9a-f]{32}"$'}
IF_MATCH: Final[Mapping[str, Any]] = {
    "name": "If-Match",
    "in": "header",
    "description": "The ETag that the network has to have; otherwise the reply is 412, and nothing is done.",
    "schema": _ETAG,
}
IDEMPOTENCY_KEY: Final[Mapping[str, Any]] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A new one for each change. The same request with the same key gets the same answer.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
}
IF_NONE_MATCH: Final[Mapping[str, Any]] = {
    "name": "If-None-Match",
    "in": "header",
    "description": "The ETag that the client has: if it is still that of the network, the reply is 304.",
    "schema": _ETAG,
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
_BODIES: Final[tuple[type[Element], ...]] = (ChangeRequest, RepairRequest, DecisionRequest, ReloadRequest)


def body(kind: type[Element], *headers: Mapping[str, Any]) -> dict[str, Any]:
    """For ``openapi_extra`` of a route: its body, in JSON, and headers."""
    schema = {"$ref": f"#/components/schemas/{kind.__name__}{INPUT}"}
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
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
    schemas.update(_inputs(_BODIES))
    components["securitySchemes"] = {
        "token": {
            "type": "http",
            "scheme": "bearer",
            "description": "Over the network. The unix socket asks for none.",
        }
    }
    document["security"] = [{}, {"token": []}]
    for operations in document["paths"].values():
        for operation in operations.values():
            _corrected(operation["responses"])
    return document


def _corrected(responses: dict[str, Any]) -> None:
    # FastAPI lists it for each route with parameters, in its own form; ours is the default.
    if "HTTPValidationError" in str(responses.get("422")):
        del responses["422"]
    # It also takes an error to have the media type of the route's own reply.
    responses["default"]["content"] = {
        MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}
    }


def _inputs(kinds: Sequence[type[Element]]) -> Mapping[str, Any]:
    _, found = models_json_schema(
        [(kind, "validation") for kind in kinds],
        by_alias=True,
        ref_template=f"#/components/schemas/{{model}}{INPUT}",
    )
    return {f"{name}{INPUT}": schema for name, schema in found["$defs"].items()}
