"""Rows that should be there, compared with rows that are: what differs, and the operations that mend it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from libnetvirt.drivers.ovn.schema import OURS, OWNER, PARTS, ROOTS
from libnetvirt.ovsdb.values import Named, Value, encode, reference, references

#: what identifies a row of ours: its table, and a name that no other of our rows there has
Key = tuple[str, str]
Operation = dict[str, Any]

#: rows that have no name of their own carry it here
KEY = "netvirt:key"
_MINE = "netvirt:"


@dataclass(frozen=True, slots=True)
class Row:
    """A row as it should be. ``inside``: the row it is a part of, and the column there."""

    table: str
    name: str
    columns: Mapping[str, Value]
    inside: tuple[Key, str] | None = None

    @property
    def key(self) -> Key:
        return self.table, self.name


#: rows of ours that are there: uuid and columns
Actual = Mapping[Key, tuple[str, Mapping[str, Value]]]


@dataclass(slots=True)
class Comparison:
    """How rows that should be there differ from those that are."""

    missing: list[Row] = field(default_factory=list)
    #: the row, and its columns that differ
    wrong: list[tuple[Row, list[str]]] = field(default_factory=list)
    surplus: list[Key] = field(default_factory=list)
    #: (row, its uuid) of those that are there, in another container than the new one they are wanted in
    moved: list[tuple[Row, str]] = field(default_factory=list)
    #: (row, column, parts that should be there and are not in it)
    loose: list[tuple[Row, str, set[str]]] = field(default_factory=list)
    #: (row, column, parts that are in it and should not be)
    strange: list[tuple[Row, str, set[str]]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.missing or self.wrong or self.surplus or self.loose or self.strange)

    def lines(self) -> Iterator[str]:
        """What differs, for people."""
        yield from (f"{row.table} {row.name} is missing" for row in self.missing)
        for row, columns in self.wrong:
            yield f"{row.table} {row.name} differs in {', '.join(columns)}"
        yield from (f"{table} {name} should not be there" for table, name in self.surplus)
        for row, column, parts in self.loose:
            yield f"{row.table} {row.name} lacks {len(parts)} of its {column}"
        for row, column, parts in self.strange:
            yield f"{row.table} {row.name} has {len(parts)} {column} that are not ours"


def name_of(row: Mapping[str, Value]) -> str:
    """What a row of ours is known by: its name, or the key that it carries."""
    return str(row["external_ids"].get(KEY) or row.get("name", ""))


def compare(wanted: Iterable[Row], actual: Actual) -> Comparison:
    """Compare the rows of a part of the world, in which containers hold nothing but wanted rows."""
    found = Comparison()
    desired = {row.key: row for row in wanted}
    parts: dict[tuple[Key, str], set[str]] = {}
    for row in desired.values():
        present = actual.get(row.key)
        if present is None:
            found.missing.append(row)
            continue
        uuid, columns = present
        if row.inside is not None:
            parts.setdefault(row.inside, set()).add(uuid)
            if row.inside[0] not in actual:
                found.moved.append((row, uuid))
        differing = [c for c, v in row.columns.items() if not _same(c, v, columns[c])]
        if differing:
            found.wrong.append((row, differing))
    found.surplus = [key for key in actual if key not in desired]
    gone = {actual[key][0] for key in found.surplus}
    for row in desired.values():
        if row.key not in actual:
            continue
        for column in PARTS.get(row.table, ()):
            held = actual[row.key][1][column]
            ours = parts.get((row.key, column), set())
            if lacking := ours - held:
                found.loose.append((row, column, lacking))
            if others := held - ours - gone:
                found.strange.append((row, column, set(others)))
    return found


def _same(column: str, wanted: Value, actual: Value) -> bool:
    """external_ids may hold what others wrote; of ours all has to be there, and nothing else."""
    if column != "external_ids":
        return bool(wanted == actual)
    return bool(wanted == {k: v for k, v in actual.items() if k.startswith(_MINE)})


def operations(difference: Comparison, actual: Actual) -> list[Operation]:
    """The operations of RFC 7047 section 5.2 that make the rows be as wanted."""
    names = {row.key: Named(f"row{n}") for n, row in enumerate(difference.missing)}
    within: dict[tuple[Key, str], list[str]] = {}
    for row in difference.missing:
        if row.inside is not None:
            within.setdefault(row.inside, []).append(names[row.key])
    for row, uuid in difference.moved:
        assert row.inside is not None
        within.setdefault(row.inside, []).append(uuid)
    found = [_insert(row, names, within) for row in difference.missing]
    found += [_update(row, columns, actual) for row, columns in difference.wrong]
    changes: dict[tuple[Key, str, str], set[str]] = {}
    for (key, column), uuids in within.items():
        if key in actual:
            changes.setdefault((key, column, "insert"), set()).update(uuids)
    for row, column, parts in difference.loose:
        changes.setdefault((row.key, column, "insert"), set()).update(parts)
    for row, column, parts in difference.strange:
        changes.setdefault((row.key, column, "delete"), set()).update(parts)
    removed = set(difference.surplus)
    for key in difference.surplus:
        if key[0] in ROOTS:
            found.append({"op": "delete", "table": key[0], "where": _is(actual[key][0])})
    gone = {actual[key][0] for key in removed if key[0] not in ROOTS}
    for key, (_, columns) in actual.items():
        if key not in removed and gone:
            for column in PARTS.get(key[0], ()):
                if leaving := gone & columns[column]:
                    changes.setdefault((key, column, "delete"), set()).update(leaving)
    for (key, column, how), parts in changes.items():
        found.append(
            {"op": "mutate", "table": key[0], "where": _is(actual[key][0]),
             "mutations": [[column, how, references(parts)]]}
        )  # fmt: skip
    return found


def _insert(
    row: Row,
    names: Mapping[Key, Named],
    within: Mapping[tuple[Key, str], list[str]],
) -> Operation:
    kinds = OURS[row.table]
    columns = {c: encode(kinds[c], v) for c, v in row.columns.items() if v not in (None, "", frozenset(), {})}
    for column in PARTS.get(row.table, ()):
        if new := within.get((row.key, column)):
            columns[column] = ["set", [reference(n) for n in new]]
    return {"op": "insert", "table": row.table, "uuid-name": str(names[row.key]), "row": columns}


def _update(row: Row, columns: Iterable[str], actual: Actual) -> Operation:
    uuid, old = actual[row.key]
    kinds = OURS[row.table]
    new = {c: row.columns[c] for c in columns}
    if "external_ids" in new:
        others = {k: v for k, v in old["external_ids"].items() if not k.startswith(_MINE)}
        new["external_ids"] = {**others, **new["external_ids"]}
    encoded = {c: encode(kinds[c], v) for c, v in new.items()}
    return {"op": "update", "table": row.table, "where": _is(uuid), "row": encoded}


def _is(uuid: str) -> list[Any]:
    return [["_uuid", "==", ["uuid", uuid]]]


def owned(owner: str, **more: str) -> dict[str, str]:
    """external_ids of a row of ours."""
    return {OWNER: owner, **{f"{_MINE}{k}": v for k, v in more.items()}}
