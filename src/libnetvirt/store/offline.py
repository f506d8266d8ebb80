"""Backup and restore of a state file that no process holds."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from libnetvirt.errors import StateUnusable
from libnetvirt.model import VirtualNetwork
from libnetvirt.store import Key, Snapshot
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
) -> Sequence[VirtualNetwork]:
    """Replace a state file by a backup, which may be of an older version; returns its networks. The old files
    are kept beside it, as ``PATH.replaced-N``.

    ``incomplete``: accept a copy of a file that was in use, which may lack the last commits. Blocks. Raises
    StateUnusable if a process holds the file, or if the backup is damaged: then nothing was changed.
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
                snapshot = _read(new, upgrade, check, incomplete)
                _exchange(path, new)
        finally:
            if held is not None:
                held.close()
    except OSError as error:
        raise unusable(path, error) from error
    return snapshot.networks


def _read(new: Path, upgrade: Upgrade | None, check: Check | None, incomplete: bool) -> Snapshot:
    """Examine a backup as any state file, and convert it if it is of an older version."""
    try:
        with closing(SqliteStore(new, upgrade, create=False, incomplete=incomplete)) as store:
            snapshot = store.load()
            if check is not None:
                check(snapshot.facts)
            return snapshot
    except StateUnusable as error:
        text = str(error).replace(way_back(new), "Use another backup").replace(str(new), "the backup")
        raise StateUnusable(f"nothing was restored: {text}") from None


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
