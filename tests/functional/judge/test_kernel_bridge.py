"""The bridge of the Linux kernel judges the oracle: docs/testing.md, "The judge of the oracle"."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.judge.bridge_trial import DIFFERENCES, BridgeTrial
from tests.support.judge.kernel import one_processor

pytestmark = pytest.mark.root

SEEDS = range(1, 6)
FRAMES = 200


def test_random_frames_leave_the_kernels_bridge_where_the_oracle_says() -> None:
    used: Counter[str] = Counter()
    exchanges = 0
    for seed in SEEDS:
        print(f"seed {seed}")
        with one_processor(), BridgeTrial(seed) as trial:
            trial.run(FRAMES)
        used += trial.used
        exchanges += trial.exchanges
    assert exchanges == len(SEEDS) * FRAMES
    print(used)
    assert set(+used) == {difference.__name__ for difference in DIFFERENCES}, "each difference has been seen"
    assert sum(used.values()) < exchanges / 3, "most frames are judged without a difference"
