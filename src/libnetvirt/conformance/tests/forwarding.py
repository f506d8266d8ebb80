"""L2: a network forwards like one switch. Each frame is delivered once, with nothing but its tag changed."""

from __future__ import annotations

from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.frames import BROADCAST
from libnetvirt.conformance.support.testbed import Testbed, endpoint_at


def test_broadcast_leaves_once_at_every_other_endpoint(testbed: Testbed) -> None:
    a, b, c, d = testbed.guests(testbed.create(*testbed.places(4)))
    frame = frames.marked(a.mac, BROADCAST, b"hello")
    arrived = testbed.exchange(a, frame)
    assert sorted(arrived) == sorted(guest.arrival(frame) for guest in (b, c, d))


def test_multicast_leaves_once_at_every_other_endpoint(testbed: Testbed) -> None:
    a, b, c = testbed.guests(testbed.create(*testbed.places(3)))
    for group in ("01:00:5e:00:00:fb", "33:33:00:00:00:01", "01:00:0c:cc:cc:cd"):
        frame = frames.marked(a.mac, group, b"all of you")
        assert sorted(testbed.exchange(a, frame)) == sorted((b.arrival(frame), c.arrival(frame)))


def test_unicast_to_an_unknown_host_leaves_once_at_every_other_endpoint(testbed: Testbed) -> None:
    a, b, c = testbed.guests(testbed.create(*testbed.places(3)))
    testbed.announce(a)
    frame = frames.marked(a.mac, b.mac, b"where are you")
    assert sorted(testbed.exchange(a, frame)) == sorted((b.arrival(frame), c.arrival(frame)))


def test_unicast_to_a_known_host_leaves_at_its_endpoint_only(testbed: Testbed) -> None:
    guests = testbed.guests(testbed.create(*testbed.places(4)))
    testbed.announce(*guests)
    for a in guests:
        for b in guests:
            if a is not b:
                frame = frames.marked(a.mac, b.mac, b"just for you")
                assert testbed.exchange(a, frame) == [b.arrival(frame)]


def test_a_frame_to_a_host_at_the_same_endpoint_is_not_reflected(testbed: Testbed) -> None:
    network = testbed.create(*testbed.places(3))
    first = network.description().endpoints[0]
    a, other = testbed.guest(network, first), testbed.guest(network, first)
    testbed.announce(a, other)
    assert testbed.exchange(a, frames.marked(a.mac, other.mac, b"neighbour")) == []


def test_arp_finds_a_host_and_the_answer_comes_back(testbed: Testbed) -> None:
    a, b, c = testbed.guests(testbed.create(*testbed.places(3)))
    question = frames.arp(a.mac, "10.0.0.1", "10.0.0.2")
    assert sorted(testbed.exchange(a, question)) == sorted((b.arrival(question), c.arrival(question)))
    answer = frames.arp(b.mac, "10.0.0.2", "10.0.0.1", reply_to=a.mac)
    assert testbed.exchange(b, answer) == [a.arrival(answer)]
    packet = frames.ipv4(a.mac, b.mac, "10.0.0.1", "10.0.0.2", frames.udp(1000, 2000, b"payload"))
    assert testbed.exchange(a, packet) == [b.arrival(packet)]


def test_ipv6_neighbour_discovery_finds_a_host(testbed: Testbed) -> None:
    a, b, c = testbed.guests(testbed.create(*testbed.places(3)))
    question = frames.solicitation(a.mac, "fe80::1", "fe80::2")
    assert sorted(testbed.exchange(a, question)) == sorted((b.arrival(question), c.arrival(question)))
    answer = frames.advertisement(b.mac, a.mac, "fe80::2", "fe80::1")
    assert testbed.exchange(b, answer) == [a.arrival(answer)]


def test_tags_are_translated_between_endpoints(testbed: Testbed) -> None:
    p, q, r = testbed.places(3)
    untagged, twenty, thirty = testbed.guests(testbed.create(p, (q, 20), (r, 30)))
    testbed.announce(untagged, twenty, thirty)
    for a, b in ((untagged, twenty), (twenty, thirty), (thirty, untagged), (twenty, untagged)):
        frame = frames.marked(a.mac, b.mac, b"translated")
        assert testbed.exchange(a, frame) == [b.arrival(frame)]
    frame = frames.marked(twenty.mac, BROADCAST, b"to all")
    assert sorted(testbed.exchange(twenty, frame)) == sorted((untagged.arrival(frame), thirty.arrival(frame)))


def test_two_endpoints_of_a_network_on_one_port_exchange_frames(testbed: Testbed) -> None:
    p, q = testbed.places(2)
    a, b, c, d = testbed.guests(testbed.create((p, 10), (p, 11), p, (q, 10)))
    for guest in (a, b, c, d):
        frame = frames.marked(guest.mac, BROADCAST, b"to the other tags of my port")
        others = [g.arrival(frame) for g in (a, b, c, d) if g is not guest]
        assert sorted(testbed.exchange(guest, frame)) == sorted(others)
    for x, y in ((a, b), (b, a), (a, c), (c, b), (a, d), (d, c)):
        frame = frames.marked(x.mac, y.mac, b"just for you")
        assert testbed.exchange(x, frame) == [y.arrival(frame)]


