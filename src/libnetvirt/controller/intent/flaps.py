"""Flaps: hosts that move to and fro between endpoints, as they do where a loop brings their frames back."""

from __future__ import annotations

from collections import deque

#: moves of a host within `WINDOW` seconds that no host makes by itself
MOVES = 8
WINDOW = 10.0
#: seconds until the same host is reported again
AGAIN = 60.0
#: hosts whose moves are remembered
LIMIT = 10_000

#: a host: the uuid of its network, and its MAC address
HostKey = tuple[str, int]


class Flaps:
    """Counts the moves of hosts. Times are in seconds of any steady clock."""

    def __init__(self) -> None:
        self._moves: dict[HostKey, deque[float]] = {}
        self._reported: dict[HostKey, float] = {}

    def moved(self, host: HostKey, now: float) -> bool:
        """A host has moved. Returns whether it moves too often, and that was not said lately."""
        if len(self._moves) > LIMIT:
            self._moves.clear()
            self._reported.clear()
        moves = self._moves.setdefault(host, deque(maxlen=MOVES))
        moves.append(now)
        if len(moves) < MOVES or now - moves[0] > WINDOW:
            return False
        if now - self._reported.get(host, -AGAIN) < AGAIN:
            return False
        self._reported[host] = now
        return True
