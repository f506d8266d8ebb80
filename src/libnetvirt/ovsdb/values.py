"""Column values: Python types in memory, the JSON notation of RFC 7047, section 5.1 on the wire."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

#: str, int, bool, frozenset of atoms, dict of atoms, or None (an optional column without a value)
Value = Any
Columns = Mapping[str, "ColumnType"]


class ColumnType(Enum):
    """The type of a column.

    A ``UUID`` column refers to a row; in memory the reference is the text of that row's uuid. ``OPTIONAL`` is
    a column that holds one string, integer or boolean, or none.
    """

    STRING = "string"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    UUID = "uuid"
    OPTIONAL = "optional"
    OPTIONAL_UUID = "optional uuid"
    SET = "set"
    UUID_SET = "set of uuids"
    MAP = "map"


_DEFAULTS: Mapping[ColumnType, Value] = {
    ColumnType.STRING: "", ColumnType.INTEGER: 0, ColumnType.BOOLEAN: False, ColumnType.UUID: "",
    ColumnType.OPTIONAL: None, ColumnType.OPTIONAL_UUID: None, ColumnType.SET: frozenset(),
    ColumnType.UUID_SET: frozenset(), ColumnType.MAP: {},
}  # fmt: skip


class NamedUUID(str):
    """A reference to a row that the same transaction inserts: the ``uuid-name`` of that insert."""

    __slots__ = ()


def default_value(kind: ColumnType) -> Value:
    """The value of a column that the server leaves out of a row."""
    return _DEFAULTS[kind]


def decode(kind: ColumnType, wire: Any) -> Value:
    """Decode a column's value (RFC 7047, section 5.1)."""
    if kind is ColumnType.MAP:
        return dict(wire[1])
    members = wire[1] if isinstance(wire, list) and wire[0] == "set" else [wire]
    atoms = [m[1] if isinstance(m, list) else m for m in members]
    if kind in (ColumnType.SET, ColumnType.UUID_SET):
        return frozenset(atoms)
    if kind in (ColumnType.OPTIONAL, ColumnType.OPTIONAL_UUID):
        return atoms[0] if atoms else None
    return atoms[0]


def apply_modification(kind: ColumnType, old: Value, wire: Any) -> Value:
    """The new value of a column, from the old one and the ``modify`` of an ``update2`` message.

    For sets and maps the message holds only the elements that differ (ovsdb-server(7), Update2 Notification).
    """
    new = decode(kind, wire)
    if kind in (ColumnType.SET, ColumnType.UUID_SET):
        return old ^ new
    if kind is ColumnType.MAP:
        removed = {k for k, v in new.items() if old.get(k) == v}
        return {k: v for k, v in {**old, **new}.items() if k not in removed}
    return new


def encode_uuid(uuid: str) -> list[str]:
    """Encode a reference to a row: a ``<uuid>``, or a ``<named-uuid>`` for a :class:`NamedUUID`."""
    return ["named-uuid", uuid] if isinstance(uuid, NamedUUID) else ["uuid", uuid]


def encode_uuids(uuids: Iterable[str]) -> list[Any]:
    """Encode a set of references, sorted."""
    return ["set", [encode_uuid(u) for u in sorted(uuids)]]


def encode_map(content: Mapping[str, Any]) -> list[Any]:
    """Encode a map, sorted by key."""
    return ["map", [[k, v] for k, v in sorted(content.items())]]


def encode(kind: ColumnType, value: Value) -> Any:
    """Encode a column's value (RFC 7047, section 5.1)."""
    match kind:
        case ColumnType.MAP:
            return encode_map(value)
        case ColumnType.UUID_SET:
            return encode_uuids(value)
        case ColumnType.SET:
            return ["set", sorted(value)]
        case ColumnType.UUID:
            return encode_uuid(value)
        case ColumnType.OPTIONAL_UUID:
            return ["set", []] if value is None else encode_uuid(value)
        case ColumnType.OPTIONAL:
            return ["set", []] if value is None else value
    return value
