"""Fair queueing: networks are served in turn, so that no network waits for another one's burst. Hot path.

This is deficit round robin with frames as the unit. A round is what was received with one read. A network is
served up to :data:`QUANTUM` frames a round; further frames are queued, in order, and served, a quantum per
network at a time, after everything else that was received.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

from libnetvirt import openflow as of
from libnetvirt.controller.intent.rulesdb import NetworkRecord

#: frames of a network that are served per round
QUANTUM: Final = 64
#: the most queued frames of a network; beyond that, the oldest one is served at once
QUEUE_LIMIT: Final = 512

QueuedPacket = tuple[int, of.PacketIn]


class FairQueue:
    """The queued frames of all networks."""

    def __init__(self) -> None:
        #: the current round; `NetworkRecord.fair_round` is the last one in which the network was served
        self.round = 0
        self._queues: dict[str, deque[QueuedPacket]] = {}

    def enqueue(self, record: NetworkRecord, dpid: int, message: of.PacketIn) -> QueuedPacket | None:
        """Queue a frame for its network's next round. Returns the oldest one if there are too many."""
        queue = self._queues.setdefault(record.uuid, deque())
        queue.append((dpid, message))
        return queue.popleft() if len(queue) > QUEUE_LIMIT else None

    @property
    def depth(self) -> int:
        """The number of queued frames."""
        return sum(map(len, self._queues.values()))

    @property
    def pending(self) -> bool:
        """Whether any frame is queued."""
        return bool(self._queues)

    def dequeue_round(self) -> Iterator[QueuedPacket]:
        """Begin a round, and take a quantum of queued frames of each network."""
        self.round += 1
        for uuid, queue in list(self._queues.items()):
            for _ in range(min(QUANTUM, len(queue))):
                yield queue.popleft()
            if not queue:
                del self._queues[uuid]
