"""CSPF: the cheapest path that has the bandwidth, latency and hops that are wanted. Pure and exact.

With limits on sums besides the cost, the cheapest way to a switch on the path may not be part of the
cheapest path that keeps them. So a switch is reached by several partial paths, of which none is at least as
good as another in everything that counts.
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
    """``bits`` a second on every link; at most ``latency`` microseconds in all; at most ``hops`` switches."""

    bits: int = 0
    latency: int | None = None
    hops: int | None = None


@dataclass(frozen=True, slots=True)
class ResidualGraph:
    """What paths lead through: the links that leave a switch, what is free on them in bit/s, and their
    latency in microseconds (None: not known)."""

    leaving: Leaving
    free: Callable[[LinkEnd], int]
    latency: Callable[[LinkEnd], int | None]


def find(
    residual_graph: ResidualGraph,
    source: int,
    destination: int,
    wanted: PathRequirements,
    weight: Callable[[Edge], float] | None = None,
) -> Path | None:
    """The path with the least cost (or ``weight``) that has all that is wanted; None if there is none.

    Ties go to fewer switches, then to lower datapath ids and ports, so the answer is always the same.
    """
    weigh = weight or (lambda edge: edge.cost)
    start: tuple[float, int, int, tuple[LinkEnd, ...], int, Path] = (0.0, 1, 0, (), source, ())
    waiting, best = [start], dict[int, list[tuple[float, int, int]]]()
    while waiting:
        cost, hops, latency, places, here, path = heapq.heappop(waiting)
        seen = best.setdefault(here, [])
        counts = (cost, hops if wanted.hops is not None else 0, latency if wanted.latency is not None else 0)
        if any(all(a <= b for a, b in zip(old, counts, strict=True)) for old in seen):
            continue
        if here == destination:
            return path
        seen.append(counts)
        for edge in residual_graph.leaving(here):
            place = (edge.source, edge.source_port)
            delay = residual_graph.latency(place)
            if wanted.bits and residual_graph.free(place) < wanted.bits:
                continue
            if wanted.hops is not None and hops + 1 > wanted.hops:
                continue
            if wanted.latency is not None and (delay is None or latency + delay > wanted.latency):
                continue
            heapq.heappush(
                waiting,
                (
                    cost + weigh(edge), hops + 1, latency + (delay or 0),
                    (*places, (edge.destination, edge.source_port)), edge.destination, (*path, edge),
                ),
            )  # fmt: skip
    return None


def suits(residual_graph: ResidualGraph, path: Path, wanted: PathRequirements) -> bool:
    """Whether a path has all that is wanted."""
    places = [(edge.source, edge.source_port) for edge in path]
    if wanted.bits and any(residual_graph.free(place) < wanted.bits for place in places):
        return False
    if wanted.hops is not None and len(path) + 1 > wanted.hops:
        return False
    if wanted.latency is None:
        return True
    delays = [residual_graph.latency(place) for place in places]
    return None not in delays and sum(d for d in delays if d is not None) <= wanted.latency


def widest(residual_graph: ResidualGraph, source: int, destination: int, wanted: PathRequirements) -> int:
    """The most bit/s that a path with the other things that are wanted has; 0 if there is none."""
    reached, edge = {source}, [source]
    rates = set()
    while edge:
        for link in residual_graph.leaving(edge.pop()):
            rates.add(residual_graph.free((link.source, link.source_port)))
            if link.destination not in reached:
                reached.add(link.destination)
                edge.append(link.destination)
    steps = sorted(rates - {0})
    low, high = 0, len(steps)
    while low < high:
        middle = (low + high) // 2
        if find(residual_graph, source, destination, replace(wanted, bits=steps[middle])) is None:
            high = middle
        else:
            low = middle + 1
    return steps[low - 1] if low else 0


def narrow(
    residual_graph: ResidualGraph, source: int, destination: int, wanted: PathRequirements
) -> list[LinkEnd]:
    """The links that would have to have more free: of the path that is best but for bandwidth."""
    path = find(residual_graph, source, destination, replace(wanted, bits=0)) or ()
    places = [(edge.source, edge.source_port) for edge in path]
    return [place for place in places if residual_graph.free(place) < wanted.bits]


def quickest(
    residual_graph: ResidualGraph, source: int, destination: int, wanted: PathRequirements
) -> int | None:
    """The least latency of a path with the other things that are wanted, in microseconds."""

    def known(dpid: int) -> Iterable[Edge]:
        return (
            e
            for e in residual_graph.leaving(dpid)
            if residual_graph.latency((e.source, e.source_port)) is not None
        )

    def delay(edge: Edge) -> int:
        return residual_graph.latency((edge.source, edge.source_port)) or 0

    path = find(
        replace(residual_graph, leaving=known), source, destination, replace(wanted, latency=None), delay
    )
    return None if path is None else sum(map(delay, path))


def shortest(
    residual_graph: ResidualGraph, source: int, destination: int, wanted: PathRequirements
) -> int | None:
    """The fewest switches of a path with the other things that are wanted."""
    path = find(residual_graph, source, destination, replace(wanted, hops=None), lambda _: 1.0)
    return None if path is None else len(path) + 1
