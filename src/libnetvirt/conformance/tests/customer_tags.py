"""Endpoints that carry tags of their customers: whole ports, sets of VLANs, and tags below the endpoint's."""

from __future__ import annotations

import pytest

from libnetvirt import Network
from libnetvirt.conformance.harness import Place
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.frames import AD, BROADCAST, tag
from libnetvirt.conformance.support.testbed import Guest, Tag, Testbed
from libnetvirt.errors import EndpointClaimed, InvalidDescription

ANY = "any"
#: tags of a customer, outermost first
STACKS = (
    b"",
    tag(100),
    tag(150, priority=5),
    tag(199, tpid=AD, priority=7),
    tag(100) + tag(20, priority=3),
    tag(150, tpid=AD) + tag(4094),
    tag(150, tpid=AD) + tag(7, tpid=AD),
    tag(100) + tag(100) + tag(100),
    tag(199) + tag(2, tpid=AD) + tag(3, priority=1) + tag(4),
)
#: such that only a whole port, or a tag above them, carries them
OTHERS = (tag(99), tag(200, tpid=AD), tag(1) + tag(150), tag(0, priority=6), tag(0) + tag(150))


@pytest.fixture
def customer_testbed(testbed: Testbed) -> Testbed:
    """A testbed with a driver that offers endpoints which keep customers' tags."""
    testbed.need_feature("tag.any")
    return testbed


@pytest.fixture
def claims_testbed(customer_testbed: Testbed) -> Testbed:
    """The same, for tests in which no frame is sent: with one of the rules options only."""
    return customer_testbed


def _exchange_all(testbed: Testbed, guests: list[Guest], *stacks: bytes) -> None:
    """Every guest sends with each of these stacks to all, and to each other guest; all of it arrives."""
    _announce(testbed, guests, stacks[0])
    for a in guests:
        others = [guest for guest in guests if guest is not a]
        sent = [frames.tagged(frames.marked(a.mac, BROADCAST, b"to all"), stack) for stack in stacks]
        arrived = testbed.exchange(a, *sent)
        assert sorted(arrived) == sorted(guest.arrival(frame) for frame in sent for guest in others)
        for b in others:
            sent = [frames.tagged(frames.marked(a.mac, b.mac, b"to one"), stack) for stack in stacks]
            assert sorted(testbed.exchange(a, *sent)) == sorted(b.arrival(frame) for frame in sent)


def _announce(testbed: Testbed, guests: list[Guest], stack: bytes) -> None:
    """Every guest sends a broadcast, and the networks learn where it is, also if they have known it."""
    for a in guests:
        testbed.exchange(a, frames.tagged(frames.marked(a.mac, BROADCAST, b"here I am"), stack))
    testbed.await_known(testbed.current())


def _spread(testbed: Testbed, kept: Tag) -> tuple[Network, list[Guest]]:
    """A network on three switches, with two endpoints on one of them."""
    p, q, r = testbed.places(3)
    beside = next(x for x in testbed.harness.host_ports() if x.switch == p.switch and x != p)
    network = testbed.create((p, kept), (q, kept), (r, kept), (beside, kept))
    return network, testbed.guests(network)


def test_a_whole_port_carries_every_frame_as_it_is(customer_testbed: Testbed) -> None:
    _, guests = _spread(customer_testbed, ANY)
    _exchange_all(customer_testbed, guests, *STACKS, *OTHERS)
    a, b = guests[:2]
    large = frames.tagged(frames.ethernet(a.mac, b.mac, 0x88B5, bytes(1400)), tag(100), tag(20))
    assert customer_testbed.exchange(a, large) == [b.arrival(large)]


def test_a_set_of_vlans_is_carried_as_it_is_and_nothing_else(customer_testbed: Testbed) -> None:
    testbed = customer_testbed
    testbed.need_feature("tag.range")
    network, guests = _spread(testbed, "100-198, 199")
    assert {e.vlan for e in network.description().endpoints} == {"100-199"}
    stacks = [stack for stack in STACKS if stack]
    _exchange_all(testbed, guests, *stacks)
    a, b = guests[:2]
    for stack in (b"", *OTHERS):
        for destination in (BROADCAST, b.mac):
            frame = frames.tagged(frames.marked(a.mac, destination, b"another vlan"), stack)
            assert testbed.exchange(a, frame) == []


