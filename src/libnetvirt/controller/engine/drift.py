"""DriftDetector: decides which differences between a switch and its expected entries are drift.

A switch is read without the lock (`drivers.openflow.execution.audit`), while operations, hosts and the
clock change what it should hold. So not every difference is drift:

- entries whose removal is deferred are still there (`Installed.outlasting`);
- after a restart, rules that lead to hosts not yet learned are spared
  (:class:`~libnetvirt.controller.engine.warm_restart.WarmRestart`);
- the rule of a host that was silent expires in the switch, which reports that a moment later. So a missing
  rule with an idle timeout is drift only if it was missing in the read before, too (`certain`). It is
  restored as long as its host is known, since otherwise that host would never expire;
- rules of pairs of hosts (`Kind.PATH`) and those that expire within seconds (`Kind.QUIET`, `Kind.CACHE`,
  `Kind.PASS`) are not compared.

What is drift is kept in `ControllerState.drift`, from which reports take it, until the switch was seen to
hold what it should.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cached_property
from itertools import permutations

from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import EntryKey, Flow, Group, PlacedEntry, SwitchEntry
from libnetvirt.controller.dataplane.foreign import below
from libnetvirt.controller.dataplane.installed import Unit
from libnetvirt.controller.dataplane.readback import Difference, Drift, Readback, correction
from libnetvirt.controller.engine.state import ControllerState
from libnetvirt.controller.engine.transaction import Transaction
from libnetvirt.controller.engine.warm_restart import WarmRestart
from libnetvirt.controller.intent.rulesdb import NetworkRecord

#: switches of a network beyond which its paths are not looked at one by one
PATHS_LIMIT = 32
Expected = Mapping[EntryKey, PlacedEntry]


class DriftDetector:
    """Compares what switches hold with what they should hold, while nothing else is wrong with them."""

    def __init__(self, state: ControllerState, restart: WarmRestart) -> None:
        self._state = state
        self._restart = restart
        #: by switch: the keys of rules with an idle timeout that were missing when it was read last
        self._suspects: dict[int, set[EntryKey]] = {}

    def expected(self, dpid: int) -> Expected:
        """A copy of what a switch should hold now."""
        return dict(self._state.installed.on(dpid))

    def differences(self, dpid: int, read: Readback, asked: Expected | None = None) -> list[Difference]:
        """How a switch differs from what it should hold.

        ``asked``: what the switch should have held when it was asked; entries that were changed since are
        left out.
        """
        installed = self._state.installed
        now = installed.on(dpid)
        found = read.differences(now, installed.generation)
        outlasting = installed.outlasting(dpid)
        return [
            difference
            for difference in found
            if (asked is None or asked.get(difference.key) is now.get(difference.key))
            and not (difference.expected is None and self._tolerated(difference.held, outlasting))
        ]

    def _tolerated(self, held: SwitchEntry | None, outlasting: Mapping[EntryKey, SwitchEntry]) -> bool:
        """Whether a surplus entry is there for a reason."""
        assert held is not None
        if outlasting.get(held.key) == held:
            return True
        return isinstance(held, Flow) and pipeline.is_ours(held.cookie) and self._restart.spares(held)

    def certain(self, dpid: int, differences: list[Difference]) -> list[Difference]:
        """Those differences that are no rules of hosts about to expire. Call once each time the switch is
        read and has differences."""
        idle = {d.key for d in differences if d.held is None and isinstance(d.entry, Flow) and d.entry.idle}
        before, self._suspects[dpid] = self._suspects.get(dpid, set()), idle
        if len(idle) < len(differences):
            return differences
        return [d for d in differences if d.key in before]

    def record(self, dpid: int, differences: Iterable[Difference]) -> tuple[list[Drift], list[Drift]]:
        """Record the drift of a switch. Returns all of it, and what was not known before."""
        known = {_identity(drift.difference) for drift in self._state.drift.get(dpid, ())}
        found = list(self._with_networks(dpid, list(differences)))
        self._state.drift[dpid] = tuple(found)
        return found, [drift for drift in found if _identity(drift.difference) not in known]

    def is_known(self, dpid: int, differences: Iterable[Difference]) -> bool:
        """Whether these differences are what is recorded of a switch."""
        known = {_identity(drift.difference) for drift in self._state.drift.get(dpid, ())}
        return known == {_identity(difference) for difference in differences}

    def clear(self, dpid: int) -> tuple[Drift, ...]:
        """A switch was seen to hold what it should. Returns the drift that it had."""
        self._suspects.pop(dpid, None)
        return self._state.drift.pop(dpid, ())

    def correction(self, dpid: int, drifts: Iterable[Drift]) -> Transaction:
        """Plan the changes that undo drift. Frames of all networks wait in the controller meanwhile."""
        delta = correction(dpid, (drift.difference for drift in drifts))
        return Transaction(delta.plan(), None)

    def switches(self, record: NetworkRecord) -> set[int]:
        """The switches that hold entries for a network: those of its endpoints, and those on its paths."""
        found = set(record.by_switch)
        if len(found) > PATHS_LIMIT:
            return set(self._state.switches)
        te_paths = self._state.te_paths.of(record.uuid).values()
        paths = [self._state.paths.path(*ends) or () for ends in permutations(record.by_switch, 2)]
        for edges in (*paths, *(te_path.edges for te_path in te_paths)):
            found.update(edge.destination for edge in edges or ())
        return found

    # ---- the networks that it concerns ---------------------------------------------------------

    def _with_networks(self, dpid: int, differences: Collection[Difference]) -> Iterable[Drift]:
        shared = [d.key for d in differences if not _index(d.entry)]
        owners = self._state.installed.owners(dpid, shared) if shared else {}
        users = _Users(self._state, dpid)
        for difference in differences:
            entry = difference.entry
            record = self._state.rulesdb.by_index.get(_index(entry))
            networks = users.of(owners.get(difference.key))
            if difference.expected is None and isinstance(entry, Flow):
                networks |= users.disturbed(entry)
            if record is not None:
                networks |= {record.uuid}
            yield Drift(dpid, difference, networks)


class _Users:
    """Which networks use what networks share on one switch."""

    def __init__(self, state: ControllerState, dpid: int) -> None:
        self._state = state
        self._dpid = dpid
        self._passed: dict[tuple[int, int], bool] = {}

    def of(self, unit: Unit | None) -> frozenset[str]:
        """The uuids of the networks that a unit serves."""
        if not isinstance(unit, tuple):
            return frozenset()
        kind, *names = unit
        if kind == "owner":
            return frozenset()
        if kind == "tunnel":
            encapsulation, egress = names
            return self._uuids(
                lambda r: r.tunnel is encapsulation and egress in r.by_switch and len(r.by_switch) > 1
            )
        if kind in ("link", "police"):
            return self.present
        return self._local if kind == "base" else frozenset((names[0],))

    def disturbed(self, surplus: Flow) -> frozenset[str]:
        """The networks from whose rules a surplus rule may take frames."""
        indexes = {_index(flow) for flow in below(surplus, self._state.installed.on(self._dpid))}
        shared = self.present if 0 in indexes else frozenset[str]()
        return shared | self._uuids(lambda record: record.index in indexes)

    @cached_property
    def present(self) -> frozenset[str]:
        """The networks whose frames this switch forwards."""
        return self._local | self._uuids(self._passes)

    @cached_property
    def _local(self) -> frozenset[str]:
        return self._uuids(lambda record: self._dpid in record.by_switch)

    def _uuids(self, condition: Callable[[NetworkRecord], bool]) -> frozenset[str]:
        return frozenset(record.uuid for record in self._state.rulesdb if condition(record))

    def _passes(self, record: NetworkRecord) -> bool:
        """Whether the switch is on a path between two switches of a network."""
        return any(self._between(*ends) for ends in permutations(record.by_switch, 2))

    def _between(self, source: int, destination: int) -> bool:
        ends = (source, destination)
        if ends not in self._passed:
            path = self._state.paths.path(*ends) or ()
            self._passed[ends] = any(edge.destination == self._dpid for edge in path)
        return self._passed[ends]


def _identity(difference: Difference) -> tuple[int, int]:
    """Equal for the same difference in two reads: `Readback` keeps the entries that it has seen."""
    return id(difference.expected), id(difference.held)


def _index(entry: SwitchEntry) -> int:
    """The index of the network that an entry names; 0 if it names none."""
    if isinstance(entry, Flow):
        return pipeline.cookie_network(entry.cookie) if pipeline.is_ours(entry.cookie) else 0
    return pipeline.flood_group_network(entry.group_id) if isinstance(entry, Group) else 0
