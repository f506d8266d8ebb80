"""TE paths: the explicit paths of constraints, like those of RSVP-TE LSPs (RFC 3209). Admission,
reservations, labels.

A network's constraints get a path each when an operation is admitted (:meth:`TePaths.plan`): the cheapest one
that satisfies the constraint, found by `cspf` in the graph of what is not reserved. If there is none, the
operation is refused with a reason that says what would fit.

When links are lost, get slower or carry less, :meth:`TePaths.plan_reroute` looks for new paths, in order of
priority and age. A constraint for which there is none is *degraded*: its frames take the shortest path, with
no guarantee, and it is tried again whenever something changes.

The order of creation, the path and the outer label of each constraint are stored.
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
from libnetvirt.controller.topology.pathfinder import (
    Edge,
    LinkEnd,
    PathFinder,
    is_avoided,
    is_unreachable,
)
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

#: how far the measured latency of a path may exceed its limit before the path is replaced: a tenth of the
#: limit, and at least so many microseconds. Measurements fluctuate, and moving a path has a cost of its own
LATENCY_SLACK, MIN_LATENCY_SLACK = 10, 500
#: uuids of the network, the source endpoint and the destination endpoint
ConstraintKey = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class TePath:
    """The path of a constraint.

    ``number`` is its position in the order of creation, 0 if it is new; ``kind`` the tunnel's encapsulation;
    ``ends`` the first and last switch; ``label`` the outer label, if the path leads to another switch;
    ``degraded`` the reason why it has no path, or empty.
    """

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
        """The bit/s that it reserves on each link."""
        return 0 if self.degraded else int(self.constraint.min_bandwidth or 0)

    @property
    def ceiling(self) -> int | None:
        """The bit/s that its traffic is metered to; None for no limit.

        With meters a minimum is a ceiling, too: traffic above it would take bandwidth that others have
        reserved, and a meter cannot tell it from the traffic below.
        """
        least, most = self.constraint.min_bandwidth, self.constraint.max_bandwidth
        return most if self.degraded else least or most

    @property
    def rank(self) -> tuple[int, int]:
        """Its position when paths are computed: by priority, then age. The last ones lose their paths
        first."""
        return -(self.constraint.priority or 0), self.number

    @property
    def links(self) -> list[LinkEnd]:
        """Its links, by their sending ends."""
        return [(edge.source, edge.source_port) for edge in self.edges]

    @property
    def meter(self) -> str:
        """The name of its meter."""
        return "/".join(("constraint", *self.key))

    def __str__(self) -> str:
        return f"the constraint from {self.key[1]} to {self.key[2]}"


def requirements_of(constraint: Constraint) -> PathRequirements:
    """The requirements that a constraint puts on its path."""
    latency = constraint.max_latency
    return PathRequirements(
        int(constraint.min_bandwidth or 0), None if latency is None else int(latency), constraint.max_hops
    )


class TePaths:
    """All TE paths, and the ledger of their reservations."""

    def __init__(self, labels: Labels, paths: PathFinder, capacities: Capacities, backend: Backend) -> None:
        self._labels = labels
        self._paths = paths
        self._backend = backend
        self.capacities = capacities
        self.reservations = ReservationLedger(self._reservable)
        self._te_paths: dict[str, dict[ConstraintKey, TePath]] = {}
        self._by_destination: dict[tuple[str, str], dict[ConstraintKey, TePath]] = {}
        self._stored: dict[ConstraintKey, ConstraintPath] = {}
        self._last = 0

    def load(self, facts: Facts) -> None:
        """Load the stored facts; :meth:`from_store` makes TE paths of it."""
        for path in facts.of(ConstraintPath):
            self._stored[path.network, path.source, path.destination] = path
            self._last = max(self._last, path.number)

    def from_store(self, record: NetworkRecord) -> dict[ConstraintKey, TePath]:
        """The TE paths of a network as they were stored, whatever the topology is now."""
        found = {}
        for te_path in self._declared(record.description, record.tunnel):
            stored = self._stored.pop(te_path.key, None)
            if stored is None:
                te_path = replace(te_path, degraded="no path was stored for it")
            else:
                number, label, edges = stored.number, stored.label, tuple(Edge(*e, 0.0) for e in stored.links)
                lost = (
                    "" if edges or te_path.ends[0] == te_path.ends[1] else "it had no path when it was stored"
                )
                if label is not None:
                    label = self._labels.spaces[te_path.kind].reserve_outer(label)
                te_path = replace(te_path, number=number, label=label, edges=edges, degraded=lost)
            found[te_path.key] = te_path
        return found

    def of(self, network: str) -> dict[ConstraintKey, TePath]:
        """The TE paths of a network."""
        return self._te_paths.get(network, {})

    def to_endpoint(self, network: str, endpoint: str) -> Iterable[TePath]:
        """The TE paths that lead to an endpoint."""
        return self._by_destination.get((network, endpoint), {}).values()

    def ordered(self) -> list[TePath]:
        """All TE paths, by priority and age."""
        return sorted((c for own in self._te_paths.values() for c in own.values()), key=lambda c: c.rank)

    def plan(
        self,
        network: VirtualNetwork,
        kind: Encapsulation | None,
        strict: bool = True,
        pending: bool = False,
    ) -> dict[ConstraintKey, TePath]:
        """The TE paths that a network would have with this description. Changes nothing.

        A constraint whose path still satisfies it keeps that path. With ``strict``, raise ConstraintUnmet if
        one cannot be satisfied; else it is degraded. With ``pending``, one whose ends are not connected by
        any path is degraded even if ``strict``. New TE paths have no labels yet.
        """
        reservations = self.reservations.copy()
        old = self.of(network.uuid)
        declared = list(self._declared(network, kind))
        for key in old.keys() - {te_path.key for te_path in declared}:
            reservations.restore(key, None)
        found = {}

        def admission_order(te_path: TePath) -> tuple[bool, int]:
            # Those that reserve less than before come first: they free bandwidth for others.
            less = te_path.key in old and te_path.bits <= old[te_path.key].bits
            return not less, te_path.rank[0]

        for te_path in sorted(declared, key=admission_order):
            te_path = found[te_path.key] = self._admit(
                te_path, old.get(te_path.key), reservations, strict, pending
            )
            reservations.restore(te_path.key, Reservation(te_path.bits, frozenset(te_path.links)))
        return {te_path.key: found[te_path.key] for te_path in declared}

    def _admit(
        self,
        te_path: TePath,
        old: TePath | None,
        reservations: ReservationLedger,
        strict: bool,
        pending: bool,
    ) -> TePath:
        residual_graph = self.residual_graph(reservations, te_path.key, te_path.kind)
        requirements = requirements_of(te_path.constraint)
        if old is not None:
            te_path = replace(te_path, number=old.number)
            if (old.kind, old.ends) == (te_path.kind, te_path.ends):
                if old.constraint.asked == te_path.constraint.asked:
                    return replace(old, constraint=te_path.constraint)
                if (
                    not old.degraded
                    and self._links_up(old)
                    and cspf.satisfies(residual_graph, old.edges, requirements)
                ):
                    return replace(old, constraint=te_path.constraint)
        path = cspf.find(residual_graph, *te_path.ends, requirements)
        if path is not None:
            return replace(te_path, edges=tuple(replace(edge, cost=0.0) for edge in path))
        reason = self.rejection_reason(te_path, residual_graph)
        if strict and not (pending and cspf.find(residual_graph, *te_path.ends, PathRequirements()) is None):
            raise ConstraintUnmet(f"{te_path} cannot be met: {reason}")
        return replace(te_path, degraded=reason)

    def plan_reroute(self) -> dict[ConstraintKey, TePath]:
        """The TE paths that have to change after a change of the topology, or that may get a path again.
        Changes nothing.

        Paths over links that are to be avoided move where there is another one, and else stay. Paths that are
        broken or too slow release their reservations first, and so do, lowest rank first,
        those on links that are oversubscribed. Then paths are computed in order of rank, also for constraints
        that were degraded before. No reservation of an intact path is taken away.
        """
        reservations = self.reservations.copy()
        te_paths = self.ordered()
        lost = {c.key for c in te_paths if not c.degraded and (not self._links_up(c) or self.is_too_slow(c))}
        for key in lost:
            reservations.restore(key, None)
        # Links may have less capacity than is reserved: the lowest ranks lose their paths.
        while over := reservations.oversubscribed():
            holders = set(reservations.holders(over[0]))
            key = next(te_path.key for te_path in reversed(te_paths) if te_path.key in holders)
            reservations.restore(key, None)
            lost.add(key)
        changed: dict[ConstraintKey, TePath] = {}
        for te_path in te_paths:
            intact = te_path.key not in lost and not te_path.degraded
            if intact and not self._avoided(te_path.edges):
                continue
            residual_graph = self.residual_graph(reservations, te_path.key, te_path.kind)
            path = cspf.find(residual_graph, *te_path.ends, requirements_of(te_path.constraint))
            if intact:
                # It may be broken, but nothing shows that. It moves if there is a better path.
                if path is None or not self._is_better(path, te_path):
                    continue
                reservations.restore(te_path.key, None)
            blank = replace(te_path, edges=(), label=None, degraded="")
            if path is None:
                new = replace(blank, degraded=self.rejection_reason(te_path, residual_graph))
            else:
                new = replace(blank, edges=tuple(replace(edge, cost=0.0) for edge in path))
                reservations.reserve(new.key, new.bits, new.links)
            if replace(new, label=te_path.label) != te_path:
                changed[te_path.key] = new
        return changed

    def commit(
        self, network: str, te_paths: Mapping[ConstraintKey, TePath], all_of_them: bool = True
    ) -> dict[ConstraintKey, TePath]:
        """Make these the TE paths of a network (or, unless ``all_of_them``, replace these), with labels.
        Returns the ones before.

        Labels that are no longer used stay allocated until :meth:`free`. Raises LabelsExhausted, with nothing
        changed.
        """
        before = dict(self.of(network))
        after = dict(te_paths) if all_of_them else {**before, **te_paths}
        allocated: list[tuple[Encapsulation, int]] = []
        try:
            for key, te_path in after.items():
                if te_path.number == 0:
                    self._last += 1
                    te_path = replace(te_path, number=self._last)
                if te_path.edges and te_path.label is None:
                    label = self._labels.spaces[te_path.kind].allocate_outer()
                    allocated.append((te_path.kind, label))
                    te_path = replace(te_path, label=label)
                after[key] = te_path
        except BaseException:
            for kind, label in allocated:
                self._labels.spaces[kind].free_outer(label)
            raise
        self.restore(network, after)
        return before

    def restore(self, network: str, te_paths: Mapping[ConstraintKey, TePath]) -> None:
        """Make these, which have numbers and labels, the TE paths of a network. Undoes :meth:`commit`."""
        old = self._te_paths.pop(network, {})
        for key in old.keys() - te_paths.keys():
            self.reservations.restore(key, None)
            self._labels.journal.remove(_record(old[key]))
        for key in old:
            to_same_end = self._by_destination[network, key[2]]
            del to_same_end[key]
            if not to_same_end:
                del self._by_destination[network, key[2]]
        if te_paths:
            self._te_paths[network] = dict(te_paths)
        for key, te_path in te_paths.items():
            self._by_destination.setdefault((network, key[2]), {})[key] = te_path
            if old.get(key) != te_path:
                self.reservations.restore(key, Reservation(te_path.bits, frozenset(te_path.links)))
                self._labels.journal.put(_record(te_path))

    def free(self, labels: Iterable[tuple[Encapsulation, int]]) -> None:
        """Release those of the labels that no TE path uses."""
        held = {(c.kind, c.label) for own in self._te_paths.values() for c in own.values()}
        for kind, label in labels:
            if (kind, label) not in held:
                self._labels.spaces[kind].free_outer(label)

    def _reservable(self, link: LinkEnd) -> int | None:
        if self._backend.queues:
            able = self._backend.queue_support(link).able
            if not able:
                return None if able is None else 0
        return self.capacities.reservable(link)

    def residual_graph(
        self,
        reservations: ReservationLedger | None = None,
        key: ConstraintKey | None = None,
        kind: Encapsulation | None = None,
    ) -> ResidualGraph:
        """The graph of the bandwidth that is free, or would be without the reservation of ``key``, for
        tunnels of a kind (None: of any).
        """
        known = self.reservations if reservations is None else reservations

        def free(link: LinkEnd) -> int:
            return known.free(link, key) if self._backend.support(link).able else 0

        return ResidualGraph(lambda dpid: self._paths.leaving(dpid, kind), free, self.capacities.latency)

    def rejection_reason(self, te_path: TePath, residual_graph: ResidualGraph) -> str:
        """Why no path satisfies a constraint, and what would fit, for users."""
        requirements, (source, destination) = requirements_of(te_path.constraint), te_path.ends
        ends = f"from switch {switch_text(source)} to switch {switch_text(destination)}"
        if cspf.find(residual_graph, source, destination, PathRequirements()) is None:
            return f"no path leads {ends}: 'netvirt substrate' shows the links that are known"
        if cspf.find(residual_graph, source, destination, replace(requirements, bits=0)) is None:
            return self._limits_reason(residual_graph, te_path, replace(requirements, bits=0), ends)
        most = cspf.widest(residual_graph, source, destination, requirements)
        links = ", ".join(
            f"switch {switch_text(d)} port {p} has {_rate(residual_graph.free((d, p)))} free"
            f"{self._reason((d, p))}"
            for d, p in cspf.bottlenecks(residual_graph, source, destination, requirements)
        )
        fits = f"{_rate(most)} would fit" if most else "no min-bandwidth at all would fit"
        return (
            f"min-bandwidth {te_path.constraint.min_bandwidth} is more than is free {ends}: {links} of the "
            f"{_rate(requirements.bits)} wanted; {fits}. 'netvirt substrate' shows all links"
        )

    def _reason(self, link: LinkEnd) -> str:
        reason = self._backend.support(link).reason
        return f" ({reason})" if reason else ""

    def _limits_reason(
        self, residual_graph: ResidualGraph, te_path: TePath, requirements: PathRequirements, ends: str
    ) -> str:
        constraint, found = te_path.constraint, []
        if requirements.hops is not None:
            hops = cspf.fewest_hops(residual_graph, *te_path.ends, requirements)
            found.append("" if hops is None else f"max-hops {hops}")
        if requirements.latency is not None:
            delay = cspf.least_latency(residual_graph, *te_path.ends, requirements)
            found.append("" if delay is None else f"max-latency {Duration(max(1, delay))}")
        what = " and ".join(
            f"{name} {value}"
            for name, value in constraint.asked.items()
            if name in ("max-hops", "max-latency")
        )
        alternatives = " or ".join(filter(None, found))
        remedy = f"{alternatives} would fit" if alternatives else "no path satisfies both"
        if (
            requirements.latency is not None
            and cspf.least_latency(residual_graph, *te_path.ends, PathRequirements()) is None
        ):
            remedy = (
                "the latency of the links is not known: set it in the capacities file (option 'capacities') "
                "or, if it is measured, wait for the first measurement"
            )
        return f"no path {ends} has {what}; {remedy}"

    def _declared(self, network: VirtualNetwork, kind: Encapsulation | None) -> Iterator[TePath]:
        if kind is None:
            return
        for c in network.constraints:
            ends = [parse_switch(network.by_uuid[uuid].switch) for uuid in c.key]
            yield TePath((network.uuid, *c.key), 0, c, kind, (ends[0], ends[1]))

    def is_too_slow(self, te_path: TePath) -> bool:
        """Whether a path's latency exceeds its limit: by more than the slack, where latency is measured."""
        most = te_path.constraint.max_latency
        delays = [self.capacities.latency(link) for link in te_path.links]
        if most is None or None in delays:
            return False
        bound = int(most)
        if any(self.capacities.is_measured(link) for link in te_path.links):
            bound += max(bound // LATENCY_SLACK, MIN_LATENCY_SLACK)
        return sum(d for d in delays if d is not None) > bound

    def _now(self, edges: Iterable[Edge]) -> list[Edge]:
        """The links of a path with their current costs."""
        links = {(edge.source, edge.source_port) for edge in edges}
        return [
            edge
            for dpid in {dpid for dpid, _ in links}
            for edge in self._paths.leaving(dpid)
            if (edge.source, edge.source_port) in links
        ]

    def _avoided(self, edges: Iterable[Edge]) -> int:
        """How many links of a path are to be avoided."""
        return sum(map(is_avoided, self._now(edges)))

    def _is_better(self, path: Iterable[Edge], te_path: TePath) -> bool:
        """Whether a path may replace an intact one: it has fewer links to be avoided, and all its switches
        can be given rules."""
        now = self._now(path)
        return sum(map(is_avoided, now)) < self._avoided(te_path.edges) and not any(map(is_unreachable, now))

    def _links_up(self, te_path: TePath) -> bool:
        """Whether all links of a path are up."""
        return self._paths.has(te_path.edges, te_path.kind)


def check(
    network: VirtualNetwork, rules: Rules, switches: Mapping[int, SwitchView], queues: bool = False
) -> None:
    """Raise Unsupported if a network's constraints cannot be met however much bandwidth is free.

    ``queues``: whether minimum bandwidth is enforced by queues, which need no meters.
    """
    reason = ""
    if rules.encapsulation is Encapsulation.NATIVE:
        reason = "TE paths need tunnels. Use encapsulation vlan or mpls"
    elif rules.insertion is Insertion.ON_DEMAND:
        reason = "their rules have to be installed in advance. Use insertion offline"
    if reason:
        raise Unsupported(f"network {network.name} has constraints: {reason}")
    for c in network.constraints:
        rates = {name: v for name, v in c.asked.items() if name.endswith("bandwidth")}
        what = f"the constraint from {c.source} to {c.destination}"
        for name, rate in rates.items():
            if rate < STEP:
                raise Unsupported(
                    f"{what}: {name} {rate} is less than switches can measure. Give 1 kbit/s or more"
                )
        switch = switches.get(parse_switch(network.by_uuid[c.source].switch))
        metered = rates.keys() - {"min-bandwidth"} if queues else rates
        if metered and switch is not None and switch.known and not switch.meters:
            raise Unsupported(
                f"{what}: switch {switch_text(switch.dpid)} has no meters, which its bandwidth limits need. "
                "Use an endpoint on another switch or, if only min-bandwidth is given, enforcement=queue"
            )


def _record(te_path: TePath) -> ConstraintPath:
    links = tuple((e.source, e.source_port, e.destination, e.destination_port) for e in te_path.edges)
    return ConstraintPath(*te_path.key, te_path.number, te_path.label, links)


def labels_of(te_paths: Iterable[TePath]) -> set[tuple[Encapsulation, int]]:
    """The outer labels of TE paths, with the encapsulation that they belong to."""
    return {(c.kind, c.label) for c in te_paths if c.label is not None}


def changed(
    before: Mapping[ConstraintKey, TePath], after: Mapping[ConstraintKey, TePath]
) -> Collection[ConstraintKey]:
    """The keys of the TE paths that differ."""
    return [key for key in {**before, **after} if before.get(key) != after.get(key)]


def _rate(bits: int) -> str:
    return str(Bandwidth(bits)) if bits else "0 bit/s"
