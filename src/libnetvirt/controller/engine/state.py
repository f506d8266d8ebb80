"""ControllerState: the data of the controller, and queries that need several parts of it.

The five parts of the 2012 prototype are here (RulesDB, Locator, PathFinder, installed rules, Discovery), with
what later versions added: neighbours of routers, labels, meters, queues, reservations and the paths of
constraints. Nothing here sends a message. The parts of the engine hold one `ControllerState` and change it;
reports only read it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import permutations

from libnetvirt.controller.dataplane.installed import Installed
from libnetvirt.controller.engine.options import Options
from libnetvirt.controller.intent.addressing import AddressPlan
from libnetvirt.controller.intent.facts import LABELS, FactJournal
from libnetvirt.controller.intent.labels import Labels
from libnetvirt.controller.intent.locator import Locator
from libnetvirt.controller.intent.neighbours import Neighbours
from libnetvirt.controller.intent.ownership import Ownership
from libnetvirt.controller.intent.rulesdb import Attachment, NetworkRecord, RulesDB
from libnetvirt.controller.intent.switches import SwitchView
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
from libnetvirt.controller.topology.discovery import Discovery
from libnetvirt.controller.topology.latency import LinkLatency
from libnetvirt.controller.topology.pathfinder import PathFinder
from libnetvirt.controller.topology.trust import Trust


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
        self.discovery = Discovery(secret, options.lldp_interval)
        self.latency = LinkLatency(secret)
        self.trust = Trust()
        #: by kind of tunnel
        self.tunnel_users = {kind: TunnelUsers() for kind in LABELS}
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

    def may_link(self, dpid: int, port: int) -> bool:
        """Whether the option ``link-ports`` allows a port to be an end of a link. It allows unknown ports."""
        switch = self.switches.get(dpid)
        view = switch.ports.get(port) if switch is not None else None
        return view is None or self.options.link_ports.allow(dpid, port, view.name)

    def fits(self, record: NetworkRecord, dpid: int) -> bool:
        """Whether a switch has the tables that a network needs. One that has not connected yet counts as
        having them."""
        switch = self.switches.get(dpid)
        return switch is None or switch.can_route or not is_routed(record)

    def reaches(self, attachment: Attachment) -> bool:
        """Whether the switch of an endpoint is connected."""
        switch = self.switches.get(attachment.dpid)
        return switch is not None and switch.connected

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
