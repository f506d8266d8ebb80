"""Graphs of switches. Switches are numbered from 1; the number is the datapath id."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

#: Lower ports are for hosts.
FIRST_LINK_PORT = 10_001

LinkEnd = tuple[int, int]  # switch, port


@dataclass(frozen=True)
class Graph:
    """Switches and links. ``edge``: the switches that hosts are attached to."""

    switches: int
    pairs: tuple[tuple[int, int], ...]
    edge: tuple[int, ...]
    #: (switch, port) -> the far end, in both directions
    peers: dict[LinkEnd, LinkEnd] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        free = dict.fromkeys(range(1, self.switches + 1), FIRST_LINK_PORT)
        peers: dict[LinkEnd, LinkEnd] = {}
        for a, b in self.pairs:
            if a == b:
                raise ValueError(f"switch {a} cannot be linked to itself")
            ends = (a, free[a]), (b, free[b])
            free[a] += 1
            free[b] += 1
            peers[ends[0]], peers[ends[1]] = ends[1], ends[0]
        object.__setattr__(self, "peers", peers)

    def link_ports(self, switch: int) -> list[int]:
        """The ports of a switch that lead to other switches."""
        return sorted(port for s, port in self.peers if s == switch)

    def link(self, a: int, b: int) -> tuple[LinkEnd, LinkEnd]:
        """Both ends of the first link between two switches. Raises KeyError if there is none."""
        for here, there in self.peers.items():
            if (here[0], there[0]) == (a, b):
                return here, there
        raise KeyError((a, b))

    def crossing(self, a: int, b: int) -> int:
        """The number of (ingress, egress) pairs of edge switches whose shortest paths all use a link."""
        neighbours: dict[int, set[int]] = {n: set() for n in range(1, self.switches + 1)}
        for (here, _), (there, _) in self.peers.items():
            neighbours[here].add(there)
        whole = {n: distances(neighbours, n) for n in self.edge}
        neighbours[a].discard(b)
        neighbours[b].discard(a)
        cut = {n: distances(neighbours, n) for n in self.edge}
        return sum(whole[n][m] != cut[n].get(m) for n in self.edge for m in self.edge)


def distances(neighbours: dict[int, set[int]], start: int) -> dict[int, int]:
    """The distance in links from one switch to each reachable one."""
    found, waiting = {start: 0}, deque([start])
    while waiting:
        here = waiting.popleft()
        for there in neighbours[here] - found.keys():
            found[there] = found[here] + 1
            waiting.append(there)
    return found


def _graph(switches: int, pairs: Iterable[tuple[int, int]], edge: Iterable[int] | None = None) -> Graph:
    return Graph(switches, tuple(pairs), tuple(edge if edge is not None else range(1, switches + 1)))


def line(switches: int) -> Graph:
    """1 - 2 - … - n."""
    return _graph(switches, ((n, n + 1) for n in range(1, switches)))


def ring(switches: int) -> Graph:
    """A closed line of at least three switches. Raises ValueError for fewer."""
    if switches < 3:
        raise ValueError("a ring has at least three switches")
    return _graph(switches, ((n, n % switches + 1) for n in range(1, switches + 1)))


def fat_tree(arity: int) -> Graph:
    """The k-ary fat tree: (k/2)² core switches, and k pods of k/2 aggregation and k/2 edge switches."""
    if arity < 2 or arity % 2:
        raise ValueError("a fat tree's arity is even")
    half = arity // 2
    core = half * half
    pairs: list[tuple[int, int]] = []
    edge: list[int] = []
    for pod in range(arity):
        first = core + pod * arity + 1
        for a in range(half):
            pairs += [(a * half + c + 1, first + a) for c in range(half)]
            pairs += [(first + a, first + half + e) for e in range(half)]
        edge += range(first + half, first + arity)
    return _graph(core + arity * arity, pairs, edge)


def dumbbell(switches: int) -> Graph:
    """Switches 1 and 2 are linked directly and through 3; the others are linked to 1 or 2 alternately."""
    if switches < 5:
        raise ValueError("a dumbbell has at least five switches")
    leaves = range(4, switches + 1)
    pairs = [(1, 2), (1, 3), (3, 2), *((n % 2 + 1, n) for n in leaves)]
    return _graph(switches, pairs, leaves)


def scattered(switches: int, links: int, seed: int = 1) -> Graph:
    """A connected random graph: a random tree with additional random links, ``links`` in total."""
    chance = random.Random(seed)
    order = list(range(1, switches + 1))
    chance.shuffle(order)
    pairs = {tuple(sorted((order[n], order[chance.randrange(n)]))) for n in range(1, switches)}
    most = switches * (switches - 1) // 2
    if not switches - 1 <= links <= most:
        raise ValueError(f"{switches} switches take {switches - 1} to {most} links, not {links}")
    while len(pairs) < links:
        a, b = chance.sample(order, 2)
        pairs.add((min(a, b), max(a, b)))
    return _graph(switches, sorted((a, b) for a, b in pairs))


def named(kind: str, switches: int) -> Graph:
    """A graph by the name of its kind; a fat tree has the largest arity that fits the number of switches."""
    if kind == "line":
        return line(switches)
    if kind == "ring":
        return ring(switches)
    if kind == "dumbbell":
        return dumbbell(switches)
    if kind == "random":
        return scattered(switches, min(switches * 2, switches * (switches - 1) // 2))
    if kind == "fat-tree":
        arity = 2
        while 5 * (arity + 2) ** 2 // 4 <= switches:
            arity += 2
        return fat_tree(arity)
    raise ValueError(f"{kind!r} is no graph: use line, ring, fat-tree, dumbbell or random")
