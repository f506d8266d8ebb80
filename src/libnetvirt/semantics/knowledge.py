"""What networks have learned about their hosts: immutable, each change is a new record."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeVar

from libnetvirt.model import VirtualNetwork

#: learned hosts (L2), neighbours and awaited neighbours (L3), each per endpoint
LIMIT = 1024
#: packets that wait for one neighbour (RFC 4861 section 7.2.2: at least one; traceroute sends 16 at once)
QUEUE = 32

#: an L3 neighbour: endpoint uuid and IP address
Near = tuple[str, bytes]

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Learned:
    """One network's knowledge. Mappings are never changed in place.

    ``hosts``: MAC -> endpoint uuid (L2). ``neighbours``: (endpoint uuid, IP) -> MAC (L3).
    ``waiting``: (endpoint uuid, IP) -> packets to send there when its MAC is known (L3).
    """

    hosts: Mapping[bytes, str] = field(default_factory=dict)
    neighbours: Mapping[Near, bytes] = field(default_factory=dict)
    waiting: Mapping[Near, tuple[bytes, ...]] = field(default_factory=dict)

    def with_host(self, mac: bytes, endpoint: str, limit: int) -> Self:
        """A host was seen at an endpoint. One that does not fit is not known anywhere afterwards."""
        if self.hosts.get(mac) == endpoint:
            return self
        if sum(1 for e in self.hosts.values() if e == endpoint) < limit:
            return replace(self, hosts={**self.hosts, mac: endpoint})
        return self.without_host(mac)

    def without_host(self, mac: bytes) -> Self:
        """Forget a host."""
        if mac not in self.hosts:
            return self
        return replace(self, hosts={m: e for m, e in self.hosts.items() if m != mac})

    def with_neighbour(self, near: Near, mac: bytes, limit: int) -> Self:
        """A neighbour has said its MAC; the packets that waited for it are no longer here."""
        learned = self
        if near in self.waiting:
            learned = replace(learned, waiting={n: p for n, p in self.waiting.items() if n != near})
        if self.neighbours.get(near) == mac:
            return learned
        if near not in self.neighbours and _count(self.neighbours, near[0]) >= limit:
            return learned
        return replace(learned, neighbours={**self.neighbours, near: mac})

    def with_waiting(self, near: Near, packet: bytes, limit: int) -> Self:
        """One more packet for a neighbour that is not known; the oldest of too many is dropped."""
        if near not in self.waiting and _count(self.waiting, near[0]) >= limit:
            return self
        queue = (*self.waiting.get(near, ()), packet)[-QUEUE:]
        return replace(self, waiting={**self.waiting, near: queue})

    def kept(self, endpoint: Callable[[str], bool], declared: Mapping[bytes, str]) -> Self:
        """What still holds if only some endpoints are as before, and these hosts are declared."""
        return replace(
            self,
            hosts={m: e for m, e in self.hosts.items() if endpoint(e) and declared.get(m, e) == e},
            neighbours={
                n: m for n, m in self.neighbours.items() if endpoint(n[0]) and declared.get(m, n[0]) == n[0]
            },
            waiting={n: p for n, p in self.waiting.items() if endpoint(n[0])},
        )


def _count(known: Mapping[Near, Any], endpoint: str) -> int:
    return sum(1 for uuid, _ in known if uuid == endpoint)


_NOTHING = Learned()


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What all networks have learned, by network uuid. ``limit``: learned hosts per endpoint."""

    limit: int = LIMIT
    networks: Mapping[str, Learned] = field(default_factory=dict)

    def of(self, uuid: str) -> Learned:
        """What one network has learned."""
        return self.networks.get(uuid, _NOTHING)

    def with_learned(self, uuid: str, learned: Learned) -> Self:
        """A record in which one network has learned this."""
        if learned is self.of(uuid):
            return self
        return replace(self, networks={**self.networks, uuid: learned})

    def changed(self, before: VirtualNetwork | None, after: VirtualNetwork | None) -> Self:
        """The record after a network was created, changed or removed.

        What was learned at endpoints that were removed, moved to another place or given other
        addresses is forgotten; hosts that are declared now live where the description says.
        """
        if before is None:
            return self
        if after is None or before.forwarding != after.forwarding:
            return replace(self, networks={u: x for u, x in self.networks.items() if u != before.uuid})
        old = {e.uuid: (e.place, e.address) for e in before.endpoints}
        same = {e.uuid for e in after.endpoints if old.get(e.uuid) == (e.place, e.address)}
        kept = self.of(after.uuid).kept(same.__contains__, declared_hosts(after))
        return self.with_learned(after.uuid, kept)


def declared_hosts(network: VirtualNetwork) -> dict[bytes, str]:
    """MAC -> endpoint uuid of the hosts that the description declares."""
    return {bytes.fromhex(m.replace(":", "")): e.uuid for e in network.endpoints for m in e.mac}
