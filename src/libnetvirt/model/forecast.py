"""The forecast of an operation: what it would change, in the network and in the switches."""

from __future__ import annotations

from libnetvirt.model.differences import applied
from libnetvirt.model.network import VirtualNetwork
from libnetvirt.model.report import Applied, Outcome, Report


class RuleChanges(Report):
    """How many rules (flow entries, groups and meters) an operation adds, changes and removes in a switch."""

    switch: str
    added: int = 0
    changed: int = 0
    removed: int = 0


class ReservationChange(Report):
    """What a constraint reserves on each link of its path, in bit/s, before and after an operation.

    ``switches``: those of the path after it, from the source on; empty if there is none.
    """

    source: str
    destination: str
    before: int = 0
    after: int = 0
    switches: tuple[str, ...] = ()


class Forecast(Applied):
    """What an operation would change. ``outcome`` and ``changes``: as of :class:`Applied`, also ``removed``.

    ``rules``: by switch, those with changes only; None if the driver cannot tell. Rules of on-demand pairs of
    hosts are not among them. ``reservations``: of the constraints whose path or reservation changes.
    """

    rules: tuple[RuleChanges, ...] | None = None
    reservations: tuple[ReservationChange, ...] = ()


def forecast(
    before: VirtualNetwork | None,
    after: VirtualNetwork | None,
    rules: tuple[RuleChanges, ...] | None = None,
    reservations: tuple[ReservationChange, ...] = (),
) -> Forecast:
    """The forecast of a change from one description (None: no network) to another (None: it is removed)."""
    if after is None:
        assert before is not None
        found = Applied(uuid=before.uuid, name=before.name, outcome=Outcome.REMOVED)
    else:
        found = applied(before, after)
    return Forecast(
        uuid=found.uuid,
        name=found.name,
        outcome=found.outcome,
        changes=found.changes,
        rules=rules,
        reservations=reservations,
    )
