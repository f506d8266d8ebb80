"""Values of database columns: Python's own types here, RFC 7047's notation on the wire."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

#: str, int, bool, frozenset of atoms, dict of atoms, or None (an optional column without a value)
Value = Any
Columns = Mapping[str, "Kind"]


class Kind(Enum):
    """What a column holds. A reference to a row is its uuid's text, marked as reference."""

    TEXT = "text"
    NUMBER = "number"
    FLAG = "flag"
    REFERENCE = "reference"
    OPTIONAL = "optional"
    OPTIONAL_REFERENCE = "optional reference"
    SET = "set"
    REFERENCES = "references"
    MAP = "map"


_DEFAULTS: Mapping[Kind, Value] = {
    Kind.TEXT: "", Kind.NUMBER: 0, Kind.FLAG: False, Kind.REFERENCE: "", Kind.OPTIONAL: None,
    Kind.OPTIONAL_REFERENCE: None, Kind.SET: frozenset(), Kind.REFERENCES: frozenset(), Kind.MAP: {},
}  # fmt: skip


class Named(str):
    """A reference to a row that the same transaction inserts, by its name there."""

    __slots__ = ()


def default(kind: Kind) -> Value:
    """What a column holds if the server does not mention it."""
    return _DEFAULTS[kind]


def decode(kind: Kind, wire: Any) -> Value:
    """A column's value from RFC 7047 section 5.1 notation."""
    if kind is Kind.MAP:
        return dict(wire[1])
    members = wire[1] if isinstance(wire, list) and wire[0] == "set" else [wire]
    atoms = [m[1] if isinstance(m, list) else m for m in members]
    if kind in (Kind.SET, Kind.REFERENCES):
        return frozenset(atoms)
    if kind in (Kind.OPTIONAL, Kind.OPTIONAL_REFERENCE):
        return atoms[0] if atoms else None
    return atoms[0]


def patched(kind: Kind, old: Value, wire: Any) -> Value:
    """A column's value after a ``modify`` of ``update2``: sets and maps are sent as what changed in them."""
    new = decode(kind, wire)
    if kind in (Kind.SET, Kind.REFERENCES):
        return old ^ new
    if kind is Kind.MAP:
        gone = {k for k, v in new.items() if old.get(k) == v}
        return {k: v for k, v in {**old, **new}.items() if k not in gone}
    return new


def reference(uuid: str) -> list[str]:
    """A row's reference on the wire."""
    return ["named-uuid", uuid] if isinstance(uuid, Named) else ["uuid", uuid]


def references(uuids: Iterable[str]) -> list[Any]:
    """A set of references on the wire, in a fixed order."""
    return ["set", [reference(u) for u in sorted(uuids)]]


def pairs(content: Mapping[str, Any]) -> list[Any]:
    """A map on the wire."""
    return ["map", [[k, v] for k, v in sorted(content.items())]]


def encode(kind: Kind, value: Value) -> Any:
    """A column's value in RFC 7047 section 5.1 notation."""
    match kind:
        case Kind.MAP:
            return pairs(value)
        case Kind.REFERENCES:
            return references(value)
        case Kind.SET:
            return ["set", sorted(value)]
        case Kind.REFERENCE:
            return reference(value)
        case Kind.OPTIONAL_REFERENCE:
            return ["set", []] if value is None else reference(value)
        case Kind.OPTIONAL:
            return ["set", []] if value is None else value
    return value
