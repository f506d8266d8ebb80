"""Hostile hosts: no frame that a host sends disturbs other hosts."""

from __future__ import annotations

import random
import time

import pytest

from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.frames import AD, ARP, BROADCAST, IPV4, IPV6, LLDP, MPLS, VLAN, tag
from libnetvirt.conformance.support.stream import Stream, repeated_if_void
from libnetvirt.conformance.support.testbed import BURST, Guest, Testbed

CROWD = 10_000

_ARP = frames.arp(frames.mac(0xBAD), "10.0.0.1", "10.0.0.2")
_ND = frames.solicitation(frames.mac(0xBAD), "fe80::1", "fe80::2")
_LLDP = frames.lldp(frames.mac(0xBAD))


def _head(kind: int, destination: str = BROADCAST) -> bytes:
    return frames.mac_bytes(destination) + frames.mac_bytes(frames.mac(0xBAD)) + kind.to_bytes(2, "big")


def _truncated(frame: bytes) -> list[bytes]:
    return [frame[:length] for length in (16, 18, 22, 28, 34, 41, 42, 54, 60) if length < len(frame)]


def _damaged(frame: bytes, seed: int) -> list[bytes]:
    chance = random.Random(seed)
    found = []
    for _ in range(12):
        damaged = bytearray(frame)
        for _ in range(chance.randint(1, 6)):
            damaged[chance.randrange(14, len(damaged))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
        found.append(bytes(damaged))
    return found


#: malformed frames by their fault; all have at least two bytes behind the ethertype,
#: because few substrates carry shorter ones
MALFORMED: dict[str, list[bytes]] = {
    "two bytes of payload": [
        _head(kind) + b"\0\1" for kind in (ARP, IPV4, IPV6, LLDP, MPLS, 0, 1500, 0xFFFF)
    ],
    "truncated arp": _truncated(_ARP),
    "truncated neighbour discovery": _truncated(_ND),
    "truncated lldp": _truncated(_LLDP),
    "damaged arp": _damaged(_ARP, 1),
    "damaged neighbour discovery": _damaged(_ND, 2),
    "damaged lldp": _damaged(_LLDP, 3),
    "broadcast lldp": [_head(LLDP) + bytes(46), _head(LLDP) + b"\xff" * 46, _head(LLDP) + b"\x02\x00" * 23],
    "wrong lldp lengths": [
        _head(LLDP, "01:80:c2:00:00:0e") + body.ljust(46, b"\0")
        for body in (b"\x03\xff", b"\x02\x00\x04\x00", b"\x02\x01\x04", b"\xfe\x01\x00", b"\x00\x00")
    ],
    "wrong arp address sizes": [
        _ARP[:18] + bytes(sizes) + _ARP[20:] for sizes in ((0, 0), (255, 255), (6, 16))
    ],
    "truncated vlan tag": [
        _head(VLAN),
        _head(VLAN) + b"\0",
        _head(AD) + b"\0\1",
        _head(VLAN) + b"\0\1\x81\0",
    ],
    "many tags": [frames.tagged(_ARP, tag(1) * n) for n in (2, 3, 8)]
    + [frames.tagged(_ARP, tag(1, tpid=AD) * n) for n in (2, 3, 8)],
    "mpls without bottom of stack": [
        frames.mpls(frames.mac(0xBAD), BROADCAST, payload=bytes(4 * n)) for n in (1, 2, 12)
    ],
    "truncated mpls": [_head(MPLS) + b"\0" * n for n in (2, 3, 5)],
    "wrong ip lengths": [
        _head(IPV4) + bytes((0x40 | words, 0)) + total.to_bytes(2, "big") + bytes(42)
        for words in (0, 4, 5, 15)
        for total in (0, 19, 20, 65535)
    ],
    "forged arp senders": [
        frames.arp(frames.mac(0xBAD), "10.0.0.1", "10.0.0.2", claimed=claimed)
        for claimed in (BROADCAST, "00:00:00:00:00:00", "01:00:5e:00:00:01", frames.mac(0x77))
    ],
}


def _hostile_guest_and_others(testbed: Testbed) -> tuple[Guest, list[Guest], list[Guest]]:
    p, q, r, s = testbed.places(4)
    hostile, *others = testbed.guests(testbed.create(p, q, (r, 20)))
    strangers = testbed.guests(testbed.create((p, 50), (q, 50), s))
    testbed.announce(hostile, *others, *strangers)
    return hostile, others, strangers


def _check_still_forwarding(testbed: Testbed, *groups: list[Guest]) -> None:
    for a, b, *_ in groups:
        frame = frames.marked(a.mac, b.mac, b"as before")
        assert testbed.exchange(a, frame) == [b.arrival(frame)]
        back = frames.marked(b.mac, a.mac, b"as before")
        assert testbed.exchange(b, back) == [a.arrival(back)]


@pytest.mark.parametrize("what", MALFORMED)
def test_malformed_frames_disturb_nobody(testbed: Testbed, what: str) -> None:
    hostile, others, strangers = _hostile_guest_and_others(testbed)
    unclaimed = testbed.places(5)[4]
    testbed.inject(hostile.place, *MALFORMED[what])
    testbed.inject(unclaimed, *MALFORMED[what])
    _check_still_forwarding(testbed, others, strangers)


def test_oversized_frames_disturb_nobody(testbed: Testbed) -> None:
    hostile, others, strangers = _hostile_guest_and_others(testbed)
    large = [
        frames.ethernet(hostile.mac, destination, frames.EXPERIMENT, b"L" * size)
        for size in (1501, 1502, 1504, 1600, 2000, 4000, 8900)
        for destination in (BROADCAST, others[0].mac)
    ]
    testbed.send(hostile, *large)
    reached = {arrival.place for arrival in testbed.harness.receive(4 * testbed.harness.quiet_time)}
    assert strangers[2].place not in reached
    testbed.drain()
    _check_still_forwarding(testbed, others, strangers)


def test_random_bytes_disturb_nobody(testbed: Testbed) -> None:
    hostile, others, strangers = _hostile_guest_and_others(testbed)
    chance = random.Random(20121)
    for _ in range(6):
        junk = []
        for _ in range(20):
            destination = chance.choice((BROADCAST, others[0].mac, strangers[0].mac, "33:33:00:00:00:01"))
            body = chance.randbytes(chance.choice((4, 20, 46, 200)))
            kind = chance.choice((ARP, IPV4, IPV6, LLDP, MPLS, 0x88B5, chance.randrange(0x600, 0x8000)))
            junk.append(frames.ethernet(hostile.mac, destination, kind, body, pad=False))
        testbed.inject(hostile.place, *junk)
    _check_still_forwarding(testbed, others, strangers)


@repeated_if_void
def test_ten_thousand_macs_from_one_endpoint_are_bounded_and_disturb_nobody(testbed: Testbed) -> None:
    p, q, r = testbed.places(3)
    crowded = testbed.create(p, q)
    hostile, friend = testbed.guests(crowded)
    strangers = testbed.guests(testbed.create((p, 50), (q, 50), r))
    testbed.announce(hostile, friend, *strangers)
    with Stream(testbed, strangers[2], strangers[1], rate=100) as stream:
        due = time.monotonic()
        for first in range(0, CROWD, BURST):
            crowd = [
                frames.marked(frames.mac(0x100000 + number), friend.mac, b"yet another")
                for number in range(first, first + BURST)
            ]
            testbed.harness.send(hostile.place, crowd)
            due += BURST / testbed.harness.frame_rate
            time.sleep(max(0.0, due - time.monotonic()))
        during = testbed.description((r, 60), (q, 60))
        network = testbed.harness.connection.create(during)
    stream.check_exactly_once()
    network.remove()
    hosts = crowded.state().hosts
    assert friend.mac in {host.mac for host in hosts}
    assert len(hosts) < CROWD
    testbed.drain()
    _check_still_forwarding(testbed, strangers)
    frame = frames.marked(hostile.mac, friend.mac, b"it was not me")
    assert testbed.exchange(hostile, frame) == [friend.arrival(frame)]
