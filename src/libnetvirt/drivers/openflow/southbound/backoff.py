"""Exponential back-off for switches that failed.

A switch that does not answer, or rejects its rules, would fail again as soon as it reconnects, and delay the
operations of others each time. So it waits, twice as long after each failure, and is then probed outside the
lock of operations.
"""

from __future__ import annotations

from dataclasses import dataclass

#: seconds that a switch waits after its first failure, and at most
FIRST = 1.0
LONGEST = 60.0
#: seconds without a failure after which the next one is a first
FORGET = 300.0
#: switches whose failures are kept, as anybody can connect with any datapath id; when there are more, the one
#: whose wait ends first is dropped
LIMIT = 1024


@dataclass(slots=True)
class Failure:
    """Why a switch waits, until when, and for how many seconds in all."""

    reason: str
    until: float
    period: float


class Backoff:
    """The failures of switches. Times are in seconds of any monotonic clock; ``first`` is the first wait."""

    def __init__(self, first: float = FIRST) -> None:
        self._first = first
        self._failures: dict[int, Failure] = {}

    def fail(self, dpid: int, reason: str, now: float) -> float:
        """Record a failure. Returns for how many seconds the switch waits."""
        last = self._failures.pop(dpid, None)
        again = last is not None and now - last.until < FORGET
        period = min(LONGEST, 2 * last.period) if last is not None and again else self._first
        if len(self._failures) >= LIMIT:
            del self._failures[min(self._failures, key=lambda dpid: self._failures[dpid].until)]
        self._failures[dpid] = Failure(reason, now + period, period)
        return period

    def left(self, dpid: int, now: float) -> float:
        """The seconds that a switch still waits; 0 if it does not."""
        failure = self._failures.get(dpid)
        return max(0.0, failure.until - now) if failure is not None else 0.0

    def waiting(self, now: float) -> dict[int, Failure]:
        """The switches that wait."""
        return {dpid: failure for dpid, failure in self._failures.items() if failure.until > now}
