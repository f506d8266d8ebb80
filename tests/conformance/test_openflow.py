"""The conformance suite on the openflow driver over real switches."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from libnetvirt import Encapsulation, Insertion, Rules, Timeout, VirtualNetwork
from libnetvirt.conformance import Harness
from libnetvirt.conformance.suite import *  # noqa: F403
from libnetvirt.conformance.support.testbed import Tag, Testbed, endpoint_at
from libnetvirt.errors import Unsupported
from tests.support.openflow_harness import OpenFlow

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(60)]

TIMEOUTS = {Insertion.OFFLINE: [Timeout.PERMANENT], Insertion.ON_DEMAND: list(Timeout)}
OPTIONS = [
    Rules(encapsulation=encapsulation, insertion=insertion, timeout=timeout)
    for encapsulation in Encapsulation
    for insertion, timeouts in TIMEOUTS.items()
    for timeout in timeouts
]
#: what routers, constraints and priorities need: packets change their MAC addresses on the way, paths are
#: reserved, and labels carry priorities
ROUTER_OPTIONS = CONSTRAINT_OPTIONS = PRIORITY_OPTIONS = [
    o for o in OPTIONS if o.encapsulation is not Encapsulation.NATIVE and o.insertion is Insertion.OFFLINE
]

#: what networks that keep customers' tags need: tunnels in which a frame may have any tags
CUSTOMER_TAG_OPTIONS = [o for o in OPTIONS if o.encapsulation is Encapsulation.MPLS]


@pytest.fixture(scope="module")
def harness(private_namespace: None) -> Iterator[Harness]:  # noqa: ARG001
    with OpenFlow() as harness:
        yield harness


def test_all_rules_options_of_the_driver_are_tested(harness: Harness) -> None:
    offered = harness.connection.capabilities().combinations
    assert len(offered) == len(OPTIONS) == 12
    assert {(c.encapsulation, c.insertion, c.timeout) for c in offered} == {
        (o.encapsulation, o.insertion, o.timeout) for o in OPTIONS
    }


@pytest.mark.parametrize("encapsulation", [Encapsulation.NATIVE, Encapsulation.VLAN])
def test_tags_of_customers_are_refused_with_all_other_options(
    default_testbed: Testbed, encapsulation: Encapsulation
) -> None:
    p, q = default_testbed.places(2)
    empty = default_testbed.snapshot()
    kinds: tuple[Tag, ...] = ("any", "100-199", {"vlan": 20, "inner_vlan": "any"})
    for kept in kinds:
        with pytest.raises(Unsupported, match="Choose encapsulation mpls"):
            default_testbed.create((p, kept), (q, kept), rules=Rules(encapsulation=encapsulation))
    endpoints = [
        endpoint_at(place, n, "any", bandwidth={"outbound": "1 Mbit/s"}) for n, place in enumerate((p, q), 1)
    ]
    with pytest.raises(Unsupported, match="outbound limit"):
        default_testbed.create(endpoints=endpoints, rules=Rules(encapsulation="mpls"))
    assert default_testbed.snapshot() == empty


@pytest.mark.parametrize(
    "rules",
    [o for o in OPTIONS if o not in ROUTER_OPTIONS],
    ids=lambda o: f"{o.encapsulation}-{o.insertion}-{o.timeout}",
)
def test_routers_and_constraints_are_refused_with_all_other_options(
    default_testbed: Testbed, rules: Rules
) -> None:
    testbed = default_testbed
    empty = testbed.snapshot()
    with pytest.raises(Unsupported, match="forwarding L3"):
        testbed.harness.connection.create(VirtualNetwork(name="router", forwarding="L3", rules=rules))
    assert testbed.snapshot() == empty
    network = testbed.create(*testbed.places(2), rules=rules)
    # Without the rules in the switches: paths move when links have been seen to pass its encapsulation.
    before = testbed.snapshot()[:2]
    for asked in ({"min_bandwidth": "1 Mbit/s"}, {"max_bandwidth": "1 Mbit/s"}, {"max_hops": 9}):
        with pytest.raises(Unsupported, match="has constraints"):
            network.add_constraint(source=1, destination=2, **asked)
    assert testbed.snapshot()[:2] == before
