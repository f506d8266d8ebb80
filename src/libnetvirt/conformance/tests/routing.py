"""L3: the network looks like one router."""

from __future__ import annotations

import time
from ipaddress import IPv4Address

import pytest

from libnetvirt import Network
from libnetvirt.conformance.harness import Place
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.router_testbed import Routed, udp_packet
from libnetvirt.conformance.support.testbed import Bench, Guest, Tag, endpoint_at
from libnetvirt.conformance.tests.observation import LATE
from libnetvirt.errors import Unsupported
from libnetvirt.semantics import gateway_mac


@pytest.fixture
def routed_bench(bench: Bench) -> Bench:
    """A bench of a driver that offers L3 with these rules."""
    if not bench.offers("forwarding.L3"):
        pytest.skip("the driver does not offer forwarding.L3")
    try:
        bench.create(forwarding="L3").remove()
    except Unsupported:
        pytest.skip("the driver does not offer forwarding.L3 with these rules")
    return bench


def _router(bench: Bench, places: list[Place], vlan: int | None = None) -> tuple[Network, list[Guest], str]:
    endpoints = [
        endpoint_at(p, n, vlan, address=(f"10.0.{n}.254/24", f"fd00:{n}::fe/64"))
        for n, p in enumerate(places, 1)
    ]
    network = bench.create(forwarding="L3", endpoints=endpoints)
    return network, bench.guests(network), frames.octets_text(gateway_mac(network.uuid))


def _ip(frame: bytes) -> tuple[str, str, int, int]:
    """Sender, receiver, TTL and protocol of an untagged IPv4 frame."""
    assert frame[12:14] == b"\x08\x00"
    assert frames.checksum(frame[14:34]) == 0
    return str(IPv4Address(frame[26:30])), str(IPv4Address(frame[30:34])), frame[22], frame[23]


def test_the_router_answers_arp_for_its_own_addresses_only(routed_bench: Bench) -> None:
    _, (a, _, _), gateway = _router(routed_bench, routed_bench.places(3))
    (reply,) = routed_bench.exchange(a, frames.arp(a.mac, "10.0.1.1", "10.0.1.254"))
    assert reply.place == a.place
    assert reply.frame[:12] == frames.octets(a.mac) + frames.octets(gateway)
    assert reply.frame[20:28] == b"\0\2" + frames.octets(gateway)
    assert reply.frame[28:32] == IPv4Address("10.0.1.254").packed
    assert routed_bench.exchange(a, frames.arp(a.mac, "10.0.1.1", "10.0.1.77")) == []
    assert routed_bench.exchange(a, frames.arp(a.mac, "10.0.1.1", "10.0.2.254")) == []


def test_the_router_answers_neighbour_solicitations(routed_bench: Bench) -> None:
    _, (a, _, _), gateway = _router(routed_bench, routed_bench.places(3))
    (reply,) = routed_bench.exchange(a, frames.solicitation(a.mac, "fd00:1::1", "fd00:1::fe"))
    assert reply.place == a.place
    assert reply.frame[6:12] == frames.octets(gateway)
    assert reply.frame[54] == 136


def test_the_router_answers_ping(routed_bench: Bench) -> None:
    _, (a, _, _), gateway = _router(routed_bench, routed_bench.places(3))
    routed_bench.exchange(a, frames.arp(a.mac, "10.0.1.1", "10.0.1.254"))
    for target in ("10.0.1.254", "10.0.3.254"):
        ping = frames.ipv4(a.mac, gateway, "10.0.1.1", target, frames.echo(1, 1), protocol=1)
        (reply,) = routed_bench.exchange(a, ping)
        assert reply.place == a.place
        assert _ip(reply.frame)[:2] == (target, "10.0.1.1")
        assert reply.frame[34] == 0


def test_packets_are_routed_with_one_ttl_less(routed_bench: Bench) -> None:
    _, (a, b, _), gateway = _router(routed_bench, routed_bench.places(3))
    packet = frames.ipv4(a.mac, gateway, "10.0.1.1", "10.0.2.1", frames.udp(5, 6, b"routed"))
    (asked,) = routed_bench.exchange(a, packet)
    assert asked.place == b.place
    assert asked.frame[12:14] == b"\x08\x06"
    answer = frames.arp(b.mac, "10.0.2.1", "10.0.2.254", reply_to=gateway)
    (routed_packet,) = routed_bench.exchange(b, answer)
    assert routed_packet.place == b.place
    assert routed_packet.frame[:12] == frames.octets(b.mac) + frames.octets(gateway)
    assert _ip(routed_packet.frame) == ("10.0.1.1", "10.0.2.1", 63, 17)
    (again,) = routed_bench.exchange(a, packet)
    assert again == routed_packet


