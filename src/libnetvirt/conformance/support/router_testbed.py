"""A network that is one router, with a host per endpoint and IP version, and packets between them."""

from __future__ import annotations

from functools import partial
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from libnetvirt import Network
from libnetvirt.conformance.harness import Arrival, Place
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.stream import Stream
from libnetvirt.conformance.support.testbed import Guest, Tag, Testbed, endpoint_at
from libnetvirt.semantics import gateway_mac

TTL = 64


class RouterHost(NamedTuple):
    """A guest with an IP address, and the router's address on its subnet."""

    guest: Guest
    address: str
    gateway: str


def udp_packet(source: Guest, router: str, sender: str, target: str, text: bytes, ttl: int = TTL) -> bytes:
    """A frame with a UDP datagram from a guest to the router's MAC address, over IPv4 or IPv6."""
    content = frames.udp(5, 6, text.ljust(24, b"."))
    if ":" in sender:
        # IPv6 requires a UDP checksum, but no receiver reads this datagram.
        return frames.ipv6(source.mac, router, sender, target, content, following=17, hops=ttl)
    return frames.ipv4(source.mac, router, sender, target, content, ttl=ttl)


class RouterNetwork:
    """A network that is one router, whose endpoint n has the subnets 10.0.n.0/24 and fd00:n::/64.

    Each endpoint has a host per IP version: ``v4[n]`` and ``v6[n]``, n from 1.
    """

    def __init__(self, testbed: Testbed, places: list[Place], tag: Tag = None) -> None:
        endpoints = [
            endpoint_at(p, n, tag, address=(f"10.0.{n}.254/24", f"fd00:{n}::fe/64"))
            for n, p in enumerate(places, 1)
        ]
        self.testbed = testbed
        self.network: Network = testbed.create(forwarding="L3", endpoints=endpoints)
        self.gateway = frames.mac_text(gateway_mac(self.network.uuid))
        self.v4: dict[int, RouterHost] = {}
        self.v6: dict[int, RouterHost] = {}
        for n, guest in enumerate(testbed.guests(self.network), 1):
            self.place_hosts(n, guest)

    def place_hosts(self, n: int, guest: Guest) -> None:
        """Give a guest the addresses of the hosts at endpoint n."""
        self.v4[n] = RouterHost(guest, f"10.0.{n}.1", f"10.0.{n}.254")
        self.v6[n] = RouterHost(guest, f"fd00:{n}::1", f"fd00:{n}::fe")

    @property
    def hosts(self) -> list[RouterHost]:
        """The hosts of both IP versions."""
        return [*self.v4.values(), *self.v6.values()]

    def resolve_gateway(self, *hosts: RouterHost) -> None:
        """Let hosts (all by default) resolve the router's MAC address, so that the router learns theirs."""
        for host in hosts or self.hosts:
            request = (
                frames.solicitation(host.guest.mac, host.address, host.gateway)
                if ":" in host.address
                else frames.arp(host.guest.mac, host.address, host.gateway)
            )
            assert len(self.testbed.exchange(host.guest, request)) == 1

    def sent(self, a: RouterHost, b: RouterHost, text: bytes) -> bytes:
        """A packet from one host to another as it is sent."""
        return udp_packet(a.guest, self.gateway, a.address, b.address, text)

    def delivered(self, a: RouterHost, b: RouterHost, text: bytes) -> bytes:
        """The same packet as it must arrive: with the MAC addresses of the next link and one hop less."""
        packet = udp_packet(a.guest, self.gateway, a.address, b.address, text, TTL - 1)
        return frames.mac_bytes(b.guest.mac) + frames.mac_bytes(self.gateway) + packet[12:]

    def check(self, a: RouterHost, b: RouterHost, text: bytes = b"routed") -> None:
        """Check that a packet from one host to another arrives exactly once."""
        arrived = self.testbed.exchange(a.guest, self.sent(a, b, text))
        assert arrived == [b.guest.arrival(self.delivered(a, b, text))]

    def check_all(self) -> None:
        """Check that every host reaches every other host of its IP version."""
        for side in (self.v4, self.v6):
            for a in side.values():
                for b in side.values():
                    if a is not b:
                        self.check(a, b)

    def await_all(self) -> None:
        """Wait until every host reaches every other host of its IP version; lost packets are sent again."""
        for side in (self.v4, self.v6):
            for a in side.values():
                for b in side.values():
                    if a is not b:
                        self.testbed.eventually(partial(self._unreached, a, b), "packets are routed")

    def _unreached(self, a: RouterHost, b: RouterHost) -> str:
        frame = self.delivered(a, b, b"probe")
        self.testbed.drain()
        self.testbed.harness.send(a.guest.place, [a.guest.on_wire(self.sent(a, b, b"probe"))])
        found: list[Arrival] = self.testbed.harness.receive(0.2)
        return "" if b.guest.arrival(frame) in found else f"{a.address} does not reach {b.address}"


class RoutedPacketStream(Stream):
    """A :class:`~libnetvirt.conformance.support.stream.Stream` of packets between two hosts of a router."""

    def __init__(self, router: RouterNetwork, a: RouterHost, b: RouterHost) -> None:
        super().__init__(router.testbed, a.guest, b.guest)
        self._router, self._a, self._b = router, a, b

    def sends(self, number: int) -> bytes:
        return self._router.sent(self._a, self._b, self._text + b"%d" % number)

    def arrives(self, number: int) -> bytes:
        return self._router.delivered(self._a, self._b, self._text + b"%d" % number)


def is_ipv6(address: bytes | str) -> bool:
    """Whether an address, as text or packed bytes, is an IPv6 address."""
    return isinstance(ip_address(address), IPv6Address)
