"""The store in a SQLite file (or in memory, ``:memory:``). `state_file` tells which files are refused."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from libnetvirt.errors import InvalidDescription, StateUnusable
from libnetvirt.model import Endpoint, VirtualNetwork
from libnetvirt.store import Batch, Key, Snapshot, Store
from libnetvirt.store.state_file import (
    APPLICATION,
    COMMITS,
    VERSION,
    WAL,
    StateFile,
    new_file,
    real_path,
    unusable,
    way_back,
)

MEMORY = ":memory:"
#: converts the facts of a driver from those of version 1; raises ValueError for what it cannot read
Upgrade = Callable[[Mapping[Key, str]], Mapping[Key, str]]
#: seconds that a commit waits for another program that has locked the database
_BUSY = 2.0
# The sums are CRC-32 of a row's texts: SQLite does not notice a changed byte inside of a text.
_SCHEMA = f"""
CREATE TABLE network
(position INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT UNIQUE NOT NULL, document TEXT NOT NULL,
 sum INTEGER NOT NULL);
CREATE TABLE endpoint
(position INTEGER PRIMARY KEY AUTOINCREMENT, network TEXT NOT NULL, uuid TEXT NOT NULL,
 document TEXT NOT NULL, sum INTEGER NOT NULL, UNIQUE (network, uuid));
