"""The store in a database of ovsdb-server, as a rule a cluster of three (`cluster`)."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from libnetvirt.errors import InvalidDescription, StateUnusable
from libnetvirt.model import Endpoint, VirtualNetwork
from libnetvirt.ovsdb.database import Operation
from libnetvirt.store import Batch, Key, Snapshot, Store
from libnetvirt.store.cluster import Cluster
from libnetvirt.store.sqlite import SqliteStore, head, keeps_order

#: the most bytes of one commit
MAX_COMMIT: Final = 64 * 2**20
#: rows of one commit are numbered within this
_SPAN: Final = 2**24


class OvsdbStore(Store):
    """What one leader keeps, from when it has taken the lease until another one does."""

    shared = True

    def __init__(self, cluster: Cluster) -> None:
        """Opens nothing: the cluster is open, and is not closed with the store."""
        self._cluster = cluster
        self._commits = 0
        self._closed = False
        self.name = cluster.name

    @property
    def commits(self) -> int:
        return self._commits

    def load(self) -> Snapshot:
        """Everything in the store, as it was left by the last leader. Raises StateUnusable if this controller
        does not lead."""
        return self._cluster.run(self._load())

    async def _load(self) -> Snapshot:
        self.term = self._cluster.lease.term
        await self._cluster.confirm(self.term)
        self._commits = self._cluster.state()["commits"]
        self.created = not self._commits
        return await self._read()

    def read(self) -> Snapshot:
        """Everything in the store now, also if another controller leads. Blocks. Raises StateUnusable."""
        return self._cluster.run(self._read())

    async def _read(self) -> Snapshot:
        cluster = self._cluster
        tables = cluster.database.tables
        endpoints: dict[str, list[Any]] = {row["uuid"]: [] for row in tables["Network"].values()}
        try:
            for row in sorted(tables["Endpoint"].values(), key=_position):
                endpoints[row["network"]].append(json.loads(row["document"]))
            networks = [
                VirtualNetwork.model_validate(
                    {**json.loads(row["document"]), "endpoints": endpoints[row["uuid"]]}
                )
                for row in sorted(tables["Network"].values(), key=_position)
            ]
        except (InvalidDescription, ValueError, TypeError, KeyError) as error:
            raise cluster.unusable(
                f"a row was changed by another program ({error}). Restore a backup (netvirt restore FILE)"
            ) from None
        return Snapshot(networks, {(r["kind"], r["key"]): r["value"] for r in tables["Fact"].values()})

    def commit(self, batch: Batch) -> None:
        if self._closed:
            raise StateUnusable(f"the state in {self.name} is closed")
        self._cluster.run(self._commit(batch))

    async def _commit(self, batch: Batch) -> None:
        await self._write(list(self._operations(batch)))

    async def _write(self, operations: list[Operation], then: int = 0) -> None:
        try:
            size = len(json.dumps(operations))
        except TypeError as error:
            raise self._cluster.unusable(error) from None
        if size > MAX_COMMIT:
            raise self._cluster.unusable(
                f"one operation would write {size} bytes, and {MAX_COMMIT} are allowed: change less at a time"
            )
        then = max(then, self._commits + 1)
        await self._cluster.commit(self.term, self._commits, operations, then)
        self._commits = then

    def check(self) -> None:
        self._cluster.run(self._cluster.confirm(self.term))

    def replace(self, snapshot: Snapshot, commits: int) -> None:
        """Put all of a backup, with so many commits, in place of what is there. Blocks. Raises
        StateUnusable."""
        self._cluster.run(self._replace(snapshot, commits))

    async def _replace(self, snapshot: Snapshot, commits: int) -> None:
        gone: list[Operation] = [
            {"op": "delete", "table": table, "where": []} for table in ("Network", "Endpoint", "Fact")
        ]
        numbers = self._positions()
        new = [op for n in snapshot.networks for op in _insert_network(n, numbers)]
        facts = [_insert("Fact", kind=k, key=n, value=v) for (k, n), v in snapshot.facts.items()]
        await self._write([*gone, *new, *facts], commits)

    # ---- rows ----------------------------------------------------------------------------------

    def _positions(self) -> Iterator[int]:
        """Positions behind those of all rows that are there."""
        return iter(range((self._commits + 1) * _SPAN, (self._commits + 2) * _SPAN))

    def _operations(self, batch: Batch) -> Iterator[Operation]:
        numbers = self._positions()
        for uuid in batch.drop:
            if (row := self._cluster.uuid("Network", uuid)) is not None:
                yield _delete("Network", row)
                yield _delete_endpoints(uuid)
        for network in batch.put:
            if network.uuid in batch.drop:
                yield from _insert_network(network, numbers)
            else:
                yield from self._put(network, numbers)
        for before, after in batch.alter:
            yield from self._alter(before, after, numbers)
        for (kind, key), value in batch.facts.items():
            row = self._cluster.uuid("Fact", kind, key)
            if value is None:
                if row is not None:
                    yield _delete("Fact", row)
            elif row is None:
                yield _insert("Fact", kind=kind, key=key, value=value)
            else:
                yield _update("Fact", row, value=value)

    def _put(self, network: VirtualNetwork, numbers: Iterator[int]) -> Iterator[Operation]:
        row = self._cluster.uuid("Network", network.uuid)
        if row is None:
            yield from _insert_network(network, numbers)
            return
        yield _update("Network", row, document=head(network))
        yield _delete_endpoints(network.uuid)
        yield from _insert_endpoints(network.uuid, network.endpoints, numbers)

    def _alter(
        self, before: VirtualNetwork, after: VirtualNetwork, numbers: Iterator[int]
    ) -> Iterator[Operation]:
        row = self._cluster.uuid("Network", after.uuid)
        if row is None or not keeps_order(before, after):
            yield from self._put(after, numbers)
            return
        if head(before) != head(after):
            yield _update("Network", row, document=head(after))
        touched = set(before.touched(after))
        for uuid in touched - set(after.by_uuid):
            if (old := self._cluster.uuid("Endpoint", after.uuid, uuid)) is not None:
                yield _delete("Endpoint", old)
        for endpoint in after.select([uuid for uuid in after.by_uuid if uuid in touched]):
            old = self._cluster.uuid("Endpoint", after.uuid, endpoint.uuid)
            if old is None:
                yield from _insert_endpoints(after.uuid, [endpoint], numbers)
            else:
                yield _update("Endpoint", old, document=_document(endpoint))

    def backup(self) -> bytes:
        """A consistent copy of the store, as the content of a state file. Blocks; may be called from any
        thread, while commits go on. Raises StateUnusable."""
        return as_state_file(self.read())

    def close(self) -> None:
        self._closed = True


def as_state_file(snapshot: Snapshot) -> bytes:
    """The content of a state file that holds this. Blocks."""
    with tempfile.TemporaryDirectory(prefix="netvirt-backup-") as directory:
        path = Path(directory) / "backup"
        with closing(SqliteStore(path)) as file:
            file.commit(Batch(put=snapshot.networks, facts=dict[Key, str | None](snapshot.facts)))
            return file.backup()


def _position(row: Mapping[str, Any]) -> int:
    return int(row["position"])


def _document(endpoint: Endpoint) -> str:
    return endpoint.model_dump_json(by_alias=True, exclude_none=True)


def _insert_network(network: VirtualNetwork, numbers: Iterator[int]) -> Iterator[Operation]:
    yield _insert("Network", position=next(numbers), uuid=network.uuid, document=head(network))
    yield from _insert_endpoints(network.uuid, network.endpoints, numbers)


def _insert_endpoints(
    network: str, endpoints: Iterable[Endpoint], numbers: Iterator[int]
) -> Iterator[Operation]:
    for one in endpoints:
        yield _insert(
            "Endpoint", position=next(numbers), network=network, uuid=one.uuid, document=_document(one)
        )


def _insert(table: str, **row: Any) -> Operation:
    return {"op": "insert", "table": table, "row": row}


def _update(table: str, uuid: str, **row: Any) -> Operation:
    return {"op": "update", "table": table, "where": [["_uuid", "==", ["uuid", uuid]]], "row": row}


def _delete(table: str, uuid: str) -> Operation:
    return {"op": "delete", "table": table, "where": [["_uuid", "==", ["uuid", uuid]]]}


def _delete_endpoints(network: str) -> Operation:
    return {"op": "delete", "table": "Endpoint", "where": [["network", "==", network]]}
