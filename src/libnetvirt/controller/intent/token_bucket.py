"""Token buckets: how many frames an endpoint, or a network, may still send to the controller."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class TokenBucket:
    """A token bucket: what an endpoint, or a network, may still send up.

    Whoever takes a token subtracts it from ``left``, and looks at the clock only if that leaves less than
    none.
    """

    left: float = 0.0
    updated: float = float("-inf")

    def take(self, rate: float, now: float) -> bool:
        """Take a token, if there is one."""
        self.left -= 1.0
        return self.left >= 0.0 or self.refill(rate, now)

    def refill(self, rate: float, now: float) -> bool:
        """Put in what has come back at ``rate`` a second since the last time, at most a second's worth;
        returns whether that covers what was taken. If not, one token is given back."""
        if self.left >= 0.0:
            return True
        left = min(rate - 1.0, self.left + (now - self.updated) * rate)
        self.updated = now
        self.left = left if left >= 0.0 else left + 1.0
        return left >= 0.0
