"""Whatever a host sends, everybody else goes on as before."""

from __future__ import annotations

import random
import time

import pytest

from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.frames import AD, ARP, BROADCAST, IPV4, IPV6, LLDP, MPLS, VLAN, tag
from libnetvirt.conformance.support.stream import Stream
from libnetvirt.conformance.support.testbed import BURST, Bench, Guest

CROWD = 10_000

_ARP = frames.arp(frames.mac(0xBAD), "10.0.0.1", "10.0.0.2")
_ND = frames.solicitation(frames.mac(0xBAD), "fe80::1", "fe80::2")
_LLDP = frames.lldp(frames.mac(0xBAD))


def _head(kind: int, destination: str = BROADCAST) -> bytes:
    return frames.octets(destination) + frames.octets(frames.mac(0xBAD)) + kind.to_bytes(2, "big")


def _cut_short(frame: bytes) -> list[bytes]:
    return [frame[:length] for length in (16, 18, 22, 28, 34, 41, 42, 54, 60) if length < len(frame)]


def _damaged(frame: bytes, seed: int) -> list[bytes]:
    chance = random.Random(seed)
    found = []
    for _ in range(12):
        octets = bytearray(frame)
        for _ in range(chance.randint(1, 6)):
            octets[chance.randrange(14, len(octets))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
        found.append(bytes(octets))
    return found


#: malformed frames by what is wrong with them; all have at least two octets below the ethertype,
#: because few substrates carry shorter ones
MALFORMED: dict[str, list[bytes]] = {
    "next to nothing": [_head(kind) + b"\0\1" for kind in (ARP, IPV4, IPV6, LLDP, MPLS, 0, 1500, 0xFFFF)],
    "cut arp": _cut_short(_ARP),
    "cut neighbour discovery": _cut_short(_ND),
    "cut lldp": _cut_short(_LLDP),
    "damaged arp": _damaged(_ARP, 1),
    "damaged neighbour discovery": _damaged(_ND, 2),
    "damaged lldp": _damaged(_LLDP, 3),
    "lldp to all": [_head(LLDP) + bytes(46), _head(LLDP) + b"\xff" * 46, _head(LLDP) + b"\x02\x00" * 23],
    "lldp with lengths that lie": [
        _head(LLDP, "01:80:c2:00:00:0e") + body.ljust(46, b"\0")
        for body in (b"\x03\xff", b"\x02\x00\x04\x00", b"\x02\x01\x04", b"\xfe\x01\x00", b"\x00\x00")
    ],
    "arp of other sizes": [_ARP[:18] + bytes(sizes) + _ARP[20:] for sizes in ((0, 0), (255, 255), (6, 16))],
    "cut vlan tag": [_head(VLAN), _head(VLAN) + b"\0", _head(AD) + b"\0\1", _head(VLAN) + b"\0\1\x81\0"],
    "towers of tags": [frames.tagged(_ARP, tag(1) * n) for n in (2, 3, 8)]
    + [frames.tagged(_ARP, tag(1, tpid=AD) * n) for n in (2, 3, 8)],
    "mpls without an end": [
        frames.mpls(frames.mac(0xBAD), BROADCAST, payload=bytes(4 * n)) for n in (1, 2, 12)
    ],
    "mpls cut": [_head(MPLS) + b"\0" * n for n in (2, 3, 5)],
    "ip lengths that lie": [
        _head(IPV4) + bytes((0x40 | words, 0)) + total.to_bytes(2, "big") + bytes(42)
        for words in (0, 4, 5, 15)
        for total in (0, 19, 20, 65535)
    ],
    "claimed addresses": [
        frames.arp(frames.mac(0xBAD), "10.0.0.1", "10.0.0.2", claimed=claimed)
        for claimed in (BROADCAST, "00:00:00:00:00:00", "01:00:5e:00:00:01", frames.mac(0x77))
    ],
}


def _neighbours_of_a_hostile_guest(bench: Bench) -> tuple[Guest, list[Guest], list[Guest]]:
    p, q, r, s = bench.places(4)
    hostile, *others = bench.guests(bench.create(p, q, (r, 20)))
    strangers = bench.guests(bench.create((p, 50), (q, 50), s))
    bench.meet(hostile, *others, *strangers)
    return hostile, others, strangers


def _all_is_well(bench: Bench, *groups: list[Guest]) -> None:
    for a, b, *_ in groups:
        frame = frames.marked(a.mac, b.mac, b"as before")
        assert bench.exchange(a, frame) == [b.arrival(frame)]
        back = frames.marked(b.mac, a.mac, b"as before")
        assert bench.exchange(b, back) == [a.arrival(back)]


@pytest.mark.parametrize("what", MALFORMED)
def test_malformed_frames_harm_nobody(bench: Bench, what: str) -> None:
    hostile, others, strangers = _neighbours_of_a_hostile_guest(bench)
    unclaimed = bench.places(5)[4]
    bench.inject(hostile.place, *MALFORMED[what])
    bench.inject(unclaimed, *MALFORMED[what])
    _all_is_well(bench, others, strangers)


def test_oversized_frames_harm_nobody(bench: Bench) -> None:
    hostile, others, strangers = _neighbours_of_a_hostile_guest(bench)
    large = [
        frames.ethernet(hostile.mac, destination, frames.EXPERIMENT, b"L" * size)
        for size in (1501, 1502, 1504, 1600, 2000, 4000, 8900)
        for destination in (BROADCAST, others[0].mac)
    ]
    bench.send(hostile, *large)
    reached = {arrival.place for arrival in bench.harness.receive(4 * bench.harness.quiet)}
    assert strangers[2].place not in reached
    bench.drain()
    _all_is_well(bench, others, strangers)


def test_random_octets_harm_nobody(bench: Bench) -> None:
    hostile, others, strangers = _neighbours_of_a_hostile_guest(bench)
    chance = random.Random(20121)
    for _ in range(6):
        junk = []
        for _ in range(20):
            destination = chance.choice((BROADCAST, others[0].mac, strangers[0].mac, "33:33:00:00:00:01"))
            body = chance.randbytes(chance.choice((4, 20, 46, 200)))
            kind = chance.choice((ARP, IPV4, IPV6, LLDP, MPLS, 0x88B5, chance.randrange(0x600, 0x8000)))
            junk.append(frames.ethernet(hostile.mac, destination, kind, body, pad=False))
        bench.inject(hostile.place, *junk)
    _all_is_well(bench, others, strangers)


def test_ten_thousand_macs_from_one_endpoint_are_bounded_and_harm_nobody(bench: Bench) -> None:
    p, q, r = bench.places(3)
    crowded = bench.create(p, q)
    hostile, friend = bench.guests(crowded)
    strangers = bench.guests(bench.create((p, 50), (q, 50), r))
    bench.meet(hostile, friend, *strangers)
    with Stream(bench, strangers[2], strangers[1], rate=100) as stream:
        due = time.monotonic()
        for first in range(0, CROWD, BURST):
            crowd = [
                frames.marked(frames.mac(0x100000 + number), friend.mac, b"yet another")
                for number in range(first, first + BURST)
            ]
            bench.harness.send(hostile.place, crowd)
            due += BURST / bench.harness.pace
            time.sleep(max(0.0, due - time.monotonic()))
        during = bench.description((r, 60), (q, 60))
        network = bench.harness.connection.create(during)
    stream.check_unharmed()
    network.remove()
    hosts = crowded.state().hosts
    assert friend.mac in {host.mac for host in hosts}
    assert len(hosts) < CROWD
    bench.drain()
    _all_is_well(bench, strangers)
    frame = frames.marked(hostile.mac, friend.mac, b"it was not me")
    assert bench.exchange(hostile, frame) == [friend.arrival(frame)]
