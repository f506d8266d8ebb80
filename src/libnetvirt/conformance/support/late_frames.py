"""Detection of frames that arrive after the exchange that caused them, without a wait after each one."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence

import pytest

from libnetvirt.conformance.harness import Arrival, Harness, Place
from libnetvirt.conformance.support import frames

#: how many exchanges the message about a late frame lists
REMEMBERED = 4


class LateFrameDetector:
    """Finds frames that arrive after the exchanges which may have caused them.

    An exchange ends when all frames that it must deliver have arrived. A frame that arrives later is found
    by the next exchange or, at the latest, by ``await_silence``, which a test calls before it sends frames
    without an exchange, before it checks what a network has *not* learned, and at its end. So a test waits
    for silence once instead of after each exchange.
    """

    def __init__(self, harness: Harness) -> None:
        self._harness = harness
        self._exchanges: deque[tuple[Place, Sequence[bytes]]] = deque(maxlen=REMEMBERED)
        self._quiet_time = 0.0
        #: frames that exchanges since the last silence may deliver, but need not
        self.tolerated: Counter[Arrival] = Counter()

    def add(self, place: Place, sent: Sequence[bytes], fenced: bool) -> None:
        """Record a finished exchange; ``fenced``: a frame that was sent after it has arrived."""
        self._exchanges.append((place, sent))
        self._quiet_time = self._harness.quiet_time * (1 if fenced else 2)

    def unexpected(self, arrivals: Iterable[Arrival], expected: Counter[Arrival]) -> Iterator[Arrival]:
        """The arrivals without those that are tolerated and not expected."""
        for arrival in arrivals:
            if self.tolerated[arrival] > 0 and arrival not in expected:
                self.tolerated[arrival] -= 1
            else:
                yield arrival

    def check(self) -> None:
        """Fail if a frame arrived late. Before the first exchange, discard what arrived."""
        self._check(0.0)

    def await_silence(self) -> None:
        """Wait until no more frames arrive; fail if one did. Before the first exchange, discard them."""
        self._check(self._quiet_time)
        self._exchanges.clear()
        self.tolerated.clear()
        self._quiet_time = 0.0

    def _check(self, quiet_time: float) -> None:
        late: Counter[Arrival] = Counter()
        while found := self._harness.receive(quiet_time):
            late.update(self.unexpected(found, Counter()))
        if self._exchanges and late:
            pytest.fail(
                f"late frames arrived:\n{listed(late)}\nafter these exchanges:\n{self._latest_exchanges()}"
            )

    def _latest_exchanges(self) -> str:
        return "\n".join(
            f"  into switch {place.switch} port {place.port}: {frames.described(frame)}"
            for place, sent in self._exchanges
            for frame in sent[:10]
        )


def listed(arrivals: Counter[Arrival]) -> str:
    """One line per arrival, for messages of failed tests."""
    lines = [
        f"  {count} x at switch {place.switch} port {place.port}: {frames.described(frame)}"
        for (place, frame), count in sorted(arrivals.items())[:40]
    ]
    return "\n".join(lines) or "  nothing"
