"""DeferredRemovals: entries that are no longer expected, and stay on switches until no frame uses them.

Switches go on using cached flows for a moment after they have confirmed other rules, and frames are under
way. So the removals of what delivers such frames wait for `LINGER` seconds. They wait no longer when the
network itself or the endpoint that has moved is removed, and when another endpoint takes a place where they
deliver.
"""

from __future__ import annotations

from collections.abc import Callable

from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import Flow, SwitchEntry
from libnetvirt.controller.dataplane.installed import Plan
from libnetvirt.controller.dataplane.pipeline import Table
from libnetvirt.controller.engine.state import ControllerState
from libnetvirt.controller.engine.transaction import Transaction
from libnetvirt.model import Encapsulation


class DeferredRemovals:
    """The transactions whose deferred removals are not carried out yet, and the plans that do so."""

    def __init__(self, state: ControllerState) -> None:
        self._state = state
        #: oldest first
        self.transactions: list[Transaction] = []

    def add(self, transaction: Transaction) -> None:
        """Take the deferred removals of a transaction that has been carried out."""
        self.transactions.append(transaction)

    def concerns(self, uuid: str) -> bool:
        """Whether deferred removals of an operation on this network are left."""
        return any(uuid in (transaction.networks or ()) for transaction in self.transactions)

    def is_awaited(self, transaction: Transaction) -> bool:
        """Whether a switch may still send into the old paths of a reroute, which therefore have to stay."""
        return not transaction.awaited.isdisjoint(self._state.doubted)

    def due(self, transaction: Transaction) -> Plan:
        """All that is left of a transaction's deferred removals, which have waited long enough. Call its
        ``cleanup`` when the plan is carried out."""
        self.transactions.remove(transaction)
        return self._take(transaction)

    def overtaken(self) -> Plan:
        """The removals that have to precede any further rule, because another endpoint is by now at a place
        where they deliver. Groups and meters stay: flows that are expected again may not have left them."""
        plan = Plan()
        for transaction in self.transactions:
            if self._is_overtaken(transaction):
                plan.rounds += self._take(transaction, lambda _, e: isinstance(e, Flow)).rounds
                transaction.left.clear()
        return plan

    def unneeded(self) -> Plan:
        """The removals for networks and for moved endpoints that are gone by now, and, after a reroute, for
        tunnels that no network uses any more."""
        plan = Plan()
        for transaction in self.transactions:
            if transaction.networks is None:
                plan.rounds += self._unused(transaction).rounds
            elif self._state.rulesdb.networks.keys().isdisjoint(transaction.networks):
                plan.rounds += self._take(transaction).rounds
            elif self._is_gone(transaction):
                plan.rounds += self._take(transaction, lambda _, e: isinstance(e, Flow)).rounds
                transaction.left.clear()
        return plan

    def _take(
        self, transaction: Transaction, condition: Callable[[int, SwitchEntry], bool] = lambda *_: True
    ) -> Plan:
        now = transaction.deferred.split_off(condition)
        self._state.installed.take_up(now)
        return now.plan()

    def _is_overtaken(self, transaction: Transaction) -> bool:
        networks, by_point = transaction.networks or (), self._state.rulesdb.by_point
        for point, endpoint in transaction.left.items():
            holder = by_point.get(point)
            if holder is not None and (holder.uuid != endpoint or holder.network.uuid not in networks):
                return True
        return False

    def _is_gone(self, transaction: Transaction) -> bool:
        """Whether an endpoint that has moved was removed since."""
        known = self._state.rulesdb.networks
        ends = {uuid for n in transaction.networks or () if n in known for uuid in known[n].endpoints}
        return not ends.issuperset(transaction.left.values())

    def _unused(self, transaction: Transaction) -> Plan:
        state = self._state
        owners = dict(transaction.replaced)
        for kind, space in state.labels.spaces.items():
            owners |= {(kind, space.tunnel(egress).label): egress for egress in space.tunnels()}
        needed = {label for label, egress in owners.items() if state.tunnel_users[label[0]].used(egress)}

        def is_needed(flow: Flow) -> bool:
            if flow.table == Table.TUNNEL and not pipeline.cookie_network(flow.cookie):
                return _label(flow) in needed
            return pipeline.cookie_network(flow.cookie) in state.rulesdb.by_index

        return self._take(transaction, lambda _, e: isinstance(e, Flow) and not is_needed(e))


def is_path(entry: SwitchEntry) -> bool:
    """Whether an entry belongs to a path between switches, where frames may be under way."""
    return isinstance(entry, Flow) and entry.table in (Table.TUNNEL, Table.PATH)


def _label(flow: Flow) -> tuple[Encapsulation, int]:
    """The outer label that a rule of table *tunnel* matches."""
    if flow.match.get("mpls_label") is not None:
        return Encapsulation.MPLS, flow.match.value("mpls_label")
    return Encapsulation.VLAN, flow.match.value("vlan_vid") & 0xFFF
