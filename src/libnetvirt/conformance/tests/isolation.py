"""What enters at an endpoint leaves at endpoints of the same network only; the rest goes nowhere."""

from __future__ import annotations

import pytest

from libnetvirt.conformance.harness import Place
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.frames import AD, BROADCAST, tag
from libnetvirt.conformance.support.stream import Listener
from libnetvirt.conformance.support.testbed import Bench


def test_two_networks_do_not_see_each_other(bench: Bench) -> None:
    places = bench.places(6)
    red, blue = bench.guests(bench.create(*places[0::2])), bench.guests(bench.create(*places[1::2]))
    bench.meet(*red, *blue)
    for inside, outside in ((red, blue), (blue, red)):
        strangers = {guest.place for guest in outside}
        for destination in (BROADCAST, outside[0].mac, "01:00:5e:00:00:01"):
            frame = frames.marked(inside[0].mac, destination, b"who hears this?")
            arrived = bench.exchange(inside[0], frame)
            assert len(arrived) == len(inside) - 1
            assert not strangers & {arrival.place for arrival in arrived}


def test_equal_macs_and_addresses_in_two_networks_do_not_mix(bench: Bench) -> None:
    if bench.native:
        pytest.skip("native rules need unique MAC addresses: there is a test of its own")
    places = bench.places(3)
    red = bench.create(*((p, 10) for p in places))
    blue = bench.create(*((p, 20) for p in reversed(places)))
    pairs = []
    for network in (red, blue):
        e, f, _ = network.description().endpoints
        pairs.append((bench.guest(network, e, frames.mac(0xA)), bench.guest(network, f, frames.mac(0xB))))
    for a, b in pairs:
        bench.meet(a, b)
    for a, b in pairs:
        question = frames.arp(a.mac, "10.0.0.1", "10.0.0.2")
        assert len(bench.exchange(a, question)) == 2
        answer = frames.arp(b.mac, "10.0.0.2", "10.0.0.1", reply_to=a.mac)
        assert bench.exchange(b, answer) == [a.arrival(answer)]
    for a, b in pairs:
        packet = frames.ipv4(a.mac, b.mac, "10.0.0.1", "10.0.0.2", frames.udp(1, 2, b"same addresses"))
        assert bench.exchange(a, packet) == [b.arrival(packet)]


def test_native_networks_refuse_a_mac_of_another_native_network(bench: Bench) -> None:
    if not bench.native:
        pytest.skip("equal MAC addresses are allowed with these rules")
    places = bench.places(6)
    red, blue = bench.create(*places[0::2]), bench.create(*places[1::2])
    a, b, _ = bench.guests(red)
    c, d, _ = bench.guests(blue)
    bench.meet(a, b, c, d)
    listener = Listener(bench.harness.connection)
    intruder = bench.guest(blue, blue.description().endpoints[0], a.mac)
    for destination in (BROADCAST, d.mac, b.mac):
        bench.send(intruder, frames.marked(intruder.mac, destination, b"not mine"))
        reached = {arrival.place for arrival in bench.harness.receive(4 * bench.harness.quiet)}
        assert not reached & {Place(e.switch, e.port) for e in red.description().endpoints}

    def not_reported() -> bool:
        bench.harness.send(intruder.place, [intruder.wrapped(frames.marked(a.mac, BROADCAST, b"again"))])
        return "host.refused" not in listener.kinds()

    bench.eventually(not_reported, "the refused host is reported as an event")
    bench.harness.receive(2 * bench.harness.quiet)
    bench.drain()
    frame = frames.marked(b.mac, a.mac, b"still here")
    assert bench.exchange(b, frame) == [a.arrival(frame)]


def test_a_spoofed_source_does_not_divert_another_networks_traffic(bench: Bench) -> None:
    if bench.native:
        pytest.skip("native rules need unique MAC addresses: there is a test of its own")
    places = bench.places(6)
    red, blue = bench.create(*places[0::2]), bench.create(*places[1::2])
    a, b, c = bench.guests(red)
    thief = bench.guests(blue)[0]
    bench.meet(a, b, c, thief)
    for stolen in (a.mac, b.mac):
        bench.exchange(thief, frames.marked(stolen, BROADCAST, b"I am you"))
        bench.exchange(thief, frames.marked(stolen, c.mac, b"I am you"))
    frame = frames.marked(c.mac, a.mac, b"really you?")
    assert bench.exchange(c, frame) == [a.arrival(frame)]


def test_ports_without_an_endpoint_reach_nobody(bench: Bench) -> None:
    *inside, outside = bench.places(4)
    guests = bench.guests(bench.create(*inside))
    bench.meet(*guests)
    for destination in (BROADCAST, guests[0].mac, "33:33:00:00:00:01"):
        frame = frames.marked(frames.mac(0xBAD), destination, b"let me in")
        assert bench.inject(outside, frame) == []
        assert bench.inject(outside, frames.tagged(frame, tag(1))) == []
    spoofed = frames.marked(guests[0].mac, BROADCAST, b"let me in")
    assert bench.inject(outside, spoofed) == []


def test_unclaimed_tags_reach_nobody(bench: Bench) -> None:
    p, q, r = bench.places(3)
    a, b, c = bench.guests(bench.create(p, (q, 20), (r, 30)))
    bench.meet(a, b, c)
    plain = frames.marked(frames.mac(0xBAD), BROADCAST, b"wrong tag")
    for vid in (1, 20, 30, 4094, 4095):
        assert bench.inject(p, frames.tagged(plain, tag(vid))) == []
    for vid in (1, 19, 21, 30, 4094):
        assert bench.inject(q, frames.tagged(plain, tag(vid))) == []
    assert bench.inject(q, plain) == []


