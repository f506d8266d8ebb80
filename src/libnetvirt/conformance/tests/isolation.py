"""Isolation: frames leave only at endpoints of the network that they entered; all others are dropped."""

from __future__ import annotations

import pytest

from libnetvirt.conformance.harness import Place
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.frames import AD, BROADCAST, tag
from libnetvirt.conformance.support.link_protocols import LINK_PROTOCOLS
from libnetvirt.conformance.support.stream import EventReader
from libnetvirt.conformance.support.testbed import Testbed


@pytest.fixture
def native_testbed(testbed: Testbed) -> Testbed:
    """The testbed, if its networks are native, so that a MAC address is in one of them only."""
    if not testbed.native:
        pytest.skip("equal MAC addresses are allowed with these rules")
    return testbed


@pytest.fixture
def shared_macs_testbed(testbed: Testbed) -> Testbed:
    """The testbed, if several of its networks may have a MAC address."""
    if testbed.native:
        pytest.skip("native rules need unique MAC addresses; another test covers them")
    return testbed


def test_two_networks_do_not_see_each_other(testbed: Testbed) -> None:
    places = testbed.places(6)
    red, blue = testbed.guests(testbed.create(*places[0::2])), testbed.guests(testbed.create(*places[1::2]))
    testbed.announce(*red, *blue)
    for inside, outside in ((red, blue), (blue, red)):
        strangers = {guest.place for guest in outside}
        for destination in (BROADCAST, outside[0].mac, "01:00:5e:00:00:01"):
            frame = frames.marked(inside[0].mac, destination, b"who hears this?")
            arrived = testbed.exchange(inside[0], frame)
            assert len(arrived) == len(inside) - 1
            assert not strangers & {arrival.place for arrival in arrived}


def test_equal_macs_and_addresses_in_two_networks_do_not_mix(shared_macs_testbed: Testbed) -> None:
    testbed = shared_macs_testbed
    places = testbed.places(3)
    red = testbed.create(*((p, 10) for p in places))
    blue = testbed.create(*((p, 20) for p in reversed(places)))
    pairs = []
    for network in (red, blue):
        e, f, _ = network.description().endpoints
        pairs.append((testbed.guest(network, e, frames.mac(0xA)), testbed.guest(network, f, frames.mac(0xB))))
    for a, b in pairs:
        testbed.announce(a, b)
    for a, b in pairs:
        question = frames.arp(a.mac, "10.0.0.1", "10.0.0.2")
        assert len(testbed.exchange(a, question)) == 2
        answer = frames.arp(b.mac, "10.0.0.2", "10.0.0.1", reply_to=a.mac)
        assert testbed.exchange(b, answer) == [a.arrival(answer)]
    for a, b in pairs:
        packet = frames.ipv4(a.mac, b.mac, "10.0.0.1", "10.0.0.2", frames.udp(1, 2, b"same addresses"))
        assert testbed.exchange(a, packet) == [b.arrival(packet)]


def test_native_networks_refuse_a_mac_of_another_native_network(native_testbed: Testbed) -> None:
    testbed = native_testbed
    places = testbed.places(6)
    red, blue = testbed.create(*places[0::2]), testbed.create(*places[1::2])
    a, b, _ = testbed.guests(red)
    c, d, _ = testbed.guests(blue)
    testbed.announce(a, b, c, d)
    reader = EventReader(testbed.harness.connection)
    intruder = testbed.guest(blue, blue.description().endpoints[0], a.mac)
    for destination in (BROADCAST, d.mac, b.mac):
        testbed.send(intruder, frames.marked(intruder.mac, destination, b"not mine"))
        reached = {arrival.place for arrival in testbed.harness.receive(4 * testbed.harness.quiet_time)}
        assert not reached & {Place(e.switch, e.port) for e in red.description().endpoints}

    def not_reported() -> bool:
        testbed.harness.send(intruder.place, [intruder.on_wire(frames.marked(a.mac, BROADCAST, b"again"))])
        return "host.refused" not in reader.kinds()

    testbed.eventually(not_reported, "the refused host is reported as an event")
    testbed.harness.receive(2 * testbed.harness.quiet_time)
    testbed.drain()
    frame = frames.marked(b.mac, a.mac, b"still here")
    assert testbed.exchange(b, frame) == [a.arrival(frame)]


