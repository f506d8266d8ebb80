"""Rejected connections: from which hosts, why, and whether to report them.

Anybody can connect: what is kept is bounded by :data:`LIMIT`, and what is reported by :data:`RATE`.
"""

from __future__ import annotations

from collections.abc import Iterator

from libnetvirt.controller.intent.token_bucket import Tokens

#: hosts whose last rejection is kept; when there are more, the oldest is dropped
LIMIT = 64
#: reports of rejected connections per second
RATE = 10.0


class Rejections:
    """The reason of the last rejected connection from each host. Times: seconds of any monotonic clock."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}
        self._tokens = Tokens()

    def note(self, address: str, reason: str, now: float) -> bool:
        """Record a rejection. Returns whether to report it: its reason is new for the host, and the rate of
        reports allows it."""
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
        """Remove the rejection of a host, from which a switch is in use now."""
        self._reasons.pop(_host(address), None)

    def notes(self) -> Iterator[str]:
        """One line for each host with a rejection."""
        return (f"the switch at {host} is refused: {reason}" for host, reason in self._reasons.items())


def _host(address: str) -> str:
    return address.rpartition(":")[0] or address
