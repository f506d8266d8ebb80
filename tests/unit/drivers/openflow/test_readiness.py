"""Whether a session is ready: its switches, and a state file on a disk that is full for a while."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from libnetvirt.drivers.openflow.execution.persistence import Persistence
from libnetvirt.drivers.openflow.opened import OpenedDriver
from libnetvirt.errors import StateUnusable
from libnetvirt.store import Batch
from libnetvirt.store.sqlite import SqliteStore
from libnetvirt.uri import URI


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 400 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def _fill(disk: Path) -> Path:
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return ballast


def _uri(state: Path) -> URI:
    return URI.parse(f"openflow:///?listen=127.0.0.1:0&state={state}")


@pytest.mark.root
def test_a_full_disk_is_noticed_before_a_commit_fails(small_disk: Path) -> None:
    store = SqliteStore(small_disk / "state.db")
    try:
        store.check()
        ballast = _fill(small_disk)
        with pytest.raises(StateUnusable, match="No space left"):
            store.check()
        ballast.unlink()
        store.check()
    finally:
        store.close()


async def _write_on(persistence: Persistence) -> None:
    """Commit again and again: what the log of the database has left is used first."""
    for _ in range(1000):
        await persistence._write(Batch(facts={("filler", str(n)): "x" * 500 for n in range(100)}))


@pytest.mark.root
def test_a_session_gets_ready_again_when_its_disk_has_space_again(small_disk: Path) -> None:
    async def main() -> None:
        driver = await OpenedDriver.open(_uri(small_disk / "state.db"))
        try:
            persistence = driver.runtime.persistence
            assert await driver.readiness() == []
            ballast = _fill(small_disk)
            with pytest.raises(StateUnusable):
                await _write_on(persistence)
            (reason,) = await driver.readiness()
            assert "state.db" in reason
            ballast.unlink()
            assert await driver.readiness() == []
            await persistence._write(Batch())
        finally:
            await driver.close()

    asyncio.run(main())


def test_after_a_commit_that_failed_a_session_is_ready_when_the_next_one_succeeds(tmp_path: Path) -> None:
    async def main() -> None:
        state = tmp_path / "state.db"
        driver = await OpenedDriver.open(_uri(state))
        try:
            with closing(sqlite3.connect(state)) as other:
                # Nothing of the file shows that it is locked.
                other.execute("BEGIN IMMEDIATE")
                with pytest.raises(StateUnusable):
                    await driver.runtime.persistence._write(Batch())
                (reason,) = await driver.readiness()
                assert "another process holds it" in reason
                other.rollback()
            assert await driver.readiness() == []
        finally:
            await driver.close()

    asyncio.run(main())


def test_a_removed_state_file_and_a_closed_session_are_told(tmp_path: Path) -> None:
    async def main() -> None:
        state = tmp_path / "state.db"
        driver = await OpenedDriver.open(_uri(state))
        try:
            state.rename(tmp_path / "aside.db")
            (reason,) = await driver.readiness()
            assert "was removed" in reason
            (tmp_path / "aside.db").rename(state)
            assert await driver.readiness() == []
        finally:
            await driver.close()
        assert await driver.readiness() == ("the connection is closed",)

    asyncio.run(main())
