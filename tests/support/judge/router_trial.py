"""Random L3 networks and packets: the router of the Linux kernel judges what the oracle says."""

from __future__ import annotations

import random
from collections import Counter
from ipaddress import ip_address
from typing import Self

from libnetvirt import Endpoint, VirtualNetwork
from libnetvirt.conformance.support import frames
from libnetvirt.semantics import DropReason
from tests.support.judge import packets
from tests.support.judge.router import JudgedRouter, listed
from tests.support.judge.router_differences import DIFFERENCES, is_redirect

HOSTS = (1, 2, 7)
STRANGE = ("192.0.2.1", "224.0.0.1", "127.0.0.1", "255.255.255.255", "0.0.0.0")
STRANGE6 = ("2001:db8::1", "ff02::1", "ff05::5", "::1")
NO_HOSTS = ("127.0.0.1", "224.0.0.1", "255.255.255.255", "0.0.0.0")
NO_HOSTS6 = ("::1", "ff02::1")
#: Linux sends that many errors about missing routes to one host, then one a second
NO_ROUTE_LIMIT = 4


def described(chance: random.Random) -> VirtualNetwork:
    """A router with two to four endpoints, each with one or both IP versions, and static routes."""
    endpoints = []
    for n in range(1, chance.randint(2, 4) + 1):
        plan, routes = [f"10.0.{n}.254/24"], []
        plan += [f"fd00:{n}::fe/64"] * (chance.random() < 0.75)
        plan += chance.sample((f"10.1.{n}.9/28", f"10.2.{n}.0/31"), chance.choice((0, 0, 1)))
        routes += [{"prefix": f"10.{100 + n}.0.0/16", "via": f"10.0.{n}.7"}]
        routes += [{"prefix": f"10.{101 + n}.0.{n * 16}/28", "via": f"10.0.{n}.7"}]
        if f"fd00:{n}::fe/64" in plan:
            everything = n == 1 and chance.random() < 0.4
            routes += [{"prefix": "::/0" if everything else f"fd90:{n}::/32", "via": f"fd00:{n}::7"}]
        document = {"uuid": n, "switch": 1, "port": n, "address": plan, "route": routes}
        endpoints.append(Endpoint.model_validate(document))
    return VirtualNetwork(uuid=7, name="judged", forwarding="L3", endpoints=tuple(endpoints))


