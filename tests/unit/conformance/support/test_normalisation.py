"""Which packets that routers originate are equivalent."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from libnetvirt import VirtualNetwork, packet
from libnetvirt.conformance import Allowance
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.normalisation import normalise, routers_of
from libnetvirt.semantics import gateway_mac

ROUTER = VirtualNetwork.model_validate(
    {
        "uuid": 7, "name": "blue", "forwarding": "L3",
        "endpoints": [{"uuid": 1, "switch": 1, "port": 1, "address": ["10.0.1.254/24", "fd00:1::fe/64"]}],
    }
)  # fmt: skip
BRIDGE = VirtualNetwork.model_validate({"uuid": 8, "name": "red"})
ROUTERS = routers_of((ROUTER, BRIDGE))
GATEWAY = frames.mac_text(gateway_mac(ROUTER.uuid))
HOST = frames.mac(1)
NOTHING: frozenset[Allowance] = frozenset()


def own(
    *, sender: str = "10.0.1.254", ttl: int = 64, identity: int = 0, dont: int = 2, pad: bool = False
) -> bytes:
    """An echo reply."""
    reply = bytes(1) + frames.echo(1, 1)[1:]
    reply = reply[:2] + bytes(2) + reply[4:]
    reply = reply[:2] + frames.checksum(reply).to_bytes(2, "big") + reply[4:]
    frame = frames.ipv4(GATEWAY, HOST, sender, "10.0.1.1", reply, protocol=1, ttl=ttl)
    head = (
        frame[14:18]
        + identity.to_bytes(2, "big")
        + bytes((dont << 5, 0))
        + frame[22:24]
        + bytes(2)
        + frame[26:34]
    )
    head = head[:10] + frames.checksum(head).to_bytes(2, "big") + head[12:]
    size = 14 + int.from_bytes(frame[16:18], "big")
    whole = frame[:14] + head + frame[34:size]
    return whole.ljust(60, b"\0") if pad else whole


def own6(ttl: int, kind: int = 129) -> bytes:
    source, target = (ip_address(a).packed for a in ("fd00:1::fe", "fd00:1::1"))
    body = packet.build_icmp(source, target, packet.ICMP(kind, 0, bytes(4), bytes(16)))
    return frames.ethernet(
        GATEWAY, HOST, frames.IPV6, packet.build_ip(source, target, 58, body, ttl=ttl), pad=False
    )


def same(a: bytes, b: bytes, allowed: frozenset[Allowance] = NOTHING) -> bool:
    return normalise(a, ROUTERS, allowed) == normalise(b, ROUTERS, allowed)


@pytest.mark.parametrize(
    "other", [own(identity=77), own(ttl=255), own(pad=True), own(pad=True, ttl=255, identity=9)]
)
def test_fields_that_a_router_may_choose_make_no_difference(other: bytes) -> None:
    assert own() != other
    assert same(own(), other)
    tag = frames.tag(20)
    assert same(frames.tagged(own(), tag), frames.tagged(other, tag))


@pytest.mark.parametrize(
    "other",
    [
        own(ttl=63), own(ttl=254), own(ttl=1), own(dont=0), own()[:-1], own() + b"\0" * 60,
        own(pad=True)[:-1] + b"x", own()[:-1] + b"x", own()[:24] + b"\0\0" + own()[26:],
        frames.mac_bytes(frames.mac(2)) + own()[6:], frames.tagged(own(), frames.tag(1)),
    ],
)  # fmt: skip
def test_all_other_differences_are_found(other: bytes) -> None:
    assert not same(own(), other)


def test_forwarded_packets_are_compared_byte_by_byte() -> None:
    of_others = {"sender": "10.0.2.1"}
    for changed in ({"ttl": 255}, {"identity": 3}, {"pad": True}):
        assert not same(own(**of_others), own(**of_others, **changed))  # type: ignore[arg-type]
    stranger = frames.mac_bytes(HOST) + frames.mac_bytes(frames.mac(9))
    assert not same(stranger + own()[12:], stranger + own(ttl=255)[12:])


def test_arp_may_be_padded_with_zeros_and_nothing_else() -> None:
    reply = frames.arp(GATEWAY, "10.0.1.254", "10.0.1.1", reply_to=HOST)
    assert same(reply, reply[:42])
    assert not same(reply, reply[:-1] + b"x")
    assert not same(reply, reply + bytes(4))
    of_host = frames.arp(frames.mac(9), "10.0.1.254", "10.0.1.1", reply_to=HOST)
    assert not same(of_host, of_host[:42])


def test_a_hop_limit_is_one_of_two_and_of_neighbour_discovery_one() -> None:
    assert same(own6(64), own6(255))
    assert not same(own6(64), own6(63))
    for kind in (135, 136):
        assert not same(own6(64, kind), own6(255, kind))


def test_allowances_of_the_harness_are_applied() -> None:
    hops, fragments = frozenset({Allowance.HOPS}), frozenset({Allowance.FRAGMENTS})
    assert same(own(), own(ttl=254), hops)
    assert same(own6(64), own6(63), hops)
    assert not same(own(), own(ttl=62), hops)
    assert not same(own(), own(dont=0), hops)
    assert same(own(), own(dont=0), fragments)
    assert not same(own(), own(ttl=63), fragments)
    assert not same(own(), own(dont=1), fragments)


@pytest.mark.parametrize("length", range(62))
def test_truncated_frames_are_compared(length: int) -> None:
    for frame in (own(pad=True), own6(64), frames.arp(GATEWAY, "10.0.1.254", "10.0.1.1", reply_to=HOST)):
        cut = frame[:length]
        assert same(cut, cut)
        assert same(cut, frame) == (normalise(frame, ROUTERS, NOTHING) == normalise(cut, ROUTERS, NOTHING))
