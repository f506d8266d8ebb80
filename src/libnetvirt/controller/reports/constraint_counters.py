"""Constraint counters: what constraints carry and drop, computed from the counters of switches. Pure.

If a constraint has a meter, the meter counts all of its traffic. Otherwise its flow entries do, each of which
is lost when its host expires. Both are at the switch of the source, before frames are encapsulated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane.entries import Flow
from libnetvirt.controller.dataplane.installed import Unit
from libnetvirt.controller.engine.state import ControllerState
from libnetvirt.controller.intent.rulesdb import NetworkRecord
from libnetvirt.controller.qos.te_paths import ConstraintKey, TePath
from libnetvirt.model import ConstraintCounters

#: seconds between the two readings that a rate is computed from
WINDOW = 1.0


@dataclass(frozen=True, slots=True)
class SwitchCounters:
    """Flow and meter counters that a switch reported, and when (seconds)."""

    time: float
    flows: Iterable[of.FlowStatsEntry] = ()
    meters: Iterable[of.MeterStatsEntry] = ()


@dataclass(slots=True)
class Tally:
    """Packets and bytes that one constraint has carried and dropped, read at a time."""

    time: float = 0.0
    carried: list[int] = field(default_factory=lambda: [0, 0])
    dropped: list[int] = field(default_factory=lambda: [0, 0])


def sources(state: ControllerState, record: NetworkRecord) -> frozenset[int]:
    """The switches that count for a network's constraints."""
    return frozenset(te_path.ends[0] for te_path in state.te_paths.of(record.uuid).values())


def tallies(
    state: ControllerState, record: NetworkRecord, answers: Mapping[int, SwitchCounters]
) -> dict[ConstraintKey, Tally]:
    """The tally of each constraint of a network. It stays 0 if the switch of its source reported nothing."""
    flows = {(d, f.table_id, f.priority, f.match): f for d, answer in answers.items() for f in answer.flows}
    meters = {(d, m.meter_id): m for d, answer in answers.items() for m in answer.meters}
    found = {}
    for key, te_path in state.te_paths.of(record.uuid).items():
        start = te_path.ends[0]
        tally = found[key] = Tally(answers[start].time if start in answers else 0.0)
        number = state.steering.meter(te_path)
        if number is not None and (metered := meters.get((start, number))) is not None:
            _add(tally.carried, metered.packet_count, metered.byte_count)
            for band in metered.bands:
                _add(tally.dropped, band.packet_count, band.byte_count)
                _add(tally.carried, -band.packet_count, -band.byte_count)
        elif number is None:
            for rule in _steering_rules(state, record, te_path):
                if (flow := flows.get((start, *rule))) is not None:
                    _add(tally.carried, flow.packet_count, flow.byte_count)
    return found


def rates(
    before: Mapping[ConstraintKey, Tally], after: Mapping[ConstraintKey, Tally]
) -> list[ConstraintCounters]:
    """Counters as in ``after``, with the rate in bit/s since ``before``."""
    found = []
    for key, now in after.items():
        was = before.get(key)
        window = now.time - was.time if was is not None and was.time and now.time else 0.0
        carried = max(0, now.carried[1] - was.carried[1]) if was is not None else 0
        found.append(
            ConstraintCounters(
                source=key[1],
                destination=key[2],
                packets=now.carried[0],
                bytes=now.carried[1],
                dropped_packets=now.dropped[0],
                dropped_bytes=now.dropped[1],
                rate=int(carried * 8 / window) if window else 0,
                window=round(window, 3),
            )
        )
    return found


def _steering_rules(
    state: ControllerState, record: NetworkRecord, te_path: TePath
) -> Iterator[tuple[int, int, of.Match]]:
    """(table, priority, match) of the rules that put frames on a TE path."""
    units: list[Unit] = [("constraint", *te_path.key)]
    units += [("host", record.uuid, h.mac) for h in state.locator.at(record.uuid, te_path.key[2])]
    source = record.endpoints[te_path.key[1]]
    for unit in units:
        for placed in state.installed.unit(unit):
            one = placed.entry
            if (
                placed.dpid == te_path.ends[0]
                and isinstance(one, Flow)
                and state.steering.steers(one, source)
            ):
                yield one.table, one.priority, one.match


def _add(counts: list[int], packets: int, size: int) -> None:
    counts[0] += packets
    counts[1] += size
