"""A northbound database in memory: the operations of RFC 7047 on the tables in use, and monitor updates.

Rows without a strong reference are garbage-collected, names of ports are unique, transactions are atomic.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from libnetvirt.drivers.ovn import schema
from libnetvirt.drivers.ovn.mirror import NetworkMirror
from libnetvirt.drivers.ovn.planner import Planner
from libnetvirt.model import VirtualNetwork
from libnetvirt.ovsdb.database import Database, Operation, Refused
from libnetvirt.ovsdb.values import ColumnType, decode, default_value, encode

Rows = dict[str, dict[str, dict[str, Any]]]
OWNER = "libnetvirt"
_UNIQUE = ("Logical_Switch_Port", "Logical_Router_Port")


class Server:
    """The database. ``transact`` returns the ``update2`` that a monitor gets."""

    def __init__(self) -> None:
        self.tables: Rows = {table: {} for table in schema.TABLES}
        self._uuids = (f"00000000-0000-0000-0000-{n:012x}" for n in itertools.count(1))

    def transact(self, operations: Sequence[Operation]) -> dict[str, Any]:
        before = copy.deepcopy(self.tables)
        names = {o["uuid-name"]: next(self._uuids) for o in operations if o["op"] == "insert"}
        try:
            for operation in operations:
                self._execute(operation, names)
            self._collect()
            self._check()
        except BaseException:
            self.tables = before
            raise
        return _update2(before, self.tables)

    def _execute(self, o: Operation, names: Mapping[str, str]) -> None:
        kinds, rows = schema.TABLES[o["table"]], self.tables[o["table"]]
        if o["op"] == "insert":
            new = {c: default_value(k) for c, k in kinds.items()}
            rows[names[o["uuid-name"]]] = new | {c: _decode(kinds[c], w, names) for c, w in o["row"].items()}
            return
        ((_, _, (_, uuid)),) = o["where"]
        if uuid not in rows:
            return
        if o["op"] == "delete":
            del rows[uuid]
        elif o["op"] == "update":
            rows[uuid] = rows[uuid] | {c: _decode(kinds[c], w, names) for c, w in o["row"].items()}
        else:
            for column, how, wire in o["mutations"]:
                change = _decode(kinds[column], wire, names)
                old = rows[uuid][column]
                rows[uuid] = rows[uuid] | {column: old | change if how == "insert" else old - change}

    def _collect(self) -> None:
        while True:
            held = {u for t, rows in self.tables.items() for row in rows.values()
                    for c in schema.CHILD_COLUMNS.get(t, ()) for u in row[c]}  # fmt: skip
            gone = [(t, u) for t, rows in self.tables.items() if t not in schema.ROOT_TABLES for u in rows
                    if u not in held]  # fmt: skip
            if not gone:
                return
            for table, uuid in gone:
                del self.tables[table][uuid]

    def _check(self) -> None:
        there = {u for rows in self.tables.values() for u in rows}
        for table, rows in self.tables.items():
            for row in rows.values():
                for column in schema.CHILD_COLUMNS.get(table, ()):
                    if not row[column] <= there:
                        raise Refused("referential integrity violation", f"{table} {column}")
        for table in _UNIQUE:
            names = [row["name"] for row in self.tables[table].values()]
            if len(set(names)) != len(names):
                raise Refused("constraint violation", f"index on name of {table}")
        children = [u for t, rows in self.tables.items() for row in rows.values()
                 for c in schema.CHILD_COLUMNS.get(t, ()) for u in row[c]]  # fmt: skip
        if len(set(children)) != len(children):
            raise Refused("", "a row has two parents, which northd warns about")


class Simulation:
    """A server, and the driver's mirror and planner as its client."""

    def __init__(self) -> None:
        self.server = Server()
        self.notified: list[tuple[set[str], set[str]]] = []
        self.mirror = NetworkMirror(lambda units, uuids: self.notified.append((set(units), set(uuids))))
        self.planner = Planner(self.mirror, OWNER)
        self._database = Database(schema.NORTHBOUND, (), schema.northbound(OWNER), changed=self.mirror.apply)

    def commit(self, operations: Sequence[Operation]) -> int:
        """Commit operations and update the client; returns their number."""
        self._database._apply(self.server.transact(operations))
        return len(operations)

    def change(self, before: VirtualNetwork | None, after: VirtualNetwork | None) -> int:
        return self.commit(self.planner.change(before, after))

    def names(self, table: str) -> list[str]:
        return sorted(row["name"] for row in self.server.tables[table].values())

    def only(self, table: str, **wanted: Any) -> dict[str, Any]:
        """The one row with these columns."""
        (found,) = [r for r in self.server.tables[table].values() if wanted.items() <= r.items()]
        return found

    def everything(self) -> dict[str, list[str]]:
        """All rows without their uuids."""
        names = {u: row.get("name", "") for rows in self.server.tables.values() for u, row in rows.items()}

        def plain(table: str, row: dict[str, Any]) -> str:
            children = schema.CHILD_COLUMNS.get(table, ())
            return repr(
                {c: sorted(names[u] for u in v) if c in children else _plain(v) for c, v in row.items()}
            )

        return {t: sorted(plain(t, r) for r in rows.values()) for t, rows in self.server.tables.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, frozenset):
        return sorted(value)
    return dict(sorted(value.items())) if isinstance(value, dict) else value


def _decode(kind: ColumnType, wire: Any, names: Mapping[str, str]) -> Any:
    if kind is ColumnType.UUID_SET:
        assert wire[0] == "set"
        return frozenset(names[u] if tag == "named-uuid" else u for tag, u in wire[1])
    return decode(kind, wire)


def _update2(before: Rows, after: Rows) -> dict[str, Any]:
    """The update for a monitor of the owner's rows (ovsdb-server(7), Update2 Notification)."""
    found: dict[str, Any] = {}
    for table, kinds in schema.TABLES.items():
        updates: dict[str, Any] = {}
        for uuid in before[table].keys() | after[table].keys():
            old, new = (_seen(rows[table].get(uuid)) for rows in (before, after))
            if old == new:
                continue
            if new is None:
                updates[uuid] = {"delete": None}
            elif old is None:
                updates[uuid] = {"insert": {c: encode(k, new[c]) for c, k in kinds.items()}}
            else:
                changed = (c for c in kinds if old[c] != new[c])
                updates[uuid] = {"modify": {c: _difference(kinds[c], old[c], new[c]) for c in changed}}
        if updates:
            found[table] = updates
    return found


def _seen(row: dict[str, Any] | None) -> dict[str, Any] | None:
    return row if row is not None and schema.OWNER in row["external_ids"] else None


def _difference(kind: ColumnType, old: Any, new: Any) -> Any:
    if kind in (ColumnType.SET, ColumnType.UUID_SET):
        return encode(kind, old ^ new)
    if kind is ColumnType.MAP:
        gone = {k: v for k, v in old.items() if k not in new}
        return encode(kind, gone | {k: v for k, v in new.items() if old.get(k) != v})
    return encode(kind, new)


def drift(simulation: Simulation) -> list[str]:
    """The drift of all networks."""
    return [line for uuid in simulation.mirror.networks for line in simulation.planner.drift(uuid).lines()]
