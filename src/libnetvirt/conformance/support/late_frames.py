"""What arrives when nothing should any more: no exchange waits for silence, and still nothing is missed."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence

import pytest

from libnetvirt.conformance.harness import Arrival, Harness, Place
from libnetvirt.conformance.support import frames

#: how many exchanges are remembered for the message about a frame that came late
REMEMBERED = 4


class Watch:
    """Looks for frames that arrive after the exchanges which may have caused them.

    An exchange is over when all that it has to bring has arrived. Whatever arrives later is found at the
    next exchange or, at the latest, by ``rest``, which waits for silence: before a test sends frames by
    other ways, looks at what a network has *not* learned, or ends. So a test waits for silence once, and
    not after each of its exchanges.
    """

    def __init__(self, harness: Harness) -> None:
        self._harness = harness
        self._exchanges: deque[tuple[Place, Sequence[bytes]]] = deque(maxlen=REMEMBERED)
        self._quiet = 0.0
        #: what exchanges since the last rest need not bring, but may
        self.tolerated: Counter[Arrival] = Counter()

    def add(self, place: Place, sent: Sequence[bytes], fenced: bool) -> None:
        """An exchange is over; ``fenced``: a frame that was sent behind it has passed."""
        self._exchanges.append((place, sent))
        self._quiet = self._harness.quiet * (1 if fenced else 2)

    def unwanted(self, arrivals: Iterable[Arrival], expected: Counter[Arrival]) -> Iterator[Arrival]:
        """The arrivals without those that are tolerated and not expected."""
        for arrival in arrivals:
            if self.tolerated[arrival] > 0 and arrival not in expected:
                self.tolerated[arrival] -= 1
            else:
                yield arrival

    def look(self) -> None:
        """Fail if something came late; before the first exchange, forget what came."""
        self._check(0.0)

    def rest(self) -> None:
        """Wait for silence; fail if something came late. Before the first exchange, forget what came."""
        self._check(self._quiet)
        self._exchanges.clear()
        self.tolerated.clear()
        self._quiet = 0.0

    def _check(self, quiet: float) -> None:
        late: Counter[Arrival] = Counter()
        while found := self._harness.receive(quiet):
            late.update(self.unwanted(found, Counter()))
        if self._exchanges and late:
            pytest.fail(f"this arrived late:\n{listed(late)}\nafter these exchanges:\n{self._recent()}")

    def _recent(self) -> str:
        return "\n".join(
            f"  into switch {place.switch} port {place.port}: {frames.described(frame)}"
            for place, sent in self._exchanges
            for frame in sent[:10]
        )


def listed(arrivals: Counter[Arrival]) -> str:
    """One line for each arrival, for messages of failed tests."""
    lines = [
        f"  {count} x at switch {place.switch} port {place.port}: {frames.described(frame)}"
        for (place, frame), count in sorted(arrivals.items())[:40]
    ]
    return "\n".join(lines) or "  nothing"
