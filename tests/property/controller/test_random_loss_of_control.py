"""Whichever switches lose their control connections, and however: what was forwarded is forwarded, once."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from libnetvirt.model import Rules
from tests.property.controller.test_random_networks import ALL, World, laws, named, seeds

NAMES = ("vlan-offline-permanent", "native-offline-permanent", "mpls-on-demand-idle")
#: each encapsulation, and each insertion
KINDS = [rules for rules in ALL if named(rules) in NAMES]


class Blind(World):
    """Switches become silent, or are disconnected, and return. Their ports stay up, and they forward on."""

    def episode(self) -> None:
        """Some switches are lost, one after the other, and return in any order."""
        rig, chance = self.rig, self.chance
        self.watch()
        story = []
        lost = chance.sample(list(self.ports), chance.randint(1, len(self.ports)))
        for dpid in lost:
            way = chance.choice(("silent", "cut", "both"))
            story.append(f"{dpid} {way}")
            if way != "cut":
                rig.silent.add(dpid)
                self.wait(5 if way == "both" else 0)
            if way != "silent" and self.connected(dpid):
                rig.disconnect(dpid)
            # One that is silent for less than two rounds may be given rules that it does not take.
            self.wait(chance.choice((2, 4, 10)) if way == "silent" else chance.choice((0, 2, 10)))
        self.wait(chance.choice((0, 5, 12)))
        for dpid in chance.sample(lost, len(lost)):
            story.append(f"{dpid} returns")
            rig.silent.discard(dpid)
            if not self.connected(dpid):
                rig.queues.pop(dpid, None)
                rig.connect(dpid, self.ports[dpid])
            rig.settle()
            self.wait(chance.choice((0, 1, 9)))
        self.wait(2)
        assert not rig.state.discovery.unconfirmed()
        assert not rig.state.control.avoided
        self.compare(", ".join(story))
        rig.holds_what_it_should()
        for network in rig.networks:
            self.forget(network)  # hosts that were silent for too long

    def connected(self, dpid: int) -> bool:
        return self.rig.state.switches[dpid].connected

    def wait(self, ticks: int) -> None:
        for _ in range(ticks):
            self.rig.tick()


@pytest.mark.parametrize("rules", KINDS, ids=named)
@settings(laws, max_examples=5)
@given(seed=seeds)
def test_nothing_that_is_forwarded_is_lost_with_control(rules: Rules, seed: int) -> None:
    _live(rules, seed)


@pytest.mark.parametrize(
    ("name", "seed"),
    [
        ("native-offline-permanent", 145),
        ("native-offline-permanent", 4294967295),
        ("vlan-offline-permanent", 37),
        ("vlan-offline-permanent", 68),
    ],
)
def test_nothing_is_lost_when_switches_fail_one_after_the_other_while_paths_move(
    name: str, seed: int
) -> None:
    _live(next(rules for rules in KINDS if named(rules) == name), seed)


def _live(rules: Rules, seed: int) -> None:
    world = Blind(seed, rules)
    for _ in range(3):
        world.create()
        for _ in range(4):
            world.send()
    for _ in range(3):
        world.episode()
        world.send()
    world.end()
