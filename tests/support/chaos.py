"""Random operations and faults on real switches, reproducible by a seed."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable
from functools import cached_property
from itertools import pairwise
from typing import Any

from libnetvirt import Endpoint, Network, Rules, State, Timeout, VirtualNetwork
from libnetvirt.conformance.harness import Place
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.testbed import Guest, Testbed
from libnetvirt.errors import Conflict, InvalidDescription, NetvirtError, SubstrateError, Unsupported
from libnetvirt.semantics import LearnedState, gateway_mac
from tests.support.openflow_harness import OpenFlow

NETWORKS = 4
ENDPOINTS = 4
VLANS = (None, None, 2, 20, 100, 1000, 4094)
LABELS = (16, 1048575)
#: the relative frequency of each step
STEPS = {
    "create": 8, "remove": 4, "add": 8, "modify": 8, "drop": 5, "talk": 8,
    "cut": 5, "restore": 4, "unplug": 4, "plug": 3, "release": 2, "reconnect": 3, "change_while_away": 5,
    "restart_switch": 3, "restart_all": 1, "freeze": 1, "hang": 1, "kill": 2, "kill_in_operation": 3,
}  # fmt: skip


class _Asking:
    """An operation in a thread of its own."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work, self._confirmed = work, False
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def ended(self) -> bool:
        """Wait until it ends. Whether it was confirmed."""
        self._thread.join()
        return self._confirmed

    def _ask(self) -> None:
        try:
            self._work()
        except (NetvirtError, RuntimeError, OSError):
            return
        self._confirmed = True


