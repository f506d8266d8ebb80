"""What runs in the background while a test changes the network: a stream of frames, a reader of events."""

from __future__ import annotations

import threading
import time
from collections import Counter
from types import TracebackType
from typing import Self

from libnetvirt import Connection, Event, NetvirtError
from libnetvirt.conformance.harness import Place
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.testbed import Guest, Testbed

RATE = 250
#: the least number of frames that are sent before a change, and after it
FEW = 10


class Stream:
    """Unicast frames with consecutive numbers from one guest to another; the network has learned both.

    Between ``__enter__`` and ``__exit__`` a thread sends ``rate`` frames a second. Afterwards ``sent`` is
    their number, ``lost`` the numbers of frames that did not arrive, ``duplicates`` of those that arrived
    more than once, and ``misdelivered`` the places where frames arrived though they should not have. The
    test must not receive frames meanwhile.
    """

    def __init__(
        self, testbed: Testbed, source: Guest, destination: Guest, *moved: Guest, rate: int = RATE
    ) -> None:
        """``moved``: where the destination moves to meanwhile; a frame may arrive at the old or new place."""
        self._testbed = testbed
        self._source, self._destination = source, destination
        self._destinations = (destination, *moved)
        self._interval = 1 / rate
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send, name="stream", daemon=True)
        self._text = b"stream %d " % id(self)
        self.sent = 0
        self.lost: list[int] = []
        self.duplicates: list[int] = []
        self.misdelivered: list[Place] = []

    def __enter__(self) -> Self:
        self._testbed.drain()
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
        """The longest run of consecutive lost frames, in seconds."""
        longest = run = 0
        previous = -2
        for number in self.lost:
            run = run + 1 if number == previous + 1 else 1
            longest, previous = max(longest, run), number
        return longest * self._interval

    def sends(self, number: int) -> bytes:
        """The untagged frame with this number as it is sent."""
        source, destination = self._source, self._destination
        return frames.marked(source.mac, destination.mac, self._text + b"%d" % number)

    def arrives(self, number: int) -> bytes:
        """The untagged frame with this number as it must arrive."""
        return self.sends(number)

    def _await_sent(self) -> None:
        """Wait until ``FEW`` more frames are sent; a busy machine may need longer than the rate suggests."""
        wanted = self.sent + FEW
        self._testbed.eventually(lambda: self.sent < wanted, f"{FEW} frames are sent")

    def _send(self) -> None:
        due = time.monotonic()
        while not self._over.is_set():
            self._testbed.harness.send(self._source.place, [self._source.on_wire(self.sends(self.sent))])
            self.sent += 1
            due += self._interval
            time.sleep(max(0.0, due - time.monotonic()))

    def _evaluate(self) -> None:
        numbers = {d.arrival(self.arrives(n)): n for d in self._destinations for n in range(self.sent)}
        arrived: Counter[int] = Counter()
        deadline = time.monotonic() + self._testbed.harness.timeout
        while time.monotonic() < deadline:
            # A busy machine may make a pause before the last frames.
            pauses = 2 if len(arrived) == self.sent else 20
            found = self._testbed.harness.receive(pauses * self._testbed.harness.quiet_time)
            if not found:
                break
            for arrival in found:
                if arrival in numbers:
                    arrived[numbers[arrival]] += 1
                elif self._text in arrival.frame:
                    self.misdelivered.append(arrival.place)
        self.lost = [n for n in range(self.sent) if not arrived[n]]
        self.duplicates = [n for n, count in arrived.items() if count > 1]

    def check_exactly_once(self) -> None:
        """Check that every frame arrived exactly once, and nowhere else."""
        assert self.sent >= 2 * FEW
        assert (self.lost, self.duplicates, self.misdelivered) == ([], [], [])


class EventReader:
    """Collects a connection's events in a thread until the connection is closed."""

    def __init__(self, connection: Connection) -> None:
        self.events: list[Event] = []
        self._connection = connection
        threading.Thread(target=self._read, name="event reader", daemon=True).start()
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
