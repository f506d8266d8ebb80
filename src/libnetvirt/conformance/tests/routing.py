"""L3: a network forwards like one router."""

from __future__ import annotations

import time
from ipaddress import IPv4Address

import pytest

from libnetvirt import Network
from libnetvirt.conformance.harness import Place
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.router_testbed import RouterNetwork, udp_packet
from libnetvirt.conformance.support.testbed import Guest, Tag, Testbed, endpoint_at
from libnetvirt.conformance.tests.observation import COUNTER_DELAY, check_counted
from libnetvirt.errors import Unsupported
from libnetvirt.semantics import gateway_mac


@pytest.fixture
def router_testbed(request: pytest.FixtureRequest, testbed: Testbed) -> Testbed:
    """The testbed, if the driver offers L3 with these rules options; skips the test otherwise.

    The module's ``ROUTER_OPTIONS``, if there are any, have to be offered.
    """
    testbed.need_feature("forwarding.L3")
    try:
        testbed.create(forwarding="L3").remove()
    except Unsupported:
        if hasattr(request.module, "ROUTER_OPTIONS"):
            raise
        pytest.skip("the driver does not offer forwarding.L3 with these rules")
    return testbed


def _router(
    testbed: Testbed, places: list[Place], vlan: int | None = None
) -> tuple[Network, list[Guest], str]:
    endpoints = [
        endpoint_at(p, n, vlan, address=(f"10.0.{n}.254/24", f"fd00:{n}::fe/64"))
        for n, p in enumerate(places, 1)
    ]
    network = testbed.create(forwarding="L3", endpoints=endpoints)
    return network, testbed.guests(network), frames.mac_text(gateway_mac(network.uuid))


def _ip(frame: bytes) -> tuple[str, str, int, int]:
    """Sender, receiver, TTL and protocol of an untagged IPv4 frame."""
    assert frame[12:14] == b"\x08\x00"
    assert frames.checksum(frame[14:34]) == 0
    return str(IPv4Address(frame[26:30])), str(IPv4Address(frame[30:34])), frame[22], frame[23]


def test_the_router_answers_arp_for_its_own_addresses_only(router_testbed: Testbed) -> None:
    _, (a, _, _), gateway = _router(router_testbed, router_testbed.places(3))
    (reply,) = router_testbed.exchange(a, frames.arp(a.mac, "10.0.1.1", "10.0.1.254"))
    assert reply.place == a.place
    assert reply.frame[:12] == frames.mac_bytes(a.mac) + frames.mac_bytes(gateway)
    assert reply.frame[20:28] == b"\0\2" + frames.mac_bytes(gateway)
    assert reply.frame[28:32] == IPv4Address("10.0.1.254").packed
    assert router_testbed.exchange(a, frames.arp(a.mac, "10.0.1.1", "10.0.1.77")) == []
    assert router_testbed.exchange(a, frames.arp(a.mac, "10.0.1.1", "10.0.2.254")) == []


def test_the_router_answers_neighbour_solicitations(router_testbed: Testbed) -> None:
    _, (a, _, _), gateway = _router(router_testbed, router_testbed.places(3))
    (reply,) = router_testbed.exchange(a, frames.solicitation(a.mac, "fd00:1::1", "fd00:1::fe"))
    assert reply.place == a.place
    assert reply.frame[6:12] == frames.mac_bytes(gateway)
    assert reply.frame[54] == 136


def test_the_router_answers_ping(router_testbed: Testbed) -> None:
    _, (a, _, _), gateway = _router(router_testbed, router_testbed.places(3))
    router_testbed.exchange(a, frames.arp(a.mac, "10.0.1.1", "10.0.1.254"))
    for target, tos in (("10.0.1.254", 0), ("10.0.3.254", 0), ("10.0.1.254", 0xB8)):
        ping = frames.ipv4(a.mac, gateway, "10.0.1.1", target, frames.echo(1, 1), protocol=1, tos=tos)
        (reply,) = router_testbed.exchange(a, ping)
        assert reply.place == a.place
        assert _ip(reply.frame)[:2] == (target, "10.0.1.1")
        assert reply.frame[34] == 0


def test_packets_are_routed_with_one_ttl_less(router_testbed: Testbed) -> None:
    _, (a, b, _), gateway = _router(router_testbed, router_testbed.places(3))
    packet = frames.ipv4(a.mac, gateway, "10.0.1.1", "10.0.2.1", frames.udp(5, 6, b"routed"))
    (asked,) = router_testbed.exchange(a, packet)
    assert asked.place == b.place
    assert asked.frame[12:14] == b"\x08\x06"
    answer = frames.arp(b.mac, "10.0.2.1", "10.0.2.254", reply_to=gateway)
    (routed_packet,) = router_testbed.exchange(b, answer)
    assert routed_packet.place == b.place
    assert routed_packet.frame[:12] == frames.mac_bytes(b.mac) + frames.mac_bytes(gateway)
    assert _ip(routed_packet.frame) == ("10.0.1.1", "10.0.2.1", 63, 17)
    (again,) = router_testbed.exchange(a, packet)
    assert again == routed_packet


