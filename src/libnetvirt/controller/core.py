"""The controller: joins RulesDB, Locator, PathFinder, Installed rules and Discovery. Pure logic.

Two kinds of work come out of it. What a frame, a timer or an expired rule calls for goes to the
:class:`Wire` at once. What an operation or a change of the topology calls for is :class:`Work`: a plan
of rounds that the shell carries out one after the other, one work at a time; while it runs, frames of
its networks wait in ``deferred``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from libnetvirt import openflow as of
from libnetvirt.controller import layout
from libnetvirt.controller.compiler import Compiler, declared_hosts, is_native
from libnetvirt.controller.discovery import Discovery
from libnetvirt.controller.entries import Flow, deleting
from libnetvirt.controller.installed import Differences, Dump, Installed, Plan, delete_network
from libnetvirt.controller.labels import Fact, Labels
from libnetvirt.controller.layout import Kind
from libnetvirt.controller.locator import HOST_LIMIT, Host, Locator
from libnetvirt.controller.pathfinder import Edge, PathFinder
from libnetvirt.controller.reactive import Reactive, Wire, is_on_demand
from libnetvirt.controller.rulesdb import Bound, Entry, PortView, RulesDB, SwitchView, switch_text
from libnetvirt.model import Rules, VirtualNetwork


class Publish(Protocol):
    """Reports an event."""

    def __call__(self, kind: str, message: str, **fields: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Options:
    """How the controller behaves. Times in seconds."""

    rules: Rules
    lldp_interval: float = 2.0
    host_age: int = 300
    host_limit: int = HOST_LIMIT
    # How long a switch is taken to go on forwarding after its control connection is lost.
    hold: float = 15.0
    # Frames per second that one endpoint may send up, and as many at once.
    packet_rate: float = 5000.0
    link_mtu: int = 1500


@dataclass(slots=True)
class Work:
    """A plan, the networks whose frames wait for it (None: all), and what to do when it is done."""

    plan: Plan
    networks: frozenset[str] | None
    done: Callable[[], None] = lambda: None


@dataclass(slots=True)
class Needs:
    """Which switches send into the tunnel to which egress, and for how many networks."""

    by_egress: dict[int, Counter[int]] = field(default_factory=dict)

    def change(self, old: set[int], new: set[int]) -> set[int]:
        """A network's switches change. Returns the egress switches whose tunnels are affected."""
        affected: set[int] = set()
        for switches, step in ((old, -1), (new, 1)):
            for egress in switches:
                counter = self.by_egress.setdefault(egress, Counter())
                for ingress in switches - {egress}:
                    counter[ingress] += step
                    if counter[ingress] in (0, 1):
                        affected.add(egress)
                    if not counter[ingress]:
                        del counter[ingress]
        return affected

    def ingresses(self, egress: int) -> list[int]:
        """The switches that send into the tunnel to a switch."""
        return sorted(self.by_egress.get(egress, ()))


