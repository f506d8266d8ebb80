"""The store: transactional, locked by one owner, and read only by versions that know its format."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from libnetvirt.errors import StateUnusable
from libnetvirt.model import Endpoint, VirtualNetwork
from libnetvirt.store import Batch
from libnetvirt.store.sqlite import MEMORY, SqliteStore, default_path

BLUE = VirtualNetwork(
    uuid=7,
    name="blue",
    forwarding="L3",
    endpoints=(
        Endpoint(
            uuid=11,
            switch=1,
            port=1,
            vlan=20,
            address=("10.0.1.254/24", "fd00::fe/64"),
            route={"prefix": "10.9.0.0/16", "via": "10.0.1.7"},
            mac="02:00:00:00:00:01",
            bandwidth={"inbound": "5 Mbit/s"},
        ),
        Endpoint(uuid=12, switch=2, port=1, address="10.0.2.254/24"),
    ),
    constraints=({"source": 11, "destination": 12, "min_bandwidth": "1 Mbit/s", "max_hops": 3},),
    rules={"encapsulation": "native", "insertion": "on-demand", "timeout": "idle", "duration": "60 s"},
)
RED = VirtualNetwork(uuid=8, name="red")


def test_an_empty_batch_is_false() -> None:
    assert not Batch()
    assert Batch(drop=["7"])


def test_a_second_connection_is_refused_while_the_first_is_open(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = SqliteStore(path)
    with pytest.raises(StateUnusable, match="another process holds it"):
        SqliteStore(path)
    store.close()
    SqliteStore(path).close()


def test_a_second_process_is_refused_and_a_killed_one_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    program = (
        "import sys; from libnetvirt.store import Batch; from libnetvirt.store.sqlite import SqliteStore;"
        "from libnetvirt.model import VirtualNetwork; s = SqliteStore(sys.argv[1]);"
        "s.commit(Batch(put=[VirtualNetwork(uuid=7, name='blue')]));"
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(StateUnusable, match="another process holds it"):
            SqliteStore(path)
        other.kill()
    store = SqliteStore(path)
    assert [n.name for n in store.load().networks] == ["blue"], "what was confirmed survives kill -9"
    store.close()


def test_a_newer_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StateUnusable, match="newer version"):
        SqliteStore(path)
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA user_version").fetchone() == (99,)
    assert db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    db.close()


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_text("not a database " * 100)
    with pytest.raises(StateUnusable, match="not a database"):
        SqliteStore(path)
    assert path.read_text().startswith("not a database")
    with pytest.raises(StateUnusable):
        SqliteStore(tmp_path)
    with pytest.raises(StateUnusable):
        SqliteStore(path / "below")


@pytest.mark.parametrize("document", ["not json", '{"uuid": "7", "name": "x", "forwarding": 5}'])
def test_a_spoilt_document_is_reported_as_unusable_state(tmp_path: Path, document: str) -> None:
    path = tmp_path / "state.db"
    store = SqliteStore(path)
    store.commit(Batch(put=[RED]))
    store.close()
    db = sqlite3.connect(path)
    db.execute("UPDATE network SET document = ?", (document,))
    db.commit()
    db.close()
    store = SqliteStore(path)
    with pytest.raises(StateUnusable, match="state"):
        store.load()
    store.close()


def test_a_closed_store_says_so() -> None:
    store = SqliteStore(MEMORY)
    store.close()
    with pytest.raises(StateUnusable):
        store.commit(Batch(put=[RED]))


def test_the_default_path_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert default_path("openflow") == Path("/var/lib/libnetvirt/openflow.db")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_path("test") == tmp_path / "libnetvirt" / "test.db"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_path("test") == tmp_path / ".local" / "state" / "libnetvirt" / "test.db"


def test_a_commit_is_synced_to_the_disk_before_it_is_confirmed(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "state.db")
    store.commit(Batch(put=[RED]))
    assert store._db is not None
    # SQLite: "FULL (2)" syncs the write-ahead log after each transaction.
    assert store._db.execute("PRAGMA synchronous").fetchone() == (2,)
    assert store._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    store.close()
