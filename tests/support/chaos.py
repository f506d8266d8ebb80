"""Random operations and faults on real switches, reproducible by a seed."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from itertools import pairwise

from libnetvirt import State, VirtualNetwork
from libnetvirt.conformance.harness import Place
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.testbed import Guest, Testbed
from libnetvirt.errors import ConnectionFailed, NetvirtError
from libnetvirt.semantics import LearnedState, gateway_mac
from tests.support.openflow_harness import OpenFlow
from tests.support.random_operations import Networks, Operation, Outcomes, RandomOperations, result, results

#: the relative frequency of each step
STEPS = {
    "create": 8, "remove": 4, "add": 8, "modify": 8, "drop": 5, "talk": 8,
    "cut": 5, "restore": 4, "unplug": 4, "plug": 3, "release": 2, "reconnect": 3, "change_while_away": 5,
    "restart_switch": 3, "restart_all": 1, "freeze": 1, "hang": 1, "kill": 2, "kill_in_operation": 3,
}  # fmt: skip


#: the least share of operations that are done though there were faults since the substrate was last at rest
DONE_UNDER_FAULTS = 0.5


class _Asking:
    """An operation in a thread of its own. When it has ended: how it failed, if it did."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def ended(self) -> bool:
        """Wait until it ends. Whether it was confirmed."""
        self._thread.join()
        return self.error is None

    def _ask(self) -> None:
        try:
            self.operation.work()
        except BaseException as error:
            self.error = error


