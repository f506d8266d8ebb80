"""The log of events: numbers that only grow, bounds, files that cannot be used, and what readers get."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import stat
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from libnetvirt import aio
from libnetvirt.daemon import event_log as module
from libnetvirt.daemon.broadcast import PIECE, UNKNOWN, Broadcast, Reader, identifier
from libnetvirt.daemon.event_file import SKIP, EventFile, Row
from libnetvirt.daemon.event_log import EventLog, log_path
from libnetvirt.model import Event
from tests.unit.daemon.test_broadcast import read_all

DAY = 86400.0


def run(work: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 20))


def event(message: str, moment: float | None = None) -> Event:
    return Event(time=time.time() if moment is None else moment, kind="link.down", message=message)


@asynccontextmanager
async def logged(
    path: Path, keep: int = 1000, memory: int = 4, age: float = DAY, *, killed: bool = False
) -> AsyncIterator[Broadcast]:
    """Events with a log, as a server has them. ``killed``: it ends as after kill -9, when all is written."""
    log = await EventLog.open(path, keep, age)
    assert log is not None
    events = Broadcast(kept=memory, log=log, recent=await log.newest(memory))
    silence = asyncio.create_task(events.keep_alive(0.005))
    yield events
    silence.cancel()
    if killed:
        await log.ask(lambda: log.file.close(None), None)
    else:
        await log.close()
        await log.close()


async def messages(reader: Reader) -> list[str]:
    return [one["message"] for one in await read_all(reader)]


def number(identity: str) -> int:
    return int(identity.rpartition("-")[2])


def test_events_are_there_after_a_restart_and_their_numbers_go_on(tmp_path: Path) -> None:
    async def work() -> None:
        path = tmp_path / "s.db-events"
        async with logged(path) as events:
            reader = events.reader()
            for n in range(10):
                events.publish(event(str(n)))
            # Six of them are no longer in memory.
            first, *others = await read_all(reader)
            assert [first["message"], *(one["message"] for one in others)] == list("0123456789")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        async with logged(path) as events:
            assert await messages(events.reader(first["id"])) == list("123456789")
            assert await messages(events.reader(others[-1]["id"])) == []
            events.publish(event("later"))
            (later,) = await read_all(events.reader(others[-1]["id"]))
            assert number(later["id"]) == number(others[-1]["id"]) + 1
            assert await messages(events.reader(others[3]["id"])) == [*"56789", "later"]
            assert events.lost == 0

    run(work)


def test_after_a_violent_end_numbers_are_not_given_again_and_readers_are_told(tmp_path: Path) -> None:
    async def work() -> None:
        path = tmp_path / "s.db-events"
        async with logged(path, killed=True) as events:
            reader = events.reader()
            events.publish(event("one"))
            (one,) = await read_all(reader)
        async with logged(path) as events:
            events.publish(event("two"))
            lost, two = await read_all(events.reader(one["id"]))
            assert (lost["kind"], lost["fields"]["count"]) == ("events.lost", UNKNOWN)
            assert number(two["id"]) > number(one["id"]) + SKIP - 1
            # Where the reader is told to go on, it is told nothing of that again.
            assert await messages(events.reader(lost["fields"]["resume"])) == ["two"]
            # An event that a reader has had, and that was not written.
            never_written = f"{one['id'].partition('-')[0]}-{number(one['id']) + 5}"
            again, *others = await read_all(events.reader(never_written))
            assert (again["kind"], [o["message"] for o in others]) == ("events.lost", ["two"])
        # An end that was a proper one does not count, however many violent ones there were before.
        async with logged(path) as events:
            assert await messages(events.reader(two["id"])) == []

    run(work)


def test_the_log_is_bounded_by_number_and_a_late_reader_is_told_how_many_it_lost(tmp_path: Path) -> None:
    async def work() -> None:
        path = tmp_path / "s.db-events"
        async with logged(path, keep=20) as events:
            reader = events.reader()
            for n in range(200):
                events.publish(event(str(n)))
                if n == 0:
                    (first,) = await read_all(reader)
                if n % 20 == 0:
                    assert events.log is not None
                    await events.log.after(0, 1)  # a batch of its own
            lost, *others = await read_all(events.reader(first["id"]))
            assert len(others) <= 40
            assert lost["fields"]["count"] == str(199 - len(others))
            assert lost["message"].startswith(f"{199 - len(others)} events lost")
            assert [one["message"] for one in others] == [str(n) for n in range(200 - len(others), 200)]
            assert events.lost == 199 - len(others)
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("SELECT count(*) FROM event").fetchone() == (len(others),)

    run(work)


def test_the_log_is_bounded_by_age(tmp_path: Path) -> None:
    async def work() -> None:
        path = tmp_path / "s.db-events"
        now = time.time()
        async with logged(path, memory=1, age=10 * DAY) as events:
            reader = events.reader()
            for age in (2 * DAY, 1.5 * DAY, 60, 30):
                events.publish(event(f"{age:g} s ago", now - age))
            (first, *_) = await read_all(reader)
        async with logged(path, memory=1) as events:
            events.publish(event("now"))
            assert events.log is not None
            await events.log.after(0, 1)  # the first batch looks for events that are too old
            lost, *others = await read_all(events.reader(first["id"]))
            assert lost["fields"]["count"] == "1"
            assert [one["message"] for one in others] == ["60 s ago", "30 s ago", "now"]

    run(work)


@pytest.mark.parametrize("kept", ["in a log", "in memory"])
def test_a_reader_can_begin_at_a_time(tmp_path: Path, kept: str) -> None:
    async def check(events: Broadcast) -> None:
        for n in range(6):
            events.publish(event(str(n), 100.0 + n))
        assert await messages(await events.reader_since(103.5)) == ["4", "5"]
        assert await messages(await events.reader_since(103.0)) == ["3", "4", "5"]
        assert await messages(await events.reader_since(200.0)) == []
        earlier = await messages(await events.reader_since(0.0))
        if kept == "in a log":
            assert earlier == list("012345")
        else:
            assert earlier[0].startswith("an unknown number of events lost")
            assert earlier[1:] == list("2345")
        later = await events.reader_since(200.0)
        await later.read()
        events.publish(event("later"))
        assert await messages(later) == ["later"]

    async def work() -> None:
        if kept == "in memory":
            events = Broadcast(kept=4)
            silence = asyncio.create_task(events.keep_alive(0.005))
            await check(events)
            silence.cancel()
            return
        async with logged(tmp_path / "s.db-events", memory=2, age=100 * 365 * DAY) as events:
            await check(events)

    run(work)


def test_a_large_part_of_the_log_comes_in_pieces_and_runs_into_what_happens_now(tmp_path: Path) -> None:
    async def work() -> None:
        async with logged(tmp_path / "s.db-events") as events:
            reader = events.reader()
            await reader.read()
            long = "x" * (PIECE // 10)
            for n in range(40):
                events.publish(event(f"{n} {long}"))
            found: list[str] = []
            more = 0
            while len(found) < 40 + more:
                piece = await reader.read()
                assert piece is not None
                assert len(piece) <= PIECE + len(long)
                found += [json.loads(line)["message"].split()[0] for line in piece.splitlines() if line]
                if more < 10:
                    events.publish(event("more"))
                    more += 1
            assert found[:40] == [str(n) for n in range(40)]
            assert set(found[40:]) == {"more"}
            assert events.lost == 0

    run(work)


def test_a_file_that_is_no_log_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    damaged, foreign, newer = (tmp_path / name for name in ("damaged", "foreign", "newer"))
    damaged.write_bytes(b"no database" * 1000)
    with closing(sqlite3.connect(foreign)) as db:
        db.executescript("CREATE TABLE a (b); INSERT INTO a VALUES (7)")
    EventFile(newer).close(0)
    with closing(sqlite3.connect(newer)) as db:
        db.execute("PRAGMA user_version = 2")

    async def work() -> None:
        for path in (damaged, foreign, newer):
            async with logged(path) as events:
                events.publish(event("one"))
                told = f"{path} is no log of events that can be read: it is now {path}.damaged, and"
                assert [text for text in caplog.messages if text.startswith(told)]
            async with logged(path) as events:
                assert await messages(await events.reader_since(0)) == ["one"]

    run(work)
    with closing(sqlite3.connect(f"{foreign}.damaged")) as db:
        assert db.execute("SELECT b FROM a").fetchone() == (7,)


def test_without_a_log_that_can_be_used_events_are_in_memory_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        async with logged(tmp_path / "one"):
            # SQLite locks it against other processes, and against us.
            assert await EventLog.open(tmp_path / "one", 10, DAY) is None
        assert await EventLog.open(tmp_path / "nowhere" / "one", 10, DAY) is None

    run(work)
    assert [m.partition(" cannot be used")[0] for m in caplog.messages] == [
        f"events are kept in memory only: {tmp_path}/{name}" for name in ("one", "nowhere/one")
    ]


def test_what_the_disk_does_not_take_is_told_once_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "libnetvirt.daemon")

    async def work() -> None:
        path = tmp_path / "s.db-events"
        async with logged(path) as events:
            log = events.log
            assert log is not None
            reader = events.reader()
            events.publish(event("before"))
            (before,) = await read_all(reader)
            # As if the disk was full: SQLite reports the same error.
            await log.ask(lambda: log.file._db.execute("PRAGMA max_page_count = 1").fetchall(), [])
            for n in range(20):
                events.publish(event(f"{n} {'x' * 5000}"))
                await log.after(0, 1)
            assert log.failed == 20
            await log.ask(lambda: log.file._db.execute("PRAGMA max_page_count = 100000").fetchall(), [])
            events.publish(event("after"))
            # Four of the lost ones are in memory: three, and the last one that was published.
            found = await read_all(events.reader(before["id"]))
            assert [f"{one['kind']} {one['message'][:8]}" for one in found] == [
                "events.lost 20 event", "link.down after",
            ]  # fmt: skip
        assert caplog.messages == [f"events are not written to {path}: database or disk is full"]
        # Nobody can know any more what was given to readers.
        async with logged(path) as events:
            lost, *_ = await read_all(events.reader(found[-1]["id"]))
            assert lost["fields"]["count"] == UNKNOWN

    run(work)


def test_a_disk_that_hangs_delays_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING", 100)

    async def work() -> None:
        async with logged(tmp_path / "s.db-events") as events:
            log = events.log
            assert log is not None
            gate, write = threading.Event(), log.file.write

            def slowly(rows: list[Row]) -> None:
                gate.wait(30)
                write(rows)

            monkeypatch.setattr(log.file, "write", slowly)
            reader = events.reader()
            for n in range(300):
                events.publish(event(str(n)))
                if n == 50:
                    log._write()
            assert log.failed == 200
            # What is in memory comes at once; the file is asked for the rest.
            assert await messages(events.reader(f"{log.id}-296")) == ["296", "297", "298", "299"]
            asked = asyncio.ensure_future(read_all(reader))
            await asyncio.sleep(0.01)
            assert not asked.done()
            gate.set()
            found = await asked
            assert [one["message"] for one in found[:100]] == [str(n) for n in range(100)]
            assert found[100]["fields"]["count"] == "196"
            assert [one["message"] for one in found[101:]] == ["296", "297", "298", "299"]

    run(work)


def test_the_identifier_of_a_line_is_found_whatever_its_texts_are() -> None:
    tricky = Event(
        time=1, kind="k", message='"id":"no"', fields={"id": '"id":"x"'}, id="abc-7", operation='"id":"o"'
    )
    assert identifier(tricky.model_dump_json(by_alias=True).encode()) == b"abc-7"


def test_where_the_log_of_a_connection_is() -> None:
    assert log_path("/var/s.db", "/logs", "a") == Path("/var/s.db-events")
    assert log_path("", "/logs", "a") == Path("/logs/a-events")
    assert log_path("", None, "a") is None
    assert log_path("", "/logs", "") is None


def test_drivers_tell_where_their_state_is(tmp_path: Path) -> None:
    async def work() -> None:
        path = str(tmp_path / "state.db")
        for uri, expected in (
            ("test:///default", ""),
            (f"test:///default?state={path}", path),
            ("openflow:///?listen=127.0.0.1:0&state=:memory:", ""),
            (f"openflow:///?listen=127.0.0.1:0&state={path}-2", f"{path}-2"),
        ):
            async with await aio.open(uri) as connection:
                assert connection.driver.state_file == expected

    run(work)
