"""Transport: how a frame gets from one switch to another. Encapsulation decides nothing else.

With tunnels, a frame is pushed its inner label and sent to the tunnel's group; with native encapsulation it
is output along the shortest path, switch by switch. *When* the rules are installed is a question of
insertion: for all hosts in advance (:mod:`~libnetvirt.controller.rules.switching`), or for a pair of hosts
when its first frame comes up (:mod:`~libnetvirt.controller.ondemand.flows`).
"""

from __future__ import annotations

from dataclasses import dataclass

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.pipeline import Table
from libnetvirt.controller.intent.labels import Labels
from libnetvirt.controller.intent.rulesdb import NetworkRecord
from libnetvirt.controller.rules.encapsulation import TUNNELLINGS, Actions, Fields
from libnetvirt.controller.rules.priorities import to_label
from libnetvirt.controller.topology.pathfinder import Edge, PathFinder
from libnetvirt.model import Encapsulation
from libnetvirt.openflow import nicira


@dataclass(frozen=True, slots=True)
class TransportHop:
    """A switch behind the first one: table, fields to match besides the MAC addresses, and actions. The last
    hop has no ``actions``: it delivers the frame."""

    dpid: int
    table: Table
    fields: Fields
    actions: Actions = ()


@dataclass(frozen=True, slots=True)
class Transport:
    """The transport of frames between two switches.

    ``ingress_actions`` are those of the first switch; ``hops`` the others in order; ``edges`` the links that
    the hops depend on, none for a tunnel.
    """

    ingress_actions: Actions
    hops: tuple[TransportHop, ...]
    edges: tuple[Edge, ...] = ()


class LinkOutput:
    """How best-effort frames are output to links. ``metered``: the links on which they are policed."""

    def __init__(self) -> None:
        self.metered: frozenset[tuple[int, int]] = frozenset()

    def out(self, dpid: int, port: int) -> of.Action:
        """The action that outputs a best-effort frame to a link."""
        if (dpid, port) in self.metered:
            return nicira.resubmit(port, Table.EXIT)
        return of.Output(port)


class Transports:
    """Computes transports, and allocates the labels that they need."""

    def __init__(self, labels: Labels, paths: PathFinder, link_output: LinkOutput) -> None:
        self._link_output = link_output
        self._labels = labels
        self._paths = paths

    def find(self, record: NetworkRecord, dpid: int, egress: int) -> Transport | None:
        """The transport of a network's frames from one switch to another.

        None if no path leads there; a tunnel is always found, whether or not there is a path for it. Raises
        LabelsExhausted.
        """
        if record.tunnel is None:
            return self._native(record.uuid, dpid, egress)
        tunnelling, space = TUNNELLINGS[record.tunnel], self._labels.spaces[record.tunnel]
        inner = space.service(egress, record.uuid)
        ingress_actions = (
            *tunnelling.push_inner(inner),
            *(to_label(tunnelling.priority) if record.carries_priority else ()),
            tunnelling.group(space.tunnel(egress).number),
        )
        return Transport(ingress_actions, (TransportHop(egress, *arrival(record)),))

    def _native(self, network: str, dpid: int, egress: int) -> Transport | None:
        edges = self._paths.path(dpid, egress, Encapsulation.NATIVE, network)
        if not edges:
            return None
        out: list[Actions] = [(self._link_output.out(edge.source, edge.source_port),) for edge in edges]
        hops = (
            TransportHop(edge.destination, Table.PATH, {"in_port": edge.destination_port}, actions)
            for edge, actions in zip(edges, (*out[1:], ()), strict=True)
        )
        return Transport(out[0], tuple(hops), tuple(edges))


def arrival(record: NetworkRecord) -> tuple[Table, Fields]:
    """The table and fields with which a network's frames match at the last switch. Port 0 stands for any."""
    if record.tunnel is None:
        return Table.PATH, {"in_port": 0}
    return Table.HOST, {"metadata": (pipeline.tunnelled(record.index), pipeline.METADATA_SIDE)}
