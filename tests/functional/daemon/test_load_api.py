"""What netvirtd's clients were told is so, and events are read or told to be lost: a small ``load-api``."""

from __future__ import annotations

import re

import pytest

from tests import load_api
from tests.support.load.figures import percentile, slope

pytestmark = pytest.mark.timeout(300)


def test_nothing_is_lost_of_what_many_clients_and_readers_were_told() -> None:
    found = load_api.under_load(20, seconds=2, reading=100, processes=1)
    assert found.faults == []
    kinds = {line.split()[0]: int(line.split()[1]) for line in found.lines[1:-2]}
    assert kinds["create"] > 0, found.lines
    got = re.match(r"100 readers got (\d+) events", found.lines[-1])
    # Each change is an event or more, for each reader.
    assert got is not None, found.lines
    assert int(got[1]) >= 100 * kinds["create"]


def test_networks_are_listed_in_pages_and_memory_is_watched() -> None:
    assert load_api.pages(40, repeated=2).faults == []
    watched = load_api.memory(30, number=4, processes=1, every=0.1)
    assert watched.faults == []
    assert re.search(r"^memory after +\d+ changes: +[1-9]", "\n".join(watched.lines), re.MULTILINE)


def test_percentiles_and_slopes() -> None:
    assert [percentile([float(n) for n in range(100)], part) for part in (0.5, 0.99, 1)] == [50, 99, 99]
    assert percentile([], 0.99) == 0
    assert slope([(0, 1), (1, 3), (2, 5)]) == pytest.approx(2)