def test_traceroute_shows_one_router(router_testbed: Testbed) -> None:
    _, (a, _, _), gateway = _router(router_testbed, router_testbed.places(3))
    router_testbed.exchange(a, frames.arp(a.mac, "10.0.1.1", "10.0.1.254"))
    packet = frames.ipv4(a.mac, gateway, "10.0.1.1", "10.0.2.1", frames.udp(5, 33434, b"?"), ttl=1)
    (reply,) = router_testbed.exchange(a, packet)
    assert reply.place == a.place
    assert _ip(reply.frame)[0] == "10.0.1.254"
    assert reply.frame[34:36] == bytes((11, 0))


def test_destinations_without_a_route_are_reported_if_the_driver_says_so(router_testbed: Testbed) -> None:
    _, (a, _, _), gateway = _router(router_testbed, router_testbed.places(3))
    router_testbed.exchange(a, frames.arp(a.mac, "10.0.1.1", "10.0.1.254"))
    packet = frames.ipv4(a.mac, gateway, "10.0.1.1", "192.0.2.1", frames.udp(5, 6, b"?"))
    replies = router_testbed.exchange(a, packet)
    wanted = [bytes((3, 0))] if router_testbed.offers("router.no-route") else []
    assert [reply.frame[34:36] for reply in replies] == wanted


def test_equal_prefixes_in_two_networks_do_not_mix(router_testbed: Testbed) -> None:
    places = router_testbed.places(3)
    routers = [_router(router_testbed, places, vlan) for vlan in (None, 30)]
    for _, (a, b, _), gateway in routers:
        answer = frames.arp(b.mac, "10.0.2.1", "10.0.2.254", reply_to=gateway)
        router_testbed.exchange(b, answer)
        packet = frames.ipv4(a.mac, gateway, "10.0.1.1", "10.0.2.1", frames.udp(5, 6, b"mine"))
        router_testbed.exchange(a, packet)
    for _, (a, b, _), gateway in routers:
        packet = frames.ipv4(a.mac, gateway, "10.0.1.1", "10.0.2.1", frames.udp(5, 6, b"mine"))
        arrived = router_testbed.exchange(a, packet)
        assert [arrival.place for arrival in arrived] == [b.place]


def test_frames_to_other_mac_addresses_are_dropped(router_testbed: Testbed) -> None:
    _, (a, b, _), _ = _router(router_testbed, router_testbed.places(3))
    for destination in (b.mac, frames.BROADCAST):
        packet = frames.ipv4(a.mac, destination, "10.0.1.1", "10.0.2.1", frames.udp(5, 6, b"bridged?"))
        assert router_testbed.exchange(a, packet) == []


def test_packets_of_both_ip_versions_are_routed_between_endpoints_of_every_tag(
    router_testbed: Testbed,
) -> None:
    tags: list[Tag] = [None, 40]
    if router_testbed.offers("tag.mpls"):
        tags.append({"mpls": 400})
    for tag in tags:
        router = RouterNetwork(router_testbed, router_testbed.places(4), tag)
        router.resolve_gateway()
        router.check_all()


def test_packets_can_leave_at_the_port_they_came_from(router_testbed: Testbed) -> None:
    """Between two tagged endpoints of one port, and between two prefixes of one endpoint."""
    testbed, (place, other) = router_testbed, router_testbed.places(2)
    prefixes = ("10.0.1.254/24", "10.7.0.254/24"), ("10.0.2.254/24",), ("10.0.3.254/24",)
    ends = [
        endpoint_at(p, n, vlan, address=prefixes[n - 1])
        for n, (p, vlan) in enumerate(((place, 10), (place, 20), (other, None)), 1)
    ]
    network = testbed.create(forwarding="L3", endpoints=ends)
    gateway = frames.mac_text(gateway_mac(network.uuid))
    a, b, _ = testbed.guests(network)
    c = testbed.guest(network, network.description().endpoints[0])
    for guest, address, own in (
        (a, "10.0.1.1", "10.0.1.254"), (b, "10.0.2.1", "10.0.2.254"), (c, "10.7.0.1", "10.7.0.254")
    ):  # fmt: skip
        testbed.exchange(guest, frames.arp(guest.mac, address, own))
    for guest, target in ((b, "10.0.2.1"), (c, "10.7.0.1")):
        packet = udp_packet(a, gateway, "10.0.1.1", target, b"round")
        assert [x.place for x in testbed.exchange(a, packet)] == [guest.place]
        assert testbed.exchange(a, packet)[0].frame[-24:] == packet[-24:]


