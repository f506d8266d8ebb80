"""The oracle, L3: each row of the contract's table."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest

from libnetvirt import packet as p
from libnetvirt.model import Endpoint, VirtualNetwork
from libnetvirt.semantics import (
    QUEUE_LIMIT,
    Delivery,
    DropReason,
    LearnedState,
    forward,
    forward_at_endpoint,
    gateway_mac,
)

H1, H2, H3, EVIL = (bytes([2, 0, 0, 0, 0, n]) for n in (1, 2, 3, 66))
VN = VirtualNetwork(
    uuid=7,
    name="blue",
    forwarding="L3",
    endpoints=(
        Endpoint(uuid=11, switch=1, port=1, address=("10.0.1.254/24", "fd00:1::fe/64")),
        Endpoint(
            uuid=12,
            switch=2,
            port=1,
            vlan=20,
            address=("10.0.2.254/24", "fd00:2::fe/64"),
            route=({"prefix": "10.9.0.0/16", "via": "10.0.2.7"}, {"prefix": "fd09::/32", "via": "fd00:2::7"}),
        ),
        Endpoint(uuid=13, switch=3, port=1, address=("10.0.3.254/24", "10.0.4.254/24")),
    ),
)
GW = gateway_mac("7")


def ip(text: str) -> bytes:
    return ip_address(text).packed


def packet(
    source: str, destination: str, ttl: int = 64, protocol: int = 17, payload: bytes = b"payload!"
) -> bytes:
    return p.build_ip(ip(source), ip(destination), protocol, payload, ttl)


def frame(raw: bytes, source: bytes = H1, destination: bytes = GW) -> bytes:
    return p.ethernet(destination, source, p.ETH_IPV4 if raw[0] >> 4 == 4 else p.ETH_IPV6, raw)


def echo(source: str, destination: str, ttl: int = 64) -> bytes:
    kind, protocol = (8, 1) if "." in source else (128, 58)
    body = p.build_icmp(ip(source), ip(destination), p.ICMP(kind, 0, b"\0\1\0\2", b"ping"))
    return packet(source, destination, ttl, protocol, body)


def arp(operation: int, mac: bytes, sender: str, target: str, to: bytes = p.BROADCAST) -> bytes:
    return p.arp_frame(to, p.ARP(operation, mac, ip(sender), bytes(6), ip(target)))


def advert(mac: bytes, target: str, to: str, flags: int = 0x60, ether: bytes = GW) -> bytes:
    body = p.ICMP(136, 0, bytes([flags, 0, 0, 0]), ip(target) + b"\2\1" + mac)
    raw = p.build_ip(ip(target), ip(to), 58, p.build_icmp(ip(target), ip(to), body), 255)
    return p.ethernet(ether, mac, p.ETH_IPV6, raw)


def at(endpoint: str, raw: bytes, knowledge: LearnedState | None = None) -> Delivery:
    return forward_at_endpoint(VN, knowledge or LearnedState(), endpoint, raw)


def knowing(*neighbours: tuple[str, str, bytes]) -> LearnedState:
    knowledge = LearnedState()
    for endpoint, address, mac in neighbours:
        interfaces = VN.by_uuid[endpoint].address
        gateway = next(str(a.ip) for a in interfaces if ip_address(address) in a.network)
        hello = (
            arp(1, mac, address, gateway) if "." in address else p.solicitation(mac, ip(address), ip(gateway))
        )
        knowledge = at(endpoint, hello, knowledge).learned
        assert (endpoint, ip(address)) in knowledge.network("7").neighbours
    return knowledge


def only(delivery: Delivery) -> tuple[str, p.Ethernet, p.IP]:
    ((endpoint, raw),) = delivery.outputs
    sent = p.parse_ethernet(raw)
    return endpoint, sent, p.parse_ip(sent.payload)


def test_the_gateway_mac_is_local_unicast_stable_and_the_networks_own() -> None:
    macs = {gateway_mac(str(n)) for n in range(1, 500)}
    assert len(macs) == 499
    assert all(m[0] & 3 == 2 and len(m) == 6 for m in macs)
    assert gateway_mac("7").hex() == "9ec7bd69afd5"


# -- ARP and neighbour discovery ------------------------------------------------------------------


def test_arp_for_the_endpoints_address_is_answered_and_learned() -> None:
    delivery = at("11", arp(1, H1, "10.0.1.1", "10.0.1.254"))
    ((endpoint, raw),) = delivery.outputs
    sent = p.parse_ethernet(raw)
    assert (endpoint, sent.destination, sent.source) == ("11", H1, GW)
    assert p.parse_arp(sent.payload) == p.ARP(2, GW, ip("10.0.1.254"), H1, ip("10.0.1.1"))
    assert delivery.learned.network("7").neighbours == {("11", ip("10.0.1.1")): H1}


@pytest.mark.parametrize(
    ("raw", "drop"),
    [
        (arp(1, H1, "10.0.1.1", "10.0.1.2"), DropReason.NO_REPLY),
        (arp(1, H1, "10.0.1.1", "10.0.2.254"), DropReason.NO_REPLY),
        (arp(2, H1, "10.0.1.1", "10.0.1.2", GW), DropReason.NO_REPLY),
        (arp(1, H1, "10.0.1.1", "10.0.1.254", H2), DropReason.NOT_FOR_GATEWAY),
        (arp(1, H1, "10.0.1.254", "10.0.1.254"), DropReason.MARTIAN),
        (arp(1, GW, "10.0.1.1", "10.0.1.254"), DropReason.FROM_GATEWAY),
        (
            p.ethernet(p.BROADCAST, EVIL, 0x0806, arp(1, H1, "10.0.1.1", "10.0.1.254")[14:]),
            DropReason.MALFORMED,
        ),
        (arp(1, H1, "10.0.1.1", "10.0.1.254")[:-1], DropReason.MALFORMED),
    ],
)
def test_other_arp_is_neither_answered_nor_learned(raw: bytes, drop: DropReason) -> None:
    delivery = at("11", raw)
    assert (delivery.outputs, delivery.drop, delivery.learned) == ((), drop, LearnedState())


@pytest.mark.parametrize("sender", ["0.0.0.0", "10.0.2.1", "10.0.1.0", "10.0.1.255"])
def test_a_probe_is_answered_but_nothing_off_the_prefix_is_learned(sender: str) -> None:
    delivery = at("11", arp(1, H1, sender, "10.0.1.254"))
    assert len(delivery.outputs) == 1
    assert delivery.learned == LearnedState()


def test_an_announcement_corrects_what_is_known() -> None:
    knowledge = at("11", arp(1, H2, "10.0.1.1", "10.0.1.1"), knowing(("11", "10.0.1.1", H1))).learned
    assert knowledge.network("7").neighbours == {("11", ip("10.0.1.1")): H2}


def test_a_solicitation_is_answered_and_learned() -> None:
    delivery = at("11", p.solicitation(H1, ip("fd00:1::1"), ip("fd00:1::fe")))
    endpoint, sent, packet_ = only(delivery)
    answer = p.parse_neighbour(packet_)
    assert (endpoint, sent.destination, sent.source, packet_.ttl) == ("11", H1, GW, 255)
    assert answer == p.NeighbourMessage(False, ip("fd00:1::fe"), GW, solicited=True, override=True)
    assert packet_.payload[4] & 0x80, "the router flag"
    assert delivery.learned.network("7").neighbours == {("11", ip("fd00:1::1")): H1}


def test_duplicate_address_detection_of_the_gateways_address_is_answered_to_all() -> None:
    target = ip("fd00:1::fe")
    group = p.solicited_node(target)
    message = p.build_icmp(bytes(16), group, p.ICMP(135, 0, bytes(4), target))
    raw = p.build_ip(bytes(16), group, 58, message, 255)
    _, sent, packet_ = only(at("11", p.ethernet(p.multicast_mac(group), H1, 0x86DD, raw)))
    assert (sent.destination, packet_.destination) == (p.multicast_mac(p.ALL_NODES), p.ALL_NODES)


def test_a_solicitation_for_another_host_is_ignored() -> None:
    delivery = at("11", p.solicitation(H1, ip("fd00:1::1"), ip("fd00:1::2")))
    assert (delivery.outputs, delivery.learned) == ((), LearnedState())


def test_a_solicitation_from_a_link_local_address_is_answered_but_not_learned() -> None:
    delivery = at("11", p.solicitation(H1, ip("fe80::1"), ip("fd00:1::fe")))
    assert len(delivery.outputs) == 1
    assert delivery.learned == LearnedState()


def test_an_advertisement_to_the_gateway_is_learned_one_to_all_is_not() -> None:
    assert at("11", advert(H1, "fd00:1::1", "fd00:1::fe")).learned.network("7").neighbours
    unasked = advert(H1, "fd00:1::1", "ff02::1", 0x20, p.multicast_mac(p.ALL_NODES))
    assert at("11", unasked).learned == LearnedState()


def test_an_advertisement_without_override_changes_nothing() -> None:
    knowledge = knowing(("11", "fd00:1::1", H1))
    assert at("11", advert(H2, "fd00:1::1", "fd00:1::fe", 0x40), knowledge).learned == knowledge
    changed = at("11", advert(H2, "fd00:1::1", "fd00:1::fe", 0x60), knowledge).learned
    assert changed.network("7").neighbours == {("11", ip("fd00:1::1")): H2}


def test_neighbours_are_bounded_per_endpoint() -> None:
    knowledge = LearnedState(limit=2)
    for n in range(1, 5):
        hello = arp(1, bytes([2, 0, 0, 0, 1, n]), f"10.0.1.{n}", "10.0.1.254")
        knowledge = at("11", hello, knowledge).learned
    assert len(knowledge.network("7").neighbours) == 2
    assert len(at("12", arp(1, H2, "10.0.2.1", "10.0.2.254"), knowledge).learned.network("7").neighbours) == 3


def test_a_host_is_not_believed_at_the_wrong_endpoint() -> None:
    ends = (VN.endpoints[0].changed(mac="02:00:00:00:00:01"), *VN.endpoints[1:])
    delivery = forward_at_endpoint(
        VN.changed(endpoints=ends), LearnedState(), "12", arp(1, H1, "10.0.2.1", "10.0.2.254")
    )
    assert (delivery.outputs, delivery.drop) == ((), DropReason.DECLARED_ELSEWHERE)


# -- routing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "destination", "hop"),
    [
        ("10.0.1.1", "10.0.2.2", "10.0.2.2"),
        ("10.0.1.1", "10.9.8.7", "10.0.2.7"),
        ("fd00:1::1", "fd00:2::2", "fd00:2::2"),
        ("fd00:1::1", "fd09::1", "fd00:2::7"),
        ("192.0.2.1", "10.0.2.2", "10.0.2.2"),
    ],
)
def test_a_packet_to_a_known_neighbour_is_one_hop_further(source: str, destination: str, hop: str) -> None:
    raw = packet(source, destination, ttl=9)
    endpoint, sent, _ = only(at("11", frame(raw) + b"padding", knowing(("12", hop, H2))))
    assert (endpoint, sent.destination, sent.source) == ("12", H2, GW)
    assert sent.payload == packet(source, destination, ttl=8) + b"padding"


def test_the_endpoints_own_tag_is_all_that_differs_on_the_wire() -> None:
    knowledge = knowing(("11", "10.0.1.1", H1))
    tagged = p.add_tag(20, frame(packet("10.0.2.2", "10.0.1.1"), H2))
    outcome = forward([VN], knowledge, "2", "1", tagged)
    assert [(s, port) for s, port, _ in outcome.outputs] == [("1", "1")]
    assert p.split_tag(outcome.outputs[0][2])[0] is None


def test_the_longest_prefix_wins_and_connected_before_static() -> None:
    ends = list(VN.endpoints)
    ends[0] = ends[0].changed(
        route=(
            {"prefix": "0.0.0.0/0", "via": "10.0.1.9"},
            {"prefix": "10.9.1.0/24", "via": "10.0.1.8"},
            {"prefix": "10.0.2.0/24", "via": "10.0.1.7"},
        )
    )
    network = VN.changed(endpoints=tuple(ends))

    def asks(destination: str) -> tuple[str, bytes]:
        ((endpoint, raw),) = forward_at_endpoint(
            network, LearnedState(), "13", frame(packet("10.0.3.1", destination), H3)
        ).outputs
        return endpoint, p.parse_arp(raw[14:]).target

    assert asks("8.8.8.8") == ("11", ip("10.0.1.9"))
    assert asks("10.9.1.1") == ("11", ip("10.0.1.8"))
    assert asks("10.9.2.1") == ("12", ip("10.0.2.7"))
    assert asks("10.0.2.5") == ("12", ip("10.0.2.5"))


def test_two_prefixes_of_one_endpoint_reach_each_other() -> None:
    delivery = at("13", frame(packet("10.0.3.1", "10.0.4.1"), H3), knowing(("13", "10.0.4.1", H2)))
    endpoint, sent, _ = only(delivery)
    assert (endpoint, sent.destination) == ("13", H2)


def test_an_unknown_neighbour_is_asked_for_and_the_packet_waits() -> None:
    delivery = at("11", frame(packet("10.0.1.1", "10.0.2.2", ttl=9)))
    ((endpoint, raw),) = delivery.outputs
    assert endpoint == "12"
    asked = p.parse_arp(raw[14:])
    assert asked == p.ARP(1, GW, ip("10.0.2.254"), bytes(6), ip("10.0.2.2"))
    assert raw[:6] == p.BROADCAST
    released = at("12", arp(2, H2, "10.0.2.2", "10.0.2.254", GW), delivery.learned)
    endpoint, sent, _ = only(released)
    assert (endpoint, sent.destination, sent.payload) == ("12", H2, packet("10.0.1.1", "10.0.2.2", ttl=8))
    assert released.learned.network("7").waiting == {}


def test_an_unknown_ipv6_neighbour_is_solicited_and_the_packet_waits() -> None:
    delivery = at("11", frame(packet("fd00:1::1", "fd00:2::2", ttl=9)))
    endpoint, sent, asked = only(delivery)
    assert (endpoint, sent.destination) == ("12", bytes.fromhex("3333ff000002"))
    assert p.parse_neighbour(asked) == p.NeighbourMessage(True, ip("fd00:2::2"), GW)
    assert asked.source == ip("fd00:2::fe")
    released = at("12", advert(H2, "fd00:2::2", "fd00:2::fe"), delivery.learned)
    assert only(released)[1].payload == packet("fd00:1::1", "fd00:2::2", ttl=8)


def test_the_newest_packets_wait_and_leave_in_order() -> None:
    knowledge = LearnedState()
    for n in range(QUEUE_LIMIT + 2):
        raw = frame(packet("10.0.1.1", "10.0.2.2", payload=bytes([n])))
        knowledge = at("11", raw, knowledge).learned
    released = at("12", arp(1, H2, "10.0.2.2", "10.0.2.254"), knowledge)
    assert p.parse_arp(released.outputs[0][1][14:]).operation == 2
    assert [raw[-1] for _, raw in released.outputs[1:]] == list(range(2, QUEUE_LIMIT + 2))


def test_awaited_neighbours_are_bounded_per_endpoint() -> None:
    knowledge = LearnedState(limit=2)
    for n in range(1, 6):
        delivery = at("11", frame(packet("10.0.1.1", f"10.0.2.{n}")), knowledge)
        assert len(delivery.outputs) == 1
        knowledge = delivery.learned
    assert len(knowledge.network("7").waiting) == 2


# -- what the network says itself -------------------------------------------------------------------


@pytest.mark.parametrize("target", ["10.0.1.254", "10.0.2.254", "10.0.4.254"])
@pytest.mark.parametrize("ttl", [1, 64])
def test_ping_to_any_of_its_addresses_is_answered(target: str, ttl: int) -> None:
    endpoint, sent, reply = only(at("11", frame(echo("10.0.1.1", target, ttl))))
    assert (endpoint, sent.destination, sent.source) == ("11", H1, GW)
    assert (reply.source, reply.destination, reply.ttl) == (ip(target), ip("10.0.1.1"), 64)
    assert p.parse_icmp(reply) == p.ICMP(0, 0, b"\0\1\0\2", b"ping")


@pytest.mark.parametrize("target", ["fd00:1::fe", "fd00:2::fe"])
def test_ping6_to_any_of_its_addresses_is_answered(target: str) -> None:
    _, _, reply = only(at("11", frame(echo("fd00:1::1", target))))
    assert p.parse_icmp(reply) == p.ICMP(129, 0, b"\0\1\0\2", b"ping")


@pytest.mark.parametrize(
    ("source", "destination", "ttl", "kind", "code", "sender"),
    [
        ("10.0.1.1", "10.0.2.2", 1, 11, 0, "10.0.1.254"),
        ("10.0.1.1", "10.0.2.2", 0, 11, 0, "10.0.1.254"),
        ("10.0.1.1", "203.0.113.1", 64, 3, 0, "10.0.1.254"),
        ("10.0.1.1", "10.0.1.254", 64, 3, 3, "10.0.1.254"),
        ("10.0.1.1", "10.0.2.254", 1, 3, 3, "10.0.2.254"),
        ("fd00:1::1", "fd00:2::2", 1, 3, 0, "fd00:1::fe"),
        ("fd00:1::1", "2001:db8::1", 64, 1, 0, "fd00:1::fe"),
        ("fd00:1::1", "fd00:1::fe", 64, 1, 4, "fd00:1::fe"),
    ],
)
def test_errors_come_from_the_right_address_and_carry_the_cause(
    source: str, destination: str, ttl: int, kind: int, code: int, sender: str
) -> None:
    cause = packet(source, destination, ttl, payload=bytes(1400))
    endpoint, sent, error = only(at("11", frame(cause) + b"padding"))
    message = p.parse_icmp(error)
    assert (endpoint, sent.destination) == ("11", H1)
    assert (error.source, error.destination) == (ip(sender), ip(source))
    assert (message.type, message.code, message.rest) == (kind, code, bytes(4))
    assert message.body == cause[: len(message.body)]
    assert error.length == (576 if error.version == 4 else 1280)


@pytest.mark.parametrize(
    ("source", "target", "kind", "code", "pointer"),
    [("10.0.1.1", "10.0.1.254", 3, 2, 0), ("fd00:1::1", "fd00:1::fe", 4, 1, 6)],
)
def test_an_unknown_protocol_is_refused(source: str, target: str, kind: int, code: int, pointer: int) -> None:
    message = p.parse_icmp(only(at("11", frame(packet(source, target, protocol=99))))[2])
    assert (message.type, message.code, int.from_bytes(message.rest, "big")) == (kind, code, pointer)


def fragment(source: str, destination: str, position: int, ttl: int = 1) -> bytes:
    raw = bytearray(packet(source, destination, ttl))
    raw[6:8] = struct.pack("!H", position)
    raw[10:12] = b"\0\0"
    raw[10:12] = p.checksum(bytes(raw[:20])).to_bytes(2, "big")
    return bytes(raw)


def test_fragments_are_routed_and_only_the_first_makes_an_error() -> None:
    known = knowing(("12", "10.0.2.2", H2))
    assert only(at("11", frame(fragment("10.0.1.1", "10.0.2.2", 0x2002, 9)), known))[0] == "12"
    assert len(at("11", frame(fragment("10.0.1.1", "10.0.2.2", 0x2000))).outputs) == 1
    assert at("11", frame(fragment("10.0.1.1", "10.0.2.2", 0x0002))).outputs == ()
    assert at("11", frame(fragment("10.0.1.1", "10.0.1.254", 0x2000))).outputs == ()


def test_no_error_is_made_about_an_error() -> None:
    v4 = packet("10.0.1.1", "10.0.2.2", 1, 1, b"\x03\0\0\0\0\0\0\0")
    v6 = packet("fd00:1::1", "fd00:2::2", 1, 58, b"\x01\0\0\0\0\0\0\0")
    for raw in (v4, v6):
        delivery = at("11", frame(raw))
        assert (delivery.outputs, delivery.drop) == ((), DropReason.NO_REPLY)
    assert len(at("11", frame(echo("10.0.1.1", "10.0.2.2", 1))).outputs) == 1


@pytest.mark.parametrize(
    ("raw", "drop"),
    [
        (frame(packet("10.0.1.1", "10.0.2.2"), destination=H2), DropReason.NOT_FOR_GATEWAY),
        (frame(packet("10.0.1.1", "10.0.2.2"), destination=p.BROADCAST), DropReason.NOT_FOR_GATEWAY),
        (
            frame(packet("fd00:1::1", "ff02::2"), destination=bytes.fromhex("333300000002")),
            DropReason.NOT_FOR_GATEWAY,
        ),
        (frame(packet("10.0.1.1", "10.0.2.2"), source=GW), DropReason.FROM_GATEWAY),
        (p.ethernet(GW, H1, 0x88CC, b"lldp"), DropReason.OTHER_PROTOCOL),
        (p.ethernet(GW, H1, 0x8100, bytes(40)), DropReason.NESTED_TAG),
        (frame(packet("10.0.1.1", "10.0.2.2")[:-1]), DropReason.MALFORMED),
        (p.ethernet(GW, H1, 0x86DD, packet("10.0.1.1", "10.0.2.2")), DropReason.MALFORMED),
        (frame(packet("10.0.1.1", "224.0.0.1")), DropReason.NOT_ROUTED),
        (frame(packet("10.0.1.1", "255.255.255.255")), DropReason.NOT_ROUTED),
        (frame(packet("10.0.1.1", "10.0.2.255")), DropReason.NOT_ROUTED),
        (frame(packet("10.0.1.1", "10.0.2.0")), DropReason.NOT_ROUTED),
        (frame(packet("10.0.1.1", "127.0.0.1")), DropReason.NOT_ROUTED),
        (frame(packet("10.0.1.1", "169.254.0.1")), DropReason.NOT_ROUTED),
        (frame(packet("fd00:1::1", "ff0e::1")), DropReason.NOT_ROUTED),
        (frame(packet("fd00:1::1", "fe80::1")), DropReason.NOT_ROUTED),
        (frame(packet("fe80::1", "fd00:2::2")), DropReason.NOT_ROUTED),
        (frame(packet("fd00:1::1", "fd00:2::")), DropReason.NOT_ROUTED),
        (frame(packet("0.0.0.0", "10.0.2.2")), DropReason.MARTIAN),
        (frame(packet("127.0.0.1", "10.0.2.2")), DropReason.MARTIAN),
        (frame(packet("224.0.0.1", "10.0.2.2")), DropReason.MARTIAN),
        (frame(packet("10.0.1.255", "10.0.2.2")), DropReason.MARTIAN),
        (frame(packet("10.0.2.254", "10.0.2.2")), DropReason.MARTIAN),
        (frame(packet("::", "fd00:2::2")), DropReason.MARTIAN),
        (
            frame(packet("10.0.1.1", "10.0.1.254", protocol=1, payload=b"\x08\0\0\0\0\0\0\0")),
            DropReason.MALFORMED,
        ),
        (
            frame(packet("10.0.1.1", "10.0.1.254", protocol=1, payload=b"\0\0\xff\xff\0\0\0\0")),
            DropReason.NO_REPLY,
        ),
    ],
)
def test_what_is_not_forwarded_teaches_and_costs_nothing(raw: bytes, drop: DropReason) -> None:
    delivery = at("11", raw)
    assert (delivery.outputs, delivery.drop, delivery.learned) == ((), drop, LearnedState())


def test_an_endpoint_without_address_of_the_family_takes_no_such_packets() -> None:
    assert at("13", frame(packet("fd00:3::1", "fd00:1::1"), H3)).drop is DropReason.NO_ADDRESS_OF_FAMILY


def test_both_hosts_of_a_two_address_prefix_are_hosts() -> None:
    network = VN.changed(
        endpoints=(
            Endpoint(uuid=1, switch=1, port=1, address="10.0.0.0/31"),
            Endpoint(uuid=2, switch=2, port=1, address="10.0.0.3/31"),
        )
    )
    hello = forward_at_endpoint(network, LearnedState(), "2", arp(1, H2, "10.0.0.2", "10.0.0.3"))
    delivery = forward_at_endpoint(network, hello.learned, "1", frame(packet("10.0.0.1", "10.0.0.2")))
    assert only(delivery)[0] == "2"


def test_a_network_that_becomes_l2_forgets() -> None:
    knowledge = knowing(("11", "10.0.1.1", H1))
    ends = tuple(e.changed(route=()) for e in VN.endpoints)
    assert knowledge.after_change(VN, VN.changed(forwarding="L2", endpoints=ends)) == LearnedState()
    readdressed = VN.changed(endpoints=(VN.endpoints[0].changed(address="10.7.0.1/24"), *VN.endpoints[1:]))
    assert knowledge.after_change(VN, readdressed).network("7").neighbours == {}
