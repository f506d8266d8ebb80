"""CapacityReload: the operator says anew what links can carry, while networks run."""

from __future__ import annotations

from libnetvirt.controller.engine.reconcile import TopologyEvents
from libnetvirt.controller.engine.state import Transaction
from libnetvirt.controller.qos.capacities import Capacities
from libnetvirt.controller.qos.te_paths import TePath
from libnetvirt.errors import ConstraintUnmet

#: constraints that one error names
MOST_NAMED = 5


class CapacityReload(TopologyEvents):
    """Takes other capacities, latencies and costs of links."""

    def reload_capacities(self, said: Capacities, degrade: bool) -> tuple[Transaction, list[str]]:
        """Take what the operator says of links now. Returns what switches have to be told, and what becomes
        of constraints, one line each.

        Raises ConstraintUnmet, with nothing changed, if what is kept could be kept no more and may not
        ``degrade``.
        """
        edges, known = self.paths.edges, {te_path.key: te_path for te_path in self.te_paths.ordered()}
        self.capacities.swap(said)
        self.paths.update(self._usable_edges())
        plan = self.te_paths.plan_reroute()
        lost = [c for c in plan.values() if c.degraded and not known[c.key].degraded]
        if lost and not degrade:
            self.capacities.swap(said)
            self.paths.update(edges)
            raise ConstraintUnmet(self._refusal(lost))
        lines = [
            f"{self._named(c)} {'is degraded: ' + c.degraded if c.degraded else 'has another path'}"
            for c in plan.values()
            if not (c.degraded and known[c.key].degraded)
        ]
        self.capacities_changed = True
        work = self.reroute()
        assert work is not None
        return work, lines

    def _refusal(self, lost: list[TePath]) -> str:
        most = "; ".join(f"{self._named(c)}: {c.degraded}" for c in lost[:MOST_NAMED])
        more = f"; and {len(lost) - MOST_NAMED} more" if len(lost) > MOST_NAMED else ""
        return (
            f"with these capacities {len(lost)} of the constraints that are kept could be kept no more: "
            f"{most}{more}. Nothing was changed: ask for less, or let them be degraded with 'netvirt reload "
            "--degrade'"
        )

    def _named(self, te_path: TePath) -> str:
        return f"{te_path} of network {self.rulesdb.networks[te_path.key[0]].description.name}"
