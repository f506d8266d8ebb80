"""Endpoints on several ports of a switch (link aggregation groups) are one endpoint each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from libnetvirt import Network, State
from libnetvirt.conformance.harness import Ability, Place
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.aggregation import bonded, group_of, joint
from libnetvirt.conformance.support.frames import BROADCAST
from libnetvirt.conformance.support.link_protocols import LINK_PROTOCOLS
from libnetvirt.conformance.support.router_testbed import RouterHost, RouterNetwork
from libnetvirt.conformance.support.stream import Stream, repeated_if_void
from libnetvirt.conformance.support.testbed import Testbed
from libnetvirt.errors import EndpointClaimed, InvalidDescription, PortNotFound


def _others(testbed: Testbed, switch: str) -> list[Place]:
    """A host port of each other switch."""
    return list(
        {place.switch: place for place in testbed.harness.host_ports() if place.switch != switch}.values()
    )


def test_an_endpoint_on_several_ports_is_one_endpoint(testbed: Testbed) -> None:
    one, two, *near = group_of(testbed)
    far, away, *_ = _others(testbed, one.switch)
    with bonded(testbed, (one, two)) as (joined, _):
        # Another endpoint with a tag on the same ports, one beside them, and others elsewhere.
        group = joint((one, two))
        network = joined.create(group, (group, 9), far, (away, 7), *near[:1])
        bond, tagged, *_ = guests = joined.learned_guests(network)
        # The host behind it has not moved when it sends at the other port, and a second one may be there.
        second = joined.guest(network, network.description().endpoints[0])
        frame = frames.marked(second.mac, BROADCAST, b"behind the other cable")
        assert len(joined.inject(two, frame)) == len(guests) - 1
        before = network.state().hosts
        for place in (two, one):
            for guest in guests[1:]:
                frame = frames.marked(bond.mac, guest.mac, b"through either cable")
                assert joined.inject(place, frame) == [guest.arrival(frame)]
                frame = frames.marked(guest.mac, bond.mac, b"back through one cable")
                assert joined.exchange(guest, frame) == [bond.arrival(frame)]
            assert len(joined.inject(place, frames.marked(bond.mac, BROADCAST, b"to all"))) == len(guests) - 1
            frame = frames.marked(tagged.mac, bond.mac, b"from one tag to another")
            assert joined.inject(place, tagged.on_wire(frame)) == [bond.arrival(frame)]
            # No reflection: both hosts are behind it, whatever their cables.
            assert joined.inject(place, frames.marked(bond.mac, second.mac, b"to my neighbour")) == []
            assert joined.inject(place, frames.marked(second.mac, bond.mac, b"to my neighbour")) == []
        assert network.state().hosts == before


def test_frames_of_one_flow_take_one_port_and_flows_take_all(default_testbed: Testbed) -> None:
    testbed = default_testbed
    one, two, *_ = group_of(testbed)
    with bonded(testbed, (one, two)) as (joined, wires):
        network = joined.create(joint((one, two)), _others(testbed, one.switch)[0])
        bond, sender = joined.learned_guests(network)
        used: set[Place] = set()
        for number in range(24):
            other = joined.guest(network, network.description().endpoints[1])
            flow = [frames.marked(other.mac, bond.mac, b"%d of flow %d" % (n, number)) for n in range(2)]
            assert joined.exchange(sender, *flow) == [bond.arrival(frame) for frame in flow]
            taken = {place for frame in flow for place in wires.seen[frame]}
            assert len(taken) == 1
            used |= taken
        assert used == {one, two}


def test_frames_of_link_aggregation_itself_stay_outside(default_testbed: Testbed) -> None:
    testbed = default_testbed
    one, two, *_ = group_of(testbed)
    lacp = next(protocol for protocol in LINK_PROTOCOLS if "LACP" in protocol.name)
    with bonded(testbed, (one, two)) as (joined, _):
        far, away, *_ = _others(testbed, one.switch)
        network = joined.create(joint((one, two)), far, away)
        bond, b, c = joined.learned_guests(network)
        for place in (one, two):
            assert joined.inject(place, lacp.frame(bond.mac)) == []
        frame = lacp.frame(b.mac)
        assert joined.exchange(b, frame) == [c.arrival(frame)]
        # With a tag they are frames like all others.
        tagged = joined.create((joint((one, two)), 9), (far, 9))
        bond, b = joined.learned_guests(tagged)
        assert joined.exchange(b, lacp.frame(b.mac)) == [bond.arrival(lacp.frame(b.mac))]
        assert joined.exchange(bond, lacp.frame(bond.mac)) == [b.arrival(lacp.frame(bond.mac))]


@repeated_if_void
def test_ports_that_go_down_are_not_used(testbed: Testbed) -> None:
    testbed.need(Ability.UNPLUG)
    one, two, *_ = group_of(testbed)
    with bonded(testbed, (one, two)) as (joined, wires):
        network = joined.create(joint((one, two)), _others(testbed, one.switch)[0])
        bond, b = joined.learned_guests(network)
        hosts = network.state().hosts
        for down, live in ((one, two), (two, one)):
            with _unplugged(joined, down):
                joined.eventually(partial(_is_otherwise, network, down.port), "one port is left")
                joined.harness.flush_caches()
                for text in (b"to the port that is left", b"again"):
                    frame = frames.marked(b.mac, bond.mac, text + live.port.encode())
                    assert joined.exchange(b, frame) == [bond.arrival(frame)]
                    frame = frames.marked(b.mac, BROADCAST, text + live.port.encode())
                    assert joined.exchange(b, frame) == [bond.arrival(frame)]
                    assert wires.seen[frame] == [live]
                frame = frames.marked(bond.mac, b.mac, b"from the port that is left")
                assert joined.inject(live, frame) == [b.arrival(frame)]
                assert network.state().hosts == hosts
            joined.eventually(partial(_is_otherwise, network, ""), "both ports are up")
            joined.harness.flush_caches()
        with _unplugged(joined, one, two):
            joined.eventually(lambda: _state(network) is not State.DOWN, "none is left")
        joined.eventually(partial(_is_otherwise, network, ""), "both ports are up")
        joined.announce_after_failure(bond, b)


@contextmanager
def _unplugged(testbed: Testbed, *places: Place) -> Iterator[None]:
    for place in places:
        testbed.harness.unplug(place)
    try:
        yield
    finally:
        for place in places:
            testbed.harness.plug(place)


def _state(network: Network) -> State:
    return next(e.state for e in network.state().endpoints if e.uuid == "1")


def _is_otherwise(network: Network, down: str) -> object:
    """The state of the first endpoint, unless it is active and this port is down, or none."""
    seen = next(e for e in network.state().endpoints if e.uuid == "1")
    which = seen.reason.removeprefix("port ").partition(" is down: the others carry")[0]
    return None if (seen.state, which) == (State.ACTIVE, down) else seen


@repeated_if_void
def test_ports_are_added_and_removed_while_traffic_runs(testbed: Testbed) -> None:
    one, two, *more = group_of(testbed)
    with bonded(testbed, (two, one, *more)) as (joined, _):
        network = joined.create(two, _others(testbed, one.switch)[0])
        a, b = joined.learned_guests(network)
        for number, members in enumerate(((two, one), (two, one, *more), (two, *more), (two,))):
            source, destination = (a, b) if number % 2 else (b, a)
            frame = frames.marked(source.mac, destination.mac, b"install the rules")
            assert joined.exchange(source, frame) == [destination.arrival(frame)]
            with Stream(joined, source, destination) as stream:
                network.modify_endpoint(a.endpoint, port=[place.port for place in members])
            stream.check_exactly_once()


def test_a_router_has_an_endpoint_on_several_ports(router_testbed: Testbed) -> None:
    testbed = router_testbed
    one, two, *_ = group_of(testbed)
    with bonded(testbed, (one, two)) as (joined, _):
        router = RouterNetwork(joined, [joint((one, two)), *_others(testbed, one.switch)[:2]])
        router.resolve_gateway()
        router.check_all()
        for a, b in ((router.v4[1], router.v4[2]), (router.v6[1], router.v6[3])):
            arrived = joined.inject(two, router.sent(a, b, b"through the other cable"))
            assert arrived == [b.guest.arrival(router.delivered(a, b, b"through the other cable"))]
        # A router may send a packet out where it came in, to another host there.
        beside = joined.guest(router.network, router.network.description().endpoints[0])
        joined.exchange(beside, frames.arp(beside.mac, "10.0.1.2", "10.0.1.254"))
        a = router.v4[1]
        packet = router.sent(a, RouterHost(beside, "10.0.1.2", "10.0.1.254"), b"round")
        for place in (one, two):
            (back,) = joined.inject(place, packet)
            assert back.place == beside.place


def test_groups_that_cannot_be_are_refused(default_testbed: Testbed) -> None:
    testbed = default_testbed
    one, two, *_ = group_of(testbed)
    far, away, *_ = _others(testbed, one.switch)
    network = testbed.create(joint((one, two)), far)
    before = testbed.snapshot()
    for refused, port in (
        (EndpointClaimed, two.port),
        (EndpointClaimed, [two.port, one.port]),
        (PortNotFound, [one.port, "4094"]),
        (InvalidDescription, [one.port, one.port]),
    ):
        tag = {"vlan": 5} if refused is PortNotFound else {}
        with pytest.raises(refused):
            testbed.harness.connection.create(
                testbed.description(away).with_endpoint(
                    network.description().endpoints[0].changed(uuid=9, port=port, **tag)
                )
            )
    assert testbed.snapshot() == before
    with pytest.raises(InvalidDescription, match="same switch, port and tag"):
        network.add_endpoint(uuid=3, switch=one.switch, port=two.port)
    assert testbed.snapshot() == before
