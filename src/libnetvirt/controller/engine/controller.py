"""The controller: joins RulesDB, Locator, PathFinder, Installed rules and Discovery. Pure logic.

Two kinds of work come out of it. What a frame, a timer or an expired rule calls for goes to the
:class:`~libnetvirt.controller.ondemand.flows.Wire` at once. What an operation or a change of the topology
calls for is :class:`~libnetvirt.controller.engine.state.Transaction`: a plan of rounds that the driver
carries out one after the other, one work at a time; while it runs, frames of its networks wait in
:class:`~libnetvirt.controller.packetin.dispatcher.PacketInDispatcher`.
"""

from __future__ import annotations

from collections.abc import Iterable

from libnetvirt.controller.dataplane.installed import Delta
from libnetvirt.controller.engine.capacity_reload import CapacityReload
from libnetvirt.controller.engine.operations import Operations
from libnetvirt.controller.engine.reconcile import port_view
from libnetvirt.controller.engine.state import Needs, Options, Publish, Transaction
from libnetvirt.controller.intent.facts import Facts, KnownLink
from libnetvirt.controller.ondemand.flows import Wire
from libnetvirt.model import VirtualNetwork

__all__ = ["Controller", "Needs", "Options", "Publish", "Transaction", "port_view"]


class Controller(Operations, CapacityReload):
    """The controller's state and what it does on each event."""

    def __init__(self, options: Options, secret: bytes, wire: Wire, publish: Publish) -> None:
        super().__init__(options, secret, wire, publish)
        self._stored_links: set[KnownLink] = set()

    def load(self, networks: Iterable[VirtualNetwork], facts: Facts, now: float) -> None:
        """Take up what the store has: called once, before any switch connects."""
        self.started = now
        self.labels.load(facts)
        self.meters.load(facts)
        self.queues.load(facts)
        self.te_paths.load(facts)
        for link in facts.of(KnownLink):
            source, destination = (link.source, link.source_port), (link.destination, link.destination_port)
            self.discovery.assume(source, destination, now + self.options.hold)
            self._stored_links.add(link)
        self.paths.update(self.discovery.edges())
        into = Delta()
        for network in networks:
            self.install(network, into)
        for entry in self.rulesdb:
            self.te_paths.restore(entry.uuid, self.te_paths.from_store(entry))
            self.compile_te_paths(entry, {}, into)
        for kind, needs in self.needs.items():
            for egress in needs.by_egress:
                self.compile_tunnel(kind, egress, into)
        self.compile_links(into)
        self._free_left_over()

    def _free_left_over(self) -> None:
        """Free the numbers of networks whose removal was stored, when the controller was killed before they
        were free."""
        for uuid in self.labels.networks():
            if uuid not in self.rulesdb.networks:
                self.labels.release_network(uuid)
                self.meters.keep(uuid, lambda *_: False)
                self.queues.keep(uuid, ())
        self._free_tunnels()

    def journal_links(self) -> None:
        """Note in the journal which links have come and gone since the last call."""
        now = {
            KnownLink(e.source, e.source_port, e.destination, e.destination_port) for e in self.paths.edges
        }
        for link in self._stored_links - now:
            self.journal.remove(link)
        for link in now - self._stored_links:
            self.journal.put(link)
        self._stored_links = now
