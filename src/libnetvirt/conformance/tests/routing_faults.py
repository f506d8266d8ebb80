"""Routers under changes and failures: neighbours stay known, and packets are delivered."""

from __future__ import annotations

import pytest

from libnetvirt import Network
from libnetvirt.conformance.harness import Ability
from libnetvirt.conformance.support.router_testbed import RoutedPacketStream, RouterNetwork
from libnetvirt.conformance.support.stream import repeated_if_void
from libnetvirt.conformance.support.testbed import Guest, Testbed, endpoint_at
from libnetvirt.conformance.tests.faults import OUTAGE, _cut
from libnetvirt.conformance.tests.routing import router_testbed as router_testbed


def _active_router(testbed: Testbed, count: int = 3) -> RouterNetwork:
    router = RouterNetwork(testbed, testbed.places(count))
    router.resolve_gateway()
    router.check_all()
    return router


def _hosts(network: Network) -> set[tuple[str, str, frozenset[str]]]:
    return {(h.mac, h.endpoint, frozenset(h.addresses)) for h in network.state().hosts}


@repeated_if_void
def test_changes_of_a_router_lose_no_packet_of_other_endpoints(router_testbed: Testbed) -> None:
    testbed = router_testbed
    places = testbed.places(5)
    router = _active_router(testbed)
    with RoutedPacketStream(router, router.v4[1], router.v4[2]) as stream:
        for n, place in enumerate(places[3:], 4):
            address = (f"10.0.{n}.254/24", f"fd00:{n}::fe/64")
            router.network.add_endpoint(endpoint_at(place, n, address=address))
        router.network.modify_endpoint("3", route=[{"prefix": "10.9.0.0/16", "via": "10.0.3.7"}])
        router.network.remove_endpoint("4")
    stream.check_exactly_once()
    router.check_all()


@repeated_if_void
def test_a_prefix_follows_its_endpoint_when_it_moves(router_testbed: Testbed) -> None:
    testbed = router_testbed
    *places, there = testbed.places(4)
    router = RouterNetwork(testbed, places)
    router.resolve_gateway()
    router.check_all()
    with RoutedPacketStream(router, router.v4[1], router.v4[2]) as stream:
        router.network.modify_endpoint("3", switch=there.switch, port=there.port, vlan=77)
    stream.check_exactly_once()
    old = router.v4[3].guest
    router.place_hosts(3, Guest(old.network, old.endpoint, there, 77, old.mac))
    router.resolve_gateway(router.v4[3], router.v6[3])
    router.await_all()
    router.check_all()


@repeated_if_void
def test_routed_packets_are_rerouted_when_a_link_is_cut(router_testbed: Testbed) -> None:
    testbed = router_testbed
    testbed.need(Ability.CUT)
    router = _active_router(testbed)
    for link in testbed.harness.links()[:2]:
        with RoutedPacketStream(router, router.v6[1], router.v6[2]) as stream, _cut(testbed, link):
            pass
        assert stream.gap < OUTAGE
        assert (stream.duplicates, stream.misdelivered) == ([], [])
        router.await_all()
        router.check_all()


def test_a_restarted_switch_forwards_routed_packets_again(router_testbed: Testbed) -> None:
    testbed = router_testbed
    testbed.need(Ability.RESTART_SWITCH)
    router = _active_router(testbed)
    testbed.harness.restart_switch(router.v4[1].guest.place.switch)
    testbed.await_links()
    router.await_all()
    router.check_all()


@repeated_if_void
def test_a_restarted_controller_loses_no_packet_and_no_neighbour(router_testbed: Testbed) -> None:
    testbed = router_testbed
    testbed.need(Ability.RESTART_CONTROLLER)
    router = _active_router(testbed)
    uuid = router.network.uuid
    before = _hosts(router.network)
    with RoutedPacketStream(router, router.v4[1], router.v4[2]) as stream:
        testbed.harness.kill_controller()
        testbed.harness.start_controller()
        testbed.await_links()
    stream.check_exactly_once()
    router.network = testbed.harness.connection.lookup(uuid)
    assert _hosts(router.network) == before
    router.check_all()


@pytest.mark.parametrize("vlan", [None, 30])
def test_a_router_leaves_nothing_behind(router_testbed: Testbed, vlan: int | None) -> None:
    testbed = router_testbed
    router = RouterNetwork(testbed, testbed.places(3), vlan)
    router.resolve_gateway()
    router.network.remove()
    if Ability.LEFTOVERS in testbed.harness.abilities:
        assert testbed.harness.leftovers() == []
