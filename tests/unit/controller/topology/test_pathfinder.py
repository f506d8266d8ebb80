"""PathFinder: links to be avoided, switches that cannot be given rules, and parts of a topology."""

from __future__ import annotations

from dataclasses import replace

from libnetvirt.controller.topology.pathfinder import (
    COST_AVOIDED,
    COST_UNREACHABLE,
    Edge,
    Held,
    PathFinder,
    is_avoided,
    is_unreachable,
    parts,
)
from libnetvirt.model import Encapsulation


def _ring(*extra: Edge) -> list[Edge]:
    """1 - 2 - 3 - 4 - 1; port 90 + N of a switch leads to switch N."""
    pairs = [(1, 2), (2, 3), (3, 4), (4, 1)]
    return [*extra, *(Edge(a, 90 + b, b, 90 + a) for x, y in pairs for a, b in ((x, y), (y, x)))]


def _dearer(edges: list[Edge], switch: int, cost: float) -> list[Edge]:
    return [replace(e, cost=e.cost + cost) if switch in (e.source, e.destination) else e for e in edges]


def _way(paths: PathFinder, a: int, b: int) -> list[int]:
    return [edge.destination for edge in paths.path(a, b, Encapsulation.VLAN) or ()]


def test_links_to_be_avoided_are_taken_where_there_is_no_other_way() -> None:
    paths = PathFinder()
    paths.update(_dearer(_ring(), 2, COST_AVOIDED))
    assert _way(paths, 1, 3) == [4, 3]
    assert _way(paths, 1, 2) == [2]
    paths.update(_dearer([e for e in _ring() if 4 not in (e.source, e.destination)], 2, COST_AVOIDED))
    assert _way(paths, 1, 3) == [2, 3]


def test_a_switch_that_cannot_be_given_rules_is_passed_where_it_holds_some() -> None:
    """2 holds rules for 3, from 1; 4 holds none."""
    edges = _dearer(_dearer(_dearer(_ring(), 2, COST_UNREACHABLE), 4, COST_UNREACHABLE), 2, COST_AVOIDED)
    paths = PathFinder()
    held: Held = {2: {(Encapsulation.VLAN, 3): {(1, 92), (2, 93)}}, 4: {}}
    assert paths.update(edges, held)
    assert not paths.update(edges, held)
    assert _way(paths, 1, 3) == [2, 3]
    # The way back is not held: neither switch is better, but 2 is to be avoided.
    assert _way(paths, 3, 1) == [4, 1]
    assert paths.update(edges, {2: {}, 4: {(Encapsulation.VLAN, 3): {(1, 94), (4, 93)}}})
    assert _way(paths, 1, 3) == [4, 3]


def test_what_such_a_switch_holds_of_a_native_network_is_of_no_use_to_another() -> None:
    """2 holds rules of network "a" for 3, from 1; 4 holds none, and is to be avoided less."""
    edges = _dearer(_dearer(_ring(), 2, COST_UNREACHABLE + COST_AVOIDED), 4, COST_UNREACHABLE)
    paths = PathFinder()
    paths.update(edges, {2: {("a", 3): {(1, 92), (2, 93)}}, 4: {}})
    ways = {
        network: [e.destination for e in paths.path(1, 3, Encapsulation.NATIVE, network) or ()]
        for network in ("a", "b", "")
    }
    assert ways == {"a": [2, 3], "b": [4, 3], "": [2, 3]}
    assert _way(paths, 1, 3) == [4, 3]


def test_both_costs_can_be_told_apart() -> None:
    for avoided in (0.0, COST_AVOIDED):
        for unreachable in (0.0, COST_UNREACHABLE):
            edge = Edge(1, 1, 2, 2, 7.5 + avoided + unreachable)
            assert is_avoided(edge) is bool(avoided)
            assert is_unreachable(edge) is bool(unreachable)


def test_unconfirmed_links_divide_the_substrate_into_parts() -> None:
    doubts = {(e.source, e.source_port): "why" for e in _ring() if 2 in (e.source, e.destination)}
    found = parts(_ring(), doubts)
    assert found[1] == found[3] == found[4]
    assert found[1][0] != found[2][0]
    assert found[1][1] == found[2][1] == "why"
    far = Edge(5, 1, 6, 1)
    assert parts([*_ring(), far], doubts)[5] == parts([*_ring(), far], doubts)[6]
    assert parts([*_ring(), far], doubts)[5][1] == ""
