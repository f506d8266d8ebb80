"""What becomes of state files that were damaged, cut, exchanged or removed: one clear error, and no change.

Each fault is made on real files; those that need a log with commits are made by a process that is killed.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from libnetvirt.errors import StateUnusable
from libnetvirt.model import Endpoint, VirtualNetwork
from libnetvirt.store import Batch, offline
from libnetvirt.store.sqlite import MEMORY, SqliteStore

_COUNT = 5
_WRITER = """
import os, signal, sys
from libnetvirt.model import VirtualNetwork
from libnetvirt.store import Batch
from libnetvirt.store.sqlite import SqliteStore
store = SqliteStore(sys.argv[1])
for number in range(1, 6):
    store.commit(Batch(put=[VirtualNetwork(uuid=number, name=f"n{number}")]))
os.kill(os.getpid(), signal.SIGKILL)
"""
NAMES = [f"n{number}" for number in range(1, _COUNT + 1)]
WAY_BACK = r"netvirt restore FILE"


def _network(number: int, **fields: object) -> VirtualNetwork:
    return VirtualNetwork.model_validate({"uuid": number, "name": f"n{number}", **fields})


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _names(path: Path) -> list[str]:
    with closing(SqliteStore(path)) as store:
        return [network.name for network in store.load().networks]


def _refused(path: Path, pattern: str) -> None:
    """Opening it fails with one error that names the way back, and changes no file; so does the next time."""
    before = _contents(path.parent)
    for _ in range(2):
        with pytest.raises(StateUnusable, match=pattern) as caught:
            SqliteStore(path)
        assert re.search(f"{WAY_BACK}|state=PATH", str(caught.value))
        assert "\n" not in str(caught.value)
    assert _contents(path.parent) == before


def _contents(directory: Path) -> dict[str, bytes]:
    # SQLite's shared memory holds no data, and is made for reading, too.
    return {p.name: p.read_bytes() for p in directory.iterdir() if not p.name.endswith("-shm")}


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """The file of a process that was killed after five commits, which are in its log."""
    path = tmp_path / "state.db"
    done = subprocess.run([sys.executable, "-c", _WRITER, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    return path


@pytest.fixture
def closed(killed: Path) -> Path:
    """The same file after it was opened and closed."""
    assert _names(killed) == NAMES
    assert not _beside(killed, "-wal").exists()
    return killed


def test_what_was_confirmed_survives_kill_9(killed: Path) -> None:
    assert _names(killed) == NAMES
    assert _names(killed) == NAMES


def test_a_reader_that_writes_the_log_back_after_kill_9_does_no_harm(killed: Path) -> None:
    with closing(sqlite3.connect(killed)) as db:
        assert db.execute("SELECT count(*) FROM network").fetchone() == (_COUNT,)
    assert not _beside(killed, "-wal").exists(), "the last to close it has written the log back"
    assert _names(killed) == NAMES


# -- the log: removed, cut, damaged ------------------------------------------------------------------------


def test_a_log_that_was_removed_is_noticed(killed: Path) -> None:
    _beside(killed, "-wal").unlink()
    _refused(
        killed, r"5 of 5 commits that were confirmed are missing: state\.db-wal was removed, cut or damaged"
    )


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9])
def test_a_log_that_was_cut_is_noticed(killed: Path, kept: float) -> None:
    log = _beside(killed, "-wal")
    os.truncate(log, int(log.stat().st_size * kept))
    _refused(killed, r"[1-5] of 5 commits that were confirmed are missing")


@pytest.mark.parametrize("where", [0.05, 0.5, 0.99])
def test_one_changed_byte_in_the_log_is_noticed(killed: Path, where: float) -> None:
    _flip(_beside(killed, "-wal"), where)
    _refused(killed, r"[1-5] of 5 commits that were confirmed are missing")


def test_a_log_that_was_put_back_is_used(killed: Path) -> None:
    log = _beside(killed, "-wal")
    content = log.read_bytes()
    os.truncate(log, 100)
    _refused(killed, "are missing")
    log.write_bytes(content)
    assert _names(killed) == NAMES


def test_a_commit_that_the_counter_has_not_seen_is_no_damage(killed: Path) -> None:
    """A process may be killed between a commit and its count; after a power failure, the count may be old."""
    counter = _beside(killed, "-commits")
    token, previous, count = counter.read_text().split()
    assert int(count) == _COUNT
    counter.write_text(f"{token} {previous} {2:020d}\n")
    assert _names(killed) == NAMES


def _flip(path: Path, where: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * where)] ^= 0x40
    path.write_bytes(content)


# -- the database: empty, cut, damaged, foreign ------------------------------------------------------------


def test_an_empty_file_is_refused(closed: Path, tmp_path: Path) -> None:
    os.truncate(closed, 0)
    _refused(closed, "it is empty, which no state file is")
    other = tmp_path / "other"
    other.mkdir()
    (other / "state.db").touch()
    _refused(other / "state.db", "it is empty")


def test_a_database_that_was_cut_is_refused(closed: Path) -> None:
    os.truncate(closed, closed.stat().st_size // 2)
    _refused(closed, "cannot be used")


def test_a_missing_file_is_noticed_by_its_counter(closed: Path) -> None:
    closed.unlink()
    _refused(closed, r"it is missing, but state\.db-commits is there")
    _beside(closed, "-commits").unlink()
    assert _names(closed) == []


def test_a_log_without_its_database_is_not_applied_to_a_new_one(killed: Path) -> None:
    killed.unlink()
    _beside(killed, "-commits").unlink()
    _refused(killed, r"it is missing, but state\.db-wal is there")
    other = killed.with_name("other.db")
    SqliteStore(other).close()
    other.rename(killed)
    _refused(killed, r"state\.db-wal is the log of another file|was copied while it was in use")


def _big(path: Path) -> None:
    endpoints = tuple(Endpoint(uuid=n + 1, switch=1, port=n + 1) for n in range(2000))
    with closing(SqliteStore(path)) as store:
        store.commit(Batch(put=[_network(1, endpoints=endpoints)]))


def test_damaged_pages_are_found_when_the_file_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    _big(path)
    content = path.read_bytes()
    pages = len(content) // 4096
    assert pages > 50
    for page in range(1, pages, 7):
        path.write_bytes(content[: page * 4096] + os.urandom(4096) + content[(page + 1) * 4096 :])
        _refused(path, "cannot be used: (it is damaged|database disk image is malformed)")
    path.write_bytes(content)
    assert _names(path) == ["n1"]


def test_one_changed_byte_in_a_record_is_found_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with closing(SqliteStore(path)) as store:
        store.commit(Batch(put=[_network(1, endpoints=(Endpoint(uuid=11, switch=1, port=2222),))]))
        store.commit(Batch(facts={("kind", "key"): "[3333]"}))
    for old, new in ((b"2222", b"2223"), (b'"n1"', b'"n2"'), (b"3333", b"3330")):
        content = path.read_bytes()
        assert content.count(old) == 1
        path.write_bytes(content.replace(old, new))
        with (
            closing(SqliteStore(path)) as store,
            pytest.raises(
                StateUnusable, match=r"it is damaged: the record .* was changed\. Restore a backup"
            ),
        ):
            store.load()
        path.write_bytes(path.read_bytes().replace(new, old))


def test_a_database_of_another_program_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    for application, statement in ((0x0F055112, "CREATE TABLE a (b)"), (0, "CREATE TABLE network (b)")):
        path = tmp_path / f"{application}.db"
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute(statement)
            db.execute(f"PRAGMA application_id = {application}")
            db.execute("INSERT INTO " + statement.split()[2] + " VALUES ('precious')")
            db.commit()
        path.chmod(0o644)
        _refused(path, "it is a database of another program, and was not changed")
        assert path.stat().st_mode & 0o777 == 0o644
        assert not _beside(path, "-shm").exists()


@pytest.mark.parametrize("version", [-1, 0, -(2**31)])
def test_versions_that_never_were_are_refused(closed: Path, version: int) -> None:
    with closing(sqlite3.connect(closed)) as db:
        db.execute(f"PRAGMA user_version = {version}")
    _refused(closed, f"{version} is not a state version of libnetvirt")


# -- exchanged while nobody used it ------------------------------------------------------------------------


def test_an_older_copy_that_was_put_in_place_is_noticed(closed: Path) -> None:
    old = closed.read_bytes()
    with closing(SqliteStore(closed)) as store:
        store.commit(Batch(drop=["1"]))
    new = closed.read_bytes()
    closed.write_bytes(old)
    _refused(closed, "is not the file that was used last")
    closed.write_bytes(new)
    assert _names(closed) == NAMES[1:]


def test_an_older_database_is_not_mixed_with_a_newer_log(closed: Path) -> None:
    old = closed.read_bytes()
    subprocess.run([sys.executable, "-c", _WRITER, str(closed)], check=False)
    assert _beside(closed, "-wal").stat().st_size
    closed.write_bytes(old)
    _refused(closed, "is not the file that was used last")


def test_a_copy_of_the_database_without_its_log_is_noticed(killed: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "copy.db"
    copy.parent.mkdir()
    shutil.copy(killed, copy)
    _refused(copy, r"it was copied while it was in use, or copy\.db-commits was removed")
    for suffix in ("-wal", "-commits"):
        shutil.copy(_beside(killed, suffix), _beside(copy, suffix))
    assert _names(copy) == NAMES, "all files together are a copy"


def test_closing_twice_does_not_release_what_was_opened_since(closed: Path) -> None:
    first = SqliteStore(closed)
    first.close()
    with closing(SqliteStore(closed)) as second:
        first.close()
        with pytest.raises(StateUnusable, match="another process holds it"):
            SqliteStore(closed)
        with pytest.raises(StateUnusable, match="is closed"):
            first.backup()
        second.commit(Batch(drop=["1"]))


def test_a_copy_of_a_closed_file_is_a_copy(closed: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    shutil.copy(closed, copy)
    assert _names(copy) == NAMES


# -- removed and exchanged while it is in use --------------------------------------------------------------


def _remove(path: Path) -> None:
    path.unlink()


def _exchange(path: Path) -> None:
    other = path.with_name("other")
    shutil.copy(path, other)
    other.replace(path)


def _overwrite(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:4096])


def _move(path: Path) -> None:
    path.rename(path.with_name("moved"))


@pytest.mark.parametrize("fault", [_remove, _exchange, _overwrite, _move])
def test_nothing_is_confirmed_when_the_file_is_not_the_one_that_was_opened(
    tmp_path: Path, fault: Callable[[Path], None]
) -> None:
    path = tmp_path / "state.db"
    store = SqliteStore(path)
    store.commit(Batch(put=[_network(1)]))
    fault(path)
    for _ in range(2):
        with pytest.raises(StateUnusable, match=f"while it was in use.*every change is refused.*{WAY_BACK}"):
            store.commit(Batch(put=[_network(2)]))
    with pytest.raises(StateUnusable, match=r"while it was in use|is malformed"):
        store.backup()
    store.close()


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-commits"])
@pytest.mark.parametrize("fault", [_remove, _exchange])
def test_nothing_is_confirmed_when_a_file_beside_it_is_not_the_one_that_was_opened(
    tmp_path: Path, suffix: str, fault: Callable[[Path], None]
) -> None:
    path = tmp_path / "state.db"
    store = SqliteStore(path)
    store.commit(Batch(put=[_network(1)]))
    fault(_beside(path, suffix))
    with pytest.raises(StateUnusable, match=rf"state\.db{suffix} was (removed|exchanged)"):
        store.commit(Batch(put=[_network(2)]))
    store.close()


def test_what_another_program_writes_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with closing(SqliteStore(path)) as store:
        store.commit(Batch(put=[_network(1)]))
        with closing(sqlite3.connect(path)) as db:
            db.execute("DELETE FROM network")
            db.commit()
        with pytest.raises(StateUnusable, match="another program has written it"):
            store.commit(Batch(put=[_network(2)]))


# -- other programs, copies, modes -------------------------------------------------------------------------


def test_others_can_read_and_copy_it_while_commits_go_on(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with closing(SqliteStore(path)) as store:
        store.commit(Batch(put=[_network(1)]))
        with closing(sqlite3.connect(path)) as reader:
            reader.execute("BEGIN")
            assert reader.execute("SELECT count(*) FROM network").fetchone() == (1,)
            store.commit(Batch(put=[_network(2)]))
            assert reader.execute("SELECT count(*) FROM network").fetchone() == (1,)
        copy = tmp_path / "copy.db"
        program = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).backup(sqlite3.connect(sys.argv[2]))"
        subprocess.run([sys.executable, "-c", program, str(path), str(copy)], check=True, timeout=20)
        store.commit(Batch(put=[_network(3)]))
    assert _names(path) == ["n1", "n2", "n3"]
    target = tmp_path / "restored.db"
    with pytest.raises(StateUnusable, match=r"nothing was restored: .*--incomplete"):
        offline.restore(target, copy.read_bytes())
    assert not target.exists()
    assert [n.name for n in offline.restore(target, copy.read_bytes(), incomplete=True)] == ["n1", "n2"]
    assert _names(target) == ["n1", "n2"]


def test_all_files_are_private_from_the_first_moment_on(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        path = tmp_path / "state.db"
        with closing(SqliteStore(path)) as store:
            store.commit(Batch(put=[_network(1)]))
            modes = {p.name: p.stat().st_mode & 0o777 for p in tmp_path.iterdir()}
            assert modes == dict.fromkeys(
                ("state.db", "state.db-wal", "state.db-shm", "state.db-commits"), 0o600
            )
        path.chmod(0o644)
        SqliteStore(path).close()
        assert path.stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)


# -- backup and restore ------------------------------------------------------------------------------------


def test_a_backup_is_consistent_while_commits_go_on(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = SqliteStore(path)
    stop = threading.Event()
    done: list[int] = []

    def write() -> None:
        # Each commit has a network and the fact that belongs to it.
        while not stop.is_set():
            number = len(done) + 1
            store.commit(Batch(put=[_network(number)], facts={("number", str(number)): str(number)}))
            done.append(number)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        backups = []
        for _ in range(5):
            confirmed = len(done)
            backups.append((confirmed, store.backup()))
    finally:
        stop.set()
        writer.join()
    store.close()
    assert len(done) > 5
    for confirmed, content in backups:
        copy = tmp_path / "copy.db"
        copy.write_bytes(content)
        with closing(SqliteStore(copy)) as restored:
            found = restored.load()
        assert [n.uuid for n in found.networks] == sorted((value for value in found.facts.values()), key=int)
        assert len(found.networks) >= confirmed
        for suffix in ("", "-commits"):
            _beside(copy, suffix).unlink()


def test_a_restore_replaces_damaged_files_and_keeps_them(killed: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole.db"
    for suffix in ("", "-wal", "-commits"):
        shutil.copy(_beside(killed, suffix), _beside(whole, suffix))
    content = offline.backup(whole)
    damaged = _beside(killed, "-wal").read_bytes()[:5000]
    _beside(killed, "-wal").write_bytes(damaged)
    _refused(killed, "are missing")
    for number in (1, 2):
        assert [n.name for n in offline.restore(killed, content)] == NAMES
        assert killed.with_name(f"state.db.replaced-{number}").exists()
        assert killed.stat().st_mode & 0o777 == 0o600
        assert _names(killed) == NAMES
    assert killed.with_name("state.db.replaced-1-wal").read_bytes() == damaged
    assert not list(tmp_path.glob("*.restore-*")) + list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("fault", [_remove, _overwrite, lambda path: os.truncate(path, 0)])
def test_a_restore_undoes_each_fault(closed: Path, fault: Callable[[Path], None]) -> None:
    content = offline.backup(closed)
    with closing(SqliteStore(closed)) as store:
        store.commit(Batch(drop=["1"]))
    fault(closed)
    offline.restore(closed, content)
    assert _names(closed) == NAMES


@pytest.mark.parametrize("fault", [None, _overwrite, lambda path: os.truncate(path, 0)])
def test_a_restored_backup_gets_what_it_inherits_from_the_state_that_it_replaces(
    closed: Path, fault: Callable[[Path], None] | None
) -> None:
    content = offline.backup(closed)
    with closing(SqliteStore(closed)) as store:
        store.commit(Batch(facts={("kind", "old"): "1"}))
        commits = store.commits
    if fault is not None:
        fault(closed)
    asked: list[tuple[dict[Any, str], int, dict[Any, str]]] = []

    def inherit(replaced: Any, commits: int, backup: Any) -> Any:
        asked.append((dict(replaced), commits, dict(backup)))
        return {("kind", "inherited"): "2"}

    offline.restore(closed, content, inherit=inherit)
    with closing(SqliteStore(closed)) as store:
        facts = store.load().facts
    assert facts.get(("kind", "inherited")) == (None if fault else "2")
    assert ("kind", "old") not in facts
    if fault is None:
        [(replaced, counted, backup)] = asked
        assert (replaced["kind", "old"], counted) == ("1", commits)
        assert ("kind", "old") not in backup
    else:
        assert not asked, "it cannot be read"
    assert _names(closed) == NAMES


def test_a_restore_is_refused_while_a_process_holds_the_file(closed: Path) -> None:
    content = offline.backup(closed)
    with closing(SqliteStore(closed)) as store:
        before = _contents(closed.parent)
        with pytest.raises(StateUnusable, match="another process holds it"):
            offline.restore(closed, content)
        with pytest.raises(StateUnusable, match=r"another process holds it.*backup FILE"):
            offline.backup(closed)
        assert _contents(closed.parent) == before
        store.commit(Batch(drop=["1"]))
    assert _names(closed) == NAMES[1:]


def test_a_backup_that_is_damaged_is_not_restored(closed: Path) -> None:
    content = offline.backup(closed)
    before = _contents(closed.parent)
    for spoilt in (b"", b"not a database " * 100, content[:5000], content.replace(b'"n3"', b'"n9"')):
        with pytest.raises(StateUnusable, match=r"^nothing was restored: .*the backup"):
            offline.restore(closed, spoilt)
        assert _contents(closed.parent) == before
    assert _names(closed) == NAMES


def test_there_is_no_backup_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(StateUnusable, match="there is no such file"):
        offline.backup(tmp_path / "mistyped.db")
    assert list(tmp_path.iterdir()) == []
    with closing(SqliteStore(MEMORY)) as store, pytest.raises(StateUnusable, match="in memory"):
        store.backup()


def test_a_symbolic_link_leads_to_the_same_files(closed: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(closed)
    with closing(SqliteStore(link)) as store:
        with pytest.raises(StateUnusable, match="another process holds it"):
            SqliteStore(closed)
        store.commit(Batch(drop=["1"]))
    assert _names(closed) == NAMES[1:]
    assert not _beside(link, "-commits").exists()