class Chaos:
    """Random networks and faults, and the networks that should exist.

    ``only``: an encapsulation and an insertion, as in ``native/on-demand``, which all networks have.
    """

    def __init__(self, harness: OpenFlow, seed: int, only: str = "") -> None:
        self.harness, self.testbed = harness, Testbed(harness, None)
        self.chance = random.Random(seed)
        self.operations = RandomOperations(harness, self.chance, only)
        self.outcomes = Outcomes()
        self.places = self.operations.places
        self.asked: Networks = {}
        #: the faults since the substrate was last at rest, as in ``REFUSALS``
        self.faults: set[str] = set()
        self.cuts: set[tuple[str, str]] = set()
        self.unplugged: set[Place] = set()
        self.released: set[str] = set()
        self._count = 0
        self._capabilities = harness.connection.capabilities()

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

    def check_outcomes(self) -> None:
        """Operations were done often enough, also those that faults stood against."""
        print(*sorted(self.outcomes.counts.items()), sep=", ", flush=True)
        share, count = self.outcomes.share()
        assert self.outcomes.counts["calm: done"] >= self._count // 20
        assert count < 20 or share >= DONE_UNDER_FAULTS, f"{share:.0%} of {count} operations were done"

    # ---- operations ----------------------------------------------------------------------------

    def create(self) -> None:
        self._operate(self._creation())

    def remove(self) -> None:
        self._operate(self.operations.removal(self.asked))

    def add(self) -> None:
        self._operate(self.operations.addition(self.asked))

    def modify(self) -> None:
        self._operate(self.operations.modification(self.asked))

    def drop(self) -> None:
        self._operate(self.operations.drop(self.asked))

    def _creation(self) -> Operation:
        return self.operations.creation(self.asked, pending=bool(self.released))

    def _any(self) -> list[Callable[[], Operation | None]]:
        """What makes each kind of operation on the networks that there are."""
        made, asked = self.operations, self.asked
        return [self._creation, *(
            lambda make=make: make(asked)
            for make in (made.removal, made.addition, made.modification, made.drop)
        )]  # fmt: skip

    def _operate(self, operation: Operation | None) -> None:
        """Ask for a change, which is applied completely, or refused without trace and for a known reason."""
        if operation is None:
            operation = self._creation()
        wanted, error = result(operation, self.asked), None
        try:
            operation.work()
        except NetvirtError as refusal:
            error = refusal
            print(f"refused: {error}"[:150], end="", flush=True)
        self.outcomes.add(wanted, self.faults, error)
        if error is None and not isinstance(wanted, type):
            self.asked = wanted
        assert self._described() == self.asked

    def _described(self) -> Networks:
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
        self.faults.add("cut")
        self.cuts.add(link)
        self.harness.cut_link(*link)

    def restore(self) -> None:
        for link in self.chance.sample(sorted(self.cuts), min(1, len(self.cuts))):
            self._restore_link(link)

    def _restore_link(self, link: tuple[str, str]) -> None:
        self.faults.add("cut")
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
        self.faults.add("away")
        self.released.add(switch)
        self.harness.lab.release([int(switch)])

    def change_while_away(self) -> None:
        """Change a network while one of its switches is disconnected."""
        used = sorted({e.switch for network in self.asked.values() for e in network.endpoints})
        if not used:
            return
        switch = self.chance.choice(used)
        self.faults.add("away")
        self.released.add(switch)
        self.harness.lab.release([int(switch)])
        self.testbed.eventually(lambda: switch in self._connected(), f"switch {switch} is away")
        there = [(n, e) for n in self.asked.values() for e in n.endpoints if e.switch == switch]
        network, endpoint = self.chance.choice(there)
        made = self.operations
        changes = (lambda: made.removal_of(network), lambda: made.drop_of(network, endpoint),
                   lambda: made.move_of(network, endpoint))  # fmt: skip
        self._operate(self.chance.choice(changes)())

    def _connected(self) -> set[str]:
        return {s.id for s in self.harness.connection.substrate().switches if s.connected}

    def reconnect(self) -> None:
        self.faults.add("away")
        released, self.released = self.released, set()
        self.harness.lab.reconnect(sorted(map(int, released)))

    def restart_switch(self) -> None:
        switch = self._switch()
        self.faults.add("away")
        self.released.discard(switch)
        self.harness.restart_switch(switch)
        self._cut_again()

    def restart_all(self) -> None:
        self.faults.add("away")
        self.harness.lab.restart_all()
        self._cut_again()

    def _cut_again(self) -> None:
        """Cut the links again that a restarted switch has brought up."""
        for link in self.cuts:
            self.harness.cut_link(*link)

    def freeze(self) -> None:
        """Freeze all switches for a moment."""
        self.faults.add("frozen")
        self.harness.lab.ovs.freeze_switch()
        time.sleep(0.3)
        self.harness.lab.ovs.thaw_switch()

    def hang(self) -> None:
        """Freeze switches for so long that operations which wait for them no longer block others."""
        self.faults.add("frozen")
        operations = [one for make in self._any() if (one := make()) is not None]
        self.harness.lab.ovs.freeze_switch()
        asking = [_Asking(one) for one in self.chance.sample(operations, min(2, len(operations)))]
        time.sleep(0.9)
        self.harness.lab.ovs.thaw_switch()
        done = [one.operation for one in asking if one.ended()]
        print(f"{len(done)} of {len(asking)} confirmed", end=" ")
        now = self._described()
        assert now in results(done, self.asked), "not what the confirmed operations make of it"
        for ended in asking:
            if ended.error is not None:
                self._check_refusal(ended, now)
        self.asked = now

    def _check_refusal(self, asking: _Asking, now: Networks) -> None:
        """What else was done at the same time is a reason, too."""
        assert isinstance(asking.error, NetvirtError), f"the operation failed: {asking.error!r}"
        # It was judged before the others were done, or after.
        wanted = [result(asking.operation, networks) for networks in (now, self.asked)]
        refusals = [one for one in wanted if isinstance(one, type)]
        named = [one for one in refusals if isinstance(asking.error, one)]
        self.outcomes.add((*named, *refusals, wanted[1])[0], self.faults, asking.error)

    def kill(self) -> None:
        self.faults.add("killed")
        self.harness.kill_controller()
        for fault in self.chance.sample(("cut", "restore", "unplug", "restart_switch", "talk"), 2):
            print(f"({fault})", end=" ")
            getattr(self, fault)()
        self._revive()
        assert self._described() == self.asked

    def kill_in_operation(self) -> None:
        operation = self.chance.choice(self._any())()
        if operation is None:
            return
        wanted = result(operation, self.asked)
        asking = _Asking(operation)
        time.sleep(self.chance.uniform(0, 0.04))
        self.harness.kill_controller()
        confirmed = asking.ended()
        faults, self.faults = self.faults, self.faults | {"killed"}
        if not isinstance(asking.error, ConnectionFailed):
            # It was answered before the controller was killed.
            assert asking.error is None or isinstance(asking.error, NetvirtError), repr(asking.error)
            self.outcomes.add(wanted, faults, asking.error)
        self._revive()
        now = self._described()
        print("confirmed" if confirmed else "done" if now != self.asked else "not done", end="")
        if confirmed:
            assert now == wanted, "it was confirmed"
        elif isinstance(asking.error, ConnectionFailed):
            assert now in (self.asked, wanted), "neither as it was nor as asked for"
        else:
            assert now == self.asked, "it was refused"
        self.asked = now

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
        assert not self._inactive(), "a network that was active does not stay so"
        self.faults.clear()
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