class Controller:
    """The controller's state and what it does on each event."""

    def __init__(self, options: Options, secret: bytes, wire: Wire, publish: Publish) -> None:
        self.options = options
        self.wire = wire
        self.publish = publish
        self.switches: dict[int, SwitchView] = {}
        self.rulesdb = RulesDB()
        self.locator = Locator(options.host_limit)
        self.paths = PathFinder()
        self.labels = Labels()
        self.installed = Installed()
        self.discovery = Discovery(secret, options.lldp_interval)
        self.compiler = Compiler(self.labels, self.paths, options.host_age)
        self.reactive = Reactive(wire, self.locator, self.paths)
        self.needs = Needs()
        #: set when the topology has to be looked at again
        self.topology_changed = False
        #: switches whose ports came, went or were renamed
        self.rebind: set[int] = set()
        self._stored_links: set[str] = set()

    # ---- what is stored ------------------------------------------------------------------------

    def load(self, networks: Iterable[VirtualNetwork], facts: dict[Fact, str], now: float) -> None:
        """Take up what the store has: called once, before any switch connects."""
        self.labels.load(facts)
        for kind, key in facts:
            if kind == "link":
                source, destination = (
                    (int(d), int(p)) for d, p in (end.split("/") for end in key.split(">"))
                )
                self.discovery.assume(source, destination, now + self.options.hold)
                self._stored_links.add(key)
        self.paths.update(self.discovery.edges())
        into = Differences()
        for network in networks:
            self._install(network, self._resolve(network), into)
        for egress in self.needs.by_egress:
            self._compile_tunnel(egress, into)
        self._compile_links(into)

    def link_facts(self) -> dict[Fact, str | None]:
        """What the store has to be told about links since the last call."""
        now = {f"{e.source}/{e.source_port}>{e.destination}/{e.destination_port}" for e in self.paths.edges}
        facts: dict[Fact, str | None] = {("link", key): None for key in self._stored_links - now}
        facts |= {("link", key): "" for key in now - self._stored_links}
        self._stored_links = now
        return facts

    # ---- operations ----------------------------------------------------------------------------

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
            elif old is None or self._resolve(after) != old.rules:
                if old is not None:
                    self._uninstall(old, into)
                self._install(after, self._resolve(after), into)
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

    def _resolve(self, network: VirtualNetwork) -> Rules:
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

    def _install(self, network: VirtualNetwork, rules: Rules, into: Differences) -> None:
        index = self.labels.index(network.uuid)
        if index is None:
            index = self.rulesdb.free_index()
            self.labels.give_index(network.uuid, index)
        entry = self.rulesdb.put(network, index, rules, self.switches)
        self.locator.put(network.uuid, is_native(entry), declared_hosts(entry))
        if not is_native(entry):
            self._change_needs(set(), set(entry.by_switch), into)
        self._compile_network(entry, into)

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
            self._change_needs(set(entry.by_switch), set(), into)
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
        for gone in was.keys() - now.keys():
            self.locator.forget_endpoint(uuid, gone)
        self.locator.put(uuid, is_native(entry), declared_hosts(entry))
        touched = [b for u in changed for b in (old_bounds.get(u), entry.endpoints.get(u)) if b is not None]
        ports = {(b.dpid, b.port) for b in touched}
        if is_native(entry):
            self.reactive.drop_endpoints(uuid, changed)
        else:
            self._change_needs(old_switches, switches, into)
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
                self._compile_host(entry, mac, into)

    def _change_needs(self, old: set[int], new: set[int], into: Differences) -> None:
        for egress in self.needs.change(old, new):
            self._compile_tunnel(egress, into)

    def _compile_tunnel(self, egress: int, into: Differences) -> None:
        ingresses = self.needs.ingresses(egress)
        compiled = self.compiler.tunnel(egress, ingresses) if ingresses else ()
        self.installed.replace(("tunnel", egress), compiled, into)

    def _compile_network(self, entry: Entry, into: Differences) -> None:
        for dpid in entry.by_switch:
            self.installed.replace(("flood", entry.uuid, dpid), self.compiler.flood(entry, dpid), into)
        for bound in entry.endpoints.values():
            unit = ("endpoint", entry.uuid, bound.endpoint.uuid)
            self.installed.replace(unit, self.compiler.endpoint(bound), into)
        for host in self.locator.hosts(entry.uuid):
            self._compile_host(entry, host.mac, into)

    def _compile_host(self, entry: Entry, mac: int, into: Differences) -> None:
        host = self.locator.find(entry.uuid, mac)
        compiled = self.compiler.host(entry, host) if host is not None else ()
        self.installed.replace(("host", entry.uuid, mac), compiled, into)

    def _free_tunnels(self) -> None:
        for egress in self.labels.tunnels():
            if not self.needs.ingresses(egress):
                self.labels.drop_tunnel(egress)

    # ---- topology ------------------------------------------------------------------------------

    def reroute(self) -> Work | None:
        """Look at the topology again; None if paths stay as they are.

        Tunnels whose paths change in a switch get a new outer label, so that the new path is whole before
        the first frame takes it and the old one until the last has left it.
        """
        self.topology_changed = False
        if not self.paths.update(self._usable_edges()):
            return None
        into = Differences()
        self._compile_links(into)
        freed: list[int] = []
        moved: list[int] = []
        for egress in sorted(self.needs.by_egress):
            ingresses = self.needs.ingresses(egress)
            if not ingresses:
                continue
            old = {(p.dpid, p.entry.key): p.entry for p in self.installed.unit(("tunnel", egress))}
            new = list(self.compiler.tunnel(egress, ingresses))
            turned = [p for p in new if old.get((p.dpid, p.entry.key), p.entry) != p.entry]
            if any(isinstance(p.entry, Flow) for p in turned):
                freed.append(self.labels.tunnel(egress).label)
                self.labels.relabel(egress)
                new = list(self.compiler.tunnel(egress, ingresses))
            if turned:
                moved.append(egress)
            self.installed.replace(("tunnel", egress), new, into)
        for route in self.reactive.reroute():
            moved.append(route.first[0])
        for egress in moved:
            self.publish(
                "path.moved", f"paths to switch {switch_text(egress)} changed", switch=switch_text(egress)
            )
        self.installed.settle(into)

        def done() -> None:
            for label in freed:
                self.labels.free_outer(label)

        return Work(into.plan(), None, done)

    def _usable_edges(self) -> list[Edge]:
        def usable(dpid: int, port: int) -> bool:
            switch = self.switches.get(dpid)
            if self.rulesdb.holds_port(dpid, port):
                return False
            if switch is None or not switch.known:
                return True  # from the store: taken as it was until the switch connects
            view = switch.ports.get(port)
            return view is not None and view.up

        return [
            e
            for e in self.discovery.edges()
            if usable(e.source, e.source_port) and usable(e.destination, e.destination_port)
        ]

    def _compile_links(self, into: Differences) -> None:
        wanted = {(e.destination, e.destination_port) for e in self.paths.edges}
        units = {("link", *place) for place in wanted}
        for unit in [u for u in self.installed.units("link") if u not in units]:
            self.installed.replace(unit, (), into)
        for dpid, port in wanted:
            self.installed.replace(("link", dpid, port), self.compiler.link(dpid, port), into)

    # ---- switches ------------------------------------------------------------------------------

    def switch_up(self, view: SwitchView) -> None:
        """A switch has connected and told its ports."""
        old = self.switches.get(view.dpid)
        self.switches[view.dpid] = view
        if old is not None and old.known:
            for port in old.ports.keys() | view.ports.keys():
                if port not in view.ports or not view.ports[port].up:
                    self.discovery.lose_port(view.dpid, port)
        else:
            for port in [p for d, p in self.discovery.places() if d == view.dpid]:
                if port not in view.ports or not view.ports[port].up:
                    self.discovery.lose_port(view.dpid, port)
        self.topology_changed = True
        self.publish(
            "switch.connected",
            f"switch {switch_text(view.dpid)} connected from {view.address} with {len(view.ports)} ports",
            switch=switch_text(view.dpid),
        )

    def mend(self, dpid: int, dump: Dump) -> Work:
        """Compare a switch with what it should hold; what is missing, wrong or too much is mended."""
        switch = self.switches[dpid]
        into = Differences()
        self.installed.replace(("base", dpid), self.compiler.base(switch), into)
        affected = self.rulesdb.ports_known(switch)
        self._adopt(dpid, dump)
        for entry in affected:
            self.installed.replace(("flood", entry.uuid, dpid), self.compiler.flood(entry, dpid), into)
            for bound in entry.on(dpid):
                unit = ("endpoint", entry.uuid, bound.endpoint.uuid)
                self.installed.replace(unit, self.compiler.endpoint(bound), into)
            for host in self.locator.hosts(entry.uuid):
                self._compile_host(entry, host.mac, into)
        self.installed.settle(into)
        # For this switch the comparison says more than the difference of intentions.
        for part in (into.put, into.change):
            for key in [key for key in part if key[1] == dpid]:
                del part[key]
        into.remove.pop(dpid, None)
        mended = self.installed.mend(dpid, dump)
        into.put.update(mended.put)
        into.change.update(mended.change)
        into.remove.update(mended.remove)
        plan = into.plan()
        stale = self._stale_paths(dump)
        if stale:
            plan.rounds.append({dpid: stale})
        self._check_paths(dpid, dump)
        return Work(plan, None)

    def rebound(self, dpid: int) -> Work:
        """A switch's ports came, went or were renamed: bind its endpoints anew."""
        into = Differences()
        switch = self.switches[dpid]
        for entry in self.rulesdb.ports_known(switch):
            self.installed.replace(("flood", entry.uuid, dpid), self.compiler.flood(entry, dpid), into)
            for bound in entry.on(dpid):
                unit = ("endpoint", entry.uuid, bound.endpoint.uuid)
                self.installed.replace(unit, self.compiler.endpoint(bound), into)
            for host in self.locator.hosts(entry.uuid):
                self._compile_host(entry, host.mac, into)
            self.reactive.drop_endpoints(entry.uuid, [b.endpoint.uuid for b in entry.on(dpid)])
        self.installed.settle(into)
        return Work(into.plan(), None)

    def switch_down(self, dpid: int, now: float) -> None:
        """A switch's control connection is lost. It goes on forwarding, as far as we know."""
        switch = self.switches[dpid]
        switch.connected = False
        switch.lost_at = now
        self.reactive.lose_switch(dpid)
        name = switch_text(dpid)
        self.publish("switch.disconnected", f"the connection of switch {name} is lost", switch=name)

    def port_status(self, dpid: int, status: of.PortStatus, now: float) -> None:
        """A port came, went or changed."""
        switch = self.switches[dpid]
        number = status.desc.port_no
        old = switch.ports.get(number)
        if status.reason == of.PortStatusReason.DELETE:
            switch.ports.pop(number, None)
            new = None
        else:
            new = port_view(status.desc)
            if new is None:
                return
            switch.ports[number] = new
        if (old and old.name) != (new and new.name):
            self.rebind.add(dpid)
        if new is not None and new.up:
            if old is None or not old.up:
                self.send_lldp(dpid, [number], now)
                self.publish_port(dpid, number, "up")
            return
        if old is not None and old.up:
            self.publish_port(dpid, number, "down")
        if self.discovery.lose_port(dpid, number):
            self.topology_changed = True
        self._forget_port(dpid, number)

    def publish_port(self, dpid: int, port: int, what: str) -> None:
        """Report a port that went up or down."""
        name = switch_text(dpid)
        self.publish(f"port.{what}", f"port {port} of switch {name} is {what}", switch=name, port=str(port))

    def send_lldp(self, dpid: int, ports: Iterable[int], now: float) -> None:
        """Send Discovery's frames out at ports that are up and hold no endpoint."""
        switch = self.switches[dpid]
        for number in ports:
            port = switch.ports.get(number)
            if port is not None and port.up and not self.rulesdb.holds_port(dpid, number):
                frame = self.discovery.frame(dpid, number, port.hw_addr, now)
                self.wire.send(dpid, of.PacketOut(actions=(of.Output(number),), frame=frame))

    def tick(self, now: float) -> None:
        """Once per LLDP interval."""
        for dpid, switch in self.switches.items():
            if switch.connected:
                self.send_lldp(dpid, switch.ports, now)
        if self.discovery.expire(now, lambda dpid: self._held(dpid, now)):
            self.topology_changed = True

    def _held(self, dpid: int, now: float) -> bool:
        switch = self.switches.get(dpid)
        return switch is not None and not switch.connected and now - switch.lost_at < self.options.hold

    def _adopt(self, dpid: int, dump: Dump) -> None:
        """Learn from a switch's rules what another run of this controller had learned."""
        for flow in dump.flows:
            entry = self.rulesdb.by_index.get(layout.cookie_network(flow.cookie))
            kind = flow.cookie & 0xFFFF
            if entry is None or kind not in (Kind.HOST, Kind.PATH) or not flow.match.get("metadata"):
                continue
            metadata = flow.match.get("metadata")
            port, mac = flow.match.value("in_port"), flow.match.value("eth_src")
            if not isinstance(metadata, int) or not mac or not port:
                continue
            bound = self.rulesdb.at(dpid, port, metadata & layout.METADATA_TAG)
            if bound is None or bound.network is not entry:
                continue
            if kind == Kind.HOST and not is_native(entry):
                # A host that is known elsewhere has moved while this rule was out of sight.
                if self.locator.find(entry.uuid, mac) is None:
                    self.locator.learn(entry.uuid, bound.endpoint.uuid, mac)
            elif kind == Kind.PATH and is_on_demand(entry):
                self.locator.learn(entry.uuid, bound.endpoint.uuid, mac)
                first = Flow(
                    flow.table_id, flow.priority, flow.match, flow.instructions, flow.cookie, notify=True
                )
                self.reactive.adopt(dpid, bound, first)

    def _stale_paths(self, dump: Dump) -> list[of.Message]:
        """Removal of reactive rules of networks that are gone."""
        stale: set[int] = set()
        for flow in dump.flows:
            if layout.is_ours(flow.cookie) and flow.cookie & 0xFFFF in (Kind.PATH, Kind.QUIET):
                index = layout.cookie_network(flow.cookie)
                if index not in self.rulesdb.by_index:
                    stale.add(flow.cookie)
        return [delete_network(cookie) for cookie in stale]

    def _check_paths(self, dpid: int, dump: Dump) -> None:
        held = {(f.table_id, f.priority, f.match) for f in dump.flows}
        broken = {r.key for r, flow in self.reactive.expected(dpid) if flow.key not in held}
        self.reactive.drop_where(lambda route: route.key in broken)

    # ---- hosts ---------------------------------------------------------------------------------

    def _forget_port(self, dpid: int, port: int) -> None:
        for entry in self.rulesdb:
            for bound in entry.on(dpid):
                if bound.port == port:
                    for host in self.locator.forget_endpoint(entry.uuid, bound.endpoint.uuid):
                        self.host_changed(entry, host)

    def host_changed(self, entry: Entry, host: Host) -> None:
        """A host was learned, moved or forgotten: tell the switches at once."""
        if is_native(entry):
            self.reactive.drop_host(entry.uuid, host.mac)
            return
        into = Differences()
        self._compile_host(entry, host.mac, into)
        for one in into.plan().rounds:
            for dpid, messages in one.items():
                for message in messages:
                    self.wire.send(dpid, message)

    def remove_flow(self, dpid: int, flow: Flow) -> None:
        """Remove one entry from a switch at once."""
        self.wire.send(dpid, deleting(flow))


def port_view(desc: of.PortDesc) -> PortView | None:
    """What matters of a port's description; None for the ports that are not for endpoints."""
    if desc.port_no >= of.Port.MAX:
        return None
    down = desc.config & of.PortConfig.PORT_DOWN or desc.state & of.PortState.LINK_DOWN
    return PortView(desc.port_no, desc.name, not down, desc.curr_speed * 1000, desc.hw_addr)


def bounds_on(entries: Iterable[Entry], dpid: int, port: int) -> Iterable[Bound]:
    """The endpoints on a port."""
    return (b for e in entries for b in e.on(dpid) if b.port == port)
