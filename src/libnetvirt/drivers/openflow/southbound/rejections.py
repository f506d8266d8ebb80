"""Rejected connections: which hosts were rejected last, and why."""

from __future__ import annotations

from collections.abc import Iterator

from libnetvirt.controller.intent.token_bucket import TokenBucket

#: hosts whose last rejection is kept; when there are more, the oldest is dropped
LIMIT = 64
#: reports of rejected connections per second
RATE = 10.0


class Rejections:
    """Why the last connection of each host, and of each of its switches that is known by its datapath id, was
    rejected. Times are in seconds of any steady clock."""

    def __init__(self) -> None:
        self._reasons: dict[tuple[str, int], str] = {}
        self._tokens = TokenBucket()

    def record(self, address: str, reason: str, now: float, dpid: int = 0) -> bool:
        """Record a rejection; ``dpid``: the datapath id, if it is known.

        Returns whether to report it: the reason is new, and the rate of reports is not exceeded.
        """
        key = (_host(address), dpid)
        if self._reasons.get(key) == reason:
            return False
        self._reasons.pop(key, None)
        if len(self._reasons) >= LIMIT:
            del self._reasons[next(iter(self._reasons))]
        self._reasons[key] = reason
        self._tokens.left -= 1.0
        return self._tokens.refill(RATE, now)

    def remove(self, address: str) -> None:
        """Remove the entries of a host, as a switch from there has been accepted. A switch that is still
        rejected comes back."""
        host = _host(address)
        for key in [key for key in self._reasons if key[0] == host]:
            del self._reasons[key]

    def notes(self) -> Iterator[str]:
        """One line for each host with a rejection."""
        return (f"the switch at {host} is refused: {reason}" for (host, _), reason in self._reasons.items())


def _host(address: str) -> str:
    return address.rpartition(":")[0] or address
