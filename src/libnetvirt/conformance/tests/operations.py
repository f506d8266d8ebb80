"""Operations are atomic, are in force when they return, and do not disturb other traffic."""

from __future__ import annotations

from typing import Any

import pytest

from libnetvirt import NetvirtError, Network, State, VirtualNetwork
from libnetvirt.conformance.harness import Ability, Place
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.frames import BROADCAST
from libnetvirt.conformance.support.stream import Stream, repeated_if_void
from libnetvirt.conformance.support.testbed import Guest, Testbed, endpoint_at
from libnetvirt.errors import (
    AlreadyExists,
    EndpointClaimed,
    EndpointNotFound,
    InvalidDescription,
    NetworkNotFound,
    PortNotFound,
    SwitchNotFound,
)


def _network_with_learned_pair(testbed: Testbed, places: list[Place]) -> tuple[Network, Guest, Guest]:
    network = testbed.create(*places)
    a, b = testbed.guests(network)[:2]
    testbed.announce(a, b)
    return network, a, b


def test_traffic_flows_when_create_returns(testbed: Testbed) -> None:
    places = testbed.places(4)
    for _ in range(3):
        network = testbed.create(*places)
        a, *others = testbed.guests(network)
        frame = frames.marked(a.mac, BROADCAST, b"at once")
        testbed.await_arrivals(a, frame, [guest.arrival(frame) for guest in others])
        network.remove()


def test_nothing_flows_when_remove_returns(testbed: Testbed) -> None:
    network = testbed.create(*testbed.places(3))
    a, b, _ = testbed.guests(network)
    testbed.announce(a, b)
    network.remove()
    for destination in (b.mac, BROADCAST):
        assert testbed.exchange(a, frames.marked(a.mac, destination, b"gone")) == []
    with pytest.raises(NetworkNotFound):
        testbed.harness.connection.lookup(network.uuid)


def test_removal_leaves_nothing(testbed: Testbed) -> None:
    testbed.need(Ability.LEFTOVERS)
    p, q, r, s = testbed.places(4)
    networks = [testbed.create(p, q, r), testbed.create((p, 5), (q, 6), s), testbed.create((s, 7), (s, 8))]
    for network in networks:
        guests = testbed.guests(network)
        testbed.announce(*guests)
        testbed.exchange(guests[0], frames.marked(guests[0].mac, guests[1].mac, b"install the rules"))
    assert testbed.harness.leftovers()
    for network in networks:
        network.remove()
    assert testbed.harness.leftovers() == []


def test_names_and_places_are_free_again_after_removal(testbed: Testbed) -> None:
    wanted = testbed.description(*testbed.places(3))
    for _ in range(5):
        network = testbed.harness.connection.create(wanted)
        assert network.description() == wanted
        network.remove()
    assert testbed.harness.connection.networks() == []


def test_an_added_endpoint_sends_and_receives(testbed: Testbed) -> None:
    p, q, r = testbed.places(3)
    network = testbed.create(p, q)
    a, b = testbed.guests(network)
    testbed.announce(a, b)
    c = testbed.guest(network, network.add_endpoint(uuid=3, switch=r.switch, port=r.port, vlan=33))
    frame = frames.marked(a.mac, BROADCAST, b"welcome")
    assert sorted(testbed.exchange(a, frame)) == sorted((b.arrival(frame), c.arrival(frame)))
    testbed.announce(c)
    frame = frames.marked(b.mac, c.mac, b"welcome")
    assert testbed.exchange(b, frame) == [c.arrival(frame)]


def test_a_removed_endpoint_neither_sends_nor_receives(testbed: Testbed) -> None:
    network = testbed.create(*testbed.places(3))
    a, b, c = testbed.guests(network)
    testbed.announce(a, b, c)
    network.remove_endpoint(c.endpoint)
    assert c.mac not in {host.mac for host in network.state().hosts}
    assert testbed.inject(c.place, frames.marked(c.mac, BROADCAST, b"still here?")) == []
    for destination in (BROADCAST, c.mac):
        frame = frames.marked(a.mac, destination, b"without you")
        assert testbed.exchange(a, frame) == [b.arrival(frame)]


