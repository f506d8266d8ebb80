"""Endpoints that move again and again under a fast stream: each frame arrives once, whatever switches cached.

``NETVIRT_MOVES=COUNT:RATE`` moves more often, under more frames a second.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from libnetvirt import Network, Rules
from libnetvirt.conformance import Arrival, Place
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.testbed import Guest, Testbed, endpoint_at
from tests.support.lab.socket_overruns import unread
from tests.support.openflow_harness import OpenFlow

MOVES, RATE = (int(number) for number in os.environ.get("NETVIRT_MOVES", "24:1000").split(":"))
#: moves that are judged together: void if Open vSwitch did not get the time to read its sockets meanwhile
BATCH = 24
#: how many batches may be void, besides as many as there are batches
VOID = 3

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(60 + MOVES)]


@pytest.fixture(scope="module")
def harness(private_namespace: None) -> Iterator[OpenFlow]:  # noqa: ARG001
    with OpenFlow() as harness:
        yield harness


class Firehose:
    """A thread that sends numbered frames from one guest to a MAC address."""

    def __init__(self, testbed: Testbed, source: Guest, mac: str) -> None:
        self._testbed, self._source, self._mac = testbed, source, mac
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self.sent = 0

    def __enter__(self) -> Firehose:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def frame(self, number: int) -> bytes:
        return frames.marked(self._source.mac, self._mac, b"moves %d" % number)

    def _send(self) -> None:
        began = time.monotonic()
        while not self._over.is_set():
            due = int((time.monotonic() - began) * RATE)
            burst = [self.frame(number) for number in range(self.sent, min(due, self.sent + 10))]
            self._testbed.harness.send(self._source.place, burst)
            self.sent += len(burst)
            if not burst:
                time.sleep(0.5 / RATE)


@pytest.mark.parametrize("beside", [False, True], ids=["alone on its switch", "beside another endpoint"])
@pytest.mark.parametrize("encapsulation", ["vlan", "mpls"])
def test_each_frame_to_an_endpoint_that_moves_arrives_once(
    harness: OpenFlow, encapsulation: str, beside: bool
) -> None:
    testbed = Testbed(harness, Rules.model_validate({"encapsulation": encapsulation}))
    p, q, r, s = testbed.places(4)
    (other,) = [one for one in harness.host_ports() if one.switch == q.switch and one != q][:1]
    network, (a, b, _) = testbed.create_active(p, q, other if beside else r)
    places = [(s, None), (q, 77), (s, 77), (q, None)]
    done = void = sent = 0
    try:
        while done < MOVES:
            before = unread()
            lost, surplus, count = _moves(testbed, network, a, b, places)
            if unread() > before:
                void += 1
                assert void <= VOID + MOVES // BATCH, "Open vSwitch does not read its sockets in time"
                continue
            assert (lost, surplus) == ([], [])
            done, sent = done + BATCH, sent + count
        assert sent > MOVES
        print(f"{done} moves, {sent} frames, {void} void batches")
    finally:
        network.remove()


def _moves(
    testbed: Testbed, network: Network, a: Guest, b: Guest, spots: list[tuple[Place, int | None]]
) -> tuple[list[int], list[Arrival], int]:
    """Move the endpoint of ``b`` between places. The numbers of frames that were lost, arrivals that should
    not have been, and how many frames were sent."""
    guests = [testbed.guest(network, endpoint_at(place, int(b.endpoint), tag), b.mac) for place, tag in spots]
    arrived: list[Arrival] = []
    with Firehose(testbed, a, b.mac) as hose:
        for number in range(BATCH):
            there = guests[number % len(guests)]
            network.modify_endpoint(
                b.endpoint, switch=there.place.switch, port=there.place.port, vlan=there.vlan
            )
            # Sometimes on at once, sometimes after the old place is cleared.
            pause = time.monotonic() + (2.0 if number == BATCH // 2 else 0.0)
            arrived += testbed.harness.receive(0.0)
            while time.monotonic() < pause:
                arrived += testbed.harness.receive(0.05)
    wanted = {guest.arrival(hose.frame(n)): n for guest in guests for n in range(hose.sent)}
    while found := testbed.harness.receive(0.5):
        arrived += found
    seen = Counter(wanted[one] for one in arrived if one in wanted)
    surplus = [
        one for one in arrived if b"moves " in one.frame and (one not in wanted or seen[wanted[one]] > 1)
    ]
    return [n for n in range(hose.sent) if not seen[n]], surplus, hose.sent
