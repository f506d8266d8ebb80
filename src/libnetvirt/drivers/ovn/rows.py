"""Compares desired rows with stored rows, and turns the delta into OVSDB operations. Pure.

A row is identified by its table and name, not by its uuid. A row of a root table (a switch, a router) holds
its children (ports, ACLs, routes) in reference columns, and OVSDB deletes a child that no row refers to. So a
missing child is inserted and referenced in one transaction, and a surplus one is removed by dropping the
reference. Keys of others in ``external_ids`` and ``other_config`` are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from libnetvirt.drivers.ovn.schema import (
    CHILD_COLUMNS,
    PREFIX,
    ROOT_TABLES,
    ROW_NAME,
    TABLES,
    VLAN_PASSTHRU,
)
from libnetvirt.ovsdb.database import Operation, Row
from libnetvirt.ovsdb.values import NamedUUID, Value, encode, encode_uuid, encode_uuids

#: which keys are the driver's, in columns that others use as well
_OURS: Mapping[str, Callable[[str], bool]] = {
    "external_ids": lambda key: key.startswith(PREFIX),
    "other_config": lambda key: key == VLAN_PASSTHRU,
}

#: (table, name); unique among the rows of one owner
RowKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class DesiredRow:
    """A row that should be in the database. ``parent``: the row that refers to it, and the column there."""

    table: str
    name: str
    columns: Mapping[str, Value]
    parent: tuple[RowKey, str] | None = None

    @property
    def key(self) -> RowKey:
        return self.table, self.name


#: rows in the database: (uuid, columns)
StoredRows = Mapping[RowKey, tuple[str, Row]]


@dataclass(slots=True)
class Delta:
    """The difference between desired and stored rows."""

    missing: list[DesiredRow] = field(default_factory=list)
    #: (row, columns whose stored value differs)
    changed: list[tuple[DesiredRow, list[str]]] = field(default_factory=list)
    surplus: list[RowKey] = field(default_factory=list)
    #: (row, its uuid), for stored rows whose desired parent is yet to be inserted
    reparented: list[tuple[DesiredRow, str]] = field(default_factory=list)
    #: (row, column, uuids of stored children that the column lacks)
    unlinked: list[tuple[DesiredRow, str, set[str]]] = field(default_factory=list)
    #: (row, column, uuids of children in the column that are not the owner's)
    foreign: list[tuple[DesiredRow, str, set[str]]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.missing or self.changed or self.surplus or self.unlinked or self.foreign)

    def lines(self) -> Iterator[str]:
        """One line for each difference, for the user."""
        yield from (f"{row.table} {row.name} is missing" for row in self.missing)
        for row, columns in self.changed:
            yield f"{row.table} {row.name} differs in {', '.join(columns)}"
        yield from (f"{table} {name} should not exist" for table, name in self.surplus)
        for row, column, children in self.unlinked:
            yield f"{row.table} {row.name} lacks {len(children)} of its {column}"
        for row, column, children in self.foreign:
            yield f"{row.table} {row.name} has {len(children)} {column} of others"


def name_of(row: Row) -> str:
    """The name part of a stored row's key."""
    return str(row["external_ids"].get(ROW_NAME) or row.get("name", ""))


def compare(desired: Iterable[DesiredRow], stored: StoredRows) -> Delta:
    """The delta that turns ``stored`` into ``desired``; parents among them should hold only desired rows."""
    delta = Delta()
    wanted = {row.key: row for row in desired}
    children: dict[tuple[RowKey, str], set[str]] = {}
    for row in wanted.values():
        present = stored.get(row.key)
        if present is None:
            delta.missing.append(row)
            continue
        uuid, columns = present
        if row.parent is not None:
            children.setdefault(row.parent, set()).add(uuid)
            if row.parent[0] not in stored:
                delta.reparented.append((row, uuid))
        differing = [c for c, v in row.columns.items() if not _equal(c, v, columns[c])]
        if differing:
            delta.changed.append((row, differing))
    delta.surplus = [key for key in stored if key not in wanted]
    surplus = {stored[key][0] for key in delta.surplus}
    for row in wanted.values():
        if row.key not in stored:
            continue
        for column in CHILD_COLUMNS.get(row.table, ()):
            held = stored[row.key][1][column]
            ours = children.get((row.key, column), set())
            if lacking := ours - held:
                delta.unlinked.append((row, column, lacking))
            if others := held - ours - surplus:
                delta.foreign.append((row, column, set(others)))
    return delta