class RouterTrial:
    """One network and one kernel router, reproducible by the seed. A context manager."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.used: Counter[str] = Counter()
        self.drops: Counter[DropReason | None] = Counter()
        self.exchanges = 0
        self._no_route: Counter[bytes] = Counter()
        self.network = described(self.chance)
        self._router = JudgedRouter(self.network)

    def __enter__(self) -> Self:
        self._router.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._router.__exit__()

    def run(self, steps: int) -> None:
        """Exchange random frames; AssertionError when kernel and oracle differ in a way that has no name."""
        for _ in range(steps):
            e = self.chance.choice(self.network.endpoints)
            side = self.chance.choice(e.address)
            if self.chance.random() < 0.3:
                self.exchange(e, self._discovery(e, str(side.ip), side.version))
            else:
                self._send(e, side.version)
            self._answer()

    def exchange(self, e: Endpoint, frame: bytes) -> None:
        """Send a frame into kernel and oracle, and compare what comes out."""
        x, said, left = self._router.judge(e, frame)
        expected = said
        for difference in DIFFERENCES:
            found = list(difference(x, expected))
            self.used[difference.__name__] += Counter(found) != Counter(expected)
            expected = found
        redirects = [item for item in left if is_redirect(x, item)]
        self.used[is_redirect.__name__] += bool(redirects)
        rest = list((Counter(left) - Counter(redirects[:1])).elements())
        assert self._router.equal(rest, expected), (
            f"after {self.exchanges} frames, into endpoint {e.uuid}: {frames.described(frame)}\n"
            f"  {frame.hex()}\nkernel: {listed(left)}\nexpected: {listed(expected)}\n"
            f"oracle: {x.outcome.drop or listed(said)}\n{self.network}"
        )
        self.exchanges += 1
        self.drops[x.outcome.drop] += 1

    # Hosts

    def _mac(self, e: Endpoint, number: int) -> str:
        return frames.mac(int(e.uuid) << 8 | number)

    def _address(self, e: Endpoint, number: int, version: int) -> str:
        return f"10.0.{e.uuid}.{number}" if version == 4 else f"fd00:{e.uuid}::{number}"

    def _knows(self, e: Endpoint, address: str) -> bytes | None:
        known = self._router.learned.network(self.network.uuid).neighbours
        return known.get((e.uuid, ip_address(address).packed))

    def _introduce(self, e: Endpoint, number: int, version: int) -> None:
        """Let a host ask for the router, which learns it, unless it is known."""
        address, mac = self._address(e, number, version), self._mac(e, number)
        if self._knows(e, address) != frames.mac_bytes(mac):
            if version == 4:
                self.exchange(e, packets.arp(mac, address, f"10.0.{e.uuid}.254"))
            else:
                self.exchange(e, packets.solicitation(mac, address, f"fd00:{e.uuid}::fe"))

    def _answer(self) -> None:
        """Let the hosts that the router asks for answer, so that it has to ask for nobody twice."""
        for uuid, packed in list(self._router.learned.network(self.network.uuid).waiting):
            e, address = self.network.by_uuid[uuid], ip_address(packed)
            own = str(next(a.ip for a in e.address if address in a.network))
            mac, gateway = self._mac(e, packed[-1]), self._router.gateway
            if address.version == 4:
                self.exchange(e, packets.arp(mac, str(address), own, operation=2, to=gateway))
            else:
                self.exchange(e, packets.advertisement(mac, str(address), own, gateway))
        assert not self._router.learned.network(self.network.uuid).waiting

    # Frames

    def _discovery(self, e: Endpoint, own: str, version: int) -> bytes:
        """A random message of ARP or neighbour discovery."""
        choose, number = self.chance.choice, self.chance.choice(HOSTS)
        mac, gateway = self._mac(e, choose((number, number, 9))), self._router.gateway
        other = choose(self.network.endpoints)
        if version == 4:
            sender = choose(
                (f"10.0.{e.uuid}.{number}",) * 6
                + ("0.0.0.0", f"10.0.{e.uuid}.255", own, f"10.0.{other.uuid}.254")
            )
            target = choose((own, own, sender, f"10.0.{e.uuid}.33", f"10.0.{other.uuid}.254", "192.0.2.1"))
            if target == f"10.0.{other.uuid}.254" != own:
                # A new MAC address would be learned by one of both: see router_cases.
                known = self._knows(e, sender)
                mac = frames.mac_text(known) if known else mac
            to = choose((frames.BROADCAST,) * 3 + (gateway, frames.mac(0x999)))
            return packets.arp(mac, sender, target, to=to)
        sender = f"fd00:{e.uuid}::{number}"
        kind = choose(("solicit", "solicit", "unicast", "duplicate", "advertise"))
        if kind == "advertise":
            # About a neighbour that is known, or to all nodes: about others, see router_cases.
            to_all = self._knows(e, sender) is None or choose((True, False))
            flags = choose((0x20, 0x00) if to_all else (0x60, 0x40, 0x20, 0x00))
            where = ("ff02::1", "33:33:00:00:00:01") if to_all else (own, gateway)
            return packets.advertisement(mac, sender, *where, flags=flags, option=choose((True, True, False)))
        target = choose((own, own, own, f"fd00:{e.uuid}::33", f"fd00:{other.uuid}::fe"))
        if kind == "duplicate":
            return packets.solicitation(mac, "::", target, option=False)
        if kind == "unicast":
            self._introduce(e, number, version)  # the target may be elsewhere, and a redirect the consequence
        to = gateway if kind == "unicast" else ""
        return packets.solicitation(mac, sender, target, to=to)

    def _send(self, e: Endpoint, version: int) -> None:
        """Send a packet from a random source to a random destination, in a frame that may be malformed."""
        choose, v6 = self.chance.choice, version == 6
        number = choose(HOSTS)
        self._introduce(e, number, version)
        mac = self._mac(e, number)
        source = self._sender(e, number, version)
        target = self._target(version)
        protocol, payload = self._payload(source, target)
        packet = packets.ip(
            source, target, protocol, payload,
            ttl=choose((64, 64, 64, 64, 255, 2, 1, 0)), traffic_class=choose((0, 0, 0xB8, 0x03)),
            position=0 if v6 else choose((0, 0, 0, packets.DONT_FRAGMENT, packets.MORE_FRAGMENTS, 185)),
        )  # fmt: skip
        to = choose((self._router.gateway,) * 12 + (frames.BROADCAST, frames.mac(0x999)))
        frame = packets.ethernet(mac, to, packet)
        fault = self.chance.random()
        if fault < 0.05:
            frame += bytes(self.chance.randint(1, 30))
        elif fault < 0.08:
            frame = frame[: -self.chance.randint(1, 10)]
        elif fault < 0.1:
            frame = packets.ethernet(mac, to, packet, frames.IPV4 if v6 else frames.IPV6)
        elif fault < 0.12 and not v6:
            frame = frame[:24] + bytes([frame[24] ^ 1]) + frame[25:]
        if self._may_send(source, target):
            self.exchange(e, frame)

    def _sender(self, e: Endpoint, number: int, version: int) -> str:
        """Mostly the host's own address; sometimes another host's, or no host's at all."""
        mine = self._address(e, number, version)
        roll = self.chance.random()
        if roll < 0.8:
            return mine
        if roll < 0.85 and number == 7:
            return f"10.{100 + int(e.uuid)}.0.3" if version == 4 else mine
        if roll < 0.9:
            others = [o for o in self.network.endpoints if any(a.version == version for a in o.address)]
            other, its = self.chance.choice(others), self.chance.choice(HOSTS)
            self._introduce(other, its, version)
            return self._address(other, its, version)
        if version == 6:
            return self.chance.choice(NO_HOSTS6)
        return self.chance.choice((*NO_HOSTS, f"10.0.{e.uuid}.255", f"10.0.{e.uuid}.254"))

    def _target(self, version: int) -> str:
        there = self.chance.choice(
            [e for e in self.network.endpoints if any(a.version == version for a in e.address)]
        )
        sides = [a for a in there.address if a.version == version]
        targets: list[str] = [str(a.network[1]) for a in sides]
        targets += [str(a.network[-1]) for a in sides if version == 4]
        targets += [str(a.ip) for a in sides] * 2
        targets += [self._address(there, number, version) for number in HOSTS] * 2
        targets += [str(r.prefix[3]) for r in there.route if r.prefix.version == version]
        target: str = self.chance.choice((*targets * 2, *(STRANGE6 if version == 6 else STRANGE)))
        return target

    def _payload(self, source: str, target: str) -> tuple[int, bytes]:
        v6 = ":" in source
        content = self.chance.getrandbits(64).to_bytes(8, "big") * self.chance.choice((1, 3, 100))
        kind = self.chance.choice(("udp", "udp", "echo", "tcp", "reply", "other", "error"))
        icmp = packets.ICMPV6 if v6 else packets.ICMP
        if kind == "udp":
            return packets.UDP, packets.udp(source, target, content)
        if kind in ("echo", "reply"):
            return icmp, packets.echo(source, target, content, reply=kind == "reply")
        if kind == "tcp":
            flags = self.chance.choice((0x02, 0x10))
            return packets.TCP, packets.tcp(source, target, 1000, 2000, flags)
        if kind == "other":
            return packets.EXPERIMENT, content
        about = packets.ip(target, source, packets.UDP, packets.udp(target, source, b"cause"))
        message = bytes([1 if v6 else 3, 4 if v6 else 3]) + bytes(6) + about
        if v6:
            return icmp, packets.icmpv6(source, target, message)
        return icmp, message[:2] + frames.checksum(message).to_bytes(2, "big") + message[4:]

    def _may_send(self, source: str, target: str) -> bool:
        """Whether the kernel would report a missing route now: a host gets few such errors at once."""
        sides = [a.network for x in self.network.endpoints for a in x.address]
        routes = [r.prefix for x in self.network.endpoints for r in x.route]
        if ":" in target or any(ip_address(target) in prefix for prefix in (*sides, *routes)):
            return True
        if source.endswith(".255"):
            return False  # see router_cases
        self._no_route[ip_address(source).packed] += 1
        return self._no_route[ip_address(source).packed] <= NO_ROUTE_LIMIT
