"""Deferral: frames and expired rules of a network wait while a transaction changes its rules.

A frame that is served in the middle of a change could be sent along half a path, or learn a host at an
endpoint that is about to move. So it waits for the end of the transaction, in a bounded queue: `SOURCE_LIMIT`
for each source, and `FRAME_LIMIT` frames of all endpoints together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection

#: frames of one endpoint, or expired rules of one network, that wait
SOURCE_LIMIT = 500
#: frames of all endpoints that wait
FRAME_LIMIT = 10_000

Action = Callable[[float], object]  # takes the time


class Deferral:
    """The actions that are deferred until the end of a transaction, in order of arrival."""

    def __init__(self) -> None:
        self._actions: deque[Action] = deque()
        self._by_source: dict[tuple[str, str], int] = {}
        self._frames = 0
        #: the number of actions that were not kept
        self.refused = 0

    @property
    def depth(self) -> int:
        """The number of actions that wait."""
        return len(self._actions)

    def add(self, source: tuple[str, str], action: Action) -> bool:
        """Keep an action. Returns False if the source has too many already."""
        count = self._by_source.get(source, 0)
        if count >= SOURCE_LIMIT:
            self.refused += 1
            return False
        self._by_source[source] = count + 1
        self._actions.append(action)
        return True

    def add_frame(self, source: tuple[str, str], action: Action) -> bool:
        """Keep an action that serves a frame. Returns False if there are too many already, of the source or
        altogether."""
        if self._frames >= FRAME_LIMIT:
            self.refused += 1
            return False
        if not self.add(source, action):
            return False
        self._frames += 1
        return True

    def take(self) -> Collection[Action]:
        """Take all deferred actions out, in order."""
        actions, self._actions = self._actions, deque()
        self._by_source.clear()
        self._frames = 0
        return actions
