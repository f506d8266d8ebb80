"""WarmRestart: learns from the entries that an earlier run of the controller left on switches.

A controller that is killed leaves its rules on the switches, and they go on forwarding. The next run computes
the same rules from the store, but the store has no learned hosts, no neighbours and no rules of on-demand
pairs. Those are learned from the switches, one after the other, as they connect:

- a rule that was made for a host or a neighbour says where that host is;
- the first rule of an on-demand pair makes it an adopted pair
  (:class:`~libnetvirt.controller.ondemand.adoption.Adoption`), which is kept once every switch of its path
  is known to hold its part;
- a rule that leads to an unknown host may lead to a host that is learned from a switch yet to connect. Such
  surplus is spared, and the switch is compared once more when all switches have connected.

The wait is bounded: after ``hold`` seconds, switches that have not connected are given up (`tick`). If the
substrate changes after the start, the pairs of the earlier run are removed, because only their first rule is
known, and their paths may be broken (`substrate_changed`).
"""

from __future__ import annotations

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import Flow, SwitchEntry
from libnetvirt.controller.dataplane.installed import SwitchSnapshot
from libnetvirt.controller.dataplane.pipeline import Kind, Table
from libnetvirt.controller.engine.effects import NOTHING, Effects
from libnetvirt.controller.engine.state import ControllerState
from libnetvirt.controller.intent.rulesdb import Attachment, NetworkRecord
from libnetvirt.controller.ondemand.adoption import Adoption
from libnetvirt.controller.ondemand.flows import Wire
from libnetvirt.controller.rules.routing import is_routed, neighbour_of_rule


