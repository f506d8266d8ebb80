"""What tests of routers work with: residents, who have addresses, and packets between them."""

from __future__ import annotations

from functools import partial
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from libnetvirt import Network
from libnetvirt.conformance.harness import Arrival, Place
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.stream import Stream
from libnetvirt.conformance.support.testbed import Bench, Guest, Tag, endpoint_at
from libnetvirt.semantics import gateway_mac

TTL = 64


class Resident(NamedTuple):
    """A guest with an address, and the router's address that it sees."""

    guest: Guest
    address: str
    gateway: str


def udp_packet(source: Guest, router: str, sender: str, target: str, text: bytes, ttl: int = TTL) -> bytes:
    """A datagram of a guest to the router, IPv4 or IPv6 as the addresses are."""
    content = frames.udp(5, 6, text.ljust(24, b"."))
    if ":" in sender:
        # Over IPv6 a UDP checksum is not optional; nobody looks into this datagram.
        return frames.ipv6(source.mac, router, sender, target, content, following=17, hops=ttl)
    return frames.ipv4(source.mac, router, sender, target, content, ttl=ttl)


class Routed:
    """A network that is one router, endpoint n of which has the prefixes 10.0.n.0/24 and fd00:n::/64.

    Each endpoint has a resident per IP version: ``v4[n]`` and ``v6[n]``, n from 1.
    """

    def __init__(self, bench: Bench, places: list[Place], tag: Tag = None) -> None:
        endpoints = [
            endpoint_at(p, n, tag, address=(f"10.0.{n}.254/24", f"fd00:{n}::fe/64"))
            for n, p in enumerate(places, 1)
        ]
        self.bench = bench
        self.network: Network = bench.create(forwarding="L3", endpoints=endpoints)
        self.gateway = frames.octets_text(gateway_mac(self.network.uuid))
        self.v4: dict[int, Resident] = {}
        self.v6: dict[int, Resident] = {}
        for n, guest in enumerate(bench.guests(self.network), 1):
            self.settle(n, guest)

    def settle(self, n: int, guest: Guest) -> None:
        """A guest takes the addresses of endpoint n's residents."""
        self.v4[n] = Resident(guest, f"10.0.{n}.1", f"10.0.{n}.254")
        self.v6[n] = Resident(guest, f"fd00:{n}::1", f"fd00:{n}::fe")

    @property
    def residents(self) -> list[Resident]:
        """All of them."""
        return [*self.v4.values(), *self.v6.values()]

    def introduce(self, *residents: Resident) -> None:
        """Let residents (all) ask for the router's MAC address, which makes them known to it."""
        for r in residents or self.residents:
            hello = (
                frames.solicitation(r.guest.mac, r.address, r.gateway)
                if ":" in r.address
                else frames.arp(r.guest.mac, r.address, r.gateway)
            )
            assert len(self.bench.exchange(r.guest, hello)) == 1

    def sent(self, a: Resident, b: Resident, text: bytes) -> bytes:
        """A packet of one resident to another, as it is sent."""
        return udp_packet(a.guest, self.gateway, a.address, b.address, text)

    def routed(self, a: Resident, b: Resident, text: bytes) -> bytes:
        """The same as it has to arrive: other MAC addresses, one hop less."""
        packet = udp_packet(a.guest, self.gateway, a.address, b.address, text, TTL - 1)
        return frames.octets(b.guest.mac) + frames.octets(self.gateway) + packet[12:]

    def check(self, a: Resident, b: Resident, text: bytes = b"routed") -> None:
        """A packet from one resident to another arrives, once."""
        arrived = self.bench.exchange(a.guest, self.sent(a, b, text))
        assert arrived == [b.guest.arrival(self.routed(a, b, text))]

    def check_all(self) -> None:
        """Every resident reaches every other one of its IP version."""
        for side in (self.v4, self.v6):
            for a in side.values():
                for b in side.values():
                    if a is not b:
                        self.check(a, b)

    def await_all(self) -> None:
        """Wait until every resident reaches every other one, however often it has to try."""
        for side in (self.v4, self.v6):
            for a in side.values():
                for b in side.values():
                    if a is not b:
                        self.bench.eventually(partial(self._unreached, a, b), "packets are routed")

    def _unreached(self, a: Resident, b: Resident) -> str:
        frame = self.routed(a, b, b"probe")
        self.bench.drain()
        self.bench.harness.send(a.guest.place, [a.guest.wrapped(self.sent(a, b, b"probe"))])
        found: list[Arrival] = self.bench.harness.receive(0.2)
        return "" if b.guest.arrival(frame) in found else f"{a.address} does not reach {b.address}"


class RoutedStream(Stream):
    """A :class:`~libnetvirt.conformance.support.stream.Stream` of packets between two residents."""

    def __init__(self, routed: Routed, a: Resident, b: Resident) -> None:
        super().__init__(routed.bench, a.guest, b.guest)
        self._routed, self._a, self._b = routed, a, b

    def sends(self, number: int) -> bytes:
        return self._routed.sent(self._a, self._b, self._text + b"%d" % number)

    def arrives(self, number: int) -> bytes:
        return self._routed.routed(self._a, self._b, self._text + b"%d" % number)


def is_ipv6(address: bytes | str) -> bool:
    """Whether an address, as text or octets, is one of IPv6."""
    return isinstance(ip_address(address), IPv6Address)