def test_endpoints_on_one_switch_need_no_link(testbed: Testbed) -> None:
    p, q = testbed.places_on_one_switch()
    a, b = testbed.guests(testbed.create(p, (q, 7)))
    testbed.announce(a, b)
    frame = frames.marked(a.mac, b.mac, b"local")
    assert testbed.exchange(a, frame) == [b.arrival(frame)]


def test_a_network_with_one_endpoint_forwards_nothing(testbed: Testbed) -> None:
    (a,) = testbed.guests(testbed.create(*testbed.places(1)))
    assert testbed.exchange(a, frames.marked(a.mac, BROADCAST, b"anyone?")) == []
    assert testbed.exchange(a, frames.marked(a.mac, frames.mac(99), b"anyone?")) == []


def test_a_host_that_moves_is_found_at_its_new_endpoint(testbed: Testbed) -> None:
    network = testbed.create(*testbed.places(3))
    a, b, c = testbed.guests(network)
    testbed.announce(a, b, c)
    moved = testbed.guest(network, network.description().endpoints[2], mac=b.mac)
    testbed.announce(moved)
    frame = frames.marked(a.mac, b.mac, b"moved")
    assert testbed.exchange(a, frame) == [moved.arrival(frame)]
    back = frames.marked(moved.mac, a.mac, b"here I am")
    assert testbed.exchange(moved, back) == [a.arrival(back)]
    testbed.announce(b)  # and home again
    assert testbed.exchange(a, frame) == [b.arrival(frame)]


def test_several_hosts_at_one_endpoint_are_all_found(testbed: Testbed) -> None:
    network = testbed.create(*testbed.places(3))
    a = testbed.guests(network)[0]
    there = network.description().endpoints[1]
    crowd = [testbed.guest(network, there) for _ in range(8)]
    testbed.announce(a, *crowd)
    for guest in crowd:
        frame = frames.marked(a.mac, guest.mac, b"one of many")
        assert testbed.exchange(a, frame) == [guest.arrival(frame)]


def test_declared_hosts_are_known_before_they_speak(testbed: Testbed) -> None:
    testbed.need_feature("endpoint.mac")
    p, q, r = testbed.places(3)
    declared = frames.mac(0xD0)
    endpoints = [
        endpoint_at(p, 1),
        endpoint_at(q, 2, mac=declared),
        endpoint_at(r, 3),
    ]
    network = testbed.create(endpoints=endpoints)
    a, b, _ = testbed.guests(network)
    assert (declared, "2", "declared") in {(h.mac, h.endpoint, h.source) for h in network.state().hosts}
    frame = frames.marked(a.mac, declared, b"before you spoke")
    assert testbed.exchange(a, frame) == [b.arrival(frame)]


def test_declared_hosts_are_not_taken_from_elsewhere(testbed: Testbed) -> None:
    testbed.need_feature("endpoint.mac")
    p, q, r = testbed.places(3)
    declared = frames.mac(0xD1)
    endpoints = [endpoint_at(p, 1), endpoint_at(q, 2, mac=declared), endpoint_at(r, 3), endpoint_at(p, 4, 40)]
    a, b, *others = testbed.guests(testbed.create(endpoints=endpoints))
    testbed.announce(a, *others)
    for impostor in others:
        for destination in (a.mac, frames.BROADCAST):
            assert testbed.exchange(impostor, frames.marked(declared, destination, b"it is me")) == []
    there = frames.marked(declared, a.mac, b"no, me")
    assert testbed.exchange(b, there) == [a.arrival(there)]
    back = frames.marked(a.mac, declared, b"so I thought")
    assert testbed.exchange(a, back) == [b.arrival(back)]


def test_frames_of_all_sizes_arrive_unchanged(testbed: Testbed) -> None:
    p, q, r = testbed.places(3)
    a, b, c = testbed.guests(testbed.create(p, (q, 20), r))
    testbed.announce(a, b, c)
    for size in (2, 28, 46, 47, 576, 1400, 1500):
        payload = bytes(i * 7 % 251 for i in range(size))
        for x, y in ((a, b), (b, c), (c, a)):
            frame = frames.ethernet(x.mac, y.mac, frames.EXPERIMENT, payload, pad=False)
            assert testbed.exchange(x, frame) == [y.arrival(frame)]


def test_every_ethertype_passes(testbed: Testbed) -> None:
    a, b, _ = testbed.guests(testbed.create(*testbed.places(3)))
    testbed.announce(a, b)
    for kind in (0x0842, 0x8137, 0x8863, 0x8864, 0x8892, 0x22F0, 0x002E):
        frame = frames.ethernet(a.mac, b.mac, kind, b"anything at all".ljust(46, b"."))
        assert testbed.exchange(a, frame) == [b.arrival(frame)]