def test_a_spoofed_source_does_not_divert_another_networks_traffic(shared_macs_testbed: Testbed) -> None:
    testbed = shared_macs_testbed
    places = testbed.places(6)
    red, blue = testbed.create(*places[0::2]), testbed.create(*places[1::2])
    a, b, c = testbed.guests(red)
    thief = testbed.guests(blue)[0]
    testbed.announce(a, b, c, thief)
    for stolen in (a.mac, b.mac):
        testbed.exchange(thief, frames.marked(stolen, BROADCAST, b"I am you"))
        testbed.exchange(thief, frames.marked(stolen, c.mac, b"I am you"))
    frame = frames.marked(c.mac, a.mac, b"really you?")
    assert testbed.exchange(c, frame) == [a.arrival(frame)]


def test_ports_without_an_endpoint_reach_no_endpoint(testbed: Testbed) -> None:
    *inside, outside = testbed.places(4)
    guests = testbed.guests(testbed.create(*inside))
    testbed.announce(*guests)
    for destination in (BROADCAST, guests[0].mac, "33:33:00:00:00:01"):
        frame = frames.marked(frames.mac(0xBAD), destination, b"let me in")
        assert testbed.inject(outside, frame) == []
        assert testbed.inject(outside, frames.tagged(frame, tag(1))) == []
    spoofed = frames.marked(guests[0].mac, BROADCAST, b"let me in")
    assert testbed.inject(outside, spoofed) == []


def test_unclaimed_tags_reach_no_endpoint(testbed: Testbed) -> None:
    p, q, r = testbed.places(3)
    a, b, c = testbed.guests(testbed.create(p, (q, 20), (r, 30)))
    testbed.announce(a, b, c)
    plain = frames.marked(frames.mac(0xBAD), BROADCAST, b"wrong tag")
    for vid in (1, 20, 30, 4094, 4095):
        assert testbed.inject(p, frames.tagged(plain, tag(vid))) == []
    for vid in (1, 19, 21, 30, 4094):
        assert testbed.inject(q, frames.tagged(plain, tag(vid))) == []
    assert testbed.inject(q, plain) == []


def test_priority_tags_are_treated_as_the_oracle_says(testbed: Testbed) -> None:
    p, q, r = testbed.places(3)
    network = testbed.create(p, (q, 20), r)
    a, b, c = testbed.guests(network)
    testbed.announce(a, b, c)
    for guest in (a, b):
        for priority in (0, 5):
            for destination in (BROADCAST, c.mac):
                frame = frames.marked(guest.mac, destination, b"urgent")
                testbed.inject(guest.place, frames.tagged(frame, tag(0, priority=priority)))
    frame = frames.marked(b.mac, c.mac, b"tagged, with a priority")
    testbed.inject(b.place, frames.tagged(frame, tag(20, priority=5)))
    if testbed.offers("tag.priority"):
        stranger = testbed.guest(network, network.description().endpoints[0])
        frame = frames.marked(stranger.mac, BROADCAST, b"its first frame")
        arrived = testbed.inject(a.place, frames.tagged(frame, tag(0, priority=7)))
        assert sorted(arrived) == sorted((b.arrival(frame), c.arrival(frame)))
        answer = frames.marked(c.mac, stranger.mac, b"known")
        assert testbed.inject(c.place, frames.tagged(answer, tag(0, tpid=AD))) == [stranger.arrival(answer)]
    for below in (tag(0), tag(20), tag(0) + tag(20), tag(5, tpid=AD)):
        frame = frames.tagged(frames.marked(a.mac, BROADCAST, b"another tag"), tag(0, priority=1), below)
        for guest in (a, b):
            testbed.inject(guest.place, frame)


def test_networks_share_a_port_by_tag(testbed: Testbed) -> None:
    p, q = testbed.places(2)
    networks = [testbed.create((p, vlan), (q, vlan)) for vlan in (None, 1, 100, 4094)]
    pairs = [testbed.guests(network) for network in networks]
    testbed.announce(*(guest for pair in pairs for guest in pair))
    for a, b in pairs:
        for destination in (BROADCAST, b.mac):
            frame = frames.marked(a.mac, destination, b"same port, other network")
            assert testbed.exchange(a, frame) == [b.arrival(frame)]


def test_inner_tags_of_guests_do_not_reach_other_networks(testbed: Testbed) -> None:
    p, q = testbed.places(2)
    red, blue = (
        testbed.guests(testbed.create((p, 10), (q, 10))),
        testbed.guests(testbed.create((p, 20), (q, 20))),
    )
    testbed.announce(*red, *blue)
    for inner in (tag(20), tag(10), tag(0), tag(20, tpid=AD), tag(20) + tag(10)):
        for destination in (BROADCAST, red[1].mac, blue[1].mac):
            frame = frames.tagged(frames.marked(red[0].mac, destination, b"two tags"), inner)
            arrived = testbed.exchange(red[0], frame)
            assert all(arrival.frame[12:16] == tag(10) for arrival in arrived)


