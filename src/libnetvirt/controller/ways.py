"""Ways: how a frame gets from a switch to an endpoint elsewhere. This is all that encapsulation decides.

When the rules of a way come is another question (insertion): with all hosts as they are known
(:mod:`~libnetvirt.controller.compiler`), or pair by pair (:mod:`~libnetvirt.controller.reactive`).
"""

from __future__ import annotations

from dataclasses import dataclass

from libnetvirt import openflow as of
from libnetvirt.controller import layout
from libnetvirt.controller.labels import Labels
from libnetvirt.controller.layout import Table
from libnetvirt.controller.pathfinder import Edge, PathFinder
from libnetvirt.controller.rulesdb import Bound
from libnetvirt.controller.wrapping import TUNNELLINGS, Actions, Fields, deliver


@dataclass(frozen=True, slots=True)
class Hop:
    """What a switch behind the first does: with frames that match ``fields`` besides their addresses."""

    dpid: int
    table: Table
    fields: Fields
    actions: Actions


@dataclass(frozen=True, slots=True)
class Way:
    """``leave``: what the first switch does; ``hops``: the others, in order; ``edges``: the links
    that the hops depend on, none for a tunnel."""

    leave: Actions
    hops: tuple[Hop, ...]
    edges: tuple[Edge, ...] = ()


class Ways:
    """Finds the way; gives labels where they are needed."""

    def __init__(self, labels: Labels, paths: PathFinder) -> None:
        self._labels = labels
        self._paths = paths

    def find(self, dpid: int, there: Bound) -> Way | None:
        """The way from a switch to an endpoint on another one; None if there is none. A tunnel is a way,
        wherever it leads. Raises LabelsExhausted."""
        if there.port is None:
            return None
        entry = there.network
        if entry.tunnel is None:
            return self._native(dpid, there)
        tunnelling, space = TUNNELLINGS[entry.tunnel], self._labels.spaces[entry.tunnel]
        inner = space.service(there.dpid, entry.uuid)
        leave = (*tunnelling.wrap(inner), tunnelling.group(space.tunnel(there.dpid).number))
        fields: Fields = {"metadata": (layout.tunnelled(entry.index), layout.METADATA_SIDE)}
        return Way(leave, (Hop(there.dpid, Table.HOST, fields, deliver(there)),))

    def _native(self, dpid: int, there: Bound) -> Way | None:
        edges = self._paths.path(dpid, there.dpid)
        if not edges:
            return None
        out = [*((of.Output(e.source_port),) for e in edges), deliver(there)]
        hops = (
            Hop(edge.destination, Table.PATH, {"in_port": edge.destination_port}, actions)
            for edge, actions in zip(edges, out[1:], strict=True)
        )
        return Way(out[0], tuple(hops), tuple(edges))
