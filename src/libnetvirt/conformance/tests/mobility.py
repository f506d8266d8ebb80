"""Endpoints and hosts move under traffic: traffic follows them, and no other traffic is disturbed."""

from __future__ import annotations

import pytest

from libnetvirt import Network, VirtualNetwork
from libnetvirt.conformance.harness import Place
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.frames import BROADCAST
from libnetvirt.conformance.support.stream import Stream, repeated_if_void
from libnetvirt.conformance.support.testbed import Tag, Testbed, endpoint_at


@pytest.mark.parametrize("kind", ["tag", "port", "switch", "all"])
@repeated_if_void
def test_an_endpoint_moves_while_traffic_runs(testbed: Testbed, kind: str) -> None:
    p, q, r, s = testbed.places(4)
    neighbours = [one for one in testbed.harness.host_ports() if one.switch == q.switch and one != q]
    network, (a, b, c) = testbed.create_active(p, q, r)
    there: dict[str, tuple[Place, Tag]] = {
        "tag": (q, 77), "port": (neighbours[0], None), "switch": (s, None), "all": (s, 77),
    }  # fmt: skip
    place, tag = there[kind]
    moved = testbed.guest(network, endpoint_at(place, int(b.endpoint), tag), b.mac)
    with Stream(testbed, a, b, moved) as stream:
        network.modify_endpoint(b.endpoint, switch=moved.place.switch, port=moved.place.port, vlan=moved.vlan)
    assert (stream.lost, stream.duplicates) == ([], [])
    with Stream(testbed, a, moved) as stream:  # the hosts behind the endpoint have moved along
        pass
    stream.check_exactly_once()
    for one, other in ((moved, a), (moved, c), (c, moved)):
        frame = frames.marked(one.mac, other.mac, b"as before")
        assert testbed.exchange(one, frame) == [other.arrival(frame)]
    assert testbed.inject(b.place, b.on_wire(frames.marked(b.mac, BROADCAST, b"from where it was"))) == []


@repeated_if_void
def test_a_move_of_an_endpoint_loses_no_frame_of_others(testbed: Testbed) -> None:
    p, q, r, s = testbed.places(4)
    network, (a, b, c) = testbed.create_active(p, q, r)
    with Stream(testbed, a, b) as stream:
        for place, vlan in ((s, None), (s, 40), (r, 41), (p, 42), (r, None)):
            network.modify_endpoint(c.endpoint, switch=place.switch, port=place.port, vlan=vlan)
    stream.check_exactly_once()


@repeated_if_void
def test_a_host_that_moves_while_traffic_runs_to_it_is_followed(testbed: Testbed) -> None:
    network, (a, b, c) = testbed.create_active(*testbed.places(3))
    moved = testbed.guest(network, network.description().endpoints[2], b.mac)
    with Stream(testbed, a, b, moved) as stream:
        testbed.harness.send(moved.place, [moved.on_wire(frames.marked(b.mac, BROADCAST, b"now over here"))])
        testbed.eventually(lambda: not _is_located(network, b.mac, moved.endpoint), "the host is known there")
    assert (stream.lost, stream.duplicates) == ([], [])
    # The oracle has not seen that frame: update its knowledge, too.
    testbed.announce(moved)
    with Stream(testbed, a, moved) as stream:
        pass
    stream.check_exactly_once()
    frame = frames.marked(c.mac, b.mac, b"to the new place")
    assert testbed.exchange(c, frame) == []


@repeated_if_void
def test_a_host_that_shows_up_in_another_network_does_not_move(testbed: Testbed) -> None:
    p, q, r, s = testbed.places(4)
    network, (a, b, _) = testbed.create_active(p, q, r)
    other = testbed.create((r, 99), (s, 99))
    thief, witness = (testbed.guest(other, e, b.mac) for e in other.description().endpoints)
    with Stream(testbed, a, b) as stream:
        for n in range(10):
            frame = frames.marked(b.mac, BROADCAST, b"I am %d b" % n)
            testbed.harness.send(thief.place, [thief.on_wire(frame)])
            frame = frames.marked(b.mac, a.mac, b"I am b, %d" % n)
            testbed.harness.send(witness.place, [witness.on_wire(frame)])
    stream.check_exactly_once()
    assert _is_located(network, b.mac, b.endpoint)


def test_endpoints_move_between_networks_and_are_swapped_in_any_order(testbed: Testbed) -> None:
    p, q, r, s = testbed.places(4)
    blue, red = (testbed.create(*places).description() for places in ((p, q), (r, s)))
    keep = testbed.create((p, 60), (r, 60))
    connection = testbed.harness.connection
    swapped = _with_last_at(blue, s), _with_last_at(red, q)
    for wanted in (swapped, (red, blue)):
        applied = connection.apply_all(wanted)
        assert [(a.uuid, str(a.outcome)) for a in applied] == [(n.uuid, "changed") for n in wanted]
        for network in wanted:
            testbed.check_reachability(testbed.guests(connection.lookup(network.uuid)))
    # A new network takes both ends of one, which takes one end of another, which gets one that was free.
    free = testbed.description((q, 61), (s, 61))
    new = testbed.description(p, q)
    chain = (new, blue.changed(endpoints=free.endpoints[:1] + red.endpoints[1:]), _with_last_at(red, free))
    applied = connection.apply_all(chain)
    assert [str(a.outcome) for a in applied] == ["created", "changed", "changed"]
    for uuid in (new.uuid, blue.uuid, red.uuid, keep.uuid):
        testbed.check_reachability(testbed.guests(connection.lookup(uuid)))


def _with_last_at(network: VirtualNetwork, where: Place | VirtualNetwork) -> VirtualNetwork:
    """The network with another second endpoint: untagged at this place, or where another one has it."""
    first, last = network.endpoints
    other = endpoint_at(where, 3, None) if isinstance(where, Place) else where.endpoints[1]
    # With a uuid of its own: what becomes of hosts at an endpoint that is swapped is not specified.
    return network.changed(endpoints=(first, other.changed(uuid=str(int(last.uuid) + 1))))


def _is_located(network: Network, mac: str, endpoint: str) -> bool:
    return (mac, endpoint) in {(host.mac, host.endpoint) for host in network.state().hosts}
