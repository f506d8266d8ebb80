"""Courses: the paths of constraints. Which are admitted, what they reserve, their labels; kept durable.

A constraint always has a course. One that fits nowhere any more has no links: it is *degraded*, its frames
take the way of all others, and a better course is looked for whenever something has changed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from libnetvirt.controller.intent.facts import ConstraintPath, Facts
from libnetvirt.controller.intent.labels import Labels
from libnetvirt.controller.intent.rulesdb import NetworkRecord
from libnetvirt.controller.intent.switches import SwitchView, parse_switch, switch_text
from libnetvirt.controller.qos import cspf
from libnetvirt.controller.qos.capacities import Capacities
from libnetvirt.controller.qos.cspf import PathRequirements, ResidualGraph
from libnetvirt.controller.qos.enforcement import Backend
from libnetvirt.controller.qos.meters import STEP
from libnetvirt.controller.qos.reservations import Reservation, ReservationLedger
from libnetvirt.controller.topology.pathfinder import Edge, LinkEnd, PathFinder
from libnetvirt.errors import ConstraintUnmet, Unsupported
from libnetvirt.model import (
    Bandwidth,
    Constraint,
    Duration,
    Encapsulation,
    Insertion,
    Rules,
    VirtualNetwork,
)

#: how far a path's latency may exceed its bound before another one is looked for: one part in so many of the
#: bound, and so many microseconds at least. What is measured is never still, and to move costs more than that
SLACK, LEAST_SLACK = 10, 500
#: network, source and destination endpoint
ConstraintKey = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class TePath:
    """A constraint's path. ``number``: its place in the order of creation; ``label``: its outer label, if it
    leads to another switch; ``degraded``: why it has no path."""

    key: ConstraintKey
    number: int
    constraint: Constraint
    kind: Encapsulation
    ends: tuple[int, int]
    edges: tuple[Edge, ...] = ()
    label: int | None = None
    degraded: str = ""

    @property
    def bits(self) -> int:
        """What it reserves on each link, in bit/s."""
        return 0 if self.degraded else int(self.constraint.min_bandwidth or 0)

    @property
    def ceiling(self) -> int | None:
        """What its frames may take, in bit/s. A minimum is one, too: what exceeded it would be at the expense
        of others' minimums, and a meter cannot tell it from the rest."""
        least, most = self.constraint.min_bandwidth, self.constraint.max_bandwidth
        return most if self.degraded else least or most

    @property
    def rank(self) -> tuple[int, int]:
        """Its place in the order in which courses are looked for; those that come last give way first."""
        return -(self.constraint.priority or 0), self.number

    @property
    def places(self) -> list[LinkEnd]:
        """Its links."""
        return [(edge.source, edge.source_port) for edge in self.edges]

    @property
    def meter(self) -> str:
        """What its meter is called."""
        return "/".join(("constraint", *self.key))

    def __str__(self) -> str:
        return f"the constraint from {self.key[1]} to {self.key[2]}"


def wanted(constraint: Constraint) -> PathRequirements:
    """What a path has to have."""
    latency = constraint.max_latency
    return PathRequirements(
        int(constraint.min_bandwidth or 0), None if latency is None else int(latency), constraint.max_hops
    )


