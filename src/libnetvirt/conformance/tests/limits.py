"""Limits of endpoints: what exceeds them is dropped where they are, and nothing else is."""

from __future__ import annotations

import pytest

from libnetvirt import Limits, Network
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.rate_probe import TIGHT, WIDE, acquainted, flood
from libnetvirt.conformance.support.testbed import Bench, Guest
from libnetvirt.conformance.tests.faults import _check_all


def test_endpoints_get_and_give_no_more_than_their_limits(plain_bench: Bench) -> None:
    bench = plain_bench
    if not bench.offers("endpoint.limits"):
        pytest.skip("the driver does not offer endpoint.limits")
    p, q, r = bench.places(3)
    description = bench.description(p, (q, 7), r)
    wide = {"inbound": WIDE, "outbound": WIDE}
    ends = tuple(e.changed(bandwidth=wide) for e in description.endpoints)
    network = bench.harness.connection.create(description.changed(endpoints=ends))
    a, b, c = acquainted(bench, network)
    for end, limits, limited, unlimited in (
        ("2", {"outbound": TIGHT}, (a, b), (b, a)),
        ("1", {"inbound": TIGHT}, (a, c), (c, a)),
    ):
        _set(network, end, Limits.model_validate({**wide, **limits}))
        _speak(bench, *limited, *unlimited)
        assert flood(bench, *limited).limited
        assert flood(bench, *unlimited).whole
        _set(network, end, Limits.model_validate(wide))
    _set(network, "2", None)
    _speak(bench, a, b)
    assert flood(bench, a, b).whole
    _check_all(bench, [a, b, c])


def _set(network: Network, end: str, limits: Limits | None) -> None:
    network.modify_endpoint(end, bandwidth=limits)
    assert network.description().by_uuid[end].bandwidth == limits


def _speak(bench: Bench, *guests: Guest) -> None:
    """Let some guests say one thing to the next, so that there are rules where they are made on demand."""
    for one, other in zip(guests[::2], guests[1::2], strict=True):
        bench.exchange(one, frames.marked(one.mac, other.mac, b"rules, please"))
