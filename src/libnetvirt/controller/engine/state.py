"""What the controller knows, and how it becomes entries in switches. The base of its other parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from itertools import permutations
from typing import Protocol

from libnetvirt.controller.dataplane.entries import PlacedEntry
from libnetvirt.controller.dataplane.installed import Delta, Installed, Plan
from libnetvirt.controller.intent.addressing import AddressPlan
from libnetvirt.controller.intent.facts import FactJournal
from libnetvirt.controller.intent.labels import LABELS, Labels
from libnetvirt.controller.intent.locator import HOST_LIMIT, Host, Locator
from libnetvirt.controller.intent.neighbours import Neighbour, Neighbours
from libnetvirt.controller.intent.rulesdb import Attachment, NetworkRecord, RulesDB
from libnetvirt.controller.intent.switches import SwitchView
from libnetvirt.controller.ondemand.adoption import Adoption
from libnetvirt.controller.ondemand.flows import OnDemandFlows, Wire
from libnetvirt.controller.qos.capacities import Capacities
from libnetvirt.controller.qos.enforcement import Backend, Enforcement
from libnetvirt.controller.qos.meters import Meters
from libnetvirt.controller.qos.queues import QueueConfig, Queues
from libnetvirt.controller.qos.te_paths import ConstraintKey, TePath, TePaths
from libnetvirt.controller.rules.policing import Policing
from libnetvirt.controller.rules.routing import Routing, is_routed
from libnetvirt.controller.rules.steering import Steering
from libnetvirt.controller.rules.switching import SwitchingRules, chunks
from libnetvirt.controller.rules.transport import LinkOutput, Transports
from libnetvirt.controller.topology.discovery import Discovery, LinkPorts
from libnetvirt.controller.topology.latency import LinkLatency
from libnetvirt.controller.topology.pathfinder import PathFinder
from libnetvirt.model import Encapsulation, Rules


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
    # What the operator says about links, in TOML, and the name of the file it comes from.
    capacities: str = ""
    capacities_file: str = ""
    # What keeps minimums; None: what the operator's file says, or else meters.
    enforcement: Enforcement | None = None
    # Ports that are never sent Discovery's frames, and from which none count, are all others.
    link_ports: LinkPorts = field(default_factory=LinkPorts)
    # ICMP errors per second that a router sends out at one endpoint, and as many at once.
    error_rate: float = 100.0


#: seconds that old paths outlive their replacement (Open vSwitch revalidates its cache within one)
LINGER = 1.5


@dataclass(slots=True)
class Transaction:
    """A plan, the networks whose frames wait for it (None: all), and what to do when it is done."""

    plan: Plan
    networks: frozenset[str] | None
    done: Callable[[], None] = lambda: None
    # Removals that wait LINGER seconds more: a switch may use what it has cached of its rules for a moment
    # after it has confirmed a change, and frames are under way.
    later: Delta = field(default_factory=Delta)
    # Outer labels that were replaced, and the egress switches of their tunnels.
    replaced: dict[tuple[Encapsulation, int], int] = field(default_factory=dict)
    # What an undone operation has to know again.
    hosts: tuple[Host, ...] = ()
    te_paths: dict[ConstraintKey, TePath] = field(default_factory=dict)
    # The queues that ports had before.
    queues: QueueConfig = field(default_factory=dict)
    neighbours: tuple[Neighbour, ...] = ()


@dataclass(slots=True)
class Needs:
    """Which switches send into the tunnel to which egress, and for how many networks."""

    by_egress: dict[int, Counter[int]] = field(default_factory=dict)

    def change(self, old: set[int], new: set[int]) -> set[int]:
        """A network's switches change. Returns the egress switches whose tunnels are affected."""
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