def test_a_modified_endpoint_is_reached_at_its_new_place(testbed: Testbed) -> None:
    p, q, r, s = testbed.places(4)
    network = testbed.create(p, q, r)
    a, b, c = testbed.guests(network)
    testbed.announce(a, b, c)
    for place, vlan in ((s, None), (s, 40), (r, 41), (p, 42), (r, None)):
        network.modify_endpoint(c.endpoint, switch=place.switch, port=place.port, vlan=vlan)
        moved = testbed.guest(network, endpoint_at(place, 3, vlan), c.mac)
        frame = frames.marked(a.mac, c.mac, b"where did you go")
        assert testbed.exchange(a, frame) == [moved.arrival(frame)]  # its hosts have moved along
        frame = frames.marked(moved.mac, b.mac, b"over here")
        assert testbed.exchange(moved, frame) == [b.arrival(frame)]
    assert testbed.inject(s, frames.marked(c.mac, BROADCAST, b"from the old place")) == []


def test_a_place_released_by_one_network_can_be_claimed_by_another(testbed: Testbed) -> None:
    p, q, r, s = testbed.places(4)
    red, blue = testbed.create(p, q, r), testbed.create(s, (q, 9))
    with pytest.raises(EndpointClaimed):
        blue.add_endpoint(uuid=3, switch=r.switch, port=r.port)
    red.remove_endpoint("3")
    taken = testbed.guest(blue, blue.add_endpoint(uuid=3, switch=r.switch, port=r.port))
    first = testbed.guests(red)[0]
    frame = frames.marked(taken.mac, BROADCAST, b"new owner")
    assert len(testbed.exchange(taken, frame)) == 2
    assert len(testbed.exchange(first, frames.marked(first.mac, BROADCAST, b"old owner"))) == 1


@pytest.mark.parametrize("change", ["add", "remove", "modify", "networks", "refused"])
@repeated_if_void
def test_changes_lose_no_frame_of_other_endpoints(testbed: Testbed, change: str) -> None:
    p, q, r, s, t = testbed.places(5)
    network, a, b = _network_with_learned_pair(testbed, [p, q, r])
    third: dict[str, Any] = {"uuid": 4, "switch": s.switch, "port": s.port}
    with Stream(testbed, a, b) as stream:
        for vlan in (None, 4, 5):
            if change in ("add", "remove"):
                network.add_endpoint(**third, vlan=vlan)
                network.remove_endpoint("4")
            elif change == "modify":
                network.modify_endpoint("3", switch=s.switch, port=s.port, vlan=vlan)
                network.modify_endpoint("3", switch=r.switch, port=r.port, vlan=vlan)
            elif change == "networks":
                other = testbed.create((p, 50), (q, 50), s, t)
                other.remove_endpoint("1")
                other.remove()
            else:
                with pytest.raises(EndpointClaimed):
                    testbed.create((s, vlan), (p, 77), q)
                with pytest.raises(PortNotFound):
                    network.add_endpoint(uuid=5, switch=s.switch, port="65000")
    stream.check_exactly_once()


@repeated_if_void
def test_removing_another_network_loses_no_frame(testbed: Testbed) -> None:
    p, q, r = testbed.places(3)
    others = [testbed.create((p, vlan), (q, vlan), (r, vlan)) for vlan in (11, 12, 13)]
    _, a, b = _network_with_learned_pair(testbed, [p, q])
    with Stream(testbed, a, b) as stream:
        for other in others:
            other.remove()
    stream.check_exactly_once()


