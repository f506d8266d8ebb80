"""Turns: networks are served one after the other, some frames each, so that none waits for another's storm.

A turn is what came in with one read. A network that has had its share of a turn has the rest of its frames
put aside, in order; they are served, a share of each network at a time, when whatever else came in has been.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

from libnetvirt import openflow as of
from libnetvirt.controller.intent.rulesdb import NetworkRecord

#: frames of a network that are served at a time
QUANTUM: Final = 64
#: frames of a network that wait for their turn; with more, the first is served at once
QUEUE_LIMIT: Final = 512

QueuedPacket = tuple[int, of.PacketIn]


class FairQueue:
    """The frames that wait for their network's next turn."""

    def __init__(self) -> None:
        #: changes with every turn; a network compares it with its own
        self.round = 0
        self._queues: dict[str, deque[QueuedPacket]] = {}

    def enqueue(self, record: NetworkRecord, dpid: int, message: of.PacketIn) -> QueuedPacket | None:
        """Keep a frame for its network's next turn; returns the first that waits if there are too many."""
        queue = self._queues.setdefault(record.uuid, deque())
        queue.append((dpid, message))
        return queue.popleft() if len(queue) > QUEUE_LIMIT else None

    @property
    def pending(self) -> bool:
        """Whether any frame waits."""
        return bool(self._queues)

    def dequeue_round(self) -> Iterator[QueuedPacket]:
        """A share of each network's waiting frames."""
        self.round += 1
        for uuid, queue in list(self._queues.items()):
            for _ in range(min(QUANTUM, len(queue))):
                yield queue.popleft()
            if not queue:
                del self._queues[uuid]
