"""Endpoints that move again and again under a fast stream: each frame arrives once, whatever switches cached.

``NETVIRT_MOVES=COUNT:RATE`` moves more often, under more frames a second.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from libnetvirt import Network, Rules
from libnetvirt.conformance import Place
from libnetvirt.conformance.support.stream import Stream, Void
from libnetvirt.conformance.support.testbed import Guest, Testbed, clean, endpoint_at
from tests.support.openflow_harness import OpenFlow

MOVES, RATE = (int(number) for number in os.environ.get("NETVIRT_MOVES", "24:3000").split(":"))
#: moves that are judged together: void if frames are missing, and as many were not read from sockets
BATCH = 24
#: how many batches may be void, besides as many as there are batches
VOID = 3

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(240 + 4 * MOVES)]


@pytest.fixture(scope="module")
def harness(private_namespace: None) -> Iterator[OpenFlow]:  # noqa: ARG001
    with OpenFlow() as harness:
        yield harness


@pytest.fixture(params=["vlan", "mpls"])
def testbed(harness: OpenFlow, request: pytest.FixtureRequest) -> Iterator[Testbed]:
    testbed = Testbed(harness, Rules.model_validate({"encapsulation": request.param}))
    yield testbed
    assert list(clean(testbed)) == []


@pytest.mark.parametrize("beside", [False, True], ids=["alone on its switch", "beside another endpoint"])
def test_each_frame_to_an_endpoint_that_moves_arrives_once(
    testbed: Testbed, harness: OpenFlow, beside: bool
) -> None:
    p, q, r, s = testbed.places(4)
    (other,) = [one for one in harness.host_ports() if one.switch == q.switch and one != q][:1]
    network, (a, b, _) = testbed.create_active(p, q, other if beside else r)
    done = sent = 0
    void: list[str] = []
    while done < MOVES:
        assert len(void) <= VOID + MOVES // BATCH, "Open vSwitch does not read its sockets in time"
        try:
            sent += _move(testbed, network, a, b, [(s, None), (q, 77), (s, 77), (q, None)])
        except Void as reason:
            void.append(str(reason))
            testbed.stream_speed /= 2  # the machine is too busy for so many
        else:
            done += BATCH
    print(f"{done} moves, {sent} frames, void: {void}")


def _move(
    testbed: Testbed, network: Network, a: Guest, b: Guest, spots: list[tuple[Place, int | None]]
) -> int:
    """Move the endpoint of ``b`` from place to place while frames are sent to it. How many were sent."""
    guests = [testbed.guest(network, endpoint_at(place, int(b.endpoint), tag), b.mac) for place, tag in spots]
    with Stream(testbed, a, guests[-1], rate=RATE) as stream:
        for number in range(BATCH):
            there = guests[number % len(guests)]
            stream.moves_to(there)
            network.modify_endpoint(
                b.endpoint, switch=there.place.switch, port=there.place.port, vlan=there.vlan
            )
            # Mostly on at once, sometimes after the old place is cleared.
            if number == BATCH // 2:
                time.sleep(2.0)
    stream.check_exactly_once()
    return stream.sent
