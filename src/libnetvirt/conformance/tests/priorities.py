"""Priorities of tags (PCP): kept from endpoint to endpoint, mapped where frames enter, given to others."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from libnetvirt import Network
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.frames import AD, BROADCAST, tag
from libnetvirt.conformance.support.testbed import Guest, Testbed, endpoint_at
from libnetvirt.model import Pcp, PcpFields

LEVELS = range(8)


@pytest.fixture
def priority_testbed(testbed: Testbed) -> Testbed:
    """A testbed with a driver that keeps priorities."""
    testbed.need_feature("endpoint.pcp")
    return testbed


def _ways(guest: Guest, frame: bytes) -> list[bytes]:
    """How a guest may send a frame: with its VLAN, or without and with VLAN 0, and with each PCP."""
    if guest.mpls is not None:
        return [guest.on_wire(frame), frames.tagged(guest.on_wire(frame), tag(0, priority=5))]
    vlan = guest.vlan if isinstance(guest.vlan, int) else 0
    tags = [*(tag(vlan, priority=level) for level in LEVELS), tag(vlan, tpid=AD, priority=6)]
    return [*([] if vlan else [frame]), *(frames.tagged(frame, one) for one in tags)]


def _exchange_all(testbed: Testbed, guests: Iterable[Guest]) -> int:
    """Every guest sends with each priority to all and to each other guest. The testbed compares what arrives
    with what the oracle says. Returns how many frames have arrived."""
    guests, number = list(guests), 0
    for a in guests:
        for destination in (BROADCAST, *(b.mac for b in guests if b is not a)):
            frame = frames.marked(a.mac, destination, b"how urgent?")
            number += len(testbed.inject(a.place, *_ways(a, frame)))
    return number


def test_priorities_are_kept_mapped_and_given(priority_testbed: Testbed) -> None:
    testbed = priority_testbed
    p, q, r, s, beside = testbed.places(5)
    endpoints = [
        endpoint_at(p, 1, 10, pcp={}),
        endpoint_at(q, 2, 20, pcp={"map": "5:2,3:3,2:0"}),
        endpoint_at(r, 3, pcp={"default": 3, "map": "1:7"}),
        endpoint_at(s, 4, 40),  # its frames have no priority
        endpoint_at(beside, 5, 10, pcp={"default": 1}),
        endpoint_at(q, 6, 21, pcp={}),  # on one port with another endpoint
        endpoint_at(s, 7),
    ]
    if testbed.offers("tag.mpls"):
        endpoints.append(endpoint_at(r, 8, {"mpls": 1000}))
    guests = testbed.guests(testbed.create(endpoints=endpoints))
    a, b, c, d, e, f, g = guests[:7]
    testbed.announce(*guests)
    total = sum(len(_ways(guest, bytes(60))) * 2 * (len(guests) - 1) for guest in guests)
    assert _exchange_all(testbed, guests) == total

    def arrived(sender: Guest, receiver: Guest, *tags: bytes) -> bytes:
        frame = frames.tagged(frames.marked(sender.mac, receiver.mac, b"this one"), *tags)
        (found,) = testbed.inject(sender.place, frame)
        assert found.place == receiver.place
        return found.frame[12:16]

    # The oracle is compared with what the words of the description say, too.
    assert arrived(a, b, tag(10, priority=5)) == tag(20, priority=5)
    assert arrived(a, e, tag(10, priority=5)) == tag(10, priority=5)
    assert arrived(b, a, tag(20, priority=5)) == tag(10, priority=2)
    assert arrived(b, f, tag(20, priority=2)) == tag(21)
    assert arrived(c, a) == tag(10, priority=3)
    assert arrived(c, a, tag(0, priority=0)) == tag(10)
    assert arrived(c, f, tag(0, priority=1)) == tag(21, priority=7)
    assert arrived(a, d, tag(10, priority=7)) == tag(40)
    assert arrived(d, a, tag(40, priority=7)) == tag(10)
    assert arrived(g, a, tag(0, priority=7)) == tag(10)
    assert arrived(a, c, tag(10, priority=5))[:2] == frames.EXPERIMENT.to_bytes(2)  # without a tag


def test_a_network_begins_and_ends_to_keep_priorities(priority_testbed: Testbed) -> None:
    testbed = priority_testbed
    p, q, r = testbed.places(3)
    network = testbed.create((p, 10), (q, 20), r)
    guests = testbed.guests(network)
    testbed.announce(*guests)

    def change(uuid: str, pcp: PcpFields | None) -> None:
        network.modify_endpoint(uuid, pcp=pcp)
        testbed.harness.flush_caches()  # else a switch may give a frame its old priority for a moment
        _exchange_all(testbed, guests)

    _exchange_all(testbed, guests)
    change("1", {})
    change("2", {"default": 4})
    change("3", {"default": 6, "map": "0:1"})
    assert _kept(network) == {"1": Pcp(), "2": Pcp(default=4), "3": Pcp(default=6, map="0:1")}
    a, b, _ = guests
    frame = frames.marked(a.mac, b.mac, b"urgent")
    (arrived,) = testbed.inject(a.place, frames.tagged(frame, tag(10, priority=6)))
    assert arrived.frame == frames.tagged(frame, tag(20, priority=6))
    for uuid in "132":
        change(uuid, None)
    assert _kept(network) == {}


def _kept(network: Network) -> dict[str, Pcp]:
    return {e.uuid: e.pcp for e in network.description().endpoints if e.pcp is not None}
