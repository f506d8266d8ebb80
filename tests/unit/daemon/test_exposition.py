"""Prometheus' text format."""

from __future__ import annotations

import math

import pytest

from libnetvirt.daemon.exposition import PIECE, Histogram, Page, Tally, histogram
from libnetvirt.model import Measured, Metric, MetricKind
from tests.support import scrape

RULES = Metric("rules", MetricKind.GAUGE, "rules of a\nswitch", ("switch",))


def _text(page: Page) -> str:
    return "".join(page.pieces())


def test_the_samples_of_a_metric_follow_one_another_whatever_connection_they_are_of() -> None:
    page, other = Page(), Metric("other_total", MetricKind.COUNTER, "another")
    for name, count in (("a", 1), ("b", 2.5)):
        page.add(RULES, {"connection": name}, [Measured(("1",), count)])
        page.add(other, {}, [Measured((), 7)] if name == "a" else [])
    assert _text(page) == (
        "# HELP rules Rules of a\\nswitch.\n# TYPE rules gauge\n"
        'rules{connection="a",switch="1"} 1\nrules{connection="b",switch="1"} 2.5\n'
        "# HELP other_total Another.\n# TYPE other_total counter\nother_total 7\n"
    )


def test_labels_are_written_so_that_they_are_read_as_they_are() -> None:
    page = Page()
    page.add(RULES, {}, [Measured(('say "a\\b"\nand } go',), 1)])
    assert _text(page).endswith('rules{switch="say \\"a\\\\b\\"\\nand } go"} 1\n')


def test_a_histogram_counts_what_is_not_above_its_bounds() -> None:
    seconds = Histogram(histogram("seconds", "times", ("kind",)), (0.1, 1.0), 10)
    for value in (0.05, 0.1, 0.5, 7.0):
        seconds.observe(value, "create")
    page = Page()
    page.add(seconds.metric, {"connection": "a"}, seconds)
    found = scrape.samples(_text(page))
    counts = {dict(key)["le"]: value for key, value in found["seconds_bucket"].items()}
    assert counts == {"0.1": 2, "1": 3, "+Inf": 4}
    assert scrape.value(found, "seconds_count", kind="create", connection="a") == 4
    assert math.isclose(scrape.value(found, "seconds_sum"), 7.65)


@pytest.mark.parametrize("limit", [1, 3])
def test_there_are_no_more_series_than_allowed(limit: int) -> None:
    tally, seconds = Tally(RULES, limit), Histogram(histogram("s", "s", ("kind",)), (1.0,), limit)
    for number in range(5):
        tally.add(str(number))
        tally.add("0")
        seconds.observe(0.5, str(number))
    assert [measured.labels[0] for measured in tally.read()] == [str(n) for n in range(limit)]
    assert tally.read()[0].value == 6
    assert sum(line.startswith("s_count") for line in seconds.lines({})) == limit


def test_a_long_page_comes_in_pieces() -> None:
    page = Page()
    page.add(RULES, {}, [Measured((str(n),), n) for n in range(3 * PIECE)])
    pieces = list(page.pieces())
    assert len(pieces) == 4
    assert max(piece.count("\n") for piece in pieces) <= PIECE + 1
    assert len(scrape.samples("".join(pieces))["rules"]) == 3 * PIECE


def test_promtool_reads_it() -> None:
    scrape.need_promtool()
    page = Page()
    page.add(Metric("rules", MetricKind.GAUGE, "rules", ("switch",)), {}, [Measured(('"\\\n',), 1e-9)])
    seconds = Histogram(histogram("taken_seconds", "times"), (0.1, 1.0), 1)
    seconds.observe(0.3)
    page.add(seconds.metric, {}, seconds)
    assert scrape.promtool("check", "metrics", given=_text(page)) == ""
