"""Random substrates and random operations: what comes out is what the oracle says, at every point of rest;
and while a change is under way, what it does not concern is delivered as before."""

from __future__ import annotations

from contextlib import suppress
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import Flow
from libnetvirt.controller.dataplane.pipeline import Kind
from libnetvirt.controller.engine.controller import Options
from libnetvirt.controller.intent.locator import mac_text
from libnetvirt.drivers.openflow.capabilities import COMBINATIONS
from libnetvirt.model import Encapsulation, Endpoint, Forwarding, Insertion, Rules, VirtualNetwork
from tests.support.controller_rig import BROADCAST, Rig, frame, mac, tagged
from tests.support.switch_fabric import Out

pytestmark = [pytest.mark.long, pytest.mark.apart]

TAGS: tuple[dict[str, int], ...] = (
    {},
    {},
    {"vlan": 1},
    {"vlan": 20},
    {"vlan": 4094},
    {"mpls": 16},
    {"mpls": 2000},
)
LIMITS: tuple[dict[str, str], ...] = (
    {},
    {"inbound": "10 Mbit/s"},
    {"outbound": "5 Mbit/s"},
    {"inbound": "2 Mbit/s", "outbound": "1 Mbit/s"},
)
HOST_PORTS = 3

laws = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
seeds = st.integers(0, 2**32)


class Killed(Exception):
    """The controller is no more."""


