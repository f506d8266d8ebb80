"""ConstraintService: joins the paths of constraints with operations and with changes of the topology.

`TePaths` decides which explicit path (TE path) each constraint gets, and what it reserves on links.
This part turns these decisions into units, and keeps everything that depends on them up to date:

- *admission*: `plan` computes, without changing anything, the TE paths that a network would have;
- *operations*: `compile` and `drop` follow what an operation has committed;
- *topology*: `replan` looks for other paths for constraints that lost theirs, and for those that are
  degraded;
- *policing*: a link with reservations limits best-effort traffic to what is not reserved, with a meter or
  with a queue. When that begins or ends for a link, the rules that output to it are compiled again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from libnetvirt.controller.dataplane.entries import PlacedEntry
from libnetvirt.controller.dataplane.installed import Delta
from libnetvirt.controller.engine.effects import NOTHING, REROUTE, Effects, Report
from libnetvirt.controller.engine.state import ControllerState
from libnetvirt.controller.engine.units import UnitCompiler
from libnetvirt.controller.intent.rulesdb import NetworkRecord
from libnetvirt.controller.qos.queues import QueueConfig
from libnetvirt.controller.qos.te_paths import ConstraintKey, TePath, changed, labels_of
from libnetvirt.controller.rules.routed_steering import routed_te_path
from libnetvirt.controller.rules.routing import is_routed
from libnetvirt.controller.rules.steering import link_meter
from libnetvirt.controller.topology.pathfinder import LinkEnd
from libnetvirt.errors import LabelsExhausted
from libnetvirt.model import Encapsulation, Rules, VirtualNetwork


class ConstraintService:
    """Keeps the constraints of networks."""

    def __init__(self, state: ControllerState, units: UnitCompiler) -> None:
        self._state = state
        self._units = units
        self._te_paths = state.te_paths

    # ---- admission -----------------------------------------------------------------------------

    def plan(
        self, after: VirtualNetwork, strict: bool = True, pending: bool = False
    ) -> Mapping[ConstraintKey, TePath]:
        """The TE paths that a network would have (constrained shortest path first). Changes nothing.

        ``strict``: raise ConstraintUnmet for a constraint that cannot be admitted; else it is degraded.
        ``pending``: one between switches that no path connects is degraded all the same.
        """
        if not after.constraints and not self._te_paths.of(after.uuid):
            return {}
        return self._te_paths.plan(after, self._tunnel_kind(after), strict, pending)

    def _tunnel_kind(self, network: VirtualNetwork) -> Encapsulation | None:
        """The kind of tunnel that a network has, or would have."""
        known = self._state.rulesdb.networks.get(network.uuid)
        if known is not None and known.description.rules == network.rules:
            return known.tunnel
        rules = (network.rules or Rules()).over(self._state.options.rules)
        return None if rules.encapsulation is Encapsulation.NATIVE else rules.encapsulation

    # ---- operations ----------------------------------------------------------------------------

    def compile(self, record: NetworkRecord, before: Mapping[ConstraintKey, TePath], delta: Delta) -> None:
        """The TE paths of a network that differ from ``before``, and the policing of links."""
        after = self._te_paths.of(record.uuid)
        self._compile(record, changed(before, after), delta)
        self.police_links(delta)

    def drop(self, before: Iterable[ConstraintKey], delta: Delta) -> None:
        """Remove the TE paths of a network that is gone."""
        for key in before:
            self._state.installed.replace(("constraint", *key), (), delta)
        self.police_links(delta)

    def recompile_endpoints(self, record: NetworkRecord, endpoints: Iterable[str], delta: Delta) -> None:
        """The TE paths that start at these endpoints, whose ports or addresses have changed; of a router,
        also those that end there."""
        names, ends = set(endpoints), slice(1, 3 if is_routed(record) else 2)
        keys = [k for k in self._te_paths.of(record.uuid) if names.intersection(k[ends])]
        self._compile(record, keys, delta)

    def _compile(self, record: NetworkRecord, keys: Iterable[ConstraintKey], delta: Delta) -> None:
        destinations = set()
        for key in keys:
            te_path = self._te_paths.of(record.uuid).get(key)
            entries = () if te_path is None else self._entries(record, te_path)
            self._state.installed.replace(("constraint", *key), entries, delta)
            destinations.add(key[2])
        for host in [h for name in destinations for h in self._state.locator.at(record.uuid, name)]:
            self._units.compile_host(record, host.mac, delta)

    def _entries(self, record: NetworkRecord, te_path: TePath) -> Iterator[PlacedEntry]:
        yield from self._state.steering.te_path(record, te_path)
        if is_routed(record) and self._state.fits(record, te_path.ends[0]):
            yield from routed_te_path(self._state.steering, record, te_path)

    def free_numbers(self, uuid: str, record: NetworkRecord | None) -> None:
        """Free the meters and queues that a network (None: it is gone) and the links no longer need."""
        state = self._state
        state.queues.keep(uuid, self._queued(uuid) if record is not None else ())

        def wanted(dpid: int, name: str) -> bool:
            if record is None:
                return False
            owner = state.steering if name.startswith("constraint/") else state.policing
            return owner.uses_meter(record, dpid, name)

        state.meters.keep(uuid, wanted)
        links = {(dpid, link_meter(port)) for dpid, port in state.link_output.metered}
        state.meters.keep("", lambda dpid, name: (dpid, name) in links)

    def _queued(self, uuid: str) -> set[ConstraintKey]:
        """The constraints of a network that have queues, or will have when there is room again."""
        own = self._te_paths.of(uuid).items()
        return {key for key, path in own if self._state.backend.queues and path.constraint.min_bandwidth}

    def retry_degraded(self) -> Effects:
        """Ask for a reroute if any constraint is degraded, because labels or bandwidth were released."""
        return REROUTE if any(te_path.degraded for te_path in self._te_paths.ordered()) else NOTHING

    def queue_config(self) -> QueueConfig:
        """The queues that ports need; none if minimums are enforced with meters."""
        if not self._state.backend.queues:
            return {}
        return self._state.queues.config(self._te_paths.ordered(), self._state.capacities)

    # ---- policing ------------------------------------------------------------------------------

    def police_links(self, delta: Delta) -> None:
        """Police best-effort traffic on links that have reservations, and on no others."""
        state, reservations = self._state, self._te_paths.reservations
        links = frozenset() if state.backend.queues else frozenset(reservations.links())
        flipped = links ^ state.link_output.metered
        state.link_output.metered = links
        for link in links | flipped:
            policer = state.steering.police_link(link, reservations, state.capacities)
            state.installed.replace(("police", *link), policer if link in links else (), delta)
        if flipped:
            self._recompile_outputs(flipped, delta)

    def _recompile_outputs(self, flipped: frozenset[LinkEnd], delta: Delta) -> None:
        """Compile the rules that output to these links, which are policed from now on, or no longer."""
        state = self._state
        for kind, users in state.tunnel_users.items():
            for egress in filter(users.used, users.by_egress):
                self._units.compile_tunnel(kind, egress, delta)
        for record in state.rulesdb:
            for key, te_path in self._te_paths.of(record.uuid).items():
                if not te_path.bits and flipped & set(te_path.links):
                    self._compile(record, [key], delta)
            if record.tunnel is None and not record.on_demand:
                for host in state.locator.hosts(record.uuid):
                    self._units.compile_host(record, host.mac, delta)
        state.ondemand.changed()
        state.ondemand.remove_where(
            lambda route: (
                route.path_template is not None
                and any((edge.source, edge.source_port) in flipped for edge in route.path_template.edges)
            ),
            deliver=True,
        )

    # ---- topology ------------------------------------------------------------------------------

    def replan(
        self, delta: Delta, again: Iterable[TePath] = ()
    ) -> tuple[dict[ConstraintKey, TePath], Callable[[], None], tuple[Report, ...]]:
        """Find other TE paths after a change of the topology or of the free bandwidth.

        Returns the paths that were replaced, a function that frees their labels, to be called once they are
        unused, and the events about constraints. ``again``: paths that were given up by `turn_back` since the
        last call.
        """
        plan = self._te_paths.plan_reroute()
        old: dict[ConstraintKey, TePath] = {}
        given_up = list(again)
        for network in {key[0] for key in plan}:
            own = {key: te_path for key, te_path in plan.items() if key[0] == network}
            old |= {key: self._te_paths.of(network)[key] for key in own}
            try:
                self._te_paths.commit(network, own, all_of_them=False)
            except LabelsExhausted as error:
                without = {k: replace(c, edges=(), label=None, degraded=str(error)) for k, c in own.items()}
                self._te_paths.commit(network, without, all_of_them=False)
        turned = plan.keys() | {te_path.key for te_path in given_up}
        for network in {key[0] for key in turned} & self._state.rulesdb.networks.keys():
            record = self._state.rulesdb.networks[network]
            self._compile(record, [key for key in turned if key[0] == network], delta)
        outcomes = (self._outcome(was, self._te_paths.of(key[0])[key]) for key, was in old.items())
        reports = tuple(report for report in outcomes if report is not None)
        self.police_links(delta)
        labels = labels_of([*old.values(), *given_up])
        return old, lambda: self._te_paths.free(labels), reports

    def turn_back(self, old: Mapping[ConstraintKey, TePath]) -> list[TePath]:
        """Give constraints the paths again that `replan` has replaced. Returns the others. Compiles none."""
        given_up = []
        for network in {key[0] for key in old}:
            known = self._te_paths.of(network)
            own = {key: te_path for key, te_path in old.items() if key in known}
            given_up += [known[key] for key in own]
            self._te_paths.restore(network, {**known, **own})
        return given_up

    def _outcome(self, was: TePath, now: TePath) -> Report | None:
        if was.degraded and now.degraded:
            return None
        if now.degraded:
            kind, text = "constraint.degraded", f"can no longer be kept: {now.degraded}"
        elif was.degraded:
            kind, text = "constraint.restored", "is kept again"
        else:
            kind, text = "constraint.moved", "is kept on another path"
        network, source, destination = now.key
        name = self._state.rulesdb.networks[network].description.name
        return Report(
            kind,
            f"{now} of network {name} {text}",
            {"network": network, "source": source, "destination": destination},
        )
