"""Constraints on paths: admitted or refused, kept, changed while in use, and nothing of others is harmed.

Drivers offer some of these features, or none. What they do not offer they refuse with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import permutations
from typing import Any

import pytest

from libnetvirt import Bandwidth, Constraint, Network, State, formats
from libnetvirt.conformance.harness import Ability, Place
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.rate_probe import COUNT, MOST, SIZE, TIGHT, acquainted, flood
from libnetvirt.conformance.support.router_testbed import Routed
from libnetvirt.conformance.support.stream import Stream
from libnetvirt.conformance.support.testbed import Bench, Guest
from libnetvirt.conformance.tests.faults import _check_all
from libnetvirt.conformance.tests.operations import _snapshot
from libnetvirt.errors import (
    AlreadyExists,
    ConstraintNotFound,
    ConstraintUnmet,
    InvalidDescription,
    Unsupported,
)

#: something to ask for of each kind, that every path has (if the links' latency is known)
MILD: Mapping[str, dict[str, Any]] = {
    "constraint.max-hops": {"max_hops": 255},
    "constraint.max-bandwidth": {"max_bandwidth": "1 Gbit/s"},
    "constraint.min-bandwidth": {"min_bandwidth": "1 Mbit/s"},
    "constraint.max-latency": {"max_latency": "1 s"},
}
STATISTICS = "constraint.statistics"


def _mild(bench: Bench) -> dict[str, Any]:
    """What can be asked for of any path, whatever the driver offers of it."""
    for feature, asked in MILD.items():
        if bench.offers(feature) and feature != "constraint.max-latency":
            return asked
    pytest.skip("the driver does not offer constraints")


def _need(bench: Bench, *features: str) -> None:
    for feature in features:
        if not bench.offers(feature):
            pytest.skip(f"the driver does not offer {feature}")


def _states(network: Network) -> dict[tuple[str, str], State]:
    return {(c.source, c.destination): c.state for c in network.state().constraints}


def _reserved(bench: Bench) -> dict[tuple[str, str], int]:
    """What is promised, by the switch and port that send into a link."""
    links = bench.harness.connection.substrate().links
    return {(link.source, link.source_port): link.reserved for link in links if link.reserved}


def _way(network: Network, source: str, destination: str) -> list[tuple[str, str]]:
    """The links of a path, by the switch and port that send into them."""
    hops = {(p.source, p.destination): p.hops for p in network.paths()}[source, destination]
    return [(hop.switch, hop.out_port) for hop in hops[:-1]]


def _everybody(bench: Bench, places: Sequence[Any]) -> tuple[Network, list[Guest]]:
    """A network with a constraint for each pair of its endpoints, as far as its rules can have them."""
    asked = _mild(bench)
    try:
        network = bench.create(*places)
        for a, b in permutations(network.description().by_uuid, 2):
            network.add_constraint(source=a, destination=b, **asked)
    except Unsupported as error:
        pytest.skip(str(error))
    return network, bench.guests(network)


def test_what_is_not_offered_is_refused_with_its_reason(plain_bench: Bench) -> None:
    bench = plain_bench
    reasons = bench.harness.connection.capabilities().reasons
    network = bench.create(*bench.places(2))
    uses: dict[str, Callable[[], object]] = {
        STATISTICS: network.constraint_statistics,
        "endpoint.limits": partial(network.modify_endpoint, "1", bandwidth={"inbound": "1 Mbit/s"}),
    }
    for feature, asked in MILD.items():
        uses[feature] = partial(network.add_constraint, source=1, destination=2, **asked)
    missing = [feature for feature in uses if not bench.offers(feature)]
    if not missing:
        pytest.skip("the driver offers all constraints and limits")
    before = _snapshot(bench)
    for feature in missing:
        with pytest.raises(Unsupported) as caught:
            uses[feature]()
        assert feature in str(caught.value)
        assert reasons.get(feature, "") in str(caught.value)
    assert _snapshot(bench) == before


def test_constraints_that_make_no_sense_are_refused(plain_bench: Bench) -> None:
    bench = plain_bench
    p, q, r = bench.places(3)
    network = bench.create(p, q)
    other = bench.create((p, 5), (q, 5), (r, 5))
    before = _snapshot(bench)
    assert other.description().endpoint(3)
    for fields, fault in (
        ({"source": 1, "destination": 1, "max_hops": 2}, "itself"),
        ({"source": 1, "destination": 3, "max_hops": 2}, "not the uuid of an endpoint"),
        ({"source": 99, "destination": 2, "max_hops": 2}, "not the uuid of an endpoint"),
        ({"source": 1, "destination": 2, "min_bandwidth": "2 Mbit/s", "max_bandwidth": "1 Mbit/s"}, "below"),
        ({"source": 1, "destination": 2}, "asks for nothing"),
        ({"source": 1, "destination": 2, "max_bandwidth": "5"}, "unit"),
    ):
        with pytest.raises(InvalidDescription, match=fault):
            network.add_constraint(**fields)
    for absent in (
        lambda: network.remove_constraint(1, 2),
        lambda: network.modify_constraint(source=1, destination=2, max_hops=2),
    ):
        with pytest.raises(ConstraintNotFound):
            absent()
    assert _snapshot(bench) == before


def test_constraints_come_change_and_go(plain_bench: Bench) -> None:
    bench = plain_bench
    asked = _mild(bench)
    network = bench.create(*bench.places(2))
    bench.meet(*bench.guests(network))
    plain = _snapshot(bench)
    added = network.add_constraint(source=1, destination=2, **asked)
    assert network.description().constraints == (added,)
    assert _states(network) == {("1", "2"): State.ACTIVE}
    before = _snapshot(bench)
    with pytest.raises(AlreadyExists):
        network.add_constraint(source=1, destination=2, **asked)
    assert _snapshot(bench) == before
    back = network.add_constraint(source=2, destination=1, priority=7, **asked)
    changed = network.modify_constraint(source=1, destination=2, priority=9)
    assert changed == added.changed(priority=9)
    assert set(network.description().constraints) == {changed, back}
    assert _states(network) == {("1", "2"): State.ACTIVE, ("2", "1"): State.ACTIVE}
    network.remove_constraint(1, 2)
    assert _states(network) == {("2", "1"): State.ACTIVE}
    network.remove_constraint(2, 1)
    bench.eventually(lambda: _snapshot(bench) != plain and "something is left", "all is as it was")


def test_an_endpoint_takes_its_constraints_with_it(plain_bench: Bench) -> None:
    bench = plain_bench
    asked = _mild(bench)
    p, q, r = bench.places(3)
    network = bench.create(p, q, (r, 9))
    network.add_constraint(source=1, destination=2, **asked)
    network.add_constraint(source=2, destination=3, **asked)
    a, b, c = acquainted(bench, network)
    # It moves, and its constraints lead from and to the new place.
    network.modify_endpoint("2", switch=r.switch, port=r.port, vlan=None)
    assert _states(network) == {("1", "2"): State.ACTIVE, ("2", "3"): State.ACTIVE}
    b = bench.guest(network, network.description().by_uuid["2"], b.mac)
    bench.meet(b)
    _check_all(bench, [a, b, c])
    if bench.offers("paths"):
        ends = {(x.source, x.destination): x.hops[-1].switch for x in network.paths()}
        assert ends["1", "2"] == r.switch
    # It goes, and they with it.
    network.remove_endpoint("2")
    assert network.description().constraints == ()
    assert _states(network) == {}
    _check_all(bench, [a, c])
    assert _reserved(bench) == {}


def test_a_constraint_waits_for_its_endpoint(plain_bench: Bench) -> None:
    bench = plain_bench
    asked = _mild(bench)
    _need(bench, "pending")
    p, q = bench.places(2)
    wanted = bench.description(p, q, Place("4000000000", "1"), Place(p.switch, "65000"))
    pairs = (1, 2), (1, 3), (4, 2), (2, 4)
    given = tuple(Constraint.model_validate({"source": a, "destination": b, **asked}) for a, b in pairs)
    wanted = wanted.changed(constraints=given)
    network = bench.harness.connection.create(wanted, pending=True)
    assert _states(network) == {
        ("1", "2"): State.ACTIVE, ("1", "3"): State.PENDING, ("4", "2"): State.PENDING,
        ("2", "4"): State.PENDING,
    }  # fmt: skip
    assert all(c.reason for c in network.state().constraints if c.state is State.PENDING)
    a, b, *_ = bench.guests(network)
    frame = frames.marked(a.mac, frames.BROADCAST, b"us two")
    bench.await_arrivals(a, frame, [b.arrival(frame)])
    network.remove_endpoint("3")
    network.remove_endpoint("4")
    assert _states(network) == {("1", "2"): State.ACTIVE}
    bench.meet(a, b)
    _check_all(bench, [a, b])


def test_constraints_harm_no_frame_and_no_isolation(bench: Bench) -> None:
    p, q, r = bench.places(3)
    _, guests = _everybody(bench, [p, (q, 5), r])
    plain = bench.create((p, 6), q, (r, 6))
    twins = [bench.guest(plain, e, g.mac) for e, g in zip(plain.description().endpoints, guests, strict=True)]
    for some in (guests, twins):
        bench.meet(*some)
        _check_all(bench, some)
    for one, other in zip(guests, twins, strict=True):
        frame = frames.marked(one.mac, "02:00:00:00:77:77", b"to nobody")
        assert len(bench.exchange(one, frame)) == len(bench.exchange(other, frame)) == 2


def test_constraints_change_without_harm_to_others(plain_bench: Bench) -> None:
    bench = plain_bench
    asked = _mild(bench)
    network = bench.create(*bench.places(4))
    _, _, c, d = acquainted(bench, network)
    with Stream(bench, c, d) as stream:
        for _ in range(3):
            network.add_constraint(source=1, destination=2, **asked)
            network.add_constraint(source=1, destination=4, **asked)
            network.modify_constraint(source=1, destination=2, priority=5, **asked)
            network.remove_constraint(1, 2)
            network.remove_constraint(1, 4)
    stream.check_unharmed()


def test_a_maximum_holds_for_its_pair_and_direction_only(plain_bench: Bench) -> None:
    bench = plain_bench
    _need(bench, "constraint.max-bandwidth")
    network = bench.create(*bench.places(3))
    a, b, c = acquainted(bench, network)
    network.add_constraint(source=1, destination=2, max_bandwidth=TIGHT)
    assert flood(bench, a, b).limited
    assert flood(bench, b, a).whole
    assert flood(bench, a, c).whole
    if bench.offers(STATISTICS):

        def uncounted() -> object:
            (counted,) = network.constraint_statistics()
            passed, dropped = counted.packets, counted.dropped_packets
            assert counted.bytes == SIZE * passed
            return not MOST <= passed + dropped <= COUNT and (passed, dropped)

        bench.eventually(uncounted, "what was carried and what was dropped is counted")
    network.remove_constraint(1, 2)
    assert flood(bench, a, b).whole


def test_a_minimum_is_admitted_as_long_as_it_fits(plain_bench: Bench) -> None:
    bench = plain_bench
    _need(bench, "constraint.min-bandwidth", "paths")
    connection = bench.harness.connection
    p, q = bench.places(2)
    most = max((link.free for link in connection.substrate().links), default=0)
    if not most:
        pytest.skip("the substrate's links have no capacity that is known")
    networks = [bench.create((p, 10 + n), (q, 10 + n)) for n in range(8)]
    asked = Constraint(source="1", destination="2", min_bandwidth=Bandwidth(most * 3 // 5))
    admitted: list[Network] = []
    for network in networks:
        before = _snapshot(bench), _reserved(bench)
        try:
            connection.check(network.description().changed(constraints=(asked,)))
            fits = True
        except ConstraintUnmet:
            fits = False
        assert (_snapshot(bench), _reserved(bench)) == before, "check has changed something"
        if not fits:
            with pytest.raises(ConstraintUnmet):
                network.add_constraint(asked)
            assert (_snapshot(bench), _reserved(bench)) == before
            break
        network.add_constraint(asked)
        admitted.append(network)
    assert admitted, "what is free cannot be had"
    assert len(admitted) < len(networks), "the same was promised too often"
    booked: dict[tuple[str, str], int] = {}
    for network in admitted:
        assert _states(network) == {("1", "2"): State.ACTIVE}
        for link in _way(network, "1", "2"):
            booked[link] = booked.get(link, 0) + int(asked.min_bandwidth or 0)
    assert _reserved(bench) == booked
    assert all(0 <= link.free <= link.capacity - link.reserved for link in connection.substrate().links)
    admitted[0].remove_constraint(1, 2)
    networks[-1].add_constraint(asked)


def test_a_path_has_no_more_switches_than_asked_for(plain_bench: Bench) -> None:
    bench = plain_bench
    _need(bench, "constraint.max-hops", "paths")
    bench.need(Ability.CUT)
    one, other = bench.harness.links()[0]
    hosts = {place.switch: place for place in bench.harness.host_ports()}
    network = bench.create(hosts[one], hosts[other])
    a, b = acquainted(bench, network)
    with pytest.raises(ConstraintUnmet, match="max-hops"):
        network.add_constraint(source=1, destination=2, max_hops=1)
    network.add_constraint(source=1, destination=2, max_hops=2)
    assert len(_way(network, "1", "2")) == 1
    bench.harness.cut(one, other)
    try:
        # The other way round has too many; frames take it all the same, and the state says so.
        bench.eventually(lambda: _states(network)["1", "2"] is not State.DEGRADED, "it is degraded")
        assert all(c.reason for c in network.state().constraints)
        bench.meet_again(a, b)
        assert len(_way(network, "1", "2")) > 1
    finally:
        bench.harness.mend(one, other)
        bench.await_links()
    bench.eventually(lambda: _states(network)["1", "2"] is not State.ACTIVE, "it is kept again")
    assert len(_way(network, "1", "2")) == 1
    _check_all(bench, [a, b])


def test_constraints_outlive_the_controller(plain_bench: Bench) -> None:
    bench = plain_bench
    asked = _mild(bench)
    _need(bench, "durable")
    bench.need(Ability.RESTART_CONTROLLER)
    network = bench.create(*bench.places(3))
    network.add_constraint(source=1, destination=2, priority=4, **asked)
    network.add_constraint(source=3, destination=1, **asked)
    guests = acquainted(bench, network)
    before = network.description(), _states(network), _reserved(bench)
    bench.harness.kill_controller()
    bench.harness.start_controller()
    again = bench.harness.connection.lookup(network.uuid)

    def different() -> object:
        now = again.description(), _states(again), _reserved(bench)
        return now != before and now

    bench.eventually(different, "all constraints are as they were")
    bench.meet_again(*guests)
    _check_all(bench, guests)


def test_constraints_of_routers_change_nothing_else(plain_bench: Bench) -> None:
    bench = plain_bench
    asked = _mild(bench)
    _need(bench, "forwarding.L3")
    routed = Routed(bench, bench.places(3))
    routed.introduce()
    network = routed.network
    pairs = list(permutations(network.description().by_uuid, 2))
    try:
        for a, b in pairs:
            network.add_constraint(source=a, destination=b, **asked)
    except Unsupported as error:
        pytest.skip(str(error))
    assert _states(network) == dict.fromkeys(pairs, State.ACTIVE)
    routed.await_all()
    routed.check_all()
    for a, b in pairs:
        network.remove_constraint(a, b)
    assert _states(network) == {}
    routed.check_all()


def test_a_description_of_2012_is_kept_and_written_again(plain_bench: Bench) -> None:
    bench = plain_bench
    p, q = bench.places(2)
    _need(bench, "constraint.min-bandwidth", "constraint.max-bandwidth")
    if not all(word.isdigit() for place in (p, q) for word in place):
        pytest.skip("the format of 2012 has numbers for switches and ports")
    text = f"""<?xml version="1.0"?>
        <description xmlns="http://www.sail-project.eu/fns"><fns name="old" uuid="2012">
        <endpoint uuid="1"><swId>{p.switch}</swId><port>{p.port}</port><vlan>65535</vlan></endpoint>
        <endpoint uuid="2"><swId>{q.switch}</swId><port>{q.port}</port><vlan>65535</vlan></endpoint>
        <forwarding>l2</forwarding>
        <constraint type="minBw" src="1" dst="2" value="3"/>
        <constraint type="maxBw" src="1" dst="2" value="5"/>
        <constraint type="maxBw" src="2" dst="1" value="4"/></fns></description>"""
    network = bench.harness.connection.create(text)
    assert {c.key: c.asked for c in network.description().constraints} == {
        ("1", "2"): {"min-bandwidth": 3_000_000, "max-bandwidth": 5_000_000},
        ("2", "1"): {"max-bandwidth": 4_000_000},
    }
    assert _states(network) == {("1", "2"): State.ACTIVE, ("2", "1"): State.ACTIVE}
    assert set(_reserved(bench).values()) == {3_000_000}
    acquainted(bench, network)
    written = formats.write([network.description()], "fns")
    assert formats.read(written) == [network.description()]
    assert '<constraint type="minBw" src="1" dst="2" value="3"/>' in written
