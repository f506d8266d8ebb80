"""Routers when something changes or fails: what is known stays known, and packets keep arriving."""

from __future__ import annotations

import pytest

from libnetvirt import Network
from libnetvirt.conformance.harness import Ability
from libnetvirt.conformance.support.router_testbed import Routed, RoutedStream
from libnetvirt.conformance.support.testbed import Bench, Guest, endpoint_at
from libnetvirt.conformance.tests.faults import OUTAGE, _cut
from libnetvirt.conformance.tests.routing import routed_bench as routed_bench


def _acquainted(bench: Bench, count: int = 3) -> Routed:
    routed = Routed(bench, bench.places(count))
    routed.introduce()
    routed.check_all()
    return routed


def _hosts(network: Network) -> set[tuple[str, str, frozenset[str]]]:
    return {(h.mac, h.endpoint, frozenset(h.addresses)) for h in network.state().hosts}


def test_a_change_of_a_router_disturbs_no_other_packets(routed_bench: Bench) -> None:
    bench = routed_bench
    places = bench.places(5)
    routed = _acquainted(bench)
    with RoutedStream(routed, routed.v4[1], routed.v4[2]) as stream:
        for n, place in enumerate(places[3:], 4):
            address = (f"10.0.{n}.254/24", f"fd00:{n}::fe/64")
            routed.network.add_endpoint(endpoint_at(place, n, address=address))
        routed.network.modify_endpoint("3", route=[{"prefix": "10.9.0.0/16", "via": "10.0.3.7"}])
        routed.network.remove_endpoint("4")
    stream.check_unharmed()
    routed.check_all()


def test_an_endpoint_that_moves_takes_its_prefix_along(routed_bench: Bench) -> None:
    bench = routed_bench
    *places, there = bench.places(4)
    routed = Routed(bench, places)
    routed.introduce()
    routed.check_all()
    with RoutedStream(routed, routed.v4[1], routed.v4[2]) as stream:
        routed.network.modify_endpoint("3", switch=there.switch, port=there.port, vlan=77)
    stream.check_unharmed()
    old = routed.v4[3].guest
    routed.settle(3, Guest(old.network, old.endpoint, there, 77, old.mac))
    routed.introduce(routed.v4[3], routed.v6[3])
    routed.await_all()
    routed.check_all()


def test_routed_packets_take_another_way_when_a_link_is_cut(routed_bench: Bench) -> None:
    bench = routed_bench
    bench.need(Ability.CUT)
    routed = _acquainted(bench)
    for link in bench.harness.links()[:2]:
        with RoutedStream(routed, routed.v6[1], routed.v6[2]) as stream, _cut(bench, link):
            pass
        assert stream.gap < OUTAGE
        assert (stream.repeated, stream.strays) == ([], [])
        routed.await_all()
        routed.check_all()


def test_a_restarted_switch_routes_again(routed_bench: Bench) -> None:
    bench = routed_bench
    bench.need(Ability.RESTART_SWITCH)
    routed = _acquainted(bench)
    bench.harness.restart_switch(routed.v4[1].guest.place.switch)
    bench.await_links()
    routed.await_all()
    routed.check_all()


def test_a_restarted_controller_loses_no_packet_and_no_neighbour(routed_bench: Bench) -> None:
    bench = routed_bench
    bench.need(Ability.RESTART_CONTROLLER)
    routed = _acquainted(bench)
    uuid = routed.network.uuid
    before = _hosts(routed.network)
    with RoutedStream(routed, routed.v4[1], routed.v4[2]) as stream:
        bench.harness.kill_controller()
        bench.harness.start_controller()
        bench.await_links()
    stream.check_unharmed()
    routed.network = bench.harness.connection.lookup(uuid)
    assert _hosts(routed.network) == before
    routed.check_all()


@pytest.mark.parametrize("vlan", [None, 30])
def test_a_router_leaves_nothing_behind(routed_bench: Bench, vlan: int | None) -> None:
    bench = routed_bench
    routed = Routed(bench, bench.places(3), vlan)
    routed.introduce()
    routed.network.remove()
    if Ability.LEFTOVERS in bench.harness.abilities:
        assert bench.harness.leftovers() == []
