"""Endpoints on several ports with storm protection and limits at once: one of each, whatever the cable."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest

from libnetvirt import Network, Rules, State
from libnetvirt.conformance.harness import Place
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.aggregation import bonded, joint
from libnetvirt.conformance.support.frames import BROADCAST
from libnetvirt.conformance.support.testbed import Guest, Testbed, clean, endpoint_at
from tests.support.openflow_harness import OpenFlow
from tests.support.promised_times import by

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

RATE = 50
#: bit/s of the limits, and what a meter lets pass at once
LIMIT, BURST = 2_000_000, 400_000
GROUP = Place("1", "1"), Place("1", "2")
NEAR, FAR = Place("1", "3"), Place("2", "1")
#: so many flows that some take each cable
FLOWS = 8


@pytest.fixture(scope="module")
def harness(private_namespace: None) -> Iterator[OpenFlow]:  # noqa: ARG001
    with OpenFlow(2, [(1, 2)], hosts=3) as harness:
        yield harness


@pytest.fixture
def testbed(harness: OpenFlow, encapsulation: str) -> Iterator[Testbed]:
    testbed = Testbed(harness, Rules(encapsulation=encapsulation))
    yield testbed
    assert list(clean(testbed)) == []


KINDS = pytest.mark.parametrize(("encapsulation", "vlan"), [("vlan", None), ("mpls", 9)])


def guarded(joined: Testbed, vlan: int | None, action: str) -> tuple[Network, list[Guest]]:
    """A network with a guarded group, a host beside it and one at the other switch."""
    limits = {"inbound": f"{LIMIT} bit/s", "outbound": f"{LIMIT} bit/s"}
    storm = {"rate": RATE, "action": action}
    ends = [
        endpoint_at(joint(GROUP), 1, vlan, bandwidth=limits, storm=storm),
        endpoint_at(NEAR, 2),
        endpoint_at(FAR, 3, 30),
    ]
    network = joined.create(endpoints=ends)
    return network, joined.learned_guests(network)


def passed(
    joined: Testbed, sent: Sequence[tuple[Place, bytes]], receivers: Sequence[Place]
) -> tuple[Counter[Place], float]:
    """Send frames, a few at a time. How many have come out at each of the receivers, and how long it took."""
    began, arrived = time.monotonic(), Counter[Place]()
    for first in range(0, len(sent), 10):
        for place, frame in sent[first : first + 10]:
            joined.harness.send(place, [frame])
        arrived.update(arrival.place for arrival in joined.harness.receive(0.0))
    while found := joined.harness.receive(0.3):
        arrived.update(arrival.place for arrival in found)
    assert arrived.keys() <= set(receivers)
    return arrived, time.monotonic() - began


def through_both(guest: Guest, frame: bytes, number: int) -> list[tuple[Place, bytes]]:
    """A frame of the group, again and again, through one cable and the other."""
    return [(GROUP[n % 2], guest.on_wire(frame)) for n in range(number)]


@KINDS
def test_a_group_has_one_storm_protection_and_one_limit_each_way(
    testbed: Testbed, harness: OpenFlow, vlan: int | None
) -> None:
    with bonded(testbed, GROUP) as (joined, wires):
        network, (bond, near, far) = guarded(joined, vlan, "drop")
        joined.harness.flush_caches()
        assert harness.differences() == []
        for sender, receiver in ((bond, far), (far, bond)):
            check_limit(joined, network, sender, receiver)
        assert {place for places in wires.seen.values() for place in places} == set(GROUP)
        # Frames for everybody: the rate of the endpoint, not of each cable, and nothing comes back.
        frame, number = frames.marked(bond.mac, BROADCAST, b"storm"), 8 * RATE  # below the limit
        arrived, took = passed(joined, through_both(bond, frame, number), (near.place, far.place))
        for place in (near.place, far.place):
            assert RATE * 0.9 <= arrived[place] <= RATE * 1.1 * (took + 2), (arrived, took)
        # Frames to a host are not counted.
        frame = frames.marked(bond.mac, far.mac, b"to one")
        arrived, _ = passed(joined, through_both(bond, frame, 4 * RATE), (far.place,))
        assert arrived == {far.place: 4 * RATE}
        least = number - RATE * 1.1 * (took + 2)
        joined.eventually(lambda: least > dropped(network), "what was dropped is counted")
        assert harness.differences() == []


def dropped(network: Network) -> int:
    """How many frames of the group its storm protection has dropped."""
    return next(c.storm_dropped_packets for c in network.statistics() if c.endpoint == "1")


@KINDS
def test_a_group_is_blocked_and_released_as_a_whole(
    testbed: Testbed, harness: OpenFlow, vlan: int | None
) -> None:
    with bonded(testbed, GROUP) as (joined, _):
        network, (bond, near, far) = guarded(joined, vlan, "block")

        def state() -> State:
            return next(e.state for e in network.state().endpoints if e.uuid == "1")

        def admitted() -> set[Place]:
            """The cables through which a frame enters."""
            found = set()
            for cable in GROUP:
                frame = frames.marked(bond.mac, far.mac, b"through " + cable.port.encode())
                joined.harness.send(cable, [bond.on_wire(frame)])
                if far.arrival(frame) in joined.harness.receive(0.2):
                    found.add(cable)
            return found

        def storm() -> None:
            frame = frames.marked(bond.mac, BROADCAST, b"storm")
            passed(joined, through_both(bond, frame, 10 * RATE), (near.place, far.place))
            joined.eventually(lambda: state() is not State.DOWN, "it is blocked", by(2.5))
            joined.eventually(admitted, "nothing enters at either port")

        storm()
        # It still receives, and others are as before.
        frame = frames.marked(far.mac, bond.mac, b"to it")
        assert joined.exchange(far, frame) == [bond.arrival(frame)]
        frame = frames.marked(far.mac, near.mac, b"to another")
        assert joined.exchange(far, frame) == [near.arrival(frame)]
        (line,) = harness.connection.repair(network.uuid)
        assert "endpoint 1 of network" in line
        joined.eventually(lambda: state() is State.DOWN, "it is released", by(1.5))
        joined.eventually(lambda: admitted() != set(GROUP), "both ports admit frames")
        # Without its lowest port, by which rules know it, it is another endpoint: it is released.
        storm()
        network.modify_endpoint("1", port=GROUP[1].port)
        joined.eventually(lambda: state() is State.DOWN, "it is released", by(2.5))
        joined.eventually(lambda: admitted() != {GROUP[1]}, "the port that is left admits frames")
        network.modify_endpoint("1", port=joint(GROUP).port)
        joined.eventually(lambda: admitted() != set(GROUP), "both ports admit frames")
        joined.eventually(harness.differences, "what is replaced is removed", by(4.0))


def check_limit(joined: Testbed, network: Network, sender: Guest, receiver: Guest) -> None:
    """Frames of many flows above the limit of the group: as many pass as the limit says."""
    size, number = 1400, 600
    end = network.description().by_uuid[sender.endpoint]
    hosts = [joined.guest(network, end) for _ in range(FLOWS)]
    joined.announce(*hosts)
    joined.drain()
    texts = [
        sender.on_wire(frames.marked(host.mac, receiver.mac, b"large").ljust(size, b"\0")) for host in hosts
    ]
    places = GROUP if sender.place == GROUP[0] else (sender.place,)
    sent = [(places[n // FLOWS % len(places)], texts[n % FLOWS]) for n in range(number)]
    arrived, took = passed(joined, sent, (receiver.place,))
    bits = arrived[receiver.place] * size * 8
    assert 0.5 * BURST <= bits <= 1.1 * (BURST + LIMIT * took), (bits, took)
    assert bits < 0.9 * number * size * 8, "more was sent than may pass"
