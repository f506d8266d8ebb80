"""Operations: a network comes, changes or goes.

Only the units that an operation touches are compiled, so that one more endpoint costs the same in a
small network and in a large one.
"""

from __future__ import annotations

from libnetvirt.controller import layout
from libnetvirt.controller.compiler import declared_hosts, is_native
from libnetvirt.controller.installed import Differences, Plan, delete_network
from libnetvirt.controller.layout import Kind
from libnetvirt.controller.rulesdb import Entry
from libnetvirt.controller.state import State, Work
from libnetvirt.model import Rules, VirtualNetwork


class Operations(State):
    """Carries operations out in the controller's mind."""

    def begin(self, before: VirtualNetwork | None, after: VirtualNetwork | None) -> Work:
        """Make a network be ``after`` in the controller's mind; returns what the switches have to be told.

        The inverse call takes it back. Raises LabelsExhausted, with nothing changed.
        """
        network = after or before
        assert network is not None
        old = self.rulesdb.networks.get(network.uuid)
        into = Differences()
        gone: list[int] = []
        try:
            if after is None:
                assert old is not None
                gone.append(old.index)
                self._uninstall(old, into)
            elif old is None or self.resolve(after) != old.rules:
                if old is not None:
                    self._uninstall(old, into)
                self.install(after, self.resolve(after), into)
            else:
                self._alter(old, after, into)
        except BaseException:
            if before is None and network.uuid in self.rulesdb.networks:
                self._uninstall(self.rulesdb.networks[network.uuid], Differences())
            elif before is not None:
                self.begin(after, before)
            raise
        self.installed.settle(into)
        plan = into.plan(gone)
        if after is None and old is not None and is_native(old):
            # Its rules are wherever its paths went.
            message = delete_network(layout.cookie(old.index, Kind.BASE))
            plan = Plan([{dpid: [message] for dpid, s in self.switches.items() if s.connected}])
        if before is None or after is None:
            plan = plan.merged()
        return Work(plan, frozenset((network.uuid,)), self._free_tunnels)

    def resolve(self, network: VirtualNetwork) -> Rules:
        asked, defaults = network.rules or Rules(), self.options.rules
        timeout = asked.timeout or defaults.timeout
        duration = asked.duration
        if duration is None and timeout == defaults.timeout:
            duration = defaults.duration
        return Rules(
            encapsulation=asked.encapsulation or defaults.encapsulation,
            insertion=asked.insertion or defaults.insertion,
            timeout=timeout,
            duration=duration,
        )

    def install(self, network: VirtualNetwork, rules: Rules, into: Differences) -> None:
        index = self.labels.index(network.uuid)
        if index is None:
            index = self.rulesdb.free_index()
            self.labels.give_index(network.uuid, index)
        entry = self.rulesdb.put(network, index, rules, self.switches)
        self.locator.put(network.uuid, is_native(entry), declared_hosts(entry))
        if not is_native(entry):
            self.change_needs(set(), set(entry.by_switch), into)
        self.compile_network(entry, into)

    def _uninstall(self, entry: Entry, into: Differences) -> None:
        hosts = list(self.locator.hosts(entry.uuid))
        self.rulesdb.drop(entry.uuid)
        self.locator.drop(entry.uuid)
        self.reactive.forget(entry.uuid)
        for dpid in entry.by_switch:
            self.installed.replace(("flood", entry.uuid, dpid), (), into)
        for uuid in entry.endpoints:
            self.installed.replace(("endpoint", entry.uuid, uuid), (), into)
        for host in hosts:
            self.installed.replace(("host", entry.uuid, host.mac), (), into)
        if not is_native(entry):
            self.change_needs(set(entry.by_switch), set(), into)
        self.labels.drop_network(entry.uuid)

    def _alter(self, old: Entry, after: VirtualNetwork, into: Differences) -> None:
        """Change endpoints: recompile what that touches and nothing else."""
        uuid = after.uuid
        was = {e.uuid: e for e in old.description.endpoints}
        now = {e.uuid: e for e in after.endpoints}
        changed = {u for u in was.keys() | now.keys() if was.get(u) != now.get(u)}
        old_switches, old_bounds = set(old.by_switch), old.endpoints
        entry = self.rulesdb.put(after, old.index, old.rules, self.switches)
        switches = set(entry.by_switch)
        hosts = {h.mac: h for h in self.locator.hosts(uuid)}
        for name, endpoint in was.items():
            if name not in now or now[name].place != endpoint.place:
                self.locator.forget_endpoint(uuid, name)
        self.locator.put(uuid, is_native(entry), declared_hosts(entry))
        touched = [b for u in changed for b in (old_bounds.get(u), entry.endpoints.get(u)) if b is not None]
        ports = {(b.dpid, b.port) for b in touched}
        if is_native(entry):
            self.reactive.drop_endpoints(uuid, changed)
        else:
            self.change_needs(old_switches, switches, into)
            if switches != old_switches:
                for left in old_switches - switches:
                    self.labels.drop_service(left, uuid)
                floods = old_switches | switches
            else:
                floods = {b.dpid for b in touched}
            for dpid in floods:
                compiled = self.compiler.flood(entry, dpid) if dpid in switches else ()
                self.installed.replace(("flood", uuid, dpid), compiled, into)
        if is_native(entry):
            for dpid in old_switches | switches:
                compiled = self.compiler.flood(entry, dpid) if dpid in switches else ()
                self.installed.replace(("flood", uuid, dpid), compiled, into)
        for name in changed:
            bound = entry.endpoints.get(name)
            self.installed.replace(
                ("endpoint", uuid, name), self.compiler.endpoint(bound) if bound else (), into
            )
        hosts |= {h.mac: h for h in self.locator.hosts(uuid)}
        for mac in hosts:
            host = self.locator.find(uuid, mac)
            places = [hosts[mac].endpoint, host.endpoint if host else ""]
            bounds = [b for p in places for b in (old_bounds.get(p), entry.endpoints.get(p)) if b]
            if switches != old_switches or any((b.dpid, b.port) in ports for b in bounds) or not bounds:
                self.compile_host(entry, mac, into)

    def _free_tunnels(self) -> None:
        for egress in self.labels.tunnels():
            if not self.needs.ingresses(egress):
                self.labels.drop_tunnel(egress)