def test_priority_tags_are_treated_as_the_oracle_says(bench: Bench) -> None:
    p, q, r = bench.places(3)
    a, b, c = bench.guests(bench.create(p, (q, 20), r))
    bench.meet(a, b, c)
    for guest in (a, b):
        for priority in (0, 5):
            for destination in (BROADCAST, c.mac):
                frame = frames.marked(guest.mac, destination, b"urgent")
                bench.inject(guest.place, frames.tagged(frame, tag(0, priority=priority)))
    frame = frames.marked(b.mac, c.mac, b"tagged, with a priority")
    bench.inject(b.place, frames.tagged(frame, tag(20, priority=5)))


def test_networks_share_a_port_by_tag(bench: Bench) -> None:
    p, q = bench.places(2)
    networks = [bench.create((p, vlan), (q, vlan)) for vlan in (None, 1, 100, 4094)]
    pairs = [bench.guests(network) for network in networks]
    bench.meet(*(guest for pair in pairs for guest in pair))
    for a, b in pairs:
        for destination in (BROADCAST, b.mac):
            frame = frames.marked(a.mac, destination, b"same port, other network")
            assert bench.exchange(a, frame) == [b.arrival(frame)]


def test_guests_tags_below_their_own_do_not_lead_elsewhere(bench: Bench) -> None:
    p, q = bench.places(2)
    red, blue = bench.guests(bench.create((p, 10), (q, 10))), bench.guests(bench.create((p, 20), (q, 20)))
    bench.meet(*red, *blue)
    for inner in (tag(20), tag(10), tag(0), tag(20, tpid=AD), tag(20) + tag(10)):
        for destination in (BROADCAST, red[1].mac, blue[1].mac):
            frame = frames.tagged(frames.marked(red[0].mac, destination, b"two tags"), inner)
            arrived = bench.exchange(red[0], frame)
            assert all(arrival.frame[12:16] == tag(10) for arrival in arrived)


def test_guests_that_send_tunnel_tags_do_not_get_into_tunnels(bench: Bench) -> None:
    p, q, r = bench.places(3)
    untagged = bench.guests(bench.create(p, q, r))
    tagged = bench.guests(bench.create((p, 20), (q, 20), (r, 20)))
    bench.meet(*untagged, *tagged)
    for vid in (*range(0, 8), 20, 4094):
        for destination in (BROADCAST, untagged[1].mac, tagged[1].mac):
            frame = frames.marked(frames.mac(0xBAD), destination, b"through the tunnel")
            for tags in (tag(vid, tpid=AD), tag(vid, tpid=AD) + tag(1, tpid=AD), tag(vid, tpid=AD) + tag(20)):
                bench.inject(p, frames.tagged(frame, tags))
    other = frames.marked(untagged[0].mac, BROADCAST, b"a tag of an older kind")
    bench.inject(p, frames.tagged(other, tag(20, tpid=0x9100)))


@pytest.mark.parametrize("labels", [(16,), (16, 17), (1, 16), (3,), ()])
def test_guests_that_send_mpls_stay_inside(bench: Bench, labels: tuple[int, ...]) -> None:
    a, b, c = bench.guests(bench.create(*bench.places(3)))
    bench.meet(a, b, c)
    for destination in (BROADCAST, b.mac):
        for kind in (frames.MPLS, frames.MPLS_MULTICAST):
            bench.exchange(a, frames.mpls(a.mac, destination, *labels, kind=kind))


def test_guests_that_send_lldp_change_nothing(bench: Bench) -> None:
    *inside, outside = bench.places(4)
    a, b, c = bench.guests(bench.create(*inside))
    bench.meet(a, b, c)
    before = bench.harness.connection.substrate().links
    for destination in ("01:80:c2:00:00:0e", "01:80:c2:00:00:03", "01:80:c2:00:00:00", BROADCAST, b.mac):
        for chassis in (b"forged", b"dpid:0000000000000001", bytes(8)):
            frame = frames.lldp(a.mac, chassis, destination=destination)
            bench.exchange(a, frame)
            bench.inject(outside, frame)
    bench.watch.rest()
    assert bench.harness.connection.substrate().links == before
    frame = frames.marked(a.mac, c.mac, b"as before")
    assert bench.exchange(a, frame) == [c.arrival(frame)]


def test_link_local_control_frames_are_treated_as_the_oracle_says(bench: Bench) -> None:
    a, b, c = bench.guests(bench.create(*bench.places(3)))
    bench.meet(a, b, c)
    for last in (0x00, 0x01, 0x02, 0x03, 0x0E, 0x10, 0x21):
        bench.exchange(a, frames.marked(a.mac, f"01:80:c2:00:00:{last:02x}", b"bridges only"))


def test_group_addresses_as_source_are_not_learned(bench: Bench) -> None:
    network = bench.create(*bench.places(3))
    a, b, _ = bench.guests(network)
    bench.meet(a, b)
    for source in (BROADCAST, "01:00:5e:00:00:01", "00:00:00:00:00:00"):
        bench.exchange(a, frames.marked(source, b.mac, b"from a group"))
        bench.exchange(a, frames.marked(source, BROADCAST, b"from a group"))
    bench.watch.rest()
    assert {host.mac for host in network.state().hosts} == {a.mac, b.mac}
