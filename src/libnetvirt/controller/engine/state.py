"""ControllerState: the data of the controller, and queries that need several parts of it.

The five parts of the 2012 prototype are here (RulesDB, Locator, PathFinder, installed rules, Discovery), with
what later versions added: neighbours of routers, labels, meters, queues, reservations and the paths of
constraints. Nothing here sends a message. The parts of the engine hold one `ControllerState` and change it;
reports only read it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import permutations

from libnetvirt.controller.dataplane.installed import Installed
from libnetvirt.controller.dataplane.readback import Drift
from libnetvirt.controller.engine.options import Options
from libnetvirt.controller.intent import static_links
from libnetvirt.controller.intent.addressing import AddressPlan
from libnetvirt.controller.intent.facts import LABELS, FactJournal
from libnetvirt.controller.intent.labels import Labels
from libnetvirt.controller.intent.locator import Locator
from libnetvirt.controller.intent.neighbours import Neighbours
from libnetvirt.controller.intent.ownership import Ownership
from libnetvirt.controller.intent.rulesdb import Attachment, NetworkRecord, RulesDB
from libnetvirt.controller.intent.storms import Blocked
from libnetvirt.controller.intent.switches import SwitchView, switch_text
from libnetvirt.controller.ondemand.flows import OnDemandFlows, Wire
from libnetvirt.controller.qos.capacities import Capacities
from libnetvirt.controller.qos.enforcement import Backend, Enforcement
from libnetvirt.controller.qos.meters import Meters
from libnetvirt.controller.qos.queues import Queues
from libnetvirt.controller.qos.te_paths import TePaths
from libnetvirt.controller.rules.policing import Policing
from libnetvirt.controller.rules.routing import Routing, is_routed
from libnetvirt.controller.rules.steering import Steering
from libnetvirt.controller.rules.switching import SwitchingRules
from libnetvirt.controller.rules.transport import LinkOutput, Transports
from libnetvirt.controller.topology.control_watch import ControlWatch
from libnetvirt.controller.topology.discovery import Discovery
from libnetvirt.controller.topology.latency import LinkLatency
from libnetvirt.controller.topology.link_probes import LinkProbes
from libnetvirt.controller.topology.link_state import Control
from libnetvirt.controller.topology.pathfinder import Edge, Flows, LinkEnd, PathFinder, parts
from libnetvirt.controller.topology.trust import Trust
from libnetvirt.model import Encapsulation


@dataclass(slots=True)
class TunnelUsers:
    """Of one kind of tunnel: which switches send into the tunnel to which egress, for how many networks."""

    by_egress: dict[int, Counter[int]] = field(default_factory=dict)

    def change(self, old: set[int], new: set[int]) -> set[int]:
        """The switches of a network change. Returns the egress switches whose tunnels are affected."""
        if old == new:
            return set()
        was, now = set(permutations(old, 2)), set(permutations(new, 2))
        affected: set[int] = set()
        for pairs, step in ((was - now, -1), (now - was, 1)):
            for ingress, egress in pairs:
                counter = self.by_egress.setdefault(egress, Counter())
                counter[ingress] += step
                if counter[ingress] in (0, 1):
                    affected.add(egress)
                if not counter[ingress]:
                    del counter[ingress]
        return affected

    def used(self, egress: int) -> bool:
        """Whether any switch sends into the tunnel to a switch."""
        return bool(self.by_egress.get(egress))

    def ingresses(self, egress: int) -> list[int]:
        """The switches that send into the tunnel to a switch."""
        return sorted(self.by_egress.get(egress, ()))


class ControllerState:
    """The data of the controller."""

    def __init__(self, options: Options, secret: bytes, wire: Wire) -> None:
        """``secret``: signs LLDP frames and latency probes, so that hosts cannot forge links."""
        self.options = options
        #: by datapath id: the switches that have connected in this run of the controller
        self.switches: dict[int, SwitchView] = {}
        self.rulesdb = RulesDB()
        self.locator = Locator(options.host_limit)
        self.neighbours = Neighbours(options.host_limit)
        self.paths = PathFinder()
        #: changes to write to the store: allocated and released numbers, found and lost links
        self.journal = FactJournal()
        self.labels = Labels(self.journal)
        #: which switches may be used, and the marker that each holds
        self.ownership = Ownership(self.journal)
        self.installed = Installed()
        #: by datapath id: what other programs changed there, as far as it is known and not undone
        self.drift: dict[int, tuple[Drift, ...]] = {}
        #: the same of rules of on-demand pairs
        self.pair_drift: dict[int, tuple[Drift, ...]] = {}
        self.discovery = Discovery(secret, options.lldp_interval)
        self.control = ControlWatch(options.lldp_interval, self.discovery.timeout, options.hold)
        #: for the switches that could not be given rules when paths were computed last, the links by which
        #: frames enter and leave them by those that they hold
        self.held: dict[int, dict[Flows, set[LinkEnd]]] = {}
        #: the switches that have not confirmed a reroute, until they are compared with their expected entries
        self.doubted: set[int] = set()
        self.latency = LinkLatency(secret)
        self.link_probes = LinkProbes(secret, options.link_mtu, options.lldp_interval)
        #: encapsulations that operations have tried to use, and when
        self.tried: dict[Encapsulation, float] = {}
        self.trust = Trust()
        #: the endpoints that are blocked because of a storm, by network and endpoint
        self.blocked: dict[tuple[str, str], Blocked] = {}
        #: by kind of tunnel
        self.tunnel_users = {kind: TunnelUsers() for kind in LABELS}
        #: the same of the networks that carry priorities
        self.priority_users = {kind: TunnelUsers() for kind in LABELS}
        # Constraints.
        self.link_output = LinkOutput()
        self.meters = Meters(self.journal, self.switches)
        self.capacities = Capacities(self.switches, options.capacities, options.capacities_file)
        self.backend = Backend(
            options.enforcement or self.capacities.enforcement or Enforcement.METER, self.meters
        )
        self.queues = Queues(self.journal)
        self.te_paths = TePaths(self.labels, self.paths, self.capacities, self.backend)
        # How all this becomes entries in switches.
        transports = Transports(self.labels, self.paths, self.link_output)
        self.policing = Policing(self.meters)
        self.steering = Steering(
            self.labels, self.te_paths, transports, self.link_output, self.backend, self.queues
        )
        self.switching = SwitchingRules(
            self.labels,
            self.paths,
            transports,
            self.policing,
            self.link_output,
            self.steering,
            options.host_age,
        )
        self.routing = Routing(self.labels, transports, options.link_mtu)
        self.ondemand = OnDemandFlows(wire, self.locator, self.paths, transports)
        self._address_plans: dict[str, AddressPlan] = {}
        # What `confirmed_parts` was computed from, and its result.
        self._parts_of: tuple[frozenset[Edge], Mapping[LinkEnd, str]] = frozenset(), {}
        self._parts: Mapping[int, tuple[int, str]] = {}

    def may_link(self, dpid: int, port: int) -> bool:
        """Whether the option ``link-ports`` allows a port to be an end of a link. It allows unknown ports."""
        switch = self.switches.get(dpid)
        view = switch.ports.get(port) if switch is not None else None
        return view is None or self.options.link_ports.allow(dpid, port, view.name)

    def static_links(self) -> static_links.Resolved:
        """The links that the operator declares, as far as their ports are known and up."""

        def why_not(dpid: int, port: int) -> str:
            if self.rulesdb.holds_port(dpid, port):
                return "has an endpoint"
            return "" if self.may_link(dpid, port) else "is not one of link-ports"

        return static_links.resolve(self.capacities.static_links, self.switches, why_not)

    def fits(self, record: NetworkRecord, dpid: int) -> bool:
        """Whether a switch has the tables that a network needs. One that has not connected yet counts as
        having them."""
        switch = self.switches.get(dpid)
        return switch is None or switch.can_route or not is_routed(record)

    def reaches(self, attachment: Attachment) -> bool:
        """Whether the switch of an endpoint is connected."""
        switch = self.switches.get(attachment.dpid)
        return switch is not None and switch.connected

    def takes_rules(self, dpid: int) -> bool:
        """Whether paths may count on a switch to take rules."""
        return dpid not in self.doubted and self.control.is_reachable(dpid)

    def can_probe(self, edge: Edge) -> bool:
        """Whether both switches of a link answer, so that a probe can be sent and can come up."""
        return self.control.is_reachable(edge.source) and self.control.is_reachable(edge.destination)

    def members_down(self, attachment: Attachment) -> list[str]:
        """Those of an endpoint's ports that pass no frames, as its description names them. Its switch is
        known."""
        switch, endpoint = self.switches[attachment.dpid], attachment.endpoint
        if not attachment.is_aggregate:
            port = None if attachment.port is None else switch.ports.get(attachment.port)
            return [] if port is not None and port.up else [endpoint.port]
        numbers = {name: switch.number_of(name) for name in endpoint.ports}
        return [name for name, n in numbers.items() if n is None or not self.is_live(attachment.dpid, n)]

    def is_live(self, dpid: int, port: int) -> bool:
        """Whether a port passes frames as a member of a link aggregation group."""
        switch = self.switches.get(dpid)
        view = switch.ports.get(port) if switch is not None else None
        return view is not None and view.up and view.live

    def encapsulations(self) -> set[Encapsulation]:
        """The encapsulations to probe links with: those of networks, the default one, and those tried
        lately.
        """
        kinds = {kind for kind, users in self.tunnel_users.items() if any(users.by_egress.values())}
        if any(record.tunnel is None and len(record.by_switch) > 1 for record in self.rulesdb):
            kinds.add(Encapsulation.NATIVE)
        default = self.options.rules.encapsulation
        return kinds | self.tried.keys() | ({default} if default is not None else set())

    def confirmed_parts(self) -> Mapping[int, tuple[int, str]]:
        """The parts that the substrate has without unconfirmed links: for each switch a number of its part,
        and why a link that leads out of the part is unconfirmed. Empty if no link is unconfirmed."""
        doubts = {**self._doubts(), **self.discovery.unconfirmed()}
        if not doubts:
            return {}
        if self._parts_of != (self.paths.edges, doubts):
            self._parts_of = self.paths.edges, doubts
            self._parts = parts(self.paths.edges, doubts)
        return self._parts

    def _doubts(self) -> dict[LinkEnd, str]:
        """The links of switches that have not confirmed a reroute, and why they are unconfirmed."""
        return {
            (edge.source, edge.source_port): f"switch {switch_text(dpid)} has not confirmed its rules"
            for dpid in sorted(self.doubted)
            for edge in self.paths.edges
            if dpid in (edge.source, edge.destination)
        }

    def why_unseen(self, dpid: int, control: Control) -> str:
        """Why it is not known what a switch does, of which this is known; empty if it answers."""
        name = switch_text(dpid)
        if control is Control.ANSWERS:
            return ""
        if control is Control.RETURNED:
            return f"switch {name} has answered again for less than {self.discovery.timeout:g} s"
        if self.control.cut_off and len(self.switches) > 1:
            return "no switch answers the controller: check its own network"
        if control is Control.SILENT:
            return f"switch {name} does not answer"
        switch = self.switches.get(dpid)
        why = switch.lost_why if switch is not None else "since the controller was started"
        return f"switch {name} is not connected{f' ({why})' if why else ''}"

    def why_unreachable(self, dpid: int) -> str:
        """Why a switch cannot be reached."""
        return self.why_unseen(dpid, Control.SILENT if self.control.is_connected(dpid) else Control.GONE)

    def address_plan(self, record: NetworkRecord) -> AddressPlan:
        """The address plan of a routed network."""
        plan = self._address_plans.get(record.uuid)
        if plan is None or plan.network is not record.description:
            plan = self._address_plans[record.uuid] = AddressPlan(record.description)
        return plan

    def drop_address_plan(self, uuid: str) -> None:
        """Remove the address plan of a network, and its neighbours."""
        self._address_plans.pop(uuid, None)
        self.neighbours.remove_network(uuid)