def _equal(column: str, desired: Value, stored: Value) -> bool:
    """Whether a stored value is as desired; in columns with keys of others, these do not count."""
    is_ours = _OURS.get(column)
    if is_ours is None:
        return bool(desired == stored)
    mine, theirs = ({k: v for k, v in keys.items() if is_ours(k)} for keys in (desired, stored))
    return mine == theirs


def operations(delta: Delta, stored: StoredRows) -> list[Operation]:
    """The operations (RFC 7047, section 5.2) that apply a delta."""
    names = {row.key: NamedUUID(f"row{n}") for n, row in enumerate(delta.missing)}
    new_children: dict[tuple[RowKey, str], list[str]] = {}
    for row in delta.missing:
        if row.parent is not None:
            new_children.setdefault(row.parent, []).append(names[row.key])
    for row, uuid in delta.reparented:
        assert row.parent is not None
        new_children.setdefault(row.parent, []).append(uuid)
    found = [_insert(row, names, new_children) for row in delta.missing]
    found += [_update(row, columns, stored) for row, columns in delta.changed]
    found += [_delete(stored[key][0], key[0]) for key in delta.surplus if key[0] in ROOT_TABLES]
    for (key, column, mutator), uuids in _reference_changes(delta, stored, new_children).items():
        found.append(
            {"op": "mutate", "table": key[0], "where": _row(stored[key][0]),
             "mutations": [[column, mutator, encode_uuids(uuids)]]}
        )  # fmt: skip
    return found


def _reference_changes(
    delta: Delta, stored: StoredRows, new_children: Mapping[tuple[RowKey, str], Iterable[str]]
) -> dict[tuple[RowKey, str, str], set[str]]:
    """(stored row, column, ``insert`` or ``delete``) -> uuids of the children to add to or drop from it."""
    changes: dict[tuple[RowKey, str, str], set[str]] = {}
    for (key, column), uuids in new_children.items():
        if key in stored:
            changes.setdefault((key, column, "insert"), set()).update(uuids)
    for row, column, children in delta.unlinked:
        changes.setdefault((row.key, column, "insert"), set()).update(children)
    for row, column, children in delta.foreign:
        changes.setdefault((row.key, column, "delete"), set()).update(children)
    surplus = set(delta.surplus)
    gone = {stored[key][0] for key in surplus if key[0] not in ROOT_TABLES}
    if gone:
        for key, (_, columns) in stored.items():
            if key in surplus:
                continue
            for column in CHILD_COLUMNS.get(key[0], ()):
                if dropped := gone & columns[column]:
                    changes.setdefault((key, column, "delete"), set()).update(dropped)
    return changes


def _insert(
    row: DesiredRow,
    names: Mapping[RowKey, NamedUUID],
    new_children: Mapping[tuple[RowKey, str], list[str]],
) -> Operation:
    types = TABLES[row.table]
    columns = {c: encode(types[c], v) for c, v in row.columns.items() if v not in (None, "", frozenset(), {})}
    for column in CHILD_COLUMNS.get(row.table, ()):
        if children := new_children.get((row.key, column)):
            columns[column] = ["set", [encode_uuid(c) for c in children]]
    return {"op": "insert", "table": row.table, "uuid-name": str(names[row.key]), "row": columns}


def _update(row: DesiredRow, columns: Iterable[str], stored: StoredRows) -> Operation:
    uuid, old = stored[row.key]
    types = TABLES[row.table]
    new = {c: row.columns[c] for c in columns}
    for column in _OURS.keys() & new.keys():
        others = {k: v for k, v in old[column].items() if not _OURS[column](k)}
        new[column] = {**others, **new[column]}
    encoded = {c: encode(types[c], v) for c, v in new.items()}
    return {"op": "update", "table": row.table, "where": _row(uuid), "row": encoded}


def _delete(uuid: str, table: str) -> Operation:
    return {"op": "delete", "table": table, "where": _row(uuid)}


def _row(uuid: str) -> list[Any]:
    return [["_uuid", "==", ["uuid", uuid]]]
