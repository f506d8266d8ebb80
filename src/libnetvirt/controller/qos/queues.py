"""Queues: the queues that ports need to enforce reservations, and their numbers.

With enforcement ``queue``, a constraint with a minimum has one queue, with the same number everywhere, at
each port along its path. All best-effort traffic of a port shares its default queue. A queue is guaranteed
its minimum and may use what others leave; unlike with meters, a minimum is no ceiling.

OpenFlow cannot configure queues. This module computes the configuration; `drivers.openflow.ovsdb_queues`
applies it to the switches' databases. Queue numbers are stored.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from libnetvirt.controller.intent.facts import FactJournal, Facts, QueueNumber
from libnetvirt.controller.qos.capacities import USABLE, Capacities
from libnetvirt.controller.qos.te_paths import ConstraintKey, TePath
from libnetvirt.controller.topology.pathfinder import LinkEnd
from libnetvirt.errors import LabelsExhausted

#: the queue of frames for which no rule sets one: best-effort traffic
DEFAULT = 0
#: the numbers of other queues (linux-htb in Open vSwitch supports 61440 queues)
NUMBERS = range(1, 61440)


@dataclass(frozen=True, slots=True)
class Queue:
    """Guaranteed and maximum rate of a queue, in bit/s on the wire, and the constraint that it is for."""

    min_rate: int
    max_rate: int
    key: ConstraintKey | None = None


@dataclass(frozen=True, slots=True)
class PortQueues:
    """The queues of a port by number, and their total rate in bit/s. A rate of None means that it is not
    known yet, and the port's configuration has to be left as it is."""

    rate: int | None
    queues: Mapping[int, Queue] = field(default_factory=dict)


#: the queues of all ports that need any, by the link that the port feeds
QueueConfig = Mapping[LinkEnd, PortQueues]


def union(*configs: QueueConfig) -> dict[LinkEnd, PortQueues]:
    """Configurations combined, with the higher rates of each: what is needed while frames may take old paths
    or new ones."""
    found: dict[LinkEnd, PortQueues] = {}
    for config in configs:
        for link, port in config.items():
            known = found.get(link)
            found[link] = port if known is None else _merged(known, port)
    return found


def _merged(one: PortQueues, other: PortQueues) -> PortQueues:
    if one.rate is None or other.rate is None:
        return PortQueues(None)
    queues = dict(one.queues)
    for number, queue in other.queues.items():
        known = queues.get(number, queue)
        queues[number] = Queue(
            max(known.min_rate, queue.min_rate), max(known.max_rate, queue.max_rate), queue.key
        )
    return PortQueues(max(one.rate, other.rate), queues)


class Queues:
    """The queue numbers in use, and the queues that TE paths need."""

    def __init__(self, journal: FactJournal) -> None:
        self._journal = journal
        self._numbers: dict[ConstraintKey, int] = {}
        self._used: set[int] = set()

    def load(self, facts: Facts) -> None:
        """Load the stored facts."""
        for queue in facts.of(QueueNumber):
            self._numbers[queue.network, queue.source, queue.destination] = queue.number
            self._used.add(queue.number)

    def number(self, key: ConstraintKey) -> int:
        """The number of a constraint's queues, allocated on first use. Raises LabelsExhausted."""
        number = self._numbers.get(key)
        if number is None:
            number = next((n for n in NUMBERS if n not in self._used), None)
            if number is None:
                raise LabelsExhausted(
                    f"all {len(self._used)} queue numbers are in use: remove constraints with min-bandwidth"
                )
            self._numbers[key] = number
            self._used.add(number)
            self._journal.put(QueueNumber(*key, number))
        return number

    def keep(self, network: str, used: Collection[ConstraintKey]) -> None:
        """Release the queue numbers of a network except those in ``used``."""
        for key in [key for key in self._numbers if key[0] == network and key not in used]:
            number = self._numbers.pop(key)
            self._used.discard(number)
            self._journal.remove(QueueNumber(*key, number))

    def config(self, te_paths: Iterable[TePath], capacities: Capacities) -> dict[LinkEnd, PortQueues]:
        """The queues that ports need for these TE paths.

        Reservations count bytes of frames as hosts send them, queues those on the wire, with labels and
        overhead. So a queue's rates are larger, by the margin that `capacities.USABLE` leaves.
        """
        reserving: dict[LinkEnd, list[TePath]] = {}
        for te_path in te_paths:
            if te_path.bits:
                for link in te_path.links:
                    reserving.setdefault(link, []).append(te_path)
        found: dict[LinkEnd, PortQueues] = {}
        for link, own in reserving.items():
            capacity = capacities.capacity(link)
            best_effort = capacities.best_effort(link, sum(te_path.bits for te_path in own))
            if capacity is None or best_effort is None:
                # Its switch has not connected yet; the port is reconciled when it does.
                found[link] = PortQueues(None)
                continue
            queues = {DEFAULT: Queue(best_effort, capacity)}
            for te_path in own:
                most = te_path.constraint.max_bandwidth
                ceiling = capacity if most is None else min(capacity, int(most / USABLE))
                queues[self.number(te_path.key)] = Queue(int(te_path.bits / USABLE), ceiling, te_path.key)
            found[link] = PortQueues(capacity, queues)
        return found
