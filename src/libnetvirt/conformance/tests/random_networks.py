"""Random networks and random frames, compared with the oracle."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from libnetvirt import Endpoint, Network
from libnetvirt.conformance.harness import Place
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.aggregation import bonded, group_of, joint
from libnetvirt.conformance.support.frames import AD, BROADCAST, tag
from libnetvirt.conformance.support.testbed import Tag, Testbed, endpoint_at
from libnetvirt.errors import EndpointClaimed, InvalidDescription

SEEDS = (1, 2, 3)
TAGS: tuple[Tag, ...] = (None, None, 1, 2, 20, 4094)
LABELS: tuple[Tag, ...] = ({"mpls": 16}, {"mpls": 1048575})


class Trial:
    """A random sequence of changes and frames, reproducible by its seed."""

    def __init__(self, testbed: Testbed, seed: int, group: Sequence[Place] = ()) -> None:
        """``group``: ports that are a link aggregation group in all networks."""
        self.testbed = testbed
        self.chance = random.Random(seed)
        self.places = [place for place in testbed.harness.host_ports() if place not in group]
        # As often as a third of all places.
        self.places += [joint(group)] * (len(self.places) // 2) if group else []
        self.networks: list[Network] = []
        self.tags = TAGS + (LABELS if testbed.offers("tag.mpls") else ())
        self._pools: dict[str, list[str]] = {}
        self._uuids = iter(range(1, 10_000))

    def run(self, *, networks: int = 4, steps: int = 25) -> None:
        """Create networks, then send frames and change networks; check all arrivals against the oracle."""
        for _ in range(networks):
            self._create()
        for _ in range(steps):
            roll = self.chance.random()
            if roll < 0.08:
                self._add()
            elif roll < 0.14:
                self._move()
            elif roll < 0.18:
                self._remove()
            else:
                self._send()

    def _described(self, endpoints: list[Endpoint]) -> Network:
        return self.testbed.create(endpoints=endpoints)

    def _endpoint(self) -> Endpoint:
        place = self.chance.choice(self.places)
        tags = TAGS if "," in place.port else self.tags
        return endpoint_at(place, next(self._uuids), self.chance.choice(tags))

    def _member(self, place: Place) -> Place:
        """The port of a place, or one of its ports."""
        return Place(place.switch, self.chance.choice(place.port.split(",")))

    def _create(self) -> None:
        free = {e.place: e for e in (self._endpoint() for _ in range(self.chance.randint(1, 6)))}
        taken = {e.place for n in self.testbed.current() for e in n.endpoints}
        endpoints = [e for key, e in free.items() if key not in taken]
        self.networks.append(self._described(endpoints))

    def _add(self) -> None:
        network, new = self.chance.choice(self.networks), self._endpoint()
        self._ask(lambda: network.add_endpoint(new), network, new.uuid, new.place)

    def _move(self) -> None:
        network = self.chance.choice(self.networks)
        if network.description().endpoints:
            old, new = self.chance.choice(network.description().endpoints), self._endpoint()
            moved: dict[str, Any] = {
                "switch": new.switch,
                "port": new.port,
                "vlan": new.vlan,
                "mpls": new.mpls,
            }
            self._ask(lambda: network.modify_endpoint(old.uuid, **moved), network, old.uuid, new.place)

    def _ask(self, work: Callable[[], object], network: Network, endpoint: str, place: str) -> None:
        """Ask for an endpoint at a place. It is refused if, and only if, another endpoint has it."""
        described = [network.description() for network in self.testbed.harness.connection.networks()]
        holders = {e.place: (d.uuid, e.uuid) for d in described for e in d.endpoints}
        holder = holders.get(place)
        if holder is None or holder == (network.uuid, endpoint):
            work()
            return
        with pytest.raises(EndpointClaimed if holder[0] != network.uuid else InvalidDescription):
            work()

    def _remove(self) -> None:
        network = self.chance.choice(self.networks)
        if self.chance.random() < 0.3:
            network.remove()
            self.networks.remove(network)
            self._create()
        elif network.description().endpoints:
            network.remove_endpoint(self.chance.choice(network.description().endpoints).uuid)

    def _macs(self, uuid: str) -> list[str]:
        if uuid not in self._pools:
            # Native rules need unique addresses; with all others, networks use the same ones.
            base = 0x1000 * (1 + len(self._pools)) if self.testbed.native else 0x1000
            self._pools[uuid] = [frames.mac(base + n) for n in range(5)]
        return self._pools[uuid]

    def _send(self) -> None:
        descriptions = [d for d in self.testbed.current() if d.endpoints]
        inside = descriptions and self.chance.random() < 0.85
        if inside:
            description = self.chance.choice(descriptions)
            endpoint = self.chance.choice(description.endpoints)
            place, macs = Place(endpoint.switch, endpoint.port), self._macs(description.uuid)
            vlan, mpls = endpoint.own_vlan, endpoint.mpls
        else:
            place, macs = self.chance.choice(self.places), [frames.mac(0xBAD0 + n) for n in range(3)]
            vlan, mpls = self.chance.choice((7, 8, 0, 4095)), None
        sent = [self._frame(vlan, mpls, macs) for _ in range(self.chance.randint(1, 4))]
        self.testbed.inject(self._member(place), *sent)

    def _frame(self, vlan: int | None, mpls: int | None, macs: list[str]) -> bytes:
        source = self.chance.choice(macs)
        # A frame to its own sender would be flooded by a network that has not learned the sender yet.
        others = [address for address in macs if address != source]
        groups = BROADCAST, "33:33:00:00:00:fb"
        destination = self.chance.choice((*others, *others, *groups, frames.mac(0xFFFF)))
        text = b"%d" % self.chance.getrandbits(40)
        frame = frames.marked(source, destination, text)
        if self.chance.random() < 0.1:
            # Tags of other endpoints let hosts appear in their networks; native ones must not share hosts.
            lead = () if self.testbed.native else (tag(2), tag(1, tpid=AD))
            inner = self.chance.choice((tag(0), tag(4000), *lead))
            frame = frames.tagged(frame, inner)
        if mpls is not None:
            return frames.in_label(mpls, frame)
        return (
            frame if vlan is None else frames.tagged(frame, tag(vlan, priority=self.chance.choice((0, 0, 3))))
        )


@pytest.mark.parametrize("seed", SEEDS[:2])
def test_random_networks_on_a_group_of_ports_forward_as_the_oracle_predicts(
    default_testbed: Testbed, seed: int
) -> None:
    one, two, *_ = group_of(default_testbed)
    print(f"seed {seed}")
    with bonded(default_testbed, (one, two)) as (joined, _):
        Trial(joined, seed, (one, two)).run()


@pytest.mark.parametrize("seed", SEEDS)
def test_random_networks_forward_as_the_oracle_predicts(testbed: Testbed, seed: int) -> None:
    print(f"seed {seed}")
    Trial(testbed, seed).run()