def test_the_longest_prefix_wins_and_routes_use_their_next_hop(router_testbed: Testbed) -> None:
    testbed = router_testbed
    routes = {
        2: [{"prefix": "0.0.0.0/0", "via": "10.0.2.7"}, {"prefix": "10.9.0.0/16", "via": "10.0.2.8"}],
        3: [{"prefix": "10.9.8.0/24", "via": "10.0.3.7"}, {"prefix": "10.0.1.64/26", "via": "10.0.3.7"}],
    }
    ends = [
        endpoint_at(p, n, address=f"10.0.{n}.254/24", route=routes.get(n, ()))
        for n, p in enumerate(testbed.places(3), 1)
    ]
    network = testbed.create(forwarding="L3", endpoints=ends)
    gateway = frames.mac_text(gateway_mac(network.uuid))
    a, b, c = testbed.guests(network)
    b8 = testbed.guest(network, network.description().endpoints[1])
    hosts = {b: "10.0.2.7", b8: "10.0.2.8", c: "10.0.3.7", a: "10.0.1.65"}
    for guest, address in hosts.items():
        own = f"10.0.{guest.endpoint}.254"
        testbed.exchange(guest, frames.arp(guest.mac, address, own))
    receivers = {"198.51.100.1": b, "10.9.7.1": b8, "10.9.8.1": c, "10.0.1.65": c, "10.0.3.7": c}
    for target, guest in receivers.items():
        for _ in range(2):
            packet = udp_packet(a, gateway, "10.0.1.1", target, target.encode())
            (arrived,) = testbed.exchange(a, packet)
            assert (arrived.place, arrived.frame[:6]) == (guest.place, frames.mac_bytes(guest.mac)), target


def test_addresses_cannot_be_hijacked_from_another_endpoint(router_testbed: Testbed) -> None:
    testbed = router_testbed
    ends = [
        endpoint_at(p, n, address=f"10.0.{n}.254/24", mac=frames.mac(0x77) if n == 2 else ())
        for n, p in enumerate(testbed.places(3), 1)
    ]
    network = testbed.create(forwarding="L3", endpoints=ends)
    gateway = frames.mac_text(gateway_mac(network.uuid))
    a, b, thief = testbed.guests(network)
    declared = testbed.guest(network, network.description().endpoints[1], frames.mac(0x77))
    testbed.exchange(declared, frames.arp(declared.mac, "10.0.2.1", "10.0.2.254"))
    testbed.exchange(b, frames.arp(b.mac, "10.0.2.2", "10.0.2.254"))
    for address in ("10.0.2.1", "10.0.2.2"):
        # Off its own prefix, with the MAC address of another host, and as the gateway itself.
        forged = (
            frames.arp(thief.mac, address, "10.0.3.254"),
            frames.arp(thief.mac, address, address),
            frames.arp(thief.mac, address, "10.0.3.254", reply_to=gateway),
            frames.arp(declared.mac, "10.0.3.1", "10.0.3.254"),
            frames.arp(thief.mac, "10.0.3.254", "10.0.3.254"),
        )
        # The driver may answer such requests or not, but must not learn from them.
        testbed.send(thief, *forged)
        while testbed.harness.receive(testbed.harness.quiet_time):
            pass
    for address, owner in (("10.0.2.1", declared), ("10.0.2.2", b)):
        packet = udp_packet(a, gateway, "10.0.1.1", address, b"mine")
        (arrived,) = testbed.exchange(a, packet)
        assert (arrived.place, arrived.frame[:6]) == (owner.place, frames.mac_bytes(owner.mac))


def test_a_changed_mac_address_of_a_neighbour_is_learned(router_testbed: Testbed) -> None:
    router = RouterNetwork(router_testbed, router_testbed.places(2))
    router.resolve_gateway()
    router.check_all()
    new = router_testbed.guest(router.network, router.network.description().endpoints[1])
    gratuitous = frames.arp(new.mac, router.v4[2].address, router.v4[2].address)
    assert router_testbed.exchange(new, gratuitous) == []
    router.place_hosts(2, new)
    router.resolve_gateway(router.v6[2])
    router.check_all()


def test_statistics_count_routed_packets(router_testbed: Testbed) -> None:
    testbed = router_testbed
    testbed.need_feature("statistics")
    here = testbed.places_on_one_switch()
    there = next(p for p in testbed.places(2) if p.switch != here[0].switch)
    router = RouterNetwork(testbed, [*here, there])
    router.resolve_gateway()
    router.check_all()
    a = router.v4[1]

    def counted() -> tuple[int, ...]:
        counters = {c.endpoint: c for c in router.network.statistics()}
        return (
            counters["1"].received_packets, counters["2"].delivered_packets, counters["3"].delivered_packets
        )  # fmt: skip

    packets = [router.sent(a, router.v4[n], b"count me") for n in (2, 3) for _ in range(20)]
    check_counted(testbed, counted, lambda: testbed.send(a.guest, *packets), (40, 20, 20))
    expected = counted()
    time.sleep(COUNTER_DELAY)
    assert counted() == expected
