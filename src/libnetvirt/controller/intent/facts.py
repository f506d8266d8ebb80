"""Facts: typed records of what a controller has allocated and found, kept in the store beside the networks.

A restarted controller reads them, so that it computes the very rules that its switches hold: the same
indexes, labels, meter and queue numbers, and the same paths.

A record is identified by its class and its first fields (``IDENTITY`` says how many); the others are its
value.
:class:`FactJournal` collects what has changed since the store was last written. In the store a record is a
row of three texts: its kind, and identity and value as JSON arrays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from types import GenericAlias
from typing import Annotated, Any, ClassVar, NamedTuple, Self, TypeVar, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

from libnetvirt.controller.dataplane.pipeline import MAX_NETWORKS
from libnetvirt.errors import InvalidDescription, StateUnusable
from libnetvirt.model import Encapsulation, Rules

#: kind and identity of a row
RowKey = tuple[str, str]

#: what a record may hold: numbers that a switch or the wire format cannot have are refused when it is read
Index = Annotated[int, Field(ge=1, le=MAX_NETWORKS)]
DatapathId = Annotated[int, Field(ge=0, lt=1 << 64)]
#: OpenFlow 1.3.5, section A.2.1 (OFPP_MAX)
PortNumber = Annotated[int, Field(ge=1, le=0xFFFF_FF00)]
Label = Annotated[int, Field(ge=1, lt=1 << 20)]
GroupNumber = Annotated[int, Field(ge=1, lt=1 << 22)]
#: OpenFlow 1.3.5, section A.3.4.5 (OFPM_MAX)
Meter = Annotated[int, Field(ge=1, le=0xFFFF_0000)]
Queue = Annotated[int, Field(ge=1, lt=0xFFFF_FFFF)]
Count = Annotated[int, Field(ge=0)]
#: vlan ids, and mpls labels without the reserved ones (RFC 3032, section 2.1); not the last, of the probes
LABELS: Mapping[Encapsulation, range] = {
    Encapsulation.VLAN: range(1, 4094),
    Encapsulation.MPLS: range(16, (1 << 20) - 1),
}
#: the outer and the inner label of frames that probe links and tunnels. Earlier versions allocated it
PROBE_LABELS: Mapping[Encapsulation, int] = {kind: labels.stop for kind, labels in LABELS.items()}


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
        """The record of a row. Raises ValueError (pydantic's ValidationError) or InvalidDescription if it is
        not valid."""
        codec = _CODECS[cls]
        return cls(
            *codec.identity.validate_json(key, strict=True), *codec.value.validate_json(value, strict=True)
        )


@dataclass(frozen=True, slots=True)
class NetworkIndex(Fact):
    """The number of a network in cookies and metadata."""

    KIND, IDENTITY = "network-index", 1
    network: str
    index: Index


@dataclass(frozen=True, slots=True)
class LastIndex(Fact):
    """The index that was allocated last. A switch that is away may hold rules of a network that was removed,
    so its index is not allocated again soon."""

    KIND, IDENTITY = "last-index", 0
    index: Index


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
    egress: DatapathId
    group: GroupNumber
    label: Label


@dataclass(frozen=True, slots=True)
class ServiceLabel(Fact):
    """The inner label of a network at an egress switch (datapath id)."""

    KIND, IDENTITY = "service-label", 3
    encapsulation: Encapsulation
    egress: DatapathId
    network: str
    label: Label


@dataclass(frozen=True, slots=True)
class KnownLink(Fact):
    """A unidirectional link: datapath id and port of both ends."""

    KIND, IDENTITY = "link", 4
    source: DatapathId
    source_port: PortNumber
    destination: DatapathId
    destination_port: PortNumber


@dataclass(frozen=True, slots=True)
class MeterNumber(Fact):
    """The number of a meter in a switch (datapath id)."""

    KIND, IDENTITY = "meter", 2
    switch: DatapathId
    name: str
    number: Meter


@dataclass(frozen=True, slots=True)
class QueueNumber(Fact):
    """The number of the queues of a constraint."""

    KIND, IDENTITY = "queue", 3
    network: str
    source: str
    destination: str
    number: Queue


@dataclass(frozen=True, slots=True)
class ConstraintPath(Fact):
    """The path of a constraint: its place in the order of creation, its outer label if it leads to another
    switch, and its links as (datapath id, port, datapath id, port)."""

    KIND, IDENTITY = "constraint-path", 3
    network: str
    source: str
    destination: str
    number: Annotated[int, Field(ge=0)]
    label: Label | None
    links: tuple[tuple[DatapathId, PortNumber, DatapathId, PortNumber], ...]


@dataclass(frozen=True, slots=True)
class InstallationNumber(Fact):
    """The random number of this state, which switches hold, too (see `ownership`)."""

    KIND, IDENTITY = "installation", 0
    number: Annotated[int, Field(ge=1 << 63, lt=1 << 64)]


@dataclass(frozen=True, slots=True)
class ControllerRun(Fact):
    """A run of the controller with this state: a random nonce, and the commits of the store when it ended."""

    KIND, IDENTITY = "run", 1
    number: Count
    nonce: Count
    commits: Count | None


@dataclass(frozen=True, slots=True)
class ForgottenSwitch(Fact):
    """A switch (datapath id) that was left to another installation."""

    KIND, IDENTITY = "forgotten-switch", 1
    switch: DatapathId


_CLASSES: Mapping[str, type[Fact]] = {
    cls.KIND: cls
    for cls in (
        NetworkIndex, LastIndex, NetworkRules, TunnelLabel, ServiceLabel, KnownLink, MeterNumber, QueueNumber,
        ConstraintPath, InstallationNumber, ControllerRun, ForgottenSwitch,
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
        """The records of the store. Raises StateUnusable naming the row that is not valid, or the numbers
        that were given twice."""
        found = cls(_record(kind, key, value) for (kind, key), value in rows.items())
        taken = Counter(found._numbers())
        if twice := [number for number, count in taken.items() if count > 1]:
            raise StateUnusable(
                f"the stored facts are not valid: {twice[0]} belongs to {taken[twice[0]]} owners. {WAY_BACK}"
            )
        return found

    def _numbers(self) -> Iterator[str]:
        """The numbers that have one owner each."""
        for index in self.of(NetworkIndex):
            yield f"network index {index.index}"
        for tunnel in self.of(TunnelLabel):
            yield f"{tunnel.encapsulation} group number {tunnel.group}"
            yield f"{tunnel.encapsulation} outer label {tunnel.label}"
        for service in self.of(ServiceLabel):
            yield f"{service.encapsulation} inner label {service.label} at switch {service.egress}"
        for meter in self.of(MeterNumber):
            yield f"meter {meter.number} of switch {meter.switch}"

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
            record = _from_version_1(kind, key, value)
            row, new = record.row()
            type(record).from_row(row[1], new)
        except (ValueError, TypeError, InvalidDescription):
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
        record = _CLASSES[kind].from_row(key, value)
    except (KeyError, ValidationError, InvalidDescription) as error:
        reason = "this version knows no such kind" if isinstance(error, KeyError) else _first(error)
        raise _not_valid(kind, key, value, reason) from None
    if isinstance(record, (TunnelLabel, ServiceLabel)):
        labels = LABELS.get(record.encapsulation, range(0))
        if record.label not in labels and record.label != PROBE_LABELS.get(record.encapsulation):
            reason = f"{record.encapsulation} labels are {labels.start} to {labels.stop - 1}"
            raise _not_valid(kind, key, value, reason)
    return record


def _not_valid(kind: str, key: str, value: str, reason: str) -> StateUnusable:
    return StateUnusable(f"the stored fact {kind} {key} = {value} is not valid: {reason}. {WAY_BACK}")


def _first(error: ValidationError | InvalidDescription) -> str:
    if isinstance(error, InvalidDescription):
        return str(error.faults[0])
    return error.errors(include_url=False)[0]["msg"]


WAY_BACK = "Restore a backup (netvirt restore FILE), or use another file with state=PATH"


class _Codec(NamedTuple):
    """How records of a class become rows."""

    names: tuple[str, ...]
    identity: TypeAdapter[Any]
    value: TypeAdapter[Any]

    @classmethod
    def of(cls, kind: type[Fact]) -> Self:
        hints = get_type_hints(kind, include_extras=True)
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
