"""Surplus frames are found, whenever they arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from libnetvirt.conformance import Arrival
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.testbed import Guest, Testbed, clean
from tests.support.memory_harness import Memory

LOST = frames.marked(frames.mac(77), frames.BROADCAST, b"astray")


class Leaky(Memory):
    """The driver in memory; what a test puts into ``late`` arrives later, in silence at the latest."""

    quiet_time = 0.001
    timeout = 0.2

    def start(self) -> None:
        super().start()
        #: (how many times nothing is there before, what is there then)
        self.late: list[tuple[int, Arrival]] = []

    def receive(self, timeout: float) -> list[Arrival]:
        found = super().receive(timeout)
        # A wait for silence lasts long enough for all of them.
        silence = timeout in (self.quiet_time, 2 * self.quiet_time)
        found += [arrival for turns, arrival in self.late if turns <= 0 or silence]
        self.late = [(turns - 1, a) for turns, a in self.late if turns > 0 and not silence]
        return found


@pytest.fixture
def testbed() -> Iterator[Testbed]:
    with Leaky() as harness:
        yield Testbed(harness, None)


def scene(testbed: Testbed) -> tuple[Leaky, Guest, Guest]:
    network = testbed.create(*testbed.places(2))
    a, b = testbed.guests(network)
    testbed.announce(a, b)
    assert isinstance(testbed.harness, Leaky)
    return testbed.harness, a, b


def hello(a: Guest, b: Guest) -> bytes:
    return frames.marked(a.mac, b.mac, b"hello")


def finds(work: Callable[[], object]) -> bool:
    try:
        work()
    except pytest.fail.Exception as found:
        return "astray" in str(found)
    return False


@pytest.mark.parametrize("turns", range(12))
def test_a_misdelivered_frame_is_found_at_any_time(testbed: Testbed, turns: int) -> None:
    harness, a, b = scene(testbed)
    harness.late.append((turns, Arrival(testbed.places(3)[2], LOST)))

    def rest_of_the_test() -> None:
        for _ in range(2):
            testbed.exchange(a, hello(a, b))
        list(clean(testbed))

    assert finds(rest_of_the_test)
    assert harness.connection.networks() == [] or list(clean(Testbed(harness, None))) == []


@pytest.mark.parametrize("turns", range(12))
def test_a_duplicate_is_found_at_any_time(testbed: Testbed, turns: int) -> None:
    harness, a, b = scene(testbed)
    testbed.exchange(a, hello(a, b))
    harness.late.append((turns, b.arrival(hello(a, b))))

    def rest_of_the_test() -> None:
        for _ in range(3):
            testbed.exchange(a, hello(a, b))
        list(clean(testbed))

    with pytest.raises(pytest.fail.Exception):
        rest_of_the_test()


def test_a_late_frame_after_a_dropped_one_is_found(testbed: Testbed) -> None:
    harness, a, _ = scene(testbed)
    outside = testbed.places(3)[2]
    assert testbed.inject(outside, hello(a, a)) == []
    harness.late.append((1, Arrival(a.place, LOST)))
    assert finds(lambda: list(clean(testbed)))


def test_late_frames_are_found_before_a_test_sends_frames_itself(testbed: Testbed) -> None:
    harness, a, b = scene(testbed)
    harness.late.append((9, Arrival(b.place, LOST)))
    assert finds(lambda: testbed.send(a, hello(a, b)))


def test_the_networks_are_removed_although_a_frame_came_late(testbed: Testbed) -> None:
    harness, _, b = scene(testbed)
    harness.late.append((9, Arrival(b.place, LOST)))
    assert finds(lambda: list(clean(testbed)))
    assert harness.connection.networks() == []


def test_frames_that_a_test_sends_itself_are_not_late_frames(testbed: Testbed) -> None:
    harness, a, b = scene(testbed)
    testbed.send(a, hello(a, b))
    assert testbed.exchange(a, hello(a, b)) == [b.arrival(hello(a, b))]
    assert list(clean(testbed)) == []
    assert harness.receive(0) == []


def test_a_lost_frame_fails_the_exchange(testbed: Testbed, monkeypatch: pytest.MonkeyPatch) -> None:
    harness, a, b = scene(testbed)
    monkeypatch.setattr(harness, "send", lambda *_: None)
    with pytest.raises(pytest.fail.Exception, match="did not arrive"):
        testbed.exchange(a, hello(a, b))
