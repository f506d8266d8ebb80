"""The controller is killed at random times: each operation is applied completely or not at all."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from statistics import median

import pytest

from libnetvirt import Endpoint, Network, VirtualNetwork
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.testbed import Testbed, clean, endpoint_at
from libnetvirt.errors import NetvirtError
from libnetvirt.semantics import LearnedState
from tests.support.openflow_harness import OpenFlow

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(400)]

SEED, ROUNDS = 20121, 20
Operation = Callable[[], object]


@pytest.fixture(scope="module")
def harness(private_namespace: None) -> Iterator[OpenFlow]:  # noqa: ARG001
    with OpenFlow(3, [(1, 2), (2, 3), (3, 1)]) as harness:
        yield harness


class Rounds:
    """One operation after the other, in each of which the controller dies."""

    def __init__(self, harness: OpenFlow) -> None:
        self.harness, self.testbed = harness, Testbed(harness, None)
        self.chance = random.Random(SEED)
        self.places = self.testbed.places(9)
        self.usual = 0.02
        self.cut_short = 0
        self.took_place = 0

    def networks(self) -> list[VirtualNetwork]:
        return list(self.harness.connection.descriptions())

    def operation(self) -> tuple[str, Operation, dict[str, VirtualNetwork]]:
        """Something to ask for, how, and all networks by uuid when it has taken place."""
        networks = self.networks()
        by_uuid = {network.uuid: network for network in networks}
        if not networks or (len(networks) < 3 and self.chance.random() < 0.5):
            vlan = 100 + self.chance.randrange(1000)
            new = self.testbed.description(*((place, vlan) for place in self.chance.sample(self.places, 4)))
            return "create", lambda: self.harness.connection.create(new), {**by_uuid, new.uuid: new}
        network: Network = self.harness.connection.lookup(self.chance.choice(networks).uuid)
        old = network.description()
        endpoints = old.endpoints
        one, place = self.chance.choice(endpoints), self.chance.choice(self.places)
        vlan = 2000 + self.chance.randrange(1000)
        number = 1 + max(int(e.uuid) for e in endpoints)
        moved = one.changed(switch=place.switch, port=place.port, vlan=vlan)
        ends: dict[str, tuple[Operation, tuple[Endpoint, ...]]] = {
            "add": (
                lambda: network.add_endpoint(endpoint_at(place, number, vlan)),
                (*endpoints, endpoint_at(place, number, vlan)),
            ),
            "modify": (
                lambda: network.modify_endpoint(one.uuid, switch=place.switch, port=place.port, vlan=vlan),
                tuple(moved if e is one else e for e in endpoints),
            ),
            "drop": (
                lambda: network.remove_endpoint(one.uuid),
                tuple(e for e in endpoints if e is not one),
            ),
        }
        name = self.chance.choice(["remove", *ends])
        if name == "remove":
            return name, network.remove, {u: n for u, n in by_uuid.items() if u != old.uuid}
        work, wanted = ends[name]
        return name, work, {**by_uuid, old.uuid: old.changed(endpoints=wanted)}

    def duration(self) -> float:
        """Of an operation in which nobody dies."""
        _, work, _ = self.operation()
        started = time.monotonic()
        work()
        return time.monotonic() - started

    def run(self) -> None:
        """One operation in which the controller dies, sooner or later."""
        name, work, wanted = self.operation()
        before = self.networks()
        answered: list[bool] = []

        def ask() -> None:
            try:
                work()
            except (NetvirtError, RuntimeError, OSError):
                return  # nobody answers any more
            answered.append(True)

        thread = threading.Thread(target=ask)
        delay = self.chance.uniform(0, 1.5 * self.usual)
        thread.start()
        time.sleep(delay)
        self.harness.kill_controller()
        thread.join()
        self.harness.start_controller()
        after = self.networks()
        self.took_place += after != before
        self.cut_short += not answered
        # How long one takes depends on who else uses the machine: about half are to be cut short.
        self.usual *= 0.85 if answered else 1.15
        print(f"{name} after {delay * 1000:.1f} ms: {'answered' if answered else 'cut short'}, "
              f"{'as before' if after == before else 'it took place'}")  # fmt: skip
        if answered:
            assert after != before, "the operation was confirmed, and is forgotten"
        if after != before:
            assert {n.uuid: n for n in after} == wanted, "neither as before nor as asked for"
        self.testbed.eventually(self.harness.differences, "the switches hold what they should")

    def exchange(self) -> None:
        """All networks do as the oracle says. What hosts were known may have been lost with an operation."""
        self.testbed.knowledge = LearnedState()
        for description in self.networks():
            guests = self.testbed.guests(self.harness.connection.lookup(description.uuid))
            self.testbed.await_traffic(*guests)
            self.testbed.announce(*guests)
            for one, other in pairwise((*guests, guests[0])):
                frame = frames.marked(one.mac, other.mac, b"just for you")
                assert self.testbed.exchange(one, frame) == [other.arrival(frame)]


def test_an_operation_is_atomic_when_the_controller_is_killed(harness: OpenFlow) -> None:
    print(f"seed {SEED}")
    rounds = Rounds(harness)
    rounds.usual = median(rounds.duration() for _ in range(7))
    print(f"an operation takes {rounds.usual * 1000:.1f} ms")
    for number in range(ROUNDS):
        rounds.run()
        if number % 5 == 4:
            rounds.exchange()
    print(f"{rounds.cut_short} of {ROUNDS} cut short; {rounds.took_place} took place")
    assert rounds.cut_short >= ROUNDS // 5
    assert list(clean(rounds.testbed)) == []
    rounds.testbed.eventually(harness.differences, "the switches hold nothing")
