"""Operations happen wholly or not at all, return when in force, and touch only what they must."""

from __future__ import annotations

from typing import Any

import pytest

from libnetvirt import NetvirtError, Network, State, VirtualNetwork
from libnetvirt.conformance.harness import Ability, Place
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.frames import BROADCAST
from libnetvirt.conformance.support.stream import Stream
from libnetvirt.conformance.support.testbed import Bench, Guest, endpoint_at
from libnetvirt.errors import (
    AlreadyExists,
    EndpointClaimed,
    EndpointNotFound,
    InvalidDescription,
    NetworkNotFound,
    PortNotFound,
    SwitchNotFound,
)


def _pair_under_stream(bench: Bench, places: list[Place]) -> tuple[Network, Guest, Guest]:
    network = bench.create(*places)
    a, b = bench.guests(network)[:2]
    bench.meet(a, b)
    return network, a, b


def test_traffic_flows_when_create_returns(bench: Bench) -> None:
    places = bench.places(4)
    for _ in range(3):
        network = bench.create(*places)
        a, *others = bench.guests(network)
        frame = frames.marked(a.mac, BROADCAST, b"at once")
        bench.await_arrivals(a, frame, [guest.arrival(frame) for guest in others])
        network.remove()


def test_nothing_flows_when_remove_returns(bench: Bench) -> None:
    network = bench.create(*bench.places(3))
    a, b, _ = bench.guests(network)
    bench.meet(a, b)
    network.remove()
    for destination in (b.mac, BROADCAST):
        assert bench.exchange(a, frames.marked(a.mac, destination, b"gone")) == []
    with pytest.raises(NetworkNotFound):
        bench.harness.connection.lookup(network.uuid)


def test_removal_leaves_nothing(bench: Bench) -> None:
    bench.need(Ability.LEFTOVERS)
    p, q, r, s = bench.places(4)
    networks = [bench.create(p, q, r), bench.create((p, 5), (q, 6), s), bench.create((s, 7), (s, 8))]
    for network in networks:
        guests = bench.guests(network)
        bench.meet(*guests)
        bench.exchange(guests[0], frames.marked(guests[0].mac, guests[1].mac, b"rules, please"))
    assert bench.harness.leftovers()
    for network in networks:
        network.remove()
    assert bench.harness.leftovers() == []


def test_names_and_places_are_free_again_after_removal(bench: Bench) -> None:
    wanted = bench.description(*bench.places(3))
    for _ in range(5):
        network = bench.harness.connection.create(wanted)
        assert network.description() == wanted
        network.remove()
    assert bench.harness.connection.networks() == []


def test_an_added_endpoint_takes_part(bench: Bench) -> None:
    p, q, r = bench.places(3)
    network = bench.create(p, q)
    a, b = bench.guests(network)
    bench.meet(a, b)
    c = bench.guest(network, network.add_endpoint(uuid=3, switch=r.switch, port=r.port, vlan=33))
    frame = frames.marked(a.mac, BROADCAST, b"welcome")
    assert sorted(bench.exchange(a, frame)) == sorted((b.arrival(frame), c.arrival(frame)))
    bench.meet(c)
    frame = frames.marked(b.mac, c.mac, b"welcome")
    assert bench.exchange(b, frame) == [c.arrival(frame)]


def test_a_removed_endpoint_takes_no_part(bench: Bench) -> None:
    network = bench.create(*bench.places(3))
    a, b, c = bench.guests(network)
    bench.meet(a, b, c)
    network.remove_endpoint(c.endpoint)
    assert c.mac not in {host.mac for host in network.state().hosts}
    assert bench.inject(c.place, frames.marked(c.mac, BROADCAST, b"still here?")) == []
    for destination in (BROADCAST, c.mac):
        frame = frames.marked(a.mac, destination, b"without you")
        assert bench.exchange(a, frame) == [b.arrival(frame)]


