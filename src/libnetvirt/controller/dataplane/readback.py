"""Readback: what a switch holds, read again and again, and how it differs from what it should hold.

A switch may hold ten thousand entries, and they are read every few seconds. So they are parsed only when they
are seen for the first time: a `Readback` maps records (:mod:`libnetvirt.openflow.records`) to entries, and
the next one begins with those of the last. An entry that equals an expected one *is* that one from then on,
so a switch without differences costs a look-up or two for each entry.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import (
    EntryKey,
    Flow,
    Group,
    Meter,
    PlacedEntry,
    SwitchEntry,
)
from libnetvirt.controller.dataplane.foreign import Beyond, beyond
from libnetvirt.controller.dataplane.installed import UNCOMPARED, Delta, group_entry, meter_entry
from libnetvirt.controller.dataplane.pipeline import Kind, Table

#: what became of entries, in the order in which it is told
MISSING, CHANGED, SURPLUS, FOREIGN = "missing", "changed", "not expected", "of another program"


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference between what a switch should hold (``expected``) and what it holds (``held``)."""

    expected: PlacedEntry | None
    held: SwitchEntry | None

    @property
    def entry(self) -> SwitchEntry:
        """The entry that it is about: the expected one if there is one."""
        entry = self.held if self.expected is None else self.expected.entry
        assert entry is not None
        return entry

    @property
    def key(self) -> EntryKey:
        """Identifies the entry in its switch."""
        return self.entry.key

    @property
    def what(self) -> str:
        """What became of the entry."""
        if self.expected is not None:
            return MISSING if self.held is None else CHANGED
        foreign = isinstance(self.held, Flow) and not pipeline.is_ours(self.held.cookie)
        return FOREIGN if foreign else SURPLUS

    def __str__(self) -> str:
        return f"{entry_text(self.entry)} ({self.what})"


class Readback:
    """The entries of one switch as it reports them, part by part."""

    def __init__(self, last: Readback | None = None, watched: float = 0.0) -> None:
        """``last``: what was read from the same switch before. ``watched``: for how many seconds, at
        least, the switch has been connected."""
        #: entries with our cookie mark or a number of ours
        self.ours: dict[bytes, SwitchEntry] = {}
        #: flow entries of other programs
        self.foreign: dict[bytes, Flow] = {}
        #: the number of flow entries of pairs of hosts and of those that expire soon, which are not compared
        self.passing = 0
        #: frames that were dropped as their source is declared at another endpoint, by the rule that did it
        self.refused: dict[bytes, int] = {}
        #: those of these rules that are older than the connection
        self.old: set[bytes] = set()
        self._watched = watched
        self._last = last
        self._passing: set[bytes] = set()
        # The result of `beyond` for these foreign entries and the expected ones at that time.
        self._judged: tuple[frozenset[bytes], int, Beyond] | None = last._judged if last else None

    def __len__(self) -> int:
        return len(self.ours) + len(self.foreign) + self.passing

    def add_flows(self, body: bytes) -> None:
        """Add a part of a FlowStatsReply. Raises ProtocolError."""
        last, end = self._last, len(body)
        ours = self.ours
        known: Mapping[bytes, SwitchEntry] = last.ours if last else {}
        counted: Collection[bytes] = last.refused if last else ()
        for record, pos in of.flow_records(body):
            entry = known.get(record)
            if entry is not None:
                ours[record] = entry
                if record in counted:
                    self.refused[record] = of.packet_count(body, pos)
            elif last is not None and record in last._passing:
                self._passing.add(record)
                self.passing += 1
            elif last is not None and record in last.foreign:
                self.foreign[record] = last.foreign[record]
            else:
                self._add_flow(record, of.FlowStatsEntry.parse(body, pos, end)[0])

    def _add_flow(self, record: bytes, stats: of.FlowStatsEntry) -> None:
        if not pipeline.is_ours(stats.cookie):
            self.foreign[record] = flow_entry(stats)
        elif stats.cookie & 0xFFFF in UNCOMPARED:
            self._passing.add(record)
            self.passing += 1
        else:
            entry = self.ours[record] = flow_entry(stats)
            if is_refusal(entry):
                self.refused[record] = stats.packet_count
                if stats.duration_sec >= self._watched:
                    self.old.add(record)

    def add_groups(self, body: bytes) -> None:
        """Add a part of a GroupDescReply. Raises ProtocolError."""
        self._add_descriptions(body, lambda pos: group_entry(of.GroupDesc.parse(body, pos, len(body))[0]))

    def add_meters(self, body: bytes) -> None:
        """Add a part of a MeterConfigReply. Raises ProtocolError."""
        self._add_descriptions(body, lambda pos: meter_entry(of.MeterConfig.parse(body, pos, len(body))[0]))

    def _add_descriptions(self, body: bytes, parse: Callable[[int], SwitchEntry | None]) -> None:
        known: Mapping[bytes, SwitchEntry] = self._last.ours if self._last else {}
        for record, pos in of.description_records(body):
            entry = known.get(record) or parse(pos)
            if entry is not None:
                self.ours[record] = entry

    def close(self) -> None:
        """All parts were added: what was read before is not needed any more."""
        self._last = None

    def differences(self, expected: Mapping[EntryKey, PlacedEntry], generation: int) -> list[Difference]:
        """How the switch differs from what it should hold. ``generation`` changes whenever ``expected``
        does."""
        found: list[Difference] = []
        ours = self.ours
        agreed = 0
        surplus: dict[EntryKey, SwitchEntry] = {}
        for record, entry in ours.items():
            placed = expected.get(entry.key)
            if placed is None:
                surplus[entry.key] = entry
            elif placed.entry is entry:
                agreed += 1
            elif placed.entry == entry:
                ours[record] = placed.entry
                agreed += 1
            else:
                found.append(Difference(placed, entry))
        if agreed + len(found) < len(expected):
            held: dict[EntryKey, SwitchEntry] = {e.key: e for e in self.foreign.values()}
            held |= {e.key: e for e in ours.values()}
            changed = {difference.key for difference in found}
            for key, placed in expected.items():
                if held.get(key) is not placed.entry and key not in changed:
                    found.append(Difference(placed, held.get(key)))
        found += [Difference(None, entry) for entry in surplus.values()]
        if self.foreign:
            found += [Difference(None, flow) for flow in self._above(expected, generation)]
        return found

    def _above(self, expected: Mapping[EntryKey, PlacedEntry], generation: int) -> list[Flow]:
        """The rules of other programs that may take frames from rules of ours."""
        now = frozenset(self.foreign)
        if self._judged is None or self._judged[:2] != (now, generation):
            self._judged = (now, generation, beyond(self.foreign.values(), expected))
        return self._judged[2].above


