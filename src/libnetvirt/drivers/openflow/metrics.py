"""What is read for monitoring: the controller's numbers, and those of its runtime; and what is not ready."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from libnetvirt.controller.intent.switches import switch_text
from libnetvirt.controller.reports import metrics
from libnetvirt.drivers.openflow.runtime import Runtime
from libnetvirt.model import State
from libnetvirt.model.metrics import Measurement, by_label, of_states, single
from libnetvirt.model.report import whole_states

#: switches that are named as missing
NAMED_LIMIT = 20


def states(runtime: Runtime) -> Mapping[str, State]:
    """The state of each network, by uuid."""
    known = {uuid: states.values() for uuid, states in runtime.reporter.known.items()}
    return whole_states(known, metrics.drifted(runtime.core.state))


def measurements(runtime: Runtime) -> Iterator[Measurement]:
    """All metrics that the driver has."""
    states = {uuid: states.values() for uuid, states in runtime.reporter.known.items()}
    yield from of_states(states, metrics.drifted(runtime.core.state))
    yield from metrics.measurements(runtime.core)
    yield metrics.of_links("load", runtime.core.state, lambda end: runtime.link_loads.load(*end))
    yield by_label("netvirt_packet_ins_dropped_total", runtime.dispatcher.dropped_by_reason.items())
    queues = {**runtime.dispatcher.waiting, "operations": runtime.executor.lock.waiting}
    yield by_label("netvirt_queue_depth", queues.items())
    yield single("netvirt_store_commits_total", runtime.persistence.commits)
    yield single("netvirt_events_lost_total", runtime.events.lost)


async def readiness(runtime: Runtime) -> Sequence[str]:
    """Why the connection is not ready, a sentence each."""
    if runtime.executor.closed:
        return ("the connection is closed",)
    reasons = [reason] if (reason := await runtime.persistence.trouble()) else []
    state = runtime.core.state
    needed = {dpid for record in state.rulesdb for dpid in record.by_switch}
    missing = sorted(dpid for dpid in needed if not state.control.is_present(dpid))
    for dpid in missing[:NAMED_LIMIT]:
        refused = state.ownership.refused.get(dpid)
        why = f"is refused: {refused}" if refused else _why(runtime, dpid)
        reasons.append(f"switch {switch_text(dpid)}, which networks need, {why}")
    if len(missing) > NAMED_LIMIT:
        reasons.append(f"{len(missing) - NAMED_LIMIT} more switches, which networks need, are not there")
    return reasons


def _why(runtime: Runtime, dpid: int) -> str:
    if runtime.core.state.control.is_connected(dpid):
        return "does not answer"
    failure = runtime.backoff.waiting(runtime.now()).get(dpid)
    return f"is not connected{f': {failure.reason}' if failure else ''}"
