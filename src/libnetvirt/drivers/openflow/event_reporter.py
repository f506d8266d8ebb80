"""The event reporter: publishes events about changes of endpoint states and links, and about errors of
switches."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from libnetvirt.controller.engine.controller import Controller
from libnetvirt.controller.intent.rulesdb import NetworkRecord
from libnetvirt.controller.intent.switches import switch_text
from libnetvirt.controller.reports.views import endpoint_states
from libnetvirt.controller.topology.pathfinder import Edge, LinkEnd
from libnetvirt.driver import Change
from libnetvirt.model import State

#: seconds between two events about errors of one switch
ERROR_INTERVAL = 1.0
#: seconds between two events about dropped frames
DROP_INTERVAL = 10.0
#: switches whose errors are reported within this interval
ERROR_LIMIT = 1024


def dropped_text(count: int) -> str:
    """That so many frames were dropped by the controller, and why that happens."""
    return (
        f"{count} frames of hosts that came to the controller were dropped: an endpoint sent more than "
        "'packet-rate' allows, or too many waited for an operation, a path or a neighbour"
    )


class EventReporter:
    """Compares the current state with that reported last, and publishes the differences."""

    def __init__(self, core: Controller) -> None:
        self._core = core
        self._state = core.state
        self._states: dict[str, dict[str, State]] = {}
        # The links that were reported as unconfirmed.
        self._unconfirmed: set[LinkEnd] = set()
        # The static links that were not up.
        self._dead: set[Edge] = set()
        self._errors: dict[int, float] = {}
        # The frames that were dropped when this was last reported, and when that was.
        self._dropped, self._dropped_at = 0, -DROP_INTERVAL

    def links(self, before: Iterable[Edge]) -> None:
        """Report the links that came or went since ``before``."""
        was, now = ({replace(e, cost=0.0) for e in edges} for edges in (before, self._state.paths.edges))
        # Static links that nothing passes are links of paths, so that they are probed, and not up.
        was -= self._dead
        self._dead = self._state.link_probes.dead()
        now -= self._dead
        for what, edges in (("down", was - now), ("up", now - was)):
            for edge in sorted(edges):
                self._link(what, edge)

    def _link(self, what: str, edge: Edge, why: str = "") -> None:
        source, destination = switch_text(edge.source), switch_text(edge.destination)
        self._core.publish(
            f"link.{what}",
            f"the link from switch {source} port {edge.source_port} to switch {destination} port "
            f"{edge.destination_port} is {what}{': ' + why if why else ''}",
            switch=source,
            port=str(edge.source_port),
        )

    def watches(self) -> bool:
        """Whether states may change only because time passes."""
        state = self._state
        return bool(
            self._unconfirmed
            or state.discovery.unconfirmed()
            or state.control.silent()
            or not all(switch.connected for switch in state.switches.values())
        )

    def _unconfirmed_links(self, report: bool) -> None:
        """Report the links that have become unconfirmed, or are confirmed again."""
        now = self._state.discovery.unconfirmed()
        if not now and not self._unconfirmed:
            return
        edges = {(edge.source, edge.source_port): edge for edge in self._state.paths.edges}
        for end in sorted(now.keys() - self._unconfirmed):
            if report and end in edges:
                self._link("unconfirmed", edges[end], now[end])
        # Those that are down were reported with the paths.
        for end in sorted(self._unconfirmed - now.keys()):
            if end in edges and self._state.discovery.is_link(*end):
                self._link("up", edges[end])
        self._unconfirmed = now.keys() & edges.keys()

    def error(self, now: float, dpid: int, text: str) -> None:
        """Report a switch's error: one of each switch in :data:`ERROR_INTERVAL`."""
        if dpid not in self._errors and len(self._errors) >= ERROR_LIMIT:
            self._errors = {d: at for d, at in self._errors.items() if now - at < ERROR_INTERVAL}
            if len(self._errors) >= ERROR_LIMIT:
                return
        if now - self._errors.get(dpid, -ERROR_INTERVAL) >= ERROR_INTERVAL:
            self._errors[dpid] = now
            name = switch_text(dpid)
            self._core.publish("switch.error", f"switch {name} answered with an error: {text}", switch=name)

    def dropped(self, now: float, total: int) -> None:
        """Report frames that were dropped, at most once in :data:`DROP_INTERVAL`. ``total``: all so far."""
        if total == self._dropped or now - self._dropped_at < DROP_INTERVAL:
            return
        count, self._dropped, self._dropped_at = total - self._dropped, total, now
        self._core.publish("frames.dropped", dropped_text(count), count=str(count))

    def states(self, now: float, report: bool = True) -> None:
        """Report the links and endpoints whose state has changed."""
        self._unconfirmed_links(report)
        networks = self._state.rulesdb.networks
        self._states = {uuid: states for uuid, states in self._states.items() if uuid in networks}
        for record in networks.values():
            self._compare(record, None, now, report)

    def change(self, change: Change, now: float) -> None:
        """Report the endpoints whose state an operation has changed. Where only some endpoints changed, only
        these are compared."""
        record = self._state.rulesdb.networks.get(change.uuid)
        if record is None:
            self._states.pop(change.uuid, None)
            return
        known = self._states.get(record.uuid)
        if known is not None:
            for gone in [u for u in change.touched if u not in record.endpoints]:
                known.pop(gone, None)
        self._compare(record, None if known is None else change.touched, now, True)

    def _compare(
        self, record: NetworkRecord, names: Collection[str] | None, now: float, report: bool
    ) -> None:
        known = self._states.setdefault(record.uuid, {})
        for attachment, state, reason in endpoint_states(self._state, record, now, names):
            uuid = attachment.endpoint.uuid
            if report and known.get(uuid, state) is not state:
                self._core.publish(
                    "endpoint.state",
                    f"endpoint {uuid} of network {record.description.name} is {state}"
                    f"{': ' + reason if reason else ''}",
                    network=record.uuid,
                    endpoint=uuid,
                    state=state,
                )
            known[uuid] = state
