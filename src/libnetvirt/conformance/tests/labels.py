"""Endpoints with MPLS labels, which carry whole Ethernet frames (RFC 4448, raw mode, no control word)."""

from __future__ import annotations

import pytest

from libnetvirt import Network
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.frames import AD, BROADCAST, MPLS, tag
from libnetvirt.conformance.support.testbed import Guest, Testbed

LABEL, OTHER, UNCLAIMED = 100, 1048575, 101


@pytest.fixture
def labelled(testbed: Testbed) -> tuple[Network, list[Guest]]:
    """Untagged, VLAN and MPLS endpoints, some of them on one port, each with a guest that is learned."""
    testbed.need_feature("tag.mpls")
    p, q, r = testbed.places(3)
    same, neighbour = testbed.places_on_one_switch()
    network = testbed.create(
        p, (q, 20), (r, {"mpls": LABEL}), (same, {"mpls": LABEL}), (same, {"mpls": OTHER}), (same, 30),
        (neighbour, {"mpls": OTHER}),
    )  # fmt: skip
    guests = testbed.guests(network)
    testbed.announce(*guests)
    return network, guests


def test_endpoints_of_every_kind_of_tag_reach_each_other(
    labelled: tuple[Network, list[Guest]], testbed: Testbed
) -> None:
    _, guests = labelled
    for a in guests:
        frame = frames.marked(a.mac, BROADCAST, b"to all")
        assert len(testbed.exchange(a, frame)) == len(guests) - 1
        for b in guests:
            if a is not b:
                frame = frames.marked(a.mac, b.mac, b"to one")
                assert testbed.exchange(a, frame) == [b.arrival(frame)]


def test_a_label_carries_frames_of_every_type(
    labelled: tuple[Network, list[Guest]], testbed: Testbed
) -> None:
    _, guests = labelled
    for a, b in (
        (guests[0], guests[2]),
        (guests[2], guests[0]),
        (guests[2], guests[1]),
        (guests[3], guests[4]),
    ):
        sent = [
            frames.ethernet(a.mac, b.mac, kind, b"\x45" + bytes(59))
            for kind in (0x0800, 0x86DD, 0x894F, 0x0600)
        ]
        sent.append(frames.arp(a.mac, "10.0.0.1", "10.0.0.2", reply_to=b.mac))
        sent.append(frames.ethernet(a.mac, b.mac, 46, b"\x42\x42\x03" + bytes(43)))
        sent.append(frames.ethernet(a.mac, b.mac, 0x88B5, bytes(1400)))
        for frame in sent:
            assert testbed.exchange(a, frame) == [b.arrival(frame)]


def test_unclaimed_labels_reach_no_endpoint(labelled: tuple[Network, list[Guest]], testbed: Testbed) -> None:
    network, guests = labelled
    a, b = guests[2], guests[0]
    for destination in (BROADCAST, b.mac):
        frame = frames.marked(frames.mac(0xBAD), destination, b"another label")
        for wire in (
            frames.in_label(UNCLAIMED, frame),
            frames.mpls(a.mac, destination, LABEL, 17, payload=frame),
            frames.tagged(frames.in_label(LABEL, frame), tag(20)),
            frames.tagged(frames.in_label(LABEL, frame), tag(LABEL, tpid=AD)),
            frames.ethernet(a.mac, destination, MPLS, b"\x00\x06"),
            frames.in_label(LABEL, frame[:13])[:31],
        ):
            assert testbed.inject(a.place, wire) == []
    testbed.drain()
    assert frames.mac(0xBAD) not in {host.mac for host in network.state().hosts}


def test_networks_share_a_port_by_label(testbed: Testbed) -> None:
    testbed.need_feature("tag.mpls")
    p, q = testbed.places(2)
    tags = (None, 30, {"mpls": LABEL}, {"mpls": OTHER})
    networks = [testbed.create((p, one), (q, one)) for one in tags]
    pairs = [testbed.guests(network) for network in networks]
    testbed.announce(*(guest for pair in pairs for guest in pair))
    for a, b in pairs:
        for destination in (BROADCAST, b.mac):
            frame = frames.marked(a.mac, destination, b"same port, other network")
            assert testbed.exchange(a, frame) == [b.arrival(frame)]
