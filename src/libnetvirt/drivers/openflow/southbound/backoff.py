"""Back-off for switches that fail: how long each waits until it may connect again.

A switch that does not answer, or refuses to be reconciled, would probably fail again at once and delay
operations each time. So it waits, twice as long after each failure up to a minute, and is then probed while
no operation has to wait for it.
"""

from __future__ import annotations

from dataclasses import dataclass

#: seconds that a switch waits after its first failure, and after many
INITIAL = 1.0
MAXIMUM = 60.0
#: seconds without a failure after which the next one counts as the first
RESET_AFTER = 300.0
#: switches whose failures are remembered; beyond that, the one whose wait ended first is removed
LIMIT = 1024


@dataclass(slots=True)
class Failure:
    """Why a switch waits, until when, and the length of the wait in seconds."""

    reason: str
    until: float
    period: float


class Backoff:
    """The failures of switches. Times are in seconds of any steady clock."""

    def __init__(self, first: float = INITIAL) -> None:
        """``first``: seconds to wait after the first failure."""
        self._first = first
        self._failures: dict[int, Failure] = {}

    def fail(self, dpid: int, reason: str, now: float) -> float:
        """Record a failure. Returns for how many seconds the switch waits."""
        last = self._failures.get(dpid)
        repeated = last is not None and now - last.until < RESET_AFTER
        period = min(MAXIMUM, 2 * last.period) if last is not None and repeated else self._first
        if last is None and len(self._failures) >= LIMIT:
            del self._failures[min(self._failures, key=lambda d: self._failures[d].until)]
        self._failures[dpid] = Failure(reason, now + period, period)
        return period

    def left(self, dpid: int, now: float) -> float:
        """The seconds that a switch still has to wait; 0 if it need not."""
        failure = self._failures.get(dpid)
        return max(0.0, failure.until - now) if failure is not None else 0.0

    def waiting(self, now: float) -> dict[int, Failure]:
        """The switches that have to wait."""
        return {dpid: failure for dpid, failure in self._failures.items() if failure.until > now}
