"""Reports of a driver about its networks and its substrate: states, paths, counters, rules, events."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest

from libnetvirt import State
from libnetvirt.conformance.harness import Ability
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.frames import BROADCAST
from libnetvirt.conformance.support.stream import EventReader
from libnetvirt.conformance.support.testbed import Testbed

#: seconds until the counters of switches include all forwarded frames, on a machine that is not too busy
COUNTER_DELAY = 1.2


def test_the_substrate_shows_switches_ports_and_links(default_testbed: Testbed) -> None:
    testbed = default_testbed
    substrate = testbed.harness.connection.substrate()
    assert all(switch.connected for switch in substrate.switches)
    known = {(s.id, str(port.number)) for s in substrate.switches for port in s.ports}
    known |= {(s.id, port.name) for s in substrate.switches for port in s.ports}
    assert {tuple(place) for place in testbed.harness.host_ports()} <= known
    pairs = {frozenset((link.source, link.destination)) for link in substrate.links if link.up}
    assert pairs == {frozenset(pair) for pair in testbed.harness.links()}
    ends = {
        (link.source, link.source_port, link.destination, link.destination_port) for link in substrate.links
    }
    assert all((c, d, a, b) in ends for a, b, c, d in ends)


def test_the_substrate_shows_the_use_of_ports(default_testbed: Testbed) -> None:
    testbed = default_testbed
    p, q = testbed.places(2)
    testbed.create(p, (q, 20))
    use = {
        (s.id, name): port.use
        for s in testbed.harness.connection.substrate().switches
        for port in s.ports
        for name in (str(port.number), port.name)
    }
    assert use[p.switch, p.port] == use[q.switch, q.port] == "endpoint"
    for link in testbed.harness.connection.substrate().links:
        assert use[link.source, link.source_port] == "link"


def test_state_shows_endpoints_and_hosts(testbed: Testbed) -> None:
    network = testbed.create(*testbed.places(3))
    a, b, c = testbed.guests(network)
    state = network.state()
    assert (state.uuid, state.name) == (network.uuid, network.description().name)
    assert state.state is State.ACTIVE
    assert {(e.uuid, e.state) for e in state.endpoints} == {(g.endpoint, State.ACTIVE) for g in (a, b, c)}
    assert state.hosts == ()
    testbed.announce(a, b)
    assert {(h.mac, h.endpoint, h.source) for h in network.state().hosts} == {
        (g.mac, g.endpoint, "learned") for g in (a, b)
    }
    assert state.mtu == 0 or 1280 <= state.mtu <= 9000


def test_paths_lead_from_endpoint_to_endpoint(testbed: Testbed) -> None:
    testbed.need_feature("paths")
    network = testbed.create(*testbed.places(4))
    guests = testbed.guests(network)
    testbed.announce(*guests)
    for a in guests:
        for b in guests:
            if a is not b:
                testbed.exchange(a, frames.marked(a.mac, b.mac, b"install the rules"))
    links = {
        (link.source, link.source_port): (link.destination, link.destination_port)
        for link in testbed.harness.connection.substrate().links
    }
    by_uuid = {guest.endpoint: guest.place for guest in guests}
    paths = {(path.source, path.destination): path.hops for path in network.paths()}
    assert set(paths) == {(a.endpoint, b.endpoint) for a in guests for b in guests if a is not b}
    for (source, destination), hops in paths.items():
        assert (hops[0].switch, hops[0].in_port) == by_uuid[source]
        assert (hops[-1].switch, hops[-1].out_port) == by_uuid[destination]
        for one, following in pairwise(hops):
            assert links[one.switch, one.out_port] == (following.switch, following.in_port)


def test_statistics_count_received_and_delivered_packets(testbed: Testbed) -> None:
    testbed.need_feature("statistics")
    network = testbed.create(*testbed.places(3))
    a, b, _ = testbed.guests(network)
    testbed.announce(a, b)
    frame = frames.marked(a.mac, b.mac, b"count me")

    def counted() -> tuple[int, int]:
        counters = {c.endpoint: c for c in network.statistics()}
        assert set(counters) == {"1", "2", "3"}
        return counters["1"].received_packets, counters["2"].delivered_packets

    testbed.exchange(a, frame)
    check_counted(testbed, counted, lambda: testbed.send(a, *[frame] * 20), (20, 20))


def check_counted(
    testbed: Testbed, counted: Callable[[], Sequence[int]], send: Callable[[], None], gains: Sequence[int]
) -> None:
    """Check by how much counters grow when frames are sent. Frames of before may be counted as late as these,
    on a busy machine: then they are sent again."""
    wrong = []
    for _ in range(3):
        time.sleep(COUNTER_DELAY)
        expected = [n + gain for n, gain in zip(counted(), gains, strict=True)]
        send()

        def missing() -> object:
            found = counted()
            return any(n < least for n, least in zip(found, expected, strict=True)) and (found, expected)  # noqa: B023

        testbed.eventually(missing, "all frames are counted")
        testbed.drain()
        if (found := list(counted())) == expected:
            return
        wrong.append((found, expected))
    pytest.fail(f"more is counted than was sent, and what was expected: {wrong}")


def test_rules_are_shown_by_network(testbed: Testbed) -> None:
    testbed.need_feature("rules")
    network, other = testbed.create(*testbed.places(3)), testbed.create(*((p, 8) for p in testbed.places(3)))
    testbed.announce(*testbed.guests(network))
    connection = testbed.harness.connection
    for one in (network, other):
        lines = connection.rules(one.uuid)
        assert lines
        assert {line.network for line in lines} <= {one.uuid, one.description().name}
        assert all(line.switch and line.table and line.text for line in lines)
    assert len(connection.rules()) >= len(connection.rules(network.uuid)) + len(connection.rules(other.uuid))


def test_events_report_networks_and_links(default_testbed: Testbed) -> None:
    testbed = default_testbed
    testbed.need(Ability.CUT)
    reader = EventReader(testbed.harness.connection)
    a, b = testbed.harness.links()[0]

    def none_yet() -> bool:
        network = testbed.create(*testbed.places(2))
        network.remove()
        return not any(e.network == network.uuid for e in reader.events)

    testbed.eventually(none_yet, "an event about a network")
    testbed.harness.cut_link(a, b)
    try:
        testbed.eventually(lambda: "link.down" not in reader.kinds(), "an event link.down")
    finally:
        testbed.harness.restore_link(a, b)
    testbed.eventually(lambda: "link.up" not in reader.kinds(), "an event link.up")
    assert all(event.message and event.time > 0 for event in reader.events)
    testbed.await_links()


def test_hosts_are_removed_with_their_network(testbed: Testbed) -> None:
    wanted = testbed.description(*testbed.places(2))
    network = testbed.harness.connection.create(wanted)
    a, b = testbed.guests(network)
    testbed.announce(a, b)
    network.remove()
    testbed.current()  # what comes next is another network, though it is described alike
    network = testbed.harness.connection.create(wanted)
    assert network.state().hosts == ()
    frame = frames.marked(a.mac, BROADCAST, b"new here")
    assert testbed.exchange(a, frame) == [b.arrival(frame)]
