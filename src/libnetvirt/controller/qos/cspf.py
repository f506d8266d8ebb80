"""CSPF (constrained shortest path first): the cheapest path that satisfies bandwidth, latency and hop limits.

A link without enough free bandwidth is left out. With limits on sums besides the cost, the cheapest path to
an intermediate switch need not be part of the cheapest path that satisfies them: this is the
resource-constrained shortest path problem. So the search is a label-setting one that keeps, for each switch,
all partial paths of which none is at least as good as another one in cost, hops and latency. The result is
exact. Pure functions.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from libnetvirt.controller.topology.pathfinder import Edge, LinkEnd

Path = tuple[Edge, ...]
Leaving = Callable[[int], Iterable[Edge]]


@dataclass(frozen=True, slots=True)
class PathRequirements:
    """At least ``bits`` bit/s free on every link, at most ``latency`` microseconds in total, at most ``hops``
    switches."""

    bits: int = 0
    latency: int | None = None
    hops: int | None = None


@dataclass(frozen=True, slots=True)
class ResidualGraph:
    """The topology that paths are looked for in: the edges that leave a switch, and for each link its free
    bit/s and its latency in microseconds (None: not known)."""

    leaving: Leaving
    free: Callable[[LinkEnd], int]
    latency: Callable[[LinkEnd], int | None]


def find(
    graph: ResidualGraph,
    source: int,
    destination: int,
    requirements: PathRequirements,
    weight: Callable[[Edge], float] | None = None,
) -> Path | None:
    """The path with the least total cost (or ``weight``) that satisfies the requirements; None if there is
    none.

    Ties are broken by fewer switches, then less latency, then lower datapath ids and ports, so that the
    result is deterministic.
    """
    weigh = weight or (lambda edge: edge.cost)
    start: tuple[float, int, int, tuple[LinkEnd, ...], int, Path] = (0.0, 1, 0, (), source, ())
    waiting, best = [start], dict[int, list[tuple[float, int, int]]]()
    while waiting:
        cost, hops, latency, links, here, path = heapq.heappop(waiting)
        seen = best.setdefault(here, [])
        counts = (
            cost,
            hops if requirements.hops is not None else 0,
            latency if requirements.latency is not None else 0,
        )
        if any(all(a <= b for a, b in zip(old, counts, strict=True)) for old in seen):
            continue
        if here == destination:
            return path
        seen.append(counts)
        for edge in graph.leaving(here):
            link = (edge.source, edge.source_port)
            delay = graph.latency(link)
            if requirements.bits and graph.free(link) < requirements.bits:
                continue
            if requirements.hops is not None and hops + 1 > requirements.hops:
                continue
            if requirements.latency is not None and (delay is None or latency + delay > requirements.latency):
                continue
            heapq.heappush(
                waiting,
                (
                    cost + weigh(edge), hops + 1, latency + (delay or 0),
                    (*links, (edge.destination, edge.source_port)), edge.destination, (*path, edge),
                ),
            )  # fmt: skip
    return None


def satisfies(graph: ResidualGraph, path: Path, requirements: PathRequirements) -> bool:
    """Whether a path satisfies the requirements."""
    links = [(edge.source, edge.source_port) for edge in path]
    if requirements.bits and any(graph.free(link) < requirements.bits for link in links):
        return False
    if requirements.hops is not None and len(path) + 1 > requirements.hops:
        return False
    if requirements.latency is None:
        return True
    delays = [graph.latency(link) for link in links]
    return None not in delays and sum(d for d in delays if d is not None) <= requirements.latency


def widest(graph: ResidualGraph, source: int, destination: int, requirements: PathRequirements) -> int:
    """The largest bandwidth, in bit/s, of any path that satisfies the other requirements; 0 if there is
    none."""
    reached, frontier = {source}, [source]
    rates = set()
    while frontier:
        for edge in graph.leaving(frontier.pop()):
            rates.add(graph.free((edge.source, edge.source_port)))
            if edge.destination not in reached:
                reached.add(edge.destination)
                frontier.append(edge.destination)
    steps = sorted(rates - {0})
    low, high = 0, len(steps)
    while low < high:
        middle = (low + high) // 2
        if find(graph, source, destination, replace(requirements, bits=steps[middle])) is None:
            high = middle
        else:
            low = middle + 1
    return steps[low - 1] if low else 0


def bottlenecks(
    graph: ResidualGraph, source: int, destination: int, requirements: PathRequirements
) -> list[LinkEnd]:
    """The links with too little free bandwidth on the path that is best regardless of bandwidth."""
    path = find(graph, source, destination, replace(requirements, bits=0)) or ()
    links = [(edge.source, edge.source_port) for edge in path]
    return [link for link in links if graph.free(link) < requirements.bits]


def least_latency(
    graph: ResidualGraph, source: int, destination: int, requirements: PathRequirements
) -> int | None:
    """The least latency, in microseconds, of any path that satisfies the other requirements; None if there is
    none. Links of unknown latency are not used."""

    def known(dpid: int) -> Iterable[Edge]:
        return (e for e in graph.leaving(dpid) if graph.latency((e.source, e.source_port)) is not None)

    def delay(edge: Edge) -> int:
        return graph.latency((edge.source, edge.source_port)) or 0

    path = find(
        replace(graph, leaving=known), source, destination, replace(requirements, latency=None), delay
    )
    return None if path is None else sum(map(delay, path))


def fewest_hops(
    graph: ResidualGraph, source: int, destination: int, requirements: PathRequirements
) -> int | None:
    """The fewest switches of any path that satisfies the other requirements; None if there is none."""
    path = find(graph, source, destination, replace(requirements, hops=None), lambda _: 1.0)
    return None if path is None else len(path) + 1