def test_traceroute_shows_one_router(routed_bench: Bench) -> None:
    _, (a, _, _), gateway = _router(routed_bench, routed_bench.places(3))
    routed_bench.exchange(a, frames.arp(a.mac, "10.0.1.1", "10.0.1.254"))
    packet = frames.ipv4(a.mac, gateway, "10.0.1.1", "10.0.2.1", frames.udp(5, 33434, b"?"), ttl=1)
    (reply,) = routed_bench.exchange(a, packet)
    assert reply.place == a.place
    assert _ip(reply.frame)[0] == "10.0.1.254"
    assert reply.frame[34:36] == bytes((11, 0))


def test_destinations_without_a_route_are_reported(routed_bench: Bench) -> None:
    if not routed_bench.offers("router.no-route"):
        pytest.skip("the driver does not offer router.no-route")
    _, (a, _, _), gateway = _router(routed_bench, routed_bench.places(3))
    routed_bench.exchange(a, frames.arp(a.mac, "10.0.1.1", "10.0.1.254"))
    packet = frames.ipv4(a.mac, gateway, "10.0.1.1", "192.0.2.1", frames.udp(5, 6, b"?"))
    (reply,) = routed_bench.exchange(a, packet)
    assert reply.frame[34:36] == bytes((3, 0))


def test_equal_prefixes_in_two_networks_do_not_mix(routed_bench: Bench) -> None:
    places = routed_bench.places(3)
    routers = [_router(routed_bench, places, vlan) for vlan in (None, 30)]
    for _, (a, b, _), gateway in routers:
        answer = frames.arp(b.mac, "10.0.2.1", "10.0.2.254", reply_to=gateway)
        routed_bench.exchange(b, answer)
        packet = frames.ipv4(a.mac, gateway, "10.0.1.1", "10.0.2.1", frames.udp(5, 6, b"mine"))
        routed_bench.exchange(a, packet)
    for _, (a, b, _), gateway in routers:
        packet = frames.ipv4(a.mac, gateway, "10.0.1.1", "10.0.2.1", frames.udp(5, 6, b"mine"))
        arrived = routed_bench.exchange(a, packet)
        assert [arrival.place for arrival in arrived] == [b.place]


def test_frames_that_are_not_for_the_router_go_nowhere(routed_bench: Bench) -> None:
    _, (a, b, _), _ = _router(routed_bench, routed_bench.places(3))
    for destination in (b.mac, frames.BROADCAST):
        packet = frames.ipv4(a.mac, destination, "10.0.1.1", "10.0.2.1", frames.udp(5, 6, b"bridged?"))
        assert routed_bench.exchange(a, packet) == []


def test_packets_of_both_ip_versions_are_routed_between_endpoints_of_every_tag(
    routed_bench: Bench,
) -> None:
    tags: list[Tag] = [None, 40]
    if routed_bench.offers("tag.mpls"):
        tags.append({"mpls": 400})
    for tag in tags:
        routed = Routed(routed_bench, routed_bench.places(4), tag)
        routed.introduce()
        routed.check_all()


def test_packets_go_back_through_the_port_they_came_from(routed_bench: Bench) -> None:
    """Two endpoints with tags on one port, and two prefixes on one endpoint."""
    bench, (place, other) = routed_bench, routed_bench.places(2)
    prefixes = ("10.0.1.254/24", "10.7.0.254/24"), ("10.0.2.254/24",), ("10.0.3.254/24",)
    ends = [
        endpoint_at(p, n, vlan, address=prefixes[n - 1])
        for n, (p, vlan) in enumerate(((place, 10), (place, 20), (other, None)), 1)
    ]
    network = bench.create(forwarding="L3", endpoints=ends)
    gateway = frames.octets_text(gateway_mac(network.uuid))
    a, b, _ = bench.guests(network)
    c = bench.guest(network, network.description().endpoints[0])
    for guest, address, own in (
        (a, "10.0.1.1", "10.0.1.254"), (b, "10.0.2.1", "10.0.2.254"), (c, "10.7.0.1", "10.7.0.254")
    ):  # fmt: skip
        bench.exchange(guest, frames.arp(guest.mac, address, own))
    for guest, target in ((b, "10.0.2.1"), (c, "10.7.0.1")):
        packet = udp_packet(a, gateway, "10.0.1.1", target, b"round")
        assert [x.place for x in bench.exchange(a, packet)] == [guest.place]
        assert bench.exchange(a, packet)[0].frame[-24:] == packet[-24:]


