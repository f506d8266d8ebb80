"""What should come out of a network, and what does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import pytest

from libnetvirt.conformance import frames
from libnetvirt.conformance.harness import Arrival, Place
from libnetvirt.semantics import Outcome


class Tally:
    """What was sent, what has to come out, and what did."""

    def __init__(self, sent: Sequence[tuple[Place, bytes]]) -> None:
        self._sent = sent
        self._expected: Counter[Arrival] = Counter()
        self._tolerated: Counter[Arrival] = Counter()
        self.arrived: list[Arrival] = []

    @property
    def missing(self) -> int:
        """How many frames are still to come."""
        return self._expected.total() - len(self.arrived)

    def expect(self, outcome: Outcome) -> None:
        """What the oracle says has to come out."""
        self._expected.update(as_arrivals(outcome.outputs))
        self._tolerated.update(as_arrivals(outcome.tolerated))

    def take(self, arrivals: Iterable[Arrival]) -> None:
        """This came out."""
        for arrival in arrivals:
            if self._tolerated[arrival] > 0 and arrival not in self._expected:
                self._tolerated[arrival] -= 1
            else:
                self.arrived.append(arrival)

    def check_missing(self) -> None:
        """Fail if less came out than has to."""
        if self.missing > 0:
            self.check()

    def check(self) -> None:
        """Fail if anything else came out than has to."""
        expected, arrived = self._expected, Counter(self.arrived)
        if expected == arrived or _spoken(expected - arrived) == _spoken(arrived - expected):
            return
        what = "\n".join(
            f"  into switch {place.switch} port {place.port}: {frames.described(frame)}"
            for place, frame in self._sent[:40]
        )
        pytest.fail(
            f"{len(self._sent)} frame(s) were sent:\n{what}\n"
            f"which did not arrive:\n{listed(expected - arrived)}\n"
            f"and which arrived though nothing said so:\n{listed(arrived - expected)}"
        )


def as_arrivals(outputs: Iterable[tuple[str, str, bytes]]) -> Iterator[Arrival]:
    return (Arrival(Place(switch, port), frame) for switch, port, frame in outputs)


def _spoken(arrivals: Counter[Arrival]) -> Counter[Arrival]:
    """The same without what a router may choose in what it says itself."""
    found: Counter[Arrival] = Counter()
    for (place, frame), count in arrivals.items():
        found[Arrival(place, frames.spoken(frame))] += count
    return found


def listed(arrivals: Counter[Arrival]) -> str:
    lines = [
        f"  {count} x at switch {place.switch} port {place.port}: {frames.described(frame)}"
        for (place, frame), count in sorted(arrivals.items())[:40]
    ]
    return "\n".join(lines) or "  nothing"
