"""The file in which the events of a connection are kept: a SQLite database of its own, beside the state.

Events have numbers, which only grow, also over restarts: if the file was not closed properly, numbers that
were given to readers, but not written, are skipped with many others (:data:`SKIP`), and ``run`` tells where
the next ones begin. A file that cannot be read is set aside (``PATH.damaged``), not refused: it is not the
state.

A commit is not synced to the disk (synchronous=NORMAL): after a power failure the last events may be missing.
When the process is killed, only those are lost that were not written yet.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

#: "NVEV", in the header of the database
APPLICATION: Final = 0x4E564556
VERSION: Final = 1
#: Numbers that are left out after an end in which events may not have been written: more than can be missing.
SKIP: Final = 1_000_000
_SCHEMA: Final = f"""
CREATE TABLE event (number INTEGER PRIMARY KEY, time REAL NOT NULL, line BLOB NOT NULL);
CREATE TABLE run (first INTEGER PRIMARY KEY);
CREATE TABLE log (id TEXT NOT NULL, closed INTEGER);
CREATE TABLE hook (name TEXT PRIMARY KEY, position INTEGER NOT NULL);
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
"""


class Row(NamedTuple):
    """An event: its number, its time in seconds of the epoch, and its line of JSON."""

    number: int
    time: float
    line: bytes


class EventFile:
    """An open file, for one thread at a time, and for one process. All methods block, and raise sqlite3.Error
    or OSError.

    ``id``: random, of this file. ``last``: the number after which new events are numbered. ``runs``: the
    first numbers of runs before which events may be missing. ``set_aside``: where a file is now that could
    not be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.set_aside: Path | None = None
        try:
            self._db = _opened(path)
        except sqlite3.OperationalError:
            raise  # it cannot be opened or written, or another process has it: it may be a good one
        except (sqlite3.DatabaseError, ValueError):
            self.set_aside = _set_aside(path)
            self._db = _opened(path)
        try:
            self._begin()
        except BaseException:
            self._db.close()
            raise

    def _begin(self) -> None:
        db = self._db
        found = db.execute("SELECT id, closed FROM log").fetchone()
        (newest,) = db.execute("SELECT coalesce(max(number), 0) FROM event").fetchone()
        db.execute("BEGIN IMMEDIATE")
        if found is None:
            self.id, self.last = secrets.token_hex(6), 0
            db.execute("INSERT INTO log VALUES (?, NULL)", (self.id,))
        else:
            self.id, closed = found
            runs = [first for (first,) in db.execute("SELECT first FROM run")]
            self.last = closed if closed is not None else max([newest, *runs]) + SKIP
            if closed is None:
                db.execute("INSERT INTO run VALUES (?)", (self.last + 1,))
            db.execute("UPDATE log SET closed = NULL")
        db.execute("COMMIT")
        self.runs = tuple(first for (first,) in db.execute("SELECT first FROM run ORDER BY first"))
        # The commits above are synced: numbers that are given from now on are never given again.
        db.execute("PRAGMA synchronous = NORMAL")

    def write(self, rows: Iterable[Row]) -> None:
        """Add events, all or none."""
        with self._transaction():
            self._db.executemany("INSERT INTO event VALUES (?, ?, ?)", rows)

    def prune(self, keep: int, since: float) -> None:
        """Remove all but the newest ``keep`` events, and those before a time."""
        with self._transaction():
            self._db.execute(
                "DELETE FROM event WHERE number <= "
                "(SELECT number FROM event ORDER BY number DESC LIMIT 1 OFFSET ?)",
                (keep,),
            )
            self._db.execute("DELETE FROM event WHERE time < ?", (since,))

    def after(self, number: int, size: int, limit: int = -1) -> list[Row]:
        """The events after a number, in order: as many as ``size`` bytes hold, at least one if there is
        one."""
        found: list[Row] = []
        rows = self._db.execute(
            "SELECT number, time, line FROM event WHERE number > ? ORDER BY number LIMIT ?", (number, limit)
        )
        for row in map(Row._make, rows):
            size -= len(row.line)
            if found and size < 0:
                break
            found.append(row)
        return found

    def newest(self, count: int) -> list[Row]:
        """The newest events, in order: of those that follow one another without a gap."""
        rows = self._db.execute("SELECT number, time, line FROM event ORDER BY number DESC LIMIT ?", (count,))
        found: list[Row] = []
        for row in map(Row._make, rows):
            if row.number != (found[-1].number - 1 if found else self.last):
                break
            found.append(row)
        return found[::-1]

    def before(self, time: float) -> tuple[int | None, bool]:
        """The number before the first event that is not older than ``time``, None if there is none; and
        whether events of that time may have been removed."""
        (first,) = self._db.execute("SELECT min(number) FROM event WHERE time >= ?", (time,)).fetchone()
        (oldest,) = self._db.execute("SELECT min(number) FROM event").fetchone()
        return (None if first is None else first - 1), first is not None and first == oldest and first > 1

    def positions(self) -> dict[str, int]:
        """The numbers of the last events that hooks have had, by their names."""
        return dict(self._db.execute("SELECT name, position FROM hook"))

    def set_position(self, hook: str, number: int) -> None:
        """Keep the position of a hook."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO hook VALUES (?, ?)", (hook, number))

    def forget_hooks(self, kept: Sequence[str]) -> None:
        """Remove the positions of all other hooks."""
        with self._transaction():
            for name in self.positions().keys() - set(kept):
                self._db.execute("DELETE FROM hook WHERE name = ?", (name,))

    def close(self, last: int | None) -> None:
        """Close the file. ``last``: the number of the last event, if all were written."""
        try:
            if last is not None:
                self._db.execute("PRAGMA synchronous = FULL")
                with self._transaction():
                    self._db.execute("UPDATE log SET closed = ?", (last,))
        finally:
            self._db.close()

    def _transaction(self) -> sqlite3.Connection:
        # As a context manager it commits, or rolls back what an error has left half done.
        if not self._db.in_transaction:
            self._db.execute("BEGIN IMMEDIATE")
        return self._db


def _opened(path: Path) -> sqlite3.Connection:
    """Raises ValueError if it is another program's file, or of a newer version."""
    # Made first, so that it is private from the beginning.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0.0)
    try:
        # One process, without shared memory beside the file.
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA journal_size_limit = 4194304")
        (application,) = db.execute("PRAGMA application_id").fetchone()
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if (application, version) == (0, 0) and not db.execute("SELECT 1 FROM sqlite_master").fetchone():
            db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
        elif (application, version) != (APPLICATION, VERSION):
            raise ValueError(f"application {application:#x}, version {version}")
    except BaseException:
        db.close()
        raise
    return db


def _set_aside(path: Path) -> Path:
    aside = path.with_name(path.name + ".damaged")
    path.replace(aside)
    for suffix in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).unlink()
    return aside
