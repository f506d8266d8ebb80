"""The JSON schemas of requests: in how many ways a client may write what replies write in one.

The types of the model are those that are read; its validators accept more (``uuid: 7``, one address in place
of a list of one), and less than any text. What they say is here as far as a schema can say it: whatever they
accept fits the schema, and most of what fits is accepted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic.json_schema import models_json_schema

from libnetvirt.model.element import Element
from libnetvirt.model.storm import MAX_RATE

#: What the names of requests' schemas end with.
INPUT: Final = "Input"

Schema = dict[str, Any]


def _text(pattern: str) -> Schema:
    # Texts may have white space around them, as in XML.
    return {"type": "string", "pattern": rf"^\s*{pattern}\s*$"}


def _any(*schemas: Schema) -> Schema:
    return {"anyOf": list(schemas)}


def _number(low: int, high: int) -> Schema:
    return _any({"type": "integer", "minimum": low, "maximum": high}, _text("[0-9]{1,12}"))


def _or_null(schema: Schema) -> Schema:
    return _any(*schema.get("anyOf", (schema,)), {"type": "null"})


def _several(schema: Schema) -> Schema:
    """A list, one value in place of a list of one, or none."""
    return _or_null(_any({"type": "array", "items": schema}, *schema.get("anyOf", (schema,))))


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}{INPUT}"}


_UUID: Final = _any(
    {"type": "integer", "minimum": 1, "maximum": 2**64 - 1},
    _text("([0-9]{1,20}|[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})"),
)
_WORD: Final = _any({"type": "integer", "minimum": 0}, _text(r"\S{1,128}"))
_PORT: Final = _any(
    *_WORD["anyOf"], {"type": "array", "items": _WORD, "minItems": 1, "maxItems": 16, "uniqueItems": True}
)
_VLAN: Final = _any(
    {"type": "integer", "minimum": 1, "maximum": 4094}, _text(r"([0-9][0-9,\s-]*|[Aa][Nn][Yy])")
)
_MAC: Final = _text("[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}")
_PREFIX: Final = _text("[0-9A-Fa-f.:]{2,60}/[0-9]{1,3}")

#: element -> field -> how it may be written
FIELDS: Final[Mapping[str, Mapping[str, Schema]]] = {
    "VirtualNetwork": {
        "uuid": _UUID,
        "name": _text("[^/]{1,63}"),
        "forwarding": _text("[Ll][23]"),
        "endpoints": _several(_ref("Endpoint")),
        "constraints": _several(_ref("Constraint")),
    },
    "Endpoint": {
        "uuid": _UUID,
        "switch": _WORD,
        "port": _PORT,
        "vlan": _or_null(_VLAN),
        "inner-vlan": _or_null(_text("[Aa][Nn][Yy]")),
        "mpls": _or_null(_number(16, 2**20 - 1)),
        "address": _several(_PREFIX),
        "route": _several(_ref("Route")),
        "mac": _several(_MAC),
    },
    "Route": {"prefix": _PREFIX, "via": _text("[0-9A-Fa-f.:]{2,60}")},
    "Constraint": {
        "source": _UUID,
        "destination": _UUID,
        "max-hops": _or_null(_number(1, 255)),
        "priority": _or_null(_number(0, 255)),
    },
    "Storm": {"rate": _number(1, MAX_RATE)},
}
#: Requests of which one field at least has to be there.
ONE_OF: Final[Mapping[str, Sequence[str]]] = {"ChangeRequest": ("before", "after")}


def of_requests(kinds: Sequence[type[Element]]) -> dict[str, Schema]:
    """The schemas of requests and all that is in them, by name."""
    _, found = models_json_schema(
        [(kind, "validation") for kind in kinds], by_alias=True, ref_template="{model}"
    )
    names = found["$defs"].keys()
    schemas: dict[str, Schema] = {}
    for name, schema in found["$defs"].items():
        schemas[name + INPUT] = {key: _linked(value, names) for key, value in schema.items()}
    for name, fields in FIELDS.items():
        properties = schemas[name + INPUT]["properties"]
        for field, schema in fields.items():
            kept = {key: value for key, value in properties[field].items() if key in ("title", "description")}
            properties[field] = kept | schema
    for name, required in ONE_OF.items():
        schemas[name + INPUT]["anyOf"] = [
            {"required": [field], "properties": {field: {"type": "object"}}} for field in required
        ]
    return schemas


def _linked(schema: Any, names: Any) -> Any:
    """A schema in which elements are references, also where pydantic has put in a copy."""
    if isinstance(schema, list):
        return [_linked(one, names) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "properties" in schema and schema.get("title") in names:
        return _ref(schema["title"])
    if "$ref" in schema:
        return schema | _ref(schema["$ref"])
    return {key: _linked(value, names) for key, value in schema.items()}
