"""PathFinder: shortest paths through the substrate, cached until the topology changes.

All paths to one switch form a tree, found with Dijkstra's algorithm on the reversed graph. Ties are broken by
datapath id and port, so the same topology always gives the same trees: a restarted controller computes the
rules that its switches hold already.

A switch that cannot be given rules takes the links that it holds rules for. Its other links are taken only if
there is no other way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

import rustworkx

from libnetvirt.model import Encapsulation

#: added to the cost of a link that is not known to pass frames of an encapsulation: others are cheaper
COST_UNPROVEN = 1e6
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
#: whose frames: those of all tunnels of an encapsulation, or of a native network (its uuid), which has rules
#: of its own; and the switch that they are for
Flows = tuple[Encapsulation | str, int]
#: for each switch that cannot be given rules, the links by which frames enter and leave it by those that it
#: holds
Held = Mapping[int, Mapping[Flows, Set[LinkEnd]]]
# The links that each of these switches holds rules for, of some frames.
_HeldLinks = tuple[tuple[int, frozenset[LinkEnd]], ...]


def is_avoided(edge: Edge) -> bool:
    """Whether a link is to be avoided where there is another way."""
    return edge.cost % COST_UNREACHABLE >= COST_AVOIDED


def is_unreachable(edge: Edge) -> bool:
    """Whether a link leads to or from a switch that cannot be given rules."""
    return edge.cost >= COST_UNREACHABLE


@dataclass(frozen=True, slots=True)
class Unfit:
    """The links that frames of an encapsulation cannot take (``failed``), and those that it is not yet known
    of (``unproven``), which are taken if there is no other way."""

    failed: frozenset[LinkEnd] = frozenset()
    unproven: frozenset[LinkEnd] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.failed or self.unproven)


#: what `PathFinder.update` takes
Topology = tuple[frozenset[Edge], Held, Mapping[Encapsulation, Unfit]]


@dataclass(slots=True)
class _Graph:
    """The links that frames of an encapsulation can take. ``reverse``: with each edge turned around."""

    nodes: dict[int, int] = field(default_factory=dict)
    reverse: rustworkx.PyDiGraph[int, Edge] = field(default_factory=rustworkx.PyDiGraph)
    out: dict[int, list[Edge]] = field(default_factory=dict)
    trees: dict[tuple[int, _HeldLinks], Tree] = field(default_factory=dict)

    @classmethod
    def of(cls, edges: Iterable[Edge]) -> _Graph:
        graph = cls()
        for edge in sorted(edges):
            graph.out.setdefault(edge.source, []).append(edge)
            graph.reverse.add_edge(graph._node(edge.destination), graph._node(edge.source), edge)
        return graph

    def _node(self, dpid: int) -> int:
        node = self.nodes.get(dpid)
        if node is None:
            node = self.nodes[dpid] = self.reverse.add_node(dpid)
        return node


class PathFinder:
    """The graph of the substrate, and for each encapsulation the part of it that its frames can take."""

    def __init__(self) -> None:
        self._edges: frozenset[Edge] = frozenset()
        self._unfit: dict[Encapsulation, Unfit] = {}
        self._held: Held = {}
        self._whole = _Graph()
        # Of the encapsulations that cannot take all links, made when they are asked for first.
        self._partial: dict[Encapsulation, _Graph] = {}

    @property
    def edges(self) -> frozenset[Edge]:
        """The edges in use."""
        return self._edges

    @property
    def topology(self) -> Topology:
        """What `update` was called with last."""
        return self._edges, self._held, self._unfit

    @property
    def switches(self) -> Collection[int]:
        """The switches that are ends of edges in use."""
        return self._whole.nodes.keys()

    def update(
        self,
        edges: Iterable[Edge],
        held: Held | None = None,
        unfit: Mapping[Encapsulation, Unfit] | None = None,
    ) -> bool:
        """Replace the topology. Returns whether it differs from the last one. ``unfit``: the links that
        frames of an encapsulation cannot or should not take, by encapsulation."""
        new, held = frozenset(edges), held or {}
        kept = {kind: one for kind, one in (unfit or {}).items() if one}
        if new == self._edges and held == self._held and kept == self._unfit:
            return False
        if new != self._edges:
            self._edges, self._whole = new, _Graph.of(new)
        self._held, self._unfit = held, kept
        self._whole.trees.clear()
        self._partial.clear()
        return True

    @property
    def unfit(self) -> Mapping[Encapsulation, Unfit]:
        """The links that frames of an encapsulation cannot or should not take."""
        return self._unfit

    def leaving(self, dpid: int, kind: Encapsulation | None = None) -> Sequence[Edge]:
        """The edges that leave a switch, sorted; of an encapsulation, those that its frames can take."""
        return self._graph(kind).out.get(dpid, ())

    def has(self, edges: Iterable[Edge], kind: Encapsulation | None = None) -> bool:
        """Whether all these edges are in use, whatever their costs are."""
        return all(
            any(replace(e, cost=edge.cost) == edge for e in self.leaving(edge.source, kind)) for edge in edges
        )

    def tree(self, destination: int, kind: Encapsulation | None = None, network: str = "") -> Tree:
        """The edge to take towards ``destination``, for every switch that has a path to it.

        ``kind``: with frames of this encapsulation; ``network``: if it is native, with those of this network.
        Without these, a switch that cannot be given rules counts as holding those of all frames.
        """
        graph, held = self._graph(kind), self._held_links(destination, kind, network)
        tree = graph.trees.get((destination, held))
        if tree is None:
            tree = graph.trees[destination, held] = _build_tree(graph, destination, _costs(held))
        return tree

    def path(
        self, source: int, destination: int, kind: Encapsulation | None = None, network: str = ""
    ) -> list[Edge] | None:
        """The edges of the shortest path: empty within one switch, None if there is no path."""
        tree = self.tree(destination, kind, network)
        path: list[Edge] = []
        while source != destination:
            edge = tree.get(source)
            if edge is None:
                return None
            path.append(edge)
            source = edge.destination
        return path

    def _graph(self, kind: Encapsulation | None) -> _Graph:
        unfit = self._unfit.get(kind) if kind is not None else None
        if kind is None or unfit is None:
            return self._whole
        graph = self._partial.get(kind)
        if graph is None:
            graph = self._partial[kind] = _Graph.of(
                replace(e, cost=e.cost + COST_UNPROVEN) if (e.source, e.source_port) in unfit.unproven else e
                for e in self._edges
                if (e.source, e.source_port) not in unfit.failed
            )
        return graph

    def _held_links(self, destination: int, kind: Encapsulation | None, network: str) -> _HeldLinks:
        if not self._held:
            return ()
        whose: Encapsulation | str | None = network if kind is Encapsulation.NATIVE else kind
        if whose:
            flows = whose, destination
            return tuple((dpid, frozenset(links.get(flows, ()))) for dpid, links in self._held.items())
        return tuple(
            (dpid, frozenset(link for (_, to), ends in links.items() if to == destination for link in ends))
            for dpid, links in self._held.items()
        )


def _costs(held_links: _HeldLinks) -> Callable[[Edge], float]:
    """The cost of each edge."""
    if not held_links:
        return lambda edge: edge.cost
    held = dict(held_links)

    def cost(edge: Edge) -> float:
        link = edge.source, edge.source_port
        unheld = sum(link not in held[d] for d in (edge.source, edge.destination) if d in held)
        return edge.cost % COST_UNREACHABLE + unheld * COST_UNREACHABLE

    return cost


def _build_tree(graph: _Graph, destination: int, cost: Callable[[Edge], float]) -> Tree:
    node = graph.nodes.get(destination)
    if node is None:
        return {}
    costs = rustworkx.dijkstra_shortest_path_lengths(graph.reverse, node, cost)
    distance = {destination: 0.0} | {graph.reverse[n]: float(cost) for n, cost in costs.items()}
    return {
        dpid: min(
            (e for e in graph.out[dpid] if e.destination in distance),
            key=lambda e: (cost(e) + distance[e.destination], e.destination, e.source_port),
        )
        for dpid in distance
        if dpid != destination
    }


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
