"""The controller's numbers for monitoring: read from what it has anyway, when they are asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from libnetvirt.controller.engine.controller import Controller
from libnetvirt.controller.engine.state import ControllerState
from libnetvirt.controller.intent.switches import switch_text
from libnetvirt.controller.topology.pathfinder import Edge, LinkEnd
from libnetvirt.model import State
from libnetvirt.model.metrics import Measured, Measurement, by_label, measurement, of_switches, single


def measurements(core: Controller) -> Iterator[Measurement]:
    """All but the states of endpoints, and what waits or was dropped."""
    state = core.state
    yield from _switches(state)
    yield from _links(state)
    yield from _packet_ins(state)
    degraded = Counter(bool(path.degraded) for path in state.te_paths.ordered())
    yield by_label("netvirt_constraints", ((State.ACTIVE, degraded[False]), (State.DEGRADED, degraded[True])))
    yield single("netvirt_reroutes_total", core.reroute.count)
    yield single("netvirt_paths_moved_total", core.reroute.moved)


def drifted(state: ControllerState) -> set[str]:
    """The networks that another program has changed in some switch."""
    known = (*state.drift.values(), *state.pair_drift.values())
    return {uuid for found in known for drift in found for uuid in drift.networks}


def _switches(state: ControllerState) -> Iterator[Measurement]:
    silent = set(state.control.silent())
    refused = state.ownership.refused
    words = {
        dpid: "silent" if dpid in silent else "connected" if view.connected else "disconnected"
        for dpid, view in sorted(state.switches.items())
        if dpid not in refused
    }
    names = {dpid: switch_text(dpid) for dpid in words}
    yield of_switches({names[dpid]: word for dpid, word in words.items()}, len(refused))
    yield single("netvirt_switches_untrusted", len(state.trust.untrusted))
    yield by_label(
        "netvirt_switch_connected", ((names[d], float(word == "connected")) for d, word in words.items())
    )
    yield by_label("netvirt_switch_rules", ((name, len(state.installed.on(d))) for d, name in names.items()))


def _links(state: ControllerState) -> Iterator[Measurement]:
    doubts, edges = state.discovery.unconfirmed(), sorted(state.paths.edges)
    unconfirmed = sum((e.source, e.source_port) in doubts for e in edges)
    yield by_label("netvirt_links", (("up", len(edges) - unconfirmed), ("unconfirmed", unconfirmed)))
    ledger, capacities = state.te_paths.reservations, state.capacities
    yield of_links("capacity", state, capacities.capacity)
    yield of_links("reserved", state, ledger.reserved)
    yield of_links("free", state, ledger.free)


def of_links(name: str, state: ControllerState, value: Callable[[LinkEnd], float | None]) -> Measurement:
    """A rate of each direction of a link. ``value``: in bit/s, None while that is not known."""
    ends = ((_link(e), (e.source, e.source_port)) for e in sorted(state.paths.edges))
    return measurement(
        f"netvirt_link_{name}_bytes_per_second", _in_bytes((labels, value(end)) for labels, end in ends)
    )


def _link(edge: Edge) -> tuple[str, ...]:
    return (
        switch_text(edge.source), str(edge.source_port),
        switch_text(edge.destination), str(edge.destination_port),
    )  # fmt: skip


def _in_bytes(values: Iterable[tuple[tuple[str, ...], float | None]]) -> Iterator[Measured]:
    return (Measured(labels, value / 8) for labels, value in values if value is not None)


def _packet_ins(state: ControllerState) -> Iterator[Measurement]:
    records = state.rulesdb.ordered()
    yield single("netvirt_packet_ins_total", state.rulesdb.packet_ins)
    yield by_label("netvirt_network_packet_ins_total", ((r.description.name, r.packet_ins) for r in records))
    yield by_label(
        "netvirt_network_packet_ins_dropped_total", ((r.description.name, r.dropped) for r in records)
    )
    pairs = state.ondemand.count_by_network()
    yield by_label(
        "netvirt_network_pairs",
        ((r.description.name, pairs.get(r.uuid, 0)) for r in records if r.on_demand),
    )
