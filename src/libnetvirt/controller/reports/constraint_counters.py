"""Counting: what constraints carry and drop, from the counters of switches. Pure.

Where a constraint has a meter, that counts all; else its rules do, each until it expires with its host. Both
are at the switch of the source, before a frame is wrapped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane.entries import Flow
from libnetvirt.controller.dataplane.installed import Unit
from libnetvirt.controller.engine.controller import Controller
from libnetvirt.controller.intent.rulesdb import NetworkRecord
from libnetvirt.controller.qos.te_paths import ConstraintKey, TePath
from libnetvirt.model import ConstraintCounters

#: seconds between the two looks that a rate comes from
WINDOW = 1.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What a switch said, and when."""

    when: float
    flows: Iterable[of.FlowStatsEntry] = ()
    meters: Iterable[of.MeterStatsEntry] = ()


@dataclass(slots=True)
class Tally:
    """What one constraint has carried and dropped, as seen at a time."""

    when: float = 0.0
    carried: list[int] = field(default_factory=lambda: [0, 0])
    dropped: list[int] = field(default_factory=lambda: [0, 0])


def sources(core: Controller, entry: NetworkRecord) -> frozenset[int]:
    """The switches that count for a network's constraints."""
    return frozenset(te_path.ends[0] for te_path in core.te_paths.of(entry.uuid).values())


def tallies(core: Controller, entry: NetworkRecord, seen: Mapping[int, Seen]) -> dict[ConstraintKey, Tally]:
    """What each constraint of a network has carried and dropped; nothing where its switch said nothing."""
    flows = {(d, f.table_id, f.priority, f.match): f for d, said in seen.items() for f in said.flows}
    meters = {(d, m.meter_id): m for d, said in seen.items() for m in said.meters}
    found = {}
    for key, te_path in core.te_paths.of(entry.uuid).items():
        start = te_path.ends[0]
        tally = found[key] = Tally(seen[start].when if start in seen else 0.0)
        number = core.steering.meter(te_path)
        if number is not None and (metered := meters.get((start, number))) is not None:
            _add(tally.carried, metered.packet_count, metered.byte_count)
            for band in metered.bands:
                _add(tally.dropped, band.packet_count, band.byte_count)
                _add(tally.carried, -band.packet_count, -band.byte_count)
        elif number is None:
            for rule in _leading(core, entry, te_path):
                if (flow := flows.get((start, *rule))) is not None:
                    _add(tally.carried, flow.packet_count, flow.byte_count)
    return found


def rates(
    before: Mapping[ConstraintKey, Tally], after: Mapping[ConstraintKey, Tally]
) -> list[ConstraintCounters]:
    """Counters as they are after, and what was carried since before."""
    found = []
    for key, now in after.items():
        was = before.get(key)
        window = now.when - was.when if was is not None and was.when and now.when else 0.0
        octets = max(0, now.carried[1] - was.carried[1]) if was is not None else 0
        found.append(
            ConstraintCounters(
                source=key[1],
                destination=key[2],
                packets=now.carried[0],
                bytes=now.carried[1],
                dropped_packets=now.dropped[0],
                dropped_bytes=now.dropped[1],
                rate=int(octets * 8 / window) if window else 0,
                window=round(window, 3),
            )
        )
    return found


def _leading(core: Controller, entry: NetworkRecord, te_path: TePath) -> Iterator[tuple[int, int, of.Match]]:
    """(table, priority, match) of the rules that put frames on a course."""
    units: list[Unit] = [("constraint", *te_path.key)]
    units += [("host", entry.uuid, h.mac) for h in core.locator.at(entry.uuid, te_path.key[2])]
    source = entry.endpoints[te_path.key[1]]
    for unit in units:
        for placed in core.installed.unit(unit):
            one = placed.entry
            if placed.dpid == te_path.ends[0] and isinstance(one, Flow) and core.steering.steers(one, source):
                yield one.table, one.priority, one.match


def _add(counts: list[int], packets: int, octets: int) -> None:
    counts[0] += packets
    counts[1] += octets
