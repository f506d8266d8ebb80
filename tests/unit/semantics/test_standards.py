"""The oracle does what RFCs and IEEE standards demand: cases worked out by hand, with literal frames.

The frames in ``standards/*.txt`` were not made by libnetvirt: see docs/testing.md, "The judge of the oracle".
"""

from __future__ import annotations

from pathlib import Path

import pytest

from libnetvirt import VirtualNetwork
from libnetvirt.semantics import LearnedState, forward
from tests.support.standards import Case, read_cases

HERE = Path(__file__).with_name("standards")
FILES = {path.stem: read_cases(path) for path in sorted(HERE.glob("*.txt"))}
CASES = [(stem, case) for stem, (_, cases) in FILES.items() for case in cases]


def _play(stem: str, case: Case, learned: LearnedState) -> LearnedState:
    networks, cases = FILES[stem]
    for name in case.after:
        (earlier,) = (c for c in cases if c.name == name)
        learned = _play(stem, earlier, learned)
    for number, step in enumerate(case.steps, 1):
        outcome = forward(networks, learned, *step.place, step.frame)
        shown = f"{case.clause}, frame {number}: {case.says}"
        assert sorted(_hex(outcome.outputs)) == sorted(_hex(step.outputs)), shown
        learned = outcome.learned
    return learned


def _hex(outputs: object) -> list[tuple[str, str, str]]:
    assert isinstance(outputs, list | tuple)
    return [(switch, port, frame.hex(" ")) for switch, port, frame in outputs]


@pytest.mark.parametrize(("stem", "case"), CASES, ids=[f"{stem}-{case.clause}" for stem, case in CASES])
def test_the_oracle_does_what_the_standard_says(stem: str, case: Case) -> None:
    assert case.steps
    _play(stem, case, LearnedState())


def test_there_are_cases_of_each_kind_and_none_is_without_a_sentence_or_without_a_clause() -> None:
    assert set(FILES) == {"arp", "bridges", "ipv4", "ipv6"}
    assert len(CASES) >= 100
    assert [
        case.clause for _, case in CASES if not (case.says and case.clause.startswith(("RFC ", "IEEE ")))
    ] == []
    networks: list[VirtualNetwork] = [n for networks, _ in FILES.values() for n in networks]
    assert len(networks) == 6
