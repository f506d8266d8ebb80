"""Random operations and faults on real switches: whenever it is quiet, all is as it was asked for.

``NETVIRT_CHAOS=SEED:STEPS`` runs another seed, or a longer story, than those here; with
``NETVIRT_CHAOS=SEED:STEPS:native/on-demand`` all networks have that encapsulation and insertion.
"""

from __future__ import annotations

import os

import pytest

from libnetvirt.conformance.support.testbed import clean
from tests.support.chaos import Chaos
from tests.support.openflow_harness import RING, OpenFlow

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.apart, pytest.mark.timeout(900)]

#: seed, steps, and what all networks are like
STORIES = [(seed, 300, "") for seed in (1, 2, 3, 4, 5)]
QUIET_EVERY = 12
if told := os.environ.get("NETVIRT_CHAOS"):
    number, count, *rest = told.split(":")
    STORIES = [(int(number), int(count), "".join(rest))]


@pytest.mark.parametrize(("seed", "steps", "only"), STORIES)
def test_random_operations_and_faults_end_in_the_requested_state(
    private_namespace: None,  # noqa: ARG001
    seed: int,
    steps: int,
    only: str,
) -> None:
    print(f"seed {seed}, {only or 'all combinations'}")
    with OpenFlow(4, [*RING, (1, 3)], options="&lldp-interval=0.5") as harness:
        harness.timeout = 30.0
        chaos = Chaos(harness, seed, only)
        try:
            for step in range(1, steps + 1):
                chaos.step()
                if step % QUIET_EVERY == 0 or step == steps:
                    chaos.rest()
        except BaseException:
            chaos.tell()
            raise
        chaos.check_outcomes()
        assert list(clean(chaos.testbed)) == []
        chaos.testbed.eventually(harness.differences, "the switches hold nothing")
