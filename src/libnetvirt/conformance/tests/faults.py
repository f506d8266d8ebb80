"""Failures of links, switches, hosts and the controller, and the recovery from them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest

from libnetvirt import Network, State
from libnetvirt.conformance.harness import Ability
from libnetvirt.conformance.support.stream import Stream, repeated_if_void
from libnetvirt.conformance.support.testbed import Guest, Testbed
from libnetvirt.model import Link

#: the longest interruption of traffic, in seconds, that a cut link may cause
OUTAGE = 1.0


def _switches_between(network: Network, a: Guest, b: Guest) -> list[str]:
    paths = {(path.source, path.destination): path.hops for path in network.paths()}
    return [hop.switch for hop in paths[a.endpoint, b.endpoint]]


@contextmanager
def _cut(testbed: Testbed, *links: tuple[str, str]) -> Iterator[None]:
    for a, b in links:
        testbed.harness.cut_link(a, b)
    try:
        yield
    finally:
        for a, b in links:
            testbed.harness.restore_link(a, b)
        testbed.await_links()


def _up_directions(testbed: Testbed, ends: tuple[str, str]) -> list[Link]:
    """The directions of a link that the driver reports to be up."""
    links = testbed.harness.connection.substrate().links
    return [x for x in links if x.up and {x.source, x.destination} == set(ends)]


def _remote_pair(network: Network, guests: list[Guest]) -> tuple[Guest, Guest, list[str]]:
    for a in guests:
        for b in guests:
            path = _switches_between(network, a, b) if a is not b else []
            if len(path) > 1:
                return a, b, path
    pytest.skip("no two endpoints are on different switches")


@repeated_if_void
def test_traffic_is_rerouted_within_a_second_when_a_link_is_cut(testbed: Testbed) -> None:
    testbed.need(Ability.CUT)
    network, guests = testbed.create_active(*testbed.places(4))
    a, b, path = _remote_pair(network, guests)
    cut = path[0], path[1]
    with _cut(testbed):
        with Stream(testbed, a, b) as stream, _cut(testbed, cut):

            def not_rerouted() -> list[str]:
                now = _switches_between(network, a, b)
                pairs = list(pairwise(now))
                return now if not now or cut in pairs else []

            testbed.eventually(not_rerouted, f"the path avoids the cut link {cut}")
        assert stream.gap < OUTAGE
        assert (stream.duplicates, stream.misdelivered) == ([], [])
    testbed.check_reachability(guests)


def test_all_guests_reach_each_other_while_a_link_is_down(testbed: Testbed) -> None:
    testbed.need(Ability.CUT)
    network, guests = testbed.create_active(*testbed.places(4))
    for link in testbed.harness.links()[:2]:
        with _cut(testbed, link):
            testbed.await_traffic(*guests)
            testbed.check_reachability(guests)
            assert network.state().state is State.ACTIVE
        testbed.await_traffic(*guests)
        testbed.check_reachability(guests)


@repeated_if_void
def test_a_cut_of_an_unused_link_loses_no_frame(testbed: Testbed) -> None:
    testbed.need(Ability.CUT)
    network, guests = testbed.create_active(*testbed.places(4))
    a, b, path = _remote_pair(network, guests)
    used = {frozenset(pair) for pair in pairwise(path)}
    idle = [link for link in testbed.harness.links() if frozenset(link) not in used]
    with Stream(testbed, a, b) as stream, _cut(testbed, idle[0]):
        pass
    stream.check_exactly_once()


def test_a_network_created_while_a_link_is_down_forwards(testbed: Testbed) -> None:
    testbed.need(Ability.CUT)
    link = testbed.harness.links()[0]
    with _cut(testbed, link):
        testbed.eventually(lambda: _up_directions(testbed, link), f"the link {link} is known to be down")
        _, guests = testbed.create_active(*testbed.places(3))
        testbed.check_reachability(guests)
    testbed.await_traffic(*guests)
    testbed.check_reachability(guests)


def test_the_reachable_part_forwards_while_a_switch_is_isolated(testbed: Testbed) -> None:
    testbed.need(Ability.CUT)
    network, guests = testbed.create_active(*testbed.places(4))
    isolated, *others = guests
    links = [link for link in testbed.harness.links() if isolated.place.switch in link]
    with _cut(testbed, *links):
        testbed.await_traffic(*others)
        testbed.eventually(lambda: network.state().state is not State.DEGRADED, "the state is degraded")
        testbed.await_traffic(*others)
    testbed.await_traffic(*guests)
    testbed.eventually(lambda: network.state().state is not State.ACTIVE, "the state is active again")
    testbed.check_reachability(guests)


def test_an_unplugged_endpoint_is_down_and_comes_back(testbed: Testbed) -> None:
    testbed.need(Ability.UNPLUG)
    network, guests = testbed.create_active(*testbed.places(3))
    gone, *others = guests

    def state() -> State:
        states: dict[str, State] = {e.uuid: e.state for e in network.state().endpoints}
        return states[gone.endpoint]

    testbed.harness.unplug(gone.place)
    try:
        testbed.eventually(lambda: state() is not State.DOWN, "the endpoint is down")
        assert network.state().state is State.DEGRADED
        testbed.await_traffic(*others)
    finally:
        testbed.harness.plug(gone.place)
    testbed.eventually(lambda: state() is not State.ACTIVE, "the endpoint is active again")
    testbed.await_traffic(*guests)
    testbed.announce(*guests)
    testbed.check_reachability(guests)


def test_a_restarted_switch_gets_its_rules_back(testbed: Testbed) -> None:
    testbed.need(Ability.RESTART_SWITCH)
    network, guests = testbed.create_active(*testbed.places(4))
    for guest in guests[:2]:
        testbed.harness.restart_switch(guest.place.switch)
        testbed.await_links()
        testbed.await_traffic(*guests)
        testbed.eventually(lambda: network.state().state is not State.ACTIVE, "the network is active")
        testbed.check_reachability(guests)


def test_removal_after_a_switch_restart_leaves_nothing(testbed: Testbed) -> None:
    testbed.need(Ability.RESTART_SWITCH, Ability.LEFTOVERS)
    network, guests = testbed.create_active(*testbed.places(4))
    testbed.harness.restart_switch(guests[0].place.switch)
    testbed.await_links()
    testbed.await_traffic(*guests)
    network.remove()
    assert testbed.harness.leftovers() == []


@repeated_if_void
def test_a_restarted_controller_loses_no_frame_and_no_state(testbed: Testbed) -> None:
    testbed.need(Ability.RESTART_CONTROLLER)
    network, guests = testbed.create_active(*testbed.places(4))
    uuid, before = network.uuid, testbed.harness.connection.descriptions()
    with Stream(testbed, guests[0], guests[1]) as stream:
        testbed.harness.kill_controller()
        testbed.harness.start_controller()
        testbed.await_links()
        assert testbed.harness.connection.descriptions() == before
        network = testbed.harness.connection.lookup(uuid)
        testbed.eventually(lambda: network.state().state is not State.ACTIVE, "the network is active")
    stream.check_exactly_once()
    testbed.announce(*guests)
    testbed.check_reachability(guests)
    with Stream(testbed, guests[0], guests[1]) as stream:
        network.remove_endpoint(guests[3].endpoint)
    stream.check_exactly_once()


def test_failures_during_a_controller_outage_are_repaired_after_it(testbed: Testbed) -> None:
    testbed.need(Ability.RESTART_CONTROLLER, Ability.CUT, Ability.RESTART_SWITCH)
    network, guests = testbed.create_active(*testbed.places(4))
    uuid = network.uuid
    link = testbed.harness.links()[0]
    testbed.harness.kill_controller()
    testbed.harness.cut_link(*link)
    testbed.harness.restart_switch(guests[2].place.switch)
    testbed.harness.start_controller()
    try:
        testbed.announce_after_failure(*guests)
        testbed.check_reachability(guests)
    finally:
        testbed.harness.restore_link(*link)
        testbed.await_links()
    assert testbed.harness.connection.lookup(uuid).description().uuid == uuid
    testbed.await_traffic(*guests)
    testbed.check_reachability(guests)
