"""A switch's database in memory: RFC 7047's operations on the tables in use, and references that must lead
to a row."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from typing import Any

from libnetvirt.drivers.openflow.ovsdb_queues.rows import WATCHES
from libnetvirt.ovsdb.database import Operation, Refused
from libnetvirt.ovsdb.values import ColumnType, decode, default_value

#: the columns that refer to rows of other tables
_REFERENCES = (("Port", "qos", "QoS"), ("QoS", "queues", "Queue"))


class Rows:
    """The tables; bridges with their ports, each port with one interface."""

    def __init__(self, ports: dict[int, Sequence[int]], datapath: str = "system") -> None:
        self.tables: dict[str, dict[str, dict[str, Any]]] = {table: {} for table in WATCHES}
        self._uuids = (f"uuid{n}" for n in itertools.count(1))
        for dpid, numbers in ports.items():
            rows = [
                self.put("Port", interfaces=frozenset({self.put("Interface", ofport=n)})) for n in numbers
            ]
            self.put(
                "Bridge", name=f"s{dpid}", datapath_id=f"{dpid:016x}", datapath_type=datapath,
                ports=frozenset(rows), fail_mode="secure", other_config={"disable-in-band": "true"},
            )  # fmt: skip

    def put(self, table: str, **columns: Any) -> str:
        """Add a row with these columns. Its uuid."""
        uuid = next(self._uuids)
        blank = {column: default_value(kind) for column, kind in WATCHES[table].columns.items()}
        self.tables[table][uuid] = {**blank, **columns}
        return uuid

    def transact(self, operations: Sequence[Operation]) -> None:
        """Apply all operations or none. Raises Refused."""
        before = copy.deepcopy(self.tables)
        names = {o["uuid-name"]: next(self._uuids) for o in operations if o["op"] == "insert"}
        try:
            for operation in operations:
                self._carry_out(_named(operation, names), names)
            self._check()
        except BaseException:
            self.tables = before
            raise

    def _carry_out(self, o: Operation, names: dict[str, str]) -> None:
        rows, kinds = self.tables[o["table"]], WATCHES[o["table"]].columns
        if o["op"] == "insert":
            blank = {column: default_value(kind) for column, kind in kinds.items()}
            rows[names[o["uuid-name"]]] = {**blank, **{c: decode(kinds[c], w) for c, w in o["row"].items()}}
            return
        ((_, _, (_, uuid)),) = o["where"]
        if o["op"] == "wait":
            ((column, wire),) = o["rows"][0].items()
            if rows[uuid][column] != decode(kinds[column], wire):
                raise Refused("timed out", "")
        elif o["op"] == "delete":
            del rows[uuid]
        else:
            assert o["op"] == "update"
            rows[uuid] = {**rows[uuid], **{c: decode(kinds[c], w) for c, w in o["row"].items()}}

    def _check(self) -> None:
        for table, column, other in _REFERENCES:
            for row in self.tables[table].values():
                value = row[column]
                found = (
                    [r[1] for r in value.values()]
                    if WATCHES[table].columns[column] is ColumnType.MAP
                    else [value]
                )
                if any(uuid is not None and uuid not in self.tables[other] for uuid in found):
                    raise Refused("referential integrity violation", f"{table} {column}")


def _named(wire: Any, names: dict[str, str]) -> Any:
    """A value with the uuids of new rows in place of their symbolic names."""
    if isinstance(wire, dict):
        return {key: _named(value, names) for key, value in wire.items()}
    if isinstance(wire, list):
        if len(wire) == 2 and wire[0] == "named-uuid":
            return ["uuid", names[wire[1]]]
        return [_named(value, names) for value in wire]
    return wire
