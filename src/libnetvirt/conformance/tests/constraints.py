"""Constraints on paths: admission, enforcement, changes under traffic, and no effect on other traffic.

A driver may offer some of these features, or none. It refuses those that it does not offer, with a reason.
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
from libnetvirt.conformance.support.rate_probe import FRAME_BYTES, FRAMES, LOW_LIMIT, MIN_ARRIVED, probe_rate
from libnetvirt.conformance.support.router_testbed import RouterNetwork
from libnetvirt.conformance.support.stream import Stream, repeated_if_void
from libnetvirt.conformance.support.testbed import Guest, Testbed
from libnetvirt.errors import (
    AlreadyExists,
    ConstraintNotFound,
    ConstraintUnmet,
    InvalidDescription,
    Unsupported,
)

#: for each feature, a constraint that every path meets (a maximum latency if the links' latency is known)
SATISFIABLE: Mapping[str, dict[str, Any]] = {
    "constraint.max-hops": {"max_hops": 255},
    "constraint.max-bandwidth": {"max_bandwidth": "1 Gbit/s"},
    "constraint.min-bandwidth": {"min_bandwidth": "1 Mbit/s"},
    "constraint.max-latency": {"max_latency": "1 s"},
}
STATISTICS = "constraint.statistics"


def _satisfiable(testbed: Testbed) -> dict[str, Any]:
    """A constraint that the driver offers and that every path meets; skips the test if there is none."""
    for feature, asked in SATISFIABLE.items():
        if testbed.offers(feature) and feature != "constraint.max-latency":
            return asked
    pytest.skip("the driver does not offer constraints")


def _states(network: Network) -> dict[tuple[str, str], State]:
    return {(c.source, c.destination): c.state for c in network.state().constraints}


def _reserved(testbed: Testbed) -> dict[tuple[str, str], int]:
    """Reserved bit/s of each link that has a reservation, by its source switch and port."""
    links = testbed.harness.connection.substrate().links
    return {(link.source, link.source_port): link.reserved for link in links if link.reserved}


def _path_links(network: Network, source: str, destination: str) -> list[tuple[str, str]]:
    """The links of a path, by their source switch and port."""
    hops = {(p.source, p.destination): p.hops for p in network.paths()}[source, destination]
    return [(hop.switch, hop.out_port) for hop in hops[:-1]]


@pytest.fixture
def constraint_testbed(request: pytest.FixtureRequest, testbed: Testbed) -> Testbed:
    """The testbed, if the driver offers constraints with these rules options; skips the test otherwise.

    The module's ``CONSTRAINT_OPTIONS``, if there are any, have to be offered.
    """
    asked = _satisfiable(testbed)
    network = testbed.create(*testbed.places(2))
    try:
        network.add_constraint(source=1, destination=2, **asked)
    except Unsupported as error:
        if hasattr(request.module, "CONSTRAINT_OPTIONS"):
            raise
        pytest.skip(str(error))
    finally:
        network.remove()
    return testbed


def _fully_constrained(testbed: Testbed, places: Sequence[Any]) -> tuple[Network, list[Guest]]:
    """A network with a constraint for each pair of endpoints."""
    asked = _satisfiable(testbed)
    network = testbed.create(*places)
    for a, b in permutations(network.description().by_uuid, 2):
        network.add_constraint(source=a, destination=b, **asked)
    return network, testbed.guests(network)


def test_unsupported_features_are_refused_with_the_reason(default_testbed: Testbed) -> None:
    testbed = default_testbed
    reasons = testbed.harness.connection.capabilities().reasons
    network = testbed.create(*testbed.places(2))
    uses: dict[str, Callable[[], object]] = {
        STATISTICS: network.constraint_statistics,
        "endpoint.limits": partial(network.modify_endpoint, "1", bandwidth={"inbound": "1 Mbit/s"}),
    }
    for feature, asked in SATISFIABLE.items():
        uses[feature] = partial(network.add_constraint, source=1, destination=2, **asked)
    missing = [feature for feature in uses if not testbed.offers(feature)]
    if not missing:
        pytest.skip("the driver offers all constraints and limits")
    before = testbed.snapshot()
    for feature in missing:
        with pytest.raises(Unsupported) as caught:
            uses[feature]()
        assert feature in str(caught.value)
        assert reasons.get(feature, "") in str(caught.value)
    assert testbed.snapshot() == before


def test_invalid_constraints_are_refused(default_testbed: Testbed) -> None:
    testbed = default_testbed
    p, q, r = testbed.places(3)
    network = testbed.create(p, q)
    other = testbed.create((p, 5), (q, 5), (r, 5))
    before = testbed.snapshot()
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
    assert testbed.snapshot() == before


def test_constraints_can_be_added_modified_and_removed(default_testbed: Testbed) -> None:
    testbed = default_testbed
    asked = _satisfiable(testbed)
    network = testbed.create(*testbed.places(2))
    testbed.announce(*testbed.guests(network))
    plain = testbed.snapshot()
    added = network.add_constraint(source=1, destination=2, **asked)
    assert network.description().constraints == (added,)
    assert _states(network) == {("1", "2"): State.ACTIVE}
    before = testbed.snapshot()
    with pytest.raises(AlreadyExists):
        network.add_constraint(source=1, destination=2, **asked)
    assert testbed.snapshot() == before
    back = network.add_constraint(source=2, destination=1, priority=7, **asked)
    changed = network.modify_constraint(source=1, destination=2, priority=9)
    assert changed == added.changed(priority=9)
    assert set(network.description().constraints) == {changed, back}
    assert _states(network) == {("1", "2"): State.ACTIVE, ("2", "1"): State.ACTIVE}
    network.remove_constraint(1, 2)
    assert _states(network) == {("2", "1"): State.ACTIVE}
    network.remove_constraint(2, 1)
    testbed.eventually(
        lambda: testbed.snapshot() != plain and "something is left",
        "the state is the same as before the constraints",
    )


def test_constraints_follow_their_endpoint_when_it_moves_or_is_removed(default_testbed: Testbed) -> None:
    testbed = default_testbed
    asked = _satisfiable(testbed)
    p, q, r = testbed.places(3)
    network = testbed.create(p, q, (r, 9))
    network.add_constraint(source=1, destination=2, **asked)
    network.add_constraint(source=2, destination=3, **asked)
    a, b, c = testbed.learned_guests(network)
    # The endpoint moves: its constraints apply to paths from and to the new place.
    network.modify_endpoint("2", switch=r.switch, port=r.port, vlan=None)
    assert _states(network) == {("1", "2"): State.ACTIVE, ("2", "3"): State.ACTIVE}
    b = testbed.guest(network, network.description().by_uuid["2"], b.mac)
    testbed.announce(b)
    testbed.check_reachability([a, b, c])
    if testbed.offers("paths"):
        ends = {(x.source, x.destination): x.hops[-1].switch for x in network.paths()}
        assert ends["1", "2"] == r.switch
    # The endpoint is removed, and its constraints with it.
    network.remove_endpoint("2")
    assert network.description().constraints == ()
    assert _states(network) == {}
    testbed.check_reachability([a, c])
    assert _reserved(testbed) == {}


def test_constraints_of_pending_endpoints_are_pending(default_testbed: Testbed) -> None:
    testbed = default_testbed
    asked = _satisfiable(testbed)
    testbed.need_feature("pending")
    p, q = testbed.places(2)
    wanted = testbed.description(p, q, Place("4000000000", "1"), Place(p.switch, "65000"))
    pairs = (1, 2), (1, 3), (4, 2), (2, 4)
    given = tuple(Constraint.model_validate({"source": a, "destination": b, **asked}) for a, b in pairs)
    wanted = wanted.changed(constraints=given)
    network = testbed.harness.connection.create(wanted, pending=True)
    assert _states(network) == {
        ("1", "2"): State.ACTIVE, ("1", "3"): State.PENDING, ("4", "2"): State.PENDING,
        ("2", "4"): State.PENDING,
    }  # fmt: skip
    assert all(c.reason for c in network.state().constraints if c.state is State.PENDING)
    a, b, *_ = testbed.guests(network)
    frame = frames.marked(a.mac, frames.BROADCAST, b"to the active endpoint")
    testbed.await_arrivals(a, frame, [b.arrival(frame)])
    network.remove_endpoint("3")
    network.remove_endpoint("4")
    assert _states(network) == {("1", "2"): State.ACTIVE}
    testbed.announce(a, b)
    testbed.check_reachability([a, b])


def test_constraints_affect_neither_forwarding_nor_isolation(constraint_testbed: Testbed) -> None:
    testbed = constraint_testbed
    p, q, r = testbed.places(3)
    _, guests = _fully_constrained(testbed, [p, (q, 5), r])
    plain = testbed.create((p, 6), q, (r, 6))
    twins = [
        testbed.guest(plain, e, g.mac) for e, g in zip(plain.description().endpoints, guests, strict=True)
    ]
    for group in (guests, twins):
        testbed.announce(*group)
        testbed.check_reachability(group)
    for one, other in zip(guests, twins, strict=True):
        frame = frames.marked(one.mac, "02:00:00:00:77:77", b"to nobody")
        assert len(testbed.exchange(one, frame)) == len(testbed.exchange(other, frame)) == 2


@repeated_if_void
def test_changes_of_constraints_lose_no_frame_of_other_pairs(default_testbed: Testbed) -> None:
    testbed = default_testbed
    asked = _satisfiable(testbed)
    network = testbed.create(*testbed.places(4))
    _, _, c, d = testbed.learned_guests(network)
    with Stream(testbed, c, d) as stream:
        for _ in range(3):
            network.add_constraint(source=1, destination=2, **asked)
            network.add_constraint(source=1, destination=4, **asked)
            network.modify_constraint(source=1, destination=2, priority=5, **asked)
            network.remove_constraint(1, 2)
            network.remove_constraint(1, 4)
    stream.check_exactly_once()


def test_a_maximum_applies_to_its_pair_and_direction_only(default_testbed: Testbed) -> None:
    testbed = default_testbed
    testbed.need_feature("constraint.max-bandwidth")
    network = testbed.create(*testbed.places(3))
    a, b, c = testbed.learned_guests(network)
    network.add_constraint(source=1, destination=2, max_bandwidth=LOW_LIMIT)
    assert probe_rate(testbed, a, b).limited
    assert probe_rate(testbed, b, a).unlimited
    assert probe_rate(testbed, a, c).unlimited
    if testbed.offers(STATISTICS):

        def uncounted() -> object:
            (counted,) = network.constraint_statistics()
            passed, dropped = counted.packets, counted.dropped_packets
            assert counted.bytes == FRAME_BYTES * passed
            return not MIN_ARRIVED <= passed + dropped <= FRAMES and (passed, dropped)

        testbed.eventually(uncounted, "carried and dropped packets are counted")
    network.remove_constraint(1, 2)
    assert probe_rate(testbed, a, b).unlimited


def test_a_minimum_is_admitted_while_it_fits(default_testbed: Testbed) -> None:
    testbed = default_testbed
    testbed.need_feature("constraint.min-bandwidth", "paths")
    connection = testbed.harness.connection
    p, q = testbed.places(2)
    most = max((link.free for link in connection.substrate().links), default=0)
    if not most:
        pytest.skip("the capacities of the substrate's links are not known")
    networks = [testbed.create((p, 10 + n), (q, 10 + n)) for n in range(8)]
    asked = Constraint(source="1", destination="2", min_bandwidth=Bandwidth(most * 3 // 5))
    admitted: list[Network] = []
    for network in networks:
        before = testbed.snapshot(), _reserved(testbed)
        try:
            connection.check(network.description().changed(constraints=(asked,)))
            fits = True
        except ConstraintUnmet:
            fits = False
        assert (testbed.snapshot(), _reserved(testbed)) == before, "check() changed something"
        if not fits:
            with pytest.raises(ConstraintUnmet):
                network.add_constraint(asked)
            assert (testbed.snapshot(), _reserved(testbed)) == before
            break
        network.add_constraint(asked)
        admitted.append(network)
    assert admitted, "a minimum below the free capacity was refused"
    assert len(admitted) < len(networks), "more than the capacity was admitted"
    reserved: dict[tuple[str, str], int] = {}
    for network in admitted:
        assert _states(network) == {("1", "2"): State.ACTIVE}
        for link in _path_links(network, "1", "2"):
            reserved[link] = reserved.get(link, 0) + int(asked.min_bandwidth or 0)
    assert _reserved(testbed) == reserved
    assert all(0 <= link.free <= link.capacity - link.reserved for link in connection.substrate().links)
    admitted[0].remove_constraint(1, 2)
    networks[-1].add_constraint(asked)


def test_a_path_has_no_more_switches_than_max_hops(default_testbed: Testbed) -> None:
    testbed = default_testbed
    testbed.need_feature("constraint.max-hops", "paths")
    testbed.need(Ability.CUT)
    one, other = testbed.harness.links()[0]
    hosts = {place.switch: place for place in testbed.harness.host_ports()}
    network = testbed.create(hosts[one], hosts[other])
    a, b = testbed.learned_guests(network)
    with pytest.raises(ConstraintUnmet, match="max-hops"):
        network.add_constraint(source=1, destination=2, max_hops=1)
    network.add_constraint(source=1, destination=2, max_hops=2)
    assert len(_path_links(network, "1", "2")) == 1
    testbed.harness.cut_link(one, other)
    try:
        # The path around the ring has too many hops: traffic takes it, and the state is degraded.
        testbed.eventually(
            lambda: _states(network)["1", "2"] is not State.DEGRADED, "the constraint is degraded"
        )
        assert all(c.reason for c in network.state().constraints)
        testbed.announce_after_failure(a, b)
        assert len(_path_links(network, "1", "2")) > 1
    finally:
        testbed.harness.restore_link(one, other)
        testbed.await_links()
    testbed.eventually(lambda: _states(network)["1", "2"] is not State.ACTIVE, "the constraint is met again")
    assert len(_path_links(network, "1", "2")) == 1
    testbed.check_reachability([a, b])


def test_constraints_survive_a_restart_of_the_controller(default_testbed: Testbed) -> None:
    testbed = default_testbed
    asked = _satisfiable(testbed)
    testbed.need_feature("durable")
    testbed.need(Ability.RESTART_CONTROLLER)
    network = testbed.create(*testbed.places(3))
    network.add_constraint(source=1, destination=2, priority=4, **asked)
    network.add_constraint(source=3, destination=1, **asked)
    guests = testbed.learned_guests(network)
    before = network.description(), _states(network), _reserved(testbed)
    testbed.harness.kill_controller()
    testbed.harness.start_controller()
    again = testbed.harness.connection.lookup(network.uuid)

    def different() -> object:
        now = again.description(), _states(again), _reserved(testbed)
        return now != before and now

    testbed.eventually(different, "constraints and reservations are the same as before")
    testbed.announce_after_failure(*guests)
    testbed.check_reachability(guests)


def test_constraints_of_a_router_do_not_affect_routing(default_testbed: Testbed) -> None:
    testbed = default_testbed
    asked = _satisfiable(testbed)
    testbed.need_feature("forwarding.L3")
    router = RouterNetwork(testbed, testbed.places(3))
    router.resolve_gateway()
    network = router.network
    pairs = list(permutations(network.description().by_uuid, 2))
    try:
        for a, b in pairs:
            network.add_constraint(source=a, destination=b, **asked)
    except Unsupported as error:
        pytest.skip(str(error))
    assert _states(network) == dict.fromkeys(pairs, State.ACTIVE)
    router.await_all()
    router.check_all()
    for a, b in pairs:
        network.remove_constraint(a, b)
    assert _states(network) == {}
    router.check_all()


def test_constraints_in_the_format_of_2012_are_applied_and_written_back(default_testbed: Testbed) -> None:
    testbed = default_testbed
    p, q = testbed.places(2)
    testbed.need_feature("constraint.min-bandwidth", "constraint.max-bandwidth")
    if not all(word.isdigit() for place in (p, q) for word in place):
        pytest.skip("the format of 2012 identifies switches and ports by numbers")
    text = f"""<?xml version="1.0"?>
        <description xmlns="http://www.sail-project.eu/fns"><fns name="old" uuid="2012">
        <endpoint uuid="1"><swId>{p.switch}</swId><port>{p.port}</port><vlan>65535</vlan></endpoint>
        <endpoint uuid="2"><swId>{q.switch}</swId><port>{q.port}</port><vlan>65535</vlan></endpoint>
        <forwarding>l2</forwarding>
        <constraint type="minBw" src="1" dst="2" value="3"/>
        <constraint type="maxBw" src="1" dst="2" value="5"/>
        <constraint type="maxBw" src="2" dst="1" value="4"/></fns></description>"""
    network = testbed.harness.connection.create(text)
    assert {c.key: c.asked for c in network.description().constraints} == {
        ("1", "2"): {"min-bandwidth": 3_000_000, "max-bandwidth": 5_000_000},
        ("2", "1"): {"max-bandwidth": 4_000_000},
    }
    assert _states(network) == {("1", "2"): State.ACTIVE, ("2", "1"): State.ACTIVE}
    assert set(_reserved(testbed).values()) == {3_000_000}
    testbed.learned_guests(network)
    written = formats.write([network.description()], "fns")
    assert formats.read(written) == [network.description()]
    assert '<constraint type="minBw" src="1" dst="2" value="3"/>' in written
