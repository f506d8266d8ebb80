"""The router of the Linux kernel judges the oracle: docs/testing.md, "The judge of the oracle"."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from libnetvirt.semantics import DropReason
from tests.support.judge.kernel import one_processor
from tests.support.judge.router import JudgedRouter
from tests.support.judge.router_cases import CASES, INTRODUCTIONS, NETWORK, Case, described
from tests.support.judge.router_differences import DIFFERENCES, is_redirect
from tests.support.judge.router_trial import RouterTrial

pytestmark = pytest.mark.root

SEEDS = range(1, 6)
STEPS = 200


def test_random_packets_leave_the_kernels_router_as_the_oracle_says() -> None:
    used: Counter[str] = Counter()
    drops: Counter[DropReason | None] = Counter()
    exchanges = 0
    for seed in SEEDS:
        print(f"seed {seed}")
        with one_processor(), RouterTrial(seed) as trial:
            trial.run(STEPS)
        used += trial.used
        drops += trial.drops
        exchanges += trial.exchanges
    print(exchanges, used, drops)
    names = {difference.__name__ for difference in (*DIFFERENCES, is_redirect)}
    assert set(+used) == names, "each difference has been seen"
    assert sum(used.values()) < exchanges / 2, "most frames are judged without a difference"
    assert exchanges > len(SEEDS) * STEPS


@pytest.fixture(scope="module")
def router(private_namespace: None) -> Iterator[JudgedRouter]:  # noqa: ARG001
    with one_processor(), JudgedRouter(NETWORK) as router:
        yield router


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_kernel_and_oracle_differ_where_it_is_written(router: JudgedRouter, case: Case) -> None:
    router.forget()
    for endpoint, frame in INTRODUCTIONS:
        router.judge(NETWORK.by_uuid[str(endpoint)], frame)
    for step in case.steps:
        _, said, left = router.judge(NETWORK.by_uuid[str(step.endpoint)], step.frame)
        assert sorted(described(*item) for item in said) == sorted(step.oracle), "the oracle"
        assert sorted(described(*item) for item in left) == sorted(step.kernel), "the kernel"
    assert any(step.oracle != step.kernel for step in case.steps)
