"""Steering: the rules that put traffic on TE paths, and that protect reserved bandwidth.

A TE path to another switch has an outer label of its own, and a rule in each switch on the way. At the first
switch, traffic is selected by source endpoint and destination address, and metered.

Reserved bandwidth is protected in one of two ways (see `qos.enforcement`). With meters, all best-effort
traffic that leaves by a link with reservations is sent through table *exit*, where it is policed to the
unreserved capacity. With queues, traffic on a TE path is put into its own queue at each link, and best-effort
traffic is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterator

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import Flow, Order, PlacedEntry
from libnetvirt.controller.dataplane.pipeline import Kind, Table
from libnetvirt.controller.intent.labels import Labels
from libnetvirt.controller.intent.locator import Host
from libnetvirt.controller.intent.rulesdb import Attachment, NetworkRecord
from libnetvirt.controller.qos.capacities import Capacities
from libnetvirt.controller.qos.enforcement import Backend
from libnetvirt.controller.qos.meters import meter
from libnetvirt.controller.qos.queues import Queues
from libnetvirt.controller.qos.reservations import ReservationLedger
from libnetvirt.controller.qos.te_paths import TePath, TePaths
from libnetvirt.controller.rules.encapsulation import TUNNELLINGS, Actions, deliver
from libnetvirt.controller.rules.policing import metered_link_output
from libnetvirt.controller.rules.priorities import to_label
from libnetvirt.controller.rules.transport import LinkOutput, Transports
from libnetvirt.controller.topology.pathfinder import LinkEnd

#: above the priority of the rules that other senders to the same host use
_PRIORITY = 40
#: the tables in which packets of routed networks are put on TE paths
_ROUTING = (Table.ROUTE, Table.ONWARD)


class Steering:
    """Compiles the rules of TE paths, and those that police links."""

    def __init__(
        self,
        labels: Labels,
        te_paths: TePaths,
        transports: Transports,
        link_output: LinkOutput,
        backend: Backend,
        queues: Queues,
    ) -> None:
        self._labels = labels
        self._te_paths = te_paths
        self._transports = transports
        self._link_output = link_output
        self._backend = backend
        self._meters = backend.meters
        self._queues = queues

    def te_path(self, record: NetworkRecord, te_path: TePath) -> Iterator[PlacedEntry]:
        """A TE path's meter, and its rules in the switches behind the first."""
        start = te_path.ends[0]
        number = self.meter(te_path)
        ceiling = self._ceiling(te_path)
        if number is not None and ceiling:
            yield PlacedEntry(start, Order.RECEIVE, meter(number, ceiling))
        if te_path.label is None:
            return
        tunnelling, cookie = TUNNELLINGS[te_path.kind], pipeline.cookie(record.index, Kind.TUNNEL)
        match = of.Match(**tunnelling.match_outer(te_path.label))
        for edge in te_path.edges[1:]:
            then = (of.ApplyActions(self._out(te_path, (edge.source, edge.source_port))),)
            yield PlacedEntry(edge.source, Order.RECEIVE, Flow(Table.TUNNEL, 10, match, then, cookie))
        egress = (of.ApplyActions(tunnelling.pop_outer()), of.GotoTable(Table.SERVICE))
        yield PlacedEntry(te_path.ends[1], Order.RECEIVE, Flow(Table.TUNNEL, 10, match, egress, cookie))

    def host(
        self, record: NetworkRecord, attachment: Attachment, host: Host, cookie: int
    ) -> Iterator[PlacedEntry]:
        """The rules at the first switches that put frames to a host on the TE paths to its endpoint."""
        for te_path in self._te_paths.to_endpoint(record.uuid, attachment.endpoint.uuid):
            source = record.endpoints.get(te_path.key[1])
            if source is None or source.port is None or attachment.port is None:
                continue
            actions = self._first_actions(record, te_path, source, attachment)
            number = self.meter(te_path)
            if actions is None or (te_path.degraded and number is None):
                continue
            match = of.Match(in_port=source.port, metadata=source.entered, eth_dst=host.mac)
            metered = () if number is None else (of.Meter(number),)
            then = (*metered, of.ApplyActions(actions))
            yield PlacedEntry(source.dpid, Order.SEND, Flow(Table.HOST, _PRIORITY, match, then, cookie))

    def police_link(
        self, link: LinkEnd, reservations: ReservationLedger, capacities: Capacities
    ) -> Iterator[PlacedEntry]:
        """Police best-effort traffic on a link to its unreserved capacity."""
        best_effort = capacities.best_effort(link, reservations.reserved(link))
        if best_effort is None:
            # Its switch has not connected yet; it is reconciled when it does.
            return
        dpid, port = link
        number = self._meters.number(dpid, link_meter(port))
        yield PlacedEntry(dpid, Order.RECEIVE, meter(number, best_effort))
        cookie = pipeline.cookie(0, Kind.LINK)
        yield from metered_link_output(dpid, port, of.Meter(number), cookie)

    @staticmethod
    def steers(flow: Flow, source: Attachment) -> bool:
        """Whether a rule puts frames of this endpoint on a TE path."""
        known = (source.port, source.entered)
        steering = flow.priority == _PRIORITY if flow.table == Table.HOST else flow.table in _ROUTING
        return steering and (flow.match.get("in_port"), flow.match.get("metadata")) == known

    def uses_meter(self, record: NetworkRecord, dpid: int, name: str) -> bool:
        """Whether a TE path of the network uses the meter with this name on this switch."""
        own = self._te_paths.of(record.uuid).values()
        return any((c.ends[0], c.meter) == (dpid, name) and self._ceiling(c) for c in own)

    def _first_actions(
        self, record: NetworkRecord, te_path: TePath, source: Attachment, attachment: Attachment
    ) -> Actions | None:
        """The actions at the first switch of a TE path."""
        return (
            deliver(attachment, source.port)
            if source.dpid == attachment.dpid
            else self.ingress_actions(record, te_path)
        )

    def ingress_actions(self, record: NetworkRecord, te_path: TePath) -> Actions | None:
        """The actions that send a frame along a TE path to another switch or, if the path is degraded, along
        the shortest path. None if there is no path. Raises LabelsExhausted."""
        start, end = te_path.ends
        if te_path.degraded:
            transport = self._transports.find(record, start, end)
            return None if transport is None else transport.ingress_actions
        assert te_path.label is not None
        tunnelling = TUNNELLINGS[te_path.kind]
        inner = self._labels.spaces[te_path.kind].service(end, record.uuid)
        out = self._out(te_path, te_path.links[0])
        if record.carries_priority:
            outer = tunnelling.push_outer_with_priority(te_path.label)
            return (*tunnelling.push_inner(inner), *to_label(tunnelling.priority), *outer, *out)
        return (*tunnelling.push_inner(inner), *tunnelling.push_outer(te_path.label), *out)

    def _out(self, te_path: TePath, link: LinkEnd) -> Actions:
        if not te_path.bits:
            return (self._link_output.out(*link),)
        out = of.Output(link[1])
        return (of.SetQueue(self._queues.number(te_path.key)), out) if self._backend.queues else (out,)

    def _ceiling(self, te_path: TePath) -> int | None:
        """The bit/s that a TE path's traffic is metered to. With queues only a maximum counts: traffic above
        the minimum gets what is left."""
        return te_path.constraint.max_bandwidth if self._backend.queues else te_path.ceiling

    def meter(self, te_path: TePath) -> int | None:
        """The number of a TE path's meter in its first switch; None if it has none. Raises
        LabelsExhausted."""
        start = te_path.ends[0]
        if not self._ceiling(te_path) or not self._meters.supported(start):
            return None
        return self._meters.number(start, te_path.meter)


def link_meter(port: int) -> str:
    """The name of the meter of a link in its switch."""
    return f"link//{port}"
