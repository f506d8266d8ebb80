"""Controller: joins the parts of the engine. Events and ``now`` in, messages out; no I/O and no clock.

    ControllerState     networks, hosts, links, paths, numbers, expected entries
    UnitCompiler        state -> units of entries, and their differences
    ConstraintService   paths of constraints, policing of links
    HostUpdates         single hosts, at once
    DeferredRemovals    entries that stay until no frame uses them     -> Plan
    Operations          a network is created, changed or removed       -> Transaction
    WarmRestart         entries that an earlier run of the controller left on switches
    TopologyEvents      switches, ports and links come and go          -> Effects
    LinkChecks          links are probed in the encapsulations in use  -> Effects
    StormControl        storms of endpoints are reported or blocked    -> Effects
    TunnelChecks        the ways of an operation are seen to pass
    CachePasses         switches are seen to have gone through their caches
    CacheChecks         switches are seen to apply changed rules       -> Effects
    Reroute             paths follow the topology                      -> Transaction
    Reconciler          a switch is compared with its expected entries -> Transaction
    DriftDetector       what other programs changed in a switch        -> Transaction
    CapacityReload      links get other capacities                     -> Transaction

Each part holds those above it that it uses, and no other. The consequences of an event are returned as
`Effects`. A change of several switches is a `Transaction`, which the driver carries out round by round, one
at a time, while frames of its networks wait in
:class:`~libnetvirt.controller.packetin.dispatcher.PacketInDispatcher`. Frames and expired rules of single
hosts do not wait for that: they are answered through the
:class:`~libnetvirt.controller.ondemand.flows.Wire`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane.installed import Delta
from libnetvirt.controller.engine.cache_checks import CacheChecks
from libnetvirt.controller.engine.cache_passes import CachePasses
from libnetvirt.controller.engine.capacity_reload import CapacityReload
from libnetvirt.controller.engine.constraints import ConstraintService
from libnetvirt.controller.engine.deferred_removals import DeferredRemovals
from libnetvirt.controller.engine.drift import DriftDetector
from libnetvirt.controller.engine.effects import NOTHING, Effects
from libnetvirt.controller.engine.host_updates import HostUpdates
from libnetvirt.controller.engine.link_checks import LinkChecks
from libnetvirt.controller.engine.operations import Operations
from libnetvirt.controller.engine.options import Options, Publish
from libnetvirt.controller.engine.reconcile import Reconciler
from libnetvirt.controller.engine.reroute import Reroute
from libnetvirt.controller.engine.state import ControllerState
from libnetvirt.controller.engine.storm_control import StormControl
from libnetvirt.controller.engine.topology_events import TopologyEvents, port_view
from libnetvirt.controller.engine.transaction import LINGER, Transaction
from libnetvirt.controller.engine.tunnel_checks import TunnelChecks
from libnetvirt.controller.engine.units import UnitCompiler
from libnetvirt.controller.engine.warm_restart import WarmRestart
from libnetvirt.controller.intent.facts import Facts, KnownLink
from libnetvirt.controller.ondemand.flows import Wire
from libnetvirt.model import VirtualNetwork

__all__ = ["LINGER", "Controller", "Options", "Publish", "Transaction", "port_view"]


class Controller:
    """The parts of the engine, and the facts that outlive it."""

    def __init__(self, options: Options, secret: bytes, wire: Wire, publish: Publish) -> None:
        self.wire = wire
        self.publish = publish
        self.state = ControllerState(options, secret, wire)
        self.units = UnitCompiler(self.state)
        self.constraints = ConstraintService(self.state, self.units)
        self.hosts = HostUpdates(self.state, self.units, wire)
        self.deferred = DeferredRemovals(self.state)
        self.operations = Operations(self.state, self.units, self.constraints, self.deferred)
        self.restart = WarmRestart(self.state, wire)
        self.topology = TopologyEvents(self.state, self.units, self.restart)
        self.links = LinkChecks(self.state)
        self.storms = StormControl(self.state)
        self.tunnels = TunnelChecks(self.state, secret)
        self.passes = CachePasses(self.state, secret)
        self.caches = CacheChecks(self.state, secret)
        self.reroute = Reroute(self.state, self.units, self.constraints, self.restart)
        self.reconciler = Reconciler(self.state, self.units, self.constraints, self.restart)
        self.drift = DriftDetector(self.state, self.restart)
        self.capacity_reload = CapacityReload(self.state, self.reroute)
        self._stored_links: set[KnownLink] = set()

    def tick(self, now: float) -> Iterator[Effects]:
        """Call once per LLDP interval. Each of the effects has to be carried out before the next is taken."""
        yield self.topology.advertise(now)
        yield self.restart.tick(now)
        yield self.topology.tick(now)
        yield self.links.tick(now)
        yield self.caches.tick(now)

    def probed(self, dpid: int, message: of.PacketIn, now: float) -> Effects:
        """A probe of a link, a tunnel or a cache came up from a port that is no endpoint."""
        head, frame = message.head, message.frame
        if self.passes.arrived(dpid, head.cookie, frame) or self.tunnels.arrived(dpid, frame, now):
            return NOTHING
        if self.caches.awaits(frame):
            return self.caches.arrived(dpid, head.cookie, frame, now)
        return self.links.arrived(dpid, head.in_port, frame, now)

    def load(self, networks: Iterable[VirtualNetwork], facts: Facts, now: float) -> None:
        """Load the stored networks and facts. Call once, before any switch connects."""
        state = self.state
        self.restart.start(now)
        state.control.start(now)
        state.labels.load(facts)
        state.meters.load(facts)
        state.queues.load(facts)
        state.te_paths.load(facts)
        for link in facts.of(KnownLink):
            source, destination = (link.source, link.source_port), (link.destination, link.destination_port)
            state.discovery.assume(source, destination, now + state.options.hold)
            self._stored_links.add(link)
        state.paths.update(state.discovery.edges())
        state.link_probes.trust(state.paths.edges)
        # No switch has to be told: each is compared with the result when it connects.
        delta = Delta()
        for network in networks:
            self.operations.install(network, delta)
        for record in state.rulesdb:
            state.te_paths.restore(record.uuid, state.te_paths.from_store(record))
            self.constraints.compile(record, {}, delta)
        self.units.compile_tunnels(delta)
        self.units.compile_links(delta)
        self.operations.free_left_over()

    def journal_links(self) -> None:
        """Note in the journal which links have come and gone since the last call.

        Links that do not pass what they should are left out: the next run must not use them unseen.
        """
        doubtful = self.state.link_probes.doubtful()
        edges = [e for e in self.state.paths.edges if replace(e, cost=0.0) not in doubtful]
        now = {KnownLink(e.source, e.source_port, e.destination, e.destination_port) for e in edges}
        for link in self._stored_links - now:
            self.state.journal.remove(link)
        for link in now - self._stored_links:
            self.state.journal.put(link)
        self._stored_links = now
