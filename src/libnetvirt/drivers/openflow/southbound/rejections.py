"""Switches that were turned away: who, why, and whether to report it."""

from __future__ import annotations

from collections.abc import Iterator

from libnetvirt.controller.intent.token_bucket import TokenBucket

#: hosts of refused switches that are remembered
LIMIT = 64
#: reports of refused switches per second
RATE = 10.0


class Rejections:
    """Why the last switch of each host was turned away. Times are in seconds of any steady clock."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}
        self._tokens = TokenBucket()

    def record(self, address: str, reason: str, now: float) -> bool:
        """Take note of a refusal. Returns whether it is news, and there was not too much of that."""
        host = _host(address)
        if self._reasons.get(host) == reason:
            return False
        if len(self._reasons) >= LIMIT:
            self._reasons.clear()
        self._reasons[host] = reason
        self._tokens.left -= 1.0
        return self._tokens.refill(RATE, now)

    def remove(self, address: str) -> None:
        """A switch of this host was taken up."""
        self._reasons.pop(_host(address), None)

    def notes(self) -> Iterator[str]:
        """A line for each host."""
        return (f"the switch at {host} is refused: {reason}" for host, reason in self._reasons.items())


def _host(address: str) -> str:
    return address.rpartition(":")[0] or address