class World:
    """A random substrate and what is done to it."""

    forwarding = Forwarding.L2

    def __init__(self, seed: int, rules: Rules) -> None:
        self.chance = chance = Random(seed)
        self.native = rules.encapsulation is Encapsulation.NATIVE
        # Then switches cannot replicate frames, and the controller does, wherever links lead.
        self.floods = not self.native and rules.insertion is Insertion.OFFLINE
        self.rig = Rig(Options(rules, host_limit=100), chance)
        self.rig.stores = True
        count = chance.randint(1, 6)
        pairs = {(chance.randint(1, d - 1), d) for d in range(2, count + 1)}
        for _ in range(chance.randint(0, count)):
            one, other = chance.randint(1, count), chance.randint(1, count)
            if one < other:
                pairs.add((one, other))
        used = dict.fromkeys(range(1, count + 1), 0)
        links = []
        for one, other in sorted(pairs):
            used[one] += 1
            used[other] += 1
            links.append(((one, used[one]), (other, used[other])))
        self.ports = {dpid: n + HOST_PORTS for dpid, n in used.items()}
        self.places = [(d, n + i) for d, n in used.items() for i in range(1, HOST_PORTS + 1)]
        for dpid in self.ports:
            self.rig.switch(dpid, self.ports[dpid])
        for near, far in links:
            self.rig.link(near, far)
        self.links = [near for near, _ in links]
        self.lost: set[tuple[int, int]] = set()
        self.uuids = 0
        self.text = 0
        self.disturbed: list[str] = []
        #: whether the controller is killed in the next change
        self.doomed = False

    # ---- what is done --------------------------------------------------------------------------

    def step(self) -> None:
        """One random thing."""
        transports = [
            self.create,
            self.add,
            self.modify,
            self.modify,
            self.drop,
            self.remove,
            self.send,
            self.send,
        ]
        transports += [
            self.send,
            self.cut,
            self.restore,
            self.reconnect,
            self.expire,
            self.restart,
            self.doom,
            self.linger,
        ]
        self.chance.choice(transports)()

    def endpoint(self, pool: int) -> Endpoint | None:
        """An endpoint at a place that is free."""
        taken = {e.place for n in self.rig.networks for e in n.endpoints}
        (dpid, port), tag = self.chance.choice(self.places), self.chance.choice(TAGS)
        self.uuids += 1
        place = {"uuid": str(self.uuids), "switch": str(dpid), "port": str(port), **tag}
        limits = {"bandwidth": self.chance.choice(LIMITS)} if self.chance.random() < 0.4 else {}
        found = Endpoint.model_validate({**place, **limits, "mac": self.macs(pool)})
        return None if found.place in taken else found

    def macs(self, pool: int, besides: frozenset[str] = frozenset()) -> tuple[str, ...]:
        """Declared hosts of a new endpoint: mostly none."""
        if self.chance.random() < 0.8:
            return ()
        one = mac_text(self.host(pool))
        network = next((n for n in self.rig.networks if n.uuid == str(pool)), None)
        used = {m for e in network.endpoints for m in e.mac} if network else set()
        return () if one in used | besides else (one,)

    def host(self, pool: int) -> int:
        """A host that may be in a network. Native networks need different ones."""
        return mac(self.chance.randint(1, 6) + (pool * 16 if self.native else 0))

    def create(self) -> None:
        if len(self.rig.networks) >= 5:
            return
        self.uuids += 1
        uuid = self.uuids
        endpoints: dict[str, Endpoint] = {}
        hosts: set[str] = set()
        for _ in range(self.chance.randint(0, 5)):
            new = self.endpoint(uuid)
            if new is not None and not hosts & set(new.mac):
                endpoints.setdefault(new.place, new)
                hosts |= set(new.mac)
        ends = tuple(endpoints.values())
        self.change(None, VirtualNetwork(uuid=str(uuid), forwarding=self.forwarding, endpoints=ends))

    def pick(self) -> VirtualNetwork | None:
        networks = self.rig.networks
        return self.chance.choice(networks) if networks else None

    def add(self) -> None:
        network = self.pick()
        new = network and self.endpoint(int(network.uuid))
        if network and new:
            self.change(network, network.changed(endpoints=(*network.endpoints, new)))

    def modify(self) -> None:
        network = self.pick()
        if network is None or not network.endpoints:
            return
        old = self.chance.choice(network.endpoints)
        new = self.endpoint(int(network.uuid))
        if new is None:
            return
        changed = self.altered(old, new)
        ends = tuple(changed if e is old else e for e in network.endpoints)
        self.change(network, network.changed(endpoints=ends))

    def altered(self, old: Endpoint, new: Endpoint) -> Endpoint:
        """An endpoint that has something of a new one."""
        if self.chance.random() < 0.4:
            return old.changed(mac=new.mac, bandwidth=new.bandwidth)
        return new.changed(uuid=old.uuid, mac=old.mac)

    def drop(self) -> None:
        network = self.pick()
        if network and network.endpoints:
            old = self.chance.choice(network.endpoints)
            rest = tuple(e for e in network.endpoints if e is not old)
            self.change(network, network.changed(endpoints=rest))

    def remove(self) -> None:
        network = self.pick()
        if network and self.chance.random() < 0.5:
            self.change(network, None)

    def change(self, before: VirtualNetwork | None, after: VirtualNetwork | None) -> None:
        if self.doomed:
            self.kill_in(before, after)
            return
        self.watch()
        self.rig.change(before, after)
        self.compare(f"changing {before} to {after}")

    def send(self) -> None:
        network = self.pick()
        if network is None or not network.endpoints or self.chance.random() < 0.1:
            dpid, port = self.chance.choice(self.places)
            pool = 0xF000 + self.text  # native networks take an address once only
            tag = self.chance.choice((*TAGS, {"vlan": 7}, {"mpls": 17}))
            end = Endpoint.model_validate({"uuid": "1", "switch": str(dpid), "port": str(port), **tag})
        else:
            end = self.chance.choice(network.endpoints)
            dpid, port, pool = int(end.switch), int(end.port), int(network.uuid)
        targets = [
            self.host(pool),
            self.host(pool),
            self.host(pool),
            BROADCAST,
            0x3333_0000_0001,
            mac(0xFFFF),
        ]
        self.text += 1
        source = self.chance.choice((self.host(pool),) * 12 + (0, BROADCAST))
        # A first frame that a host sends to itself is forwarded before the controller knows the host.
        target = self.chance.choice([t for t in targets if t != source])
        sent = frame(target, source, b"%d" % self.text)
        if self.chance.random() < 0.1:
            sent = sent[:12] + b"\x81\x00\x00\x05" + sent[12:]
        sent = tagged(end, sent)
        if not network and self.chance.random() < 0.2:
            sent = sent[:12] + self.chance.choice((b"\x81\0\0\0", b"\x81\0\x0f\xff")) + sent[12:]
        self.check(dpid, port, sent)

    def check(self, dpid: int, port: int, sent: bytes) -> None:
        """What comes out is what the oracle says, as far as there is a way."""
        want = self.rig.expected(dpid, port, sent)
        if self.floods:
            reach = self.reach(dpid)
            want = [out for out in want if out[0] in reach]
        got = self.rig.inject(dpid, port, sent)
        assert got == want, f"{sent[:20].hex()} at {dpid}/{port}: got {got}, wanted {want}"
        assert not self.rig.errors

    def reach(self, dpid: int) -> set[int]:
        """The switches that there is a way to."""
        found, todo = {dpid}, [dpid]
        while todo:
            here = todo.pop()
            for (a, p), (b, q) in self.rig.fabric.links.items():
                if a == here and b not in found and not {(a, p), (b, q)} & self.lost:
                    found.add(b)
                    todo.append(b)
        return found

    def cut(self) -> None:
        up = [one for one in self.links if one not in self.lost]
        if not up:
            return
        one = self.chance.choice(up)
        self.lost.add(one)
        if not self.floods and len(self.reach(1)) < len(self.ports):
            self.lost.discard(one)
            return
        self.rig.cut(one)

    def restore(self) -> None:
        if self.lost:
            one = self.chance.choice(sorted(self.lost))
            self.lost.discard(one)
            self.watch()
            self.rig.cut(one, up=True)
            self.compare(f"link {one} up")

    def reconnect(self) -> None:
        dpid = self.chance.choice(list(self.ports))
        switch = self.rig.fabric.switches[dpid]
        self.rig.disconnect(dpid)
        roll = self.chance.random()
        if roll < 0.3:
            switch.wipe()
        elif roll < 0.6:
            self.damage(dpid)
        else:
            self.watch()
        self.rig.connect(dpid, self.ports[dpid])
        if roll >= 0.6:
            self.compare(f"switch {dpid} connects again")
        self.rig.holds_what_it_should()

    def restart(self) -> None:
        """The controller is killed and starts again. Switches may have lost some rules meanwhile."""
        self.rig.commit()
        order = self.chance.sample(list(self.ports), len(self.ports))
        whole = self.chance.random() < 0.6
        if whole:
            self.watch()
        else:
            for dpid in self.chance.sample(order, self.chance.randint(1, len(order))):
                self.damage(dpid)
        self.rig.restart({dpid: self.ports[dpid] for dpid in order})
        if whole:
            self.compare("the controller starts again")
        self.rig.holds_what_it_should()
        for network in self.rig.networks:
            self.forget(network)

    def linger(self) -> None:
        """From now on, the next operations come before what earlier ones left behind is removed; or it is."""
        self.rig.lingers = not self.rig.lingers
        self.rig.settle()

    def doom(self) -> None:
        """An operation in which the controller is killed, if any is done."""
        self.doomed = True
        try:
            self.chance.choice((self.create, self.add, self.modify, self.drop, self.remove))()
        finally:  # it may be refused
            self.doomed = False

    def kill_in(self, before: VirtualNetwork | None, after: VirtualNetwork | None) -> None:
        """Begin a change; after some of its messages there is a new controller. It is done, or undone."""
        left = self.chance.randint(0, 20)

        def between() -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed

        self.rig.commit()
        self.rig.between = between
        with suppress(Killed):
            self.rig.change(before, after)
        self.rig.between = lambda: None
        order = self.chance.sample(list(self.ports), len(self.ports))
        self.rig.restart({dpid: self.ports[dpid] for dpid in order})
        self.rig.holds_what_it_should()
        for network in self.rig.networks:
            self.forget(network)

    def forget(self, network: VirtualNetwork) -> None:
        """A new controller knows the hosts that rules tell of, and no others."""
        known = self.rig.known
        learned = known.network(network.uuid)
        for source, endpoint in learned.hosts.items():
            host = self.rig.state.locator.find(network.uuid, int.from_bytes(source))
            if host is None:
                learned = learned.without_host(source)
            else:
                assert host.endpoint == endpoint
        self.rig.known = known.with_tables(network.uuid, learned)

    def damage(self, dpid: int) -> None:
        """A switch lost some of what it held, and holds something else."""
        switch = self.rig.fabric.switches[dpid]
        for flow in list(switch.flows.values()):
            roll = self.chance.random()
            if roll < 0.2:
                del switch.flows[flow.key]
            elif roll < 0.3 and flow.cookie & 0xFFFF not in (Kind.PATH, Kind.QUIET):
                switch.flows[flow.key] = Flow(flow.table, flow.priority, flow.match, (), flow.cookie)
        for group in list(switch.groups):
            if self.chance.random() < 0.3:
                del switch.groups[group]
        match = of.Match(in_port=self.ports[dpid], vlan_vid=0x1FFF)
        surplus = Flow(0, 200, match, (), pipeline.cookie(77, Kind.ENDPOINT))
        switch.flows[surplus.key] = surplus
        switch.removed.clear()

    def expire(self) -> None:
        """A host was silent for long."""
        flows = [
            (s, f)
            for s in self.rig.fabric.switches.values()
            for f in s.flows.values()
            if f.notify and f.cookie & 0xFFFF in (Kind.HOST, Kind.PATH)
        ]
        if not flows:
            return
        switch, flow = self.chance.choice(flows)
        switch.expire(flow)
        self.rig.settle()
        if flow.cookie & 0xFFFF == Kind.HOST:
            entry = self.rig.state.rulesdb.by_index[pipeline.cookie_network(flow.cookie)]
            source = flow.match.value("eth_src").to_bytes(6)
            learned = self.rig.known.network(entry.uuid).without_host(source)
            self.rig.known = self.rig.known.with_tables(entry.uuid, learned)

    # ---- nothing else is disturbed -------------------------------------------------------------

    def watch(self) -> None:
        """From now on, look at probes after every message."""
        self.probes: list[tuple[int, int, bytes]] = []
        for network in self.rig.networks:
            ends = list(network.endpoints)
            hosts = [h.mac for h in self.rig.state.locator.hosts(network.uuid)]
            for end in self.chance.sample(ends, min(3, len(ends))):
                for target in (BROADCAST, *self.chance.sample(hosts, min(2, len(hosts)))):
                    source = self.chance.choice(self.hosts_at(network, end) or [mac(0xABCD)])
                    sent = tagged(end, frame(target, source, b"probe"))
                    self.probes.append((int(end.switch), int(end.port), sent))
        self.before = [self.look(p) for p in self.probes]
        # What came out, and whether the controller would have had to forward it.
        self.during: list[list[tuple[list[Out], bool]]] = [[] for _ in self.probes]

        def between() -> None:
            for probe, seen in zip(self.probes, self.during, strict=True):
                seen.append((self.look(probe), not self.floods and self.rig.fabric.raised > 0))

        self.rig.between = between

    def hosts_at(self, network: VirtualNetwork, end: Endpoint) -> list[int]:
        return [h.mac for h in self.rig.state.locator.hosts(network.uuid) if h.endpoint == end.uuid]

    def look(self, probe: tuple[int, int, bytes]) -> list[Out]:
        return self.rig.fabric.probe(*probe)

    def compare(self, what: str) -> None:
        """Each output that a probe had before and has after it had all the time, once."""
        self.rig.between = lambda: None
        for probe, before, during in zip(self.probes, self.before, self.during, strict=True):
            kept = [out for out in before if out in self.look(probe)]
            for seen, up in during:
                for out in kept:
                    times = seen.count(out)
                    assert times == 1 or (up and not seen), (
                        f"{what}: {probe[2][:18].hex()} at {probe[:2]} came out {times} times at {out}"
                    )

    def end(self) -> None:
        """All networks go, and with them all but base and link rules, and all numbers."""
        self.rig.lingers = True
        for network in self.rig.networks:
            self.change(network, None)
        core = self.rig.core
        for dpid, switch in self.rig.fabric.switches.items():
            assert not switch.groups, dpid
            kinds = {f.cookie & 0xFFFF for f in switch.flows.values()}
            assert kinds <= {Kind.BASE, Kind.LINK}, kinds
        self.rig.lingers = False
        self.rig.settle()
        assert not core.state.installed.units("flood") + core.state.installed.units("host")
        assert not core.state.installed.units("endpoint") + core.state.installed.units("tunnel")
        assert not any(any(needs.by_egress.values()) for needs in core.state.tunnel_users.values())
        assert not vars(core.state.labels)["_indexes"]
        for space in core.state.labels.spaces.values():
            labels = vars(space)
            assert not space.tunnels()
            assert not labels["_outer"]
            assert not labels["_numbers"]
            assert not any(labels["_services"].values())
            assert not any(labels["_inner"].values())
        assert not list(core.state.ondemand)
        assert not core.state.rulesdb.by_point
        assert not core.state.rulesdb.ports
        assert not core.state.rulesdb.by_index
        self.rig.holds_what_it_should()