class Chaos:
    """Random networks and faults, and the networks that should exist.

    ``only``: an encapsulation and an insertion, as in ``native/on-demand``, which all networks have.
    """

    def __init__(self, harness: OpenFlow, seed: int, only: str = "") -> None:
        self.harness, self.testbed = harness, Testbed(harness, None)
        self.chance = random.Random(seed)
        self.places = list(harness.host_ports())
        self.asked: dict[str, VirtualNetwork] = {}
        self.cuts: set[tuple[str, str]] = set()
        self.unplugged: set[Place] = set()
        self.released: set[str] = set()
        self._count = 0
        self._numbers = iter(range(1, 1 << 20))
        self._capabilities = capabilities = harness.connection.capabilities()
        self.features = capabilities.features
        self.options: list[Rules | None] = [] if only else [None]
        for one in capabilities.combinations:
            if only not in ("", f"{one.encapsulation}/{one.insertion}"):
                continue
            duration = None if one.timeout is Timeout.PERMANENT else "20 s"
            self.options.append(
                Rules.model_validate({**one.model_dump(exclude_none=True), "duration": duration})
            )

    @cached_property
    def _routable(self) -> list[Rules | None]:
        """The rules options with which the driver offers routers."""
        taken = []
        for rules in self.options:
            router = VirtualNetwork.model_validate({"name": "router", "forwarding": "L3", "rules": rules})
            with contextlib.suppress(Unsupported):
                self.harness.connection.create(router).remove()
                taken.append(rules)
        return taken

    def step(self) -> None:
        """Take one random step."""
        self._count += 1
        idle = {"restore": not self.cuts, "plug": not self.unplugged, "reconnect": not self.released}
        steps = {name: often for name, often in STEPS.items() if not idle.get(name)}
        name = self.chance.choices(list(steps), list(steps.values()))[0]
        print(f"step {self._count}: {name}", end=" ", flush=True)
        began = time.monotonic()
        getattr(self, name)()
        print(f"({time.monotonic() - began:.2f} s)", flush=True)

    def tell(self) -> None:
        """Print the state, to help find the cause of a failure."""
        print()
        for network in self.asked.values():
            print(network.model_dump_json(exclude_none=True, exclude_defaults=True))
        for switch in self.harness.lab.switches:
            print(f"switch {switch}:", *self.harness.lab.dump(switch, statistics=True), sep="\n  ")
        print(self.harness.served.log.read_text()[-10_000:])

    # ---- operations ----------------------------------------------------------------------------

    def create(self) -> None:
        self._operate(self._creation())

    def remove(self) -> None:
        self._operate(self._removal())

    def add(self) -> None:
        self._operate(self._addition())

    def modify(self) -> None:
        self._operate(self._modification())

    def drop(self) -> None:
        self._operate(self._drop())

    @property
    def _operations(self) -> tuple[Callable[[], Callable[[], object] | None], ...]:
        return self._creation, self._removal, self._addition, self._modification, self._drop

    def _creation(self) -> Callable[[], object]:
        if len(self.asked) >= NETWORKS:
            return self._some().remove
        number = next(self._numbers)
        routed = "forwarding.L3" in self.features and self.chance.random() < 0.4 and bool(self._routable)
        rules = self.chance.choice(self._routable if routed else self.options)
        endpoints = [self._endpoint(n, routed) for n in range(1, self.chance.randint(2, ENDPOINTS) + 1)]
        document = {"uuid": number, "name": f"chaos-{number}", "forwarding": "L3" if routed else "L2",
                    "endpoints": endpoints, "rules": rules}  # fmt: skip
        pending = bool(self.released)
        return lambda: self.harness.connection.create(
            VirtualNetwork.model_validate(document), pending=pending
        )

    def _removal(self) -> Callable[[], object] | None:
        return self._some().remove if len(self.asked) > 1 else None

    def _addition(self) -> Callable[[], object] | None:
        if not self.asked:
            return None
        network, number = self._some(), next(self._numbers) % 200 + 20
        described = self.asked[network.uuid]
        if len(described.endpoints) >= ENDPOINTS:
            return None
        new = self._endpoint(number, described.forwarding == "L3")
        return lambda: network.add_endpoint(new)

    def _modification(self) -> Callable[[], object] | None:
        if not self.asked:
            return None
        network = self._some()
        described = self.asked[network.uuid]
        if not described.endpoints:
            return None
        old = self.chance.choice(described.endpoints)
        moved = self._elsewhere()
        return lambda: network.modify_endpoint(old.uuid, **moved)

    def _elsewhere(self) -> dict[str, Any]:
        new = self._endpoint(1, False)
        return {"switch": new.switch, "port": new.port, "vlan": new.vlan, "mpls": new.mpls}

    def _drop(self) -> Callable[[], object] | None:
        if not self.asked:
            return None
        network = self._some()
        endpoints = self.asked[network.uuid].endpoints
        return (lambda: network.remove_endpoint(self.chance.choice(endpoints).uuid)) if endpoints else None

    def _some(self) -> Network:
        return self.harness.connection.lookup(self.chance.choice(list(self.asked)))

    def _endpoint(self, uuid: int, routed: bool) -> Endpoint:
        place = self.chance.choice(self.places)
        document: dict[str, object] = {"uuid": uuid, "switch": place.switch, "port": place.port}
        if "tag.mpls" in self.features and self.chance.random() < 0.2:
            document["mpls"] = self.chance.choice(LABELS)
        else:
            document["vlan"] = self.chance.choice(VLANS)
        if routed:
            document["address"] = [f"10.0.{uuid}.254/24"]
        return Endpoint.model_validate(document)

    def _operate(self, work: Callable[[], object] | None) -> None:
        """Request a change, which is applied completely or refused without trace."""
        if work is None:
            work = self._creation()
        try:
            work()
        except (SubstrateError, Conflict, InvalidDescription) as error:
            print(f"refused: {error}"[:150], end="", flush=True)
        else:
            self._take(self._described())
        assert self._described() == self.asked

    def _take(self, now: dict[str, VirtualNetwork]) -> None:
        changed = [uuid for uuid in {**now, **self.asked} if now.get(uuid) != self.asked.get(uuid)]
        assert len(changed) <= 1
        self.asked = now

    def _described(self) -> dict[str, VirtualNetwork]:
        return {d.uuid: d for d in self.harness.connection.descriptions()}

    def talk(self) -> None:
        """Hosts send broadcasts or unicast frames, whose delivery is not checked.

        Not through a router: a packet would wait there for its receiver, and come out when we do look.
        """
        for network in self.asked.values():
            guests = self._guests(network)
            says = (self._greeting,) if network.forwarding == "L3" else (self._greeting, self._word)
            for guest in guests:
                if guest.place not in self.unplugged and self.chance.random() < 0.5:
                    frame = self.chance.choice(says)(network, guest, self.chance.choice(guests))
                    self.harness.send(guest.place, [guest.on_wire(frame)])

    # ---- faults --------------------------------------------------------------------------------

    def cut(self) -> None:
        link = self.chance.choice(self.harness.links())
        self.cuts.add(link)
        self.harness.cut_link(*link)

    def restore(self) -> None:
        for link in self.chance.sample(sorted(self.cuts), min(1, len(self.cuts))):
            self._restore_link(link)

    def _restore_link(self, link: tuple[str, str]) -> None:
        self.cuts.discard(link)
        self.harness.restore_link(*link)

    def unplug(self) -> None:
        place = self.chance.choice(self.places)
        self.unplugged.add(place)
        self.harness.unplug(place)

    def plug(self) -> None:
        if self.unplugged:
            place = self.chance.choice(sorted(self.unplugged))
            self.unplugged.discard(place)
            self.harness.plug(place)

    def release(self) -> None:
        """A switch loses its connection and keeps forwarding."""
        switch = self._switch()
        self.released.add(switch)
        self.harness.lab.release([int(switch)])

    def change_while_away(self) -> None:
        """Change a network while one of its switches is disconnected."""
        used = sorted({e.switch for network in self.asked.values() for e in network.endpoints})
        if not used:
            return
        switch = self.chance.choice(used)
        self.released.add(switch)
        self.harness.lab.release([int(switch)])
        self.testbed.eventually(lambda: switch in self._connected(), f"switch {switch} is away")
        there = [(n, e) for n in self.asked.values() for e in n.endpoints if e.switch == switch]
        network, endpoint = self.chance.choice(there)
        handle = self.harness.connection.lookup(network.uuid)
        moved = self._elsewhere()
        changes = (handle.remove, lambda: handle.remove_endpoint(endpoint.uuid),
                   lambda: handle.modify_endpoint(endpoint.uuid, **moved))  # fmt: skip
        self._operate(self.chance.choice(changes))

    def _connected(self) -> set[str]:
        return {s.id for s in self.harness.connection.substrate().switches if s.connected}

    def reconnect(self) -> None:
        released, self.released = self.released, set()
        self.harness.lab.reconnect(sorted(map(int, released)))

    def restart_switch(self) -> None:
        switch = self._switch()
        self.released.discard(switch)
        self.harness.restart_switch(switch)
        self._cut_again()

    def restart_all(self) -> None:
        self.harness.lab.restart_all()
        self._cut_again()

    def _cut_again(self) -> None:
        """Cut the links again that a restarted switch has brought up."""
        for link in self.cuts:
            self.harness.cut_link(*link)

    def freeze(self) -> None:
        """Freeze all switches for a moment."""
        self.harness.lab.ovs.freeze_switch()
        time.sleep(0.3)
        self.harness.lab.ovs.thaw_switch()

    def hang(self) -> None:
        """Freeze switches for so long that operations which wait for them no longer block others."""
        self.harness.lab.ovs.freeze_switch()
        executor = [work for make in self._operations for work in [make()] if work is not None]
        asking = [_Asking(work) for work in self.chance.sample(executor, min(2, len(executor)))]
        time.sleep(0.9)
        self.harness.lab.ovs.thaw_switch()
        before, self.asked = self.asked, {}
        done = sum(one.ended() for one in asking)
        self.asked = self._described()
        changed = [uuid for uuid in {**before, **self.asked} if before.get(uuid) != self.asked.get(uuid)]
        print(f"{done} of {len(asking)} confirmed", end=" ")
        assert len(changed) <= done

    def kill(self) -> None:
        self.harness.kill_controller()
        for fault in self.chance.sample(("cut", "restore", "unplug", "restart_switch", "talk"), 2):
            print(f"({fault})", end=" ")
            getattr(self, fault)()
        self._revive()
        assert self._described() == self.asked

    def kill_in_operation(self) -> None:
        make = self.chance.choice(self._operations)
        work = make()
        if work is None:
            return
        asking = _Asking(work)
        time.sleep(self.chance.uniform(0, 0.04))
        self.harness.kill_controller()
        confirmed = asking.ended()
        self._revive()
        before, now = self.asked, self._described()
        print("confirmed" if confirmed else "done" if now != before else "not done", end="")
        if confirmed:
            assert now != before or make == self._modification
        self._take(now)

    def _revive(self) -> None:
        self.harness.revive_controller()
        self.harness.lab.reconnect([s for s in self.harness.lab.switches if str(s) not in self.released])

    def _switch(self) -> str:
        return str(self.chance.choice(list(self.harness.lab.switches)))

    # ---- rest ----------------------------------------------------------------------------------

    def rest(self) -> None:
        """Stop the faults, except cut links that are not needed; check that all networks are as requested."""
        for place in sorted(self.unplugged):
            self.harness.plug(place)
        self.unplugged.clear()
        self.reconnect()
        cuts = sorted(self.cuts)
        self.chance.shuffle(cuts)
        while not self._whole():
            self._restore_link(cuts.pop())
        print(f"at rest, without {sorted(self.cuts)}", end=" ", flush=True)
        began, testbed = time.monotonic(), self.testbed
        testbed.eventually(self._unseen, "the substrate is as it is")
        assert self._described() == self.asked
        testbed.eventually(self._inactive, "all networks are active")
        testbed.eventually(self.harness.differences, "the switches hold what they should and nothing else")
        print(f"({time.monotonic() - began:.2f} s until then)", end=" ", flush=True)
        # A switch's flow cache may lag by a second, longer after much traffic.
        self.harness.flush_caches()
        self._exchange()
        print(f"({time.monotonic() - began:.2f} s)", flush=True)

    def _whole(self) -> bool:
        """Whether the links that are up join all switches."""
        links = [link for link in self.harness.links() if link not in self.cuts]
        reached = {str(self.harness.lab.switches[0])}
        for _ in self.harness.lab.switches:
            reached |= {s for link in links if reached & set(link) for s in link}
        return len(reached) == len(self.harness.lab.switches)

    def _unseen(self) -> list[str]:
        """The parts of the substrate that the driver does not know yet."""
        substrate = self.harness.connection.substrate()
        away = [f"switch {s.id} is away" for s in substrate.switches if not s.connected]
        down = [f"{s.id}/{p.name} is down" for s in substrate.switches for p in s.ports
                if not p.up and Place(s.id, str(p.number)) in self.places]  # fmt: skip
        known = {(link.source, link.destination) for link in substrate.links if link.up}
        up = {end for link in self.harness.links() if link not in self.cuts for end in (link, link[::-1])}
        missing = len(self.harness.lab.switches) - len(substrate.switches)
        return (
            away
            + down
            + [f"link {link}" for link in known ^ up]
            + ["switches"] * missing
            + [*substrate.notes]
        )

    def _inactive(self) -> list[str]:
        states = [self.harness.connection.lookup(uuid).state() for uuid in self.asked]
        return [f"{s.name}: {e.uuid} is {e.state}: {e.reason}" for s in states for e in s.endpoints
                if e.state is not State.ACTIVE]  # fmt: skip

    def _guests(self, network: VirtualNetwork | None = None) -> list[Guest]:
        """One guest per endpoint, with the same addresses in all networks where that is allowed."""
        found = []
        for one in [network] if network else self.asked.values():
            native = self._capabilities.resolve(one.rules).encapsulation == "native"
            for endpoint in one.endpoints:
                number = int(endpoint.uuid) + (0x10000 * int(one.uuid) if native else 0)
                found.append(self.testbed.guest(one, endpoint, frames.mac(number)))
        return found

    def _exchange(self) -> None:
        """Frames leave where the oracle predicts, and frames from unclaimed places nowhere.

        In each network, first every host says where it is, then each talks to the next.
        """
        testbed = self.testbed
        testbed.knowledge = LearnedState()
        for network in self.asked.values():
            guests = self._guests(network)
            for make in (self._greeting, self._word):
                for guest, after in pairwise((*guests, *guests[:1])):
                    testbed.exchange(guest, make(network, guest, after))
        place = self.chance.choice(self.places)
        stray = frames.marked(frames.mac(0xBAD), frames.BROADCAST, b"nobody's")
        for tags in ((frames.tag(7),), (frames.tag(8), frames.tag(1)), (frames.tag(9, tpid=frames.AD),)):
            testbed.inject(place, frames.tagged(stray, *tags))
        testbed.drain()

    def _greeting(self, network: VirtualNetwork, guest: Guest, _: Guest) -> bytes:
        """A frame by which the network learns where a host is."""
        if network.forwarding == "L3":
            return frames.arp(guest.mac, _address(guest), f"10.0.{guest.endpoint}.254")
        return frames.marked(guest.mac, frames.BROADCAST, b"here I am")

    def _word(self, network: VirtualNetwork, guest: Guest, other: Guest) -> bytes:
        """A frame from a host to another one of its network; both are learned."""
        text = b"%d" % self.chance.getrandbits(40)
        if network.forwarding == "L3":
            gateway = frames.mac_text(gateway_mac(network.uuid))
            return frames.ipv4(guest.mac, gateway, _address(guest), _address(other), frames.udp(5, 6, text))
        return frames.marked(guest.mac, other.mac, text)


def _address(guest: Guest) -> str:
    return f"10.0.{guest.endpoint}.1"
