"""Results of benchmarks: fits, tables, plots and pages."""

from __future__ import annotations

import math
import random
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import growth, pages, plots, reasons, report
from benchmarks.__main__ import status
from benchmarks.rows import Row, number, quantity


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 2.0])
def test_the_exponent_of_a_power_is_found(exponent: float) -> None:
    fitted = growth.fit([(n, 3.0 * n**exponent) for n in (10, 100, 1000)])
    assert fitted.exponent == pytest.approx(exponent, abs=1e-9)
    assert fitted.factor == pytest.approx(3.0)
    assert fitted.error == pytest.approx(0.0, abs=1e-9)
    assert fitted.at(50) == pytest.approx(3.0 * 50**exponent)


def test_noise_shows_in_the_error() -> None:
    assert growth.fit([(1, 1), (10, 30), (100, 100)]).error > 0.1


@pytest.mark.parametrize(
    "points", [[], [(5, 1)], [(5, 1), (50, 2)], [(5, 1), (5, 2), (5, 3)], [(5, 0), (6, 1), (7, 1)]]
)
def test_an_exponent_needs_three_trials_of_two_sizes(points: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="two sizes"):
        growth.fit(points)


def test_the_interval_of_an_exponent_is_that_of_the_textbook() -> None:
    # Slope and its 95 % interval from the closed formulas, for x = 0, 1, 2, 3 and y = 0, 1, 1, 3.
    fitted = growth.fit([(math.exp(x), math.exp(y)) for x, y in ((0, 0), (1, 1), (2, 1), (3, 3))])
    assert fitted.exponent == pytest.approx(0.9)
    assert fitted.error == pytest.approx(4.303 * math.sqrt((0.7 / 2) / 5), rel=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_the_interval_holds_the_true_exponent_in_95_of_100_cases(seed: int) -> None:
    chance, held = random.Random(seed), 0
    for _ in range(400):
        sizes = [10, 10, 10, 100, 100, 100, 1000, 1000]
        fitted = growth.fit([(n, n**0.7 * math.exp(chance.gauss(0, 0.3))) for n in sizes])
        held += abs(fitted.exponent - 0.7) <= fitted.error
    assert 365 <= held <= 395


def test_n_log_n_is_the_limit_and_more_is_reported() -> None:
    def rows(exponent: float, spread: float = 0.01) -> list[Row]:
        return [
            Row.of(
                "x", "y", {"endpoints": n}, "s", [n**exponent * (1 + spread * turn) for turn in (-1, 0, 1)]
            )
            for n in (10, 100, 1000)
        ]

    assert [row.holds for row in growth.rows_of(rows(1.0))] == [True]
    assert [row.holds for row in growth.rows_of(rows(1.5))] == [False]
    # Trials that vary so much show nothing, and what is not shown is not met.
    (row,) = growth.rows_of(rows(1.0, spread=0.9))
    assert row.holds is False
    assert "×" in row.excess


def test_two_sizes_are_no_growth() -> None:
    rows = [Row.of("x", "y", {"endpoints": n}, "s", [1.0, 1.0, 1.0]) for n in (10, 100)]
    assert growth.rows_of(rows) == []


def test_growth_at_large_sizes_only_is_detected() -> None:
    costs = {10: 1.0, 100: 1.0, 1_000: 1.1, 10_000: 60.0}
    rows = [Row.of("x", "y", {"endpoints": n}, "s", [c, 1.01 * c, 0.99 * c]) for n, c in costs.items()]
    (row,) = growth.rows_of(rows)
    assert row.measured["all"]["exponent"] < row.measured["all"]["limit"]
    assert row.measured["end"]["exponent"] > row.measured["end"]["limit"]
    assert row.holds is False


def test_series_are_kept_apart_by_their_other_sizes() -> None:
    rows = [Row("x", "y", {"endpoints": n, "switches": s}, "s", 1.0) for n in (1, 2, 9) for s in (3, 4)]
    assert sorted(growth.series(rows)) == [("y, 3 switches", "endpoints"), ("y, 4 switches", "endpoints")]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1.5e-5, "s", "15 µs"),
        (0.0123, "s", "12.3 ms"),
        (2.5, "s", "2.5 s"),
        (12345.6, "/s", "12,346 /s"),
        (None, "s", "–"),
    ],
)
def test_quantities_are_readable(value: float | None, unit: str, text: str) -> None:
    assert quantity(value, unit) == text


def test_a_median_comes_with_its_range() -> None:
    row = Row.of("x", "y", {}, "s", [0.003, 0.001, 0.002], [0.004, 0.006], "peer")
    assert quantity(row.ours, row.unit, row.samples) == "2 ms (1–3)"
    assert row.ratio == pytest.approx(2.5)
    rates = Row.of("x", "y", {}, "/s", [100.0], [50.0], "peer")
    assert rates.ratio == 2.0


