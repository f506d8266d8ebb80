"""Endpoints that move again and again under a fast stream: each frame arrives once, whatever switches cached.

``NETVIRT_MOVES=COUNT:RATE`` moves more often, under more frames a second.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from libnetvirt import Rules
from libnetvirt.conformance.support.stream import Stream, repeated_if_void
from libnetvirt.conformance.support.testbed import Testbed, clean, endpoint_at
from tests.support.openflow_harness import OpenFlow

MOVES, RATE = (int(number) for number in os.environ.get("NETVIRT_MOVES", "24:3000").split(":"))

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(60 + MOVES)]


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
@repeated_if_void
def test_each_frame_to_an_endpoint_that_moves_arrives_once(
    testbed: Testbed, harness: OpenFlow, beside: bool
) -> None:
    p, q, r, s = testbed.places(4)
    (other,) = [one for one in harness.host_ports() if one.switch == q.switch and one != q][:1]
    network, (a, b, _) = testbed.create_active(p, q, other if beside else r)
    guests = [
        testbed.guest(network, endpoint_at(place, int(b.endpoint), tag), b.mac)
        for place, tag in ((s, None), (q, 77), (s, 77), (q, None))
    ]
    with Stream(testbed, a, *guests, rate=RATE) as stream:
        for number in range(MOVES):
            there = guests[number % len(guests)]
            network.modify_endpoint(
                b.endpoint, switch=there.place.switch, port=there.place.port, vlan=there.vlan
            )
            # Sometimes on at once, sometimes after the old place is cleared.
            if number % 8 == 7:
                time.sleep(2.0)
    stream.check_exactly_once()
