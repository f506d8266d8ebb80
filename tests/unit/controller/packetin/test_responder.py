"""What a router makes of ARP, neighbour discovery and large packets, and which of them reach it at all."""

from __future__ import annotations

import pytest

from libnetvirt import packet as p
from libnetvirt.controller.engine.controller import Options
from tests.support.controller_rig import VLAN, Rig, line, mac
from tests.unit.controller.packetin.test_slow_path import (
    FAMILIES,
    GATEWAY,
    datagram,
    end,
    hello,
    host,
    packed,
    routed,
)

ONE, OTHER = mac(1).to_bytes(6), mac(9).to_bytes(6)
ALL_NODES_MAC = bytes.fromhex("333300000001")
SOLICITED, OVERRIDE = 0x40, 0x20


@pytest.fixture
def rig() -> Rig:
    """Endpoint 1 has both IP versions; 2 has IPv6 only, and 3 IPv4 only. 1 and 2 are at switch 1."""
    rig = Rig(Options(VLAN))
    line(rig, 2)
    ends = [end(1, 1, 3), end(2, 1, 4, address="fd00:2::fe/64"), end(3, 2, 3, address="10.0.3.254/24")]
    rig.change(None, routed(*ends))
    return rig


def advertised(flags: int, owner: bytes, to_all: bool = False) -> bytes:
    """Host 1 of endpoint 1 says that its MAC address is ``owner``."""
    address, gateway = host(1, True), packed("fd00:1::fe")
    to = p.ALL_NODES if to_all else gateway
    body = address + bytes([2, 1]) + owner
    message = p.build_icmp(address, to, p.ICMP(136, 0, bytes([flags, 0, 0, 0]), body))
    packet = p.build_ip(address, to, p.PROTO_ICMPV6, message, ttl=255)
    return p.ethernet(ALL_NODES_MAC if to_all else GATEWAY, owner, p.ETH_IPV6, packet)


def known(rig: Rig) -> list[bytes | None]:
    """The MAC addresses of the neighbours at endpoint 1."""
    return [n.mac for n in rig.state.neighbours.at("1", "1")]


# ---- neighbour discovery ---------------------------------------------------------------------------


@pytest.mark.parametrize("to_all", [False, True])
@pytest.mark.parametrize(
    ("flags", "after"), [(0, ONE), (SOLICITED, ONE), (OVERRIDE, OTHER), (SOLICITED | OVERRIDE, OTHER)]
)
def test_only_an_advertisement_with_the_override_flag_replaces_a_mac_address(
    rig: Rig, flags: int, after: bytes, to_all: bool
) -> None:
    if to_all:
        flags &= ~SOLICITED  # RFC 4861, section 7.1.2
    rig.inject(1, 3, hello(1, True))
    assert known(rig) == [ONE]
    rig.inject(1, 3, advertised(flags, OTHER, to_all))
    assert known(rig) == [after]
    rig.holds_what_it_should()


@pytest.mark.parametrize("flags", [0, OVERRIDE])
def test_an_advertisement_without_the_flag_is_a_first_answer_as_well(rig: Rig, flags: int) -> None:
    rig.inject(1, 4, datagram(host(2, True), host(1, True)))  # asks for host 1
    rig.inject(1, 3, advertised(flags, ONE))
    assert known(rig) == [ONE]


def test_the_routers_own_advertisement_says_router_solicited_and_override(rig: Rig) -> None:
    ((switch, port, answer),) = rig.inject(1, 3, hello(1, True))
    assert (switch, port) == (1, 3)
    message = p.parse_icmp(p.parse_ip(answer[14:]))
    assert (message.type, message.rest) == (136, b"\xe0\0\0\0")  # RFC 4861, section 4.4
    # One that has no address yet asks from ::, and gets the answer to all nodes, not as solicited.
    target = packed("fd00:1::fe")
    group = p.solicited_node(target)
    asked = p.build_icmp(bytes(16), group, p.ICMP(135, 0, bytes(4), target))
    packet = p.build_ip(bytes(16), group, p.PROTO_ICMPV6, asked, ttl=255)
    ((_, _, answer),) = rig.inject(1, 3, p.ethernet(p.multicast_mac(group), ONE, p.ETH_IPV6, packet))
    assert answer[:6] == ALL_NODES_MAC
    assert p.parse_icmp(p.parse_ip(answer[14:])).rest == b"\xa0\0\0\0"
    assert known(rig) == [ONE], "nobody is learned from a question without a source"


# ---- IP versions that an endpoint does not have ----------------------------------------------------


def question(number: int, gateway: str) -> bytes:
    return p.arp_frame(p.BROADCAST, p.ARP(1, ONE, host(number, False), bytes(6), packed(gateway)))


@pytest.mark.parametrize("gateway", ["10.0.1.254", "10.0.2.254", "10.0.3.254"])
def test_arp_at_an_endpoint_without_ipv4_is_dropped_in_the_switch(rig: Rig, gateway: str) -> None:
    assert rig.fabric.inject(1, 4, question(2, gateway)) == []
    assert not rig.fabric.up, "the controller has nothing to answer"


def test_ip_of_a_version_that_an_endpoint_does_not_have_is_dropped_in_the_switch(rig: Rig) -> None:
    rig.inject(1, 3, hello(1, False))
    rig.inject(1, 3, hello(1, True))
    for switch, port, sender, v6 in ((1, 4, 2, False), (2, 3, 3, True)):
        for sent in (datagram(host(sender, v6), host(1, v6)), hello(sender, v6)):
            assert rig.fabric.inject(switch, port, sent) == []
            assert not rig.fabric.up
    # The version that it has is served, ARP with IPv4.
    for switch, port, sender, v6 in ((1, 4, 2, True), (2, 3, 3, False)):
        assert len(rig.inject(switch, port, hello(sender, v6))) == 1
        assert [o[:2] for o in rig.inject(switch, port, datagram(host(sender, v6), host(1, v6)))] == [(1, 3)]


def test_the_rules_follow_the_addresses_of_an_endpoint(rig: Rig) -> None:
    (before,) = rig.networks
    both = before.with_endpoint(end(2, 1, 4))
    rig.change(before, both)
    assert len(rig.inject(1, 4, hello(2, False))) == 1
    rig.change(both, before)
    assert rig.fabric.inject(1, 4, question(2, "10.0.2.254")) == []
    assert not rig.fabric.up


# ---- packets that fill a tunnel --------------------------------------------------------------------


@FAMILIES
def test_only_packets_above_the_mtu_are_sent_up(v6: bool) -> None:
    rig = Rig(Options(VLAN))
    line(rig, 2)
    rig.change(None, routed(end(1, 1, 3), end(2, 2, 3)))
    rig.inject(2, 3, hello(2, v6))
    head, room = 48 if v6 else 28, 1500 - 8  # two service tags are in front of the packet
    fits = datagram(host(1, v6), host(2, v6), bytes(room - head))
    # By the switches alone: the Ethernet header is not part of the MTU.
    assert [len(o[2]) for o in rig.fabric.inject(1, 3, fits)] == [14 + room]
    assert not rig.fabric.up
    assert rig.fabric.inject(1, 3, datagram(host(1, v6), host(2, v6), bytes(room - head + 1))) == []
    assert len(rig.fabric.up) == 1
