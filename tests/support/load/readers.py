"""Many readers of a netvirtd's events in one process: ``python -m tests.support.load.readers``.

Each has to get every event once and in order, or an ``events.lost`` in the place of those that are missing:
events are numbered. Some are slow: they read little, and seldom. The standard input has :class:`Order` as a
line of JSON; when all read, a line is printed. The next line of the input has the number of the last event:
when all have got as far, slow ones too, :class:`Read` is printed.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Final

_REQUEST: Final = b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n"
#: precedes the identifier of an event; nothing else in a line is like it
_ID: Final = b'"id":"'
_LOST: Final = b'"kind":"events.lost"'
#: how much a slow reader reads, and how often (seconds)
_SIP: Final = 2048
_PAUSE: Final = 0.25
#: seconds in which all have to get as far as the last event
_CATCH_UP: Final = 300.0
#: One piece in so many is looked at line by line.
_SAMPLE: Final = 32


@dataclass
class Order:
    """What a process does. ``record``: its only reader notes what networks became."""

    socket: str
    readers: int
    slow: int = 0
    record: bool = False


@dataclass
class Read:
    """What readers got. ``late``: seconds from some of the events until they were read, of readers that are
    not slow. ``happened``: how often ``created|changed|removed UUID``."""

    first: list[int] = field(default_factory=list)
    received: int = 0
    lost: int = 0
    lossy: int = 0
    late: list[float] = field(default_factory=list)
    happened: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


class Reader:
    """One reader. ``last``: the number of the last event that it has, 0 at first."""

    def __init__(self, read: Read, *, slow: bool, record: bool) -> None:
        self.read, self.slow, self.record = read, slow, record
        self.first = self.last = self.received = self.lost = 0
        self.happened: Counter[str] = Counter()
        self._pieces = 0
        self._left = b""

    async def run(self, socket: str, begun: asyncio.Semaphore, hurry: asyncio.Event) -> None:
        """Read until cancelled."""
        reader, writer = await asyncio.open_unix_connection(socket, limit=4096 if self.slow else 2**18)
        try:
            writer.write(_REQUEST)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 "), head
            begun.release()
            while data := await reader.read(2**18 if hurry.is_set() or not self.slow else _SIP):
                self.take(data)
                if self.slow and not hurry.is_set():
                    await asyncio.sleep(_PAUSE)
            self.fault("the stream ended")
        finally:
            writer.close()

    def take(self, data: bytes) -> None:
        """Check what has come. Chunks (RFC 9112, section 7.1) have whole lines, and lines of their own."""
        data = self._left + data
        end = data.rfind(b"\n") + 1
        data, self._left = data[:end], data[end:]
        count = data.count(_ID)
        if not count:
            return
        self._pieces += 1
        if self.record or self._pieces % _SAMPLE == 1 or _LOST in data:
            for line in data.splitlines():
                if line.startswith(b"{"):
                    self._line(line)
        else:
            self._following(_number(data, data.find(_ID)), _number(data, data.rfind(_ID)), count)

    def _line(self, line: bytes) -> None:
        event = json.loads(line)
        number = int(event["id"].rpartition("-")[2])
        if event["kind"] == "events.lost":
            told = event["fields"]["count"]
            if self.last and told != str(number - self.last):
                self.fault(f"{told} events are lost, and {number - self.last} are missing")
            self.lost += number - self.last if self.last else 0
            self.last = number
            return
        self._following(number, number, 1)
        if not self.slow:
            self.read.late.append(round(time.time() - event["time"], 3))
        part, _, what = event["kind"].partition(".")
        if self.record and part == "network":
            self.happened[f"{what} {event['network']}"] += 1

    def _following(self, first: int, last: int, count: int) -> None:
        self.first = self.first or first
        if (self.last and first != self.last + 1) or last - first + 1 != count:
            self.fault(f"{count} events from {first} to {last} follow {self.last}")
        self.last = last
        self.received += count

    def fault(self, text: str) -> None:
        if len(self.read.faults) < 5:
            self.read.faults.append(f"reader: {text}")


def _number(data: bytes, place: int) -> int:
    begin = place + len(_ID)
    return int(data[begin : data.index(b'"', begin)].rpartition(b"-")[2])


async def work(order: Order) -> Read:
    """Have all readers read. What they got."""
    read, begun, hurry = Read(), asyncio.Semaphore(0), asyncio.Event()
    readers = [Reader(read, slow=n < order.slow, record=order.record) for n in range(order.readers)]
    tasks = [asyncio.create_task(one.run(order.socket, begun, hurry)) for one in readers]
    for _ in readers:
        await asyncio.wait_for(begun.acquire(), 120)
    print("ready", flush=True)
    final = int(await asyncio.to_thread(sys.stdin.readline))
    hurry.set()
    deadline = time.monotonic() + _CATCH_UP
    while min(one.last for one in readers) < final and time.monotonic() < deadline and not read.faults:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    for one, task in zip(readers, tasks, strict=True):
        if task.done() and (error := task.exception()) is not None:
            one.fault(f"{type(error).__name__}: {error}")
        if one.last < final:
            one.fault(f"has got as far as event {one.last} of {final}")
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    read.first = sorted({one.first for one in readers})
    read.received = sum(one.received for one in readers)
    read.lost = sum(one.lost for one in readers)
    read.lossy = sum(one.lost > 0 for one in readers)
    for one in readers:
        read.happened |= one.happened
    return read


if __name__ == "__main__":
    print(json.dumps(asdict(asyncio.run(work(Order(**json.loads(sys.stdin.readline())))))), flush=True)
