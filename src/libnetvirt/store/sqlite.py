"""The store in a SQLite file (or in memory, ``:memory:``)."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from libnetvirt.errors import InvalidDescription, StateUnusable
from libnetvirt.model import Endpoint, VirtualNetwork
from libnetvirt.store import Batch, Key, Snapshot, Store

MEMORY = ":memory:"
#: converts the facts of a driver from those of version 1; raises ValueError for what it cannot read
Upgrade = Callable[[Mapping[Key, str]], Mapping[Key, str]]
_VERSION = 2
_SCHEMA = """
CREATE TABLE network
(position INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT UNIQUE NOT NULL, document TEXT NOT NULL);
CREATE TABLE endpoint
(position INTEGER PRIMARY KEY AUTOINCREMENT, network TEXT NOT NULL, uuid TEXT NOT NULL,
 document TEXT NOT NULL, UNIQUE (network, uuid));
CREATE TABLE fact (kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, key));
"""


def default_path(driver: str) -> Path:
    """``/var/lib/libnetvirt/DRIVER.db`` for root, else below ``$XDG_STATE_HOME``."""
    if os.geteuid() == 0:
        return Path("/var/lib/libnetvirt") / f"{driver}.db"
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "libnetvirt" / f"{driver}.db"


class SqliteStore(Store):
    """One process at a time holds the file; the operating system releases it when the process ends.

    A file of an older version is upgraded when it is opened: in one transaction, after a copy of it was made
    beside it, ``PATH.version-1``. ``upgrade`` converts a driver's facts; None: the driver has none.
    """

    def __init__(self, path: str | Path, upgrade: Upgrade | None = None) -> None:
        self._path = str(path)
        self._convert = upgrade
        try:
            if self._path != MEMORY:
                Path(self._path).parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None, timeout=0)
        except (sqlite3.Error, OSError) as error:
            raise self._unusable(error) from error
        try:
            self._prepare()
        except (sqlite3.Error, OSError, ValueError) as error:
            self._db.close()
            raise self._unusable(error) from error

    def _prepare(self) -> None:
        db = self._db
        # EXCLUSIVE before WAL: the lock is held from the first read on, and no shared memory is needed.
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if 0 < version < _VERSION:
            self._copy(version)
        db.execute("BEGIN EXCLUSIVE")
        if version == 0:
            for statement in _SCHEMA.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {_VERSION}")
        elif version < _VERSION:
            self._upgrade()
        db.execute("COMMIT")
        if version > _VERSION:
            db.close()
            raise StateUnusable(
                f"{self._path} was written by a newer version of libnetvirt (state version {version}, "
                f"this one reads {_VERSION}): use that version, or another file with state=PATH"
            )

    def _copy(self, version: int) -> None:
        """Copy the file, as it was written by an older version, to ``PATH.version-N``."""
        path = f"{self._path}.version-{version}"
        Path(path).unlink(missing_ok=True)
        with closing(sqlite3.connect(path)) as target:
            self._db.backup(target)
        shutil.copymode(self._path, path)

    def _upgrade(self) -> None:
        """Convert what a file of an older version holds, as part of a transaction."""
        db = self._db
        facts = {(kind, key): value for kind, key, value in db.execute("SELECT kind, key, value FROM fact")}
        if self._convert is not None:
            facts = dict(self._convert(facts))
        db.execute("DELETE FROM fact")
        db.executemany("INSERT INTO fact VALUES (?, ?, ?)", [(*key, value) for key, value in facts.items()])
        db.execute(f"PRAGMA user_version = {_VERSION}")

    def _unusable(self, error: Exception) -> StateUnusable:
        if "locked" in str(error):
            reason = "another process holds it: stop that one, or use another file with state=PATH"
        else:
            reason = f"{error}: use another file with state=PATH, or state=:memory: to keep nothing"
        return StateUnusable(f"the state in {self._path} cannot be used: {reason}")

    def load(self) -> Snapshot:
        try:
            rows = self._db.execute("SELECT uuid, document FROM network ORDER BY position").fetchall()
            members = self._db.execute("SELECT network, document FROM endpoint ORDER BY position").fetchall()
            endpoints: dict[str, list[Any]] = {uuid: [] for uuid, _ in rows}
            for uuid, document in members:
                endpoints[uuid].append(json.loads(document))
            networks = [
                VirtualNetwork.model_validate({**json.loads(document), "endpoints": endpoints[uuid]})
                for uuid, document in rows
            ]
            facts = self._db.execute("SELECT kind, key, value FROM fact").fetchall()
        except (sqlite3.Error, InvalidDescription, ValueError, KeyError) as error:
            raise self._unusable(error) from error
        return Snapshot(networks, {(kind, key): value for kind, key, value in facts})

    def commit(self, batch: Batch) -> None:
        db = self._db
        try:
            db.execute("BEGIN IMMEDIATE")
            try:
                for uuid in batch.drop:
                    db.execute("DELETE FROM network WHERE uuid = ?", (uuid,))
                    db.execute("DELETE FROM endpoint WHERE network = ?", (uuid,))
                for network in batch.put:
                    self._put(network)
                for before, after in batch.alter:
                    self._alter(before, after)
                for (kind, key), value in batch.facts.items():
                    if value is None:
                        db.execute("DELETE FROM fact WHERE kind = ? AND key = ?", (kind, key))
                    else:
                        db.execute("INSERT OR REPLACE INTO fact VALUES (?, ?, ?)", (kind, key, value))
                db.execute("COMMIT")
            except BaseException:
                # A full disk, for one, has rolled back already.
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _put(self, network: VirtualNetwork) -> None:
        self._db.execute(
            "INSERT INTO network (uuid, document) VALUES (?, ?) "
            "ON CONFLICT (uuid) DO UPDATE SET document = excluded.document",
            (network.uuid, _head(network)),
        )
        self._db.execute("DELETE FROM endpoint WHERE network = ?", (network.uuid,))
        self._put_endpoints(network.uuid, network.endpoints)

    def _alter(self, before: VirtualNetwork, after: VirtualNetwork) -> None:
        if not _keeps_order(before, after):
            self._put(after)
            return
        if _head(before) != _head(after):
            self._db.execute("UPDATE network SET document = ? WHERE uuid = ?", (_head(after), after.uuid))
        touched = before.touched(after)
        gone = [(after.uuid, uuid) for uuid in touched if uuid not in after.by_uuid]
        self._db.executemany("DELETE FROM endpoint WHERE network = ? AND uuid = ?", gone)
        new = [u for u in after.by_uuid if u in touched] if len(touched) > 1 else touched
        self._put_endpoints(after.uuid, after.select(new))

    def _put_endpoints(self, network: str, endpoints: Iterable[Endpoint]) -> None:
        self._db.executemany(
            "INSERT INTO endpoint (network, uuid, document) VALUES (?, ?, ?) "
            "ON CONFLICT (network, uuid) DO UPDATE SET document = excluded.document",
            [(network, e.uuid, e.model_dump_json(by_alias=True, exclude_none=True)) for e in endpoints],
        )

    def close(self) -> None:
        self._db.close()


def _keeps_order(before: VirtualNetwork, after: VirtualNetwork) -> bool:
    """Whether the endpoints that both have come first and in the same order, as their rows do."""
    if before.uuid != after.uuid:
        return False
    if after.step_from(before) is not None:
        return True
    kept = [uuid for uuid in before.by_uuid if uuid in after.by_uuid]
    return list(after.by_uuid)[: len(kept)] == kept


def _head(network: VirtualNetwork) -> str:
    """A network's document without its endpoints, which have rows of their own."""
    return network.model_dump_json(by_alias=True, exclude_none=True, exclude={"endpoints"})
