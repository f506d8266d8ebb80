"""Ways: how a frame gets from one switch to another. This is all that encapsulation decides.

When the rules of a way come is another question (insertion): with all hosts as they are known
(:mod:`~libnetvirt.controller.rules.switching`), or pair by pair
(:mod:`~libnetvirt.controller.ondemand.flows`).
"""

from __future__ import annotations

from dataclasses import dataclass

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.pipeline import Table
from libnetvirt.controller.intent.labels import Labels
from libnetvirt.controller.intent.rulesdb import NetworkRecord
from libnetvirt.controller.rules.encapsulation import TUNNELLINGS, Actions, Fields
from libnetvirt.controller.topology.pathfinder import Edge, PathFinder
from libnetvirt.openflow import nicira


@dataclass(frozen=True, slots=True)
class TransportHop:
    """What a switch behind the first does with frames that match ``fields`` besides their addresses. No
    ``actions``: it is the last, and delivers them."""

    dpid: int
    table: Table
    fields: Fields
    actions: Actions = ()


@dataclass(frozen=True, slots=True)
class Transport:
    """``ingress_actions``: what the first switch does; ``hops``: the others, in order; ``edges``: the links
    that the hops depend on, none for a tunnel."""

    ingress_actions: Actions
    hops: tuple[TransportHop, ...]
    edges: tuple[Edge, ...] = ()


class LinkOutput:
    """How frames without a promise leave by a link. ``metered``: the links of which something is promised."""

    def __init__(self) -> None:
        self.metered: frozenset[tuple[int, int]] = frozenset()

    def out(self, dpid: int, port: int) -> of.Action:
        """Send a frame out at a link's port."""
        if (dpid, port) in self.metered:
            return nicira.resubmit(port, Table.EXIT)
        return of.Output(port)


class Transports:
    """Finds the way; gives labels where they are needed."""

    def __init__(self, labels: Labels, paths: PathFinder, link_output: LinkOutput) -> None:
        self._link_output = link_output
        self._labels = labels
        self._paths = paths

    def find(self, record: NetworkRecord, dpid: int, egress: int) -> Transport | None:
        """The way of a network's frames from a switch to another one; None if there is none. A tunnel is a
        way, wherever it leads. Raises LabelsExhausted."""
        if record.tunnel is None:
            return self._native(dpid, egress)
        tunnelling, space = TUNNELLINGS[record.tunnel], self._labels.spaces[record.tunnel]
        inner = space.service(egress, record.uuid)
        leave = (*tunnelling.push_inner(inner), tunnelling.group(space.tunnel(egress).number))
        return Transport(leave, (TransportHop(egress, *arrival(record)),))

    def _native(self, dpid: int, egress: int) -> Transport | None:
        edges = self._paths.path(dpid, egress)
        if not edges:
            return None
        out: list[Actions] = [(self._link_output.out(edge.source, edge.source_port),) for edge in edges]
        hops = (
            TransportHop(edge.destination, Table.PATH, {"in_port": edge.destination_port}, actions)
            for edge, actions in zip(edges, (*out[1:], ()), strict=True)
        )
        return Transport(out[0], tuple(hops), tuple(edges))


def arrival(record: NetworkRecord) -> tuple[Table, Fields]:
    """Where a network's frames arrive at the last switch of a way, and what they match (port 0: any)."""
    if record.tunnel is None:
        return Table.PATH, {"in_port": 0}
    return Table.HOST, {"metadata": (pipeline.tunnelled(record.index), pipeline.METADATA_SIDE)}