def test_tunnel_tags_from_guests_do_not_enter_tunnels(testbed: Testbed) -> None:
    p, q, r = testbed.places(3)
    untagged = testbed.guests(testbed.create(p, q, r))
    tagged = testbed.guests(testbed.create((p, 20), (q, 20), (r, 20)))
    testbed.announce(*untagged, *tagged)
    for vid in (*range(0, 8), 20, 4094):
        for destination in (BROADCAST, untagged[1].mac, tagged[1].mac):
            # Another host in each network: addresses are unique where frames travel as hosts send them.
            source = frames.mac(0xBAD if vid == 20 else 0xBAE)
            frame = frames.marked(source, destination, b"through the tunnel")
            for tags in (tag(vid, tpid=AD), tag(vid, tpid=AD) + tag(1, tpid=AD), tag(vid, tpid=AD) + tag(20)):
                testbed.inject(p, frames.tagged(frame, tags))
    other = frames.marked(untagged[0].mac, BROADCAST, b"a tag of an older kind")
    testbed.inject(p, frames.tagged(other, tag(20, tpid=0x9100)))


@pytest.mark.parametrize("labels", [(16,), (16, 17), (1, 16), (3,), ()])
def test_mpls_from_guests_stays_in_their_network(testbed: Testbed, labels: tuple[int, ...]) -> None:
    a, b, c = testbed.guests(testbed.create(*testbed.places(3)))
    testbed.announce(a, b, c)
    for destination in (BROADCAST, b.mac):
        for kind in (frames.MPLS, frames.MPLS_MULTICAST):
            testbed.exchange(a, frames.mpls(a.mac, destination, *labels, kind=kind))


def test_lldp_from_guests_does_not_change_the_topology(testbed: Testbed) -> None:
    *inside, outside = testbed.places(4)
    a, b, c = testbed.guests(testbed.create(*inside))
    testbed.announce(a, b, c)
    before = testbed.harness.connection.substrate().links
    for destination in ("01:80:c2:00:00:0e", "01:80:c2:00:00:03", "01:80:c2:00:00:00", BROADCAST, b.mac):
        for chassis in (b"forged", b"dpid:0000000000000001", bytes(8)):
            frame = frames.lldp(a.mac, chassis, destination=destination)
            testbed.exchange(a, frame)
            testbed.inject(outside, frame)
    testbed.drain()
    assert testbed.harness.connection.substrate().links == before
    frame = frames.marked(a.mac, c.mac, b"as before")
    assert testbed.exchange(a, frame) == [c.arrival(frame)]


def test_frames_of_link_protocols_are_carried_like_all_others(testbed: Testbed) -> None:
    p, q, r = testbed.places(3)
    a, b, c = testbed.guests(testbed.create(p, (q, 20), r))
    testbed.announce(a, b, c)
    for last in (0x04, 0x05, 0x0D, 0x0F, 0x10):  # reserved for bridges as well, by IEEE 802.1Q, table 8-1
        testbed.exchange(a, frames.marked(a.mac, f"01:80:c2:00:00:{last:02x}", b"bridges only"))
    for sender in (a, b):
        sent = [protocol.frame(sender.mac) for protocol in LINK_PROTOCOLS]
        arrived = testbed.exchange(sender, *sent)
        for guest in {a, b, c} - {sender}:
            carried = {arrival.frame for arrival in arrived if arrival.place == guest.place}
            lost = [
                protocol.name
                for protocol, frame in zip(LINK_PROTOCOLS, sent, strict=True)
                if guest.arrival(frame).frame not in carried
            ]
            assert lost == [], f"at {guest.place}"


def test_group_addresses_as_source_are_not_learned(testbed: Testbed) -> None:
    network = testbed.create(*testbed.places(3))
    a, b, _ = testbed.guests(network)
    testbed.announce(a, b)
    for source in (BROADCAST, "01:00:5e:00:00:01", "00:00:00:00:00:00"):
        testbed.exchange(a, frames.marked(source, b.mac, b"from a group"))
        testbed.exchange(a, frames.marked(source, BROADCAST, b"from a group"))
    testbed.drain()
    assert {host.mac for host in network.state().hosts} == {a.mac, b.mac}