def test_a_modified_endpoint_is_where_it_is_said_to_be(bench: Bench) -> None:
    p, q, r, s = bench.places(4)
    network = bench.create(p, q, r)
    a, b, c = bench.guests(network)
    bench.meet(a, b, c)
    for place, vlan in ((s, None), (s, 40), (r, 41), (p, 42), (r, None)):
        network.modify_endpoint(c.endpoint, switch=place.switch, port=place.port, vlan=vlan)
        moved = bench.guest(network, endpoint_at(place, 3, vlan), c.mac)
        frame = frames.marked(a.mac, c.mac, b"where did you go")
        assert sorted(bench.exchange(a, frame)) == sorted((b.arrival(frame), moved.arrival(frame)))
        bench.meet(moved)
        assert bench.exchange(a, frame) == [moved.arrival(frame)]
    assert bench.inject(s, frames.marked(c.mac, BROADCAST, b"from the old place")) == []


def test_an_endpoint_given_up_by_one_network_can_be_taken_by_another(bench: Bench) -> None:
    p, q, r, s = bench.places(4)
    red, blue = bench.create(p, q, r), bench.create(s, (q, 9))
    with pytest.raises(EndpointClaimed):
        blue.add_endpoint(uuid=3, switch=r.switch, port=r.port)
    red.remove_endpoint("3")
    taken = bench.guest(blue, blue.add_endpoint(uuid=3, switch=r.switch, port=r.port))
    first = bench.guests(red)[0]
    frame = frames.marked(taken.mac, BROADCAST, b"new owner")
    assert len(bench.exchange(taken, frame)) == 2
    assert len(bench.exchange(first, frames.marked(first.mac, BROADCAST, b"old owner"))) == 1


@pytest.mark.parametrize("change", ["add", "remove", "modify", "networks", "refused"])
def test_changes_lose_no_frame_of_others(bench: Bench, change: str) -> None:
    p, q, r, s, t = bench.places(5)
    network, a, b = _pair_under_stream(bench, [p, q, r])
    third: dict[str, Any] = {"uuid": 4, "switch": s.switch, "port": s.port}
    with Stream(bench, a, b) as stream:
        for vlan in (None, 4, 5):
            if change in ("add", "remove"):
                network.add_endpoint(**third, vlan=vlan)
                network.remove_endpoint("4")
            elif change == "modify":
                network.modify_endpoint("3", switch=s.switch, port=s.port, vlan=vlan)
                network.modify_endpoint("3", switch=r.switch, port=r.port, vlan=vlan)
            elif change == "networks":
                other = bench.create((p, 50), (q, 50), s, t)
                other.remove_endpoint("1")
                other.remove()
            else:
                with pytest.raises(EndpointClaimed):
                    bench.create((s, vlan), (p, 77), q)
                with pytest.raises(PortNotFound):
                    network.add_endpoint(uuid=5, switch=s.switch, port="65000")
    stream.check_unharmed()


def test_removing_another_network_loses_no_frame(bench: Bench) -> None:
    p, q, r = bench.places(3)
    others = [bench.create((p, vlan), (q, vlan), (r, vlan)) for vlan in (11, 12, 13)]
    _, a, b = _pair_under_stream(bench, [p, q])
    with Stream(bench, a, b) as stream:
        for other in others:
            other.remove()
    stream.check_unharmed()


def _snapshot(bench: Bench) -> tuple[object, ...]:
    connection = bench.harness.connection
    left = sorted(bench.harness.leftovers()) if Ability.LEFTOVERS in bench.harness.abilities else []
    return connection.descriptions(), [network.state() for network in connection.networks()], left


