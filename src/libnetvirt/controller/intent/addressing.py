"""The address plan of a routed network: the router's addresses, its prefixes and its routes.

A plan is computed from a description and never changes. It answers what a router asks for each packet: the
next hop (longest prefix match), whether an address is on-link at an endpoint, and which addresses never are a
host's. Addresses are bytes, 4 or 16 of them.
"""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from typing import NamedTuple

from libnetvirt.model import Endpoint, VirtualNetwork
from libnetvirt.model.gateway import gateway_mac

AnyNetwork = IPv4Network | IPv6Network
#: martian addresses, which are no host's: a packet from one is dropped (RFC 1812, section 5.3.7)
MARTIANS = {
    4: ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "255.255.255.255/32"),
    6: ("::/128", "::1/128", "ff00::/8"),
}
#: link-local prefixes, which are not routed either (RFC 3927, RFC 4291, section 2.5.6)
LINK_LOCAL = {4: "169.254.0.0/16", 6: "fe80::/10"}


class NextHop(NamedTuple):
    """The endpoint that a packet leaves at, and the neighbour there that it is sent to."""

    endpoint: str
    address: bytes


class _Interface(NamedTuple):
    """One address of an endpoint and its prefix, as numbers: the router's own address, the first and last
    address of the prefix, and those that no host has."""

    own: bytes
    first: int
    last: int
    reserved: tuple[int, ...]


def reserved(net: AnyNetwork) -> tuple[bytes, ...]:
    """The addresses of a prefix that no host has: the first one and, in IPv4, the last."""
    # A /31 (RFC 3021) and a /127 (RFC 6164) have two hosts and nothing else.
    if net.prefixlen >= net.max_prefixlen - 1:
        return ()
    first, last = net.network_address.packed, net.broadcast_address.packed
    return (first, last) if net.version == 4 else (first,)


def families(endpoint: Endpoint) -> set[int]:
    """The IP versions (4, 6) that an endpoint has addresses of."""
    return {a.version for a in endpoint.address}


class AddressPlan:
    """The addresses, prefixes and routes of one routed network."""

    def __init__(self, network: VirtualNetwork) -> None:
        self.network = network
        self.gateway = gateway_mac(network.uuid)
        self.own: set[bytes] = set()
        self._reserved: set[bytes] = set()
        self._interfaces: dict[tuple[str, int], list[_Interface]] = {}
        # By IP version: for each prefix length, longest first, the bits behind it and a map from prefix to
        # endpoint and next hop (None: the prefix is on-link).
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
        reserved_addresses = reserved(net)
        self._reserved.update(reserved_addresses)
        numbers = tuple(int.from_bytes(s) for s in reserved_addresses)
        first, last = int(net.network_address), int(net.broadcast_address)
        interfaces = self._interfaces.setdefault((endpoint, a.version), [])
        interfaces.append(_Interface(a.ip.packed, first, last, numbers))
        shift = a.max_prefixlen - net.prefixlen
        # An on-link prefix has precedence over a static route to the same prefix.
        lengths.setdefault((a.version, shift), {})[first >> shift] = (endpoint, None)

    def next_hop(self, destination: bytes) -> NextHop | None:
        """The next hop for a destination address, by the longest matching prefix. None without a route."""
        number = int.from_bytes(destination)
        for shift, table in self._tables.get(4 if len(destination) == 4 else 6, ()):
            found = table.get(number >> shift)
            if found is not None:
                return NextHop(found[0], destination if found[1] is None else found[1])
        return None

    def connected_endpoint(self, address: bytes) -> str:
        """The endpoint with the on-link prefix that contains a host's address; empty if there is none."""
        number = int.from_bytes(address)
        for shift, table in self._tables.get(4 if len(address) == 4 else 6, ()):
            found = table.get(number >> shift)
            if found is not None and found[1] is None:
                return found[0] if self.is_on_link(found[0], address) else ""
        return ""

    def is_own_at(self, endpoint: str, address: bytes) -> bool:
        """Whether an address is one of the router's at this endpoint."""
        return any(s.own == address for s in self._interfaces_at(endpoint, address))

    def is_on_link(self, endpoint: str, address: bytes) -> bool:
        """Whether a host with this address can be at this endpoint: it is in one of its prefixes, and no
        reserved address."""
        number = int.from_bytes(address)
        for s in self._interfaces_at(endpoint, address):
            if s.first <= number <= s.last and s.own != address:
                return number not in s.reserved
        return False

    def source_address(self, endpoint: str, address: bytes) -> bytes:
        """The router's address that a host at this endpoint sees: the one in the host's own prefix, else the
        first."""
        number = int.from_bytes(address)
        interfaces = self._interfaces_at(endpoint, address)
        return next((s for s in interfaces if s.first <= number <= s.last), interfaces[0]).own

    def has_family(self, endpoint: str, version: int) -> bool:
        """Whether the router has addresses of this IP version at this endpoint."""
        return (endpoint, version) in self._interfaces

    def is_non_host(self, address: bytes) -> bool:
        """Whether no host can have this address: multicast, broadcast, loopback, unspecified, or that of a
        whole prefix."""
        if address in self._reserved:
            return True
        if len(address) == 16:
            return address[0] == 0xFF or (not any(address[:15]) and address[15] < 2)
        return address[0] in (0, 127) or address[0] >> 4 == 14 or address == b"\xff" * 4

    def _interfaces_at(self, endpoint: str, address: bytes) -> list[_Interface]:
        return self._interfaces.get((endpoint, 4 if len(address) == 4 else 6), [])


def is_link_local(address: bytes) -> bool:
    """Whether an address is link-local (RFC 3927, RFC 4291, section 2.5.6)."""
    if len(address) == 4:
        return address[:2] == b"\xa9\xfe"
    return address[0] == 0xFE and address[1] & 0xC0 == 0x80
