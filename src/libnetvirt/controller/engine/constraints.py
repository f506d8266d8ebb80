"""ConstraintService: joins courses and their entries with what operations and changes of the substrate do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from libnetvirt.controller.dataplane.entries import PlacedEntry
from libnetvirt.controller.dataplane.installed import Delta
from libnetvirt.controller.engine.state import State
from libnetvirt.controller.intent.rulesdb import NetworkRecord
from libnetvirt.controller.qos.queues import QueueConfig
from libnetvirt.controller.qos.te_paths import ConstraintKey, TePath, changed, labels_of
from libnetvirt.controller.rules.routed_steering import routed_te_path
from libnetvirt.controller.rules.routing import is_routed
from libnetvirt.controller.rules.steering import link_meter
from libnetvirt.controller.topology.pathfinder import LinkEnd
from libnetvirt.errors import LabelsExhausted
from libnetvirt.model import Encapsulation, Rules, VirtualNetwork


class ConstraintService(State):
    """Keeps constraints."""

    def plan_te_paths(
        self, after: VirtualNetwork, strict: bool = True, pending: bool = False
    ) -> dict[ConstraintKey, TePath]:
        """The courses that a network would have. Raises ConstraintUnmet if ``strict``, but not, with
        ``pending``, where there is no path at all yet."""
        if not after.constraints and not self.te_paths.of(after.uuid):
            return {}
        return self.te_paths.plan(after, self.kind_of(after), strict, pending)

    def kind_of(self, network: VirtualNetwork) -> Encapsulation | None:
        """The kind of tunnel that a network has, or would have."""
        known = self.rulesdb.networks.get(network.uuid)
        if known is not None and known.description.rules == network.rules:
            return known.tunnel
        rules = (network.rules or Rules()).over(self.options.rules)
        return None if rules.encapsulation is Encapsulation.NATIVE else rules.encapsulation

    def compile_te_paths(
        self, entry: NetworkRecord, before: Mapping[ConstraintKey, TePath], into: Delta
    ) -> None:
        """The entries of those of a network's courses that are others than before, and what guards links."""
        after = self.te_paths.of(entry.uuid)
        self._compile(entry, changed(before, after), into)
        self.police_links(into)

    def drop_te_paths(self, before: Iterable[ConstraintKey], into: Delta) -> None:
        """The courses of a network that is gone."""
        for key in before:
            self.installed.replace(("constraint", *key), (), into)
        self.police_links(into)

    def recompile_te_paths(self, entry: NetworkRecord, endpoints: Iterable[str], into: Delta) -> None:
        """Endpoints have changed places or addresses: what begins there has other rules; of a router, what
        ends there."""
        names, ends = set(endpoints), slice(1, 3 if is_routed(entry) else 2)
        self._compile(entry, [k for k in self.te_paths.of(entry.uuid) if names.intersection(k[ends])], into)

    def _compile(self, entry: NetworkRecord, keys: Iterable[ConstraintKey], into: Delta) -> None:
        targets = set()
        for key in keys:
            te_path = self.te_paths.of(entry.uuid).get(key)
            entries = () if te_path is None else self._entries(entry, te_path)
            self.installed.replace(("constraint", *key), entries, into)
            targets.add(key[2])
        for host in [h for name in targets for h in self.locator.at(entry.uuid, name)]:
            self.compile_host(entry, host.mac, into)

    def _entries(self, entry: NetworkRecord, te_path: TePath) -> Iterable[PlacedEntry]:
        yield from self.steering.te_path(entry, te_path)
        if is_routed(entry) and self.fits(entry, te_path.ends[0]):
            yield from routed_te_path(self.steering, entry, te_path)

    def police_links(self, into: Delta) -> None:
        """Guard the links of which something is promised, and no others."""
        links = frozenset() if self.backend.queues else frozenset(self.te_paths.reservations.links())
        flipped = links ^ self.link_output.metered
        self.link_output.metered = links
        for link in links | flipped:
            guard = self.steering.police_link(link, self.te_paths.reservations, self.capacities)
            entries = guard if link in links else ()
            self.installed.replace(("police", *link), entries, into)
        if flipped:
            self._leave_anew(flipped, into)

    def _leave_anew(self, flipped: frozenset[LinkEnd], into: Delta) -> None:
        """All that leaves by these links does it otherwise now."""
        for kind, needs in self.needs.items():
            for egress in filter(needs.used, needs.by_egress):
                self.compile_tunnel(kind, egress, into)
        for entry in self.rulesdb:
            for key, te_path in self.te_paths.of(entry.uuid).items():
                if not te_path.bits and flipped & set(te_path.links):
                    self._compile(entry, [key], into)
            if entry.tunnel is None and not entry.on_demand:
                for host in self.locator.hosts(entry.uuid):
                    self.compile_host(entry, host.mac, into)
        self.ondemand.changed()
        self.ondemand.remove_where(
            lambda route: (
                route.path_template is not None
                and any((edge.source, edge.source_port) in flipped for edge in route.path_template.edges)
            )
        )

    def queue_shape(self) -> QueueConfig:
        """The queues that ports have to have; none with meters."""
        if not self.backend.queues:
            return {}
        return self.queues.config(self.te_paths.ordered(), self.capacities)

    def replan(self, into: Delta) -> Callable[[], None]:
        """The substrate has changed, or something has been freed: courses that must be others, or may be
        again. Returns what frees their old labels when the work is done."""
        plan = self.te_paths.plan_reroute()
        old: dict[ConstraintKey, TePath] = {}
        for network in {key[0] for key in plan}:
            own = {key: te_path for key, te_path in plan.items() if key[0] == network}
            old |= {key: self.te_paths.of(network)[key] for key in own}
            try:
                self.te_paths.commit(network, own, all_of_them=False)
            except LabelsExhausted as error:
                without = {k: replace(c, edges=(), label=None, degraded=str(error)) for k, c in own.items()}
                self.te_paths.commit(network, without, all_of_them=False)
        for network in {key[0] for key in plan}:
            self._compile(self.rulesdb.networks[network], [key for key in plan if key[0] == network], into)
        for key, was in old.items():
            self._report(was, self.te_paths.of(key[0])[key])
        self.police_links(into)
        labels = labels_of(old.values())
        return lambda: self.te_paths.free(labels)

    def _report(self, was: TePath, now: TePath) -> None:
        name = self.rulesdb.networks[now.key[0]].description.name
        if now.degraded:
            kind, text = "constraint.degraded", f"is not kept any more: {now.degraded}"
        elif was.degraded:
            kind, text = "constraint.restored", "is kept again"
        else:
            kind, text = "constraint.moved", "is kept on another path"
        if was.degraded and now.degraded:
            return
        self.publish(
            kind, f"{now} of network {name} {text}", network=now.key[0], source=now.key[1],
            destination=now.key[2],
        )  # fmt: skip

    def look_again(self) -> None:
        """Something has been freed: those that have no path may have one now."""
        if any(te_path.degraded for te_path in self.te_paths.ordered()):
            self.topology_changed = True

    def free_meters(self, uuid: str, entry: NetworkRecord | None) -> None:
        """Free the numbers of meters and queues that a network, and the links, do not need any more."""
        self.queues.keep(uuid, self._queued(uuid) if entry is not None else ())

        def wanted(dpid: int, name: str) -> bool:
            if entry is None:
                return False
            who = self.steering if name.startswith("constraint/") else self.policing
            return who.uses_meter(entry, dpid, name)

        self.meters.keep(uuid, wanted)
        links = {(dpid, link_meter(port)) for dpid, port in self.link_output.metered}
        self.meters.keep("", lambda dpid, name: (dpid, name) in links)

    def _queued(self, uuid: str) -> set[ConstraintKey]:
        """The constraints of a network that have queues, or will when there is room again."""
        own = self.te_paths.of(uuid).items()
        return {key for key, te_path in own if self.backend.queues and te_path.constraint.min_bandwidth}