def test_refused_operations_leave_no_trace(bench: Bench) -> None:
    p, q, r, s = bench.places(4)
    network = bench.create(p, (q, 20), r)
    bench.create(s, (p, 99))
    taken = network.description()
    connection = bench.harness.connection
    before = _snapshot(bench)

    def port(place: Place, **fields: Any) -> dict[str, Any]:
        return {"uuid": 9, "switch": place.switch, "port": place.port, **fields}

    def refused(error: type[NetvirtError], description: VirtualNetwork) -> None:
        with pytest.raises(error) as caught:
            connection.create(description)
        assert str(caught.value)
        assert _snapshot(bench) == before

    nowhere, no_port = Place("4000000000", "1"), Place(p.switch, "65000")
    refused(EndpointClaimed, bench.description((s, 7), p))
    refused(EndpointClaimed, bench.description((s, 7), (q, 20)))
    refused(SwitchNotFound, bench.description((s, 7), nowhere))
    refused(PortNotFound, bench.description((s, 7), no_port))
    refused(AlreadyExists, bench.description((s, 7), name=taken.name))
    refused(AlreadyExists, bench.description((s, 7), uuid=taken.uuid))

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
        assert _snapshot(bench) == before, fields
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
        assert _snapshot(bench) == before, fields
    with pytest.raises(EndpointNotFound):
        network.remove_endpoint("77")
    with pytest.raises(EndpointNotFound):
        network.modify_endpoint("77", vlan=3)
    assert _snapshot(bench) == before
    guests = bench.guests(network)
    bench.meet(*guests)
    frame = frames.marked(guests[0].mac, guests[1].mac, b"as before")
    assert bench.exchange(guests[0], frame) == [guests[1].arrival(frame)]


def test_a_port_in_use_by_a_link_is_refused(bench: Bench) -> None:
    links = bench.harness.connection.substrate().links
    if not links:
        pytest.skip("the substrate shows no links")
    place = Place(links[0].source, links[0].source_port)
    before = _snapshot(bench)
    with pytest.raises(PortNotFound):
        bench.create(*bench.places(1), place)
    assert _snapshot(bench) == before


def test_pending_endpoints_wait_and_the_others_work(plain_bench: Bench) -> None:
    bench = plain_bench
    if not bench.offers("pending"):
        pytest.skip("the driver does not offer pending")
    p, q = bench.places(2)
    wanted = bench.description(p, q, Place("4000000000", "1"), Place(p.switch, "65000"))
    network = bench.harness.connection.create(wanted, pending=True)
    state = network.state()
    assert {e.uuid: e.state for e in state.endpoints} == {
        "1": State.ACTIVE, "2": State.ACTIVE, "3": State.PENDING, "4": State.PENDING,
    }  # fmt: skip
    assert state.state is State.DEGRADED
    assert all(e.reason for e in state.endpoints if e.state is State.PENDING)
    a, b, *_ = bench.guests(network)
    frame = frames.marked(a.mac, BROADCAST, b"us two")
    bench.await_arrivals(a, frame, [b.arrival(frame)])
    network.remove_endpoint("3")
    network.remove_endpoint("4")
    assert network.state().state is State.ACTIVE


def test_a_description_is_applied_by_changing_what_differs(bench: Bench) -> None:
    p, q, r = bench.places(3)
    connection = bench.harness.connection
    wanted = bench.description(p, q)
    assert connection.apply(wanted).outcome == "created"
    network = connection.lookup(wanted.name)
    a, b = bench.guests(network)
    bench.meet(a, b)
    assert connection.apply(wanted).outcome == "unchanged"
    more = wanted.changed(endpoints=(*wanted.endpoints, endpoint_at(r, 3)), name=f"{wanted.name}-b")
    with Stream(bench, a, b) as stream:
        applied = connection.apply(more)
    stream.check_unharmed()
    assert applied.outcome == "changed"
    assert len(applied.changes) == 2
    assert connection.lookup(more.name).description() == more
    with pytest.raises(NetworkNotFound):
        connection.lookup(wanted.name)
    frame = frames.marked(a.mac, BROADCAST, b"three now")
    assert len(bench.exchange(a, frame)) == 2


def test_many_networks_at_once(bench: Bench) -> None:
    p, q, r = bench.places(3)
    networks = [bench.create((p, 100 + i), (q, 200 + i), (r, 300 + i)) for i in range(12)]
    for network in networks:
        guests = bench.guests(network)
        frame = frames.marked(guests[0].mac, BROADCAST, b"one of many")
        assert len(bench.exchange(guests[0], frame)) == 2
    assert len(bench.harness.connection.networks()) == 12