def is_refusal(flow: Flow) -> bool:
    """Whether a rule drops the frames of a declared host at all endpoints but its own."""
    return flow.cookie & 0xFFFF == Kind.DECLARED and flow.table == Table.SOURCE and not flow.instructions


def newly_refused(read: Readback, last: Readback | None) -> list[Flow]:
    """The rules that have dropped frames of declared hosts since a switch was read last.

    ``last``: None: it is read for the first time on its connection. Rules that are older than the connection
    may have dropped their frames long ago.
    """
    found = []
    for record, count in read.refused.items():
        if last is None:
            before = count if record in read.old else 0
        else:
            before = last.refused.get(record, 0)
        # A rule that was installed again has counted from zero.
        if count > (before if count >= before else 0):
            flow = read.ours[record]
            assert isinstance(flow, Flow)
            found.append(flow)
    return found


def flow_entry(stats: of.FlowStatsEntry) -> Flow:
    """A reported flow entry as an entry that can be compared."""
    return Flow(
        stats.table_id, stats.priority, stats.match, stats.instructions, stats.cookie,
        stats.idle_timeout, stats.hard_timeout, bool(stats.flags & of.FlowModFlags.SEND_FLOW_REM),
    )  # fmt: skip


def correction(dpid: int, differences: Iterable[Difference]) -> Delta:
    """The delta that makes a switch hold what it should."""
    delta = Delta()
    for difference in differences:
        placed, held = difference.expected, difference.held
        if placed is None:
            assert held is not None
            delta.remove.setdefault(dpid, []).append(held)
        elif held is None:
            delta.put.setdefault((placed.order, dpid), []).append(placed.entry)
        else:
            delta.change.setdefault((placed.order, dpid), []).append((held, placed.entry))
    return delta


def entry_text(entry: SwitchEntry) -> str:
    """An entry in words, as far as needed to find it in the switch."""
    if isinstance(entry, Group):
        return f"group {entry.group_id:#x}"
    if isinstance(entry, Meter):
        return f"meter {entry.meter_id}"
    table = Table(entry.table).name.lower() if entry.table in list(Table) else str(entry.table)
    match = of.match_text(entry.match)
    return f"rule priority={entry.priority}{',' + match if match else ''} in table {table}"


def counts_text(differences: Iterable[Difference], shown: int = 3) -> str:
    """How many entries differ and how, with the first few of them in words."""
    listed = list(differences)
    parts = []
    for what in (MISSING, CHANGED, SURPLUS, FOREIGN):
        entries = [d.entry for d in listed if d.what == what]
        for kind, name in ((Flow, "rule"), (Group, "group"), (Meter, "meter")):
            count = sum(isinstance(entry, kind) for entry in entries)
            if count:
                parts.append(f"{count} {name}{'s' if count > 1 else ''} {what}")
    more = f" and {len(listed) - shown} more" if len(listed) > shown else ""
    return f"{', '.join(parts)}: {'; '.join(map(str, listed[:shown]))}{more}"


@dataclass(frozen=True, slots=True)
class Drift:
    """A difference on a switch that another program made, and the uuids of the networks that it concerns."""

    dpid: int
    difference: Difference
    networks: frozenset[str]
