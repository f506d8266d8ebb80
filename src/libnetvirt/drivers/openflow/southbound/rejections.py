"""Rejected connections: which hosts were rejected last, and why."""

from __future__ import annotations

from collections.abc import Iterator

from libnetvirt.controller.intent.token_bucket import TokenBucket

#: hosts whose last rejection is kept; when there are more, the oldest is dropped
LIMIT = 64
#: reports of rejected connections per second
RATE = 10.0


class Rejections:
    """Why the last connection of each host was rejected. Times are in seconds of any steady clock."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}
        self._tokens = TokenBucket()

    def record(self, address: str, reason: str, now: float) -> bool:
        """Record a rejection. Returns whether to report it: the reason is new, and the rate of reports is not
        exceeded."""
        host = _host(address)
        if self._reasons.get(host) == reason:
            return False
        self._reasons.pop(host, None)
        if len(self._reasons) >= LIMIT:
            del self._reasons[next(iter(self._reasons))]
        self._reasons[host] = reason
        self._tokens.left -= 1.0
        return self._tokens.refill(RATE, now)

    def remove(self, address: str) -> None:
        """Remove the entry of a host, as a switch from there has been accepted."""
        self._reasons.pop(_host(address), None)

    def notes(self) -> Iterator[str]:
        """One line for each host with a rejection."""
        return (f"the switch at {host} is refused: {reason}" for host, reason in self._reasons.items())


def _host(address: str) -> str:
    return address.rpartition(":")[0] or address
