"""Random operations and faults on real switches: whenever it is quiet, all is as it was asked for.

``NETVIRT_CHAOS=SEED:STEPS`` runs another seed, or a longer story, than those here.
"""

from __future__ import annotations

import os

import pytest
from functional_chaos import Chaos

from lab.openflow import RING, OpenFlow
from libnetvirt.conformance.bench import clean

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

#: seed, steps
STORIES = [(seed, 300) for seed in (1, 2, 3, 4, 5)]
QUIET_EVERY = 12
if "NETVIRT_CHAOS" in os.environ:
    STORIES = [tuple(map(int, os.environ["NETVIRT_CHAOS"].split(":")))]  # type: ignore[misc]


@pytest.mark.parametrize(("seed", "steps"), STORIES)
def test_whatever_happens_the_end_is_as_asked_for(private_namespace: None, seed: int, steps: int) -> None:  # noqa: ARG001
    print(f"seed {seed}")
    with OpenFlow(4, [*RING, (1, 3)], options="&lldp-interval=0.5") as harness:
        harness.patience = 15.0
        chaos = Chaos(harness, seed)
        try:
            for step in range(1, steps + 1):
                chaos.step()
                if step % QUIET_EVERY == 0 or step == steps:
                    chaos.quiet()
        except BaseException:
            chaos.tell()
            raise
        assert list(clean(chaos.bench)) == []
        assert harness.differences() == []
