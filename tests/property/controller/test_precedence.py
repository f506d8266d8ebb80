"""Which reservations keep their path when links fail or become slower: by priority, then age."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from libnetvirt.controller.intent.facts import FactJournal
from libnetvirt.controller.intent.labels import Labels
from libnetvirt.controller.qos import cspf
from libnetvirt.controller.qos.capacities import Capacities
from libnetvirt.controller.qos.cspf import ResidualGraph
from libnetvirt.controller.qos.enforcement import Backend, Enforcement
from libnetvirt.controller.qos.meters import Meters
from libnetvirt.controller.qos.reservations import ReservationLedger
from libnetvirt.controller.qos.te_paths import ConstraintKey, TePath, TePaths, requirements_of
from libnetvirt.controller.topology.pathfinder import Edge, LinkEnd, PathFinder
from libnetvirt.model import Constraint, Encapsulation
from tests.support.controller_rig import endpoint, network

MBIT = 1_000_000
SWITCHES = range(1, 6)


class World:
    """Random TE paths of some networks on a random substrate."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.paths = PathFinder()
        self.edges = [
            Edge(a, 10 * a + b, b, 10 * b + a, float(chance.randint(1, 3)))
            for a in SWITCHES
            for b in SWITCHES
            if a != b and chance.random() < 0.6
        ]
        self.paths.update(self.edges)
        self.capacities = Capacities({}, self._file())
        backend = Backend(Enforcement.METER, Meters(FactJournal(), {}))
        self.te_paths = TePaths(Labels(FactJournal()), self.paths, self.capacities, backend)
        for uuid in range(1, 5):
            ends = [endpoint(n, n, uuid) for n in SWITCHES]
            asked = {pair: self._constraint(*pair) for pair in self._pairs()}
            described = network(uuid, *ends).changed(constraints=tuple(asked.values()))
            self.te_paths.commit(str(uuid), self.te_paths.plan(described, Encapsulation.VLAN, strict=False))

    def _file(self) -> str:
        links = [
            f'[[link]]\nswitch = {e.source}\nport = {e.source_port}\ncapacity = "{capacity} Mbit/s"\n'
            for e in self.edges
            if (capacity := self.chance.choice([20, 50, 100, 200])) < 200
        ]
        return 'capacity = "100 Mbit/s"\nreservable = 0.9\n' + "".join(links)

    def _pairs(self) -> Iterable[tuple[int, int]]:
        every = [(a, b) for a in SWITCHES for b in SWITCHES if a != b]
        return self.chance.sample(every, self.chance.randint(1, 4))

    def _constraint(self, source: int, destination: int) -> Constraint:
        asked: dict[str, object] = {"min-bandwidth": f"{self.chance.choice([5, 18, 40, 85])} Mbit/s"}
        if self.chance.random() < 0.3:
            asked["max-hops"] = self.chance.randint(2, 4)
        if self.chance.random() < 0.7:
            asked["priority"] = self.chance.randint(0, 3)
        return Constraint.model_validate({"source": source, "destination": destination, **asked})

    def shake(self) -> None:
        """Some links are lost, others are back, and all may carry less or more."""
        self.paths.update([e for e in self.edges if self.chance.random() < 0.85])
        if self.chance.random() < 0.6:
            self.capacities.swap(Capacities({}, self._file()))

    def follow(self) -> dict[ConstraintKey, TePath]:
        """Recompute the TE paths. Those that changed."""
        changed = self.te_paths.plan_reroute()
        for uuid in {key[0] for key in changed}:
            own = {key: te_path for key, te_path in changed.items() if key[0] == uuid}
            self.te_paths.commit(uuid, own, all_of_them=False)
        return changed

    def fits(self, te_path: TePath, others: Iterable[TePath]) -> bool:
        """Whether there is a path beside others."""
        reservations = ReservationLedger(self.capacities.reservable)
        for other in others:
            reservations.reserve(other.key, other.bits, other.links)
        residual_graph = ResidualGraph(self.paths.leaving, reservations.free, self.capacities.latency)
        return cspf.find(residual_graph, *te_path.ends, requirements_of(te_path.constraint)) is not None


def load(te_paths: Iterable[TePath]) -> dict[LinkEnd, int]:
    """The bandwidth that TE paths reserve together."""
    found: dict[LinkEnd, int] = {}
    for te_path in te_paths:
        for place in te_path.links:
            found[place] = found.get(place, 0) + te_path.bits
    return found


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32))
def test_no_reservation_is_preempted_by_a_lower_rank(seed: int) -> None:
    world = World(Random(seed))
    for _ in range(4):
        before = {c.key: c for c in world.te_paths.ordered()}
        world.shake()
        changed = world.follow()
        after = {c.key: c for c in world.te_paths.ordered()}
        assert all(bits <= (world.capacities.reservable(p) or 0) for p, bits in load(after.values()).items())
        whole = [c for c in before.values() if not c.degraded and world.paths.has(c.edges)]
        for te_path in whole:
            # Beside those that rank higher there is room on its path: it does not even move.
            above = load(c for c in whole if c.rank <= te_path.rank)
            if all(above[p] <= (world.capacities.reservable(p) or 0) for p in te_path.links):
                assert after[te_path.key] == te_path
        for te_path in after.values():
            if te_path.degraded:
                # A constraint that found a new path before this one ranks higher.
                stayed = [c for key, c in after.items() if key not in changed or c.rank < te_path.rank]
                assert not world.fits(te_path, (c for c in stayed if not c.degraded))
        # That was all: at most the reasons are worded again.
        assert all(c.degraded and after[key].degraded for key, c in world.follow().items())


def test_reservations_are_ranked_by_priority_and_then_by_age() -> None:
    world = World(Random(1))
    for uuid in list(world.te_paths._te_paths):
        world.te_paths.restore(uuid, {})
    world.edges = [Edge(1, 12, 2, 21), Edge(1, 13, 2, 31)]
    world.paths.update(world.edges)
    world.capacities.swap(Capacities({}, 'capacity = "100 Mbit/s"'))
    for number, rate, priority in ((1, 50, 0), (2, 50, 7), (3, 40, 7), (4, 30, 0)):
        asked = {"source": 1, "destination": 2, "min-bandwidth": f"{rate} Mbit/s", "priority": priority}
        described = network(number, endpoint(1, 1, number), endpoint(2, 2, number))
        described = described.changed(constraints=(Constraint.model_validate(asked),))
        world.te_paths.commit(str(number), world.te_paths.plan(described, Encapsulation.VLAN))

    def kept() -> set[str]:
        return {c.key[0] for c in world.te_paths.ordered() if not c.degraded}

    assert [c.key[0] for c in world.te_paths.ordered()] == ["2", "3", "1", "4"]
    assert kept() == {"1", "2", "3", "4"}
    world.paths.update(world.edges[:1])
    world.follow()
    # 90 Mbit/s may be promised of the one link. What was on it before keeps its place.
    assert kept() == {"1", "3"}
    world.capacities.swap(Capacities({}, 'capacity = "60 Mbit/s"'))
    world.follow()
    assert kept() == {"3"}
    world.paths.update(world.edges)
    world.follow()
    assert kept() == {"2", "3"}
