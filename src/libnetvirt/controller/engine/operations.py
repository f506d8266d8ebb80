"""Operations: a network comes, changes or goes.

Only the units that an operation touches are compiled, so that one more endpoint costs the same in a
small network and in a large one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.installed import Delta, delete_network, delete_pair_flows
from libnetvirt.controller.dataplane.pipeline import Kind, Table
from libnetvirt.controller.engine.constraints import ConstraintService
from libnetvirt.controller.engine.state import Transaction
from libnetvirt.controller.intent.locator import Host, declared_hosts
from libnetvirt.controller.intent.neighbours import Neighbour
from libnetvirt.controller.intent.rulesdb import NetworkRecord
from libnetvirt.controller.qos.te_paths import ConstraintKey, TePath, labels_of
from libnetvirt.controller.rules.routing import is_routed
from libnetvirt.model import Endpoint, Rules, VirtualNetwork

_EMPTY = VirtualNetwork(uuid="1")


class Operations(ConstraintService):
    """Carries operations out in the controller's mind."""

    def begin(
        self,
        before: VirtualNetwork | None,
        after: VirtualNetwork | None,
        touched: Collection[str] | None = None,
    ) -> Transaction:
        """Make a network be ``after`` in the controller's mind; returns what the switches have to be told.

        ``touched``: the endpoints that differ, if the caller knows. Numbers are freed only when the work is
        done, so :meth:`undo` finds them as they were. Raises LabelsExhausted, with nothing changed.
        """
        network = after or before
        assert network is not None
        old = self.rulesdb.networks.get(network.uuid)
        was_on_demand = old is not None and old.on_demand
        if touched is None:
            touched = after.touched(before) if before and after else network.by_uuid
        anew = before is not None and after is not None and self._made_anew(before, after)
        # What an operation may forget, and undoing it has to know again.
        names = network.by_uuid if anew else touched
        hosts = tuple(h for name in names for h in self.locator.at(network.uuid, name))
        neighbours = tuple(n for name in names for n in self.neighbours.at(network.uuid, name))
        into = Delta()
        gone: list[int] = []
        # What cannot be admitted was refused before, or is waited for.
        plan_of = {} if after is None else self.plan_te_paths(after, strict=False)
        queues = self.queue_shape()
        te_paths = self.te_paths.commit(network.uuid, plan_of)
        try:
            if after is None:
                assert old is not None
                gone.append(old.index)
                self._uninstall(old, into)
            elif old is None or before is None:
                self.install(after, into)
            elif anew:
                self._uninstall(old, into)
                self.labels.release_rules(after.uuid)
                self.install(after, into)
            else:
                self._alter(old, after, touched, into)
            self._follow_te_paths(network.uuid, te_paths, touched, into)
        except BaseException:
            self._take_back(network.uuid, before, after, hosts, neighbours, te_paths)
            raise
        self.installed.keep_reclaimed(into)
        later = Delta()
        if before is not None and after is not None and not anew:
            # An old path stays until the last frame has left it; nothing leads into it any more.
            paths = (Table.TUNNEL, Table.PATH)
            later = into.split_off(paths, lambda f: bool(pipeline.cookie_network(f.cookie)))
        plan = into.plan(gone)
        if was_on_demand and (after is None or not self.rulesdb.networks[after.uuid].on_demand):
            # The rules of its pairs are wherever their ways went.
            assert old is not None
            message = (
                delete_pair_flows(old.index)
                if after
                else delete_network(pipeline.cookie(old.index, Kind.BASE))
            )
            plan.rounds.append({dpid: [message] for dpid, s in self.switches.items() if s.connected})
        if before is None or after is None:
            plan = plan.merged()
        labels = labels_of(te_paths.values())

        def done() -> None:
            self.te_paths.free(labels)
            self._free_numbers(network.uuid)
            self.look_again()

        return Transaction(
            plan,
            frozenset((network.uuid,)),
            done,
            later,
            hosts=hosts,
            neighbours=neighbours,
            te_paths=te_paths,
            queues=queues,
        )

    def _follow_te_paths(
        self, uuid: str, before: dict[ConstraintKey, TePath], touched: Collection[str], into: Delta
    ) -> None:
        entry = self.rulesdb.networks.get(uuid)
        if entry is None:
            self.drop_te_paths(before, into)
        elif before or self.te_paths.of(uuid):
            self.recompile_te_paths(entry, touched, into)
            self.compile_te_paths(entry, before, into)

    def undo(self, work: Transaction, before: VirtualNetwork | None, after: VirtualNetwork | None) -> None:
        """Take back what :meth:`begin` did, before its work was done."""
        network = after or before
        assert network is not None
        self._take_back(network.uuid, before, after, work.hosts, work.neighbours, work.te_paths)

    def _take_back(
        self,
        uuid: str,
        before: VirtualNetwork | None,
        after: VirtualNetwork | None,
        hosts: tuple[Host, ...],
        neighbours: tuple[Neighbour, ...],
        te_paths: dict[ConstraintKey, TePath],
    ) -> None:
        into = Delta()
        undone = dict(self.te_paths.of(uuid))
        self.te_paths.restore(uuid, te_paths)
        entry = self.rulesdb.networks.get(uuid)
        if before is None:
            if entry is not None:
                self._uninstall(entry, into)
        elif entry is None:
            self.install(before, into)
        elif after is not None and self._made_anew(before, after):
            self._uninstall(entry, into)
            self.labels.release_rules(uuid)
            self.install(before, into)
        else:
            self._alter(entry, before, (after or before).touched(before), into)
        if before is not None:
            entry = self.rulesdb.networks[uuid]
            for host in hosts:
                if not host.declared and self.locator.find(uuid, host.mac) is None:
                    self.locator.learn(uuid, host.endpoint, host.mac)
                    self.compile_host(entry, host.mac, into)
            for old in neighbours:
                place = (uuid, old.endpoint, old.address)
                if old.mac is not None and self.neighbours.find(*place) is None:
                    again = self.neighbours.learn(*place, old.mac, old.due)
                    if again is not None:
                        self.compile_neighbour(entry, again, into)
        self._follow_te_paths(uuid, undone, (after or before or _EMPTY).by_uuid, into)
        self.te_paths.free(labels_of(undone.values()))
        self._free_numbers(uuid)

    @staticmethod
    def _made_anew(before: VirtualNetwork, after: VirtualNetwork) -> bool:
        """Whether a change is of everything."""
        return (before.rules, before.forwarding) != (after.rules, after.forwarding)

    def install(self, network: VirtualNetwork, into: Delta) -> None:
        """Make a network known, and compile all of it. One that had numbers before keeps them."""
        index = self.labels.index(network.uuid)
        if index is None:
            index = self.rulesdb.free_index(self.labels.last_index)
            self.labels.assign_index(network.uuid, index)
        rules = self.labels.rules(network.uuid)
        if rules is None:
            rules = (network.rules or Rules()).over(self.options.rules)
            # What the defaults were when it was made stays, whatever the next connection's are.
            self.labels.set_rules(network.uuid, rules)
        entry = self.rulesdb.add(network, index, rules, self.switches)
        self.locator.put(network.uuid, entry.tunnel is None, declared_hosts(network.endpoints))
        self.change_needs(entry, set(), set(entry.by_switch), into)
        self.compile_network(entry, into)

    def _uninstall(self, entry: NetworkRecord, into: Delta) -> None:
        hosts = list(self.locator.hosts(entry.uuid))
        self.rulesdb.remove(entry.uuid)
        self._offer_places(entry.by_switch)
        self.locator.remove_network(entry.uuid)
        self.ondemand.discard_network(entry.uuid)
        for dpid in entry.by_switch:
            self.drop_flood(entry.uuid, dpid, into)
        for uuid in entry.endpoints:
            self.drop_endpoint(entry.uuid, uuid, into)
        self.drop_prefixes(entry.uuid, entry.endpoints, entry.by_switch, into)
        self.drop_plan(entry.uuid)
        for host in hosts:
            self.installed.replace(("host", entry.uuid, host.mac), (), into)
        self.change_needs(entry, set(entry.by_switch), set(), into)

    def _alter(
        self, entry: NetworkRecord, after: VirtualNetwork, touched: Collection[str], into: Delta
    ) -> None:
        """Change endpoints: recompile what that touches and nothing else."""
        uuid = after.uuid
        was, old_switches, used_labels = entry.description, set(entry.by_switch), entry.uses_labels
        hosts = {h.mac for name in touched for h in self.locator.at(uuid, name)}
        before = self.rulesdb.update(entry, after, touched, self.switches)
        self._offer_places(b.dpid for b in before)
        for old in was.select(touched):
            new = after.by_uuid.get(old.uuid)
            if new is None or new.place != old.place:
                self.locator.remove_learned_at(uuid, old.uuid)
            if new is None:
                self.drop_endpoint(uuid, old.uuid, into)
            elif (new.place, new.address) != (old.place, old.address):
                self.drop_neighbours(uuid, old.uuid, into)
        self.locator.declare(uuid, declared_hosts(after.select(touched)), touched)
        self._disown(entry, after.select(touched), into)
        now = [entry.endpoints[u] for u in touched if u in entry.endpoints]
        switches = set(entry.by_switch)
        if not entry.floods:
            self.ondemand.remove_endpoints(uuid, touched)
        self.change_needs(entry, old_switches, switches, into)
        for dpid in old_switches - switches:
            self.drop_flood(uuid, dpid, into)
        everywhere = switches != old_switches or used_labels != entry.uses_labels
        for dpid in switches if everywhere else {b.dpid for b in (*before, *now)}:
            here = [b for b in (*before, *now) if b.dpid == dpid]
            self.compile_flood(entry, dpid, here, into, spread=everywhere)
        for name in touched:
            attachment = entry.endpoints.get(name)
            if attachment is not None:
                self.compile_endpoint(attachment, into)
        if is_routed(entry):
            self._alter_prefixes(entry, touched, old_switches, into)
        if switches != old_switches:
            hosts |= {h.mac for h in self.locator.hosts(uuid)}
        else:
            ports = {(b.dpid, b.port) for b in (*before, *now) if b.port is not None}
            names = {*touched, *(name for port in ports for name in entry.by_port.get(port, ()))}
            hosts |= {h.mac for name in names for h in self.locator.at(uuid, name)}
        for mac in hosts:
            self.compile_host(entry, mac, into)

    def _alter_prefixes(
        self, entry: NetworkRecord, touched: Collection[str], old: set[int], into: Delta
    ) -> None:
        """A router's endpoints changed, and perhaps its switches, which were ``old``."""
        switches = set(entry.by_switch)
        gone = [name for name in touched if name not in entry.endpoints]
        self.drop_prefixes(entry.uuid, gone, old | switches, into)
        self.drop_prefixes(entry.uuid, entry.endpoints, old - switches, into)
        self.compile_prefixes(entry.endpoints.values(), switches - old, into)
        changed = [entry.endpoints[name] for name in touched if name in entry.endpoints]
        self.compile_prefixes(changed, switches & old, into)

    def _disown(self, entry: NetworkRecord, ends: Iterable[Endpoint], into: Delta) -> None:
        """Forget neighbours whose MAC addresses are declared at other endpoints now."""
        declared = {mac.to_bytes(6): endpoint for mac, endpoint in declared_hosts(ends)}
        if not declared or not is_routed(entry):
            return
        for neighbour in list(self.neighbours.known(entry.uuid)):
            if declared.get(neighbour.mac or b"", neighbour.endpoint) != neighbour.endpoint:
                self.neighbours.remove(neighbour)
                self.compile_neighbour(entry, neighbour, into)

    def _offer_places(self, dpids: Iterable[int]) -> None:
        """Places came free on these switches: they may be what another endpoint has waited for."""
        self.rebind |= {d for d in dpids if self.rulesdb.unbound[d] and d in self.switches}

    def _free_numbers(self, uuid: str) -> None:
        """Free the numbers that nothing needs any more."""
        entry = self.rulesdb.networks.get(uuid)
        if entry is None:
            self.labels.release_network(uuid)
            self.rulesdb.release_position(uuid)
        else:
            spread = entry.by_switch if len(entry.by_switch) > 1 else ()
            for kind, space in self.labels.spaces.items():
                space.keep_services(uuid, spread if kind is entry.tunnel else ())
        self.free_meters(uuid, entry)
        self._free_tunnels()

    def _free_tunnels(self) -> None:
        for kind, space in self.labels.spaces.items():
            for egress in space.tunnels():
                if not self.needs[kind].used(egress):
                    space.release_tunnel(egress)
