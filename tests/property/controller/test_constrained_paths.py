"""CSPF where it is hard: the cheapest way to a switch on the path is not part of the cheapest path that fits.

In random graphs that is rare (`test_admission` draws those). Here each graph is a row of stages, and in each
stage cost is traded against latency and against hops, with limits that the cheapest paths exceed by little.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libnetvirt.controller.qos.cspf import (
    Path,
    PathRequirements,
    ResidualGraph,
    fewest_hops,
    find,
    least_latency,
    satisfies,
)
from libnetvirt.controller.topology.pathfinder import Edge, LinkEnd

SOURCE, END = 1, 2
Costs = tuple[float, int, int]


class Stages:
    """A row of two to four stages. In each one, links are the dearer the faster they are, and some ways are
    cheap for their latency but have a hop more."""

    def __init__(self, seed: int) -> None:
        chance = Random(seed)
        self._edges: dict[int, list[Edge]] = {}
        self._delays: dict[LinkEnd, int] = {}
        numbers, ports = count(3), count(1)

        def link(a: int, b: int, cost: int, delay: int) -> None:
            port = next(ports)
            self._edges.setdefault(a, []).append(Edge(a, port, b, 1000 + port, float(cost)))
            self._delays[a, port] = delay

        here, stages = SOURCE, chance.randint(2, 4)
        for stage in range(stages):
            there = END if stage == stages - 1 else next(numbers)
            for _ in range(chance.randint(1, 2)):
                cost = chance.randint(1, 6)
                link(here, there, cost, 7 - cost + chance.randint(0, 1))
            if chance.random() < 0.7:
                between, cost = next(numbers), chance.randint(1, 3)
                link(here, between, cost, chance.randint(1, 2))
                link(between, there, 1, chance.randint(1, 2))
            here = there
        for edges in self._edges.values():
            chance.shuffle(edges)
        self.graph = ResidualGraph(
            lambda dpid: self._edges.get(dpid, ()), lambda _: 1, self._delays.__getitem__
        )
        self.paths = list(self._all(SOURCE))
        tight = sorted(self.delay(path) for path in self.paths)
        long = sorted(len(path) + 1 for path in self.paths)
        # Limits that some paths meet, and as a rule not the cheapest ones.
        self.latency = chance.choice([None, chance.choice(tight[: len(tight) // 2 + 1])])
        self.hops = chance.choice([None, chance.choice(long[: len(long) // 2 + 1])])

    def _all(self, here: int, so_far: Path = ()) -> Iterator[Path]:
        if here == END:
            yield so_far
        for edge in self._edges.get(here, ()):
            yield from self._all(edge.destination, (*so_far, edge))

    def delay(self, path: Path) -> int:
        return sum(self._delays[edge.source, edge.source_port] for edge in path)

    def rank(self, path: Path) -> tuple[float, int, int, list[LinkEnd]]:
        """The order in which `find` prefers paths."""
        steps = [(edge.destination, edge.source_port) for edge in path]
        return sum(edge.cost for edge in path), len(path), self.delay(path), steps

    @property
    def wanted(self) -> PathRequirements:
        return PathRequirements(1, self.latency, self.hops)

    def best(self, wanted: PathRequirements) -> Path | None:
        fitting = [path for path in self.paths if satisfies(self.graph, path, wanted)]
        return min(fitting, key=self.rank, default=None)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_the_cheapest_path_that_fits_is_found_though_its_parts_are_not_the_cheapest(seed: int) -> None:
    stages = Stages(seed)
    assert find(stages.graph, SOURCE, END, stages.wanted) == stages.best(stages.wanted)
    assert least_latency(stages.graph, SOURCE, END, stages.wanted) == min(
        (stages.delay(p) for p in stages.paths if stages.hops is None or len(p) + 1 <= stages.hops),
        default=None,
    )
    assert fewest_hops(stages.graph, SOURCE, END, stages.wanted) == min(
        (len(p) + 1 for p in stages.paths if stages.latency is None or stages.delay(p) <= stages.latency),
        default=None,
    )


@pytest.mark.parametrize("limit", ["latency", "hops"])
def test_these_graphs_are_hard(limit: str) -> None:
    """In many of them, a search that keeps only the cheapest way to each switch finds no or a dearer path."""

    def greedy(stages: Stages) -> Costs | None:
        kept: dict[int, tuple[Costs, Path]] = {SOURCE: ((0.0, 0, 0), ())}
        for path in sorted((p[:n] for p in stages.paths for n in range(1, len(p) + 1)), key=stages.rank):
            kept.setdefault(path[-1].destination, (stages.rank(path)[:3], path))
        cost, path = kept[END]
        return cost if satisfies(stages.graph, path, stages.wanted) else None

    drawn = [s for s in map(Stages, range(200)) if getattr(s, limit) is not None]
    hard = [s for s in drawn if (best := s.best(s.wanted)) and greedy(s) != s.rank(best)[:3]]
    assert len(hard) > len(drawn) / 4
