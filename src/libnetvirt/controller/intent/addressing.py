"""The address plan of a network that is one router: its own addresses, prefixes and routes.

Made anew when the description changes. Addresses are bytes, 4 or 16.
"""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from typing import NamedTuple

from libnetvirt.model import Endpoint, VirtualNetwork
from libnetvirt.model.gateway import gateway_mac

AnyNetwork = IPv4Network | IPv6Network
#: addresses in IPv4 and IPv6 that are no host's: a packet from there is dropped (RFC 1812, section 5.3.7)
NO_SOURCE = {
    4: ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "255.255.255.255/32"),
    6: ("::/128", "::1/128", "ff00::/8"),
}
#: what is not routed besides
LINK_LOCAL = {4: "169.254.0.0/16", 6: "fe80::/10"}


class NextHop(NamedTuple):
    """Where a packet goes next: the endpoint it leaves at, and the neighbour there."""

    endpoint: str
    address: bytes


class _Side(NamedTuple):
    """An endpoint's address and prefix, as numbers."""

    own: bytes
    first: int
    last: int
    reserved: tuple[int, ...]


def reserved(net: AnyNetwork) -> tuple[bytes, ...]:
    """The addresses of a prefix that no host has: the first one, and in IPv4 the last."""
    # A /31 (RFC 3021) and a /127 (RFC 6164) have two hosts and nothing else.
    if net.prefixlen >= net.max_prefixlen - 1:
        return ()
    first, last = net.network_address.packed, net.broadcast_address.packed
    return (first, last) if net.version == 4 else (first,)


def families(endpoint: Endpoint) -> set[int]:
    """The IP versions that an endpoint has addresses of."""
    return {a.version for a in endpoint.address}


class AddressPlan:
    """What a router has to know of its addresses."""

    def __init__(self, network: VirtualNetwork) -> None:
        self.network = network
        self.gateway = gateway_mac(network.uuid)
        self.own: set[bytes] = set()
        self._silent: set[bytes] = set()
        self._sides: dict[tuple[str, int], list[_Side]] = {}
        # (IP version) -> for each prefix length, the longest first: bits behind it, prefix -> where to
        self._tables: dict[int, list[tuple[int, dict[int, tuple[str, bytes | None]]]]] = {}
        lengths: dict[tuple[int, int], dict[int, tuple[str, bytes | None]]] = {}
        for e in network.endpoints:
            for route in e.route:
                shift = route.prefix.max_prefixlen - route.prefix.prefixlen
                table = lengths.setdefault((route.prefix.version, shift), {})
                table.setdefault(int(route.prefix.network_address) >> shift, (e.uuid, route.via.packed))
        for e in network.endpoints:
            for a in e.address:
                self._add(e.uuid, a, lengths)
        for (version, shift), table in sorted(lengths.items()):
            self._tables.setdefault(version, []).append((shift, table))

    def _add(
        self,
        endpoint: str,
        a: IPv4Interface | IPv6Interface,
        lengths: dict[tuple[int, int], dict[int, tuple[str, bytes | None]]],
    ) -> None:
        net = a.network
        self.own.add(a.ip.packed)
        silent = reserved(net)
        self._silent.update(silent)
        numbers = tuple(int.from_bytes(s) for s in silent)
        first, last = int(net.network_address), int(net.broadcast_address)
        sides = self._sides.setdefault((endpoint, a.version), [])
        sides.append(_Side(a.ip.packed, first, last, numbers))
        shift = a.max_prefixlen - net.prefixlen
        # A prefix that is there goes before a route to it.
        lengths.setdefault((a.version, shift), {})[first >> shift] = (endpoint, None)

    def hop(self, destination: bytes) -> NextHop | None:
        """Where a packet to this address goes: by the longest prefix. None without a route."""
        number = int.from_bytes(destination)
        for shift, table in self._tables.get(4 if len(destination) == 4 else 6, ()):
            found = table.get(number >> shift)
            if found is not None:
                return NextHop(found[0], destination if found[1] is None else found[1])
        return None

    def at(self, address: bytes) -> str:
        """The endpoint that has a host's prefix; empty if none has."""
        number = int.from_bytes(address)
        for shift, table in self._tables.get(4 if len(address) == 4 else 6, ()):
            found = table.get(number >> shift)
            if found is not None and found[1] is None:
                return found[0] if self.is_near(found[0], address) else ""
        return ""

    def is_own_at(self, endpoint: str, address: bytes) -> bool:
        """Whether the router has this address at this endpoint."""
        return any(s.own == address for s in self._at(endpoint, address))

    def is_near(self, endpoint: str, address: bytes) -> bool:
        """Whether a host with this address can be at this endpoint: it is on one of its prefixes."""
        number = int.from_bytes(address)
        for s in self._at(endpoint, address):
            if s.first <= number <= s.last and s.own != address:
                return number not in s.reserved
        return False

    def facing(self, endpoint: str, address: bytes) -> bytes:
        """The router's address that a host sees: on its own prefix, if there is one."""
        number = int.from_bytes(address)
        sides = self._at(endpoint, address)
        return next((s for s in sides if s.first <= number <= s.last), sides[0]).own

    def has_family(self, endpoint: str, version: int) -> bool:
        """Whether the router has addresses of this IP version at an endpoint."""
        return (endpoint, version) in self._sides

    def is_no_host(self, address: bytes) -> bool:
        """Whether the address stands for a group, a loop, a whole prefix or nothing."""
        if address in self._silent:
            return True
        if len(address) == 16:
            return address[0] == 0xFF or (not any(address[:15]) and address[15] < 2)
        return address[0] in (0, 127) or address[0] >> 4 == 14 or address == b"\xff" * 4

    def _at(self, endpoint: str, address: bytes) -> list[_Side]:
        return self._sides.get((endpoint, 4 if len(address) == 4 else 6), [])


def is_link_local(address: bytes) -> bool:
    """Whether an address is for one link only (RFC 3927, RFC 4291, section 2.5.6)."""
    if len(address) == 4:
        return address[:2] == b"\xa9\xfe"
    return address[0] == 0xFE and address[1] & 0xC0 == 0x80
