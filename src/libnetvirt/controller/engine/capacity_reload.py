"""CapacityReload: the operator gives links other capacities, latencies and costs while networks run.

The new values are tried first: if a constraint that is kept now would be degraded, and the caller does not
allow that, the old values are put back and nothing has happened. Otherwise paths are computed again, as after
a change of the topology.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from libnetvirt.controller.engine.reroute import Reroute
from libnetvirt.controller.engine.state import ControllerState
from libnetvirt.controller.engine.transaction import Transaction
from libnetvirt.controller.qos.capacities import Capacities
from libnetvirt.controller.qos.te_paths import ConstraintKey, TePath
from libnetvirt.errors import ConstraintUnmet

#: constraints that one error names
NAMED_LIMIT = 5


class CapacityReload:
    """Applies changed capacities, latencies and costs of links."""

    def __init__(self, state: ControllerState, reroute: Reroute) -> None:
        self._state = state
        self._reroute = reroute

    def plan(self, capacities: Capacities, degrade: bool, now: float = 0.0) -> tuple[Transaction, list[str]]:
        """Apply other values. Returns the transaction, and a line for each constraint that it moves or
        degrades.

        Raises ConstraintUnmet, with nothing changed, if a constraint that is kept now cannot be kept with
        them, unless ``degrade``.
        """
        state = self._state
        before = state.paths.topology
        known = {te_path.key: te_path for te_path in state.te_paths.ordered()}
        state.capacities.swap(capacities)
        state.discovery.declare(state.static_links().links, now)
        self._reroute.update_paths()
        plan = state.te_paths.plan_reroute()
        lost = [c for c in plan.values() if c.degraded and not known[c.key].degraded]
        if lost and not degrade:
            state.capacities.swap(capacities)
            state.discovery.declare(state.static_links().links, now)
            state.paths.update(*before)
            raise ConstraintUnmet(self._refusal(lost))
        lines = list(self._outcomes(plan.values(), known))
        transaction = self._reroute.plan(capacities=True, before=before)
        assert transaction is not None
        return transaction, lines

    def _outcomes(self, plan: Iterable[TePath], known: Mapping[ConstraintKey, TePath]) -> Iterable[str]:
        for te_path in plan:
            if not te_path.degraded:
                yield f"{self._named(te_path)} has another path"
            elif not known[te_path.key].degraded:
                yield f"{self._named(te_path)} is degraded: {te_path.degraded}"

    def _refusal(self, lost: list[TePath]) -> str:
        named = "; ".join(f"{self._named(c)}: {c.degraded}" for c in lost[:NAMED_LIMIT])
        more = f"; and {len(lost) - NAMED_LIMIT} more" if len(lost) > NAMED_LIMIT else ""
        return (
            f"with these capacities {len(lost)} of the constraints could no longer be kept: {named}{more}. "
            "Nothing was changed: ask for less, or allow them to be degraded with 'netvirt reload --degrade'"
        )

    def _named(self, te_path: TePath) -> str:
        return f"{te_path} of network {self._state.rulesdb.networks[te_path.key[0]].description.name}"