class State:
    """The controller's five parts, and the switches as they are seen."""

    def __init__(self, options: Options, secret: bytes, wire: Wire, publish: Publish) -> None:
        self.options = options
        self.wire = wire
        self.publish = publish
        self.switches: dict[int, SwitchView] = {}
        self.rulesdb = RulesDB()
        self.locator = Locator(options.host_limit)
        self.neighbours = Neighbours(options.host_limit)
        self.paths = PathFinder()
        self.journal = FactJournal()
        self.labels = Labels(self.journal)
        self.installed = Installed()
        self.discovery = Discovery(secret, options.lldp_interval)
        self.link_output = LinkOutput()
        transports = Transports(self.labels, self.paths, self.link_output)
        self.meters = Meters(self.journal, self.switches)
        self.policing = Policing(self.meters)
        self.capacities = Capacities(self.switches, options.capacities, options.capacities_file)
        self.latency = LinkLatency(secret)
        kind = options.enforcement or self.capacities.enforcement or Enforcement.METER
        self.backend = Backend(kind, self.meters)
        self.queues = Queues(self.journal)
        self.te_paths = TePaths(self.labels, self.paths, self.capacities, self.backend)
        self.steering = Steering(
            self.labels, self.te_paths, transports, self.link_output, self.backend, self.queues
        )
        self.compiler = SwitchingRules(
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
        self.adoption = Adoption(wire, self.rulesdb, self.locator, self.ondemand)
        #: by kind of tunnel
        self.needs = {kind: Needs() for kind in LABELS}
        self._chunks: dict[tuple[str, int], int] = {}
        self._plans: dict[str, AddressPlan] = {}
        #: set when the topology has to be looked at again
        self.topology_changed = False
        #: set when links may have other capacities, latencies and costs than before
        self.capacities_changed = False
        #: switches whose ports came, went or were renamed
        self.rebind: set[int] = set()
        #: switches that are to be compared with what they should hold
        self.compare: set[int] = set()
        #: switches that were compared in this run of the controller
        self.reconciled: set[int] = set()
        #: switches that hold rules which only switches that have not come yet can explain
        self.unsure: set[int] = set()
        #: when the controller was started, and whether that is so long ago that its switches have come
        self.started = 0.0
        self.waited = False
        #: whether the substrate is another than when the controller was started
        self.stale = False
        #: ports that went down, for PacketInDispatcher to forget the hosts behind them
        self.ports_down: list[tuple[int, int]] = []

    def may_link(self, dpid: int, port: int) -> bool:
        """Whether a port may be an end of a link, as the operator says. One that is not known yet may."""
        switch = self.switches.get(dpid)
        view = switch.ports.get(port) if switch is not None else None
        return view is None or self.options.link_ports.allow(dpid, port, view.name)

    def change_needs(self, entry: NetworkRecord, old: set[int], new: set[int], into: Delta) -> None:
        """A network's switches change: so may the tunnels between them."""
        if entry.tunnel is not None:
            for egress in self.needs[entry.tunnel].change(old, new):
                self.compile_tunnel(entry.tunnel, egress, into)

    def compile_tunnel(self, kind: Encapsulation, egress: int, into: Delta) -> None:
        ingresses = self.needs[kind].ingresses(egress)
        compiled = self.compiler.tunnel(kind, egress, ingresses) if ingresses else ()
        self.installed.replace(("tunnel", kind, egress), compiled, into)

    def compile_network(self, entry: NetworkRecord, into: Delta) -> None:
        """All units of a network."""
        self.compile_places(entry, entry.by_switch, entry.endpoints.values(), into)

    def compile_places(
        self, entry: NetworkRecord, dpids: Iterable[int], attachments: Iterable[Attachment], into: Delta
    ) -> None:
        """A network's units on some switches: floods, these endpoints, and the ways to all its hosts."""
        for dpid in dpids:
            self.compile_flood(entry, dpid, None, into)
        self.compile_prefixes(entry.endpoints.values(), dpids, into)
        for attachment in attachments:
            self.compile_endpoint(attachment, into)
        for host in self.locator.hosts(entry.uuid):
            self.compile_host(entry, host.mac, into)

    def compile_endpoint(self, attachment: Attachment, into: Delta) -> None:
        """What lets frames in at an endpoint; of a router, the ways to its neighbours, too."""
        place = (attachment.network.uuid, attachment.endpoint.uuid)
        fits = self.fits(attachment.network, attachment.dpid)
        self.installed.replace(("endpoint", *place), self.compiler.endpoint(attachment) if fits else (), into)
        if is_routed(attachment.network):
            self.installed.replace(
                ("family", *place), self.routing.endpoint(attachment) if fits else (), into
            )
            for neighbour in self.neighbours.at(*place):
                self.compile_neighbour(attachment.network, neighbour, into)

    def compile_prefixes(self, attachments: Iterable[Attachment], dpids: Iterable[int], into: Delta) -> None:
        """What endpoints' addresses and routes make of packets on some switches, if the network is routed."""
        switches = [(dpid, self._measures(dpid)) for dpid in dpids]
        for attachment in attachments:
            if is_routed(attachment.network):
                for dpid, measures in switches:
                    unit = ("prefix", attachment.network.uuid, attachment.endpoint.uuid, dpid)
                    fits = self.fits(attachment.network, dpid)
                    compiled = self.routing.prefixes(attachment, dpid, measures) if fits else ()
                    self.installed.replace(unit, compiled, into)

    def drop_prefixes(self, uuid: str, names: Iterable[str], dpids: Collection[int], into: Delta) -> None:
        """Remove what :meth:`compile_prefixes` made."""
        for name in names:
            for dpid in dpids:
                self.installed.replace(("prefix", uuid, name, dpid), (), into)

    def drop_endpoint(self, uuid: str, name: str, into: Delta) -> None:
        """Remove what :meth:`compile_endpoint` made."""
        self.drop_neighbours(uuid, name, into)
        for kind in ("endpoint", "family"):
            self.installed.replace((kind, uuid, name), (), into)

    def fits(self, entry: NetworkRecord, dpid: int) -> bool:
        """Whether a switch can have this kind of network. One that has not come yet is taken to be able."""
        switch = self.switches.get(dpid)
        return switch is None or switch.can_route or not is_routed(entry)

    def _measures(self, dpid: int) -> bool:
        switch = self.switches.get(dpid)
        return switch is not None and switch.checks_length

    def drop_neighbours(self, uuid: str, name: str, into: Delta) -> None:
        """Forget the neighbours at an endpoint."""
        for neighbour in self.neighbours.at(uuid, name):
            self.neighbours.remove(neighbour)
            self.installed.replace(("neighbour", uuid, name, neighbour.address), (), into)

    def compile_neighbour(self, entry: NetworkRecord, neighbour: Neighbour, into: Delta) -> None:
        """What leads to a neighbour, if it is known."""
        place = (entry.uuid, neighbour.endpoint, neighbour.address)
        attachment = entry.endpoints.get(neighbour.endpoint)
        compiled: Iterable[PlacedEntry] = ()
        if (
            attachment is not None
            and self.neighbours.find(*place) is neighbour
            and self.fits(entry, attachment.dpid)
        ):
            compiled = self.routing.neighbour(attachment, neighbour)
        self.installed.replace(("neighbour", *place), compiled, into)

    def plan(self, entry: NetworkRecord) -> AddressPlan:
        """The address plan of a routed network."""
        plan = self._plans.get(entry.uuid)
        if plan is None or plan.network is not entry.description:
            plan = self._plans[entry.uuid] = AddressPlan(entry.description)
        return plan

    def drop_plan(self, uuid: str) -> None:
        """A network is gone, and with it its neighbours."""
        self._plans.pop(uuid, None)
        self.neighbours.remove_network(uuid)

    def reaches(self, attachment: Attachment) -> bool:
        """Whether an endpoint's switch can be told anything."""
        switch = self.switches.get(attachment.dpid)
        return switch is not None and switch.connected

    def compile_flood(
        self,
        entry: NetworkRecord,
        dpid: int,
        touched: Collection[Attachment] | None,
        into: Delta,
        spread: bool = False,
    ) -> None:
        """A network's flood rules and groups on a switch. ``touched``: the endpoints that changed there, if
        the others did not; ``spread``: whether the network's switches did."""
        here = dpid in entry.by_switch
        if is_routed(entry):
            gateway = self.routing.gateway(entry, dpid) if here and self.fits(entry, dpid) else ()
            self.installed.replace(("gateway", entry.uuid, dpid), gateway, into)
            return
        count = chunks(entry, dpid) if here else 0
        known = self._chunks.get((entry.uuid, dpid), 0)
        crowded = touched is None or any(b.endpoint.mpls or entry.siblings(b) for b in touched)
        if crowded or spread or count != known:
            compiled = self.compiler.flood(entry, dpid) if here else ()
            self.installed.replace(("flood", entry.uuid, dpid), compiled, into)
        wanted: Iterable[int] = range(max(count, known))
        if touched is not None and count == known:
            wanted = {b.slot % count for b in touched if b.port is not None}
        for chunk in wanted:
            group = self.compiler.local_flood(entry, dpid, chunk, count) if chunk < count else ()
            self.installed.replace(("group", entry.uuid, dpid, chunk), group, into)
        if count:
            self._chunks[entry.uuid, dpid] = count
        else:
            self._chunks.pop((entry.uuid, dpid), None)

    def drop_flood(self, uuid: str, dpid: int, into: Delta) -> None:
        """Remove a network's flood rules and groups from a switch."""
        self.installed.replace(("gateway", uuid, dpid), (), into)
        self.installed.replace(("flood", uuid, dpid), (), into)
        for chunk in range(self._chunks.pop((uuid, dpid), 0)):
            self.installed.replace(("group", uuid, dpid, chunk), (), into)

    def compile_host(self, entry: NetworkRecord, mac: int, into: Delta) -> None:
        host = self.locator.find(entry.uuid, mac)
        compile_host = self.routing.host if is_routed(entry) else self.compiler.host
        compiled = compile_host(entry, host) if host is not None else ()
        fitting = (placed for placed in compiled if self.fits(entry, placed.dpid))
        self.installed.replace(("host", entry.uuid, mac), fitting, into)

    def host_changed(self, entry: NetworkRecord, host: Host) -> None:
        """A host was learned, moved or forgotten: tell the switches at once."""
        if entry.on_demand:
            self.ondemand.remove_host(host)
            return
        into = Delta()
        self.compile_host(entry, host.mac, into)
        self._tell(into)

    def neighbour_changed(self, entry: NetworkRecord, neighbour: Neighbour) -> None:
        """A neighbour was learned, moved or forgotten: tell its switch at once."""
        into = Delta()
        self.compile_neighbour(entry, neighbour, into)
        self._tell(into)

    def _tell(self, into: Delta) -> None:
        for one in into.plan().rounds:
            for dpid, messages in one.items():
                for message in messages:
                    self.wire.send(dpid, message)

    def compile_links(self, into: Delta) -> None:
        wanted = {(e.destination, e.destination_port) for e in self.paths.edges}
        units = {("link", *place) for place in wanted}
        for unit in [u for u in self.installed.units("link") if u not in units]:
            self.installed.replace(unit, (), into)
        for dpid, port in wanted:
            self.installed.replace(("link", dpid, port), self.compiler.link(dpid, port), into)
