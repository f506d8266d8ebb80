"""The schema of the state that several controllers share, in a database of ovsdb-server.

``python3 -m libnetvirt.store.cluster_schema`` prints it, for ``ovsdb-tool create-cluster``.
"""

from __future__ import annotations

import json
from typing import Any, Final

from libnetvirt.ovsdb.database import Watch
from libnetvirt.ovsdb.values import ColumnType

DATABASE: Final = "LibNetVirt"
#: of what the rows hold; a state of a higher one is refused
VERSION: Final = 2

_S, _I = ColumnType.STRING, ColumnType.INTEGER
#: Lease: who leads; State: what has been committed; both have one row. The others are as in a state file.
COLUMNS: Final[dict[str, dict[str, ColumnType]]] = {
    "Lease": {"owner": _S, "term": _I, "beat": _I, "milliseconds": _I, "address": _S},
    "State": {"version": _I, "commits": _I, "token": _S},
    "Network": {"position": _I, "uuid": _S, "document": _S},
    "Endpoint": {"position": _I, "network": _S, "uuid": _S, "document": _S},
    "Fact": {"kind": _S, "key": _S, "value": _S},
}
_INDEXES = {"Network": ["uuid"], "Endpoint": ["network", "uuid"], "Fact": ["kind", "key"]}
WATCHES: Final = {table: Watch(columns) for table, columns in COLUMNS.items()}


def schema() -> dict[str, Any]:
    """The schema, as RFC 7047 writes it (section 3.2)."""
    tables: dict[str, Any] = {}
    for table, columns in COLUMNS.items():
        tables[table] = {"columns": {c: {"type": kind.value} for c, kind in columns.items()}, "isRoot": True}
        if table in _INDEXES:
            tables[table]["indexes"] = [_INDEXES[table]]
        else:
            tables[table]["maxRows"] = 1
    return {"name": DATABASE, "version": "1.0.0", "tables": tables}


if __name__ == "__main__":
    print(json.dumps(schema(), indent=1))
