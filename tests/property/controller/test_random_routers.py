"""Random substrates with networks that are one router: what comes out is what the oracle says, at every
point of rest; and while a change is under way, packets between others are delivered as before."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Interface, ip_address
from itertools import permutations

import pytest
from hypothesis import given

from libnetvirt import packet as p
from libnetvirt.controller.engine.controller import Options
from libnetvirt.errors import InvalidDescription
from libnetvirt.model import Constraint, Encapsulation, Endpoint, Forwarding, Rules, VirtualNetwork
from libnetvirt.semantics import egress_frame, gateway_mac
from tests.property.controller.test_random_networks import World, laws, seeds
from tests.support.controller_rig import VLAN, mac
from tests.support.tally import Tally

pytestmark = [pytest.mark.long, pytest.mark.apart]

GROUPS = (p.BROADCAST, bytes.fromhex("333300000001"))


def _sources(side: IPv4Interface | IPv6Interface) -> list[bytes]:
    """Addresses that hosts on a prefix have: the first free ones, and number 7, which routes lead to."""
    hosts = [side.network[n] for n in (0, 1, 2, 7) if n < side.network.num_addresses]
    return [h.packed for h in hosts if h != side.ip]


class Routers(World):
    """Networks that are one router, with equal address plans."""

    forwarding = Forwarding.L3

    def __init__(self, seed: int, rules: Rules = VLAN, tally: Tally | None = None) -> None:
        super().__init__(seed, rules)
        self.tally = tally or Tally()
        self.rig.state.options = Options(rules, host_limit=100, error_rate=1e6, packet_rate=1e6)

    def step(self) -> None:
        transports = [self.create, self.create, self.add, self.add, self.modify, self.modify, self.drop]
        transports += [
            self.remove,
            self.cut,
            self.restore,
            self.reconnect,
            self.restart,
            self.doom,
            *[self.send] * 80,
        ]
        what = self.chance.choice(transports)
        if what == self.send:
            what()
            return
        with self.tally.trial(InvalidDescription):  # a route or a prefix that another endpoint has
            what()

    # ---- what is done --------------------------------------------------------------------------

    def endpoint(self, pool: int) -> Endpoint | None:
        new = super().endpoint(pool)
        if new is None:
            return None
        k = int(new.uuid) % 250
        address = [
            f"10.0.{k}.254/24",
            f"fd00:{k}::fe/64",
            f"10.1.{k}.9/28",
            f"10.2.{k}.0/31",
            f"fd01:{k}::1/127",
        ]
        chosen = self.chance.sample(address[:2], self.chance.choice((1, 2, 2)))
        chosen += self.chance.sample(address[2:], self.chance.choice((0, 0, 1)))
        route = []
        if chosen[0] == address[0] and self.chance.random() < 0.5:
            prefix = self.chance.choice((f"10.{100 + k % 100}.0.0/16", "10.0.3.128/25", "0.0.0.0/0"))
            route.append({"prefix": prefix, "via": f"10.0.{k}.7"})
        if address[1] in chosen and self.chance.random() < 0.3:
            route.append({"prefix": f"fd90:{k}::/32" if k % 2 else "::/0", "via": f"fd00:{k}::7"})
        return new.changed(address=tuple(chosen), route=tuple(route))

    def altered(self, old: Endpoint, new: Endpoint) -> Endpoint:
        if self.chance.random() < 0.5:
            return old.changed(switch=new.switch, port=new.port, vlan=new.vlan, mpls=new.mpls)
        if self.chance.random() < 0.5:
            return old.changed(address=new.address, route=new.route)
        return old.changed(mac=new.mac)

    def cut(self) -> None:
        before = set(self.lost)
        super().cut()
        if len(self.reach(1)) < len(self.ports):  # what the oracle does not know of
            for one in self.lost - before:
                self.rig.cut(one, up=True)
            self.lost = before

    # ---- frames --------------------------------------------------------------------------------

    def send(self) -> None:
        network = self.pick()
        if network is None or not network.endpoints:
            return
        end = self.chance.choice(network.endpoints)
        sent = self.frame(network, end)
        if self.chance.random() < 0.03:
            sent = p.add_tag(5, sent)
        self.rig.now += 0.01
        self.check(int(end.switch), int(end.port), egress_frame(end, sent)[2])

    def check(self, dpid: int, port: int, sent: bytes) -> None:
        rig, before = self.rig, self.rig.known
        want = rig.expected(dpid, port, sent)
        for uuid, learned in rig.known.networks.items():
            # Who is asked already is not asked again at once.
            waited = before.network(uuid).waiting
            if any(waited.get(near, packets) != packets for near, packets in learned.waiting.items()):
                want = []
        got = rig.inject(dpid, port, sent)
        assert got == want, f"{sent.hex()} at {dpid}/{port}: got {got}, wanted {want}"
        assert not rig.errors
        for entry in rig.state.rulesdb:
            neighbours = {(n.endpoint, n.address): n.mac for n in rig.state.neighbours.known(entry.uuid)}
            assert neighbours == rig.known.network(entry.uuid).neighbours

    def frame(self, network: VirtualNetwork, end: Endpoint) -> bytes:
        """A frame of a host at an endpoint: mostly what a router has to do with."""
        pick = self.chance.choice
        gateway = gateway_mac(network.uuid)
        source = pick([mac(n).to_bytes(6) for n in (1, 2, 3, 4)] * 8 + [gateway, bytes(6), p.BROADCAST])
        side = pick(end.address)
        mine = pick(_sources(side))
        if self.chance.random() < 0.35:
            return self.announcement(side, mine, source, gateway)
        v4 = side.version == 4
        there = pick(network.endpoints)
        others = [a for a in there.address if a.version == side.version]
        neighbours = self.rig.known.network(network.uuid).neighbours
        known = [near for _, near in neighbours if len(near) == len(mine)]
        targets = (
            known * 8 + [t for a in others for t in (*_sources(a), a.ip.packed, a.network[-1].packed)] * 4
        )
        targets += [
            r.prefix[5].packed for e in network.endpoints for r in e.route if v4 == (r.prefix.version == 4)
        ]
        strange = ("192.0.2.1", "224.0.0.1", "127.0.0.1", "255.255.255.255", "169.254.1.1", "0.0.0.0")
        strange6 = ("2001:db8::1", "ff02::1", "::1", "fe80::1", "::")
        targets += [ip_address(t).packed for t in (strange if v4 else strange6)]
        origins = [mine] * 12 + [
            side.ip.packed,
            pick(targets),
            ip_address(pick(strange if v4 else strange6)).packed,
        ]
        sender, target, ttl = pick(origins), pick(targets), pick((64, 64, 64, 2, 1, 0))
        self.text += 1
        protocol, body = 17, b"%d" % self.text
        if self.chance.random() < 0.3:
            protocol = p.PROTO_ICMP if v4 else p.PROTO_ICMPV6
            kind = pick((8, 0, 3)) if v4 else pick((128, 129, 1))
            body = p.build_icmp(sender, target, p.ICMP(kind, 0, bytes(4), body))
        elif self.chance.random() < 0.2:
            protocol = 132
        to = pick([gateway] * 12 + [*GROUPS, mac(9).to_bytes(6)])
        ethertype = p.ETH_IPV4 if v4 else p.ETH_IPV6
        return p.ethernet(to, source, ethertype, p.build_ip(sender, target, protocol, body, ttl))

    def announcement(
        self, side: IPv4Interface | IPv6Interface, mine: bytes, source: bytes, gateway: bytes
    ) -> bytes:
        """ARP or neighbour discovery: a question, an answer, or for everybody's ears."""
        pick, own = self.chance.choice, side.ip.packed
        target = pick((own, own, own, mine, pick(_sources(side))))
        claimed = pick((source,) * 9 + (mac(8).to_bytes(6),))
        if side.version == 4:
            sender = pick((mine, mine, mine, mine, bytes([10, 77, 0, 1]), own))
            to = pick((gateway, p.BROADCAST, mac(9).to_bytes(6)))
            return p.ethernet(
                to,
                source,
                p.ETH_ARP,
                p.arp_frame(to, p.ARP(pick((1, 2)), claimed, sender, bytes(6), target))[14:],
            )
        if self.chance.random() < 0.6:
            asked = p.solicitation(claimed, mine, target)
            return asked[:6] + source + asked[12:]
        told = p.advertisement(gateway, claimed, mine, pick((own, bytes(16))), router=False)
        return told[:6] + source + told[12:]

    def forget(self, network: VirtualNetwork) -> None:
        """A new controller knows the neighbours that rules tell of; what waited for others is lost."""
        known = self.rig.known
        learned = known.network(network.uuid)
        found = {
            (n.endpoint, n.address): n.mac for n in self.rig.state.neighbours.known(network.uuid) if n.mac
        }
        assert found.items() <= learned.neighbours.items()
        self.rig.known = known.with_tables(network.uuid, replace(learned, neighbours=found, waiting={}))

    # ---- nothing else is disturbed -------------------------------------------------------------

    def watch(self) -> None:
        self.probes = []
        for network in self.rig.networks:
            ends = network.by_uuid
            known = [n for n in self.rig.state.neighbours.known(network.uuid) if n.endpoint in ends]
            pairs = [(a, b) for a, b in permutations(known, 2) if len(a.address) == len(b.address)]
            for a, b in self.chance.sample(pairs, min(4, len(pairs))):
                assert a.mac is not None
                body = p.build_ip(a.address, b.address, 17, b"probe", 64)
                ethertype = p.ETH_IPV4 if len(a.address) == 4 else p.ETH_IPV6
                sent = p.ethernet(gateway_mac(network.uuid), a.mac, ethertype, body)
                end = ends[a.endpoint]
                self.probes.append((int(end.switch), int(end.port), egress_frame(end, sent)[2]))
        self.before = [self.look(probe) for probe in self.probes]
        self.during = [[] for _ in self.probes]

        def between() -> None:
            for probe, seen in zip(self.probes, self.during, strict=True):
                seen.append((self.look(probe), False))

        self.rig.between = between

    def end(self) -> None:
        super().end()
        core = self.rig.core
        for kind in ("gateway", "prefix", "family", "neighbour"):
            assert not core.state.installed.units(kind)
        assert not vars(core.state.neighbours)["_networks"]
        assert not vars(core.state)["_address_plans"]


