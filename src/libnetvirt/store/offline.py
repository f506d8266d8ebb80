"""Backup and restore of a state file that no process holds."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from libnetvirt.errors import StateUnusable
from libnetvirt.model import VirtualNetwork
from libnetvirt.store import Batch, Key, Snapshot
from libnetvirt.store.sqlite import SqliteStore, Upgrade
from libnetvirt.store.state_file import (
    COMMITS,
    SHM,
    WAL,
    StateFile,
    real_path,
    sync_directory,
    unusable,
    way_back,
    write_private,
)

#: raises StateUnusable for facts that are not valid
Check = Callable[[Mapping[Key, str]], object]
#: from the facts of a state that is replaced, its number of commits, and the facts of the backup: those to
#: put into the backup
Inherit = Callable[[Mapping[Key, str], int, Mapping[Key, str]], Mapping[Key, str]]


def backup(path: str | Path, upgrade: Upgrade | None = None) -> bytes:
    """A copy of a state file, as the content of a file. Blocks. Raises StateUnusable if a process holds it,
    if it is damaged, or if there is none."""
    with closing(SqliteStore(path, upgrade, create=False)) as store:
        store.load()
        return store.backup()


def restore(
    path: str | Path,
    content: bytes,
    upgrade: Upgrade | None = None,
    check: Check | None = None,
    incomplete: bool = False,
    inherit: Inherit | None = None,
) -> Sequence[VirtualNetwork]:
    """Replace a state file by a backup, which may be of an older version; returns its networks. The old files
    are kept beside it, as ``PATH.replaced-N``.

    ``incomplete``: accept a copy of a file that was in use, which may lack the last commits. ``inherit``:
    what the backup gets from the file that it replaces, if that can be read. Blocks. Raises StateUnusable if
    a process holds the file, or if the backup is damaged: then nothing was changed.
    """
    path = real_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held = StateFile(path) if path.exists() else None
        try:
            # Beside it: a file can be renamed within one file system only.
            with tempfile.TemporaryDirectory(prefix=f"{path.name}.restore-", dir=path.parent) as directory:
                new = Path(directory) / "backup"
                write_private(new, content)
                snapshot, _ = _read(new, upgrade, check, incomplete)
                replaced = _replaced(path) if held is not None and inherit is not None else None
                if replaced is not None and inherit is not None:
                    with closing(SqliteStore(new, create=False)) as store:
                        store.commit(Batch(facts=dict(inherit(*replaced, snapshot.facts))))
                _exchange(path, new)
        finally:
            if held is not None:
                held.close()
    except OSError as error:
        raise unusable(path, error) from error
    return snapshot.networks


def preview(
    path: str | Path,
    content: bytes,
    upgrade: Upgrade | None = None,
    check: Check | None = None,
    incomplete: bool = False,
) -> tuple[Sequence[VirtualNetwork] | None, Sequence[VirtualNetwork]]:
    """The networks in a state file (None: it cannot be read), and those that :func:`restore` would put in
    their place. Blocks, and changes nothing. Raises what :func:`restore` raises."""
    path = real_path(path)
    snapshot, _ = examined(content, upgrade, check, incomplete)
    if not path.exists():
        return (), snapshot.networks
    try:
        held = StateFile(path)
        try:
            with tempfile.TemporaryDirectory(prefix="netvirt-restore-") as directory:
                # A copy: to open a state file may upgrade it, and write its log into it.
                for suffix in ("", WAL, COMMITS):
                    file = path.with_name(path.name + suffix)
                    if file.exists():
                        write_private(Path(directory) / file.name, file.read_bytes())
                return _networks(Path(directory) / path.name, upgrade), snapshot.networks
        finally:
            held.close()
    except OSError as error:
        raise unusable(path, error) from error


def _networks(path: Path, upgrade: Upgrade | None) -> Sequence[VirtualNetwork] | None:
    try:
        with closing(SqliteStore(path, upgrade, create=False)) as store:
            return store.load().networks
    except StateUnusable:
        return None


def examined(
    content: bytes, upgrade: Upgrade | None, check: Check | None, incomplete: bool
) -> tuple[Snapshot, int]:
    """What is in a backup, and how many commits it has confirmed. Blocks. Raises StateUnusable."""
    with tempfile.TemporaryDirectory(prefix="netvirt-restore-") as directory:
        new = Path(directory) / "backup"
        write_private(new, content)
        return _read(new, upgrade, check, incomplete)


def _read(new: Path, upgrade: Upgrade | None, check: Check | None, incomplete: bool) -> tuple[Snapshot, int]:
    """Examine a backup as any state file, and convert it if it is of an older version."""
    try:
        with closing(SqliteStore(new, upgrade, create=False, incomplete=incomplete)) as store:
            snapshot = store.load()
            if check is not None:
                check(snapshot.facts)
            return snapshot, store.commits
    except StateUnusable as error:
        text = str(error).replace(way_back(new), "Use another backup").replace(str(new), "the backup")
        raise StateUnusable(f"nothing was restored: {text}") from None


def _replaced(path: Path) -> tuple[Mapping[Key, str], int] | None:
    """The facts and the number of commits of a file that is to be replaced, which this process holds; None if
    they cannot be read, for it may be damaged."""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as db:
            (commits,) = db.execute("SELECT commits FROM state").fetchone()
            return {(k, n): value for k, n, value in db.execute("SELECT kind, key, value FROM fact")}, commits
    except (sqlite3.Error, TypeError):
        return None


def _exchange(path: Path, new: Path) -> None:
    """Replace a state file, and keep the old one. If the process is killed meanwhile, the old file is refused
    until a restore is complete."""
    number = 1
    while (old := path.with_name(f"{path.name}.replaced-{number}")).exists():
        number += 1
    # The log of the old file first: SQLite would apply it to the new one.
    for suffix in (WAL, COMMITS):
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            beside.rename(old.with_name(old.name + suffix))
    path.with_name(path.name + SHM).unlink(missing_ok=True)
    if path.exists():
        old.hardlink_to(path)
    sync_directory(path.parent)
    new.replace(path)
    sync_directory(path.parent)
