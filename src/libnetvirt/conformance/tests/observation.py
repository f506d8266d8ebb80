"""What a driver says about its networks and its substrate is so."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from libnetvirt import State
from libnetvirt.conformance.harness import Ability
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.frames import BROADCAST
from libnetvirt.conformance.support.stream import Listener
from libnetvirt.conformance.support.testbed import Bench

#: seconds after which switches have counted what they forwarded
LATE = 1.2


def test_the_substrate_shows_switches_ports_and_links(plain_bench: Bench) -> None:
    bench = plain_bench
    substrate = bench.harness.connection.substrate()
    assert all(switch.connected for switch in substrate.switches)
    known = {(s.id, str(port.number)) for s in substrate.switches for port in s.ports}
    known |= {(s.id, port.name) for s in substrate.switches for port in s.ports}
    assert {tuple(place) for place in bench.harness.host_ports()} <= known
    pairs = {frozenset((link.source, link.destination)) for link in substrate.links if link.up}
    assert pairs == {frozenset(pair) for pair in bench.harness.links()}
    ends = {
        (link.source, link.source_port, link.destination, link.destination_port) for link in substrate.links
    }
    assert all((c, d, a, b) in ends for a, b, c, d in ends)


def test_ports_say_what_they_are_used_for(plain_bench: Bench) -> None:
    bench = plain_bench
    p, q = bench.places(2)
    bench.create(p, (q, 20))
    use = {
        (s.id, name): port.use
        for s in bench.harness.connection.substrate().switches
        for port in s.ports
        for name in (str(port.number), port.name)
    }
    assert use[p.switch, p.port] == use[q.switch, q.port] == "endpoint"
    for link in bench.harness.connection.substrate().links:
        assert use[link.source, link.source_port] == "link"


def test_state_shows_endpoints_and_hosts(bench: Bench) -> None:
    network = bench.create(*bench.places(3))
    a, b, c = bench.guests(network)
    state = network.state()
    assert (state.uuid, state.name) == (network.uuid, network.description().name)
    assert state.state is State.ACTIVE
    assert {(e.uuid, e.state) for e in state.endpoints} == {(g.endpoint, State.ACTIVE) for g in (a, b, c)}
    assert state.hosts == ()
    bench.meet(a, b)
    assert {(h.mac, h.endpoint, h.source) for h in network.state().hosts} == {
        (g.mac, g.endpoint, "learned") for g in (a, b)
    }
    assert state.mtu == 0 or 1280 <= state.mtu <= 9000


def test_paths_lead_from_endpoint_to_endpoint(bench: Bench) -> None:
    if not bench.offers("paths"):
        pytest.skip("the driver does not offer paths")
    network = bench.create(*bench.places(4))
    guests = bench.guests(network)
    bench.meet(*guests)
    for a in guests:
        for b in guests:
            if a is not b:
                bench.exchange(a, frames.marked(a.mac, b.mac, b"rules, please"))
    links = {
        (link.source, link.source_port): (link.destination, link.destination_port)
        for link in bench.harness.connection.substrate().links
    }
    by_uuid = {guest.endpoint: guest.place for guest in guests}
    paths = {(path.source, path.destination): path.hops for path in network.paths()}
    assert set(paths) == {(a.endpoint, b.endpoint) for a in guests for b in guests if a is not b}
    for (source, destination), hops in paths.items():
        assert (hops[0].switch, hops[0].in_port) == by_uuid[source]
        assert (hops[-1].switch, hops[-1].out_port) == by_uuid[destination]
        for one, following in pairwise(hops):
            assert links[one.switch, one.out_port] == (following.switch, following.in_port)


def test_statistics_count_what_endpoints_sent_and_got(bench: Bench) -> None:
    if not bench.offers("statistics"):
        pytest.skip("the driver does not offer statistics")
    network = bench.create(*bench.places(3))
    a, b, _ = bench.guests(network)
    bench.meet(a, b)
    frame = frames.marked(a.mac, b.mac, b"count me")

    def counted() -> tuple[int, int]:
        counters = {c.endpoint: c for c in network.statistics()}
        assert set(counters) == {"1", "2", "3"}
        return counters["1"].received_packets, counters["2"].delivered_packets

    bench.exchange(a, frame)
    time.sleep(LATE)
    before = counted()
    bench.send(a, *[frame] * 20)
    expected = before[0] + 20, before[1] + 20
    bench.eventually(lambda: counted() != expected and (counted(), expected), "20 frames more are counted")
    bench.drain()


def test_rules_are_shown_by_network(bench: Bench) -> None:
    if not bench.offers("rules"):
        pytest.skip("the driver does not offer rules")
    network, other = bench.create(*bench.places(3)), bench.create(*((p, 8) for p in bench.places(3)))
    bench.meet(*bench.guests(network))
    connection = bench.harness.connection
    for one in (network, other):
        lines = connection.rules(one.uuid)
        assert lines
        assert {line.network for line in lines} <= {one.uuid, one.description().name}
        assert all(line.switch and line.table and line.text for line in lines)
    assert len(connection.rules()) >= len(connection.rules(network.uuid)) + len(connection.rules(other.uuid))


def test_events_tell_of_networks_and_links(plain_bench: Bench) -> None:
    bench = plain_bench
    bench.need(Ability.CUT)
    listener = Listener(bench.harness.connection)
    a, b = bench.harness.links()[0]

    def none_yet() -> bool:
        network = bench.create(*bench.places(2))
        network.remove()
        return not any(e.network == network.uuid for e in listener.events)

    bench.eventually(none_yet, "an event about a network")
    bench.harness.cut(a, b)
    try:
        bench.eventually(lambda: "link.down" not in listener.kinds(), "an event link.down")
    finally:
        bench.harness.mend(a, b)
    bench.eventually(lambda: "link.up" not in listener.kinds(), "an event link.up")
    assert all(event.message and event.time > 0 for event in listener.events)
    bench.await_links()


def test_a_host_is_forgotten_with_its_network(bench: Bench) -> None:
    wanted = bench.description(*bench.places(2))
    network = bench.harness.connection.create(wanted)
    a, b = bench.guests(network)
    bench.meet(a, b)
    network.remove()
    network = bench.harness.connection.create(wanted)
    assert network.state().hosts == ()
    frame = frames.marked(a.mac, BROADCAST, b"new here")
    assert bench.exchange(a, frame) == [b.arrival(frame)]