class Promised(Routers):
    """The same with constraints, which change the way of packets, but not where they come out."""

    def step(self) -> None:
        if self.chance.random() < 0.08:
            self.constrain()
        super().step()

    def constrain(self) -> None:
        """A constraint comes, changes or goes."""
        network = self.pick()
        if network is None or len(network.endpoints) < 2:
            return
        one, other = self.chance.sample([e.uuid for e in network.endpoints], 2)
        rest = tuple(c for c in network.constraints if c.key != (one, other))
        asked = self.chance.choice(({}, {"max-hops": 255}, {"max-hops": 2}, {"max-bandwidth": "1 Gbit/s"}))
        wanted = {"source": one, "destination": other, **asked}
        new = (Constraint.model_validate(wanted),) if asked else ()
        self.change(network, network.changed(constraints=(*rest, *new)))

    def drop(self) -> None:
        network = self.pick()
        if network and network.endpoints:
            self.change(network, network.without_endpoint(self.chance.choice(network.endpoints).uuid))

    def end(self) -> None:
        super().end()
        assert self.rig.state.te_paths.ordered() == []
        assert not self.rig.state.installed.units("constraint")


def _live(kind: type[Routers], steps: int, encapsulations: tuple[Encapsulation, ...]) -> None:
    """Many worlds; in each, so many things are done. Most changes describe networks that may be."""
    tally = Tally()

    @laws
    @given(seed=seeds)
    def live(seed: int) -> None:
        encapsulation = encapsulations[seed % len(encapsulations)]
        world = kind(seed, Rules(encapsulation=encapsulation).over(VLAN), tally)
        for _ in range(steps):
            world.step()
        world.end()

    live()
    tally.check(least=6 * steps, most_refused=0.05)


def test_constraints_do_not_affect_routing() -> None:
    _live(Promised, 60, (Encapsulation.VLAN, Encapsulation.MPLS))


@pytest.mark.parametrize("encapsulation", [Encapsulation.VLAN, Encapsulation.MPLS])
def test_routers_forward_and_reply_as_the_oracle_predicts(encapsulation: Encapsulation) -> None:
    _live(Routers, 200, (encapsulation,))
