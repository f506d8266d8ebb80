"""The hosts and neighbours that networks have learned.

:class:`HostTables` has the tables of one network: a MAC address table for L2, a neighbour cache and queued
packets for L3. :class:`LearnedState` has those of all networks. Both are immutable; a change returns a new
object.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from libnetvirt.model import VirtualNetwork

#: learned hosts (L2), known neighbours and requested neighbours (L3), each per endpoint
HOST_LIMIT = 1024
#: packets queued for one neighbour (RFC 4861, section 7.2.2: at least one; traceroute sends 16 at once)
QUEUE_LIMIT = 32

#: identifies an L3 neighbour: endpoint uuid and IP address
NeighbourKey = tuple[str, bytes]


@dataclass(frozen=True, slots=True)
class HostTables:
    """The tables of one network. The mappings are never changed in place.

    ``hosts``: MAC address -> endpoint uuid (L2). ``neighbours``: (endpoint uuid, IP address) -> MAC address
    (L3). ``waiting``: (endpoint uuid, IP address) -> packets queued until the neighbour's MAC address is
    known (L3).
    """

    hosts: Mapping[bytes, str] = field(default_factory=dict)
    neighbours: Mapping[NeighbourKey, bytes] = field(default_factory=dict)
    waiting: Mapping[NeighbourKey, tuple[bytes, ...]] = field(default_factory=dict)

    def with_host(self, mac: bytes, endpoint: str, limit: int) -> Self:
        """Return the tables with a host at an endpoint.

        If the endpoint already has ``limit`` learned hosts, the host is removed instead.
        """
        if self.hosts.get(mac) == endpoint:
            return self
        if sum(1 for e in self.hosts.values() if e == endpoint) < limit:
            return replace(self, hosts={**self.hosts, mac: endpoint})
        return self.without_host(mac)

    def without_host(self, mac: bytes) -> Self:
        """Return the tables without a host."""
        if mac not in self.hosts:
            return self
        return replace(self, hosts={m: e for m, e in self.hosts.items() if m != mac})

    def with_neighbour(self, neighbour_key: NeighbourKey, mac: bytes, limit: int) -> Self:
        """Return the tables with a neighbour's MAC address, and without the packets queued for it.

        A new neighbour is not added if its endpoint already has ``limit`` neighbours.
        """
        tables = self
        if neighbour_key in self.waiting:
            tables = replace(tables, waiting={n: p for n, p in self.waiting.items() if n != neighbour_key})
        if self.neighbours.get(neighbour_key) == mac:
            return tables
        if neighbour_key not in self.neighbours and _count(self.neighbours, neighbour_key[0]) >= limit:
            return tables
        return replace(tables, neighbours={**self.neighbours, neighbour_key: mac})

    def with_queued_packet(self, neighbour_key: NeighbourKey, packet: bytes, limit: int) -> Self:
        """Return the tables with one more packet queued for a neighbour.

        The oldest packet is dropped if the queue is full. The packet is not queued if its endpoint already
        has queues for ``limit`` neighbours.
        """
        if neighbour_key not in self.waiting and _count(self.waiting, neighbour_key[0]) >= limit:
            return self
        queue = (*self.waiting.get(neighbour_key, ()), packet)[-QUEUE_LIMIT:]
        return replace(self, waiting={**self.waiting, neighbour_key: queue})

    def retained(self, endpoint: Callable[[str], bool], declared: Mapping[bytes, str]) -> Self:
        """Return the entries of the endpoints for which ``endpoint(uuid)`` is true.

        ``declared`` maps declared MAC addresses to endpoints; entries that contradict it are left out.
        """
        return replace(
            self,
            hosts={m: e for m, e in self.hosts.items() if endpoint(e) and declared.get(m, e) == e},
            neighbours={
                n: m for n, m in self.neighbours.items() if endpoint(n[0]) and declared.get(m, n[0]) == n[0]
            },
            waiting={n: p for n, p in self.waiting.items() if endpoint(n[0])},
        )


def _count(known: Mapping[NeighbourKey, Any], endpoint: str) -> int:
    return sum(1 for uuid, _ in known if uuid == endpoint)


_EMPTY = HostTables()


@dataclass(frozen=True, slots=True)
class LearnedState:
    """The tables of all networks, by network uuid.

    ``limit`` bounds the hosts, the neighbours and the requested neighbours of an endpoint.
    """

    limit: int = HOST_LIMIT
    networks: Mapping[str, HostTables] = field(default_factory=dict)

    def network(self, uuid: str) -> HostTables:
        """Return the tables of a network."""
        return self.networks.get(uuid, _EMPTY)

    def with_tables(self, uuid: str, tables: HostTables) -> Self:
        """Return the state with other tables for a network."""
        if tables is self.network(uuid):
            return self
        return replace(self, networks={**self.networks, uuid: tables})

    def after_change(self, before: VirtualNetwork | None, after: VirtualNetwork | None) -> Self:
        """Return the state after a network was created, changed or removed.

        Entries are removed if their endpoint was removed or given other addresses, or if they contradict a
        host that is declared now. An endpoint that is attached elsewhere keeps its entries: the hosts behind
        it move along, as behind a port of one switch or router.
        """
        if before is None:
            return self
        if after is None or before.forwarding != after.forwarding:
            return replace(self, networks={u: x for u, x in self.networks.items() if u != before.uuid})
        old = {e.uuid: e.address for e in before.endpoints}
        same = {e.uuid for e in after.endpoints if e.uuid in old and old[e.uuid] == e.address}
        retained = self.network(after.uuid).retained(same.__contains__, declared_hosts(after))
        return self.with_tables(after.uuid, retained)


def declared_hosts(network: VirtualNetwork) -> dict[bytes, str]:
    """Return MAC address -> endpoint uuid for the hosts that the description declares."""
    return {bytes.fromhex(m.replace(":", "")): e.uuid for e in network.endpoints for m in e.mac}
