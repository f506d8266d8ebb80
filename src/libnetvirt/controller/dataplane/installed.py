"""Installed: the entries that each switch should hold, the plans that get it there, and reconciliation.

Entries are grouped into *units*: parts of a network, such as one host or one tunnel, whose entries change
together. Recompiling a unit and replacing it (:meth:`Installed.replace`) collects the differences in a
:class:`Delta`, and a delta becomes a :class:`Plan`: a list of rounds, each of which is sent to all its
switches at once and confirmed by all of them before the next begins. First come the entries that receive
frames, then those that send, then those that admit frames at endpoints, and last the deletions. So at no time
does a frame meet half a path.

The same comparison reconciles a switch that has connected: :meth:`Installed.compare` gives the delta from the
entries that it reported (:class:`SwitchSnapshot`) to those that it should hold.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import (
    EntryKey,
    Flow,
    Group,
    Meter,
    Order,
    PlacedEntry,
    SwitchEntry,
    add_message,
    delete_message,
    install_order,
    modify_message,
    removal_order,
)
from libnetvirt.controller.dataplane.pipeline import Kind

Unit = Hashable
#: the entries of a unit, by switch and key
UnitEntries = Mapping[tuple[int, EntryKey], PlacedEntry]
#: what a round makes of entries, by switch and key; None: they are removed
Outcome = dict[tuple[int, EntryKey], SwitchEntry | None]
Round = dict[int, list[of.Message]]
#: Not compared: they expire by themselves, or belong to on-demand networks (see `ondemand.flows`).
UNCOMPARED = (Kind.QUIET, Kind.PATH, Kind.CACHE, Kind.PASS)


@dataclass(slots=True)
class Plan:
    """Rounds of messages by switch (datapath id), to be sent in order, each confirmed before the next."""

    rounds: list[Round] = field(default_factory=list)
    #: how many of the first rounds make switches receive what none of them sends yet
    receiving: int = 0

    @property
    def switches(self) -> set[int]:
        """The switches that any round sends a message to."""
        return {dpid for one in self.rounds for dpid in one}

    def merged(self) -> Plan:
        """The plan with all rounds merged into one, for entries that no frame can meet yet, or can meet any
        longer."""
        whole: Round = {}
        for one in self.rounds:
            for dpid, messages in one.items():
                whole.setdefault(dpid, []).extend(messages)
        return Plan([whole] if whole else [])


@dataclass(slots=True)
class Delta:
    """Entries to add (``put``), change and remove, by switch; those to add and change also by order."""

    put: dict[tuple[Order, int], list[SwitchEntry]] = field(default_factory=dict)
    change: dict[tuple[Order, int], list[tuple[SwitchEntry, SwitchEntry]]] = field(default_factory=dict)
    remove: dict[int, list[SwitchEntry]] = field(default_factory=dict)

    def split_off(self, condition: Callable[[int, SwitchEntry], bool]) -> Delta:
        """Move the removals for which ``condition(dpid, entry)`` is true to a new delta, so that they can be
        carried out later."""
        later = Delta()
        for dpid, entries in self.remove.items():
            chosen: list[SwitchEntry] = []
            kept: list[SwitchEntry] = []
            for entry in entries:
                (chosen if condition(dpid, entry) else kept).append(entry)
            if chosen:
                later.remove[dpid] = chosen
                self.remove[dpid] = kept
        return later

    def plan(self, gone: Iterable[int] = ()) -> Plan:
        """The rounds that carry the delta out.

        ``gone`` are the indexes of networks that have no entries any more: their flow entries are deleted
        with one message a switch, by cookie, instead of one by one.
        """
        rounds: list[Round] = []
        # Many switches may get the same entry: one message, encoded once, serves all of them.
        messages: dict[tuple[int, int], of.Message] = {}

        def message(old: SwitchEntry | None, new: SwitchEntry) -> of.Message:
            key = (id(old), id(new))
            found = messages.get(key)
            if found is None:
                found = messages[key] = add_message(new) if old is None else modify_message(old, new)
            return found

        for order in Order:
            one: Round = {}
            for (when, dpid), entries in self.put.items():
                if when is order:
                    one.setdefault(dpid, []).extend(message(None, e) for e in install_order(entries))
            for (when, dpid), pairs in self.change.items():
                if when is order:
                    one.setdefault(dpid, []).extend(message(*pair) for pair in pairs)
            rounds.append(one)
        last = rounds.pop()
        cookies = {pipeline.cookie(index, Kind.BASE) for index in gone}
        for dpid, entries in self.remove.items():
            masked: dict[int, of.Message] = {}
            single: list[of.Message] = []
            for entry in removal_order(entries):
                network = entry.cookie & pipeline.COOKIE_NETWORK_MASK if isinstance(entry, Flow) else 0
                if network in cookies:
                    masked.setdefault(network, delete_network(network))
                else:
                    single.append(delete_message(entry))
            if entries:
                last.setdefault(dpid, []).extend((*masked.values(), *single))
        rounds.append(last)
        return Plan([one for one in rounds if one], receiving=1 if rounds[Order.RECEIVE] else 0)

    def outcomes(self) -> list[Outcome]:
        """What each round of the plan makes of the entries that it is about."""
        rounds: list[Outcome] = [{} for _ in Order]
        for (order, dpid), entries in self.put.items():
            rounds[order].update(((dpid, entry.key), entry) for entry in entries)
        for (order, dpid), pairs in self.change.items():
            rounds[order].update(((dpid, new.key), new) for _, new in pairs)
        for dpid, entries in self.remove.items():
            rounds[-1].update(((dpid, entry.key), None) for entry in entries)
        return [one for one in rounds if one]


@dataclass(slots=True)
class PathDelta(Delta):
    """A delta whose rounds come after those of others: ``first`` removes what leads into paths that change in
    place, ``second`` adds what is new in them; ``stages`` change tunnels in place, from the egress on."""

    first: Delta = field(default_factory=Delta)
    second: Delta = field(default_factory=Delta)
    stages: list[Delta] = field(default_factory=list)

    def plan(self, gone: Iterable[int] = ()) -> Plan:
        """The rounds of all."""
        before = [one for part in (self.first, self.second, *self.stages) for one in part.plan().rounds]
        after = Delta.plan(self, gone)
        return Plan([*before, *after.rounds], len(before) + after.receiving)

    def outcomes(self) -> list[Outcome]:
        """What each round of the plan makes of the entries that it is about."""
        parts = (self.first, self.second, *self.stages)
        return [one for part in parts for one in part.outcomes()] + Delta.outcomes(self)


def delete_network(cookie: int) -> of.FlowMod:
    """The message that deletes all flow entries of a network from a switch. ``cookie`` is that of any of
    them."""
    return of.FlowMod(
        table_id=of.ALL_TABLES,
        command=of.FlowModCommand.DELETE,
        cookie=cookie & pipeline.COOKIE_NETWORK_MASK,
        cookie_mask=pipeline.COOKIE_NETWORK_MASK,
    )


def delete_pair_flows(index: int) -> of.FlowMod:
    """The message that deletes all on-demand flow entries of the network with this index from a switch."""
    return of.FlowMod(
        table_id=of.ALL_TABLES,
        command=of.FlowModCommand.DELETE,
        cookie=pipeline.cookie(index, Kind.PATH),
        cookie_mask=0xFFFF_FFFF_FFFF_FFFF,
    )


@dataclass(slots=True)
class SwitchSnapshot:
    """The entries that a switch reported: flows with a cookie of ours, all groups and all meters."""

    flows: list[of.FlowStatsEntry] = field(default_factory=list)
    groups: list[of.GroupDesc] = field(default_factory=list)
    meters: list[of.MeterConfig] = field(default_factory=list)

    def entries(self) -> list[SwitchEntry]:
        """The reported entries that can be compared with the expected ones. Groups and meters whose numbers
        are outside our ranges belong to other programs and are left out."""
        found: list[SwitchEntry] = []
        for f in self.flows:
            if pipeline.is_ours(f.cookie) and f.cookie & 0xFFFF not in UNCOMPARED:
                notify = bool(f.flags & of.FlowModFlags.SEND_FLOW_REM)
                found.append(
                    Flow(
                        f.table_id, f.priority, f.match, f.instructions, f.cookie,
                        f.idle_timeout, f.hard_timeout, notify,
                    )
                )  # fmt: skip
        found += [group for desc in self.groups if (group := group_entry(desc)) is not None]
        found += [meter for config in self.meters if (meter := meter_entry(config)) is not None]
        return found


def group_entry(desc: of.GroupDesc) -> Group | None:
    """A reported group; None if its number is outside our ranges."""
    number = desc.group_id
    if not pipeline.is_group(number):
        return None
    return Group(number, of.GroupType(desc.type), desc.buckets)


def meter_entry(config: of.MeterConfig) -> Meter | None:
    """A reported meter; None if its number is outside our range."""
    number = config.meter_id
    if number not in pipeline.BASE_METERS and number not in pipeline.METERS:
        return None
    return Meter(number, of.MeterFlags(config.flags & ~of.MeterFlags.STATS), config.bands)


class Installed:
    """The expected entries of all switches, by unit and by switch and key."""

    def __init__(self) -> None:
        self._units: dict[Unit, dict[tuple[int, EntryKey], PlacedEntry]] = {}
        self._switches: dict[int, dict[EntryKey, PlacedEntry]] = {}
        #: changes whenever any entry does
        self.generation = 0
        # No longer expected, but still there: their removal was put off.
        self._outlasting: dict[int, dict[EntryKey, SwitchEntry]] = {}
        # What units were when they were replaced first since `remember`.
        self._remembered: dict[Unit, UnitEntries] | None = None

    def on(self, dpid: int) -> dict[EntryKey, PlacedEntry]:
        """The expected entries of a switch, by key."""
        return self._switches.get(dpid, {})

    def switches(self) -> list[int]:
        """The switches that should hold any entry."""
        return list(self._switches)

    def unit(self, unit: Unit) -> Iterable[PlacedEntry]:
        """The entries of a unit."""
        return self._units.get(unit, {}).values()

    def entries_by_key(self, unit: Unit) -> Mapping[tuple[int, EntryKey], PlacedEntry]:
        """The entries of a unit by switch and key. The mapping does not change when the unit is replaced
        later."""
        return self._units.get(unit, {})

    def units(self, kind: str) -> list[Unit]:
        """The units of a kind that have entries. A unit is a tuple that begins with its kind."""
        return [u for u in self._units if isinstance(u, tuple) and u[0] == kind]

    def owners(self, dpid: int, keys: Collection[EntryKey]) -> dict[EntryKey, Unit]:
        """The units of the entries of a switch with these keys. Looks at all units."""
        wanted = {(dpid, key) for key in keys}
        return {
            location[1]: unit for unit, entries in self._units.items() for location in wanted & entries.keys()
        }

    def count(self) -> int:
        """The number of expected entries in all switches."""
        return sum(len(entries) for entries in self._switches.values())

    def replace(self, unit: Unit, entries: Iterable[PlacedEntry], delta: Delta) -> None:
        """Replace the entries of a unit, and add the differences to ``delta``."""
        new = {(p.dpid, p.entry.key): p for p in entries}
        old = self._units.get(unit, {})
        if self._remembered is not None:
            self._remembered.setdefault(unit, old)
        self.generation += 1
        if new:
            self._units[unit] = new
        else:
            self._units.pop(unit, None)
        for location, placed in new.items():
            dpid, key = location
            before = old.get(location)
            outlasting = self._outlasting.get(dpid, {}).pop(key, None) if before is None else None
            if outlasting is not None:
                delta.change.setdefault((placed.order, dpid), []).append((outlasting, placed.entry))
            elif before is None:
                delta.put.setdefault((placed.order, dpid), []).append(placed.entry)
            elif before.entry != placed.entry:
                # Who leaves a flood group gets frames until its new place does.
                order = Order.WITHDRAW if _shrinks(before.entry, placed.entry) else placed.order
                delta.change.setdefault((order, dpid), []).append((before.entry, placed.entry))
            self._switches.setdefault(dpid, {})[key] = placed
        for location, placed in old.items():
            if location in new:
                continue
            dpid, key = location
            delta.remove.setdefault(dpid, []).append(placed.entry)
            held = self._switches.get(dpid, {})
            # Another unit may have claimed the same key in the same change.
            if held.get(key) is placed:
                del held[key]
                if not held:
                    del self._switches[dpid]

    def remember(self) -> dict[Unit, UnitEntries]:
        """From now on, until `forget`, what units were is put into the result when they are replaced."""
        self._remembered = {}
        return self._remembered

    def forget(self) -> None:
        """End `remember`."""
        self._remembered = None

    def turn_back(
        self, was: Mapping[Unit, UnitEntries], delta: PathDelta, sent: int, deferred: Delta
    ) -> None:
        """Make of the units that were replaced what the switches hold of them, if only the first ``sent``
        rounds of a plan have been sent.

        ``was``: what `remember` returned, for the changes in ``delta`` and ``deferred``, which is put off.
        """
        self.generation += 1
        # Taken over from deferred removals that are still to come.
        pairs = [
            (at, pair)
            for part in (delta, delta.first, delta.second, *delta.stages)
            for (_, at), several in part.change.items()
            for pair in several
        ]
        known = {at for unit in was.values() for at in unit}
        taken = {(dpid, old.key): old for dpid, (old, _) in pairs if (dpid, old.key) not in known}
        held: Outcome = {at: placed.entry for unit in was.values() for at, placed in unit.items()}
        held |= {at: old for at, old in taken.items() if at not in held}
        for outcome in delta.outcomes()[:sent]:
            held |= outcome
        for dpid, entries in deferred.remove.items():
            outlasting = self._outlasting.get(dpid, {})
            for entry in entries:
                if outlasting.get(entry.key) is entry:
                    del outlasting[entry.key]
        for (dpid, key), entry in taken.items():
            if held[dpid, key] is entry:
                self._outlasting.setdefault(dpid, {})[key] = entry
        for unit, old in was.items():
            now = self._units.pop(unit, {})
            for (dpid, key), placed in now.items():
                on = self._switches.get(dpid, {})
                if on.get(key) is placed:
                    del on[key]
                    if not on:
                        del self._switches[dpid]
            actual = {at: p for at, p in {**old, **now}.items() if held.get(at) == p.entry}
            actual |= {at: p for at, p in old.items() if held.get(at) == p.entry}
            if actual:
                self._units[unit] = actual
        for unit in was:
            for (dpid, key), placed in self._units.get(unit, {}).items():
                self._switches.setdefault(dpid, {})[key] = placed

    def keep_reclaimed(self, delta: Delta) -> None:
        """Drop removals from ``delta`` of entries that another unit has claimed in the same change."""
        for dpid, entries in delta.remove.items():
            held = self._switches.get(dpid, {})
            delta.remove[dpid] = [e for e in entries if e.key not in held]
        delta.remove = {dpid: entries for dpid, entries in delta.remove.items() if entries}

    def put_off(self, deferred: Delta) -> None:
        """Note that removals are deferred: until :meth:`take_up`, their entries are still on the switches."""
        for dpid, entries in deferred.remove.items():
            self._outlasting.setdefault(dpid, {}).update((entry.key, entry) for entry in entries)

    def take_up(self, deferred: Delta) -> None:
        """Note that deferred removals are carried out now. Those of entries that were expected again in the
        meantime are dropped from ``deferred``."""
        for dpid, entries in deferred.remove.items():
            outlasting = self._outlasting.get(dpid, {})
            deferred.remove[dpid] = due = [e for e in entries if outlasting.get(e.key) is e]
            for entry in due:
                del outlasting[entry.key]
            if not outlasting:
                self._outlasting.pop(dpid, None)

    def outlasting(self, dpid: int) -> Mapping[EntryKey, SwitchEntry]:
        """The entries of a switch that are no longer expected and whose removal is deferred, by key."""
        return self._outlasting.get(dpid, {})

    def compare(self, dpid: int, snapshot: SwitchSnapshot) -> Delta:
        """The delta from the entries that a switch reported to those that it should hold. Entries whose
        removal is deferred are left to that."""
        outlasting = self._outlasting.get(dpid, {})
        found = {entry.key: entry for entry in snapshot.entries()}
        delta = Delta()
        for key, placed in self.on(dpid).items():
            entry = found.pop(key, None)
            if entry is None:
                delta.put.setdefault((placed.order, dpid), []).append(placed.entry)
            elif entry != placed.entry:
                delta.change.setdefault((placed.order, dpid), []).append((entry, placed.entry))
        for key in [key for key in outlasting if key not in found]:
            del outlasting[key]
        surplus = [entry for key, entry in found.items() if key not in outlasting]
        if surplus:
            delta.remove[dpid] = surplus
        return delta


def _shrinks(old: SwitchEntry, new: SwitchEntry) -> bool:
    """Whether a group has lost buckets and gained none."""
    return isinstance(old, Group) and isinstance(new, Group) and set(new.buckets) < set(old.buckets)
