"""A stream finds each frame that is missing or surplus, and a busy machine makes a test void."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from libnetvirt.conformance import Place
from libnetvirt.conformance.support.stream import RUNS, Stream, Void, repeated_if_void
from libnetvirt.conformance.support.testbed import Testbed
from tests.support.memory_harness import Memory


class Unreliable(Memory):
    """The driver in memory; the network loses frames or delivers them twice, or the machine loses them."""

    quiet_time = 0.001
    timeout = 0.5

    def start(self) -> None:
        super().start()
        #: the arrivals (from 0) that are lost, those that come twice, and those that a busy machine loses
        self.lost: set[int] = set()
        self.doubled: set[int] = set()
        self.unread: set[int] = set()
        self._count = 0
        self._overruns = 0

    def overruns(self) -> int:
        return self._overruns

    def send(self, place: Place, frames: Sequence[bytes]) -> None:
        for frame in frames:
            number, before = self._count, len(self._arrived)
            if b"stream" not in frame:
                super().send(place, [frame])
                continue
            self._count += 1
            super().send(place, [frame])
            if number in self.lost | self.unread:
                del self._arrived[before:]
                self._overruns += number in self.unread
            if number in self.doubled:
                self._arrived += self._arrived[before:]


@pytest.fixture
def testbed() -> Iterator[Testbed]:
    with Unreliable() as harness:
        yield Testbed(harness, None)


def streamed(testbed: Testbed) -> Stream:
    """A stream that is over."""
    _, (a, b) = testbed.create_active(*testbed.places(2))
    with Stream(testbed, a, b) as stream:
        pass
    return stream


def harness_of(testbed: Testbed) -> Unreliable:
    assert isinstance(testbed.harness, Unreliable)
    return testbed.harness


def test_all_frames_arrive_once(testbed: Testbed) -> None:
    streamed(testbed).check_exactly_once()


def test_each_lost_and_each_double_frame_is_found(testbed: Testbed) -> None:
    harness_of(testbed).lost, harness_of(testbed).doubled = {3, 4, 9}, {5}
    stream = streamed(testbed)
    assert (stream.lost, stream.duplicates) == ([3, 4, 9], [5])
    assert stream.gap > 1 / Unreliable.stream_rate
    with pytest.raises(AssertionError):
        stream.check_exactly_once()


def test_frames_that_the_machine_lost_make_a_run_void(testbed: Testbed) -> None:
    harness_of(testbed).unread = {3}
    with pytest.raises(Void, match=r"1 of .* frames are missing, and 1 were not read"):
        streamed(testbed)


def test_what_the_machine_lost_is_no_excuse_for_more(testbed: Testbed) -> None:
    harness_of(testbed).unread, harness_of(testbed).lost = {3}, {5}
    with pytest.raises(AssertionError):
        streamed(testbed).check_exactly_once()


def test_what_the_machine_lost_is_no_excuse_for_a_double_frame(testbed: Testbed) -> None:
    harness_of(testbed).unread, harness_of(testbed).doubled = {3}, {5}
    with pytest.raises(AssertionError):
        streamed(testbed).check_exactly_once()


@pytest.mark.parametrize("void", [0, 1, RUNS - 1])
def test_a_void_test_is_repeated_from_the_start(testbed: Testbed, void: int) -> None:
    runs = 0

    @repeated_if_void
    def test(testbed: Testbed) -> None:
        nonlocal runs
        harness_of(testbed)._count = 0
        harness_of(testbed).unread = {2} if runs < void else set()
        runs += 1
        assert not testbed.harness.connection.networks()
        streamed(testbed).check_exactly_once()

    test(testbed=testbed)
    assert runs == void + 1
    assert testbed.stream_speed == 0.5**void


def test_a_test_that_is_always_void_fails(testbed: Testbed) -> None:
    runs = 0

    @repeated_if_void
    def test(testbed: Testbed) -> None:
        nonlocal runs
        runs += 1
        harness_of(testbed)._count, harness_of(testbed).unread = 0, {2}
        streamed(testbed)

    with pytest.raises(pytest.fail.Exception, match=f"each of {RUNS} runs was void"):
        test(testbed=testbed)
    assert runs == RUNS


def test_what_does_not_stay_is_found(testbed: Testbed) -> None:
    seen = iter(range(100))
    testbed.stays(lambda: "", "it is there", 0.02)
    with pytest.raises(pytest.fail.Exception, match=r"no longer after .*: it is there: 3"):
        testbed.stays(lambda: (n := next(seen)) > 2 and n, "it is there", 10)


def test_what_comes_back_at_once_has_stayed_and_what_stays_away_has_not(testbed: Testbed) -> None:
    seen = iter(range(10_000))
    testbed.stays(lambda: 2 < next(seen) < 5, "it is there", 0.05, spell=5.0)
    with pytest.raises(pytest.fail.Exception, match="no longer"):
        testbed.stays(lambda: next(seen) > 2, "it is there", 0.05, spell=0.2)
