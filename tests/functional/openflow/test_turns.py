"""Controllers that take turns on real switches: whatever becomes of the one that leads, traffic goes on, and
another one does what is asked for next."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import NamedTuple

import pytest

from libnetvirt import VirtualNetwork
from libnetvirt.conformance.support.stream import Stream, Void
from libnetvirt.conformance.support.testbed import Guest, Testbed, clean
from libnetvirt.errors import AlreadyExists, NetvirtError, NetworkNotFound, NotFound
from tests.support.promised_times import by
from tests.support.turns import TakingTurns, Turn

#: random rounds instead of the usual ones, and the seed: ``NETVIRT_HA=N`` or ``N:SEED``
MORE, _, SEED = os.environ.get("NETVIRT_HA", "0").partition(":")
pytestmark = [pytest.mark.root, pytest.mark.timeout(120 + 30 * int(MORE))]

#: frames a second: programs are started meanwhile
RATE = 500.0
#: seconds until the next operation is accepted: docs/high-availability.md says 3. A leader that is kept from
#: the processor for longer than its lease loses it, so that a busy machine may need two turns.
LATEST = 2 * by(3.0)


class Fault(NamedTuple):
    """What happens, and how it is undone; called with the controller that leads then."""

    happen: Callable[[TakingTurns, Turn], object]
    undo: Callable[[TakingTurns, Turn], object]


def _member(turns: TakingTurns, _: Turn) -> None:
    turns.lost = turns.cluster.leader()  # type: ignore[attr-defined]
    turns.cluster.kill(turns.lost)  # type: ignore[attr-defined]


FAULTS = {
    "killed": Fault(lambda _, leader: leader.kill(), lambda _, leader: leader.start()),
    "frozen": Fault(
        lambda _, leader: leader.signal(signal.SIGSTOP), lambda _, leader: leader.signal(signal.SIGCONT)
    ),
    "cut off from the store": Fault(
        lambda _, leader: leader.cut_off_store(), lambda _, leader: leader.cut_off_store(cut=False)
    ),
    "not answered by the store": Fault(
        lambda _, leader: leader.cut_off_store(silent=True), lambda _, leader: leader.cut_off_store(cut=False)
    ),
    "cut off from the switches": Fault(
        lambda _, leader: leader.relay.cut(), lambda _, leader: leader.relay.restore()
    ),
    "a member of the cluster is lost": Fault(
        _member,
        lambda turns, _: turns.cluster.start(turns.lost),  # type: ignore[attr-defined]
    ),
}


@pytest.fixture(scope="module")
def turns(private_namespace: None) -> Iterator[TakingTurns]:  # noqa: ARG001
    with TakingTurns() as harness:
        yield harness


class Rounds:
    """Operations one after the other, and in each round a fault in the middle of one."""

    def __init__(self, turns: TakingTurns, chance: random.Random) -> None:
        self.turns, self.chance = turns, chance
        self.testbed = Testbed(turns, None)
        self.places = self.testbed.places(6)
        _, (self.near, self.far) = self._guests()
        #: the networks that were confirmed, and those of which it is not known
        self.confirmed = {self.near.network}
        self.doubtful: set[str] = set()
        self.number = 100
        self.seconds: dict[str, list[float]] = {}

    def _guests(self) -> tuple[object, tuple[Guest, Guest]]:
        network, (near, far) = self.testbed.create_active(*self.places[:2])
        return network, (near, far)

    def operation(self) -> None:
        """Create a network or remove one; note what is known about it."""
        removable = sorted(self.confirmed - self.doubtful - {self.near.network})
        connection = self.turns.connection
        if len(removable) > 3 or (removable and self.chance.random() < 0.4):
            uuid = self.chance.choice(removable)
            try:
                connection.lookup(uuid).remove()
            except NetvirtError:
                self.doubtful.add(uuid)
                return
            self.confirmed.discard(uuid)
            return
        described = self.described()
        try:
            connection.create(described)
        except NetvirtError:
            self.doubtful.add(described.uuid)
            return
        self.confirmed.add(described.uuid)

    def described(self) -> VirtualNetwork:
        self.number += 1
        places = self.chance.sample(self.places, 3)
        return self.testbed.description(*((p, self.number) for p in places), uuid=self.number)

    def accepted(self) -> None:
        """Ask for a network again and again, until it is confirmed."""
        described = self.described()
        deadline = time.monotonic() + LATEST
        while True:
            try:
                self.turns.connection.create(described)
                break
            except AlreadyExists:
                break
            except NetvirtError as error:
                if time.monotonic() >= deadline:
                    pytest.fail(f"nothing is accepted after {LATEST} s: {error}")
                print(f"  {type(error).__name__}: {str(error)[:160]}")
                time.sleep(0.02)
        self.confirmed.add(described.uuid)

    def run(self, name: str) -> None:
        fault = FAULTS[name]
        self.turns.await_quiet()
        leader, _ = self.turns.turns()
        over = threading.Event()

        def work() -> None:
            while not over.is_set():
                self.operation()

        with Stream(self.testbed, self.near, self.far, rate=RATE) as stream:
            worker = threading.Thread(target=work)
            worker.start()
            time.sleep(self.chance.uniform(0.0, 0.3))
            fault.happen(self.turns, leader)
            began = time.monotonic()
            # What is asked for now is the next operation.
            over.set()
            try:
                self.accepted()
                took = time.monotonic() - began
                worker.join(30)
                assert not worker.is_alive(), "an operation has no end"
            finally:
                fault.undo(self.turns, leader)
            self.turns.await_quiet()
            self.check()
        print(f"{name}: {took:.2f} s, {stream.sent} frames, {len(stream.lost)} lost")
        stream.check_exactly_once()
        self.seconds.setdefault(name, []).append(took)
        assert took <= LATEST, f"the next operation was accepted after {took:.2f} s"

    def check(self) -> None:
        """What is stored is what was confirmed, once each, and the switches hold it."""
        stored = self.turns.stored()
        assert len(set(stored)) == len(stored)
        assert self.confirmed - self.doubtful <= set(stored), "a confirmed operation is lost"
        assert set(stored) <= self.confirmed | self.doubtful, "an operation that nobody asked for"
        assert sorted(n.uuid for n in self.turns.connection.descriptions()) == stored
        self.confirmed, self.doubtful = set(stored), set()
        self.testbed.eventually(self.turns.differences, "the switches hold what they should", 20)

    def end(self) -> None:
        for uuid in sorted(self.confirmed):
            try:
                self.turns.connection.lookup(uuid).remove()
            except (NetworkNotFound, NotFound):
                continue


def _rounds(turns: TakingTurns, seed: int, names: list[str]) -> None:
    rounds = Rounds(turns, random.Random(seed))
    for number, name in enumerate(names):
        print(f"round {number}, seed {seed}")
        for attempt in range(4):
            try:
                rounds.run(name)
                break
            except Void as reason:
                print(f"void: {reason}")
                assert attempt < 3
    rounds.end()
    for name, seconds in sorted(rounds.seconds.items()):
        print(f"{name}: {len(seconds)} times, median {median(seconds):.2f} s, at most {max(seconds):.2f} s")
    turns.await_quiet()
    assert list(clean(rounds.testbed)) == []
    assert turns.stored() == []
    rounds.testbed.eventually(turns.differences, "the switches hold nothing", 20)


def test_whatever_becomes_of_the_leader_traffic_and_operations_go_on(turns: TakingTurns) -> None:
    # What a cluster does without a member, and a leader without the cluster, is tested without switches, too.
    names = ["killed", "frozen", "cut off from the switches"]
    chance = random.Random(int(SEED or 1412))
    _rounds(turns, int(SEED or 1412), [chance.choice(list(FAULTS)) for _ in range(int(MORE))] or names)
