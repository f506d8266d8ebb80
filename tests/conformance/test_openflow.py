"""The conformance suite on the openflow driver over real switches."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.openflow import OpenFlow
from libnetvirt import Encapsulation, Insertion, Rules, Timeout
from libnetvirt.conformance import Harness
from libnetvirt.conformance.suite import *  # noqa: F403

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

OPTIONS = [
    Rules(encapsulation=Encapsulation.VLAN, insertion=Insertion.OFFLINE, timeout=Timeout.PERMANENT),
    Rules(encapsulation=Encapsulation.NATIVE, insertion=Insertion.ON_DEMAND, timeout=Timeout.IDLE),
]


@pytest.fixture(scope="module")
def harness(private_namespace: None) -> Iterator[Harness]:  # noqa: ARG001
    with OpenFlow() as harness:
        yield harness


def test_all_rules_options_of_the_driver_are_tested(harness: Harness) -> None:
    offered = {
        (c.encapsulation, c.insertion, c.timeout) for c in harness.connection.capabilities().combinations
    }
    assert offered == {(o.encapsulation, o.insertion, o.timeout) for o in OPTIONS}