def test_tags_below_that_of_the_endpoint_stay(customer_testbed: Testbed) -> None:
    testbed = customer_testbed
    testbed.need_feature("tag.inner")
    p, q, r = testbed.places(3)
    ends: list[tuple[Place, Tag]] = [
        (place, {"vlan": n, "inner_vlan": ANY}) for place, n in ((p, 20), (q, 20), (r, 30), (p, 30))
    ]
    guests = testbed.guests(testbed.create(*ends))
    _exchange_all(testbed, guests, *STACKS, *OTHERS)
    a, _, c, _ = guests
    for tpid, priority in ((AD, 0), (frames.VLAN, 6), (AD, 7)):  # of the endpoint's own tag: both are kept
        frame = frames.tagged(frames.marked(a.mac, c.mac, b"urgent"), tag(5, priority=2))
        own = {n: tag(n, tpid=tpid, priority=priority) for n in (20, 30)}
        (arrived,) = testbed.inject(a.place, frames.tagged(frame, own[20]))
        assert (arrived.place, arrived.frame) == (c.place, frames.tagged(frame, own[30]))


def test_sets_and_single_vlans_share_a_port(customer_testbed: Testbed) -> None:
    testbed = customer_testbed
    testbed.need_feature("tag.range")
    p, q = testbed.places(2)
    tags: tuple[Tag, ...] = (None, 99, "100-199", "200,202-203", 201, "300-300")
    pairs = [testbed.guests(testbed.create((p, one), (q, one))) for one in tags]
    vlans = (None, 99, 150, 203, 201, 300)
    for pair, vlan, kept in zip(pairs, vlans, tags, strict=True):
        stack = tag(vlan) if isinstance(kept, str) and vlan is not None else b""
        _exchange_all(testbed, pair, stack)
    a = pairs[0][0]
    for vlan in (98, 204, 301, 4094):
        frame = frames.marked(frames.mac(0xBAD), BROADCAST, b"nobody's vlan")
        assert testbed.inject(a.place, frames.tagged(frame, tag(vlan))) == []


def test_tags_that_overlap_are_refused(claims_testbed: Testbed) -> None:
    testbed = claims_testbed
    p, q, r, s = testbed.places(4)
    wide: tuple[tuple[Tag, tuple[Tag, ...]], ...] = ((ANY, (None, 20, ANY)),)
    if testbed.offers("tag.range"):
        wide = ((ANY, (None, 20, ANY, "1-4094")), ("100-199", (100, 199, ANY, "50-100", "199,300")))
    for held, claims in wide:
        network = testbed.create((p, held), (q, held))
        before = testbed.snapshot()
        for claim in claims:
            with pytest.raises(EndpointClaimed, match=network.uuid):
                testbed.create((p, claim), (r, claim))
        assert testbed.snapshot() == before
        network.remove()
        for claim in claims:
            other = testbed.create((p, claim), (r, claim))
            with pytest.raises(EndpointClaimed, match=other.uuid):
                testbed.create((p, held), (s, held))
            other.remove()
        for claim in claims:
            with pytest.raises(InvalidDescription):
                testbed.description((p, held), (p, claim))


def test_a_network_begins_and_ends_to_keep_tags(customer_testbed: Testbed) -> None:
    testbed = customer_testbed
    p, q, r = testbed.places(3)
    network = testbed.create(p, q, r)
    guests = testbed.guests(network)
    testbed.announce(*guests)
    tags: tuple[Tag, ...] = (ANY, "100-199", None) if testbed.offers("tag.range") else (ANY, None)
    for kept in tags:
        # A driver may forget the hosts of an endpoint whose tag changes, and learns them again.
        ends = [e.changed(vlan=kept) for e in network.description().endpoints]
        testbed.harness.connection.apply(network.description().changed(endpoints=ends))
        guests = [testbed.guest(network, e, guest.mac) for e, guest in zip(ends, guests, strict=True)]
        if kept is not None:
            _exchange_all(testbed, guests, tag(150), tag(150) + tag(20))
        else:
            _announce(testbed, guests, b"")
            testbed.check_reachability(guests)
            a = guests[0]
            assert (
                testbed.inject(a.place, frames.tagged(frames.marked(a.mac, BROADCAST, b""), tag(150))) == []
            )
    with pytest.raises(InvalidDescription, match="all endpoints of a network"):
        network.modify_endpoint("1", vlan=ANY)
