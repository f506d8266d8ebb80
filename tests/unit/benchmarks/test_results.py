"""Results of benchmarks: fits, tables, plots and pages."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import growth, pages, plots, report
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


@pytest.mark.parametrize("points", [[], [(5, 1)], [(5, 1), (5, 2)], [(5, 0), (6, 1)]])
def test_an_exponent_needs_two_sizes(points: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="two sizes"):
        growth.fit(points)


def test_n_log_n_is_the_limit_and_more_is_reported() -> None:
    def rows(cost: float) -> list[Row]:
        return [Row("x", "y", {"endpoints": n}, "s", n**cost * math.log(n)) for n in (10, 100, 1000)]

    assert [row.holds for row in growth.rows_of(rows(1.0))] == [True]
    assert [row.holds for row in growth.rows_of(rows(1.5))] == [False]


def test_growth_at_large_sizes_only_is_detected() -> None:
    points = [(10, 1.0), (100, 1.0), (1_000, 1.1), (10_000, 60.0)]
    rows = [Row("x", "y", {"endpoints": n}, "s", cost) for n, cost in points]
    assert growth.fit(points).exponent < growth.quasilinear([n for n, _ in points])
    assert [row.holds for row in growth.rows_of(rows)] == [False]


def test_series_are_kept_apart_by_their_other_sizes() -> None:
    rows = [Row("x", "y", {"endpoints": n, "switches": s}, "s", 1.0) for n in (1, 2) for s in (3, 4)]
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
    rest = report.save(tmp_path / "r.json", rows, {"cores": "2"}, "python -m benchmarks")
    again, told = report.load(tmp_path / "r.json")
    assert again == rows
    assert told == rest


def test_the_page_shows_which_targets_are_met() -> None:
    rows = [
        Row("setup", "a", {"switches": 1}, "/s", 2.0, 1.0, "peer", 2.0, "≥ 2×", True),
        Row("recovery", "b", {}, "s", 0.2, bar="≤ 100 ms", holds=False),
    ]
    rows += growth.rows_of([Row("x", "y", {"endpoints": n}, "s", float(n)) for n in (10, 100)])
    text = pages.measured(
        rows, {"when": "1970-01-01", "command": "c", "machine": {"cores": "2"}}, ["setup-rate"]
    )
    assert "| ≥ 2× | a, 1 switch | 2× as fast as peer | met |" in text
    assert "| ≤ 100 ms | b | 200 ms | **not met** |" in text
    assert "| ≤ n log n | growth of 1 costs | see below | met |" in text
    assert "performance/setup-rate.svg" in text


def test_the_page_in_the_repository_has_one_marked_part() -> None:
    text = pages.PAGE.read_text()
    assert text.count(pages.BEGIN) == text.count(pages.END) == 1
    assert text.index(pages.BEGIN) < text.index(pages.END)
