"""Things that go on while a test changes the network: a numbered stream of frames, a reader of events."""

from __future__ import annotations

import threading
import time
from collections import Counter
from types import TracebackType
from typing import Self

from libnetvirt import Connection, Event, NetvirtError
from libnetvirt.conformance.harness import Place
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.testbed import Bench, Guest

RATE = 250
#: how many frames go before a change, and behind it, at least
FEW = 10


class Stream:
    """Unicast frames with consecutive numbers from one guest to another, who know each other.

    Between ``__enter__`` and ``__exit__`` a thread sends ``rate`` frames a second. Afterwards ``sent`` is
    how many, ``lost`` the numbers that did not arrive, ``repeated`` those that did more than once, and
    ``strays`` the places where they arrived but should not have. The test must not receive meanwhile.
    """

    def __init__(
        self, bench: Bench, source: Guest, destination: Guest, *moved: Guest, rate: int = RATE
    ) -> None:
        """``moved``: the destination where it will have moved to; a frame may arrive at either."""
        self._bench = bench
        self._source, self._destination = source, destination
        self._destinations = (destination, *moved)
        self._interval = 1 / rate
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send, name="stream", daemon=True)
        self._text = b"stream %d " % id(self)
        self.sent = 0
        self.lost: list[int] = []
        self.repeated: list[int] = []
        self.strays: list[Place] = []

    def __enter__(self) -> Self:
        self._bench.drain()
        self._thread.start()
        self._await_sent()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._await_sent()
        self._over.set()
        self._thread.join()
        if error is None:
            self._evaluate()

    @property
    def gap(self) -> float:
        """The longest run of lost frames, in seconds of the stream."""
        longest = run = 0
        previous = -2
        for number in self.lost:
            run = run + 1 if number == previous + 1 else 1
            longest, previous = max(longest, run), number
        return longest * self._interval

    def sends(self, number: int) -> bytes:
        """The frame with this number as it is sent, without a tag."""
        source, destination = self._source, self._destination
        return frames.marked(source.mac, destination.mac, self._text + b"%d" % number)

    def arrives(self, number: int) -> bytes:
        """The same as it has to arrive."""
        return self.sends(number)

    def _await_sent(self) -> None:
        """Let it send ten frames more, which may take a busy machine longer than it should."""
        wanted = self.sent + FEW
        self._bench.eventually(lambda: self.sent < wanted, f"{FEW} frames are sent")

    def _send(self) -> None:
        due = time.monotonic()
        while not self._over.is_set():
            self._bench.harness.send(self._source.place, [self._source.wrapped(self.sends(self.sent))])
            self.sent += 1
            due += self._interval
            time.sleep(max(0.0, due - time.monotonic()))

    def _evaluate(self) -> None:
        numbers = {d.arrival(self.arrives(n)): n for d in self._destinations for n in range(self.sent)}
        arrived: Counter[int] = Counter()
        deadline = time.monotonic() + self._bench.harness.patience
        while time.monotonic() < deadline:
            found = self._bench.harness.receive(2 * self._bench.harness.quiet)
            if not found:
                break
            for arrival in found:
                if arrival in numbers:
                    arrived[numbers[arrival]] += 1
                elif self._text in arrival.frame:
                    self.strays.append(arrival.place)
        self.lost = [n for n in range(self.sent) if not arrived[n]]
        self.repeated = [n for n, count in arrived.items() if count > 1]

    def check_unharmed(self) -> None:
        """Every frame arrived once, and nowhere else."""
        assert self.sent >= 2 * FEW
        assert (self.lost, self.repeated, self.strays) == ([], [], [])


class Listener:
    """Reads a connection's events in a thread until the connection is closed."""

    def __init__(self, connection: Connection) -> None:
        self.events: list[Event] = []
        self._connection = connection
        threading.Thread(target=self._read, name="listener", daemon=True).start()
        time.sleep(0.05)

    def _read(self) -> None:
        try:
            for event in self._connection.events():
                self.events.append(event)
        except (NetvirtError, RuntimeError):  # the connection is closed
            return

    def kinds(self) -> set[str]:
        """The kinds of the events so far."""
        return {event.kind for event in self.events}
