"""Neighbours of routed networks: the MAC address for an IP address, per endpoint (ARP and ND caches).

A neighbour is *known*, or *incomplete* (RFC 4861, section 7.3.2): it was asked for and has not answered, and
packets to it are queued. The number of both, and of queued packets, is bounded. Each neighbour has a time
when it is due: to be asked again, or to be given up. Times are in seconds. `packetin.neighbour_resolution`
does the asking.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush

#: packets queued for one neighbour (RFC 4861, section 7.2.2: at least one; traceroute sends 16 at once)
QUEUE_LIMIT = 32
#: packets queued in one network
NETWORK_QUEUE_LIMIT = 1024


@dataclass(slots=True)
class Neighbour:
    """A host in a prefix of an endpoint. ``mac`` is None while the neighbour is incomplete."""

    network: str
    endpoint: str
    address: bytes
    mac: bytes | None = None
    #: requests sent since its last answer, and when the next one is due
    probes: int = 0
    due: float = 0.0
    #: queued packets, and the number of packets dropped because the queue was full
    queue: deque[bytes] = field(default_factory=deque)
    overflow: int = 0


@dataclass(slots=True)
class _EndpointNeighbours:
    by_address: dict[bytes, Neighbour] = field(default_factory=dict)
    known: int = 0


class Neighbours:
    """The neighbours of all networks. At most ``limit`` known ones, and as many incomplete ones, per
    endpoint."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._networks: dict[str, dict[str, _EndpointNeighbours]] = {}
        # A heap with one item per neighbour, not later than it is due; those of removed neighbours remain.
        self._schedule: list[tuple[float, int, Neighbour]] = []
        self._count = 0
        self._queued: Counter[str] = Counter()
        #: the number of packets dropped because too many waited, or waited for too many neighbours
        self.dropped = 0

    def find(self, network: str, endpoint: str, address: bytes) -> Neighbour | None:
        """The neighbour with this IP address, known or incomplete, or None."""
        held = self._networks.get(network, {}).get(endpoint)
        return held.by_address.get(address) if held else None

    def at(self, network: str, endpoint: str) -> list[Neighbour]:
        """The neighbours at an endpoint, known and incomplete."""
        held = self._networks.get(network, {}).get(endpoint)
        return list(held.by_address.values()) if held else []

    def known(self, network: str) -> Iterator[Neighbour]:
        """The known neighbours of a network."""
        for held in self._networks.get(network, {}).values():
            yield from (n for n in held.by_address.values() if n.mac is not None)

    def add_incomplete(self, network: str, endpoint: str, address: bytes, due: float) -> Neighbour | None:
        """Add an incomplete neighbour for a packet. None if the endpoint has reached its limit: the packet is
        dropped."""
        held = self._at_endpoint(network, endpoint)
        if len(held.by_address) - held.known >= self.limit:
            self.dropped += 1
            return None
        return self._insert(held, Neighbour(network, endpoint, address, due=due))

    def learn(self, network: str, endpoint: str, address: bytes, mac: bytes, due: float) -> Neighbour | None:
        """Set the MAC address of a neighbour, which is added if it is new. None if the endpoint has reached
        its limit."""
        held = self._at_endpoint(network, endpoint)
        neighbour = held.by_address.get(address)
        if neighbour is None or neighbour.mac is None:
            if held.known >= self.limit:
                return None
            held.known += 1
        if neighbour is None:
            neighbour = self._insert(held, Neighbour(network, endpoint, address, due=due))
        neighbour.mac, neighbour.due, neighbour.probes, neighbour.overflow = mac, due, 0, 0
        return neighbour

    def enqueue(self, neighbour: Neighbour, packet: bytes) -> None:
        """Queue a packet for an incomplete neighbour. If its queue is full, the oldest packet is dropped; if
        that of the whole network is, the new one is."""
        if len(neighbour.queue) >= QUEUE_LIMIT:
            neighbour.queue.popleft()
            neighbour.overflow += 1
            self.dropped += 1
        elif self._queued[neighbour.network] >= NETWORK_QUEUE_LIMIT:
            neighbour.overflow += 1
            self.dropped += 1
            return
        else:
            self._queued[neighbour.network] += 1
        neighbour.queue.append(packet)

    def take_queued(self, neighbour: Neighbour) -> list[bytes]:
        """Empty a neighbour's queue, and return the packets in order."""
        packets = list(neighbour.queue)
        neighbour.queue.clear()
        self._queued[neighbour.network] -= len(packets)
        return packets

    def reschedule(self, neighbour: Neighbour, due: float) -> None:
        """Set the time when a neighbour that :meth:`take_due` returned is due again."""
        neighbour.due = due
        self._count += 1
        heappush(self._schedule, (due, self._count, neighbour))

    def take_due(self, now: float) -> Iterator[Neighbour]:
        """The neighbours that are due. The caller has to remove or reschedule each."""
        while self._schedule and self._schedule[0][0] <= now:
            _, _, neighbour = heappop(self._schedule)
            if self.find(neighbour.network, neighbour.endpoint, neighbour.address) is not neighbour:
                continue
            if neighbour.due > now:
                self.reschedule(neighbour, neighbour.due)
            else:
                yield neighbour

    def _at_endpoint(self, network: str, endpoint: str) -> _EndpointNeighbours:
        return self._networks.setdefault(network, {}).setdefault(endpoint, _EndpointNeighbours())

    def _insert(self, held: _EndpointNeighbours, neighbour: Neighbour) -> Neighbour:
        held.by_address[neighbour.address] = neighbour
        self.reschedule(neighbour, neighbour.due)
        return neighbour

    def remove(self, neighbour: Neighbour) -> None:
        """Remove a neighbour and drop its queue."""
        self.take_queued(neighbour)
        by_endpoint = self._networks.get(neighbour.network, {})
        held = by_endpoint.get(neighbour.endpoint)
        if held is None or held.by_address.get(neighbour.address) is not neighbour:
            return
        del held.by_address[neighbour.address]
        held.known -= neighbour.mac is not None
        if not held.by_address:
            del by_endpoint[neighbour.endpoint]
        if not by_endpoint:
            del self._networks[neighbour.network]

    def remove_network(self, network: str) -> None:
        """Remove all neighbours of a network."""
        self._networks.pop(network, None)
        self._queued.pop(network, None)
