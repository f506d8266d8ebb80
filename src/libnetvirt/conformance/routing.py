"""L3: the network looks like one router."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from libnetvirt import Network
from libnetvirt.conformance import frames
from libnetvirt.conformance.bench import Bench, Guest, endpoint_at
from libnetvirt.conformance.harness import Place
from libnetvirt.semantics import gateway_mac


@pytest.fixture
def routed(plain_bench: Bench) -> Bench:
    """A bench of a driver that offers L3."""
    if not plain_bench.offers("forwarding.L3"):
        pytest.skip("the driver does not offer forwarding.L3")
    return plain_bench


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


def test_the_router_answers_arp_for_its_own_addresses_only(routed: Bench) -> None:
    _, (a, _, _), gateway = _router(routed, routed.places(3))
    (reply,) = routed.exchange(a, frames.arp(a.mac, "10.0.1.1", "10.0.1.254"))
    assert reply.place == a.place
    assert reply.frame[:12] == frames.octets(a.mac) + frames.octets(gateway)
    assert reply.frame[20:28] == b"\0\2" + frames.octets(gateway)
    assert reply.frame[28:32] == IPv4Address("10.0.1.254").packed
    assert routed.exchange(a, frames.arp(a.mac, "10.0.1.1", "10.0.1.77")) == []
    assert routed.exchange(a, frames.arp(a.mac, "10.0.1.1", "10.0.2.254")) == []


def test_the_router_answers_neighbour_solicitations(routed: Bench) -> None:
    _, (a, _, _), gateway = _router(routed, routed.places(3))
    (reply,) = routed.exchange(a, frames.solicitation(a.mac, "fd00:1::1", "fd00:1::fe"))
    assert reply.place == a.place
    assert reply.frame[6:12] == frames.octets(gateway)
    assert reply.frame[54] == 136


def test_the_router_answers_ping(routed: Bench) -> None:
    _, (a, _, _), gateway = _router(routed, routed.places(3))
    routed.exchange(a, frames.arp(a.mac, "10.0.1.1", "10.0.1.254"))
    for target in ("10.0.1.254", "10.0.3.254"):
        ping = frames.ipv4(a.mac, gateway, "10.0.1.1", target, frames.echo(1, 1), protocol=1)
        (reply,) = routed.exchange(a, ping)
        assert reply.place == a.place
        assert _ip(reply.frame)[:2] == (target, "10.0.1.1")
        assert reply.frame[34] == 0


def test_packets_are_routed_with_one_ttl_less(routed: Bench) -> None:
    _, (a, b, _), gateway = _router(routed, routed.places(3))
    packet = frames.ipv4(a.mac, gateway, "10.0.1.1", "10.0.2.1", frames.udp(5, 6, b"routed"))
    (asked,) = routed.exchange(a, packet)
    assert asked.place == b.place
    assert asked.frame[12:14] == b"\x08\x06"
    answer = frames.arp(b.mac, "10.0.2.1", "10.0.2.254", reply_to=gateway)
    (routed_packet,) = routed.exchange(b, answer)
    assert routed_packet.place == b.place
    assert routed_packet.frame[:12] == frames.octets(b.mac) + frames.octets(gateway)
    assert _ip(routed_packet.frame) == ("10.0.1.1", "10.0.2.1", 63, 17)
    (again,) = routed.exchange(a, packet)
    assert again == routed_packet


def test_traceroute_shows_one_router(routed: Bench) -> None:
    _, (a, _, _), gateway = _router(routed, routed.places(3))
    routed.exchange(a, frames.arp(a.mac, "10.0.1.1", "10.0.1.254"))
    packet = frames.ipv4(a.mac, gateway, "10.0.1.1", "10.0.2.1", frames.udp(5, 33434, b"?"), ttl=1)
    (reply,) = routed.exchange(a, packet)
    assert reply.place == a.place
    assert _ip(reply.frame)[0] == "10.0.1.254"
    assert reply.frame[34:36] == bytes((11, 0))


def test_destinations_without_a_route_are_reported(routed: Bench) -> None:
    if not routed.offers("router.no-route"):
        pytest.skip("the driver does not offer router.no-route")
    _, (a, _, _), gateway = _router(routed, routed.places(3))
    routed.exchange(a, frames.arp(a.mac, "10.0.1.1", "10.0.1.254"))
    packet = frames.ipv4(a.mac, gateway, "10.0.1.1", "192.0.2.1", frames.udp(5, 6, b"?"))
    (reply,) = routed.exchange(a, packet)
    assert reply.frame[34:36] == bytes((3, 0))


def test_equal_prefixes_in_two_networks_do_not_mix(routed: Bench) -> None:
    places = routed.places(3)
    routers = [_router(routed, places, vlan) for vlan in (None, 30)]
    for _, (a, b, _), gateway in routers:
        answer = frames.arp(b.mac, "10.0.2.1", "10.0.2.254", reply_to=gateway)
        routed.exchange(b, answer)
        packet = frames.ipv4(a.mac, gateway, "10.0.1.1", "10.0.2.1", frames.udp(5, 6, b"mine"))
        routed.exchange(a, packet)
    for _, (a, b, _), gateway in routers:
        packet = frames.ipv4(a.mac, gateway, "10.0.1.1", "10.0.2.1", frames.udp(5, 6, b"mine"))
        arrived = routed.exchange(a, packet)
        assert [arrival.place for arrival in arrived] == [b.place]


def test_frames_that_are_not_for_the_router_go_nowhere(routed: Bench) -> None:
    _, (a, b, _), _ = _router(routed, routed.places(3))
    for destination in (b.mac, frames.BROADCAST):
        packet = frames.ipv4(a.mac, destination, "10.0.1.1", "10.0.2.1", frames.udp(5, 6, b"bridged?"))
        assert routed.exchange(a, packet) == []
