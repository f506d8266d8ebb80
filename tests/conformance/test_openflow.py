"""The conformance suite on the openflow driver over real switches."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from libnetvirt import Encapsulation, Insertion, Rules, Timeout
from libnetvirt.conformance import Harness
from libnetvirt.conformance.suite import *  # noqa: F403
from tests.support.openflow_harness import OpenFlow

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(60)]

TIMEOUTS = {Insertion.OFFLINE: [Timeout.PERMANENT], Insertion.ON_DEMAND: list(Timeout)}
OPTIONS = [
    Rules(encapsulation=encapsulation, insertion=insertion, timeout=timeout)
    for encapsulation in Encapsulation
    for insertion, timeouts in TIMEOUTS.items()
    for timeout in timeouts
]


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
