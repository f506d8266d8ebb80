"""What the oracle sends is what scapy would have built: every length and checksum, recomputed."""

from __future__ import annotations

from typing import Any

import pytest

from libnetvirt import packet as p
from libnetvirt.model import Endpoint, VirtualNetwork
from libnetvirt.semantics import LearnedState, forward_at_endpoint, gateway_mac
from tests.support.requirements import need_module

scapy: Any = need_module("scapy.all")

VN = VirtualNetwork(
    uuid=7,
    forwarding="L3",
    endpoints=(
        Endpoint(uuid=1, switch=1, port=1, address=("10.0.1.254/24", "fd00:1::fe/64")),
        Endpoint(uuid=2, switch=2, port=1, address=("10.0.2.254/24", "fd00:2::fe/64")),
    ),
)
HOST = "02:00:00:00:00:01"
TO_GATEWAY = scapy.Ether(src=HOST, dst=p.mac_text(gateway_mac("7")))


def rebuilt(frame: bytes) -> bytes:
    """The frame as scapy builds it when it has to compute lengths and checksums itself."""
    packet = layer = scapy.Ether(frame)
    while layer:
        for field in ("chksum", "cksum", "len", "plen"):
            # What an error quotes is the cause as it was.
            if field in layer.fields and "error" not in layer.name.lower():
                layer.delfieldval(field)
        layer = layer.payload
    return bytes(packet)


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (TO_GATEWAY / scapy.IP(src="10.0.1.1", dst="10.0.1.254") / scapy.ICMP(id=5) / b"abc", "ICMP"),
        (TO_GATEWAY / scapy.IP(src="10.0.1.1", dst="10.0.2.1", ttl=1) / scapy.UDP() / b"abc", "ICMP"),
        (TO_GATEWAY / scapy.IP(src="10.0.1.1", dst="9.9.9.9") / scapy.TCP(), "ICMP"),
        (TO_GATEWAY / scapy.IP(src="10.0.1.1", dst="10.0.2.1", options=b"\1\1\1\0") / scapy.UDP(), "ARP"),
        (TO_GATEWAY / scapy.IPv6(src="fd00:1::1", dst="fd00:2::fe") / scapy.ICMPv6EchoRequest(data=b"x"),
         "ICMPv6EchoReply"),
        (TO_GATEWAY / scapy.IPv6(src="fd00:1::1", dst="fd00:2::1", hlim=1) / scapy.UDP() / b"abc",
         "ICMPv6TimeExceeded"),
        (TO_GATEWAY / scapy.IPv6(src="fd00:1::1", dst="fd00:2::1") / scapy.UDP() / b"abc", "ICMPv6ND_NS"),
        (scapy.Ether(src=HOST, dst="33:33:ff:00:00:fe") / scapy.IPv6(src="fd00:1::1", dst="ff02::1:ff00:fe")
         / scapy.ICMPv6ND_NS(tgt="fd00:1::fe") / scapy.ICMPv6NDOptSrcLLAddr(lladdr=HOST), "ICMPv6ND_NA"),
        (scapy.Ether(src=HOST, dst="ff:ff:ff:ff:ff:ff")
         / scapy.ARP(hwsrc=HOST, psrc="10.0.1.1", pdst="10.0.1.254"), "ARP"),
    ],
)  # fmt: skip
def test_the_networks_own_packets_are_well_formed(sent: Any, answer: str) -> None:
    ((_, frame),) = forward_at_endpoint(VN, LearnedState(), "1", bytes(sent)).outputs
    assert scapy.Ether(frame).haslayer(answer)
    assert rebuilt(frame) == frame


@pytest.mark.parametrize("ttl", [2, 64, 255])
def test_a_forwarded_packet_has_the_checksum_scapy_computes(ttl: int) -> None:
    hello = scapy.Ether(src="02:00:00:00:00:02", dst="ff:ff:ff:ff:ff:ff") / scapy.ARP(
        hwsrc="02:00:00:00:00:02", psrc="10.0.2.1", pdst="10.0.2.254"
    )
    knowledge = forward_at_endpoint(VN, LearnedState(), "2", bytes(hello)).learned
    sent = TO_GATEWAY / scapy.IP(src="10.0.1.1", dst="10.0.2.1", ttl=ttl, id=77, tos=8) / scapy.UDP() / b"abc"
    ((_, frame),) = forward_at_endpoint(VN, knowledge, "1", bytes(sent)).outputs
    assert scapy.Ether(frame).ttl == ttl - 1
    assert rebuilt(frame) == frame
