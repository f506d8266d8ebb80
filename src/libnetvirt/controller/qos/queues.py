"""Queues: what ports of links have while something of them is promised; their numbers, kept durable.

With enforcement ``queue`` a constraint with a minimum has one queue, of the same number, at each port that
feeds a link of its path, and what has no promise shares the default queue of that port. A queue gets at least
what it is promised and as much more as is left: other than with meters, a minimum is no ceiling. Queues are
no part of OpenFlow: what is said here of a port, others make true (`Backend.judge` says whether they can).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from libnetvirt.controller.intent.facts import FactJournal, Facts, QueueNumber
from libnetvirt.controller.qos.capacities import USABLE, Capacities
from libnetvirt.controller.qos.te_paths import ConstraintKey, TePath
from libnetvirt.controller.topology.pathfinder import LinkEnd
from libnetvirt.errors import LabelsExhausted

#: where a frame goes that no rule gives a queue: all without a promise
DEFAULT = 0
#: the queues that Open vSwitch can make beside it (linux-htb has 61440)
NUMBERS = range(1, 61440)


@dataclass(frozen=True, slots=True)
class Queue:
    """What a queue gets at the least and at the most, in bit/s on the link, and the constraint it is for."""

    least: int
    most: int
    key: ConstraintKey | None = None


@dataclass(frozen=True, slots=True)
class PortQueues:
    """The queues of a port, by number, and what all of them may take together, in bit/s; None while that is
    not known, and what the port has is to be left alone."""

    rate: int | None
    queues: Mapping[int, Queue] = field(default_factory=dict)


#: of all ports that have queues, by the link that they feed
Shape = Mapping[LinkEnd, PortQueues]


def union(*shapes: Shape) -> dict[LinkEnd, PortQueues]:
    """What all of these have, with the larger of their rates: for frames that may come by the old ways or by
    the new ones."""
    found: dict[LinkEnd, PortQueues] = {}
    for shape in shapes:
        for place, port in shape.items():
            known = found.get(place)
            found[place] = port if known is None else _merged(known, port)
    return found


def _merged(one: PortQueues, other: PortQueues) -> PortQueues:
    if one.rate is None or other.rate is None:
        return PortQueues(None)
    queues = dict(one.queues)
    for number, queue in other.queues.items():
        known = queues.get(number, queue)
        queues[number] = Queue(max(known.least, queue.least), max(known.most, queue.most), queue.key)
    return PortQueues(max(one.rate, other.rate), queues)


class Queues:
    """The numbers in use, and what they make of courses."""

    def __init__(self, journal: FactJournal) -> None:
        self._journal = journal
        self._numbers: dict[ConstraintKey, int] = {}
        self._used: set[int] = set()

    def load(self, facts: Facts) -> None:
        """Restore what was stored."""
        for queue in facts.of(QueueNumber):
            self._numbers[queue.network, queue.source, queue.destination] = queue.number
            self._used.add(queue.number)

    def number(self, key: ConstraintKey) -> int:
        """The number of a constraint's queues; given on first use. Raises LabelsExhausted."""
        number = self._numbers.get(key)
        if number is None:
            number = next((n for n in NUMBERS if n not in self._used), None)
            if number is None:
                raise LabelsExhausted(
                    f"all {len(self._used)} queues are in use: remove constraints with min-bandwidth"
                )
            self._numbers[key] = number
            self._used.add(number)
            self._journal.put(QueueNumber(*key, number))
        return number

    def keep(self, network: str, wanted: Collection[ConstraintKey]) -> None:
        """Of a network's numbers, free those that are not ``wanted``."""
        for key in [key for key in self._numbers if key[0] == network and key not in wanted]:
            number = self._numbers.pop(key)
            self._used.discard(number)
            self._journal.remove(QueueNumber(*key, number))

    def shape(self, te_paths: Iterable[TePath], capacities: Capacities) -> dict[LinkEnd, PortQueues]:
        """What ports have to have for these courses.

        Promises are counted in frames as hosts send them, queues in frames with their labels: a queue has as
        much more as the books leave room for.
        """
        promised: dict[LinkEnd, list[TePath]] = {}
        for te_path in te_paths:
            if te_path.bits:
                for place in te_path.places:
                    promised.setdefault(place, []).append(te_path)
        found: dict[LinkEnd, PortQueues] = {}
        for place, own in promised.items():
            capacity = capacities.capacity(place)
            rest = capacities.rest(place, sum(te_path.bits for te_path in own))
            if capacity is None or rest is None:
                # Its switch has not come yet, and will be compared when it does.
                found[place] = PortQueues(None)
                continue
            queues = {DEFAULT: Queue(rest, capacity)}
            for te_path in own:
                most = te_path.constraint.max_bandwidth
                ceiling = capacity if most is None else min(capacity, int(most / USABLE))
                queues[self.number(te_path.key)] = Queue(int(te_path.bits / USABLE), ceiling, te_path.key)
            found[place] = PortQueues(capacity, queues)
        return found
