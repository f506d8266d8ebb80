"""Endpoints and hosts move while traffic runs: it is followed, and only the mover notices."""

from __future__ import annotations

import pytest

from libnetvirt import Network
from libnetvirt.conformance.harness import Place
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.frames import BROADCAST
from libnetvirt.conformance.support.stream import Stream
from libnetvirt.conformance.support.testbed import Bench, Guest, Tag, endpoint_at


def _at_work(bench: Bench, *where: Place) -> tuple[Network, list[Guest]]:
    """Guests whose frames to each other flow by rules."""
    network = bench.create(*where)
    guests = bench.guests(network)
    bench.meet(*guests)
    for a in guests:
        for b in guests:
            if a is not b:
                bench.exchange(a, frames.marked(a.mac, b.mac, b"rules, please"))
    return network, guests


@pytest.mark.parametrize("kind", ["tag", "port", "switch", "all"])
def test_an_endpoint_moves_while_traffic_runs(bench: Bench, kind: str) -> None:
    p, q, r, s = bench.places(4)
    neighbours = [one for one in bench.harness.host_ports() if one.switch == q.switch and one != q]
    network, (a, b, c) = _at_work(bench, p, q, r)
    there: dict[str, tuple[Place, Tag]] = {
        "tag": (q, 77), "port": (neighbours[0], None), "switch": (s, None), "all": (s, 77),
    }  # fmt: skip
    place, tag = there[kind]
    moved = bench.guest(network, endpoint_at(place, int(b.endpoint), tag), b.mac)
    with Stream(bench, a, b, moved) as stream:
        network.modify_endpoint(b.endpoint, switch=moved.place.switch, port=moved.place.port, vlan=moved.vlan)
    assert stream.lost == []
    bench.meet(moved)
    with Stream(bench, a, moved) as stream:
        pass
    stream.check_unharmed()
    for one, other in ((moved, a), (moved, c), (c, moved)):
        frame = frames.marked(one.mac, other.mac, b"as before")
        assert bench.exchange(one, frame) == [other.arrival(frame)]
    assert bench.inject(b.place, b.wrapped(frames.marked(b.mac, BROADCAST, b"from where it was"))) == []


def test_others_do_not_notice_that_an_endpoint_moves(bench: Bench) -> None:
    p, q, r, s = bench.places(4)
    network, (a, b, c) = _at_work(bench, p, q, r)
    with Stream(bench, a, b) as stream:
        for place, vlan in ((s, None), (s, 40), (r, 41), (p, 42), (r, None)):
            network.modify_endpoint(c.endpoint, switch=place.switch, port=place.port, vlan=vlan)
    stream.check_unharmed()


def test_a_host_that_moves_while_traffic_runs_to_it_is_followed(bench: Bench) -> None:
    network, (a, b, c) = _at_work(bench, *bench.places(3))
    moved = bench.guest(network, network.description().endpoints[2], b.mac)
    with Stream(bench, a, b, moved) as stream:
        bench.harness.send(moved.place, [moved.wrapped(frames.marked(b.mac, BROADCAST, b"now over here"))])
        bench.eventually(lambda: not _lives(network, b.mac, moved.endpoint), "the host is known there")
    assert (stream.lost, stream.repeated) == ([], [])
    # The oracle has not seen that: it hears it now.
    bench.meet(moved)
    with Stream(bench, a, moved) as stream:
        pass
    stream.check_unharmed()
    frame = frames.marked(c.mac, b.mac, b"to the new place")
    assert bench.exchange(c, frame) == []


def test_a_host_that_shows_up_in_another_network_does_not_move(bench: Bench) -> None:
    p, q, r, s = bench.places(4)
    network, (a, b, _) = _at_work(bench, p, q, r)
    other = bench.create((r, 99), (s, 99))
    thief, witness = (bench.guest(other, e, b.mac) for e in other.description().endpoints)
    with Stream(bench, a, b) as stream:
        for n in range(10):
            frame = frames.marked(b.mac, BROADCAST, b"I am %d b" % n)
            bench.harness.send(thief.place, [thief.wrapped(frame)])
            frame = frames.marked(b.mac, a.mac, b"I am b, %d" % n)
            bench.harness.send(witness.place, [witness.wrapped(frame)])
    stream.check_unharmed()
    assert _lives(network, b.mac, b.endpoint)


def _lives(network: Network, mac: str, endpoint: str) -> bool:
    return (mac, endpoint) in {(host.mac, host.endpoint) for host in network.state().hosts}
