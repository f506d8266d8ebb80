"""Admission: the reservation ledger against a model, CSPF against all paths, both in random operations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libnetvirt.controller.engine.controller import Options
from libnetvirt.controller.qos.cspf import (
    PathRequirements,
    ResidualGraph,
    fewest_hops,
    find,
    least_latency,
    satisfies,
    widest,
)
from libnetvirt.controller.qos.reservations import Oversubscribed, Reservation, ReservationLedger
from libnetvirt.controller.qos.te_paths import TePath
from libnetvirt.controller.topology.pathfinder import Edge, LinkEnd
from libnetvirt.errors import ConstraintUnmet
from libnetvirt.model import Constraint, VirtualNetwork
from tests.support.controller_rig import BROADCAST, VLAN, Rig, endpoint, frame, mac, network
from tests.support.tally import Tally

LINKS: list[LinkEnd] = [(n, p) for n in (1, 2, 3) for p in (1, 2)]
#: a reservation that is taken (name, rate, links) or, by its name, released
Step = str | tuple[str, int, set[LinkEnd]]

claims = st.tuples(st.sampled_from("abcde"), st.integers(0, 60), st.sets(st.sampled_from(LINKS)))


@given(st.lists(st.one_of(claims, st.sampled_from("abcde")), max_size=40), st.integers(0, 100))
def test_capacity_is_never_oversubscribed_and_never_negative(steps: list[Step], capacity: int) -> None:
    reservations = ReservationLedger(lambda link: capacity if link != (1, 1) else None)
    model: dict[str, tuple[int, set[LinkEnd]]] = {}

    def used(link: LinkEnd, besides: str = "") -> int:
        return sum(bits for holder, (bits, links) in model.items() if link in links and holder != besides)

    def most(link: LinkEnd) -> int:
        return 0 if link == (1, 1) else capacity

    for step in steps:
        if isinstance(step, str):
            reservations.restore(step, None)
            model.pop(step, None)
        else:
            holder, bits, links = step
            fits = all(used(link, holder) + bits <= most(link) for link in links) or not bits
            if fits:
                reservations.reserve(holder, bits, links)
                model[holder] = (bits, links)
            else:
                with pytest.raises(Oversubscribed):
                    reservations.reserve(holder, bits, links)
        for link in LINKS:
            assert reservations.reserved(link) == used(link) <= most(link)
            assert reservations.free(link) == most(link) - used(link) >= 0
            assert reservations.free(link, "a") == most(link) - used(link, "a")
        assert reservations.links() == {link: used(link) for link in LINKS if used(link)}
        assert reservations.oversubscribed() == []


def test_a_reduced_capacity_is_noticed() -> None:
    room = {(1, 1): 10}
    reservations = ReservationLedger(lambda link: room.get(link))
    reservations.reserve("a", 6, [(1, 1)])
    trial = reservations.copy()
    trial.reserve("a", 9, [(1, 1)])
    assert (reservations.reserved((1, 1)), trial.reserved((1, 1))) == (6, 9)
    room[1, 1] = 5
    assert (reservations.oversubscribed(), reservations.free((1, 1))) == ([(1, 1)], 0)
    reservations.restore("b", Reservation(3, frozenset({(1, 1)})))
    assert set(reservations.holders((1, 1))) == {"a", "b"}


def residual_graph(chance: Random) -> tuple[ResidualGraph, dict[int, list[Edge]]]:
    """A small random one."""
    edges: dict[int, list[Edge]] = {}
    free, delay = {}, {}
    for n in range(chance.randint(1, 14)):
        a, b = chance.sample(range(1, 7), 2)
        edges.setdefault(a, []).append(Edge(a, n, b, 100 + n, chance.randint(1, 4)))
        free[a, n] = chance.randint(0, 5)
        delay[a, n] = chance.choice([None, 1, 2, 3, 4])
    return ResidualGraph(lambda d: edges.get(d, ()), free.__getitem__, delay.__getitem__), edges


def paths(
    edges: dict[int, list[Edge]], here: int, end: int, so_far: tuple[Edge, ...] = ()
) -> Iterator[tuple[Edge, ...]]:
    """All without loops."""
    if here == end:
        yield so_far
        return
    for edge in edges.get(here, ()):
        if edge.destination not in {1, *(e.destination for e in so_far)}:
            yield from paths(edges, edge.destination, end, (*so_far, edge))


@settings(max_examples=300)
@given(
    st.integers(0, 2**32),
    st.builds(
        PathRequirements,
        st.integers(0, 5),
        st.one_of(st.none(), st.integers(1, 10)),
        st.one_of(st.none(), st.integers(1, 6)),
    ),
)
def test_cspf_finds_the_cheapest_path_that_meets_the_requirements(
    seed: int, wanted: PathRequirements
) -> None:
    ground, edges = residual_graph(Random(seed))

    def good(wanted: PathRequirements) -> list[tuple[Edge, ...]]:
        return [p for p in paths(edges, 1, 2) if satisfies(ground, p, wanted)]

    fitting = good(wanted)
    found = find(ground, 1, 2, wanted)
    assert (found is None) == (not fitting)
    if found is not None:
        assert found in fitting
        assert sum(e.cost for e in found) == min(sum(e.cost for e in p) for p in fitting)
    rates = [b for b in range(6) if good(replace(wanted, bits=b))]
    assert widest(ground, 1, 2, wanted) == max(rates, default=0)
    assert fewest_hops(ground, 1, 2, wanted) == min(
        (len(p) + 1 for p in good(replace(wanted, hops=None))), default=None
    )
    delays = [
        sum(d for d in ds if d is not None)
        for p in good(replace(wanted, latency=None))
        if None not in (ds := [ground.latency((e.source, e.source_port)) for e in p])
    ]
    assert least_latency(ground, 1, 2, wanted) == min(delays, default=None)


CAPACITIES = 'capacity = "100 Mbit/s"\nreservable = 0.9\nlatency = "1 ms"\n'
MBIT = 1_000_000
RING = [((1, 1), (2, 1)), ((2, 2), (3, 1)), ((3, 2), (4, 1)), ((4, 2), (1, 2)), ((1, 5), (3, 5))]


def world(chance: Random, capacities: str = CAPACITIES) -> Rig:
    rig = Rig(Options(VLAN, capacities=capacities))
    for dpid in (1, 2, 3, 4):
        rig.switch(dpid, 5)
    for one, other in RING:
        rig.link(one, other)
    for n in range(1, 4):
        ends = [endpoint(10 * n + dpid, dpid, 3, n) for dpid in chance.sample((1, 2, 3, 4), 3)]
        rig.change(None, network(n, *ends))
        for end in ends:
            rig.check(int(end.switch), 3, _tagged(n, frame(BROADCAST, mac(int(end.uuid)))))
    return rig


def _tagged(vlan: int, sent: bytes) -> bytes:
    return sent[:12] + b"\x81\x00" + vlan.to_bytes(2) + sent[12:]


def random_constraint(chance: Random, before: VirtualNetwork) -> Constraint:
    one, other = chance.sample([e.uuid for e in before.endpoints], 2)
    asked: dict[str, object] = {}
    while not asked:
        if chance.random() < 0.8:
            asked["min-bandwidth"] = f"{chance.choice([1, 20, 45, 90, 91])} Mbit/s"
        if chance.random() < 0.2:
            asked["max-bandwidth"] = "95 Mbit/s"
        if chance.random() < 0.2:
            asked["max-hops"] = chance.randint(1, 4)
        if chance.random() < 0.2:
            asked["max-latency"] = f"{chance.randint(1, 4)} ms"
    if chance.random() < 0.5:
        asked["priority"] = chance.randint(0, 3)
    return Constraint.model_validate({"source": one, "destination": other, **asked})


def holds(rig: Rig) -> None:
    """What must be true at every point of rest."""
    rig.holds_what_it_should()
    te_paths = rig.state.te_paths
    booked: dict[LinkEnd, int] = {}
    for te_path in te_paths.ordered():
        for place in te_path.links:
            booked[place] = booked.get(place, 0) + te_path.bits
        assert bool(te_path.degraded) <= (not te_path.edges)
    booked = {place: bits for place, bits in booked.items() if bits}
    assert te_paths.reservations.links() == booked
    assert all(bits <= 90 * MBIT for bits in booked.values())
    labels = [(c.kind, c.label) for c in te_paths.ordered() if c.label is not None]
    assert len(labels) == len(set(labels))
    for entry in rig.state.rulesdb:
        for one in entry.endpoints.values():
            for other in entry.endpoints.values():
                if one is not other:
                    vlan, text = int(entry.uuid), mac(int(other.endpoint.uuid))
                    rig.check(one.dpid, 3, _tagged(vlan, frame(text, mac(int(one.endpoint.uuid)))))


def test_random_changes_and_failures_keep_reservations_rules_and_traffic_consistent() -> None:
    tally = Tally()

    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, 2**32))
    def live(seed: int) -> None:
        _random_changes_and_failures(seed, tally)

    live()
    # Some do not fit: what they ask for is up to the whole of a link.
    tally.check(least=100, most_refused=0.5)
    assert tally.refused, "all fit"


def _random_changes_and_failures(seed: int, tally: Tally) -> None:
    chance = Random(seed)
    rig = world(chance)
    down: list[tuple[int, int]] = []
    for _ in range(12):
        before = chance.choice(rig.networks)
        step = chance.random()
        if step < 0.55:
            new = random_constraint(chance, before)
            others = tuple(c for c in before.constraints if c.key != new.key)
            after = before.changed(constraints=(*others, new))
            state = dict(rig.state.te_paths.reservations.links()), rig.state.te_paths.ordered()
            fits = False
            with tally.trial(ConstraintUnmet):
                rig.core.constraints.plan(after)
                fits = True
            assert state == (rig.state.te_paths.reservations.links(), rig.state.te_paths.ordered())
            if not fits:
                continue
            if chance.random() < 0.3:
                work = rig.core.operations.begin(before, after)
                rig.undo(work)
                assert rig.state.te_paths.ordered() == state[1]
            else:
                rig.change(before, after)
                assert not next(
                    c for c in rig.state.te_paths.ordered() if c.key == (before.uuid, *new.key)
                ).degraded
        elif step < 0.75 and before.constraints:
            rig.change(before, before.changed(constraints=before.constraints[1:]))
        else:
            cut_or_restore(rig, chance, step, down)
        if not down:
            holds(rig)
    while down:
        rig.cut(down.pop(), up=True)
    rig.tick()
    holds(rig)
    assert not [c for c in rig.state.te_paths.ordered() if c.degraded and _would_fit(rig, c)]
    for before in rig.networks:
        rig.change(before, None)
    rig.holds_what_it_should()
    assert rig.state.te_paths.reservations.links() == {}
    assert all(number < 4096 for switch in rig.fabric.switches.values() for number in switch.meters)


def cut_or_restore(rig: Rig, chance: Random, step: float, down: list[tuple[int, int]]) -> None:
    """Cut a link of the ring, or restore the last one that was cut; at most two are down."""
    if step < 0.9 and len(down) < 2:
        one = chance.choice([one for one, _ in RING if one not in down])
        down.append(one)
        rig.cut(one)
    elif down:
        rig.cut(down.pop(), up=True)


def _would_fit(rig: Rig, te_path: TePath) -> bool:
    residual_graph = rig.state.te_paths.residual_graph(key=te_path.key)
    asked = PathRequirements(int(te_path.constraint.min_bandwidth or 0))
    limits = (te_path.constraint.max_latency, te_path.constraint.max_hops)
    source, destination = te_path.ends
    asked = replace(asked, latency=limits[0], hops=limits[1])
    return find(residual_graph, source, destination, asked) is not None