def test_the_longest_prefix_wins_and_routes_lead_behind_hosts(routed_bench: Bench) -> None:
    bench = routed_bench
    routes = {
        2: [{"prefix": "0.0.0.0/0", "via": "10.0.2.7"}, {"prefix": "10.9.0.0/16", "via": "10.0.2.8"}],
        3: [{"prefix": "10.9.8.0/24", "via": "10.0.3.7"}, {"prefix": "10.0.1.64/26", "via": "10.0.3.7"}],
    }
    ends = [
        endpoint_at(p, n, address=f"10.0.{n}.254/24", route=routes.get(n, ()))
        for n, p in enumerate(bench.places(3), 1)
    ]
    network = bench.create(forwarding="L3", endpoints=ends)
    gateway = frames.octets_text(gateway_mac(network.uuid))
    a, b, c = bench.guests(network)
    b8 = bench.guest(network, network.description().endpoints[1])
    hosts = {b: "10.0.2.7", b8: "10.0.2.8", c: "10.0.3.7", a: "10.0.1.65"}
    for guest, address in hosts.items():
        own = f"10.0.{guest.endpoint}.254"
        bench.exchange(guest, frames.arp(guest.mac, address, own))
    ways = {"198.51.100.1": b, "10.9.7.1": b8, "10.9.8.1": c, "10.0.1.65": c, "10.0.3.7": c}
    for target, guest in ways.items():
        for _ in range(2):
            packet = udp_packet(a, gateway, "10.0.1.1", target, target.encode())
            (arrived,) = bench.exchange(a, packet)
            assert (arrived.place, arrived.frame[:6]) == (guest.place, frames.octets(guest.mac)), target


def test_addresses_cannot_be_taken_from_where_they_are_not(routed_bench: Bench) -> None:
    bench = routed_bench
    ends = [
        endpoint_at(p, n, address=f"10.0.{n}.254/24", mac=frames.mac(0x77) if n == 2 else ())
        for n, p in enumerate(bench.places(3), 1)
    ]
    network = bench.create(forwarding="L3", endpoints=ends)
    gateway = frames.octets_text(gateway_mac(network.uuid))
    a, b, thief = bench.guests(network)
    declared = bench.guest(network, network.description().endpoints[1], frames.mac(0x77))
    bench.exchange(declared, frames.arp(declared.mac, "10.0.2.1", "10.0.2.254"))
    bench.exchange(b, frames.arp(b.mac, "10.0.2.2", "10.0.2.254"))
    for address in ("10.0.2.1", "10.0.2.2"):
        # Not on its prefix, in the name of another's MAC address, and as the gateway itself.
        lies = (
            frames.arp(thief.mac, address, "10.0.3.254"),
            frames.arp(thief.mac, address, address),
            frames.arp(thief.mac, address, "10.0.3.254", reply_to=gateway),
            frames.arp(declared.mac, "10.0.3.1", "10.0.3.254"),
            frames.arp(thief.mac, "10.0.3.254", "10.0.3.254"),
        )
        # Whether such a question is answered is the driver's matter; nobody must believe it.
        bench.send(thief, *lies)
        while bench.harness.receive(bench.harness.quiet):
            pass
    for address, owner in (("10.0.2.1", declared), ("10.0.2.2", b)):
        packet = udp_packet(a, gateway, "10.0.1.1", address, b"mine")
        (arrived,) = bench.exchange(a, packet)
        assert (arrived.place, arrived.frame[:6]) == (owner.place, frames.octets(owner.mac))


def test_a_neighbour_that_has_another_mac_address_is_followed(routed_bench: Bench) -> None:
    routed = Routed(routed_bench, routed_bench.places(2))
    routed.introduce()
    routed.check_all()
    new = routed_bench.guest(routed.network, routed.network.description().endpoints[1])
    gratuitous = frames.arp(new.mac, routed.v4[2].address, routed.v4[2].address)
    assert routed_bench.exchange(new, gratuitous) == []
    routed.settle(2, new)
    routed.introduce(routed.v6[2])
    routed.check_all()


def test_statistics_count_routed_packets(routed_bench: Bench) -> None:
    bench = routed_bench
    if not bench.offers("statistics"):
        pytest.skip("the driver does not offer statistics")
    here = bench.neighbours()
    there = next(p for p in bench.places(2) if p.switch != here[0].switch)
    routed = Routed(bench, [*here, there])
    routed.introduce()
    routed.check_all()
    a = routed.v4[1]

    def counted() -> tuple[int, ...]:
        counters = {c.endpoint: c for c in routed.network.statistics()}
        return (
            counters["1"].received_packets, counters["2"].delivered_packets, counters["3"].delivered_packets
        )  # fmt: skip

    time.sleep(LATE)
    before = counted()
    packets = [routed.sent(a, routed.v4[n], b"count me") for n in (2, 3) for _ in range(20)]
    bench.send(a.guest, *packets)
    expected = before[0] + 40, before[1] + 20, before[2] + 20
    bench.eventually(lambda: counted() != expected and (counted(), expected), "40 packets more are counted")
    time.sleep(LATE)
    assert counted() == expected
    bench.drain()
