"""Steering: the entries that make constraints true.

A course has an outer label of its own and one rule in each switch on its way. What takes it is told at the
switch of its source by endpoint and destination address, and metered there. Of a link of which something is
promised, all that has no promise may have the best_effort: it is sent out through table *exit*, and a meter. With
queues, that goes out as always, and what is promised is put into its own queue at each link.
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
from libnetvirt.controller.rules.transport import LinkOutput, Transports
from libnetvirt.controller.topology.pathfinder import LinkEnd

#: above the rules for all who send to a host
_PRIORITY = 40
#: where packets of routers are put on courses
_ROUTING = (Table.ROUTE, Table.ONWARD)


class Steering:
    """Compiles courses, and what guards them."""

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
        """A course's meter, and its rules in the switches behind the first."""
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
        leave = (of.ApplyActions(tunnelling.pop_outer()), of.GotoTable(Table.SERVICE))
        yield PlacedEntry(te_path.ends[1], Order.RECEIVE, Flow(Table.TUNNEL, 10, match, leave, cookie))

    def host(
        self, record: NetworkRecord, attachment: Attachment, host: Host, cookie: int
    ) -> Iterator[PlacedEntry]:
        """What puts frames to a host on the courses to its endpoint."""
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
        """What keeps all that has no promise out of what is promised of a link."""
        best_effort = capacities.best_effort(link, reservations.reserved(link))
        if best_effort is None:
            # Its switch has not come yet, and will be compared when it does.
            return
        dpid, port = link
        number = self._meters.number(dpid, link_meter(port))
        yield PlacedEntry(dpid, Order.RECEIVE, meter(number, best_effort))
        cookie = pipeline.cookie(0, Kind.LINK)
        yield from metered_link_output(dpid, port, of.Meter(number), cookie)

    @staticmethod
    def steers(flow: Flow, source: Attachment) -> bool:
        """Whether a rule puts frames of an endpoint on a course."""
        known = (source.port, source.entered)
        steering = flow.priority == _PRIORITY if flow.table == Table.HOST else flow.table in _ROUTING
        return steering and (flow.match.get("in_port"), flow.match.get("metadata")) == known

    def uses_meter(self, record: NetworkRecord, dpid: int, name: str) -> bool:
        """Whether one of a network's courses uses a meter."""
        own = self._te_paths.of(record.uuid).values()
        return any((c.ends[0], c.meter) == (dpid, name) and self._ceiling(c) for c in own)

    def _first_actions(
        self, record: NetworkRecord, te_path: TePath, source: Attachment, attachment: Attachment
    ) -> Actions | None:
        """What the first switch does."""
        return (
            deliver(attachment, source.port)
            if source.dpid == attachment.dpid
            else self.ingress_actions(record, te_path)
        )

    def ingress_actions(self, record: NetworkRecord, te_path: TePath) -> Actions | None:
        """What wraps a frame and sends it on a course to another switch, or, if it is degraded, on the way of
        all others. Raises LabelsExhausted."""
        start, end = te_path.ends
        if te_path.degraded:
            transport = self._transports.find(record, start, end)
            return None if transport is None else transport.ingress_actions
        assert te_path.label is not None
        tunnelling = TUNNELLINGS[te_path.kind]
        inner = self._labels.spaces[te_path.kind].service(end, record.uuid)
        out = self._out(te_path, te_path.links[0])
        return (*tunnelling.push_inner(inner), *tunnelling.push_outer(te_path.label), *out)

    def _out(self, te_path: TePath, link: LinkEnd) -> Actions:
        if not te_path.bits:
            return (self._link_output.out(*link),)
        out = of.Output(link[1])
        return (of.SetQueue(self._queues.number(te_path.key)), out) if self._backend.queues else (out,)

    def _ceiling(self, te_path: TePath) -> int | None:
        """What a course's frames may take, in bit/s. A queue gives what exceeds a minimum what is left."""
        return te_path.constraint.max_bandwidth if self._backend.queues else te_path.ceiling

    def meter(self, te_path: TePath) -> int | None:
        """The number of a course's meter in its first switch; None if it has none. Raises LabelsExhausted."""
        start = te_path.ends[0]
        if not self._ceiling(te_path) or not self._meters.supported(start):
            return None
        return self._meters.number(start, te_path.meter)


def link_meter(port: int) -> str:
    """What the meter of a link is called in its switch."""
    return f"link//{port}"
