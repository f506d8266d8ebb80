"""Operations: a network comes, changes or goes.

Only the units that an operation touches are compiled, so that one more endpoint costs the same in a
small network and in a large one.
"""

from __future__ import annotations

from libnetvirt.controller import layout
from libnetvirt.controller.compiler import declared_hosts, is_native
from libnetvirt.controller.installed import Differences, delete_network, delete_paths
from libnetvirt.controller.layout import Kind
from libnetvirt.controller.locator import Host
from libnetvirt.controller.rulesdb import Entry
from libnetvirt.controller.state import State, Work
from libnetvirt.model import Latency, Rules, Timeout, VirtualNetwork

#: how long fixed and idle rules last where neither network nor connection says
DEFAULT_DURATION = Latency.parse("60 s")


class Operations(State):
    """Carries operations out in the controller's mind."""

    def begin(self, before: VirtualNetwork | None, after: VirtualNetwork | None) -> Work:
        """Make a network be ``after`` in the controller's mind; returns what the switches have to be told.

        Numbers are freed only when the work is done, so :meth:`undo` finds them as they were. Raises
        LabelsExhausted, with nothing changed.
        """
        network = after or before
        assert network is not None
        old = self.rulesdb.networks.get(network.uuid)
        was_native = old is not None and is_native(old)
        hosts = tuple(self.locator.hosts(network.uuid))
        into = Differences()
        gone: list[int] = []
        try:
            if after is None:
                assert old is not None
                gone.append(old.index)
                self._uninstall(old, into)
            elif old is None or before is None:
                self.install(after, into)
            elif before.rules != after.rules and self.resolve(after) != old.rules:
                self._uninstall(old, into)
                self.labels.drop_rules(after.uuid)
                self.install(after, into)
            else:
                self._alter(old, after, into)
        except BaseException:
            self._take_back(network.uuid, before, after, hosts)
            raise
        self.installed.settle(into)
        plan = into.plan(gone)
        if was_native and (after is None or not is_native(self.rulesdb.networks[after.uuid])):
            # Its rules are wherever its paths went.
            assert old is not None
            message = (
                delete_paths(old.index) if after else delete_network(layout.cookie(old.index, Kind.BASE))
            )
            plan.rounds.append({dpid: [message] for dpid, s in self.switches.items() if s.connected})
        if before is None or after is None:
            plan = plan.merged()
        return Work(plan, frozenset((network.uuid,)), lambda: self._free_numbers(network.uuid), hosts=hosts)

    def undo(self, work: Work, before: VirtualNetwork | None, after: VirtualNetwork | None) -> None:
        """Take back what :meth:`begin` did, before its work was done."""
        network = after or before
        assert network is not None
        self._take_back(network.uuid, before, after, work.hosts)

    def _take_back(
        self,
        uuid: str,
        before: VirtualNetwork | None,
        after: VirtualNetwork | None,
        hosts: tuple[Host, ...],
    ) -> None:
        into = Differences()
        entry = self.rulesdb.networks.get(uuid)
        if before is None:
            if entry is not None:
                self._uninstall(entry, into)
        elif entry is None:
            self.install(before, into)
        elif after is not None and after.rules != before.rules:
            self._uninstall(entry, into)
            self.labels.drop_rules(uuid)
            self.install(before, into)
        else:
            self._alter(entry, before, into)
        if before is not None:
            entry = self.rulesdb.networks[uuid]
            for host in hosts:
                if not host.declared and self.locator.find(uuid, host.mac) is None:
                    self.locator.learn(uuid, host.endpoint, host.mac)
                    self.compile_host(entry, host.mac, into)
        self._free_numbers(uuid)

    def install(self, network: VirtualNetwork, into: Differences) -> None:
        """Make a network known, and compile all of it. One that had numbers before keeps them."""
        index = self.labels.index(network.uuid)
        if index is None:
            index = self.rulesdb.free_index()
            self.labels.give_index(network.uuid, index)
        rules = self.labels.rules(network.uuid)
        if rules is None:
            rules = self.resolve(network)
            # What the defaults were when it was made stays, whatever the next connection's are.
            self.labels.give_rules(network.uuid, rules)
        entry = self.rulesdb.put(network, index, rules, self.switches)
        self.locator.put(network.uuid, is_native(entry), declared_hosts(entry))
        if not is_native(entry):
            self.change_needs(set(), set(entry.by_switch), into)
        self.compile_network(entry, into)

    def resolve(self, network: VirtualNetwork) -> Rules:
        """The network's rules options, with the connection's defaults for what it leaves out."""
        asked, defaults = network.rules or Rules(), self.options.rules
        timeout = asked.timeout or defaults.timeout
        duration = asked.duration
        if duration is None and timeout is not Timeout.PERMANENT:
            duration = defaults.duration or DEFAULT_DURATION
        return Rules(
            encapsulation=asked.encapsulation or defaults.encapsulation,
            insertion=asked.insertion or defaults.insertion,
            timeout=timeout,
            duration=duration,
        )

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
        for name in changed:
            if name in was and (name not in now or now[name].place != was[name].place):
                self.locator.forget_endpoint(uuid, name)
        self.locator.put(uuid, is_native(entry), declared_hosts(entry))
        touched = [b for u in changed for b in (old_bounds.get(u), entry.endpoints.get(u)) if b is not None]
        ports = {(b.dpid, b.port) for b in touched}
        if is_native(entry):
            self.reactive.drop_endpoints(uuid, changed)
        else:
            self.change_needs(old_switches, switches, into)
        same = switches == old_switches
        for dpid in {b.dpid for b in touched} if same else old_switches | switches:
            compiled = self.compiler.flood(entry, dpid) if dpid in switches else ()
            self.installed.replace(("flood", uuid, dpid), compiled, into)
        for name in changed:
            bound = entry.endpoints.get(name)
            entering = self.compiler.endpoint(bound) if bound else ()
            self.installed.replace(("endpoint", uuid, name), entering, into)
        hosts |= {h.mac: h for h in self.locator.hosts(uuid)}
        for mac in hosts:
            host = self.locator.find(uuid, mac)
            places = [hosts[mac].endpoint, host.endpoint if host else ""]
            bounds = [b for p in places for b in (old_bounds.get(p), entry.endpoints.get(p)) if b]
            if not same or any((b.dpid, b.port) in ports for b in bounds) or not bounds:
                self.compile_host(entry, mac, into)

    def _free_numbers(self, uuid: str) -> None:
        """Free the numbers that nothing needs any more."""
        entry = self.rulesdb.networks.get(uuid)
        if entry is None:
            self.labels.drop_network(uuid)
            self.rulesdb.forget(uuid)
        else:
            self.labels.keep_services(uuid, () if is_native(entry) else entry.by_switch)
        self._free_tunnels()

    def _free_tunnels(self) -> None:
        for egress in self.labels.tunnels():
            if not self.needs.ingresses(egress):
                self.labels.drop_tunnel(egress)
