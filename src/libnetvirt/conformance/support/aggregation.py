"""A testbed where some host ports are members of a link aggregation group: one host with several cables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from libnetvirt.conformance.harness import Arrival, Harness, Place
from libnetvirt.conformance.support.testbed import Testbed


class Bonded:
    """A harness on which frames arrive at the first of ``members``, whichever of them they came out at.

    Everything else is that of the harness below. ``seen``: the members where each frame came out, by frame.
    """

    def __init__(self, harness: Harness, members: Sequence[Place]) -> None:
        self._harness = harness
        self._members = members
        self.seen: dict[bytes, list[Place]] = defaultdict(list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._harness, name)

    def receive(self, timeout: float) -> list[Arrival]:
        """As :meth:`Harness.receive`."""
        return [self._joined(arrival) for arrival in self._harness.receive(timeout)]

    def _joined(self, arrival: Arrival) -> Arrival:
        if arrival.place not in self._members:
            return arrival
        self.seen[arrival.frame].append(arrival.place)
        return Arrival(self._members[0], arrival.frame)


def group_of(testbed: Testbed) -> list[Place]:
    """All host ports of the first switch that has several; skips the test if the driver has no groups."""
    testbed.need_feature("endpoint.lag")
    first = testbed.places_on_one_switch()[0].switch
    return [place for place in testbed.harness.host_ports() if place.switch == first]


@contextmanager
def bonded(testbed: Testbed, members: Sequence[Place]) -> Iterator[tuple[Testbed, Bonded]]:
    """A testbed on the same harness, on which these ports are one; and that harness."""
    harness = Bonded(testbed.harness, members)
    joined = Testbed(cast("Harness", harness), testbed.rules)
    joined.stream_speed = testbed.stream_speed
    yield joined, harness
    joined.drain()


def joint(members: Sequence[Place]) -> Place:
    """These ports as one place of an endpoint."""
    return Place(members[0].switch, ",".join(place.port for place in members))
