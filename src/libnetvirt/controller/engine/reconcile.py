"""Reconciler: makes the entries of a switch the expected ones, whatever they are now.

A switch that connects is never wiped. It reports its entries (a `SwitchSnapshot`), and `reconcile` plans one
change from them: missing entries are added, wrong ones modified, surplus ones removed. Entries without our
cookie are not touched. The same is done for a switch that failed in the middle of a change, since it may have
carried out any part of the change.

A snapshot also shows the hosts that an earlier run of the controller had learned
(:class:`~libnetvirt.controller.engine.warm_restart.WarmRestart`): they are learned first, so that their rules
are expected entries.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import Flow, delete_message
from libnetvirt.controller.dataplane.installed import Delta, SwitchSnapshot, delete_network, delete_pair_flows
from libnetvirt.controller.dataplane.pipeline import Kind
from libnetvirt.controller.engine.constraints import ConstraintService
from libnetvirt.controller.engine.state import ControllerState
from libnetvirt.controller.engine.transaction import Transaction
from libnetvirt.controller.engine.units import UnitCompiler
from libnetvirt.controller.engine.warm_restart import WarmRestart
from libnetvirt.controller.ondemand.flows import PairFlows


class Reconciler:
    """Compares switches with their expected entries."""

    def __init__(
        self,
        state: ControllerState,
        units: UnitCompiler,
        constraints: ConstraintService,
        restart: WarmRestart,
    ) -> None:
        self._state = state
        self._units = units
        self._constraints = constraints
        self._restart = restart

    def reconcile(self, dpid: int, snapshot: SwitchSnapshot) -> Transaction:
        """Plan the changes that give a switch its expected entries. Its ports may require changes of other
        switches, too."""
        state, delta = self._state, Delta()
        self._units.compile_base(dpid, delta)
        affected = state.rulesdb.bind_ports(state.switches[dpid])
        state.ondemand.changed()
        for record in affected:
            names = [b.endpoint.uuid for b in record.on(dpid)]
            self._constraints.recompile_endpoints(record, names, delta)
        self._constraints.police_links(delta)
        self._restart.learn(dpid, snapshot)
        for record in affected:
            self._units.compile_on(record, (dpid,), record.on(dpid), delta)
        state.installed.keep_reclaimed(delta)
        difference = state.installed.compare(dpid, snapshot)
        effects = self._restart.compared(dpid, difference.remove.get(dpid, []))
        _replace_part(delta, dpid, difference)
        plan = delta.plan()
        expected = list(state.ondemand.expected(dpid))
        stale = self._stale_pairs(snapshot, {flow.key for _, flow in expected})
        if stale:
            plan.rounds.append({dpid: stale})
        self._drop_broken_pairs(snapshot, expected)
        self._restart.conclude()
        return Transaction(plan, None, effects=effects)

    def turn_back(self, snapshots: Mapping[int, SwitchSnapshot], undone: Transaction) -> Transaction:
        """Plan what makes the switches of a move that was undone send to the old place again, in the same
        order as the move itself: receive, send, admit. They keep what else they have: `reconcile` removes it
        when no frame uses it any more."""
        delta = Delta()
        for dpid, snapshot in snapshots.items():
            difference = self._state.installed.compare(dpid, snapshot)
            delta.put.update(difference.put)
            delta.change.update(difference.change)
        return Transaction(delta.plan(), undone.networks, left=undone.left)

    def rebind(self, dpid: int) -> Transaction:
        """Attach the endpoints of a switch again: its ports were added, removed or renamed."""
        state, delta = self._state, Delta()
        state.ondemand.changed()
        for record in state.rulesdb.bind_ports(state.switches[dpid]):
            names = [b.endpoint.uuid for b in record.on(dpid)]
            self._constraints.recompile_endpoints(record, names, delta)
            self._units.compile_on(record, (dpid,), record.on(dpid), delta)
            state.ondemand.remove_endpoints(record.uuid, names)
        state.installed.keep_reclaimed(delta)
        return Transaction(delta.plan(), None)

    def _stale_pairs(self, snapshot: SwitchSnapshot, expected: Collection[object]) -> list[of.Message]:
        """Removals of on-demand rules that nothing looks after: of networks that are gone, of pairs that
        changed while the switch was away, or of an earlier run when the substrate was different.

        ``expected``: the keys of the rules that the switch should hold.
        """
        stale: dict[int, of.Message] = {}
        single: list[of.Message] = []
        for flow in snapshot.flows:
            kind = flow.cookie & 0xFFFF
            if not pipeline.is_ours(flow.cookie) or kind not in (Kind.PATH, Kind.QUIET):
                continue
            index = pipeline.cookie_network(flow.cookie)
            record = self._state.rulesdb.by_index.get(index)
            if record is None:
                stale[index] = delete_network(flow.cookie)
            elif kind == Kind.QUIET:
                continue
            elif not record.on_demand:
                stale[index] = delete_pair_flows(index)
            elif self._restart.stale or flow.flags & of.FlowModFlags.SEND_FLOW_REM:
                held = Flow(flow.table_id, flow.priority, flow.match, flow.instructions, flow.cookie)
                if held.key not in expected:
                    single.append(delete_message(held))
        return [*stale.values(), *single]

    def _drop_broken_pairs(
        self, snapshot: SwitchSnapshot, expected: Iterable[tuple[PairFlows, Flow]]
    ) -> None:
        """Drop the pairs whose entries on a switch are not the expected ones."""
        held: dict[object, tuple[of.Instruction, ...]] = {
            (f.table_id, f.priority, f.match): f.instructions for f in snapshot.flows
        }
        broken = {route for route, flow in expected if held.get(flow.key) != flow.instructions}
        self._state.ondemand.remove_where(broken.__contains__)


def _replace_part(delta: Delta, dpid: int, difference: Delta) -> None:
    """Replace the part of a delta for one switch, the change of its expected entries, with the difference
    from the entries that it has."""
    for part in (delta.put, delta.change):
        for key in [key for key in part if key[1] == dpid]:
            del part[key]
    delta.remove.pop(dpid, None)
    delta.put.update(difference.put)
    delta.change.update(difference.change)
    delta.remove.update(difference.remove)
