"""Real switches in random topologies, compared with the oracle."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from libnetvirt import Rules
from libnetvirt.conformance.support.testbed import Testbed, clean
from libnetvirt.conformance.tests.random_networks import Trial
from libnetvirt.drivers.openflow.capabilities import COMBINATIONS
from tests.support.openflow_harness import OpenFlow

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(120)]

OPTIONS = [
    Rules(encapsulation=c.encapsulation, insertion=c.insertion, timeout=c.timeout) for c in COMBINATIONS
]


def topology(seed: int) -> tuple[int, list[tuple[int, int]]]:
    """A connected graph of 2 to 10 switches: a random tree and some links more."""
    chance = random.Random(seed)
    size = chance.randint(2, 10)
    tree = [(chance.randint(1, new - 1), new) for new in range(2, size + 1)]
    missing = [(a, b) for a in range(1, size + 1) for b in range(a + 1, size + 1) if (a, b) not in tree]
    return size, tree + chance.sample(missing, min(len(missing), chance.randint(0, size)))


@pytest.fixture(scope="module", params=(1, 2, 3, 4))
def world(request: pytest.FixtureRequest, private_namespace: None) -> Iterator[tuple[int, OpenFlow]]:  # noqa: ARG001
    size, links = topology(request.param)
    print(f"seed {request.param}: {size} switches, links {links}")
    with OpenFlow(size, links, hosts=2) as harness:
        yield request.param, harness


@pytest.mark.parametrize("rules", OPTIONS, ids=lambda r: f"{r.encapsulation}-{r.insertion}-{r.timeout}")
def test_random_networks_on_a_random_topology(world: tuple[int, OpenFlow], rules: Rules) -> None:
    seed, harness = world
    testbed = Testbed(harness, rules)
    list(clean(testbed))  # of a trial that was broken off
    harness.flush_caches()
    Trial(testbed, 1000 + seed).run(networks=5, steps=30)
    assert list(clean(testbed)) == []
