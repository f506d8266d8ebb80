"""TopologyEvents: what the controller does when switches, ports and links come and go."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import Flow, Order, SwitchEntry, delete_message
from libnetvirt.controller.dataplane.installed import (
    Delta,
    Plan,
    SwitchSnapshot,
    delete_network,
    delete_pair_flows,
)
from libnetvirt.controller.dataplane.pipeline import Kind, Table
from libnetvirt.controller.engine.constraints import ConstraintService
from libnetvirt.controller.engine.state import Transaction
from libnetvirt.controller.intent.rulesdb import NetworkRecord
from libnetvirt.controller.intent.switches import PortView, SwitchView, switch_text
from libnetvirt.controller.ondemand.flows import PairFlows
from libnetvirt.controller.rules.routing import is_routed, neighbour_of_rule
from libnetvirt.controller.topology.pathfinder import Edge
from libnetvirt.errors import LabelsExhausted
from libnetvirt.model import Encapsulation

#: cost of a link that leaves a switch without its control connection: any other way is better
COST_AWAY = 1000.0


class TopologyEvents(ConstraintService):
    """Keeps what was asked for true while the substrate changes."""

    def reroute(self) -> Transaction | None:
        """Look at the topology again; None if paths stay as they are.

        Tunnels whose paths change in a switch get a new outer label, so that the new path is whole before
        the first frame takes it and the old one until the last has left it.
        """
        self.topology_changed = False
        capacities_reloaded, self.capacities_changed = self.capacities_changed, False
        before = self.paths.edges
        if (
            not self.paths.update(self._usable_edges())
            and not capacities_reloaded
            and not self.te_paths.plan_reroute()
        ):
            return None
        was, now = ({(e.source, e.source_port) for e in edges} for edges in (before, self.paths.edges))
        if was - now:
            self._distrust()
        into = Delta()
        self.compile_links(into)
        queues = self.queue_shape()
        free_labels = self.replan(into)
        replaced: dict[tuple[Encapsulation, int], int] = {}
        moved: list[int] = []
        for kind, needs in self.needs.items():
            for egress in sorted(filter(needs.used, needs.by_egress)):
                moved += self._turn(kind, egress, replaced, into)
        for route in self.ondemand.reroute(only_costs=was == now):
            moved.append(route.first[0])
        aside = Delta()
        moved += self._turn_hosts(aside, into)
        for egress in dict.fromkeys(moved):
            self.publish(
                "path.moved", f"paths to switch {switch_text(egress)} changed", switch=switch_text(egress)
            )
        self.installed.keep_reclaimed(into)

        def done() -> None:
            for kind, label in replaced:
                self.labels.spaces[kind].free_outer(label)
            free_labels()

        later = into.split_off((Table.TUNNEL, Table.PATH))
        plan = Plan(aside.plan().rounds + into.plan().rounds)
        return Transaction(plan, None, done, later, replaced, queues=queues)

    def _turn(
        self,
        kind: Encapsulation,
        egress: int,
        replaced: dict[tuple[Encapsulation, int], int],
        into: Delta,
    ) -> list[int]:
        """A tunnel follows the topology. Returns its egress if its path has changed."""
        unit = ("tunnel", kind, egress)
        ingresses = self.needs[kind].ingresses(egress)
        old = self.installed.entries_by_key(unit)
        new = list(self.compiler.tunnel(kind, egress, ingresses))
        turned = any(old.get((p.dpid, p.entry.key), p) != p for p in new if isinstance(p.entry, Flow))
        if turned:
            replaced |= self._relabel(kind, egress, ingresses)
            new = list(self.compiler.tunnel(kind, egress, ingresses))
        moved = turned or any(old.get((p.dpid, p.entry.key), p) != p for p in new)
        self.installed.replace(unit, new, into)
        return [egress] if moved else []

    def _turn_hosts(self, aside: Delta, into: Delta) -> list[int]:
        """The ways to the hosts of native networks whose rules are there beforehand follow the topology.

        Without labels, an old way and a new one cannot stand side by side. Where one crosses the other,
        what leads into it is taken ``aside`` first, and the controller forwards meanwhile.
        """
        moved = []
        for entry in [e for e in self.rulesdb if e.tunnel is None and not e.on_demand]:
            for host in self.locator.hosts(entry.uuid):
                unit = ("host", entry.uuid, host.mac)
                old = self.installed.entries_by_key(unit)
                new = {(p.dpid, p.entry.key): p for p in self.compiler.host(entry, host)}
                if old == new:
                    continue
                moved.append(entry.endpoints[host.endpoint].dpid)
                if any(p.order is Order.RECEIVE and new.get(at, p) != p for at, p in old.items()):
                    stays = (p for p in old.values() if p.order is not Order.SEND)
                    self.installed.replace(unit, stays, aside)
                self.installed.replace(unit, new.values(), into)
        return moved

    def linger_over(self, work: Transaction) -> Plan:
        """The removals that a work has put off, less what is wanted again."""
        self.installed.keep_reclaimed(work.later)
        return work.later.plan()

    def unneeded(self, work: Transaction) -> Plan:
        """Of the removals that a work has put off, those for networks that are gone, and for tunnels that no
        network uses any more."""
        owners = dict(work.replaced)
        for kind, space in self.labels.spaces.items():
            owners |= {(kind, space.tunnel(egress).label): egress for egress in space.tunnels()}
        needed = {end for end, egress in owners.items() if self.needs[end[0]].used(egress)}

        def is_needed(flow: Flow) -> bool:
            if flow.table == Table.TUNNEL and not pipeline.cookie_network(flow.cookie):
                return _label(flow) in needed
            return pipeline.cookie_network(flow.cookie) in self.rulesdb.by_index

        now = work.later.split_off((Table.TUNNEL, Table.PATH), lambda f: not is_needed(f))
        self.installed.keep_reclaimed(now)
        return now.plan()

    def _relabel(
        self, kind: Encapsulation, egress: int, ingresses: list[int]
    ) -> dict[tuple[Encapsulation, int], int]:
        """Give a tunnel a new outer label if that helps; returns the old one, to be freed, and the egress.

        An ingress that cannot be told goes on sending with the old label; and without a free label the
        change is made in place, at the risk of frames in flight.
        """
        if not all(self.switches[i].connected for i in ingresses if i in self.switches):
            return {}
        space = self.labels.spaces[kind]
        old = space.tunnel(egress).label
        try:
            space.relabel(egress)
        except LabelsExhausted:
            return {}
        return {(kind, old): egress}

    def _distrust(self) -> None:
        """A link is gone or a switch lost its rules: paths that another run of the controller made may lead
        nowhere, and only their beginning is known."""
        self.stale = True
        self.ondemand.remove_where(lambda route: route.downstream is None)

    def _usable_edges(self) -> list[Edge]:
        def usable(dpid: int, port: int) -> bool:
            switch = self.switches.get(dpid)
            if self.rulesdb.holds_port(dpid, port) or not self.may_link(dpid, port):
                return False
            if switch is None or not switch.known:
                return True  # from the store: taken as it was until the switch connects
            view = switch.ports.get(port)
            return view is not None and view.up

        def cost(dpid: int, port: int) -> float:
            # A switch whose connection is away cannot be told of new paths.
            switch = self.switches.get(dpid)
            away = switch is not None and not switch.connected
            return COST_AWAY if away else self.capacities.cost((dpid, port))

        return [
            replace(e, cost=cost(e.source, e.source_port))
            for e in self.discovery.edges()
            if usable(e.source, e.source_port) and usable(e.destination, e.destination_port)
        ]

    def switch_up(self, view: SwitchView) -> None:
        """A switch has connected and told its ports."""
        old = self.switches.get(view.dpid)
        self.switches[view.dpid] = view
        if old is not None and old.known:
            for port in old.ports.keys() | view.ports.keys():
                if port not in view.ports or not view.ports[port].up:
                    self.discovery.remove_port(view.dpid, port)
        else:
            for port in [p for d, p in self.discovery.link_ends() if d == view.dpid]:
                if port not in view.ports or not view.ports[port].up:
                    self.discovery.remove_port(view.dpid, port)
        self.topology_changed = True
        self.publish(
            "switch.connected",
            f"switch {switch_text(view.dpid)} connected from {view.address} with {len(view.ports)} ports",
            switch=switch_text(view.dpid),
        )

    def reconcile(self, dpid: int, dump: SwitchSnapshot) -> Transaction:
        """Compare a switch with what it should hold; what is missing, wrong or too much is mended."""
        switch = self.switches[dpid]
        into = Delta()
        routers = self.routing.base(dpid) if switch.can_route else ()
        base = (*self.compiler.base(switch), *routers)
        self.installed.replace(("base", dpid), base, into)
        affected = self.rulesdb.bind_ports(switch)
        self.ondemand.changed()
        for entry in affected:
            self.recompile_te_paths(entry, [b.endpoint.uuid for b in entry.on(dpid)], into)
        self.police_links(into)
        if not any(pipeline.is_ours(f.cookie) for f in dump.flows):
            self._distrust()
        self._adopt(dpid, dump)
        for entry in affected:
            self.compile_places(entry, (dpid,), entry.on(dpid), into)
        self.installed.keep_reclaimed(into)
        # For this switch the comparison says more than the difference of intentions.
        for part in (into.put, into.change):
            for key in [key for key in part if key[1] == dpid]:
                del part[key]
        into.remove.pop(dpid, None)
        reconciled = self.installed.compare(dpid, dump)
        if self._spare_unknown_hosts(reconciled.remove.get(dpid, [])):
            self.unsure.add(dpid)
        elif self.unsure:
            self._look_again()
        into.put.update(reconciled.put)
        into.change.update(reconciled.change)
        into.remove.update(reconciled.remove)
        plan = into.plan()
        expected = list(self.ondemand.expected(dpid))
        stale = self._stale_paths(dump, {flow.key for _, flow in expected})
        if stale:
            plan.rounds.append({dpid: stale})
        self._check_paths(dump, expected)
        self.reconciled.add(dpid)
        self.adoption.resolve(self.reconciled, self.waited)
        return Transaction(plan, None)

    def _spare_unknown_hosts(self, surplus: list[SwitchEntry]) -> bool:
        """Of what a switch holds too much, keep what leads to hosts that another switch may still tell us of.

        After a restart, hosts are learned from the switches they are at, one switch after the other. Returns
        whether anything was kept.
        """
        kept = [e for e in surplus if not (isinstance(e, Flow) and self._may_be_told(e))]
        spared = len(kept) < len(surplus)
        surplus[:] = kept
        return spared

    def _may_be_told(self, flow: Flow) -> bool:
        network = self.rulesdb.by_index.get(pipeline.cookie_network(flow.cookie))
        # Where declared hosts are is known, but not at which port before their switch has come.
        hosts = flow.cookie & 0xFFFF in (Kind.HOST, Kind.DECLARED)
        if network is None or not hosts or flow.table == Table.SOURCE:
            return False
        return self._awaits(network)

    def _awaits(self, network: NetworkRecord) -> bool:
        """Whether switches that have not come since the start may still tell of hosts of the network."""
        return not self.waited and not all(dpid in self.switches for dpid in network.by_switch)

    def _look_again(self) -> None:
        """Compare those switches once more whose surplus was spared, if all have come who may explain it."""
        awaited = {d for entry in self.rulesdb for d in entry.by_switch} - self.switches.keys()
        if not awaited:
            self.compare |= self.unsure
            self.unsure.clear()

    def rebound(self, dpid: int) -> Transaction:
        """A switch's ports came, went or were renamed: bind its endpoints anew."""
        into = Delta()
        switch = self.switches[dpid]
        self.ondemand.changed()
        for entry in self.rulesdb.bind_ports(switch):
            self.recompile_te_paths(entry, [b.endpoint.uuid for b in entry.on(dpid)], into)
            self.compile_places(entry, (dpid,), entry.on(dpid), into)
            self.ondemand.remove_endpoints(entry.uuid, [b.endpoint.uuid for b in entry.on(dpid)])
        self.installed.keep_reclaimed(into)
        return Transaction(into.plan(), None)

    def switch_down(self, dpid: int, now: float) -> None:
        """A switch's control connection is lost. It goes on forwarding, as far as we know."""
        switch = self.switches[dpid]
        switch.connected = False
        switch.lost_at = now
        self.ondemand.switch_down(dpid)
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
        if old is not None and new is not None and old.speed != new.speed:
            self.capacities_changed = self.topology_changed = True
        if new is not None and new.up:
            if old is None or not old.up:
                self.send_lldp(dpid, [number], now)
                self.publish_port(dpid, number, "up")
            return
        if old is not None and old.up:
            self.publish_port(dpid, number, "down")
        if self.discovery.remove_port(dpid, number):
            self.topology_changed = True
        self.ports_down.append((dpid, number))

    def publish_port(self, dpid: int, port: int, what: str) -> None:
        """Report a port that went up or down."""
        name = switch_text(dpid)
        self.publish(f"port.{what}", f"port {port} of switch {name} is {what}", switch=name, port=str(port))

    def send_lldp(self, dpid: int, ports: Iterable[int], now: float) -> None:
        """Send Discovery's frames out at ports that are up, hold no endpoint and may be links."""
        switch = self.switches[dpid]
        for number in ports:
            port = switch.ports.get(number)
            if port is None or not port.up or self.rulesdb.holds_port(dpid, number):
                continue
            if self.may_link(dpid, number):
                frame = self.discovery.frame(dpid, number, port.hw_addr, now)
                self.wire.send(dpid, of.PacketOut(actions=(of.Output(number),), frame=frame))

    def tick(self, now: float) -> None:
        """Once per LLDP interval."""
        for dpid, switch in self.switches.items():
            if switch.connected:
                self.send_lldp(dpid, switch.ports, now)
        if not self.waited and now - self.started > self.options.hold:
            # Who has not come by now does not come.
            self.waited = True
            self.adoption.resolve(self.reconciled, waited=True)
            self.compare |= self.unsure
            self.unsure.clear()
        self._measure(now)
        if self.discovery.expire(now, lambda dpid: self._held(dpid, now)):
            self.topology_changed = True

    def _measure(self, now: float) -> None:
        """Time the links whose latency is to be measured, and look at what depends on it."""
        if not self.capacities.measures:
            return

        def connected(dpid: int) -> bool:
            switch = self.switches.get(dpid)
            return switch is not None and switch.connected

        edges = [
            edge
            for edge in self.paths.edges
            if self.capacities.is_measured((edge.source, edge.source_port))
            and connected(edge.source)
            and connected(edge.destination)
        ]
        before = self.latency.known
        for dpid, message in self.latency.begin_round(edges, now):
            self.wire.send(dpid, message)
        self.capacities.measurements = self.latency.known
        if self.latency.known != before and any(
            bool(te_path.degraded) or self.te_paths.is_too_slow(te_path)
            for te_path in self.te_paths.ordered()
            if te_path.constraint.max_latency is not None
        ):
            self.topology_changed = True

    def _held(self, dpid: int, now: float) -> bool:
        switch = self.switches.get(dpid)
        return switch is not None and not switch.connected and now - switch.lost_at < self.options.hold

    def _adopt(self, dpid: int, dump: SwitchSnapshot) -> None:
        """Learn from a switch's rules what another run of this controller had learned."""
        self.adoption.add_found(dpid, self._pairs(dump), dpid in self.reconciled)
        for flow in dump.flows:
            entry = self.rulesdb.by_index.get(pipeline.cookie_network(flow.cookie))
            kind = flow.cookie & 0xFFFF
            if entry is not None and kind == Kind.NEIGHBOUR and is_routed(entry):
                self._adopt_neighbour(dpid, entry, flow)
            if entry is None or kind not in (Kind.HOST, Kind.PATH) or not flow.match.get("metadata"):
                continue
            metadata = flow.match.get("metadata")
            port, mac = flow.match.value("in_port"), flow.match.value("eth_src")
            if not isinstance(metadata, int) or not mac or not port:
                continue
            attachment = self.rulesdb.at(dpid, port, metadata & pipeline.METADATA_TAG)
            if attachment is None or attachment.network is not entry:
                continue
            if kind == Kind.HOST and not entry.on_demand:
                # A host that is known elsewhere has moved while this rule was out of sight.
                if self.locator.find(entry.uuid, mac) is None:
                    self.locator.learn(entry.uuid, attachment.endpoint.uuid, mac)
            elif kind == Kind.PATH and entry.on_demand:
                known = self.locator.find(entry.uuid, mac)
                if known is None:
                    self.locator.learn(entry.uuid, attachment.endpoint.uuid, mac)
                elif known.endpoint != attachment.endpoint.uuid:
                    continue
                if self.stale or dpid in self.reconciled:
                    # Whoever made it knew another substrate than there is now; or it was this run, which has
                    # dropped it while the switch was away.
                    continue
                first = Flow(
                    flow.table_id, flow.priority, flow.match, flow.instructions, flow.cookie, notify=True
                )
                self.ondemand.adopt(dpid, attachment, first)

    def _pairs(self, dump: SwitchSnapshot) -> dict[int, list[of.FlowStatsEntry]]:
        """What a switch holds of the pairs of on-demand networks, by index."""
        pairs: dict[int, list[of.FlowStatsEntry]] = {}
        for flow in dump.flows:
            if flow.cookie & 0xFFFF == Kind.PATH:
                pairs.setdefault(pipeline.cookie_network(flow.cookie), []).append(flow)
        by_index = self.rulesdb.by_index
        return {i: flows for i, flows in pairs.items() if i in by_index and by_index[i].on_demand}

    def _adopt_neighbour(self, dpid: int, network: NetworkRecord, flow: of.FlowStatsEntry) -> None:
        """Know a neighbour from the rule that leads to it; it is asked again when another run would have."""
        found = neighbour_of_rule(flow)
        attachment = (
            network.endpoints.get(self.plan(network).connected_endpoint(found.address)) if found else None
        )
        if found is None or attachment is None or attachment.dpid != dpid:
            return
        place = (network.uuid, attachment.endpoint.uuid, found.address)
        if self.neighbours.find(*place) is None:
            self.neighbours.learn(*place, found.mac, self.started + self.options.host_age)

    def _stale_paths(self, dump: SwitchSnapshot, expected: Collection[object]) -> list[of.Message]:
        """Removal of reactive rules that nobody looks after: of networks that are gone, of pairs that changed
        while the switch was away, or from another run of the controller while the substrate was another.

        ``expected``: the keys of those that it should hold.
        """
        stale: dict[int, of.Message] = {}
        single: list[of.Message] = []
        for flow in dump.flows:
            if pipeline.is_ours(flow.cookie) and flow.cookie & 0xFFFF in (Kind.PATH, Kind.QUIET):
                index = pipeline.cookie_network(flow.cookie)
                entry = self.rulesdb.by_index.get(index)
                if entry is None:
                    stale[index] = delete_network(flow.cookie)
                elif not entry.on_demand and flow.cookie & 0xFFFF == Kind.PATH:
                    stale[index] = delete_pair_flows(index)
                elif flow.cookie & 0xFFFF == Kind.PATH and (
                    self.stale or flow.flags & of.FlowModFlags.SEND_FLOW_REM
                ):
                    held = Flow(flow.table_id, flow.priority, flow.match, flow.instructions, flow.cookie)
                    if held.key not in expected:
                        single.append(delete_message(held))
        return [*stale.values(), *single]

    def _check_paths(self, dump: SwitchSnapshot, expected: Iterable[tuple[PairFlows, Flow]]) -> None:
        """Drop the pairs of which a switch does not hold what it should."""
        held: dict[object, tuple[of.Instruction, ...]] = {
            (f.table_id, f.priority, f.match): f.instructions for f in dump.flows
        }
        broken = {route for route, flow in expected if held.get(flow.key) != flow.instructions}
        self.ondemand.remove_where(broken.__contains__)


def _label(flow: Flow) -> tuple[Encapsulation, int]:
    """The outer label that a rule in table tunnel takes."""
    if flow.match.get("mpls_label") is not None:
        return Encapsulation.MPLS, flow.match.value("mpls_label")
    return Encapsulation.VLAN, flow.match.value("vlan_vid") & 0xFFF


def port_view(desc: of.PortDesc) -> PortView | None:
    """What matters of a port's description; None for the ports that are not for endpoints."""
    if desc.port_no >= of.Port.MAX:
        return None
    down = desc.config & of.PortConfig.PORT_DOWN or desc.state & of.PortState.LINK_DOWN
    return PortView(desc.port_no, desc.name, not down, desc.curr_speed * 1000, desc.hw_addr)
