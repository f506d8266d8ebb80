"""Links, switches, hosts and controllers fail, and networks survive it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest

from libnetvirt import Network, State
from libnetvirt.conformance.harness import Ability
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.frames import BROADCAST
from libnetvirt.conformance.support.stream import Stream
from libnetvirt.conformance.support.testbed import Bench, Guest
from libnetvirt.model import Link

#: seconds without traffic that a cut link may cost
OUTAGE = 1.0


def _switches_between(network: Network, a: Guest, b: Guest) -> list[str]:
    paths = {(path.source, path.destination): path.hops for path in network.paths()}
    return [hop.switch for hop in paths[a.endpoint, b.endpoint]]


@contextmanager
def _cut(bench: Bench, *links: tuple[str, str]) -> Iterator[None]:
    for a, b in links:
        bench.harness.cut(a, b)
    try:
        yield
    finally:
        for a, b in links:
            bench.harness.mend(a, b)
        bench.await_links()


def _seen_up(bench: Bench, ends: tuple[str, str]) -> list[Link]:
    """In which directions the driver takes a link for up."""
    links = bench.harness.connection.substrate().links
    return [x for x in links if x.up and {x.source, x.destination} == set(ends)]


def _acquainted(bench: Bench, count: int = 4) -> tuple[Network, list[Guest]]:
    network = bench.create(*bench.places(count))
    guests = bench.guests(network)
    bench.meet(*guests)
    for a in guests:
        for b in guests:
            if a is not b:
                bench.exchange(a, frames.marked(a.mac, b.mac, b"rules, please"))
    return network, guests


def _check_all(bench: Bench, guests: list[Guest]) -> None:
    for a in guests:
        frame = frames.marked(a.mac, BROADCAST, b"to all")
        assert len(bench.exchange(a, frame)) == len(guests) - 1
        for b in guests:
            if a is not b:
                frame = frames.marked(a.mac, b.mac, b"just for you")
                assert bench.exchange(a, frame) == [b.arrival(frame)]


def _remote_pair(network: Network, guests: list[Guest]) -> tuple[Guest, Guest, list[str]]:
    for a in guests:
        for b in guests:
            way = _switches_between(network, a, b) if a is not b else []
            if len(way) > 1:
                return a, b, way
    pytest.skip("no two endpoints are on different switches")


def test_a_cut_link_moves_paths_and_loses_little(bench: Bench) -> None:
    bench.need(Ability.CUT)
    network, guests = _acquainted(bench)
    a, b, way = _remote_pair(network, guests)
    cut = way[0], way[1]
    with _cut(bench):
        with Stream(bench, a, b) as stream, _cut(bench, cut):

            def unmoved() -> list[str]:
                now = _switches_between(network, a, b)
                pairs = list(pairwise(now))
                return now if not now or cut in pairs else []

            bench.eventually(unmoved, f"the path avoids the cut link {cut}")
        assert stream.gap < OUTAGE
        assert (stream.repeated, stream.strays) == ([], [])
    _check_all(bench, guests)


def test_everybody_is_reached_while_a_link_is_down(bench: Bench) -> None:
    bench.need(Ability.CUT)
    network, guests = _acquainted(bench)
    for link in bench.harness.links()[:2]:
        with _cut(bench, link):
            bench.await_traffic(*guests)
            _check_all(bench, guests)
            assert network.state().state is State.ACTIVE
        bench.await_traffic(*guests)
        _check_all(bench, guests)


def test_a_link_that_is_not_in_use_can_be_cut_without_loss(bench: Bench) -> None:
    bench.need(Ability.CUT)
    network, guests = _acquainted(bench)
    a, b, way = _remote_pair(network, guests)
    used = {frozenset(pair) for pair in pairwise(way)}
    idle = [link for link in bench.harness.links() if frozenset(link) not in used]
    with Stream(bench, a, b) as stream, _cut(bench, idle[0]):
        pass
    stream.check_unharmed()


def test_a_network_created_while_a_link_is_down_works(bench: Bench) -> None:
    bench.need(Ability.CUT)
    link = bench.harness.links()[0]
    with _cut(bench, link):
        bench.eventually(lambda: _seen_up(bench, link), f"the link {link} is known to be down")
        _, guests = _acquainted(bench, 3)
        _check_all(bench, guests)
    bench.await_traffic(*guests)
    _check_all(bench, guests)


def test_the_reachable_part_works_while_a_switch_is_cut_off(bench: Bench) -> None:
    bench.need(Ability.CUT)
    network, guests = _acquainted(bench)
    lonely, *others = guests
    links = [link for link in bench.harness.links() if lonely.place.switch in link]
    with _cut(bench, *links):
        bench.await_traffic(*others)
        bench.eventually(lambda: network.state().state is not State.DEGRADED, "the state is degraded")
        bench.await_traffic(*others)
    bench.await_traffic(*guests)
    bench.eventually(lambda: network.state().state is not State.ACTIVE, "the state is active again")
    _check_all(bench, guests)


def test_an_unplugged_endpoint_is_down_and_comes_back(bench: Bench) -> None:
    bench.need(Ability.UNPLUG)
    network, guests = _acquainted(bench, 3)
    gone, *others = guests

    def state() -> State:
        states: dict[str, State] = {e.uuid: e.state for e in network.state().endpoints}
        return states[gone.endpoint]

    bench.harness.unplug(gone.place)
    try:
        bench.eventually(lambda: state() is not State.DOWN, "the endpoint is down")
        assert network.state().state is State.DEGRADED
        bench.await_traffic(*others)
    finally:
        bench.harness.plug(gone.place)
    bench.eventually(lambda: state() is not State.ACTIVE, "the endpoint is active again")
    bench.await_traffic(*guests)
    bench.meet(*guests)
    _check_all(bench, guests)


def test_a_restarted_switch_gets_its_rules_back(bench: Bench) -> None:
    bench.need(Ability.RESTART_SWITCH)
    network, guests = _acquainted(bench)
    for guest in guests[:2]:
        bench.harness.restart_switch(guest.place.switch)
        bench.await_links()
        bench.await_traffic(*guests)
        bench.eventually(lambda: network.state().state is not State.ACTIVE, "the network is active")
        _check_all(bench, guests)


def test_a_network_is_removed_wholly_after_a_switch_restart(bench: Bench) -> None:
    bench.need(Ability.RESTART_SWITCH, Ability.LEFTOVERS)
    network, guests = _acquainted(bench)
    bench.harness.restart_switch(guests[0].place.switch)
    bench.await_links()
    bench.await_traffic(*guests)
    network.remove()
    assert bench.harness.leftovers() == []


def test_a_restarted_controller_loses_no_frame_and_no_state(bench: Bench) -> None:
    bench.need(Ability.RESTART_CONTROLLER)
    network, guests = _acquainted(bench)
    uuid, before = network.uuid, bench.harness.connection.descriptions()
    with Stream(bench, guests[0], guests[1]) as stream:
        bench.harness.kill_controller()
        bench.harness.start_controller()
        bench.await_links()
        assert bench.harness.connection.descriptions() == before
        network = bench.harness.connection.lookup(uuid)
        bench.eventually(lambda: network.state().state is not State.ACTIVE, "the network is active")
    stream.check_unharmed()
    bench.meet(*guests)
    _check_all(bench, guests)
    with Stream(bench, guests[0], guests[1]) as stream:
        network.remove_endpoint(guests[3].endpoint)
    stream.check_unharmed()


def test_a_change_while_the_controller_is_away_is_made_up_for(bench: Bench) -> None:
    bench.need(Ability.RESTART_CONTROLLER, Ability.CUT, Ability.RESTART_SWITCH)
    network, guests = _acquainted(bench)
    uuid = network.uuid
    link = bench.harness.links()[0]
    bench.harness.kill_controller()
    bench.harness.cut(*link)
    bench.harness.restart_switch(guests[2].place.switch)
    bench.harness.start_controller()
    try:
        bench.meet_again(*guests)
        _check_all(bench, guests)
    finally:
        bench.harness.mend(*link)
        bench.await_links()
    assert bench.harness.connection.lookup(uuid).description().uuid == uuid
    bench.await_traffic(*guests)
    _check_all(bench, guests)
