"""Storms: an endpoint sends more frames for everybody than it may, or a customer makes a loop."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import pytest

from libnetvirt import Network
from libnetvirt.conformance import Place
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.stream import EventReader
from libnetvirt.conformance.support.testbed import Guest, Testbed, clean, endpoint_at
from libnetvirt.errors import Unsupported
from libnetvirt.model import Forwarding, State, StormAction
from tests.support.lab.delay_line import DelayLine
from tests.support.openflow_harness import OpenFlow
from tests.support.promised_times import by

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

RATE = 50
#: an address that no host has
NOBODY = "02:00:00:00:99:99"


@pytest.fixture(scope="module")
def harness(private_namespace: None) -> Iterator[OpenFlow]:  # noqa: ARG001
    with OpenFlow(2, [(1, 2)], hosts=2) as harness:
        yield harness


@pytest.fixture
def testbed(harness: OpenFlow) -> Iterator[Testbed]:
    testbed = Testbed(harness, None)
    yield testbed
    assert list(clean(testbed)) == []


@pytest.fixture(scope="module")
def events(harness: OpenFlow) -> EventReader:
    return EventReader(harness.connection)


def guarded(
    testbed: Testbed, action: StormAction = StormAction.DROP, **fields: object
) -> tuple[Network, list[Guest]]:
    """A network of three endpoints at different ports, of which the first two have storm protection."""
    places: Sequence[Place] = testbed.places(4)[:3]
    endpoints = [
        endpoint_at(place, n, storm=None if n == 3 else {"rate": RATE, "action": action})
        for n, place in enumerate(places, 1)
    ]
    network = testbed.create(endpoints=endpoints, **fields)
    testbed.harness.flush_caches()
    guests = testbed.guests(network)
    testbed.announce(*guests)
    testbed.drain()
    return network, guests


_fences = count()


def send(testbed: Testbed, guest: Guest, *sent: bytes) -> None:
    testbed.harness.send(guest.place, [guest.on_wire(frame) for frame in sent])


def got(testbed: Testbed, sender: Guest, receiver: Guest, frame: bytes) -> int:
    """How many copies of a frame that was sent have come out at a receiver. What is sent behind it to the
    receiver alone arrives behind it."""
    fence = frames.marked(sender.mac, receiver.mac, b"fence %d" % next(_fences))
    send(testbed, sender, fence)
    wanted, end, copies = receiver.arrival(frame), receiver.arrival(fence), 0

    def missing() -> bool:
        nonlocal copies
        found = testbed.harness.receive(0.1)
        copies += found.count(wanted)
        return end not in found

    testbed.eventually(missing, "what is sent behind it arrives", by(3.0))
    return copies


def burst(
    testbed: Testbed, sender: Guest, receiver: Guest, destination: str, number: int
) -> tuple[int, float]:
    """Send a frame many times. Returns how many copies have come out at a receiver, and how long it took."""
    frame = frames.marked(sender.mac, destination, b"storm" * 10)
    started, copies = time.monotonic(), 0
    for _ in range(number // 50):  # not more at once than the socket of a switch's port holds
        send(testbed, sender, *[frame] * 50)
        copies += got(testbed, sender, receiver, frame)
    return copies, time.monotonic() - started


def dropped(network: Network) -> dict[str, int]:
    """How many frames the storm protection of each endpoint has dropped."""
    return {c.endpoint: c.storm_dropped_packets for c in network.statistics()}


@pytest.mark.parametrize("encapsulation", ["vlan", "mpls"])
@pytest.mark.parametrize("destination", [frames.BROADCAST, "01:00:5e:00:00:05", NOBODY])
def test_frames_for_everybody_above_the_rate_are_dropped_and_counted(
    testbed: Testbed, encapsulation: str, destination: str
) -> None:
    network, guests = guarded(testbed, rules={"encapsulation": encapsulation})
    sender, _, receiver = guests
    number = 10 * RATE
    arrived, took = burst(testbed, sender, receiver, destination, number)
    # As many as the rate at once, and the rate from then on; a meter of a busy switch may be a little late.
    assert RATE * 0.9 <= arrived <= RATE * 1.1 * (took + 2), (arrived, took)
    # Frames to a host are not counted.
    arrived, _ = burst(testbed, sender, receiver, receiver.mac, number)
    assert arrived == number
    least = number - RATE * 1.1 * (took + 2)
    testbed.eventually(lambda: dropped(network)["1"] < least, "what was dropped is counted")
    counted = dropped(network)
    assert (counted["2"], counted["3"]) == (0, 0)
    assert network.state().state is State.ACTIVE


def test_a_storm_is_reported_when_it_begins_and_when_it_is_over(
    testbed: Testbed, events: EventReader
) -> None:
    _, guests = guarded(testbed)
    first = len(events.events)

    def kinds() -> list[str]:
        return [e.kind for e in events.events[first:] if e.kind.startswith("storm.")]

    burst(testbed, guests[0], guests[2], frames.BROADCAST, 10 * RATE)
    testbed.eventually(lambda: kinds() != ["storm.began"], "it begins", by(1.5))
    testbed.eventually(lambda: kinds() != ["storm.began", "storm.over"], "it is over", by(5.0))
    assert "more than 50 broadcast, multicast or unknown unicast frames a second" in next(
        e.message for e in events.events[first:] if e.kind == "storm.began"
    )


def test_an_endpoint_is_blocked_and_released(
    testbed: Testbed, harness: OpenFlow, events: EventReader
) -> None:
    network, guests = guarded(testbed, StormAction.BLOCK)
    sender, _, receiver = guests

    def blocked() -> bool:
        return next(e for e in network.state().endpoints if e.uuid == "1").state is State.DOWN

    def admitted() -> bool:
        frame = frames.marked(sender.mac, receiver.mac, b"admitted %d" % next(_fences))
        send(testbed, sender, frame)
        return receiver.arrival(frame) in testbed.harness.receive(0.2)

    storm = [frames.marked(sender.mac, frames.BROADCAST, b"storm" * 10)] * 50
    for remedy in ("repair", "modify"):
        for _ in range(10):
            send(testbed, sender, *storm)
        testbed.eventually(lambda: not blocked(), "it is blocked", by(1.5))
        reason = next(e.reason for e in network.state().endpoints if e.uuid == "1")
        assert re.match(r"it is blocked for \d+ s more: more than 50 broadcast", reason)
        testbed.eventually(lambda: "storm.blocked" not in events.kinds(), "there is an event")
        testbed.eventually(admitted, "nothing that it sends enters")
        rule = [line for line in harness.lab.dump(1) if "priority=65500" in line]
        assert len(rule) == 1
        assert "hard_timeout=30" in rule[0], "the switch releases it by itself"
        # It still receives, and others are as before.
        testbed.exchange(receiver, frames.marked(receiver.mac, sender.mac, b"to it"))
        if remedy == "repair":
            (line,) = harness.connection.repair(network.uuid)
            assert re.fullmatch(
                "endpoint 1 of network .* is released: it was blocked because of a storm", line
            )
        else:
            network.modify_endpoint("1", storm={"rate": 2 * RATE, "action": "block"})
        testbed.eventually(blocked, "it is released", by(1.5))
        testbed.eventually(lambda: not admitted(), "it is admitted")
    testbed.eventually(lambda: "storm.released" not in events.kinds(), "there is an event")


def test_a_loop_between_two_endpoints_is_noticed_and_bounded(
    testbed: Testbed, harness: OpenFlow, events: EventReader
) -> None:
    network, guests = guarded(testbed)
    one, two, three = guests
    near, far = (harness.lab.host_interface(int(g.place.switch), int(g.place.port)) for g in (one, two))
    frame = frames.marked(three.mac, frames.BROADCAST, b"round and round")
    copies, first = 0, len(events.events)
    with DelayLine(near, far):
        started = time.monotonic()

        def unnoticed() -> bool:
            nonlocal copies
            send(testbed, three, frame)  # as hosts do: one that goes round ends when a meter drops it
            copies += testbed.harness.receive(0.05).count(three.arrival(frame))
            return not {"host.flapping", "storm.began"} <= {e.kind for e in events.events[first:]}

        testbed.eventually(unnoticed, "the loop and its storm are noticed", by(3.0))
    copies += sum(testbed.harness.receive(0.2).count(three.arrival(frame)) for _ in range(3))
    # Both endpoints let it in again, each with its rate.
    assert copies <= 2 * RATE * 1.1 * (time.monotonic() - started + 2)
    assert "is there a loop, such as a cable between them?" in next(
        e.message for e in events.events if e.kind == "host.flapping"
    )
    assert copies >= RATE
    assert network.state().state is State.ACTIVE


@pytest.mark.parametrize("encapsulation", ["vlan", "mpls"])
def test_endpoints_that_share_a_port_get_each_frame_once(testbed: Testbed, encapsulation: str) -> None:
    here, beside, there, far = testbed.places(4)
    storm = {"rate": 1000, "action": "drop"}
    tagged = [
        endpoint_at(here, 1, 10, storm=storm),
        endpoint_at(here, 2, 20, storm=storm),
        endpoint_at(beside, 3, storm=storm),
        endpoint_at(there, 4),
        endpoint_at(far, 5, {"mpls": 100}, storm=storm),
    ]
    network = testbed.create(endpoints=tagged, rules={"encapsulation": encapsulation})
    testbed.harness.flush_caches()
    guests = testbed.guests(network)
    testbed.announce(*guests)
    for guest in guests:
        testbed.exchange(guest, frames.marked(guest.mac, frames.BROADCAST, b"for all"))
    network.modify_endpoint("1", storm=None)
    for guest in guests:
        testbed.exchange(guest, frames.marked(guest.mac, frames.BROADCAST, b"for all"))
    network.add_endpoint(endpoint_at(there, 6, 30, storm=storm))
    for guest in testbed.guests(network):
        testbed.exchange(guest, frames.marked(guest.mac, frames.BROADCAST, b"for all"))


@pytest.mark.parametrize("kept", ["any", "100-199,300"])
def test_frames_that_keep_their_customers_tags_pass_the_meter_and_are_blocked(
    testbed: Testbed, kept: str
) -> None:
    storm = {"rate": RATE, "action": "block"}
    ends = [endpoint_at(place, n, kept, storm=storm) for n, place in enumerate(testbed.places(3), 1)]
    network = testbed.create(endpoints=ends, rules={"encapsulation": "mpls"})
    testbed.harness.flush_caches()
    one, two, three = testbed.guests(network)
    sent = [frames.marked(guest.mac, frames.BROADCAST, b"kept") for guest in (one, two, three)]
    for guest, frame in zip((one, two, three), sent, strict=True):
        testbed.exchange(guest, frames.tagged(frame, frames.tag(150)))
    storming = frames.tagged(frames.marked(one.mac, frames.BROADCAST, b"storm"), frames.tag(150))
    for _ in range(10):
        send(testbed, one, *[storming] * 50)

    def states() -> list[State]:
        return [e.state for e in network.state().endpoints]

    testbed.eventually(lambda: states() != [State.DOWN, State.ACTIVE, State.ACTIVE], "it is blocked", by(1.5))
    copies = 0
    while found := testbed.harness.receive(0.3):
        copies += sum(arrival.frame == storming for arrival in found)
    # Two guests receive a copy each of what passes; what the meter does not drop, the block does.
    assert 0 < copies < 10 * RATE
    testbed.eventually(lambda: not dropped(network)["1"], "what was dropped is counted")
    counted = dropped(network)
    assert (counted["2"], counted["3"]) == (0, 0)


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        (
            {"rules": {"insertion": "on-demand"}},
            "rules vlan/on-demand/permanent cannot have storm",
        ),
        (
            {"rules": {"encapsulation": "native"}},
            "rules native/offline/permanent cannot have storm",
        ),
        ({"forwarding": Forwarding.L3}, "storm protection is for networks with forwarding L2"),
    ],
)
def test_it_is_refused_where_switches_do_not_flood(
    testbed: Testbed, fields: dict[str, object], refusal: str
) -> None:
    place = testbed.places(1)[0]
    routed: dict[str, Any] = {"address": "10.0.0.1/24"} if "forwarding" in fields else {}
    with pytest.raises(Unsupported, match=refusal):
        testbed.create(endpoints=[endpoint_at(place, 1, storm={"rate": 10}, **routed)], **fields)
