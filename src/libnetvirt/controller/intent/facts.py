"""Facts: typed records of what a controller has allocated and found, kept in the store beside the networks.

A restarted controller reads them, so that it computes the very rules that its switches hold: the same
indexes, labels, meter and queue numbers, and the same paths.

A record is identified by its class and its first fields (``IDENTITY`` says how many); the others are its
value.
:class:`FactJournal` collects what has changed since the store was last written. In the store a record is a
row of three texts: its kind, and identity and value as JSON arrays.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, fields
from types import GenericAlias
from typing import Any, ClassVar, NamedTuple, Self, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from libnetvirt.errors import StateUnusable
from libnetvirt.model import Encapsulation, Rules

#: kind and identity of a row
RowKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Fact:
    """Base of all records."""

    KIND: ClassVar[str]
    IDENTITY: ClassVar[int]

    @property
    def identity(self) -> Hashable:
        """The key of the record: its class and its identifying fields."""
        return (type(self), *_CODECS[type(self)].values(self)[: self.IDENTITY])

    def row(self) -> tuple[RowKey, str]:
        """Kind, identity and value as the store keeps them."""
        codec = _CODECS[type(self)]
        values = codec.values(self)
        key = codec.identity.dump_json(values[: self.IDENTITY]).decode()
        value = codec.value.dump_json(values[self.IDENTITY :], by_alias=True, exclude_none=True).decode()
        return (self.KIND, key), value

    @classmethod
    def from_row(cls, key: str, value: str) -> Self:
        """The record of a row. Raises ValueError (pydantic's ValidationError) if it is not valid."""
        codec = _CODECS[cls]
        return cls(
            *codec.identity.validate_json(key, strict=True), *codec.value.validate_json(value, strict=True)
        )


@dataclass(frozen=True, slots=True)
class NetworkIndex(Fact):
    """The number of a network in cookies and metadata."""

    KIND, IDENTITY = "network-index", 1
    network: str
    index: int


@dataclass(frozen=True, slots=True)
class LastIndex(Fact):
    """The index that was allocated last. A switch that is away may hold rules of a network that was removed,
    so its index is not allocated again soon."""

    KIND, IDENTITY = "last-index", 0
    index: int


@dataclass(frozen=True, slots=True)
class NetworkRules(Fact):
    """The rules options that a network was created with, defaults included."""

    KIND, IDENTITY = "network-rules", 1
    network: str
    rules: Rules


@dataclass(frozen=True, slots=True)
class TunnelLabel(Fact):
    """Group number and outer label of the tunnel to an egress switch (datapath id)."""

    KIND, IDENTITY = "tunnel-label", 2
    encapsulation: Encapsulation
    egress: int
    group: int
    label: int


@dataclass(frozen=True, slots=True)
class ServiceLabel(Fact):
    """The inner label of a network at an egress switch (datapath id)."""

    KIND, IDENTITY = "service-label", 3
    encapsulation: Encapsulation
    egress: int
    network: str
    label: int


@dataclass(frozen=True, slots=True)
class KnownLink(Fact):
    """A unidirectional link: datapath id and port of both ends."""

    KIND, IDENTITY = "link", 4
    source: int
    source_port: int
    destination: int
    destination_port: int


@dataclass(frozen=True, slots=True)
class MeterNumber(Fact):
    """The number of a meter in a switch (datapath id)."""

    KIND, IDENTITY = "meter", 2
    switch: int
    name: str
    number: int


@dataclass(frozen=True, slots=True)
class QueueNumber(Fact):
    """The number of the queues of a constraint."""

    KIND, IDENTITY = "queue", 3
    network: str
    source: str
    destination: str
    number: int


@dataclass(frozen=True, slots=True)
class ConstraintPath(Fact):
    """The path of a constraint: its place in the order of creation, its outer label if it leads to another
    switch, and its links as (datapath id, port, datapath id, port)."""

    KIND, IDENTITY = "constraint-path", 3
    network: str
    source: str
    destination: str
    number: int
    label: int | None
    links: tuple[tuple[int, int, int, int], ...]


_CLASSES: Mapping[str, type[Fact]] = {
    cls.KIND: cls
    for cls in (
        NetworkIndex, LastIndex, NetworkRules, TunnelLabel, ServiceLabel, KnownLink, MeterNumber, QueueNumber,
        ConstraintPath,
    )
}  # fmt: skip

F = TypeVar("F", bound=Fact)


class Facts:
    """Records by class."""

    def __init__(self, records: Iterable[Fact] = ()) -> None:
        self._by_class: dict[type[Fact], list[Any]] = {}
        for record in records:
            self._by_class.setdefault(type(record), []).append(record)

    @classmethod
    def from_rows(cls, rows: Mapping[RowKey, str]) -> Facts:
        """The records of the store. Raises StateUnusable naming the row that is not valid."""
        return cls(_record(kind, key, value) for (kind, key), value in rows.items())

    def of(self, kind: type[F]) -> list[F]:
        """The records of a class."""
        return self._by_class.get(kind, [])


#: by identity: a record, and whether it exists (else it is removed)
Changes = dict[Hashable, tuple[Fact, bool]]


class FactJournal:
    """Records that were added, changed and removed since they were last taken for the store."""

    def __init__(self) -> None:
        self.changes: Changes = {}

    def put(self, record: Fact) -> None:
        """Note that a record is new, or has another value than before."""
        self.changes[record.identity] = record, True

    def remove(self, record: Fact) -> None:
        """Note that a record exists no longer. Its value does not matter."""
        self.changes[record.identity] = record, False

    def take(self) -> Changes:
        """Take all changes out."""
        changes, self.changes = self.changes, {}
        return changes

    def put_back(self, changes: Changes) -> None:
        """Put changes back that could not be stored. Those noted since then prevail."""
        self.changes = changes | self.changes


def rows(changes: Changes) -> dict[RowKey, str | None]:
    """The rows to write to the store; None for those to delete."""
    found: dict[RowKey, str | None] = {}
    for record, exists in changes.values():
        key, value = record.row()
        found[key] = value if exists else None
    return found


#: the names of meter owners in version 1, and the present ones
_METER_OWNERS = {"course": "constraint"}


def from_version_1(old: Mapping[RowKey, str]) -> dict[RowKey, str]:
    """The rows of today for those of state files of version 1, which held strings with separators.

    Raises ValueError for a row that is not of that version.
    """
    found = {}
    for (kind, key), value in old.items():
        try:
            row, new = _from_version_1(kind, key, value).row()
        except (ValueError, TypeError):
            raise ValueError(f"the fact {kind} {key!r} = {value!r} is not one of state version 1") from None
        found[row] = new
    return found


def _from_version_1(kind: str, key: str, value: str) -> Fact:
    if kind == "network":
        return NetworkIndex(key, int(value))
    if kind == "last":
        return LastIndex(int(value))
    if kind == "rules":
        return NetworkRules(key, Rules.model_validate_json(value))
    if kind == "link":
        ends = (end.split("/") for end in key.split(">"))
        return KnownLink(*(int(number) for end in ends for number in end))
    if kind == "meter":
        switch, name = key.split("/", 1)
        owner, _, rest = name.partition("/")
        return MeterNumber(int(switch), f"{_METER_OWNERS.get(owner, owner)}/{rest}", int(value))
    if kind == "queue":
        network, source, destination = key.split("/")
        return QueueNumber(network, source, destination, int(value))
    if kind == "course":
        network, source, destination = key.split("/")
        number, label, *links = value.split()
        outer = None if label == "-" else int(label)
        path = tuple(_link(link) for link in links)
        return ConstraintPath(network, source, destination, int(number), outer, path)
    tunnel, _, what = kind.rpartition("-")
    encapsulation = Encapsulation(tunnel or Encapsulation.VLAN)
    if what == "tunnel":
        group, label = value.split()
        return TunnelLabel(encapsulation, int(key), int(group), int(label))
    if what == "service":
        egress, network = key.split("/")
        return ServiceLabel(encapsulation, int(egress), network, int(value))
    raise ValueError(f"unknown kind of fact {kind!r}")


def _link(text: str) -> tuple[int, int, int, int]:
    source, source_port, destination, destination_port = (int(part) for part in text.split(":"))
    return source, source_port, destination, destination_port


def _record(kind: str, key: str, value: str) -> Fact:
    try:
        return _CLASSES[kind].from_row(key, value)
    except (KeyError, ValidationError) as error:
        reason = "this version knows no such kind" if isinstance(error, KeyError) else _first(error)
        raise StateUnusable(
            f"the stored fact {kind} {key} = {value} is not valid: {reason}. Restore the file from a copy, "
            "or start with another one (state=PATH)"
        ) from None


def _first(error: ValidationError) -> str:
    return error.errors(include_url=False)[0]["msg"]


class _Codec(NamedTuple):
    """How records of a class become rows."""

    names: tuple[str, ...]
    identity: TypeAdapter[Any]
    value: TypeAdapter[Any]

    @classmethod
    def of(cls, kind: type[Fact]) -> Self:
        hints = get_type_hints(kind)
        names = tuple(field.name for field in fields(kind))
        parts = names[: kind.IDENTITY], names[kind.IDENTITY :]
        # Not written as types: the fields are known at run time only.
        tuples: list[Any] = [
            GenericAlias(tuple, tuple(hints[name] for name in part) or ((),)) for part in parts
        ]
        return cls(names, *map(TypeAdapter, tuples))

    def values(self, record: Fact) -> tuple[Any, ...]:
        return tuple(getattr(record, name) for name in self.names)


_CODECS = {kind: _Codec.of(kind) for kind in _CLASSES.values()}