def test_a_missed_target_says_by_how_much() -> None:
    slow = Row.of("x", "y", {}, "s", [0.3], [0.1], "floor").at_most_times(1.5, "floor")
    assert (slow.bar, slow.holds, slow.excess) == ("time ≤ 1.5× floor", False, "2× the limit")
    few = Row.of("x", "y", {}, "/s", [30.0], [20.0], "peer")
    few.at_least("≥ 2×", few.ratio, 2.0)
    assert (few.holds, few.excess) == (False, "reaches 75%")
    assert Row.of("x", "y", {}, "s", [0.1], [0.1], "floor").at_most_times(1.5, "floor").excess == ""
    assert Row("x", "y", {}, "", 5.0).at_least("≥ 2×", 5.0, 2.0, sound=False).holds is False


def test_the_exit_status_tells_what_is_missing() -> None:
    met, missed, free = Row("x", "y", holds=True), Row("x", "y", holds=False), Row("x", "y")
    assert status([met, free], []) == 0
    assert status([met, missed], []) == 1
    assert status([met, missed], ["x: it stopped"]) == 2
    assert status([], []) == 2


def test_numbers_have_three_digits() -> None:
    assert [number(v) for v in (0.123456, 12.3456, 123.456, 7.0)] == ["0.123", "12.3", "123", "7"]


def test_plots_are_well_formed_and_say_what_they_show() -> None:
    bars = plots.bars("a < b", {"one": {"x": 1.0, "y": 1000.0}, "two": {"x": 5.0}}, "/s")
    lines = plots.lines("c", {"p": [(1, 0.1), (10, 1.0)], "q": [(1, 0.5)]}, "endpoints", "s")
    for svg, words in ((bars, ["a < b", "x", "y", "two"]), (lines, ["c", "p", "q", "endpoints", "100 ms"])):
        texts = [node.text for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("text")]
        assert set(words) <= set(texts)


def test_no_data_makes_no_plot() -> None:
    assert plots.bars("a", {}, "s") == ""
    assert plots.lines("a", {"b": []}, "x", "s") == ""


def test_rows_are_read_back_from_the_file(tmp_path: Path) -> None:
    rows = [Row("setup", "x", {"hops": 1}, "s", 0.5, 1.0, "peer", 2.0, "≥ 2×", True, "note", {"a": [1]})]
    rows.append(Row.of("setup", "z", {}, "/s", [1.0, 2.0], [3.0], "peer").at_least("≥ 2×", 0.5, 2.0))
    rest = report.save(tmp_path / "r.json", rows, {"cores": "2"}, "python -m benchmarks", failures=["x"])
    again, told = report.load(tmp_path / "r.json")
    assert again == rows
    assert told == rest


def test_the_page_shows_which_targets_are_met() -> None:
    rows = [
        Row("setup", "a", {"switches": 1}, "/s", 2.0, 1.0, "peer", 2.0, "≥ 2×", True),
        Row("recovery", "b", {}, "s", 0.2, bar="≤ 100 ms", holds=False),
    ]
    rows[1].at_most("≤ 100 ms", 0.2, 0.1)
    rows.append(Row.of("networks", "create", {}, "s", [0.4], [0.2], "floor").at_most_times(1.5, "floor"))
    linear = [Row.of("x", "y", {"endpoints": n}, "s", [n, 1.01 * n, n]) for n in (10, 100, 1000)]
    rows += growth.rows_of(linear)
    rest = {
        "when": "1970-01-01", "command": "c", "machine": {"cores": "2"}, "took": {"setup": 3.2},
        "budgets": {"setup": 5}, "skipped": ["a peer"], "failures": ["recovery: it stopped"],
    }  # fmt: skip
    text = pages.measured(rows, rest, ["setup-rate"])
    assert "| ≥ 2× | a, 1 switch | 2× the rate of peer | met |" in text
    assert "| ≤ 100 ms | b | 200 ms | **not met**: 2× the limit |" in text
    assert "| time ≤ 1.5× floor | create | 2× the time of floor | **not met**: 1.33× the limit |" in text
    assert "| ≤ n log n | growth of 1 costs | see below | met |" in text
    assert "| setup | 3 | 5 |" in text
    assert "- not measured: a peer" in text
    assert "- **failed**: recovery: it stopped" in text
    assert f"- {reasons.UNKNOWN}\n  (b; create)" in text
    assert "performance/setup-rate.svg" in text


def test_the_page_in_the_repository_has_one_marked_part() -> None:
    text = pages.PAGE.read_text()
    assert text.count(pages.BEGIN) == text.count(pages.END) == 1
    assert text.index(pages.BEGIN) < text.index(pages.END)