class TePaths:
    """All courses, and the books of what they reserve."""

    def __init__(self, labels: Labels, paths: PathFinder, capacities: Capacities, backend: Backend) -> None:
        self._labels = labels
        self._paths = paths
        self._backend = backend
        self.capacities = capacities
        self.reservations = ReservationLedger(self._reservable)
        self._te_paths: dict[str, dict[ConstraintKey, TePath]] = {}
        self._into: dict[tuple[str, str], dict[ConstraintKey, TePath]] = {}
        self._stored: dict[ConstraintKey, ConstraintPath] = {}
        self._last = 0

    def load(self, facts: Facts) -> None:
        """Restore what was stored; :meth:`known` makes TE paths of it."""
        for path in facts.of(ConstraintPath):
            self._stored[path.network, path.source, path.destination] = path
            self._last = max(self._last, path.number)

    def known(self, entry: NetworkRecord) -> dict[ConstraintKey, TePath]:
        """The courses that a network had when they were stored, whatever the substrate is now."""
        found = {}
        for te_path in self._fresh(entry.description, entry.tunnel):
            stored = self._stored.pop(te_path.key, None)
            if stored is None:
                te_path = replace(te_path, degraded="the controller was started without its path")
            else:
                number, label, edges = stored.number, stored.label, tuple(Edge(*e, 0.0) for e in stored.links)
                lost = "" if edges or te_path.ends[0] == te_path.ends[1] else "it had no path"
                te_path = replace(te_path, number=number, label=label, edges=edges, degraded=lost)
                if label is not None:
                    self._labels.spaces[te_path.kind].hold_outer(label)
            found[te_path.key] = te_path
        return found

    def of(self, network: str) -> dict[ConstraintKey, TePath]:
        """A network's courses."""
        return self._te_paths.get(network, {})

    def into(self, network: str, endpoint: str) -> Iterable[TePath]:
        """The courses that lead to an endpoint."""
        return self._into.get((network, endpoint), {}).values()

    def ordered(self) -> list[TePath]:
        """All courses, by priority and then creation."""
        return sorted((c for own in self._te_paths.values() for c in own.values()), key=lambda c: c.rank)

    def plan(
        self,
        network: VirtualNetwork,
        kind: Encapsulation | None,
        strict: bool = True,
        pending: bool = False,
    ) -> dict[ConstraintKey, TePath]:
        """The courses that a network would have if it were as described; changes nothing.

        What needs no other path keeps it. ``strict``: raise ConstraintUnmet for what cannot be admitted, else
        it is degraded; ``pending``: so is, all the same, what no path at all leads to. New courses have no
        labels yet.
        """
        reservations = self.reservations.copy()
        old = self.of(network.uuid)
        fresh = list(self._fresh(network, kind))
        for key in old.keys() - {te_path.key for te_path in fresh}:
            reservations.restore(key, None)
        found = {}

        def turn(te_path: TePath) -> tuple[bool, int]:
            # What takes less than it had makes room for others.
            less = te_path.key in old and te_path.bits <= old[te_path.key].bits
            return not less, te_path.rank[0]

        for te_path in sorted(fresh, key=turn):
            te_path = found[te_path.key] = self._admit(
                te_path, old.get(te_path.key), reservations, strict, pending
            )
            reservations.restore(te_path.key, Reservation(te_path.bits, frozenset(te_path.places)))
        return {te_path.key: found[te_path.key] for te_path in fresh}

    def _admit(
        self,
        te_path: TePath,
        old: TePath | None,
        reservations: ReservationLedger,
        strict: bool,
        pending: bool,
    ) -> TePath:
        residual_graph, asked = self.residual_graph(reservations, te_path.key), wanted(te_path.constraint)
        if old is not None:
            te_path = replace(te_path, number=old.number)
            if (old.kind, old.ends) == (te_path.kind, te_path.ends):
                if old.constraint.asked == te_path.constraint.asked:
                    return replace(old, constraint=te_path.constraint)
                if not old.degraded and self._there(old) and cspf.suits(residual_graph, old.edges, asked):
                    return replace(old, constraint=te_path.constraint)
        path = cspf.find(residual_graph, *te_path.ends, asked)
        if path is not None:
            return replace(te_path, edges=tuple(replace(edge, cost=0.0) for edge in path))
        reason = self.why_not(te_path, residual_graph)
        if strict and not (pending and cspf.find(residual_graph, *te_path.ends, PathRequirements()) is None):
            raise ConstraintUnmet(f"{te_path} cannot be kept: {reason}")
        return replace(te_path, degraded=reason)

    def again(self) -> dict[ConstraintKey, TePath]:
        """The courses that have to be others: after a change of the substrate, or when something was freed.

        What is lost, or has become too slow, gives up all it had first; then paths are looked for by priority
        and order of creation, those that were degraded before included. Nobody takes what another one keeps.
        Puts nothing into the books.
        """
        reservations = self.reservations.copy()
        te_paths = self.ordered()
        lost = {c.key for c in te_paths if not c.degraded and (not self._there(c) or self.is_too_slow(c))}
        for key in lost:
            reservations.restore(key, None)
        # Less may be promised than is: the least and last give way.
        while over := reservations.oversubscribed():
            holders = set(reservations.holders(over[0]))
            key = next(te_path.key for te_path in reversed(te_paths) if te_path.key in holders)
            reservations.restore(key, None)
            lost.add(key)
        changed: dict[ConstraintKey, TePath] = {}
        for te_path in te_paths:
            if te_path.key not in lost and not te_path.degraded:
                continue
            residual_graph = self.residual_graph(reservations, te_path.key)
            path = cspf.find(residual_graph, *te_path.ends, wanted(te_path.constraint))
            blank = replace(te_path, edges=(), label=None, degraded="")
            if path is None:
                new = replace(blank, degraded=self.why_not(te_path, residual_graph))
            else:
                new = replace(blank, edges=tuple(replace(edge, cost=0.0) for edge in path))
                reservations.put(new.key, new.bits, new.places)
            if replace(new, label=te_path.label) != te_path:
                changed[te_path.key] = new
        return changed

    def commit(
        self, network: str, te_paths: Mapping[ConstraintKey, TePath], all_of_them: bool = True
    ) -> dict[ConstraintKey, TePath]:
        """Make these a network's courses, with labels; returns what they were.

        Labels that are no longer used stay taken until :meth:`free`. Raises LabelsExhausted, with nothing
        changed.
        """
        before = dict(self.of(network))
        after = dict(te_paths) if all_of_them else {**before, **te_paths}
        given: list[tuple[Encapsulation, int]] = []
        try:
            for key, te_path in after.items():
                if te_path.number == 0:
                    self._last += 1
                    te_path = replace(te_path, number=self._last)
                if te_path.edges and te_path.label is None:
                    label = self._labels.spaces[te_path.kind].take_outer()
                    given.append((te_path.kind, label))
                    te_path = replace(te_path, label=label)
                after[key] = te_path
        except BaseException:
            for kind, label in given:
                self._labels.spaces[kind].free_outer(label)
            raise
        self.restore(network, after)
        return before

    def restore(self, network: str, te_paths: Mapping[ConstraintKey, TePath]) -> None:
        """Make these a network's courses again, labels and all."""
        old = self._te_paths.pop(network, {})
        for key in old.keys() - te_paths.keys():
            self.reservations.restore(key, None)
            self._labels.journal.remove(_record(old[key]))
        for key in old:
            into = self._into[network, key[2]]
            del into[key]
            if not into:
                del self._into[network, key[2]]
        if te_paths:
            self._te_paths[network] = dict(te_paths)
        for key, te_path in te_paths.items():
            self._into.setdefault((network, key[2]), {})[key] = te_path
            if old.get(key) != te_path:
                self.reservations.restore(key, Reservation(te_path.bits, frozenset(te_path.places)))
                self._labels.journal.put(_record(te_path))

    def free(self, labels: Iterable[tuple[Encapsulation, int]]) -> None:
        """Free labels that no course has any more."""
        held = {(c.kind, c.label) for own in self._te_paths.values() for c in own.values()}
        for kind, label in labels:
            if (kind, label) not in held:
                self._labels.spaces[kind].free_outer(label)

    def _reservable(self, link: LinkEnd) -> int | None:
        if self._backend.queues:
            able = self._backend.support(link).able
            if not able:
                return None if able is None else 0
        return self.capacities.reservable(link)

    def residual_graph(
        self, reservations: ReservationLedger | None = None, key: ConstraintKey | None = None
    ) -> ResidualGraph:
        """What paths can be looked for in."""
        known = self.reservations if reservations is None else reservations

        def free(link: LinkEnd) -> int:
            return known.free(link, key) if self._backend.verdict(link).able else 0

        return ResidualGraph(self._paths.leaving, free, self.capacities.latency)

    def why_not(self, te_path: TePath, residual_graph: ResidualGraph) -> str:
        """Why no path is right for a constraint, and what would be."""
        asked, (source, destination) = wanted(te_path.constraint), te_path.ends
        ends = f"from switch {switch_text(source)} to switch {switch_text(destination)}"
        if cspf.find(residual_graph, source, destination, PathRequirements()) is None:
            return f"no path leads {ends}: 'netvirt substrate' shows the links that are known"
        if cspf.find(residual_graph, source, destination, replace(asked, bits=0)) is None:
            return self._too_far(residual_graph, te_path, replace(asked, bits=0), ends)
        most = cspf.widest(residual_graph, source, destination, asked)
        links = ", ".join(
            f"switch {switch_text(d)} port {p} has {_rate(residual_graph.free((d, p)))} free"
            f"{self._reason((d, p))}"
            for d, p in cspf.narrow(residual_graph, source, destination, asked)
        )
        fits = f"{_rate(most)} would fit" if most else "no min-bandwidth at all would fit"
        return (
            f"min-bandwidth {te_path.constraint.min_bandwidth} is more than is free {ends}: {links} of the "
            f"{_rate(asked.bits)} wanted; {fits}. 'netvirt substrate' shows all links"
        )

    def _reason(self, link: LinkEnd) -> str:
        reason = self._backend.verdict(link).reason
        return f" ({reason})" if reason else ""

    def _too_far(
        self, residual_graph: ResidualGraph, te_path: TePath, asked: PathRequirements, ends: str
    ) -> str:
        constraint, fits = te_path.constraint, []
        if asked.hops is not None:
            hops = cspf.shortest(residual_graph, *te_path.ends, asked)
            fits.append("" if hops is None else f"max-hops {hops}")
        if asked.latency is not None:
            delay = cspf.quickest(residual_graph, *te_path.ends, asked)
            fits.append("" if delay is None else f"max-latency {Duration(max(1, delay))}")
        what = " and ".join(
            f"{name} {value}"
            for name, value in constraint.asked.items()
            if name in ("max-hops", "max-latency")
        )
        would = " or ".join(filter(None, fits))
        said = f"{would} would fit" if would else "both together are too much"
        if (
            asked.latency is not None
            and cspf.quickest(residual_graph, *te_path.ends, PathRequirements()) is None
        ):
            said = (
                "the latency of the links is not known: give it in the file of the option 'capacities', or, "
                "where that has it measured, wait for that"
            )
        return f"no path {ends} has {what}; {said}"

    def _fresh(self, network: VirtualNetwork, kind: Encapsulation | None) -> Iterator[TePath]:
        if kind is None:
            return
        for c in network.constraints:
            ends = [parse_switch(network.by_uuid[uuid].switch) for uuid in c.key]
            yield TePath((network.uuid, *c.key), 0, c, kind, (ends[0], ends[1]))

    def is_too_slow(self, te_path: TePath) -> bool:
        """Whether the links of a course take longer than its constraint allows: where latency is measured,
        which is never still, by more than the slack."""
        most = te_path.constraint.max_latency
        delays = [self.capacities.latency(place) for place in te_path.places]
        if most is None or None in delays:
            return False
        attachment = int(most)
        if any(self.capacities.is_measured(place) for place in te_path.places):
            attachment += max(attachment // SLACK, LEAST_SLACK)
        return sum(d for d in delays if d is not None) > attachment

    def _there(self, te_path: TePath) -> bool:
        """Whether the links of a course are up."""
        return self._paths.has(te_path.edges)


def check(
    network: VirtualNetwork, rules: Rules, switches: Mapping[int, SwitchView], queues: bool = False
) -> None:
    """Raise Unsupported if a network's constraints cannot be kept whatever is free. ``queues``: whether
    minimums are kept by queues, which need no meters."""
    reason = ""
    if rules.encapsulation is Encapsulation.NATIVE:
        reason = "paths of their own need tunnels: use encapsulation vlan or mpls"
    elif rules.insertion is Insertion.ON_DEMAND:
        reason = "they are kept by rules that are there beforehand: use insertion offline"
    if reason:
        raise Unsupported(f"network {network.name} has constraints: {reason}")
    for c in network.constraints:
        rates = {name: v for name, v in c.asked.items() if name.endswith("bandwidth")}
        what = f"the constraint from {c.source} to {c.destination}"
        for name, rate in rates.items():
            if rate < STEP:
                raise Unsupported(f"{what}: {name} {rate} is less than switches can measure: 1 kbit/s")
        switch = switches.get(parse_switch(network.by_uuid[c.source].switch))
        metered = rates.keys() - {"min-bandwidth"} if queues else rates
        if metered and switch is not None and switch.known and not switch.meters:
            raise Unsupported(
                f"{what}: switch {switch_text(switch.dpid)} has no meters, which bandwidth needs"
            )


def _record(te_path: TePath) -> ConstraintPath:
    links = tuple((e.source, e.source_port, e.destination, e.destination_port) for e in te_path.edges)
    return ConstraintPath(*te_path.key, te_path.number, te_path.label, links)


def labels_of(te_paths: Iterable[TePath]) -> set[tuple[Encapsulation, int]]:
    """The labels of courses."""
    return {(c.kind, c.label) for c in te_paths if c.label is not None}


def changed(
    before: Mapping[ConstraintKey, TePath], after: Mapping[ConstraintKey, TePath]
) -> Collection[ConstraintKey]:
    """The keys of the courses that differ."""
    return [key for key in {**before, **after} if before.get(key) != after.get(key)]


def _rate(bits: int) -> str:
    return str(Bandwidth(bits)) if bits else "0 bit/s"
