"""Bandwidth limits of endpoints: traffic above a limit is dropped, and no other traffic."""

from __future__ import annotations

from libnetvirt import Limits, Network
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.rate_probe import HIGH_LIMIT, LOW_LIMIT, probe_rate
from libnetvirt.conformance.support.testbed import Guest, Testbed


def test_limits_of_endpoints_police_each_direction(default_testbed: Testbed) -> None:
    testbed = default_testbed
    testbed.need_feature("endpoint.limits")
    p, q, r = testbed.places(3)
    description = testbed.description(p, (q, 7), r)
    wide = {"inbound": HIGH_LIMIT, "outbound": HIGH_LIMIT}
    ends = tuple(e.changed(bandwidth=wide) for e in description.endpoints)
    network = testbed.harness.connection.create(description.changed(endpoints=ends))
    a, b, c = testbed.learned_guests(network)
    for end, limits, limited, unlimited in (
        ("2", {"outbound": LOW_LIMIT}, (a, b), (b, a)),
        ("1", {"inbound": LOW_LIMIT}, (a, c), (c, a)),
    ):
        _set(network, end, Limits.model_validate({**wide, **limits}))
        _install_rules(testbed, *limited, *unlimited)
        assert probe_rate(testbed, *limited).limited
        assert probe_rate(testbed, *unlimited).unlimited
        _set(network, end, Limits.model_validate(wide))
    _set(network, "2", None)
    _install_rules(testbed, a, b)
    assert probe_rate(testbed, a, b).unlimited
    testbed.check_reachability([a, b, c])


def _set(network: Network, end: str, limits: Limits | None) -> None:
    network.modify_endpoint(end, bandwidth=limits)
    assert network.description().by_uuid[end].bandwidth == limits


def _install_rules(testbed: Testbed, *guests: Guest) -> None:
    """Let the first guest of each pair send a frame to the second, which installs on-demand rules."""
    for one, other in zip(guests[::2], guests[1::2], strict=True):
        testbed.exchange(one, frames.marked(one.mac, other.mac, b"install the rules"))
