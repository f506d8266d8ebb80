"""What an operation would change: it is planned as it would be, in a copy of this process."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping

from libnetvirt.controller.dataplane.entries import EntryKey, PlacedEntry
from libnetvirt.controller.engine.controller import Controller
from libnetvirt.controller.intent.switches import switch_text
from libnetvirt.controller.qos.capacities import Capacities
from libnetvirt.controller.qos.te_paths import ConstraintKey, TePath
from libnetvirt.driver import Change
from libnetvirt.drivers.openflow.execution.process_copy import CopyFailed, in_copy
from libnetvirt.errors import NetvirtError, StaleChange, SubstrateError, from_json
from libnetvirt.model import Forecast, ReservationChange, RuleChanges
from libnetvirt.model.forecast import forecast

log = logging.getLogger(__name__)

TePathsByKey = Mapping[ConstraintKey, TePath]
_Expected = Mapping[int, Mapping[EntryKey, PlacedEntry]]


async def foresee(core: Controller, change: Change, te_paths: TePathsByKey) -> Forecast:
    """The forecast of a change that was admitted, with the paths of its constraints. Raises StaleChange, and
    what planning raises: LabelsExhausted."""
    record = core.state.rulesdb.networks.get(change.uuid)
    known = record.description if record else None
    if known is not change.before and known != change.before:
        raise StaleChange(f"network {change.uuid} was changed by another client meanwhile: read it again")
    try:
        reply = json.loads(await in_copy(lambda: _planned(core, change, te_paths)))
    except CopyFailed as failure:
        log.warning("the rules of an operation cannot be forecast: %s", failure)
        return forecast(change.before, change.after)
    if "error" in reply:
        raise from_json(reply["error"])
    return forecast(
        change.before,
        change.after,
        tuple(RuleChanges.model_validate(one) for one in reply["rules"]),
        tuple(ReservationChange.model_validate(one) for one in reply["reservations"]),
    )


async def foresee_reload(core: Controller, capacities: Capacities, degrade: bool) -> list[str]:
    """What other capacities of links would do to constraints, one line each. Raises ConstraintUnmet,
    SubstrateError."""

    def planned() -> bytes:
        try:
            _, lines = core.capacity_reload.plan(capacities, degrade)
        except NetvirtError as error:
            return json.dumps({"error": error.to_json()}).encode()
        return json.dumps({"lines": lines}).encode()

    try:
        reply = json.loads(await in_copy(planned))
    except CopyFailed as failure:
        raise SubstrateError(f"what a reload would change cannot be told: {failure}") from None
    if "error" in reply:
        raise from_json(reply["error"])
    return list(reply["lines"])


def _planned(core: Controller, change: Change, te_paths: TePathsByKey) -> bytes:
    """Plan a change in the controller's state, and tell what that has changed, in JSON."""
    state = core.state
    before = {dpid: dict(state.installed.on(dpid)) for dpid in state.installed.switches()}
    paths = dict(state.te_paths.of(change.uuid))
    try:
        core.operations.begin(change.before, change.after, change.touched, te_paths)
    except NetvirtError as error:
        return json.dumps({"error": error.to_json()}).encode()
    after = {dpid: state.installed.on(dpid) for dpid in state.installed.switches()}
    found = {
        "rules": [one.to_json() for one in _rules(before, after)],
        "reservations": [one.to_json() for one in _reservations(paths, state.te_paths.of(change.uuid))],
    }
    return json.dumps(found).encode()


def _rules(before: _Expected, after: _Expected) -> Iterator[RuleChanges]:
    for dpid in sorted(before.keys() | after.keys()):
        old, new = before.get(dpid, {}), after.get(dpid, {})
        one = RuleChanges(
            switch=switch_text(dpid),
            added=len(new.keys() - old.keys()),
            changed=sum(
                placed is not old[key] and placed.entry != old[key].entry
                for key, placed in new.items()
                if key in old
            ),
            removed=len(old.keys() - new.keys()),
        )
        if one.added or one.changed or one.removed:
            yield one


def _reservations(before: TePathsByKey, after: TePathsByKey) -> Iterator[ReservationChange]:
    for key in [*before, *(key for key in after if key not in before)]:
        old, new = before.get(key), after.get(key)
        was, now = (old.bits if old else 0), (new.bits if new else 0)
        if was == now and (old and old.links) == (new and new.links):
            continue
        switches: tuple[str, ...] = ()
        if new is not None and not new.degraded:
            switches = tuple(map(switch_text, (new.ends[0], *(edge.destination for edge in new.edges))))
        yield ReservationChange(source=key[1], destination=key[2], before=was, after=now, switches=switches)
