"""Locator: which host is at which endpoint, per network.

Hosts are learned from source addresses, only from frames that entered at an endpoint of the network, and at
most ``limit`` per endpoint. A host may move between endpoints of its network. In networks with native
encapsulation a MAC address may be in one network only, as nothing else tells their frames apart. MAC
addresses are ints.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

from libnetvirt.model import Endpoint

#: default for the number of hosts learned per endpoint
HOST_LIMIT = 1024


def mac_text(mac: int) -> str:
    """A MAC address as text, such as ``02:00:00:00:00:01``."""
    return ":".join(f"{byte:02x}" for byte in mac.to_bytes(6))


def mac_number(text: str) -> int:
    """The number of a MAC address in canonical form."""
    return int(text.replace(":", ""), 16)


@dataclass(slots=True)
class Host:
    """A host. A ``declared`` one is in the network's description and neither moves nor expires."""

    mac: int
    endpoint: str
    declared: bool = False
    addresses: tuple[str, ...] = ()
    #: when a frame of a host of an on-demand network was seen last, in seconds of the controller's clock
    last_seen: float = 0.0
    #: the on-demand flow entries from and to it, as an ordered set of `ondemand.flows.PairFlows`
    pair_flows: dict[object, None] = field(default_factory=dict)


class LearnResult(Enum):
    """The outcome of learning a frame's source address."""

    KNOWN = "known"
    LEARNED = "learned"
    MOVED = "moved"
    FULL = "full"  # the endpoint has reached its limit of hosts
    ELSEWHERE = "elsewhere"  # declared at another endpoint of the network
    FOREIGN = "foreign"  # in use in another native network
    INVALID = "invalid"  # a group address, or zero


@dataclass(slots=True)
class _Hosts:
    by_mac: dict[int, Host] = field(default_factory=dict)
    by_endpoint: dict[str, dict[int, Host]] = field(default_factory=dict)
    learned: dict[str, int] = field(default_factory=dict)  # endpoint -> number of learned hosts
    native: bool = False


class Locator:
    """The hosts of all networks, by the network's uuid."""

    def __init__(self, limit: int = HOST_LIMIT) -> None:
        self.limit = limit
        self._networks: dict[str, _Hosts] = {}
        self._native: dict[int, str] = {}  # MAC -> the one native network that has it

    def put(self, network: str, native: bool, declared: Iterable[tuple[int, str]]) -> None:
        """Add a network, or change it. ``declared``: (MAC address, endpoint) of the hosts in its
        description."""
        hosts = self._networks.setdefault(network, _Hosts())
        hosts.native = native
        self.declare(network, declared)

    def declare(self, network: str, declared: Iterable[tuple[int, str]], gone: Iterable[str] = ()) -> None:
        """Declare hosts of a network, after removing those declared at the endpoints ``gone``."""
        hosts = self._networks[network]
        for endpoint in gone:
            for host in [h for h in hosts.by_endpoint.get(endpoint, {}).values() if h.declared]:
                self._remove(network, hosts, host)
        for mac, endpoint in declared:
            old = hosts.by_mac.get(mac)
            if old is not None:
                self._remove(network, hosts, old)
            self._insert(network, hosts, Host(mac, endpoint, declared=True))

    def at(self, network: str, endpoint: str) -> list[Host]:
        """The hosts at an endpoint."""
        hosts = self._networks.get(network)
        return list(hosts.by_endpoint.get(endpoint, {}).values()) if hosts else []

    def remove_network(self, network: str) -> None:
        """Remove all hosts of a network."""
        hosts = self._networks.pop(network, None)
        for mac in hosts.by_mac if hosts else ():
            if self._native.get(mac) == network:
                del self._native[mac]

    def by_mac(self, network: str) -> Mapping[int, Host]:
        """The hosts of a network by MAC address, as a live view."""
        return self._networks[network].by_mac

    def find(self, network: str, mac: int) -> Host | None:
        """The host with this MAC address, or None."""
        hosts = self._networks.get(network)
        return hosts.by_mac.get(mac) if hosts else None

    def hosts(self, network: str) -> Iterator[Host]:
        """All hosts of a network. They may be changed during the iteration."""
        hosts = self._networks.get(network)
        return iter(list(hosts.by_mac.values())) if hosts else iter(())

    def native_holder(self, mac: int) -> str | None:
        """The uuid of the native network that uses a MAC address, or None."""
        return self._native.get(mac)

    def learn(self, network: str, endpoint: str, mac: int) -> LearnResult:
        """Learn that a source address was seen at an endpoint of the network."""
        if mac >> 40 & 1 or not mac:
            return LearnResult.INVALID
        hosts = self._networks[network]
        host = hosts.by_mac.get(mac)
        if host is None:
            if hosts.native and self._native.get(mac, network) != network:
                return LearnResult.FOREIGN
            if hosts.learned.get(endpoint, 0) >= self.limit:
                return LearnResult.FULL
            self._insert(network, hosts, Host(mac, endpoint))
            return LearnResult.LEARNED
        if host.endpoint == endpoint:
            return LearnResult.KNOWN
        if host.declared:
            return LearnResult.ELSEWHERE
        self._remove(network, hosts, host)
        if hosts.learned.get(endpoint, 0) >= self.limit:
            return LearnResult.FULL  # and removed from where it was
        self._insert(
            network, hosts, Host(mac, endpoint, addresses=host.addresses, pair_flows=host.pair_flows)
        )
        return LearnResult.MOVED

    def remove_learned(self, network: str, mac: int) -> Host | None:
        """Remove a learned host. Returns it, or None if there is none with this MAC address."""
        hosts = self._networks.get(network)
        host = hosts.by_mac.get(mac) if hosts else None
        if hosts is None or host is None or host.declared:
            return None
        self._remove(network, hosts, host)
        return host

    def remove_learned_at(self, network: str, endpoint: str) -> list[Host]:
        """Remove the learned hosts of an endpoint, and return them."""
        gone = [h for h in self.at(network, endpoint) if not h.declared]
        for host in gone:
            self.remove_learned(network, host.mac)
        return gone

    def _insert(self, network: str, hosts: _Hosts, host: Host) -> None:
        hosts.by_mac[host.mac] = host
        hosts.by_endpoint.setdefault(host.endpoint, {})[host.mac] = host
        if hosts.native:
            self._native[host.mac] = network
        if not host.declared:
            hosts.learned[host.endpoint] = hosts.learned.get(host.endpoint, 0) + 1

    def _remove(self, network: str, hosts: _Hosts, host: Host) -> None:
        del hosts.by_mac[host.mac]
        there = hosts.by_endpoint[host.endpoint]
        del there[host.mac]
        if not there:
            del hosts.by_endpoint[host.endpoint]
        if self._native.get(host.mac) == network:
            del self._native[host.mac]
        if not host.declared:
            hosts.learned[host.endpoint] -= 1
            if not hosts.learned[host.endpoint]:
                del hosts.learned[host.endpoint]


def declared_hosts(endpoints: Iterable[Endpoint]) -> Iterator[tuple[int, str]]:
    """(MAC address, endpoint uuid) of the hosts that these endpoints declare."""
    for endpoint in endpoints:
        for mac in endpoint.mac:
            yield mac_number(mac), endpoint.uuid