CREATE TABLE fact
(kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, sum INTEGER NOT NULL, PRIMARY KEY (kind, key));
CREATE TABLE state (token TEXT NOT NULL, commits INTEGER NOT NULL, open INTEGER NOT NULL);
INSERT INTO state VALUES ('new', 0, 0);
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
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
    ``create``: make the file if there is none. ``incomplete``: accept a copy of a file that was open, whose
    last commits may be missing.
    """

    def __init__(
        self,
        path: str | Path,
        upgrade: Upgrade | None = None,
        *,
        create: bool = True,
        incomplete: bool = False,
    ) -> None:
        """Open the file; blocks until all of it is read. Raises StateUnusable."""
        self._convert = upgrade
        self._file: StateFile | None = None
        self._commits = 0
        self._changes = 0
        self._db: sqlite3.Connection | None = None
        self._path = Path(path) if str(path) == MEMORY else real_path(path)
        self.name, self.durable = str(self._path), str(path) != MEMORY
        self.path = self.name if self.durable else ""
        try:
            if str(path) == MEMORY:
                self._db = _connect(MEMORY)
                self._db.executescript(_SCHEMA)
            else:
                self._open(self._path, create, incomplete)
        except BaseException as error:
            self._release()
            if isinstance(error, (sqlite3.Error, OSError, ValueError)):
                raise self._unusable(error) from error
            raise

    def _open(self, path: Path, create: bool, incomplete: bool) -> None:
        if not path.exists():
            for suffix in (COMMITS, WAL):
                beside = path.with_name(path.name + suffix)
                if beside.exists():
                    raise unusable(path, f"it is missing, but {beside.name} is there. {way_back(path)}")
            if not create:
                raise unusable(path, "there is no such file. Name the one in use with state=PATH")
            path.parent.mkdir(parents=True, exist_ok=True)
            with new_file(path) as part, closing(_connect(part)) as db:
                db.executescript(_SCHEMA)
            self.created = True
        file = self._file = StateFile(path)
        version = file.examine(incomplete=incomplete)
        file.make_private()
        if version < VERSION:
            self._copy(version)
        db = self._db = _connect(path)
        db.execute("PRAGMA journal_mode = WAL")
        # The default of SQLite's builds differs: a commit is synced to the disk before it is confirmed.
        db.execute("PRAGMA synchronous = FULL")
        if version < VERSION:
            self._upgrade(db)
        file.begin(db)
        (self._commits,) = db.execute("SELECT commits FROM state").fetchone()
        self._changes = _changes(db)

    def _copy(self, version: int) -> None:
        """Copy the file, as it was written by an older version, to ``PATH.version-N``."""
        path = self._path.with_name(f"{self._path.name}.version-{version}")
        path.unlink(missing_ok=True)
        with (
            new_file(path) as part,
            closing(_connect(self._path)) as source,
            closing(_connect(part)) as target,
        ):
            source.backup(target)

    def _upgrade(self, db: sqlite3.Connection) -> None:
        """Convert what a file of version 1 holds, in one transaction."""
        db.execute("BEGIN EXCLUSIVE")
        old = {
            table: db.execute(f"SELECT {columns} FROM {table} ORDER BY {order}").fetchall()
            for table, columns, order in (
                ("network", "uuid, document", "position"),
                ("endpoint", "network, uuid, document", "position"),
                ("fact", "kind, key, value", "kind, key"),
            )
        }
        facts: Mapping[Key, str] = {(kind, key): value for kind, key, value in old["fact"]}
        if self._convert is not None:
            facts = self._convert(facts)
        for table in old:
            db.execute(f"DROP TABLE {table}")
        for statement in _SCHEMA.split(";"):
            db.execute(statement)
        db.executemany(_PUT_NETWORK, [(*row, _sum(*row)) for row in old["network"]])
        db.executemany(_PUT_ENDPOINT, [(*row, _sum(*row)) for row in old["endpoint"]])
        db.executemany(_PUT_FACT, [(*key, value, _sum(*key, value)) for key, value in facts.items()])
        db.execute("COMMIT")

    def _unusable(self, error: Exception) -> StateUnusable:
        if "locked" in str(error):
            return unusable(
                self._path, "another process holds it: stop that one, or use another file with state=PATH"
            )
        if isinstance(error, OSError) or "full" in str(error) or "open" in str(error):
            return unusable(
                self._path, f"{error}. Use another file with state=PATH, or state=:memory: to keep nothing"
            )
        return unusable(self._path, f"{error}. {way_back(self._path)}")

    @property
    def commits(self) -> int:
        return self._commits

    @property
    def _opened(self) -> sqlite3.Connection:
        if self._db is None:
            raise StateUnusable(f"the state in {self._path} is closed")
        return self._db

    def load(self) -> Snapshot:
        db = self._opened
        try:
            rows = db.execute("SELECT uuid, document, sum FROM network ORDER BY position").fetchall()
            members = db.execute("SELECT network, uuid, document, sum FROM endpoint ORDER BY position")
            endpoints: dict[str, list[Any]] = {uuid: [] for uuid, _, _ in rows}
            for network, uuid, document, given in members:
                _verify(given, network, uuid, document)
                endpoints[network].append(json.loads(document))
            networks = []
            for uuid, document, given in rows:
                _verify(given, uuid, document)
                found = {**json.loads(document), "endpoints": endpoints[uuid]}
                networks.append(VirtualNetwork.model_validate(found))
            facts = {}
            for kind, key, value, given in db.execute("SELECT kind, key, value, sum FROM fact"):
                _verify(given, kind, key, value)
                facts[kind, key] = value
        except (sqlite3.Error, InvalidDescription, ValueError, TypeError, KeyError) as error:
            raise self._unusable(error) from error
        return Snapshot(networks, facts)

    def commit(self, batch: Batch) -> None:
        db = self._opened
        try:
            if self._file is not None:
                self._file.check()
            with _transaction(db):
                if self._file is not None and _changes(db) != self._changes:
                    raise unusable(
                        self._path,
                        "another program has written it while it was in use. Stop this server, check the "
                        f"networks ('netvirt list') when it runs again. {way_back(self._path)}",
                    )
                self._write(db, batch)
                db.execute("UPDATE state SET commits = ?", (self._commits + 1,))
            self._commits += 1
            if self._file is not None:
                self._file.confirm(self._commits)
        except (sqlite3.Error, OSError, TypeError) as error:
            raise self._unusable(error) from error

    def check(self) -> None:
        try:
            if self._opened and self._file is not None:
                self._file.check()
                if not os.statvfs(self._file.path).f_bavail:
                    raise self._unusable(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        except OSError as error:
            raise self._unusable(error) from error

    def _write(self, db: sqlite3.Connection, batch: Batch) -> None:
        for uuid in batch.drop:
            db.execute("DELETE FROM network WHERE uuid = ?", (uuid,))
            db.execute("DELETE FROM endpoint WHERE network = ?", (uuid,))
        for network in batch.put:
            self._put(db, network)
        for before, after in batch.alter:
            self._alter(db, before, after)
        for (kind, key), value in batch.facts.items():
            if value is None:
                db.execute("DELETE FROM fact WHERE kind = ? AND key = ?", (kind, key))
            else:
                db.execute(_PUT_FACT, (kind, key, value, _sum(kind, key, value)))

    def _put(self, db: sqlite3.Connection, network: VirtualNetwork) -> None:
        text = head(network)
        db.execute(_PUT_NETWORK, (network.uuid, text, _sum(network.uuid, text)))
        db.execute("DELETE FROM endpoint WHERE network = ?", (network.uuid,))
        self._put_endpoints(db, network.uuid, network.endpoints)

    def _alter(self, db: sqlite3.Connection, before: VirtualNetwork, after: VirtualNetwork) -> None:
        if not keeps_order(before, after):
            self._put(db, after)
            return
        text = head(after)
        if head(before) != text:
            db.execute(_PUT_NETWORK, (after.uuid, text, _sum(after.uuid, text)))
        touched = before.touched(after)
        gone = [(after.uuid, uuid) for uuid in touched if uuid not in after.by_uuid]
        db.executemany("DELETE FROM endpoint WHERE network = ? AND uuid = ?", gone)
        new = [u for u in after.by_uuid if u in touched] if len(touched) > 1 else touched
        self._put_endpoints(db, after.uuid, after.select(new))

    def _put_endpoints(self, db: sqlite3.Connection, network: str, endpoints: Iterable[Endpoint]) -> None:
        rows = ((network, e.uuid, e.model_dump_json(by_alias=True, exclude_none=True)) for e in endpoints)
        db.executemany(_PUT_ENDPOINT, [(*row, _sum(*row)) for row in rows])

    def backup(self) -> bytes:
        """A consistent copy of the file, as it is now. Blocks; may be called from any thread, while commits
        go on. Raises StateUnusable."""
        if self._file is None:
            raise StateUnusable("the state is in memory (state=:memory:): there is no file to back up")
        if not self._opened:
            raise StateUnusable(f"{self._path} has not been read yet: there is nothing to back up")
        confirmed = self._commits
        try:
            # Its time of change is not compared: a commit may be under way.
            self._file.check_name()
            with tempfile.TemporaryDirectory(prefix="netvirt-backup-") as directory:
                copy = Path(directory) / "backup"
                with closing(_connect(self._path)) as source, closing(_connect(copy)) as target:
                    source.backup(target)
                    target.execute("PRAGMA journal_mode = DELETE")
                    target.execute("UPDATE state SET open = 0")
                    (found,) = target.execute("PRAGMA integrity_check(1)").fetchone()
                    (held,) = target.execute("SELECT commits FROM state").fetchone()
                if found != "ok" or held < confirmed:
                    raise unusable(self._path, f"it was damaged while it was in use. {way_back(self._path)}")
                return copy.read_bytes()
        except (sqlite3.Error, OSError) as error:
            raise self._unusable(error) from error

    def close(self) -> None:
        if self._db is not None and self._file is not None:
            try:
                self._file.check()
                self._db.execute("UPDATE state SET open = 0")
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            except (sqlite3.Error, OSError, StateUnusable):
                # It counts as not closed, and is examined when it is opened again.
                pass
        self._release()

    def _release(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None
        if self._file is not None:
            self._file.close()


_PUT_NETWORK = (
    "INSERT INTO network (uuid, document, sum) VALUES (?, ?, ?) "
    "ON CONFLICT (uuid) DO UPDATE SET document = excluded.document, sum = excluded.sum"
)
_PUT_ENDPOINT = (
    "INSERT INTO endpoint (network, uuid, document, sum) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (network, uuid) DO UPDATE SET document = excluded.document, sum = excluded.sum"
)
_PUT_FACT = "INSERT OR REPLACE INTO fact VALUES (?, ?, ?, ?)"


def _connect(path: str | Path) -> sqlite3.Connection:
    return sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=_BUSY)


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        # A full disk, for one, has rolled back already.
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _changes(db: sqlite3.Connection) -> int:
    """A number that changes when another connection writes the database."""
    (found,) = db.execute("PRAGMA data_version").fetchone()
    return int(found)


def _sum(*texts: str) -> int:
    return zlib.crc32("\0".join(texts).encode())


def _verify(given: int, *texts: str) -> None:
    if _sum(*texts) != given:
        raise ValueError(f"it is damaged: the record {' '.join(texts)[:200]!r} was changed")


def keeps_order(before: VirtualNetwork, after: VirtualNetwork) -> bool:
    """Whether the endpoints that both have come first and in the same order, as their rows do."""
    if before.uuid != after.uuid:
        return False
    if after.step_from(before) is not None:
        return True
    kept = [uuid for uuid in before.by_uuid if uuid in after.by_uuid]
    return list(after.by_uuid)[: len(kept)] == kept


def head(network: VirtualNetwork) -> str:
    """A network's document without its endpoints, which have rows of their own."""
    return network.model_dump_json(by_alias=True, exclude_none=True, exclude={"endpoints"})
