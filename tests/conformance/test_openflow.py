"""The conformance suite on the openflow driver over real switches."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.openflow import OpenFlow
from libnetvirt import Encapsulation, Insertion, Rules, Timeout
from libnetvirt.conformance import Harness
from libnetvirt.conformance.suite import *  # noqa: F403

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

# The whole suite for each encapsulation with each insertion, and each timeout among them; all combinations
# are in test_openflow_random.
OPTIONS = [
    Rules(encapsulation=encapsulation, insertion=insertion, timeout=timeout)
    for encapsulation, insertion, timeout in (
        (Encapsulation.VLAN, Insertion.OFFLINE, Timeout.PERMANENT),
        (Encapsulation.NATIVE, Insertion.ON_DEMAND, Timeout.IDLE),
        (Encapsulation.MPLS, Insertion.OFFLINE, Timeout.PERMANENT),
        (Encapsulation.NATIVE, Insertion.OFFLINE, Timeout.PERMANENT),
        (Encapsulation.VLAN, Insertion.ON_DEMAND, Timeout.FIXED),
        (Encapsulation.MPLS, Insertion.ON_DEMAND, Timeout.PERMANENT),
    )
]


@pytest.fixture(scope="module")
def harness(private_namespace: None) -> Iterator[Harness]:  # noqa: ARG001
    with OpenFlow() as harness:
        yield harness


def test_all_rules_options_of_the_driver_are_tested(harness: Harness) -> None:
    offered = harness.connection.capabilities().combinations
    assert len(offered) == 12
    assert {(c.encapsulation, c.insertion) for c in offered} == {
        (o.encapsulation, o.insertion) for o in OPTIONS
    }
    assert {c.timeout for c in offered} == {o.timeout for o in OPTIONS}
