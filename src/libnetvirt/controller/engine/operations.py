"""Operations: a network is created, changed or removed.

`Operations.begin` changes the controller's state to that after the operation, and returns a `Transaction`:
the rounds for the switches, the steps that undo all of it, and the numbers to free when it is done. Only
units that the operation touches are compiled, so one more endpoint costs the same in a large network as in a
small one.

Numbers (indexes, labels, meters, queues) are taken at once and freed only by the transaction's ``cleanup``:
an operation that is undone finds its old numbers where they were, and with them the very same rules.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import partial

from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import Flow, Group, Order, SwitchEntry
from libnetvirt.controller.dataplane.installed import (
    Delta,
    PathDelta,
    Plan,
    delete_network,
    delete_pair_flows,
)
from libnetvirt.controller.dataplane.pipeline import Kind, Table
from libnetvirt.controller.engine.constraints import ConstraintService
from libnetvirt.controller.engine.deferred_removals import DeferredRemovals, is_path
from libnetvirt.controller.engine.effects import Effects
from libnetvirt.controller.engine.state import ControllerState
from libnetvirt.controller.engine.transaction import Transaction
from libnetvirt.controller.engine.units import UnitCompiler
from libnetvirt.controller.intent.locator import Host, declared_hosts
from libnetvirt.controller.intent.neighbours import Neighbour
from libnetvirt.controller.intent.rulesdb import Attachment, NetworkRecord
from libnetvirt.controller.qos.te_paths import ConstraintKey, TePath, labels_of
from libnetvirt.controller.rules.routing import is_routed
from libnetvirt.model import Endpoint, Rules, VirtualNetwork

_EMPTY = VirtualNetwork(uuid="1")
#: switches on which ports came free that other endpoints may wait for
_Freed = set[int]


class Operations:
    """Plans operations, and changes the controller's state accordingly."""

    def __init__(
        self,
        state: ControllerState,
        units: UnitCompiler,
        constraints: ConstraintService,
        deferred: DeferredRemovals,
    ) -> None:
        self._state = state
        self._units = units
        self._constraints = constraints
        self._deferred = deferred

    def begin(
        self,
        before: VirtualNetwork | None,
        after: VirtualNetwork | None,
        touched: Collection[str] | None = None,
        te_paths: Mapping[ConstraintKey, TePath] | None = None,
    ) -> Transaction:
        """Make a network be ``after``; None: it does not exist.

        ``touched``: the endpoints that differ, if the caller knows. ``te_paths``: the plan of the network's
        constraints as :meth:`ConstraintService.plan` has just admitted it; None: it is made here, and what
        cannot be admitted is degraded. Raises LabelsExhausted, with nothing changed.
        """
        network = after or before
        assert network is not None
        state, uuid = self._state, network.uuid
        old = state.rulesdb.networks.get(uuid)
        was_on_demand = old is not None and old.on_demand
        if touched is None:
            touched = after.touched(before) if before and after else network.by_uuid
        rebuilt = before is not None and after is not None and _rebuilt(before, after)
        # Hosts and neighbours that the operation may remove, and undoing it has to restore.
        names = network.by_uuid if rebuilt else touched
        hosts = tuple(h for name in names for h in state.locator.at(uuid, name))
        neighbours = tuple(n for name in names for n in state.neighbours.at(uuid, name))
        delta = PathDelta()
        gone: list[int] = []
        freed: _Freed = set()
        left: list[Attachment] = []
        if te_paths is None:
            te_paths = {} if after is None else self._constraints.plan(after, strict=False)
        queues = self._constraints.queue_config()
        old_paths = state.te_paths.commit(uuid, te_paths)

        deferred = Delta()

        def undo() -> Effects:
            state.installed.take_up(deferred)
            return self._undo(uuid, before, after, hosts, neighbours, old_paths)

        try:
            if after is None:
                assert old is not None
                gone.append(old.index)
                freed |= self._uninstall(old, delta)
            elif old is None or before is None:
                self.install(after, delta)
            elif rebuilt:
                freed |= self._uninstall(old, delta)
                state.labels.release_rules(after.uuid)
                self.install(after, delta)
            else:
                freed |= self._alter(old, after, touched, delta, left)
            self._follow_te_paths(uuid, old_paths, touched, delta)
        except BaseException:
            undo()
            raise
        state.installed.keep_reclaimed(delta)
        if before is not None and after is not None and not rebuilt:
            self._put_off(uuid, left, delta, deferred)
        plan = delta.plan(gone)
        if was_on_demand and (after is None or not state.rulesdb.networks[uuid].on_demand):
            assert old is not None
            self._remove_pairs(old.index, whole_network=after is None, plan=plan)
        if before is None or after is None:
            plan = plan.merged()
        labels = labels_of(old_paths.values())

        def cleanup() -> Effects:
            state.te_paths.free(labels)
            if not self._deferred.concerns(uuid):  # what lingers there uses numbers, too
                self._free_numbers(uuid)
            return self._constraints.retry_degraded()

        return Transaction(
            plan,
            frozenset((uuid,)),
            undo=undo,
            cleanup=cleanup,
            effects=Effects(rebind=frozenset(freed)),
            deferred=deferred,
            left={old.point: old.uuid for old in left},
            queues=queues,
        )

    def _put_off(self, uuid: str, left: Iterable[Attachment], delta: Delta, deferred: Delta) -> None:
        """Move the removals that have to wait until the last frame has left the old paths to ``deferred``.

        Switches go on using cached flows for a moment after they have confirmed other rules, so frames still
        arrive where an endpoint was. No rule leads there any more.
        """
        now = self._state.rulesdb.networks[uuid]
        delivering = {old.dpid for old in left}
        outlasts = partial(_outlasts, delivering, delivering - set(now.by_switch))
        deferred.remove |= delta.split_off(outlasts).remove
        for old in left:
            if old.dpid in now.by_switch:
                lingering = self._lingering(now, old)
                delta.put.setdefault((Order.RECEIVE, old.dpid), []).extend(lingering)
                deferred.remove.setdefault(old.dpid, []).extend(lingering)
        self._state.installed.put_off(deferred)

    def _lingering(self, now: NetworkRecord, old: Attachment) -> list[Flow]:
        """The rules that deliver frames from tunnels where an endpoint was, at a switch with other endpoints
        of the network. On-demand networks have their own (see `ondemand.flows`)."""
        if not now.floods:
            return []
        hosts = self._state.locator.at(now.uuid, old.uuid)
        return [self._state.switching.former_place(old, host) for host in hosts]

    def _remove_pairs(self, index: int, whole_network: bool, plan: Plan) -> None:
        """Remove the rules of a network's pairs, which may be on any switch."""
        if whole_network:
            message = delete_network(pipeline.cookie(index, Kind.BASE))
        else:
            message = delete_pair_flows(index)
        plan.rounds.append({dpid: [message] for dpid, s in self._state.switches.items() if s.connected})

    def _follow_te_paths(
        self, uuid: str, before: dict[ConstraintKey, TePath], touched: Collection[str], delta: Delta
    ) -> None:
        record = self._state.rulesdb.networks.get(uuid)
        if record is None:
            self._constraints.drop(before, delta)
        elif before or self._state.te_paths.of(uuid):
            self._constraints.recompile_endpoints(record, touched, delta)
            self._constraints.compile(record, before, delta)

    def _undo(
        self,
        uuid: str,
        before: VirtualNetwork | None,
        after: VirtualNetwork | None,
        hosts: tuple[Host, ...],
        neighbours: tuple[Neighbour, ...],
        te_paths: dict[ConstraintKey, TePath],
    ) -> Effects:
        """Change the state back to that before :meth:`begin`. The switches have to be compared with it."""
        state, delta = self._state, PathDelta()
        undone = dict(state.te_paths.of(uuid))
        state.te_paths.restore(uuid, te_paths)
        record = state.rulesdb.networks.get(uuid)
        freed: _Freed = set()
        if before is None:
            if record is not None:
                freed |= self._uninstall(record, delta)
        elif record is None:
            self.install(before, delta)
        elif after is not None and _rebuilt(before, after):
            freed |= self._uninstall(record, delta)
            state.labels.release_rules(uuid)
            self.install(before, delta)
        else:
            freed |= self._alter(record, before, (after or before).touched(before), delta, [])
        if before is not None:
            self._restore_hosts(state.rulesdb.networks[uuid], hosts, neighbours, delta)
        self._follow_te_paths(uuid, undone, (after or before or _EMPTY).by_uuid, delta)
        state.te_paths.free(labels_of(undone.values()))
        self._free_numbers(uuid)
        return Effects(rebind=frozenset(freed))

    def _restore_hosts(
        self,
        record: NetworkRecord,
        hosts: tuple[Host, ...],
        neighbours: tuple[Neighbour, ...],
        delta: Delta,
    ) -> None:
        """Learn again what was learned before, unless it has been meanwhile."""
        locator, known = self._state.locator, self._state.neighbours
        for host in hosts:
            if not host.declared and locator.find(record.uuid, host.mac) is None:
                locator.learn(record.uuid, host.endpoint, host.mac)
                self._units.compile_host(record, host.mac, delta)
        for old in neighbours:
            key = (record.uuid, old.endpoint, old.address)
            if old.mac is not None and known.find(*key) is None:
                again = known.learn(*key, old.mac, old.due)
                if again is not None:
                    self._units.compile_neighbour(record, again, delta)

    # ---- changes of the state ------------------------------------------------------------------

    def install(self, network: VirtualNetwork, delta: Delta) -> None:
        """Add a network and compile all of it. One that has numbers already keeps them."""
        state = self._state
        index = state.labels.index(network.uuid)
        if index is None:
            index = state.rulesdb.free_index(state.labels.last_index)
            state.labels.assign_index(network.uuid, index)
        rules = state.labels.rules(network.uuid)
        if rules is None:
            # The defaults of the time when it was created stay, whatever those of the next connection are.
            rules = (network.rules or Rules()).over(state.options.rules)
            state.labels.set_rules(network.uuid, rules)
        record = state.rulesdb.add(network, index, rules, state.switches)
        state.locator.put(network.uuid, record.tunnel is None, declared_hosts(network.endpoints))
        self._units.change_switches(record, set(), set(record.by_switch), delta)
        self._units.compile_network(record, delta)

    def _uninstall(self, record: NetworkRecord, delta: Delta) -> _Freed:
        """Remove a network. Returns the switches where that frees ports for others."""
        state, uuid = self._state, record.uuid
        macs = [host.mac for host in state.locator.hosts(uuid)]
        state.rulesdb.remove(uuid)
        freed = self._awaited(record.by_switch)
        state.locator.remove_network(uuid)
        state.ondemand.discard_network(uuid)
        for dpid in record.by_switch:
            self._units.drop_flood(uuid, dpid, delta)
        for name in record.endpoints:
            self._units.drop_endpoint(uuid, name, delta)
        self._units.drop_prefixes(uuid, record.endpoints, record.by_switch, delta)
        state.drop_address_plan(uuid)
        self._units.drop_hosts(uuid, macs, delta)
        self._units.change_switches(record, set(record.by_switch), set(), delta)
        return freed

    def _alter(
        self,
        record: NetworkRecord,
        after: VirtualNetwork,
        touched: Collection[str],
        delta: PathDelta,
        left: list[Attachment],
    ) -> _Freed:
        """Change endpoints, and compile the units that depend on them. Returns the switches where that frees
        ports for others. Adds to ``left`` where endpoints were that have moved."""
        state, units, uuid = self._state, self._units, after.uuid
        was, old_switches = record.description, set(record.by_switch)
        old_kind, carried = (record.uses_labels, record.keeps_tags), record.carries_priority
        macs = {h.mac for name in touched for h in state.locator.at(uuid, name)}
        before = state.rulesdb.update(record, after, touched, state.switches)
        freed = self._awaited(b.dpid for b in before)
        departed = [old for old in before if old.port is not None and self._has_departed(record, old)]
        # Where another endpoint has come, or one was removed, no frame may be delivered any more.
        closed = {old.dpid for old in departed if not self._is_left(record, old)}
        left += (old for old in departed if old.dpid not in closed)
        self._forget_gone(was, after, touched, delta)
        state.locator.declare(uuid, declared_hosts(after.select(touched)), touched)
        self._forget_redeclared(record, after.select(touched), delta)
        now = [record.endpoints[u] for u in touched if u in record.endpoints]
        switches = set(record.by_switch)
        if not record.floods:
            state.ondemand.remove_endpoints(uuid, touched)
        units.change_switches(record, old_switches, switches, delta, carried)
        for dpid in old_switches - switches:
            units.drop_flood(uuid, dpid, delta)
        kind = record.uses_labels, record.keeps_tags
        begins_or_ends = carried != record.carries_priority
        everywhere = switches != old_switches or old_kind != kind or begins_or_ends
        for dpid in switches if everywhere else {b.dpid for b in (*before, *now)}:
            here = [b for b in (*before, *now) if b.dpid == dpid]
            units.compile_flood(record, dpid, here, delta, spread=everywhere)
        for name in touched:
            attachment = record.endpoints.get(name)
            if attachment is not None:
                units.compile_endpoint(attachment, delta)
        if is_routed(record):
            self._alter_prefixes(record, touched, old_switches, delta)
        if switches != old_switches or begins_or_ends:
            macs |= {h.mac for h in state.locator.hosts(uuid)}
        else:
            ports = {(b.dpid, b.port) for b in (*before, *now) if b.port is not None}
            names = {*touched, *(name for port in ports for name in record.by_port.get(port, ()))}
            macs |= {h.mac for name in names for h in state.locator.at(uuid, name)}
        for mac in macs:
            units.turn_host(record, mac, delta)
        return freed

    @staticmethod
    def _has_departed(record: NetworkRecord, old: Attachment) -> bool:
        now = record.endpoints.get(old.uuid)
        return now is None or now.point != old.point or (old.is_aggregate and not now.is_aggregate)

    def _is_left(self, record: NetworkRecord, old: Attachment) -> bool:
        """Whether an endpoint has moved away from a place where no other has come."""
        now = record.endpoints.get(old.uuid)
        return now is not None and self._state.rulesdb.by_point.get(old.point, now) is now

    def _forget_gone(
        self, was: VirtualNetwork, after: VirtualNetwork, touched: Collection[str], delta: Delta
    ) -> None:
        """Remove the hosts of endpoints that are gone, and the neighbours of those with another address.

        An endpoint that moves takes its hosts along, as a port of one switch would.
        """
        for old in was.select(touched):
            new = after.by_uuid.get(old.uuid)
            if new is None:
                self._state.locator.remove_learned_at(after.uuid, old.uuid)
                self._units.drop_endpoint(after.uuid, old.uuid, delta)
            elif new.address != old.address:
                self._units.drop_neighbours(after.uuid, old.uuid, delta)

    def _alter_prefixes(
        self, record: NetworkRecord, touched: Collection[str], old: set[int], delta: Delta
    ) -> None:
        """Endpoints of a router changed, and perhaps its switches, which were ``old``."""
        units, switches = self._units, set(record.by_switch)
        gone = [name for name in touched if name not in record.endpoints]
        units.drop_prefixes(record.uuid, gone, old | switches, delta)
        units.drop_prefixes(record.uuid, record.endpoints, old - switches, delta)
        units.compile_prefixes(record.endpoints.values(), switches - old, delta)
        changed = [record.endpoints[name] for name in touched if name in record.endpoints]
        units.compile_prefixes(changed, switches & old, delta)

    def _forget_redeclared(self, record: NetworkRecord, ends: Iterable[Endpoint], delta: Delta) -> None:
        """Remove neighbours whose MAC addresses are declared at other endpoints now."""
        declared = {mac.to_bytes(6): endpoint for mac, endpoint in declared_hosts(ends)}
        if not declared or not is_routed(record):
            return
        neighbours = self._state.neighbours
        for neighbour in list(neighbours.known(record.uuid)):
            if declared.get(neighbour.mac or b"", neighbour.endpoint) != neighbour.endpoint:
                neighbours.remove(neighbour)
                self._units.compile_neighbour(record, neighbour, delta)

    def _awaited(self, dpids: Iterable[int]) -> _Freed:
        """Of switches on which ports came free, those where endpoints wait for a port."""
        state = self._state
        return {d for d in dpids if state.rulesdb.unbound[d] and d in state.switches}

    # ---- numbers -------------------------------------------------------------------------------

    def _free_numbers(self, uuid: str) -> None:
        """Free the numbers that a network, which may be gone, no longer needs."""
        state = self._state
        record = state.rulesdb.networks.get(uuid)
        if record is None:
            state.labels.release_network(uuid)
            state.rulesdb.release_position(uuid)
        else:
            spread = record.by_switch if len(record.by_switch) > 1 else ()
            for kind, space in state.labels.spaces.items():
                space.keep_services(uuid, spread if kind is record.tunnel else ())
        self._constraints.free_numbers(uuid, record)
        self._free_tunnels()

    def free_left_over(self) -> None:
        """Free the numbers of networks that were removed from the store by a controller which was killed
        before it could free them."""
        state = self._state
        for uuid in state.labels.networks():
            if uuid not in state.rulesdb.networks:
                state.labels.release_network(uuid)
                state.meters.keep(uuid, lambda *_: False)
                state.queues.keep(uuid, ())
        self._free_tunnels()

    def _free_tunnels(self) -> None:
        for kind, space in self._state.labels.spaces.items():
            for egress in space.tunnels():
                if not self._state.tunnel_users[kind].used(egress):
                    space.release_tunnel(egress)


def _rebuilt(before: VirtualNetwork, after: VirtualNetwork) -> bool:
    """Whether a change concerns every unit of a network."""
    return (before.rules, before.forwarding) != (after.rules, after.forwarding)


#: where frames enter a network
_ENTRANCES = (Table.CLASSIFY, Table.SOURCE)
#: where they leave: only other rules lead there
_EXITS = (
    Table.NEIGHBOUR, Table.EXIT, Table.TURN, Table.POLICE, Table.POLICE_TURN, Table.STRIP,
)  # fmt: skip


def _outlasts(delivering: Collection[int], left: Collection[int], dpid: int, entry: SwitchEntry) -> bool:
    """Whether the removal of an entry has to wait until no frame uses it any more.

    ``delivering``: the switches where endpoints were that have moved; ``left``: those of them where the
    network has no endpoint any more.
    """
    if is_path(entry):
        return True
    if isinstance(entry, Flow):
        if dpid in left:
            return entry.table not in _ENTRANCES
        return dpid in delivering and entry.table in _EXITS
    chooses = isinstance(entry, Group) and pipeline.member_group_point(entry.group_id) is not None
    return dpid in left or (dpid in delivering and (chooses or not isinstance(entry, Group)))
