"""Neighbours: which MAC address the hosts around a network's router have, per endpoint and IP address.

A neighbour is *known*, or *awaited*: asked for, with the packets that wait for it. Bounded per endpoint.
Each has a time when something is due; times are in seconds.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush

#: packets that wait for one neighbour (RFC 4861, section 7.2.2: at least one; traceroute sends 16 at once)
QUEUE = 32
#: packets that wait in one network
NETWORK_QUEUE = 1024


@dataclass(slots=True)
class Neighbour:
    """A host on a prefix of an endpoint. ``mac`` is None while it is awaited."""

    network: str
    endpoint: str
    address: bytes
    mac: bytes | None = None
    #: questions since it was heard last, and when the next is due
    tries: int = 0
    due: float = 0.0
    #: packets that wait, and how many came too many
    queue: deque[bytes] = field(default_factory=deque)
    surplus: int = 0


@dataclass(slots=True)
class _Side:
    by_address: dict[bytes, Neighbour] = field(default_factory=dict)
    known: int = 0


class Neighbours:
    """The neighbours of all networks. ``limit``: known ones, and awaited ones, per endpoint."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._networks: dict[str, dict[str, _Side]] = {}
        # One item per neighbour, at a time no later than when it is due; those of forgotten ones stay.
        self._times: list[tuple[float, int, Neighbour]] = []
        self._count = 0
        self._waiting: Counter[str] = Counter()

    def find(self, network: str, endpoint: str, address: bytes) -> Neighbour | None:
        """The neighbour with this address, known or awaited."""
        side = self._networks.get(network, {}).get(endpoint)
        return side.by_address.get(address) if side else None

    def at(self, network: str, endpoint: str) -> list[Neighbour]:
        """The neighbours at an endpoint, known or awaited."""
        side = self._networks.get(network, {}).get(endpoint)
        return list(side.by_address.values()) if side else []

    def known(self, network: str) -> Iterator[Neighbour]:
        """The known neighbours of a network."""
        for side in self._networks.get(network, {}).values():
            yield from (n for n in side.by_address.values() if n.mac is not None)

    def expect(self, network: str, endpoint: str, address: bytes, due: float) -> Neighbour | None:
        """Begin to await a neighbour; None if too many are awaited there."""
        side = self._side(network, endpoint)
        if len(side.by_address) - side.known >= self.limit:
            return None
        return self._insert(side, Neighbour(network, endpoint, address, due=due))

    def learn(self, network: str, endpoint: str, address: bytes, mac: bytes, due: float) -> Neighbour | None:
        """Know a neighbour, or know it better; None if too many are known there."""
        side = self._side(network, endpoint)
        neighbour = side.by_address.get(address)
        if neighbour is None or neighbour.mac is None:
            if side.known >= self.limit:
                return None
            side.known += 1
        if neighbour is None:
            neighbour = self._insert(side, Neighbour(network, endpoint, address, due=due))
        neighbour.mac, neighbour.due, neighbour.tries, neighbour.surplus = mac, due, 0, 0
        return neighbour

    def wait(self, neighbour: Neighbour, packet: bytes) -> None:
        """Let a packet wait for a neighbour. Of too many, the oldest goes; none begins to wait in a network
        where too many do."""
        if len(neighbour.queue) >= QUEUE:
            neighbour.queue.popleft()
            neighbour.surplus += 1
        elif self._waiting[neighbour.network] >= NETWORK_QUEUE:
            neighbour.surplus += 1
            return
        else:
            self._waiting[neighbour.network] += 1
        neighbour.queue.append(packet)

    def release(self, neighbour: Neighbour) -> list[bytes]:
        """The packets that have waited, in their order; they do so no longer."""
        packets = list(neighbour.queue)
        neighbour.queue.clear()
        self._waiting[neighbour.network] -= len(packets)
        return packets

    def put_off(self, neighbour: Neighbour, due: float) -> None:
        """Something is due later, for one that :meth:`take_due` gave."""
        neighbour.due = due
        self._count += 1
        heappush(self._times, (due, self._count, neighbour))

    def take_due(self, now: float) -> Iterator[Neighbour]:
        """Those for which something is due; each is to be forgotten or put off."""
        while self._times and self._times[0][0] <= now:
            _, _, neighbour = heappop(self._times)
            if self.find(neighbour.network, neighbour.endpoint, neighbour.address) is not neighbour:
                continue
            if neighbour.due > now:
                self.put_off(neighbour, neighbour.due)
            else:
                yield neighbour

    def _side(self, network: str, endpoint: str) -> _Side:
        return self._networks.setdefault(network, {}).setdefault(endpoint, _Side())

    def _insert(self, side: _Side, neighbour: Neighbour) -> Neighbour:
        side.by_address[neighbour.address] = neighbour
        self.put_off(neighbour, neighbour.due)
        return neighbour

    def forget(self, neighbour: Neighbour) -> None:
        """Forget a neighbour, and what waits for it."""
        self.release(neighbour)
        sides = self._networks.get(neighbour.network, {})
        side = sides.get(neighbour.endpoint)
        if side is None or side.by_address.get(neighbour.address) is not neighbour:
            return
        del side.by_address[neighbour.address]
        side.known -= neighbour.mac is not None
        if not side.by_address:
            del sides[neighbour.endpoint]
        if not sides:
            del self._networks[neighbour.network]

    def drop(self, network: str) -> None:
        """Forget a network."""
        self._networks.pop(network, None)
        self._waiting.pop(network, None)
