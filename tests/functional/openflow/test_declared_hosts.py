"""A declared MAC address that is used at another endpoint: dropped in the switch, and reported."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from libnetvirt import Endpoint, Event, Forwarding, Network, VirtualNetwork
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.stream import EventReader
from libnetvirt.conformance.support.testbed import Testbed, clean
from tests.support.openflow_harness import OpenFlow
from tests.support.promised_times import by

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

AUDIT = 0.3
DECLARED = "02:00:00:00:00:a1"
#: until a frame that was dropped is reported: a reading, and what Open vSwitch takes to count it
REPORTED = partial(by, 3.0)


@pytest.fixture(scope="module")
def harness(private_namespace: None) -> Iterator[OpenFlow]:  # noqa: ARG001
    with OpenFlow(2, [(1, 2)], hosts=2, options=f"&audit={AUDIT}") as harness:
        yield harness


@pytest.fixture
def testbed(harness: OpenFlow) -> Iterator[Testbed]:
    testbed = Testbed(harness, None)
    yield testbed
    assert list(clean(testbed)) == []


def create(harness: OpenFlow, forwarding: Forwarding) -> Network:
    """Endpoints 1 and 3 on switch 1, 2 on switch 2; `DECLARED` is at endpoint 1."""
    ends = [
        Endpoint(uuid=n, switch=s, port=p, mac=[DECLARED] if n == 1 else [], address=[f"10.0.{n}.1/24"])
        for n, (s, p) in enumerate([(1, 1), (2, 1), (1, 2)], 1)
    ]
    if forwarding is Forwarding.L2:
        ends = [end.changed(address=[]) for end in ends]
    return harness.connection.create(
        VirtualNetwork(uuid=7, name="blue", forwarding=forwarding, endpoints=ends)
    )


def refused(reader: EventReader) -> list[Event]:
    return [e for e in reader.events if e.kind == "host.refused"]


def test_frames_from_another_endpoint_are_dropped_and_reported_and_allowed_once_they_are_no_longer_declared(
    testbed: Testbed, harness: OpenFlow
) -> None:
    network = create(harness, Forwarding.L2)
    reader = EventReader(harness.connection)
    _, other, third = testbed.guests(network)
    here, impostor = (testbed.guest(network, end, DECLARED) for end in network.description().endpoints[:2])
    # Where it is declared, it may send, and that is not reported.
    frame = frames.marked(DECLARED, other.mac, b"from its own place")
    testbed.announce(other, third)
    assert testbed.exchange(here, frame) == [other.arrival(frame)]
    assert refused(reader) == []
    stolen = frames.marked(DECLARED, third.mac, b"from another one")
    assert testbed.exchange(impostor, stolen) == []
    testbed.eventually(lambda: not refused(reader), "it is reported", REPORTED())
    (event,) = refused(reader)
    assert (event.network, event.switch, event.fields["mac"]) == ("7", "2", DECLARED)
    assert "network blue" in event.message
    # The address moves: nothing that was there for the declaration is in its way.
    network.modify_endpoint(1, mac=[])
    testbed.await_traffic(impostor, third)
    assert testbed.exchange(impostor, stolen) == [third.arrival(stolen)]
    assert len(refused(reader)) == 1


def test_it_is_reported_in_routed_networks_too(testbed: Testbed, harness: OpenFlow) -> None:
    network = create(harness, Forwarding.L3)
    reader = EventReader(harness.connection)
    end = network.description().endpoints[2]
    impostor = testbed.guest(network, end, DECLARED)
    testbed.send(impostor, frames.marked(DECLARED, "ff:ff:ff:ff:ff:ff", b"from another one"))
    testbed.eventually(lambda: not refused(reader), "it is reported", REPORTED())
    assert [(e.switch, e.fields["mac"]) for e in refused(reader)] == [("1", DECLARED)]
