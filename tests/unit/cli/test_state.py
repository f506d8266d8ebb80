"""``netvirt backup`` and ``netvirt restore``, and a server whose state file is removed."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.command_line import Commands, Serve


def test_a_server_makes_a_backup_and_a_restore_needs_it_stopped(
    serve: Serve, netvirt: Commands, directory: Path
) -> None:
    direct = f"test:///default?state={directory}/state.db"
    server = serve(direct)
    netvirt.uri = server.uri
    netvirt.ok("create", "blue.xml")
    assert netvirt.ok("backup", "one.db") == "backup written to one.db\n"
    assert (directory / "one.db").stat().st_mode & 0o777 == 0o600
    netvirt.ok("create", "red.yaml")
    before = (directory / "one.db").read_bytes()
    assert "one.db exists" in netvirt.fails(3, "backup", "one.db")
    assert (directory / "one.db").read_bytes() == before
    said = netvirt.fails(3, "restore", "one.db")
    assert "stop it" in said
    assert "test:///?state=PATH" in said
    assert "another process holds it" in netvirt.fails(8, "-c", direct, "restore", "one.db")
    assert "another process holds it" in netvirt.fails(8, "-c", direct, "backup", "two.db")
    assert not (directory / "two.db").exists()
    netvirt.ok("list")
    assert server.stop(signal.SIGKILL) == -signal.SIGKILL
    assert netvirt.ok("-c", direct, "restore", "one.db") == "restored 1 network: blue\n"
    again = serve(direct)
    assert again.ready
    assert "red" not in netvirt.ok("list")
    assert "blue" in netvirt.ok("list")
    again.stop()
    replaced = f"test:///default?state={directory}/state.db.replaced-1"
    assert "red" in netvirt.ok("-c", replaced, "list"), "what was replaced is kept, with its log"


@pytest.mark.parametrize("driver", ["test:///default?", "openflow:///?listen=192.0.2.1:9&"])
def test_backup_and_restore_without_a_server_start_no_driver(
    netvirt: Commands, directory: Path, driver: str
) -> None:
    """The openflow driver could not listen at that address."""
    source, target = f"{driver}state={directory}/source.db", f"{driver}state={directory}/target.db"
    assert "there is no such file" in netvirt.fails(8, "-c", source, "backup", "copy.db")
    netvirt.ok("-c", f"test:///default?state={directory}/source.db", "create", "blue.xml")
    netvirt.ok("-c", source, "backup", "copy.db")
    assert netvirt.ok("-c", target, "restore", "copy.db") == "restored 1 network: blue\n"
    assert "blue" in netvirt.ok("-c", f"test:///default?state={directory}/target.db", "list")


def test_drivers_and_connections_without_a_file_refuse(
    serve: Serve, netvirt: Commands, directory: Path
) -> None:
    (directory / "copy.db").touch()
    for uri in ("test:///default", "openflow:///?state=:memory:", "ovn:///?nb=unix:/nowhere"):
        netvirt.fails(6, "-c", uri, "backup", "new.db")
        netvirt.fails(6, "-c", uri, "restore", "copy.db")
    netvirt.uri = serve().uri
    assert "open it with state=PATH" in netvirt.fails(6, "backup", "new.db")
    assert not (directory / "new.db").exists()
    uri = f"test:///default?state={directory}/state.db"
    assert "cannot be read" in netvirt.fails(3, "-c", uri, "restore", "nothing.db")
    assert "nothing was restored" in netvirt.fails(8, "-c", uri, "restore", "copy.db")
    assert "restore" in netvirt.ok("restore", "--help")


def test_a_fact_out_of_range_is_not_restored_by_openflow(netvirt: Commands, directory: Path) -> None:
    uri = f"openflow:///?state={directory}/state.db"
    netvirt.ok("-c", f"test:///default?state={directory}/state.db", "create", "blue.xml")
    netvirt.ok("-c", uri, "backup", "copy.db")
    with closing(sqlite3.connect(directory / "copy.db")) as db:
        # The sum is that of the row.
        db.execute("INSERT INTO fact VALUES ('last-index', '[]', '[-5]', 3061277333)")
        db.commit()
    said = netvirt.fails(8, "-c", uri, "restore", "copy.db")
    assert "the stored fact last-index [] = [-5] is not valid" in said


def test_a_server_whose_file_is_removed_confirms_nothing(
    serve: Serve, netvirt: Commands, directory: Path
) -> None:
    uri = f"test:///default?state={directory}/state.db"
    server = serve(uri)
    netvirt.uri = server.uri
    netvirt.ok("create", "blue.xml")
    netvirt.ok("backup", "copy.db")
    (directory / "state.db").unlink()
    said = netvirt.fails(8, "create", "red.yaml")
    assert "state.db was removed" in said
    assert "netvirt restore FILE" in said
    assert "red" not in netvirt.ok("list")
    server.stop()
    assert "it is missing, but state.db-commits is there" in netvirt.fails(8, "-c", uri, "list")
    netvirt.ok("-c", uri, "restore", "copy.db")
    assert "blue" in netvirt.ok("-c", uri, "list")
