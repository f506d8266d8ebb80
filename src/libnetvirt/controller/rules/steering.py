"""Steering: the entries that make constraints true.

A course has an outer label of its own and one rule in each switch on its way. What takes it is told at the
switch of its source by endpoint and destination address, and metered there. Of a link of which something is
promised, all that has no promise may have the rest: it is sent out through table *exit*, and a meter. With
queues, that goes out as always, and what is promised is put into its own queue at each link.
"""

from __future__ import annotations

from collections.abc import Iterator

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import Flow, Order, Placed
from libnetvirt.controller.dataplane.pipeline import Kind, Table
from libnetvirt.controller.intent.labels import Labels
from libnetvirt.controller.intent.locator import Host
from libnetvirt.controller.intent.rulesdb import Bound, Entry
from libnetvirt.controller.qos.capacities import Capacities
from libnetvirt.controller.qos.enforcement import Backend
from libnetvirt.controller.qos.meters import meter
from libnetvirt.controller.qos.queues import Queues
from libnetvirt.controller.qos.reservations import Books
from libnetvirt.controller.qos.te_paths import Course, Courses
from libnetvirt.controller.rules.encapsulation import TUNNELLINGS, Actions, deliver
from libnetvirt.controller.rules.policing import link_exits
from libnetvirt.controller.rules.transport import Exits, Ways
from libnetvirt.controller.topology.pathfinder import Place

#: above the rules for all who send to a host
_PRIORITY = 40
#: where packets of routers are put on courses
_ROUTING = (Table.ROUTE, Table.ONWARD)


class Steering:
    """Compiles courses, and what guards them."""

    def __init__(
        self, labels: Labels, courses: Courses, ways: Ways, exits: Exits, backend: Backend, queues: Queues
    ) -> None:
        self._labels = labels
        self._courses = courses
        self._ways = ways
        self._exits = exits
        self._backend = backend
        self._meters = backend.meters
        self._queues = queues

    def course(self, entry: Entry, course: Course) -> Iterator[Placed]:
        """A course's meter, and its rules in the switches behind the first."""
        start = course.ends[0]
        number = self.meter(course)
        ceiling = self._ceiling(course)
        if number is not None and ceiling:
            yield Placed(start, Order.RECEIVE, meter(number, ceiling))
        if course.label is None:
            return
        tunnelling, cookie = TUNNELLINGS[course.kind], pipeline.cookie(entry.index, Kind.TUNNEL)
        match = of.Match(**tunnelling.outer(course.label))
        for edge in course.edges[1:]:
            then = (of.ApplyActions(self._out(course, (edge.source, edge.source_port))),)
            yield Placed(edge.source, Order.RECEIVE, Flow(Table.TUNNEL, 10, match, then, cookie))
        leave = (of.ApplyActions(tunnelling.leave()), of.GotoTable(Table.SERVICE))
        yield Placed(course.ends[1], Order.RECEIVE, Flow(Table.TUNNEL, 10, match, leave, cookie))

    def host(self, entry: Entry, bound: Bound, host: Host, cookie: int) -> Iterator[Placed]:
        """What puts frames to a host on the courses to its endpoint."""
        for course in self._courses.into(entry.uuid, bound.endpoint.uuid):
            source = entry.endpoints.get(course.key[1])
            if source is None or source.port is None or bound.port is None:
                continue
            actions = self._begin(entry, course, source, bound)
            number = self.meter(course)
            if actions is None or (course.degraded and number is None):
                continue
            match = of.Match(in_port=source.port, metadata=source.entered, eth_dst=host.mac)
            metered = () if number is None else (of.Meter(number),)
            then = (*metered, of.ApplyActions(actions))
            yield Placed(source.dpid, Order.SEND, Flow(Table.HOST, _PRIORITY, match, then, cookie))

    def link(self, link: Place, books: Books, capacities: Capacities) -> Iterator[Placed]:
        """What keeps all that has no promise out of what is promised of a link."""
        rest = capacities.rest(link, books.reserved(link))
        if rest is None:
            # Its switch has not come yet, and will be compared when it does.
            return
        dpid, port = link
        number = self._meters.number(dpid, link_meter(port))
        yield Placed(dpid, Order.RECEIVE, meter(number, rest))
        cookie = pipeline.cookie(0, Kind.LINK)
        yield from link_exits(dpid, port, of.Meter(number), cookie)

    @staticmethod
    def steers(flow: Flow, source: Bound) -> bool:
        """Whether a rule puts frames of an endpoint on a course."""
        known = (source.port, source.entered)
        steering = flow.priority == _PRIORITY if flow.table == Table.HOST else flow.table in _ROUTING
        return steering and (flow.match.get("in_port"), flow.match.get("metadata")) == known

    def wants(self, entry: Entry, dpid: int, name: str) -> bool:
        """Whether one of a network's courses uses a meter."""
        own = self._courses.of(entry.uuid).values()
        return any((c.ends[0], c.meter) == (dpid, name) and self._ceiling(c) for c in own)

    def _begin(self, entry: Entry, course: Course, source: Bound, bound: Bound) -> Actions | None:
        """What the first switch does."""
        return deliver(bound, source.port) if source.dpid == bound.dpid else self.leave(entry, course)

    def leave(self, entry: Entry, course: Course) -> Actions | None:
        """What wraps a frame and sends it on a course to another switch, or, if it is degraded, on the way of
        all others. Raises LabelsExhausted."""
        start, end = course.ends
        if course.degraded:
            way = self._ways.find(entry, start, end)
            return None if way is None else way.leave
        assert course.label is not None
        tunnelling = TUNNELLINGS[course.kind]
        inner = self._labels.spaces[course.kind].service(end, entry.uuid)
        out = self._out(course, course.places[0])
        return (*tunnelling.wrap(inner), *tunnelling.enter(course.label), *out)

    def _out(self, course: Course, link: Place) -> Actions:
        if not course.bits:
            return (self._exits.out(*link),)
        out = of.Output(link[1])
        return (of.SetQueue(self._queues.number(course.key)), out) if self._backend.queues else (out,)

    def _ceiling(self, course: Course) -> int | None:
        """What a course's frames may take, in bit/s. A queue gives what exceeds a minimum what is left."""
        return course.constraint.max_bandwidth if self._backend.queues else course.ceiling

    def meter(self, course: Course) -> int | None:
        """The number of a course's meter in its first switch; None if it has none. Raises LabelsExhausted."""
        start = course.ends[0]
        if not self._ceiling(course) or not self._meters.there(start):
            return None
        return self._meters.number(start, course.meter)


def link_meter(port: int) -> str:
    """What the meter of a link is called in its switch."""
    return f"link//{port}"