def test_refused_operations_leave_no_trace(testbed: Testbed) -> None:
    p, q, r, s = testbed.places(4)
    network = testbed.create(p, (q, 20), r)
    testbed.create(s, (p, 99))
    taken = network.description()
    connection = testbed.harness.connection
    before = testbed.snapshot()

    def port(place: Place, **fields: Any) -> dict[str, Any]:
        return {"uuid": 9, "switch": place.switch, "port": place.port, **fields}

    def refused(error: type[NetvirtError], description: VirtualNetwork) -> None:
        with pytest.raises(error) as caught:
            connection.create(description)
        assert str(caught.value)
        assert testbed.snapshot() == before

    nowhere, no_port = Place("4000000000", "1"), Place(p.switch, "65000")
    refused(EndpointClaimed, testbed.description((s, 7), p))
    refused(EndpointClaimed, testbed.description((s, 7), (q, 20)))
    refused(SwitchNotFound, testbed.description((s, 7), nowhere))
    refused(PortNotFound, testbed.description((s, 7), no_port))
    refused(AlreadyExists, testbed.description((s, 7), name=taken.name))
    refused(AlreadyExists, testbed.description((s, 7), uuid=taken.uuid))

    added: tuple[tuple[type[NetvirtError], dict[str, Any]], ...] = (
        (AlreadyExists, port(s, uuid=1, vlan=7)),
        (EndpointClaimed, port(s)),
        (InvalidDescription, port(q, vlan=20)),
        (SwitchNotFound, port(nowhere)),
        (PortNotFound, port(no_port)),
        (InvalidDescription, port(s, vlan=5000)),
    )
    for error, fields in added:
        with pytest.raises(error):
            network.add_endpoint(**fields)
        assert testbed.snapshot() == before, fields
    modified: tuple[tuple[type[NetvirtError], dict[str, Any]], ...] = (
        (EndpointClaimed, {"switch": s.switch, "port": s.port}),
        (InvalidDescription, {"switch": q.switch, "port": q.port, "vlan": 20}),
        (SwitchNotFound, {"switch": nowhere.switch}),
        (PortNotFound, {"port": no_port.port}),
        (InvalidDescription, {"vlan": 0}),
    )
    for error, fields in modified:
        with pytest.raises(error):
            network.modify_endpoint("1", **fields)
        assert testbed.snapshot() == before, fields
    with pytest.raises(EndpointNotFound):
        network.remove_endpoint("77")
    with pytest.raises(EndpointNotFound):
        network.modify_endpoint("77", vlan=3)
    assert testbed.snapshot() == before
    guests = testbed.guests(network)
    testbed.announce(*guests)
    frame = frames.marked(guests[0].mac, guests[1].mac, b"as before")
    assert testbed.exchange(guests[0], frame) == [guests[1].arrival(frame)]


def test_a_port_in_use_by_a_link_is_refused(testbed: Testbed) -> None:
    links = testbed.harness.connection.substrate().links
    if not links:
        pytest.skip("the substrate shows no links")
    place = Place(links[0].source, links[0].source_port)
    before = testbed.snapshot()
    with pytest.raises(PortNotFound):
        testbed.create(*testbed.places(1), place)
    assert testbed.snapshot() == before


def test_pending_endpoints_do_not_affect_the_others(default_testbed: Testbed) -> None:
    testbed = default_testbed
    testbed.need_feature("pending")
    p, q = testbed.places(2)
    wanted = testbed.description(p, q, Place("4000000000", "1"), Place(p.switch, "65000"))
    network = testbed.harness.connection.create(wanted, pending=True)
    state = network.state()
    assert {e.uuid: e.state for e in state.endpoints} == {
        "1": State.ACTIVE, "2": State.ACTIVE, "3": State.PENDING, "4": State.PENDING,
    }  # fmt: skip
    assert state.state is State.DEGRADED
    assert all(e.reason for e in state.endpoints if e.state is State.PENDING)
    a, b, *_ = testbed.guests(network)
    frame = frames.marked(a.mac, BROADCAST, b"to the active endpoint")
    testbed.await_arrivals(a, frame, [b.arrival(frame)])
    network.remove_endpoint("3")
    network.remove_endpoint("4")
    assert network.state().state is State.ACTIVE


@repeated_if_void
def test_apply_changes_only_what_differs(testbed: Testbed) -> None:
    p, q, r = testbed.places(3)
    connection = testbed.harness.connection
    wanted = testbed.description(p, q)
    assert connection.apply(wanted).outcome == "created"
    network = connection.lookup(wanted.name)
    a, b = testbed.guests(network)
    testbed.announce(a, b)
    assert connection.apply(wanted).outcome == "unchanged"
    more = wanted.changed(endpoints=(*wanted.endpoints, endpoint_at(r, 3)), name=f"{wanted.name}-b")
    with Stream(testbed, a, b) as stream:
        applied = connection.apply(more)
    stream.check_exactly_once()
    assert applied.outcome == "changed"
    assert len(applied.changes) == 2
    assert connection.lookup(more.name).description() == more
    with pytest.raises(NetworkNotFound):
        connection.lookup(wanted.name)
    frame = frames.marked(a.mac, BROADCAST, b"three now")
    assert len(testbed.exchange(a, frame)) == 2


def test_many_networks_at_once(testbed: Testbed) -> None:
    p, q, r = testbed.places(3)
    networks = [testbed.create((p, 100 + i), (q, 200 + i), (r, 300 + i)) for i in range(12)]
    for network in networks:
        guests = testbed.guests(network)
        frame = frames.marked(guests[0].mac, BROADCAST, b"one of many")
        assert len(testbed.exchange(guests[0], frame)) == 2
    assert len(testbed.harness.connection.networks()) == 12
