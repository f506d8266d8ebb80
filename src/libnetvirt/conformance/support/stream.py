"""What runs in the background while a test changes the network: a stream of frames, a reader of events."""

from __future__ import annotations

import functools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import ParamSpec, Self

import pytest

from libnetvirt import Connection, Event, NetvirtError
from libnetvirt.conformance.harness import Arrival, Place
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.testbed import Guest, Testbed

#: the least number of frames that are sent before a change, and after it
FEW = 10
#: frames that are sent at once by a stream that is late: fewer than a switch's receive queue holds
BURST = 10
#: how often a test is run until it is not void, each time with half as many frames a second
RUNS = 4

P = ParamSpec("P")


class Void(AssertionError):
    """Frames are missing, and some were lost before a switch saw them: the test says nothing."""


def repeated_if_void(test: Callable[P, None]) -> Callable[P, None]:
    """Decorator of a test with a testbed: repeat the test if it was void, with slower streams, and fail if it
    always is."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        reasons: list[str] = []
        while len(reasons) < RUNS:
            try:
                test(*args, **kwargs)
            except Void as reason:
                reasons.append(str(reason))
                for fixture in kwargs.values():
                    if isinstance(fixture, Testbed):
                        fixture.stream_speed /= 2
                        fixture.start_again()
            else:
                return
        pytest.fail(f"each of {RUNS} runs was void: {'; '.join(reasons)}")

    return run


class Stream:
    """Unicast frames with consecutive numbers from one guest to another; the network has learned both.

    Between ``__enter__`` and ``__exit__`` a thread sends ``rate`` frames a second, the testbed's
    ``stream_rate`` unless one is given, or fewer if the machine is busy. Afterwards ``sent`` is how many,
    ``lost`` the numbers of frames that did not arrive, ``duplicates`` of those that arrived more than once,
    and ``misdelivered`` the places where frames arrived though they should not have. The test must not
    receive frames meanwhile: the thread does. Raises Void at the end if frames are missing, and the
    harness's ``overruns`` have grown by as many or more.
    """

    def __init__(
        self, testbed: Testbed, source: Guest, destination: Guest, *moved: Guest, rate: float | None = None
    ) -> None:
        """``moved``: where the destination moves to meanwhile; a frame may arrive at the old or new place."""
        self._testbed = testbed
        self._source, self._destination = source, destination
        self._anywhere = moved
        #: where frames are to arrive, each with the number of the first
        self._places = [(0, destination)]
        self._interval = 1 / (testbed.stream_rate if rate is None else testbed.stream_speed * rate)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send, name="stream", daemon=True)
        self._text = b"stream %d " % id(self)
        self._arrivals: list[Arrival] = []
        self._times: list[float] = []
        self._overruns = 0
        #: the number of the first frame that is not on its way, whether or not its sending has ended
        self._begun = 0
        self.sent = 0
        self.lost: list[int] = []
        self.duplicates: list[int] = []
        self.misdelivered: list[Place] = []

    def __enter__(self) -> Self:
        self._testbed.drain()
        self._overruns = self._testbed.harness.overruns()
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

    def moves_to(self, place: Guest) -> None:
        """The destination is about to move: from now on, frames may arrive there or where they did before,
        and no longer where they did before that. One that is under way may arrive at the next place, too."""
        self._places.append((self._begun, place))

    @property
    def gap(self) -> float:
        """For how long no frame arrived of those sent, in seconds, at the longest."""
        longest = began = 0.0
        previous = -2
        for number in self.lost:
            if number != previous + 1:
                began = self._times[number]
            # Until the next was sent, or until the end.
            longest, previous = max(longest, self._times[min(number + 1, self.sent - 1)] - began), number
        return longest

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
        harness, source = self._testbed.harness, self._source
        due = time.monotonic()
        while not self._over.is_set():
            # What is very late is not made up for, or a queue would run over.
            due = max(due, time.monotonic() - BURST * self._interval)
            burst: list[bytes] = []
            while due <= time.monotonic() and len(burst) < BURST:
                burst.append(source.on_wire(self.sends(self.sent + len(burst))))
                due += self._interval
            self._times += [time.monotonic()] * len(burst)
            self._begun = self.sent + len(burst)
            harness.send(source.place, burst)
            self.sent += len(burst)
            self._arrivals += harness.receive(0.0)
            time.sleep(max(0.0, due - time.monotonic()))

    def _evaluate(self) -> None:
        numbers = {
            guest.arrival(self.arrives(number)): number
            for number, guests in self._expected()
            for guest in (*guests, *self._anywhere)
        }
        arrived: Counter[int] = Counter()

        def take(found: list[Arrival]) -> None:
            for arrival in found:
                if arrival in numbers:
                    arrived[numbers[arrival]] += 1
                elif self._text in arrival.frame:
                    self.misdelivered.append(arrival.place)

        take(self._arrivals)
        deadline = time.monotonic() + self._testbed.harness.timeout
        while time.monotonic() < deadline:
            # A busy machine may make a pause before the last frames, which are the last to arrive, too.
            pauses = 2 if len(arrived) == self.sent else 20 if arrived[self.sent - 1] else 200
            found = self._testbed.harness.receive(pauses * self._testbed.harness.quiet_time)
            if not found:
                break
            take(found)
        self.lost = [n for n in range(self.sent) if not arrived[n]]
        self.duplicates = [n for n, count in arrived.items() if count > 1]
        overruns = self._testbed.harness.overruns() - self._overruns
        if 0 < len(self.lost) <= overruns and not self.duplicates and not self.misdelivered:
            raise Void(f"{len(self.lost)} of {self.sent} frames are missing, and {overruns} were not read")

    def _expected(self) -> Iterator[tuple[int, list[Guest]]]:
        """The number of each frame, and where it may arrive."""
        ends = [first for first, _ in self._places[1:]] + [self.sent]
        for at, (end, (first, _)) in enumerate(zip(ends, self._places, strict=True)):
            guests = [guest for _, guest in self._places[max(0, at - 1) : at + 2]]
            yield from ((number, guests) for number in range(first, end))

    def check_exactly_once(self) -> None:
        """Check that every frame arrived exactly once, and nowhere else."""
        assert self.sent >= 2 * FEW
        assert (self.lost, self.duplicates, self.misdelivered) == ([], [], [])


class EventReader:
    """Collects a connection's events in a thread until the connection is closed."""

    def __init__(self, connection: Connection) -> None:
        self.events: list[Event] = []
        # Subscribed when this returns: what happens from here on is seen, however late the thread runs.
        source = connection.events()
        threading.Thread(target=self._read, args=(source,), name="event reader", daemon=True).start()

    def _read(self, source: Iterator[Event]) -> None:
        try:
            for event in source:
                self.events.append(event)
        except (NetvirtError, RuntimeError):  # the connection is closed
            return

    def kinds(self) -> set[str]:
        """The kinds of the events so far. Events may come after the state that they tell of: see
        :meth:`await_kinds`."""
        return {event.kind for event in self.events}

    def await_kinds(self, *kinds: str, timeout: float = 30.0) -> None:
        """Wait until an event of each of these kinds has come; fail with those that have not."""
        deadline = time.monotonic() + timeout
        while missing := set(kinds) - self.kinds():
            if time.monotonic() > deadline:
                pytest.fail(
                    f"no event {', '.join(sorted(missing))} within {timeout:g} s: {self.events!r}"[:2000]
                )
            time.sleep(0.005)
