"""A burst of large frames, and whether a rate limit policed it.

A limit counts bits in a time that a test cannot know exactly. So the bounds here are wide, and the limit is
so low that far more is sent than it lets pass.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.testbed import Guest, Testbed

#: bytes of a frame, and how many are sent
FRAME_BYTES, FRAMES = 1400, 200
#: frames sent at once: half of what a port's queue holds, as two batches may wait there on a busy machine
BATCH = 25
#: the least number that arrives without a limit: a busy machine may drop some before they enter the network
MIN_ARRIVED = 0.8 * FRAMES
#: bit/s of a limit that drops most of them, and the same as descriptions write it
LIMIT, LOW_LIMIT = 200_000, "200 kbit/s"
#: a limit that is never reached
HIGH_LIMIT = "10 Gbit/s"
#: bits of the largest burst that any limit lets pass: TCP cannot use a rate without one
BURST_BITS = 1_000_000


@dataclass(frozen=True)
class RateProbe:
    """How many of ``FRAMES`` frames arrived, and the seconds that this took."""

    arrived: int
    seconds: float

    @property
    def limited(self) -> bool:
        """Whether some frames arrived, and no more than the limit lets pass in that time."""
        most = (BURST_BITS + 1.1 * LIMIT * self.seconds) / (8 * FRAME_BYTES)
        return 5 <= self.arrived <= most

    @property
    def unlimited(self) -> bool:
        """Whether all frames arrived, except those that a busy machine may drop."""
        return MIN_ARRIVED <= self.arrived <= FRAMES


def probe_rate(testbed: Testbed, source: Guest, destination: Guest) -> RateProbe:
    """Send ``FRAMES`` large frames from one guest to another; the network must have learned both.

    Fails if a frame arrives anywhere else.
    """
    frame = frames.marked(source.mac, destination.mac, b"large").ljust(FRAME_BYTES, b"\0")
    wanted = destination.arrival(frame)
    # After a change, switches may use cached flows of the old rules for a moment.
    testbed.harness.flush_caches()
    testbed.drain()
    began, arrived = time.monotonic(), 0
    for _ in range(0, FRAMES, BATCH):
        testbed.harness.send(source.place, [source.on_wire(frame)] * BATCH)
        while found := testbed.harness.receive(testbed.harness.quiet_time):
            arrived += found.count(wanted)
            assert set(found) <= {wanted}, "a frame arrived elsewhere, or another frame arrived"
    return RateProbe(arrived, time.monotonic() - began)
