"""Many large frames at once, and whether a limit held them back.

Limits count bits in a time, which no test can know exactly. So the bounds here are wide, and the limit so low
that far more is sent than they let pass.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from libnetvirt import Network
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.testbed import Bench, Guest
from libnetvirt.conformance.tests.faults import _check_all

#: octets of a large frame, how many are sent, and how many at once: half of what fits into a port's queue, as
#: on a busy machine two parts may wait there
SIZE, COUNT, PART = 1400, 200, 25
#: of these, what a busy machine does not lose before they are in the network
MOST = 0.8 * COUNT
#: a limit that a small part of them fits into
LIMIT = 200_000
#: bits that may pass at once, whatever the limit: TCP cannot use a rate without such a burst
AT_ONCE = 1_000_000
#: the same in words, and a limit that is never reached
TIGHT, WIDE = "200 kbit/s", "10 Gbit/s"


@dataclass(frozen=True)
class Flood:
    """What became of many large frames: how many arrived, and the seconds that it took."""

    arrived: int
    seconds: float

    @property
    def limited(self) -> bool:
        """Whether no more arrived than a limit lets pass in that time, and not nothing at all."""
        most = (AT_ONCE + 1.1 * LIMIT * self.seconds) / (8 * SIZE)
        return 5 <= self.arrived <= most

    @property
    def whole(self) -> bool:
        """Whether nothing but what a busy machine may lose is missing."""
        return MOST <= self.arrived <= COUNT


def flood(bench: Bench, source: Guest, destination: Guest) -> Flood:
    """Send many large frames from one guest to another, who know each other."""
    frame = frames.marked(source.mac, destination.mac, b"large").ljust(SIZE, b"\0")
    wanted = destination.arrival(frame)
    # What switches have cached of their rules, they may use for a moment after a change.
    bench.harness.settle()
    bench.drain()
    began, arrived = time.monotonic(), 0
    for _ in range(0, COUNT, PART):
        bench.harness.send(source.place, [source.wrapped(frame)] * PART)
        while found := bench.harness.receive(bench.harness.quiet):
            arrived += found.count(wanted)
            assert set(found) <= {wanted}, "it arrived elsewhere, or something else did"
    return Flood(arrived, time.monotonic() - began)


def acquainted(bench: Bench, network: Network) -> list[Guest]:
    """A guest on each endpoint; all know each other, and have spoken to each other."""
    guests = bench.guests(network)
    bench.meet(*guests)
    _check_all(bench, guests)
    return guests