class WarmRestart:
    """Learns from the rules of an earlier run."""

    def __init__(self, state: ControllerState, wire: Wire) -> None:
        self._state = state
        self._adoption = Adoption(wire, state.rulesdb, state.locator, state.ondemand)
        # When the controller was started, and whether that is more than `hold` seconds ago.
        self._started = 0.0
        self._hold_over = False
        # Whether the substrate differs from when the controller was started.
        self._stale = False
        # The switches that were compared in this run, and those of them with surplus that was spared.
        self._compared: set[int] = set()
        self._spared: set[int] = set()

    def start(self, now: float) -> None:
        """The controller is started; switches connect from now on."""
        self._started = now

    def end_hold(self) -> None:
        """Spare no surplus entry from now on, as if all switches had connected."""
        self._hold_over = True

    def tick(self, now: float) -> Effects:
        """Call once per LLDP interval."""
        if self._hold_over or now - self._started <= self._state.options.hold:
            return NOTHING
        self.end_hold()
        self._adoption.resolve(self._compared, waited=True)
        return self._compare_spared()

    @property
    def stale(self) -> bool:
        """Whether the rules of an earlier run's pairs were made for another substrate."""
        return self._stale

    def substrate_changed(self) -> None:
        """A link is gone or a switch has lost its rules: paths that an earlier run made may lead nowhere."""
        self._stale = True
        self._state.ondemand.remove_where(lambda route: route.downstream is None)

    # ---- one switch ----------------------------------------------------------------------------

    def learn(self, dpid: int, snapshot: SwitchSnapshot) -> None:
        """Learn hosts, neighbours and pairs from the rules that a switch holds."""
        if not any(pipeline.is_ours(flow.cookie) for flow in snapshot.flows):
            self.substrate_changed()
        self._adoption.add_found(dpid, self._pairs(snapshot), dpid in self._compared)
        for flow in snapshot.flows:
            record = self._state.rulesdb.by_index.get(pipeline.cookie_network(flow.cookie))
            if record is None:
                continue
            kind = flow.cookie & 0xFFFF
            if kind == Kind.NEIGHBOUR and is_routed(record):
                self._learn_neighbour(dpid, record, flow)
            elif kind == Kind.HOST and not record.on_demand:
                self._learn_host(dpid, record, flow)
            elif kind == Kind.PATH and record.on_demand:
                self._learn_pair(dpid, record, flow)

    def compared(self, dpid: int, surplus: list[SwitchEntry]) -> Effects:
        """Record that a switch was compared with its expected entries: its pairs can be kept or removed.

        ``surplus``: its entries that are not expected. Those that may lead to hosts not yet learned are taken
        out of it.
        """
        effects = NOTHING
        if self._spare(surplus):
            self._spared.add(dpid)
        elif self._spared and not self._awaited():
            effects = self._compare_spared()
        self._compared.add(dpid)
        return effects

    def adopts(self, index: int) -> bool:
        """Whether pairs of an earlier run may be kept in the network with this index."""
        return self._adoption.awaits(index)

    def remove_switch(self, dpid: int) -> None:
        """Remove the records about a switch that belongs to no network."""
        self._compared.discard(dpid)
        self._spared.discard(dpid)

    def conclude(self) -> None:
        """Decide about the pairs of those networks of which all switches were compared."""
        self._adoption.resolve(self._compared, self._hold_over)

    # ---- spared surplus ------------------------------------------------------------------------

    def _spare(self, surplus: list[SwitchEntry]) -> bool:
        """Take the entries out of a switch's surplus that may lead to hosts of switches yet to connect.

        Returns whether there was any.
        """
        kept = [e for e in surplus if not (isinstance(e, Flow) and self.spares(e))]
        spared = len(kept) < len(surplus)
        surplus[:] = kept
        return spared

    def spares(self, flow: Flow) -> bool:
        """Whether a rule that is not expected may lead to a host of a switch yet to connect."""
        record = self._state.rulesdb.by_index.get(pipeline.cookie_network(flow.cookie))
        # The switch of a declared host is known, but not its port before that switch has connected.
        leads_to_host = flow.cookie & 0xFFFF in (Kind.HOST, Kind.DECLARED)
        if record is None or not leads_to_host or flow.table == Table.SOURCE:
            return False
        return not self._hold_over and not all(dpid in self._state.switches for dpid in record.by_switch)

    def _awaited(self) -> set[int]:
        """The switches of networks that have yet to connect."""
        return {d for record in self._state.rulesdb for d in record.by_switch} - self._state.switches.keys()

    def _compare_spared(self) -> Effects:
        spared, self._spared = frozenset(self._spared), set()
        return Effects(compare=spared)

    # ---- what a rule tells ---------------------------------------------------------------------

    def _learn_host(self, dpid: int, record: NetworkRecord, flow: of.FlowStatsEntry) -> None:
        source = self._source(dpid, record, flow)
        if source is not None:
            attachment, mac = source
            # A host that is known elsewhere has moved while the switch was away.
            if self._state.locator.find(record.uuid, mac) is None:
                self._state.locator.learn(record.uuid, attachment.endpoint.uuid, mac)

    def _learn_pair(self, dpid: int, record: NetworkRecord, flow: of.FlowStatsEntry) -> None:
        source = self._source(dpid, record, flow)
        if source is None:
            return
        attachment, mac = source
        known = self._state.locator.find(record.uuid, mac)
        if known is None:
            self._state.locator.learn(record.uuid, attachment.endpoint.uuid, mac)
        elif known.endpoint != attachment.endpoint.uuid:
            return
        if self._stale or dpid in self._compared:
            # It was made for another substrate than there is now; or by this run, which has dropped it while
            # the switch was away.
            return
        first = Flow(flow.table_id, flow.priority, flow.match, flow.instructions, flow.cookie, notify=True)
        self._state.ondemand.adopt(dpid, attachment, first)

    def _source(
        self, dpid: int, record: NetworkRecord, flow: of.FlowStatsEntry
    ) -> tuple[Attachment, int] | None:
        """The endpoint and the MAC address of the host that a rule was made for."""
        metadata = flow.match.get("metadata")
        if not isinstance(metadata, int) or not metadata:
            return None
        port, mac = flow.match.value("in_port"), flow.match.value("eth_src")
        if not mac or not port:
            return None
        attachment = self._state.rulesdb.at(dpid, port, metadata & pipeline.METADATA_TAG)
        if attachment is None or attachment.network is not record:
            return None
        return attachment, mac

    def _learn_neighbour(self, dpid: int, record: NetworkRecord, flow: of.FlowStatsEntry) -> None:
        """It is asked again when the earlier run would have asked it."""
        found = neighbour_of_rule(flow)
        plan = self._state.address_plan(record)
        attachment = record.endpoints.get(plan.connected_endpoint(found.address)) if found else None
        if found is None or attachment is None or attachment.dpid != dpid:
            return
        key = (record.uuid, attachment.endpoint.uuid, found.address)
        if self._state.neighbours.find(*key) is None:
            due = self._started + self._state.options.host_age
            self._state.neighbours.learn(*key, found.mac, due)

    def _pairs(self, snapshot: SwitchSnapshot) -> dict[int, list[of.FlowStatsEntry]]:
        """The rules that a switch holds of pairs of on-demand networks, by network index."""
        pairs: dict[int, list[of.FlowStatsEntry]] = {}
        for flow in snapshot.flows:
            if flow.cookie & 0xFFFF == Kind.PATH:
                pairs.setdefault(pipeline.cookie_network(flow.cookie), []).append(flow)
        by_index = self._state.rulesdb.by_index
        return {i: flows for i, flows in pairs.items() if i in by_index and by_index[i].on_demand}
