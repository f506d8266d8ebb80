"""PathFinder: shortest paths through the substrate, cached until the topology changes.

All paths to one switch form a tree, found with Dijkstra's algorithm on the reversed graph. Ties are broken by
datapath id and port, so the same topology always gives the same trees: a restarted controller computes the
rules that its switches hold already.

A switch that cannot be given rules takes the links that it holds rules for. Its other links are taken only if
there is no other way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace

import rustworkx

#: added to the cost of a link that is to be avoided: any other way is cheaper
COST_AVOIDED = 1e8
#: added to the cost of a link to or from a switch that cannot be given rules, except where frames take it by
#: the rules that the switch holds: even links to be avoided are cheaper
COST_UNREACHABLE = 1e10

#: the end of a link: datapath id and port. A direction of a link is named by the end that sends into it
LinkEnd = tuple[int, int]


@dataclass(frozen=True, slots=True, order=True)
class Edge:
    """One direction of a link, from port to port. ``cost`` has any unit."""

    source: int
    source_port: int
    destination: int
    destination_port: int
    cost: float = 1.0

    @property
    def ends(self) -> tuple[int, int, int, int]:
        """All but the cost."""
        return self.source, self.source_port, self.destination, self.destination_port


#: the links to take towards one switch, by the switch they leave
Tree = dict[int, Edge]
#: for each switch that cannot be given rules, the links by which frames enter and leave it by those that it
#: holds, by the switch that they are for
Held = Mapping[int, Mapping[int, Set[LinkEnd]]]


def is_avoided(edge: Edge) -> bool:
    """Whether a link is to be avoided where there is another way."""
    return edge.cost % COST_UNREACHABLE >= COST_AVOIDED


def is_unreachable(edge: Edge) -> bool:
    """Whether a link leads to or from a switch that cannot be given rules."""
    return edge.cost >= COST_UNREACHABLE


class PathFinder:
    """The graph of the substrate."""

    def __init__(self) -> None:
        self._edges: frozenset[Edge] = frozenset()
        self._held: Held = {}
        self._nodes: dict[int, int] = {}
        self._reverse: rustworkx.PyDiGraph[int, Edge] = rustworkx.PyDiGraph()
        self._out: dict[int, list[Edge]] = {}
        self._trees: dict[int, Tree] = {}

    @property
    def edges(self) -> frozenset[Edge]:
        """The edges in use."""
        return self._edges

    @property
    def switches(self) -> Collection[int]:
        """The switches that are ends of edges in use."""
        return self._nodes.keys()

    def update(self, edges: Iterable[Edge], held: Held | None = None) -> bool:
        """Replace the topology. Returns whether it differs from the last one."""
        new, held = frozenset(edges), held or {}
        if new == self._edges and held == self._held:
            return False
        self._edges, self._held = new, held
        self._trees.clear()
        self._reverse = rustworkx.PyDiGraph()
        self._nodes.clear()
        self._out.clear()
        for edge in sorted(new):
            self._out.setdefault(edge.source, []).append(edge)
            self._reverse.add_edge(self._node(edge.destination), self._node(edge.source), edge)
        return True

    def leaving(self, dpid: int) -> Sequence[Edge]:
        """The edges that leave a switch, sorted."""
        return self._out.get(dpid, ())

    def has(self, edges: Iterable[Edge]) -> bool:
        """Whether all these edges are in use, whatever their costs are."""
        return all(
            any(replace(e, cost=edge.cost) == edge for e in self.leaving(edge.source)) for edge in edges
        )

    def tree(self, destination: int) -> Tree:
        """The edge to take towards ``destination``, for every switch that has a path to it."""
        tree = self._trees.get(destination)
        if tree is None:
            tree = self._trees[destination] = self._build_tree(destination)
        return tree

    def path(self, source: int, destination: int) -> list[Edge] | None:
        """The edges of the shortest path: empty within one switch, None if there is no path."""
        tree = self.tree(destination)
        path: list[Edge] = []
        while source != destination:
            edge = tree.get(source)
            if edge is None:
                return None
            path.append(edge)
            source = edge.destination
        return path

    def _node(self, dpid: int) -> int:
        node = self._nodes.get(dpid)
        if node is None:
            node = self._nodes[dpid] = self._reverse.add_node(dpid)
        return node

    def _build_tree(self, destination: int) -> Tree:
        node = self._nodes.get(destination)
        if node is None:
            return {}
        cost = self._costs(destination)
        costs = rustworkx.dijkstra_shortest_path_lengths(self._reverse, node, cost)
        distance = {destination: 0.0} | {self._reverse[n]: float(cost) for n, cost in costs.items()}
        return {
            dpid: min(
                (e for e in self._out[dpid] if e.destination in distance),
                key=lambda e: (cost(e) + distance[e.destination], e.destination, e.source_port),
            )
            for dpid in distance
            if dpid != destination
        }

    def _costs(self, destination: int) -> Callable[[Edge], float]:
        """The cost of each edge on the way to a switch."""
        if not self._held:
            return lambda edge: edge.cost
        held = {dpid: links.get(destination, frozenset()) for dpid, links in self._held.items()}

        def cost(edge: Edge) -> float:
            link = edge.source, edge.source_port
            unheld = sum(link not in held[d] for d in (edge.source, edge.destination) if d in held)
            return edge.cost % COST_UNREACHABLE + unheld * COST_UNREACHABLE

        return cost


def parts(edges: Iterable[Edge], doubts: Mapping[LinkEnd, str]) -> dict[int, tuple[int, str]]:
    """The parts of a topology without the edges in ``doubts``, which has a reason for each, by its sending
    end: for each switch the number of its part, and the reason of an edge that leads out of the part."""
    graph: rustworkx.PyGraph[int, None] = rustworkx.PyGraph()
    nodes: dict[int, int] = {}
    leading_out: list[tuple[int, str]] = []
    for edge in sorted(edges):
        for dpid in (edge.source, edge.destination):
            if dpid not in nodes:
                nodes[dpid] = graph.add_node(dpid)
        why = doubts.get((edge.source, edge.source_port), "")
        if why:
            leading_out.append((edge.source, why))
        else:
            graph.add_edge(nodes[edge.source], nodes[edge.destination], None)
    number = {n: i for i, part in enumerate(rustworkx.connected_components(graph)) for n in part}
    reasons = {number[nodes[dpid]]: why for dpid, why in reversed(leading_out)}
    return {dpid: (number[n], reasons.get(number[n], "")) for dpid, n in nodes.items()}
