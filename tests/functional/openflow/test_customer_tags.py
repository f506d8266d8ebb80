"""Networks that keep their customers' tags, with what a network can have beside: constraints, limits and
declared hosts; and what switches say of their rules."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from libnetvirt import Rules
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.frames import AD, BROADCAST, tag
from libnetvirt.conformance.support.testbed import Tag, Testbed, clean, endpoint_at
from tests.support.openflow_harness import OpenFlow

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

KINDS: dict[str, Tag] = {"any": "any", "set": "100-199,300", "inner": {"vlan": 20, "inner_vlan": "any"}}
STACKS = (tag(150), tag(300, tpid=AD, priority=5), tag(100) + tag(7, priority=3) + tag(7) + tag(7))


@pytest.fixture(scope="module")
def harness(private_namespace: None) -> Iterator[OpenFlow]:  # noqa: ARG001
    with OpenFlow(3, [(1, 2), (2, 3)], hosts=4) as harness:
        yield harness


@pytest.fixture
def testbed(harness: OpenFlow) -> Iterator[Testbed]:
    testbed = Testbed(harness, Rules(encapsulation="mpls"))
    yield testbed
    assert list(clean(testbed)) == []


def test_constraints_limits_and_declared_hosts_and_the_next_run_of_the_controller(
    testbed: Testbed, harness: OpenFlow
) -> None:
    ports = {switch: [p for p in harness.host_ports() if p.switch == switch] for switch in "13"}
    pairs = []
    for n, kept in enumerate(KINDS.values()):
        here, there = ports["1"][n], ports["3"][n]
        ends = [
            endpoint_at(here, 1, kept, mac=[frames.mac(2 * n + 1)], bandwidth={"inbound": "50 Mbit/s"}),
            endpoint_at(there, 2, kept, mac=[frames.mac(2 * n + 2)]),
        ]
        asked = {"source": 1, "destination": 2, "min-bandwidth": "1 Mbit/s", "max-bandwidth": "90 Mbit/s"}
        network = testbed.create(endpoints=ends, constraints=[asked])
        pairs.append([testbed.guest(network, end, end.mac[0]) for end in ends])

    def check() -> None:
        for a, b in (*pairs, *(pair[::-1] for pair in pairs)):
            for destination in (b.mac, BROADCAST):
                sent = [frames.tagged(frames.marked(a.mac, destination, b"kept"), stack) for stack in STACKS]
                assert sorted(testbed.exchange(a, *sent)) == sorted(b.arrival(frame) for frame in sent)

    check()
    # What switches report of the rules is what was sent: else every audit would find drift.
    assert harness.differences() == []
    harness.kill_controller()
    harness.start_controller()
    check()
    assert harness.differences() == []
    for network in harness.connection.networks():
        carried = [c.packets for c in network.constraint_statistics()]
        assert carried == [2 * len(STACKS)]
        received = {c.endpoint: c.received_packets for c in network.statistics()}
        assert set(received.values()) == {4 * len(STACKS)}
