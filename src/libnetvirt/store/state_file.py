"""The files of a store: whether they are ours, complete, and still there.

SQLite keeps a database consistent, but it opens whatever is left of it: if the write-ahead log with the last
commits (``PATH-wal``) is missing, cut or damaged, the database is an older one, without an error. So each
commit is counted twice:

    PATH            table ``state``: a token, the number of commits, and whether a process has the file open
    PATH-commits    the token, and the number of commits that were confirmed

The token is random and new each time the file is opened, and a checkpoint writes it into the database itself.
A database whose token differs from that in ``PATH-commits`` was exchanged; one with fewer commits has lost
the others. ``PATH-commits`` is written when a commit is durable, but not synced: after a power failure it may
tell fewer commits than there are, never more.

One process holds the file: flock(2) on it, which does not keep others from reading it with SQLite.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote

from libnetvirt.errors import StateUnusable

#: "NETV", in the header of the database
APPLICATION = 0x4E455456
VERSION = 2
#: what follows the path in the names of the files that belong to it
WAL, SHM, COMMITS = "-wal", "-shm", "-commits"
#: the tables of version 1, which had no application id
_TABLES = frozenset(("network", "endpoint", "fact"))

#: (device, inode) of the files that this process holds. Closing any descriptor of a file releases the locks
#: of SQLite on it, so it must not be opened a second time.
_held: set[tuple[int, int]] = set()


def way_back(path: Path) -> str:
    """How to go on after damage."""
    return (
        f"Restore a backup (netvirt restore FILE), or move {path.name} and the files {path.name}-* away to "
        "start with no networks"
    )


def unusable(path: Path | str, reason: object) -> StateUnusable:
    """The error that the state cannot be used."""
    return StateUnusable(f"the state in {path} cannot be used: {reason}")


@dataclass(frozen=True, slots=True)
class Commits:
    """The content of ``PATH-commits``. ``previous``: the token before this one, as long as the database may
    still hold it."""

    token: str
    previous: str
    count: int

    def text(self) -> bytes:
        """One line, always of the same length."""
        return f"{self.token} {self.previous} {self.count:020d}\n".encode()

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Read the file; None if there is none, or it is not readable as such."""
        try:
            token, previous, count = path.read_text().split()
            return cls(token, previous, int(count))
        except (FileNotFoundError, ValueError):
            return None


@dataclass(frozen=True, slots=True)
class Header:
    """What a database says of itself. ``token`` is empty if it has no table ``state``."""

    application: int
    version: int
    tables: frozenset[str]
    token: str = ""
    commits: int = 0
    opened: bool = False

    @classmethod
    def read(cls, path: Path, *, log: bool, check: bool) -> Self:
        """Read it without changing any file; ``log``: as it is with the write-ahead log, ``check``: read and
        check all pages. Blocks. Raises sqlite3.Error, StateUnusable."""
        # Not immutable, SQLite reads the log, and makes an empty one if there is none.
        mode = "ro" if log else "ro&immutable=1"
        uri = f"file:{quote(str(path))}?mode={mode}"
        with closing(sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None)) as db:
            (application,) = db.execute("PRAGMA application_id").fetchone()
            (version,) = db.execute("PRAGMA user_version").fetchone()
            tables = frozenset(
                name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            )
            if check:
                (found,) = db.execute("PRAGMA integrity_check(1)").fetchone()
                if found != "ok":
                    raise unusable(path, f"it is damaged ({' '.join(found.split())}). {way_back(path)}")
            state = db.execute("SELECT token, commits, open FROM state") if "state" in tables else ()
            rows = list(state) if application == APPLICATION else []
            return cls(application, version, tables, *(rows[0] if rows else ()))

    @property
    def ours(self) -> bool:
        """Whether libnetvirt has written it, or may have: version 1 had no application id."""
        if self.application == APPLICATION:
            return True
        return self.application == 0 and (not self.tables or self.tables >= _TABLES)


