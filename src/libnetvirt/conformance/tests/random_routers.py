"""Random routers and random packets, compared with the oracle."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from libnetvirt import Endpoint, Network, VirtualNetwork
from libnetvirt.conformance.harness import Allowance, Place
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.router_testbed import is_ipv6, udp_packet
from libnetvirt.conformance.support.testbed import Guest, Testbed
from libnetvirt.conformance.tests.random_networks import Trial
from libnetvirt.conformance.tests.routing import router_testbed as router_testbed
from libnetvirt.semantics import gateway_mac

SEEDS = (1, 2, 3)
STRANGE = ("192.0.2.1", "224.0.0.1", "127.0.0.1", "255.255.255.255", "169.254.1.1", "0.0.0.0")
STRANGE6 = ("2001:db8::1", "ff02::1", "::1", "fe80::1")


class RouterTrial(Trial):
    """A trial with networks that are routers, all with the same address plan."""

    def _described(self, endpoints: list[Endpoint]) -> Network:
        plans = [e.changed(**self._plan(n)) for n, e in enumerate(endpoints, 1)]
        return self.testbed.create(endpoints=plans, forwarding="L3")

    @property
    def _special_differ(self) -> bool:
        return Allowance.SPECIAL in self.testbed.harness.allowances

    def _plan(self, n: int) -> dict[str, object]:
        """Addresses and routes of the n-th endpoint: one or both IP versions, sometimes a second prefix."""
        address = [f"10.0.{n}.254/24", f"fd00:{n}::fe/64"]
        plan = self.chance.sample(address, self.chance.choice((1, 2, 2)))
        second = (f"10.1.{n}.9/28",) if self._special_differ else (f"10.1.{n}.9/28", f"10.2.{n}.0/31")
        plan += self.chance.sample(second, self.chance.choice((0, 0, 1)))
        routes = []
        if address[0] in plan:
            routes.append({"prefix": f"10.{100 + n}.0.0/16", "via": f"10.0.{n}.7"})
            routes.append({"prefix": f"10.{101 + n}.0.{n * 16}/28", "via": f"10.0.{n}.7"})
        if address[1] in plan:
            routes.append({"prefix": "::/0" if n == 1 else f"fd90:{n}::/32", "via": f"fd00:{n}::7"})
        return {"address": tuple(plan), "route": tuple(routes)}

    def _endpoint(self) -> Endpoint:
        new = super()._endpoint()
        return new.changed(address=f"10.{50 + int(new.uuid) // 250}.{int(new.uuid) % 250}.1/24")

    def _send(self) -> None:
        described = [d for d in self.testbed.current() if d.endpoints]
        if not described:
            return
        network = self.chance.choice(described)
        for _ in range(self.chance.randint(1, 4)):
            guest, frame = self._packet(network)
            self.testbed.exchange(guest, frame)
            self._answer(network)

    def _guest(self, network: VirtualNetwork, uuid: str) -> Guest:
        e = network.by_uuid[uuid]
        number = 0x2000 + self.chance.randint(1, 4)
        return Guest(network.uuid, e.uuid, Place(e.switch, e.port), e.vlan, frames.mac(number), e.mpls)

    def _packet(self, network: VirtualNetwork) -> tuple[Guest, bytes]:
        """A random sender and a random packet of it that concerns the router."""
        choose = self.chance.choice
        here, there = choose(network.endpoints), choose(network.endpoints)
        guest, side = self._guest(network, here.uuid), choose(here.address)
        gateway = frames.mac_text(gateway_mac(network.uuid))
        v6, own = side.version == 6, str(side.ip)
        mine = str(side.network[choose((1, 2, 7)) if side.network.num_addresses > 7 else 1])
        if self.chance.random() < 0.25:
            if v6:
                return guest, frames.solicitation(guest.mac, mine, own)
            return guest, frames.arp(guest.mac, mine, choose((own, own, mine, "10.0.1.2")))
        strange = STRANGE6 if v6 else STRANGE
        ends = (1,) if self._special_differ else (1, -1)
        targets = [str(a.network[n]) for a in there.address for n in ends if (a.version == 6) == v6]
        targets += [str(a.ip) for a in there.address if (a.version == 6) == v6]
        targets += [str(r.prefix[3]) for e in network.endpoints for r in e.route if is_ipv6(str(r.via)) == v6]
        known = self.testbed.knowledge.network(network.uuid).neighbours
        targets += [str(ip_address(a)) for _, a in known if is_ipv6(a) == v6] * 3
        target = choose((*targets, *targets, *targets, *strange[: 1 if self._special_differ else None]))
        sender, ttl = choose((*[mine] * 8, own, target)), choose((64, 64, 64, 64, 2, 1, 0))
        if Allowance.ROUTED in self.testbed.harness.allowances:
            # It answers where the sender's address is: the sender has to be the host that the router knows.
            sender = mine
            self._introduce(network, here, guest, mine)
            if sum(a.version == side.version for a in here.address) > 1:
                ttl = 64  # errors come from any of its addresses there
        if ttl < 2 and not self._has_route(network, target) and not self.testbed.offers("router.no-route"):
            ttl = 64  # or else it may report that the TTL has expired
        to = choose((*[gateway] * 12, frames.BROADCAST, frames.mac(9)))
        text = b"%d" % self.chance.getrandbits(40)
        if not v6 and self.chance.random() < 0.2:
            echo = frames.echo(1, 1, text)
            return guest, frames.ipv4(guest.mac, to, sender, target, echo, protocol=1, ttl=ttl)
        return guest, udp_packet(guest, to, sender, target, text, ttl)

    def _introduce(self, network: VirtualNetwork, endpoint: Endpoint, guest: Guest, address: str) -> None:
        """Let a guest ask for the router's address, so that the router knows the guest by this address."""
        known = self.testbed.knowledge.network(network.uuid).neighbours
        packed = ip_address(address).packed
        if known.get((endpoint.uuid, packed)) != frames.mac_bytes(guest.mac):
            own = next(str(a.ip) for a in endpoint.address if ip_address(address) in a.network)
            ask = frames.solicitation if is_ipv6(address) else frames.arp
            self.testbed.exchange(guest, ask(guest.mac, address, own))

    def _has_route(self, network: VirtualNetwork, target: str) -> bool:
        to = ip_address(target)
        prefixes = [a.network for e in network.endpoints for a in e.address]
        prefixes += [r.prefix for e in network.endpoints for r in e.route]
        return any(to in prefix for prefix in prefixes)

    def _answer(self, network: VirtualNetwork) -> None:
        """Let the hosts that the router resolves reply, before the router asks again."""
        gateway = frames.mac_text(gateway_mac(network.uuid))
        for endpoint, address in list(self.testbed.knowledge.network(network.uuid).waiting):
            guest, text = self._guest(network, endpoint), str(ip_address(address))
            own = next(
                str(a.ip) for a in network.by_uuid[endpoint].address if ip_address(address) in a.network
            )
            if is_ipv6(address):
                answer = frames.advertisement(guest.mac, gateway, text, own)
            else:
                answer = frames.arp(guest.mac, text, own, reply_to=gateway)
            self.testbed.exchange(guest, answer)
        assert not self.testbed.knowledge.network(network.uuid).waiting


@pytest.mark.parametrize("seed", SEEDS)
def test_random_routers_forward_as_the_oracle_predicts(router_testbed: Testbed, seed: int) -> None:
    print(f"seed {seed}")
    RouterTrial(router_testbed, seed).run(networks=3, steps=40)
