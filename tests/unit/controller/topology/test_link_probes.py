"""LinkProbes: which links pass which frames, whatever else is lost, late or slow."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libnetvirt.controller.topology.discovery import Forged
from libnetvirt.controller.topology.link_probes import (
    GRACE,
    LOST_ROUNDS,
    PASSED_ROUNDS,
    PERIOD,
    ROUND_TIMEOUT,
    Failure,
    LinkProbes,
    Probe,
    probe_frame,
    token_of,
)
from libnetvirt.controller.topology.pathfinder import Edge, Unfit
from libnetvirt.model import Encapsulation

SECRET, MTU, INTERVAL = b"s" * 32, 1500, 2.0
VLAN, MPLS, NATIVE = Encapsulation.VLAN, Encapsulation.MPLS, Encapsulation.NATIVE
OVERHEAD = {VLAN: 8, MPLS: 22, NATIVE: 0}
GOOD, BAD = Edge(1, 5, 2, 6, 0.0), Edge(2, 6, 1, 5, 0.0)
#: whether a frame of a probe, as long as it is on the link behind the Ethernet header, gets through
Passes = Callable[[Probe, int], bool]


def anything(*_: object) -> bool:
    return True


class World:
    """Links, and the time."""

    def __init__(self, *edges: Edge, kinds: tuple[Encapsulation, ...] = (VLAN,)) -> None:
        self.probes = LinkProbes(SECRET, MTU, INTERVAL)
        self.now = 100.0
        self.passes: Passes = anything
        self.witnesses: Callable[[], bool] = lambda: True
        self.sent: list[Probe] = []
        self.probes.update(edges, kinds)
        self.probes.ready()

    def step(self, seconds: float = 0.2) -> bool:
        """What the controller does several times a second. Returns whether links became fit or unfit."""
        self.now += seconds
        changed = self.probes.poll(self.now)
        self.sent = self.probes.begin(self.now, anything, OVERHEAD.__getitem__)
        for probe in self.sent:
            at = (probe.edge.destination, probe.edge.destination_port)
            if probe.kind is None:
                if self.witnesses():
                    assert self.probes.witnessed(*at, probe.frame, self.now + 0.01)
            elif self.passes(probe, len(probe.frame) - 14 + OVERHEAD[probe.kind]):
                changed |= self.probes.arrived(*at, probe.frame[:128], self.now + 0.01)
        return changed

    def until(self, condition: Callable[[], bool], limit: float = 60.0) -> float:
        """Let the time pass until a condition holds. Returns how many seconds that took."""
        start = self.now
        while not condition():
            assert self.now - start < limit
            self.step()
        return self.now - start

    def state(self, edge: Edge = GOOD, kind: Encapsulation = VLAN) -> bool | None:
        return self.probes.state(edge, kind)[0]


def unless(edge: Edge, most: int = 0) -> Passes:
    """What passes if a link takes frames up to an MTU only."""
    return lambda probe, mtu: probe.edge != edge or mtu <= most


def test_a_link_that_passes_both_sizes_is_fit_after_one_round() -> None:
    world = World(GOOD, BAD, kinds=(VLAN, MPLS, NATIVE))
    assert world.state() is None
    assert world.step()
    assert {world.probes.state(e, k) for e in (GOOD, BAD) for k in OVERHEAD} == {(True, MTU)}
    sizes = {len(p.frame) - 14 + OVERHEAD[p.kind] for p in world.sent if p.kind is not None}
    assert max(sizes) == MTU
    assert len(world.sent) == 2 * 3 * 3
    assert world.probes.unfit() == {k: Unfit() for k in OVERHEAD}


def test_one_direction_that_drops_all_is_unfit_and_the_other_is_not() -> None:
    world = World(GOOD, BAD)
    world.passes = unless(BAD)
    assert world.until(lambda: world.state(BAD) is False) < 2.0
    assert world.state(GOOD)
    assert world.probes.unfit()[VLAN].failed == {(2, 6)}
    assert world.probes.failed() == [Failure(BAD, VLAN, 0, large=False, blind=False)]
    assert world.probes.doubtful() == {BAD}


@given(most=st.integers(64 + 8, MTU - 1))
def test_the_largest_mtu_that_passes_is_found(most: int) -> None:
    world = World(GOOD, BAD)
    world.passes = unless(BAD, most)
    world.until(lambda: world.state(BAD) is False, 3.0)
    world.until(lambda: world.probes.failed() == [Failure(BAD, VLAN, most, large=True, blind=False)], 5.0)


def test_a_far_end_that_sees_one_tag_only_is_told_from_a_device_in_between() -> None:
    world = World(GOOD)
    world.passes = unless(GOOD)
    for _ in range(20):
        world.step()
        for probe in world.sent:
            if probe.kind is not None:
                tagged = probe.frame[:12] + b"\x88\xa8\x0f\xfe" + probe.frame[12:]
                assert not world.probes.arrived(2, 6, tagged, world.now)
    assert world.probes.failed() == [Failure(GOOD, VLAN, 0, large=False, blind=True)]


def test_nothing_is_concluded_while_witnesses_are_missing() -> None:
    world = World(GOOD)
    world.passes, world.witnesses = unless(GOOD), lambda: False
    for _ in range(300):
        assert not world.step()
    assert world.state() is None


def test_frames_that_are_merely_late_do_not_make_a_link_unfit() -> None:
    world = World(GOOD)
    world.step()
    (late, *_) = [p for p in _round(world) if p.kind is not None]
    # A stopped machine: what was sent arrives when all timers have long expired.
    world.now += 10 * ROUND_TIMEOUT
    assert not world.probes.poll(world.now)
    assert not world.probes.arrived(2, 6, late.frame, world.now)
    assert world.state()


def _round(world: World) -> list[Probe]:
    world.now += PERIOD * INTERVAL + 0.1
    return world.probes.begin(world.now, anything, OVERHEAD.__getitem__)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_congested_link_stays_fit(share: float) -> None:
    """Probes and witnesses are lost alike."""
    world, chance = World(GOOD), Random(1)
    world.step()
    world.passes = lambda *_: chance.random() > share
    world.witnesses = lambda: chance.random() > share
    for _ in range(10_000):
        world.step()
        assert world.state()


def test_a_proven_link_fails_after_several_rounds_and_passes_after_more_each_time() -> None:
    world = World(GOOD)
    world.step()
    waits = []
    for _ in range(3):
        world.passes = unless(GOOD)
        noticed = world.until(lambda: world.state() is False)
        assert LOST_ROUNDS * GRACE <= noticed <= PERIOD * INTERVAL + 2.5
        world.passes = anything
        waits.append(world.until(lambda: world.state() is True))
    assert waits[0] <= (PASSED_ROUNDS + 1) * INTERVAL
    assert waits == sorted(waits)
    assert waits[-1] > 2 * waits[0]


def test_a_single_lost_probe_is_confirmed_first() -> None:
    world = World(GOOD)
    world.step()
    lost = iter([False])
    world.passes = lambda *_: next(lost, True)
    for _ in range(100):
        assert not world.step()
    assert world.state()


def test_a_port_that_changes_is_probed_at_once() -> None:
    world = World(GOOD)
    world.passes = unless(GOOD)
    world.until(lambda: world.state() is False)
    world.passes = anything
    world.step()
    world.probes.restart(1, 5)
    world.step(0.0)
    assert world.sent


def test_new_links_wait_until_their_rules_are_there_and_lost_ones_are_forgotten() -> None:
    world = World(GOOD)
    world.step()
    world.probes.update([GOOD, BAD], [VLAN])
    world.step(60.0)
    assert {p.edge for p in world.sent} == {GOOD}
    assert world.probes.unfit()[VLAN].unproven == {(2, 6)}
    world.probes.ready()
    world.step()
    assert world.state(BAD)
    world.probes.update([BAD], [VLAN])
    assert world.probes.state(GOOD, VLAN) == (None, 0)


def test_links_of_an_earlier_run_are_trusted_until_they_fail() -> None:
    world = World()
    world.probes.trust([GOOD])
    world.probes.update([GOOD, BAD], [VLAN])
    world.probes.ready()
    assert world.probes.unfit()[VLAN] == Unfit(unproven=frozenset({(2, 6)}))
    assert world.probes.doubtful() == {BAD}
    world.passes = unless(GOOD)
    world.until(lambda: world.state() is False)
    assert world.probes.doubtful() == {GOOD}


def test_nothing_is_preferred_while_nothing_is_proven() -> None:
    world = World(GOOD, BAD)
    assert world.probes.unfit()[VLAN] == Unfit()


def test_links_are_not_probed_while_an_end_is_away() -> None:
    world = World(GOOD)
    assert world.probes.begin(200.0, lambda _: False, OVERHEAD.__getitem__) == []


def test_what_arrives_elsewhere_or_twice_counts_for_nothing() -> None:
    world = World(GOOD, BAD)
    world.now += 1
    sent = world.probes.begin(world.now, anything, OVERHEAD.__getitem__)
    witness = next(p for p in sent if p.kind is None and p.edge == GOOD)
    for probe in sent:
        if probe.kind is not None and probe.edge == GOOD:
            assert not world.probes.arrived(1, 5, probe.frame, world.now)
            assert not world.probes.arrived(2, 7, probe.frame, world.now)
    with pytest.raises(Forged, match="another link"):
        world.probes.witnessed(2, 7, witness.frame, world.now)
    with pytest.raises(Forged, match="not in flight"):
        world.probes.witnessed(2, 6, witness.frame, world.now)
    assert world.state() is None


@given(size=st.integers(64, 9000), token=st.binary(min_size=16, max_size=16))
def test_a_probe_is_a_valid_ip_packet_of_its_size(size: int, token: bytes) -> None:
    frame = probe_frame(token, size)
    assert len(frame) == 14 + size
    assert int.from_bytes(frame[16:18]) == size
    total = sum(int.from_bytes(frame[at : at + 2]) for at in range(14, 34, 2))
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF
    assert token_of(frame[:64]) == token


# ---- static links, and segments ----------------------------------------------------------------


def test_a_static_link_is_dead_until_probes_have_passed_it_in_both_directions() -> None:
    world = World(GOOD, BAD)
    world.probes.update([GOOD, BAD], (VLAN,), [(1, 5), (2, 6)])
    assert world.probes.unfit()[VLAN] == Unfit(frozenset({(1, 5), (2, 6)}))
    world.passes = unless(BAD)
    world.until(lambda: bool(world.state()), 3.0)
    assert all(probe.kind is not None for probe in world.sent), "no witnesses"
    assert world.probes.unfit()[VLAN].failed == {(1, 5), (2, 6)}
    world.passes = anything
    world.until(lambda: not world.probes.unfit()[VLAN].failed, 30.0)
    assert world.probes.dead() == set()


def test_a_static_link_is_found_dead_when_both_switches_have_answered_since() -> None:
    world = World(GOOD, BAD)
    world.probes.update([GOOD, BAD], (VLAN,), [(1, 5), (2, 6)])
    world.until(lambda: world.probes.dead() == set(), 3.0)
    world.passes = lambda *_: False
    for _ in range(100):
        world.now += 0.2
        world.probes.poll(world.now, lambda _edge, _since: False)
        world.probes.begin(world.now, anything, OVERHEAD.__getitem__)
    assert world.probes.dead() == set()
    assert world.until(lambda: world.probes.dead() == {GOOD, BAD}, 10.0) < 5.0


def test_an_encapsulation_that_is_new_on_a_static_link_is_unproven_and_not_dead() -> None:
    world = World(GOOD, BAD)
    ends = [(1, 5), (2, 6)]
    world.probes.update([GOOD, BAD], (VLAN,), ends)
    world.until(lambda: world.probes.dead() == set(), 3.0)
    world.probes.update([GOOD, BAD], (VLAN, MPLS), ends)
    assert not world.probes.unfit()[MPLS].failed


@pytest.mark.parametrize("far_first", [True, False])
def test_a_probe_that_comes_up_at_another_link_makes_its_own_unfit(far_first: bool) -> None:
    other = Edge(3, 7, 4, 8, 0.0)
    world = World(GOOD, other)
    world.now += 1
    for probe in world.probes.begin(world.now, anything, OVERHEAD.__getitem__):
        if probe.kind is not None and probe.edge == GOOD:
            for place in ((2, 6), (4, 8)) if far_first else ((4, 8), (2, 6)):
                world.probes.arrived(*place, probe.frame, world.now)
    assert world.state() is False
    assert world.probes.failed() == [Failure(GOOD, VLAN, 0, large=False, blind=False, elsewhere=(4, 8))]
    # It is used again when the probes of several rounds have come up at their far end only.
    assert world.until(lambda: bool(world.state()), 20.0) > 2 * INTERVAL