class StateFile:
    """The files of one store, held by this process until :meth:`close`."""

    def __init__(self, path: Path) -> None:
        """Hold the file. Raises StateUnusable if another process does, or OSError."""
        self.path = path
        self._watched: dict[Path, tuple[int, int]] = {}
        self._written: tuple[int, int] | None = None
        self._commits: int | None = None
        self._closed = False
        if _identity(path) in _held:
            raise unusable(path, _HELD)
        self._lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            status = os.fstat(self._lock)
            self._key = status.st_dev, status.st_ino
            if _identity(path) != self._key:
                raise BlockingIOError
        except BlockingIOError:
            os.close(self._lock)
            raise unusable(path, _HELD) from None
        except BaseException:
            os.close(self._lock)
            raise
        _held.add(self._key)

    def beside(self, suffix: str) -> Path:
        """The path of a file that belongs to this one."""
        return self.path.with_name(self.path.name + suffix) if suffix else self.path

    # ---- when it is opened ---------------------------------------------------------------------

    def examine(self, *, incomplete: bool = False) -> int:
        """The version of the state, if the file can be used. Changes no file. Blocks: reads all of it.

        ``incomplete``: accept a copy of a file that was open, of which the last commits may be missing.
        Raises StateUnusable, OSError, sqlite3.Error.
        """
        if os.fstat(self._lock).st_size == 0:
            raise unusable(self.path, f"it is empty, which no state file is. {way_back(self.path)}")
        main = header = Header.read(self.path, log=False, check=False)
        if main.ours:
            log = self.beside(WAL)
            header = Header.read(self.path, log=log.exists() and log.stat().st_size > 0, check=True)
        name, version = self.path, header.version
        if not header.ours:
            raise unusable(
                name,
                "it is a database of another program, and was not changed. Choose another file with "
                "state=PATH",
            )
        if version > VERSION:
            raise StateUnusable(
                f"{name} was written by a newer version of libnetvirt (state version {version}, this one "
                f"reads {VERSION}): use that version, or another file with state=PATH"
            )
        if version == 1 and header.application == 0 and header.tables:
            return version
        if version != VERSION or header.application != APPLICATION or not header.token:
            raise unusable(name, f"{version} is not a state version of libnetvirt. {way_back(name)}")
        self._compare(main, header, incomplete)
        return version

    def _compare(self, main: Header, header: Header, incomplete: bool) -> None:
        """Compare the database, without its log and with it, with the commits that were confirmed."""
        confirmed = Commits.read(self.beside(COMMITS))
        back = way_back(self.path)
        if confirmed is None:
            if (main.opened or header.opened) and not incomplete:
                raise unusable(
                    self.path,
                    f"it was copied while it was in use, or {self.beside(COMMITS).name} was removed: its "
                    f"last operations may be missing ('netvirt backup' makes complete copies). {back}. To "
                    "use it as it is: move it away, and restore it with netvirt restore --incomplete FILE",
                )
            if main.token != header.token:
                raise unusable(self.path, f"{self.beside(WAL).name} is the log of another file. {back}")
            return
        tokens = confirmed.token, confirmed.previous
        if main.token not in tokens or header.token not in tokens:
            raise unusable(
                self.path, f"it, or {self.beside(WAL).name}, is not the file that was used last. {back}"
            )
        if header.commits < confirmed.count:
            raise unusable(
                self.path,
                f"{confirmed.count - header.commits} of {confirmed.count} commits that were confirmed are "
                f"missing: {self.beside(WAL).name} was removed, cut or damaged. {back}",
            )

    def make_private(self) -> None:
        """Give all files mode 0600. SQLite gives new ones the mode of the database."""
        for suffix in ("", WAL, SHM, COMMITS):
            with suppress(FileNotFoundError, PermissionError):
                path = self.beside(suffix)
                if path.stat().st_mode & 0o077:
                    path.chmod(0o600)

    # ---- while it is in use --------------------------------------------------------------------

    def begin(self, db: sqlite3.Connection) -> None:
        """Mark the database as in use, with a new token. From here on, commits are counted. Blocks."""
        previous, count = db.execute("SELECT token, commits FROM state").fetchone()
        token = secrets.token_hex(8)
        self._write(Commits(token, previous, count))
        db.execute("UPDATE state SET token = ?, open = 1", (token,))
        busy, _, _ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        # As long as a program reads an older state, the database may keep its token: then both are valid.
        self._write(Commits(token, previous if busy else token, count))
        self._commits = os.open(self.beside(COMMITS), os.O_RDWR | os.O_CLOEXEC)
        self._token, self._previous = token, previous if busy else token
        paths = [self.beside(suffix) for suffix in ("", WAL, SHM, COMMITS)]
        self._watched = {path: _identity(path) for path in paths}
        status = self.path.stat()
        self._written = status.st_mtime_ns, status.st_size

    def check_name(self) -> os.stat_result:
        """Check that the database still has its name. Raises StateUnusable."""
        return self._same(self.path, self._key)

    def _same(self, path: Path, key: tuple[int, int]) -> os.stat_result:
        try:
            status = path.stat()
        except OSError as error:
            raise self._lost(f"{path} was removed ({error.strerror}) while it was in use") from None
        if (status.st_dev, status.st_ino) != key:
            raise self._lost(f"{path} was exchanged while it was in use")
        return status

    def check(self) -> None:
        """Check before a commit that nobody else has written, exchanged or removed the database. Raises
        StateUnusable."""
        status = self.check_name()
        if (status.st_mtime_ns, status.st_size) != self._written:
            raise self._lost(f"{self.path} was written by another program while it was in use")

    def confirm(self, count: int) -> None:
        """Note that so many commits are durable. Raises StateUnusable if one of the files is not that which
        was opened: then they are in a file that has no name any more."""
        for path, key in self._watched.items():
            status = self._same(path, key)
            if path is self.path:
                self._written = status.st_mtime_ns, status.st_size
        assert self._commits is not None
        os.pwrite(self._commits, Commits(self._token, self._previous, count).text(), 0)

    def _lost(self, reason: str) -> StateUnusable:
        return StateUnusable(
            f"{reason}: what is changed now would be lost, so every change is refused. The switches go on "
            f"forwarding. Stop this server; then put the file back, or restore a backup (netvirt restore "
            "FILE), and start it again"
        )

    def _write(self, commits: Commits) -> None:
        write_private(self.beside(COMMITS), commits.text())

    def close(self) -> None:
        """Let go of the file. May be called twice. The database has to be closed before."""
        if not self._closed:
            self._closed = True
            if self._commits is not None:
                with suppress(OSError):
                    os.fsync(self._commits)
                os.close(self._commits)
            os.close(self._lock)
            _held.discard(self._key)


_HELD = (
    "another process holds it: stop that one, or use another file with state=PATH. A running server makes a "
    "backup with: netvirt -c DRIVER+unix://SOCKET backup FILE"
)


def real_path(path: str | Path) -> Path:
    """The absolute path without symbolic links: as SQLite does, files are put beside the file itself."""
    return Path(os.path.realpath(path))


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def write_private(path: Path, content: bytes) -> None:
    """Write a file of mode 0600 completely, or leave what is there. Returns when it is durable. Raises
    OSError."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync_directory(path.parent)
    finally:
        part.unlink(missing_ok=True)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable. Raises OSError."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A path to make a database at, of mode 0600; at the end it gets the name ``path``, unless another
    process was faster. Raises OSError."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        yield part
        with suppress(FileExistsError):
            path.hardlink_to(part)
        sync_directory(path.parent)
    finally:
        for suffix in ("", WAL, SHM):
            part.with_name(part.name + suffix).unlink(missing_ok=True)
