"""Token buckets, which limit the frames that an endpoint or a network may send to the controller. Hot
path."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class TokenBucket:
    """A token bucket that holds one second's worth of tokens.

    To take a token, the hot path subtracts 1.0 from ``left`` itself, and calls :meth:`refill` only if that
    leaves less than none: so the clock is looked at only when the bucket is empty. Therefore what was left
    before a pause may pass together with what has accrued in it: a burst of up to two seconds' worth.
    """

    left: float = 0.0
    updated: float = float("-inf")

    def take(self, rate: float, now: float) -> bool:
        """Take a token. Returns whether there was one."""
        self.left -= 1.0
        return self.left >= 0.0 or self.refill(rate, now)

    def refill(self, rate: float, now: float) -> bool:
        """Add the tokens of ``rate`` per second that have accrued since the last refill. Returns whether they
        cover the token taken; if not, that token is given back."""
        if self.left >= 0.0:
            return True
        left = min(rate - 1.0, self.left + (now - self.updated) * rate)
        self.updated = now
        self.left = left if left >= 0.0 else left + 1.0
        return left >= 0.0
