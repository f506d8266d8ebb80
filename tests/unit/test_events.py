"""Event streams: independent readers, a bounded backlog, and no blocking."""

from __future__ import annotations

import asyncio
import gc
import threading
import time

from libnetvirt.events import EventStream
from libnetvirt.model import Event


def event(number: int) -> Event:
    return Event(time=float(number), kind="test", message=str(number))


def test_each_reader_gets_the_events_since_it_came() -> None:
    async def story() -> tuple[list[str], list[str]]:
        stream = EventStream()
        first = stream.subscribe()
        stream.publish(event(1))
        second = stream.subscribe()
        stream.publish(event(2))
        stream.close()
        stream.close()
        stream.publish(event(3))
        return [e.message async for e in first], [e.message async for e in second]

    assert asyncio.run(story()) == (["1", "2"], ["2"])


def test_a_reported_event_has_its_time_places_and_other_fields() -> None:
    async def story() -> Event:
        stream = EventStream()
        reader = stream.subscribe()
        stream.report("host.learned", "learned", network="1", switch="2", mac="02::1")
        return await anext(reader)

    before = time.time()
    found = asyncio.run(story())
    assert before <= found.time <= time.time()
    assert (found.kind, found.message, found.network, found.endpoint) == ("host.learned", "learned", "1", "")
    assert (found.switch, found.port, found.fields) == ("2", "", {"mac": "02::1"})


def test_a_slow_reader_loses_the_oldest_and_is_told_how_many() -> None:
    async def story() -> tuple[list[str], int]:
        stream = EventStream(limit=3)
        reader = stream.subscribe()
        for number in range(5):
            stream.publish(event(number))
        stream.close()
        return [e.message async for e in reader], reader.lost

    told = "2 events lost: this reader is too slow"
    assert asyncio.run(story()) == ([told, "2", "3", "4"], 2)


def test_each_loss_is_told_once_before_the_events_that_were_kept() -> None:
    async def story() -> list[tuple[str, str]]:
        stream = EventStream(limit=1)
        reader = stream.subscribe()
        found: list[Event] = []
        for numbers in ((1, 2), (3,), (4, 5, 6)):
            for number in numbers:
                stream.publish(event(number))
            while not found or found[-1].message != str(numbers[-1]):
                found.append(await anext(reader))
        return [(e.kind, e.fields.get("count", e.message)) for e in found]

    assert asyncio.run(story()) == [
        ("events.lost", "1"), ("test", "2"), ("test", "3"), ("events.lost", "2"), ("test", "6"),
    ]  # fmt: skip


def test_a_waiting_reader_is_woken_from_another_thread() -> None:
    async def story() -> str:
        stream = EventStream()
        reader = stream.subscribe()
        waiting = asyncio.ensure_future(anext(reader))
        await asyncio.sleep(0)
        threading.Thread(target=stream.publish, args=(event(1),)).start()
        return (await waiting).message

    assert asyncio.run(story()) == "1"


def test_a_cancelled_reader_loses_nothing() -> None:
    async def story() -> str:
        stream = EventStream()
        reader = stream.subscribe()
        waiting = asyncio.ensure_future(anext(reader))
        await asyncio.sleep(0)
        stream.publish(event(1))
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        return (await anext(reader)).message

    assert asyncio.run(story()) == "1"


def test_closing_ends_a_waiting_reader_and_new_ones() -> None:
    async def story() -> list[object]:
        stream = EventStream()
        waiting = asyncio.ensure_future(anext(stream.subscribe(), None))
        await asyncio.sleep(0)
        stream.close()
        return [await waiting, await anext(stream.subscribe(), None)]

    assert asyncio.run(story()) == [None, None]


def test_a_reader_that_leaves_gets_nothing_more() -> None:
    async def story() -> object:
        stream = EventStream()
        reader = stream.subscribe()
        stream.publish(event(1))
        await reader.aclose()
        stream.publish(event(2))
        return await anext(reader, None)

    assert asyncio.run(story()) is None


def test_a_forgotten_reader_costs_nothing() -> None:
    stream = EventStream()
    stream.subscribe()
    gc.collect()
    assert len(stream._readers) == 0
    stream.publish(event(1))


def test_a_reader_whose_loop_is_gone_does_not_disturb_the_publisher() -> None:
    stream = EventStream()
    reader = stream.subscribe()

    async def give_up() -> None:
        waiting = asyncio.ensure_future(anext(reader))
        await asyncio.sleep(0)
        waiting.cancel()

    asyncio.run(give_up())
    stream.publish(event(1))

    async def read() -> str:
        return (await anext(reader)).message

    assert asyncio.run(read()) == "1"
