"""The events for many readers: encoded once, a few readers at a time, and what a slow reader is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from libnetvirt.daemon import broadcast as module
from libnetvirt.daemon.broadcast import PIECE, WOKEN, Broadcast, Reader
from libnetvirt.daemon.stream import EventResponse
from libnetvirt.model import Event


def run(work: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 20))


def event(message: str, kind: str = "link.down") -> Event:
    return Event(time=1, kind=kind, message=message)


def messages(piece: bytes | None) -> list[str]:
    assert piece is not None
    return [json.loads(line)["message"] for line in piece.splitlines() if line]


async def read_all(reader: Reader) -> list[dict[str, Any]]:
    """What is there to read, until there is nothing more."""
    found: list[dict[str, Any]] = []
    while (piece := await reader.read()) not in (b"\n", None):
        assert piece is not None
        found += map(json.loads, piece.splitlines())
    return found


def test_an_event_is_encoded_once_for_all_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[Event] = []
    line = module._line

    def counted(event: Event, identifier: str) -> bytes:
        encoded.append(event)
        return line(event, identifier)

    monkeypatch.setattr(module, "_line", counted)

    async def work() -> None:
        events = Broadcast()
        readers = [events.reader() for _ in range(100)]
        events.publish(event("one"))
        assert [messages(await r.read()) for r in readers] == [["one"]] * 100
        assert len(encoded) == 1

    run(work)


def test_readers_are_woken_a_few_at_a_time() -> None:
    async def work() -> None:
        events = Broadcast()
        readers = [events.reader() for _ in range(4 * WOKEN)]
        found: list[int] = []

        async def read(reader: Reader) -> None:
            await reader.read()  # silence, so far
            found.append(len(messages(await reader.read())))

        tasks = [asyncio.create_task(read(reader)) for reader in readers]
        await asyncio.sleep(0)
        events.publish(event("one"))
        seen = []
        while len(found) < len(readers):
            await asyncio.sleep(0)
            seen.append(len(found))
        await asyncio.gather(*tasks)
        assert max(b - a for a, b in zip([0, *seen], seen, strict=False)) <= WOKEN
        assert found == [1] * len(readers)

    run(work)


def test_events_that_come_while_readers_are_woken_come_together_in_the_next_round() -> None:
    async def work() -> None:
        events = Broadcast()
        reader = events.reader()
        events.publish(event("0"))
        assert messages(await reader.read()) == ["0"]
        waits = asyncio.create_task(reader.read())
        await asyncio.sleep(0)
        for number in (1, 2, 3):
            events.publish(event(str(number)))
        assert messages(await waits) == ["1", "2", "3"]
        # Nothing was missed between two reads: what came meanwhile starts a round of its own.
        events.publish(event("4"))
        assert messages(await reader.read()) == ["4"]

    run(work)


def test_a_large_backlog_comes_in_pieces() -> None:
    async def work() -> None:
        events = Broadcast()
        reader = events.reader()
        long = "x" * (PIECE // 3)
        for _ in range(7):
            events.publish(event(long))
        sizes = [len(messages(await reader.read())) for _ in range(4)]
        assert sizes == [2, 2, 2, 1]

    run(work)


def test_a_slow_reader_is_told_how_many_events_it_lost_and_where_it_goes_on() -> None:
    async def work() -> None:
        told: list[Event] = []
        events = Broadcast(told.append, kept=2)
        reader = events.reader()
        for number in range(5):
            events.publish(event(str(number)))
        loss, *others = map(json.loads, (await reader.read() or b"").splitlines())
        assert (loss["kind"], loss["message"]) == (
            "events.lost",
            "3 events lost: this reader is too slow, or was away",
        )
        assert loss["fields"]["count"] == "3"
        assert [e["message"] for e in others] == ["3", "4"]
        assert [e.fields["count"] for e in told] == ["3"]
        # The identifier in "resume" is the one that the stream goes on after.
        again = events.reader(loss["fields"]["resume"])
        assert messages(await again.read()) == ["3", "4"]

    run(work)


def test_a_reader_that_comes_back_gets_what_it_missed() -> None:
    async def work() -> None:
        events = Broadcast()
        reader = events.reader()
        events.publish(event("one"))
        last = json.loads(await reader.read() or b"")["id"]
        reader.close()
        events.publish(event("two"))
        events.publish(event("three"))
        assert messages(await events.reader(last).read()) == ["two", "three"]
        for unknown in ("another-run-1", last.rpartition("-")[0] + "-99", "7", "x-²", "-1"):
            later = events.reader(unknown)
            (loss,) = map(json.loads, (await later.read() or b"").splitlines())
            assert loss["message"].startswith("an unknown number of events lost")
            events.publish(event("four"))
            assert messages(await later.read()) == ["four"]

    run(work)


def test_silence_is_broken_and_everything_ends() -> None:
    async def work() -> None:
        events = Broadcast()
        one, other = events.reader(), events.reader()
        assert [await one.read(), await other.read()] == [b"\n", b"\n"]
        beats = asyncio.create_task(events.keep_alive(0.001))
        assert [await one.read(), await other.read()] == [b"\n", b"\n"]
        one.close()
        assert await one.read() is None
        assert await other.read() == b"\n"
        waits = asyncio.create_task(other.read())
        await asyncio.sleep(0)
        events.close()
        events.close()
        assert await waits is None
        assert await events.reader().read() is None
        beats.cancel()

    run(work)


def test_the_response_ends_when_the_client_goes_and_when_the_server_stops() -> None:
    async def respond(events: Broadcast, receive: Callable[[], Awaitable[Any]]) -> list[bytes]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)
            if len(sent) == 2:  # the start and the first empty line
                events.publish(event("one"))

        await EventResponse(events.reader())({}, receive, send)
        assert sent[0]["status"] == 200
        assert b"content-length" not in dict(sent[0]["headers"])
        return [message.get("body", b"") for message in sent[1:] if message.get("body")]

    async def work() -> None:
        events = Broadcast()
        received: asyncio.Queue[Any] = asyncio.Queue()
        response = asyncio.create_task(respond(events, received.get))
        while not events._waiting:  # noqa: ASYNC110
            await asyncio.sleep(0)
        received.put_nowait({"type": "http.request"})
        received.put_nowait({"type": "http.disconnect"})
        first, second = [piece for piece in await response if b"link.down" in piece or piece == b"\n"][:2]
        assert first == b"\n"
        assert messages(second) == ["one"]
        response = asyncio.create_task(respond(events, asyncio.Queue[Any]().get))
        await asyncio.sleep(0.01)
        events.close()
        await response

    run(work)
