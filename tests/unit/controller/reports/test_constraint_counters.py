"""Carried and dropped traffic of constraints, from the counters of switches."""

from __future__ import annotations

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.engine.controller import Options
from libnetvirt.controller.intent.rulesdb import NetworkRecord
from libnetvirt.controller.reports import constraint_counters
from libnetvirt.model import Constraint
from tests.support.controller_rig import BROADCAST, VLAN, Rig, endpoint, frame, line, mac, network


def constrained(*asked: dict[str, object]) -> tuple[Rig, NetworkRecord]:
    """Hosts 1 to 3 at switches 1 to 3, in a network with constraints."""
    rig = Rig(Options(VLAN, capacities='capacity = "100 Mbit/s"'))
    line(rig, 3)
    rig.change(None, network(1, *(endpoint(n, n, 3) for n in (1, 2, 3))))
    for n in (1, 2, 3):
        rig.check(n, 3, frame(BROADCAST, mac(n)))
    (before,) = rig.networks
    rig.change(before, before.changed(constraints=tuple(map(Constraint.model_validate, asked))))
    return rig, rig.state.rulesdb.networks["1"]


def seen(
    rig: Rig, dpid: int, when: float, packets: int, dropped: int = 0
) -> constraint_counters.SwitchCounters:
    """As if each rule and meter of a switch had met so many packets of 100 bytes."""
    dump = rig.fabric.switches[dpid].dump()
    flows = [
        of.FlowStatsEntry(
            table_id=f.table_id, priority=f.priority, match=f.match, cookie=f.cookie,
            packet_count=packets, byte_count=100 * packets,
        )
        for f in dump.flows
    ]  # fmt: skip
    bands = (of.BandStats(dropped, 100 * dropped),)
    meters = [of.MeterStatsEntry(m.meter_id, 0, packets, 100 * packets, bands=bands) for m in dump.meters]
    assert any(m.meter_id in pipeline.METERS for m in meters)
    return constraint_counters.SwitchCounters(when, flows, meters)


def test_counters_come_from_meters_or_else_from_rules() -> None:
    rig, entry = constrained(
        {"source": 1, "destination": 3, "min-bandwidth": "1 Mbit/s"},
        {"source": 1, "destination": 2, "max-hops": 2},
    )
    assert constraint_counters.sources(rig.state, entry) == {1}
    before = constraint_counters.tallies(rig.state, entry, {1: seen(rig, 1, 10.0, 50, 20)})
    after = constraint_counters.tallies(rig.state, entry, {1: seen(rig, 1, 12.0, 150, 20)})
    counted = {(c.source, c.destination): c for c in constraint_counters.rates(before, after)}
    metered, ruled = counted["1", "3"], counted["1", "2"]
    assert (metered.packets, metered.bytes) == (130, 13_000)
    assert (metered.dropped_packets, metered.dropped_bytes) == (20, 2_000)
    assert (ruled.packets, ruled.bytes, ruled.dropped_packets) == (150, 15_000, 0)
    assert metered.rate == ruled.rate == 100 * 100 * 8 // 2
    assert metered.window == 2.0


def test_missing_statistics_give_a_rate_of_zero() -> None:
    rig, entry = constrained({"source": 2, "destination": 3, "min-bandwidth": "1 Mbit/s"})
    known = constraint_counters.tallies(rig.state, entry, {2: seen(rig, 2, 10.0, 50)})
    silent = constraint_counters.tallies(rig.state, entry, {})
    for before, after in ((known, silent), (silent, known), ({}, known)):
        (counted,) = constraint_counters.rates(before, after)
        assert (counted.rate, counted.window) == (0, 0.0)
    # Counted again in between: not a negative rate.
    fewer = constraint_counters.tallies(rig.state, entry, {2: seen(rig, 2, 11.0, 5)})
    (counted,) = constraint_counters.rates(known, fewer)
    assert (counted.packets, counted.rate, counted.window) == (5, 0, 1.0)