def live(seed: int, rules: Rules, steps: int) -> None:
    world = World(seed, rules)
    world.create()
    for _ in range(steps):
        world.step()
    world.end()


ALL = [
    Rules(encapsulation=c.encapsulation, insertion=c.insertion, timeout=c.timeout).over(Rules())
    for c in COMBINATIONS
]
ON_DEMAND = [rules for rules in ALL if rules.insertion is Insertion.ON_DEMAND]


def named(rules: Rules) -> str:
    return f"{rules.encapsulation}-{rules.insertion}-{rules.timeout}"


@pytest.mark.parametrize("rules", ALL, ids=named)
@laws
@given(seed=seeds)
def test_networks_forward_as_the_oracle_predicts(rules: Rules, seed: int) -> None:
    live(seed, rules, 40)


@pytest.mark.parametrize("rules", ON_DEMAND, ids=named)
@pytest.mark.parametrize("seed", range(5))
def test_bursts_of_first_frames_are_delivered_exactly_once(rules: Rules, seed: int) -> None:
    world = World(seed, rules)
    while not (world.rig.networks and len(world.rig.networks[0].endpoints) > 1):
        world.create()
        for network in world.rig.networks[:-1]:
            world.change(network, None)
    one, other = world.rig.networks[0].endpoints[:2]
    source, target = mac(0x100), mac(0x101)
    rig = world.rig
    rig.check(int(other.switch), int(other.port), tagged(other, frame(BROADCAST, target)))
    want: list[Out] = []
    for n in range(10):
        sent = tagged(one, frame(target, source, b"%d" % n))
        want += rig.expected(int(one.switch), int(one.port), sent)
        rig.out += rig.fabric.inject(int(one.switch), int(one.port), sent)
        if n % 3 == 0:
            rig.hear()
        rig.pump(world.chance.randint(0, 3))
    rig.settle()
    assert sorted(rig.out) == sorted(want)
