"""Link latency: probes, outliers, and the effect of changes on paths."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libnetvirt import openflow as of
from libnetvirt.controller.engine.controller import Options
from libnetvirt.controller.qos.capacities import Capacities
from libnetvirt.controller.topology.discovery import Forged
from libnetvirt.controller.topology.latency import LINKS_PER_ROUND, PROBE_TIMEOUT, PROBES, ROUNDS, LinkLatency
from libnetvirt.controller.topology.pathfinder import Edge
from libnetvirt.errors import ConstraintUnmet
from libnetvirt.model import Constraint, VirtualNetwork
from tests.support.controller_rig import VLAN, Rig, endpoint, network

LINK, BACK = Edge(1, 5, 2, 6), Edge(2, 6, 1, 5)
Sent = list[tuple[int, of.Message]]


def probes(sent: Sent) -> list[bytes]:
    return [m.frame for _, m in sent if isinstance(m, of.PacketOut)]


def _output(message: of.PacketOut) -> int:
    """The port that a packet-out with one action sends to."""
    (action,) = message.actions
    assert isinstance(action, of.Output)
    return action.port


def round_trip(
    found: LinkLatency, now: float, takes: dict[Edge, float], trips: dict[int, float], noise: list[float]
) -> None:
    """One round, in which frames and echoes take that long and, each, one of these noises more."""
    waits = iter(noise)
    by_port = {(e.source, e.source_port): e for e in takes}
    for dpid, message in list(found.begin_round(takes, now)):
        extra = next(waits, 0.0)
        if isinstance(message, of.EchoRequest):
            found.echoed(dpid, message.body, now + trips[dpid] + extra)
            continue
        assert isinstance(message, of.PacketOut)
        edge = by_port[dpid, _output(message)]
        control = (trips[edge.source] + trips[edge.destination]) / 2
        arrival = now + takes[edge] + control + extra
        assert found.arrived(edge.destination, edge.destination_port, message.frame, arrival)


times = st.floats(0.00001, 0.2)


@given(times, times, times, times, st.lists(st.floats(0, 0.05), max_size=30))
def test_the_latency_excludes_the_delay_of_the_control_connections(
    there: float, back: float, one: float, other: float, noise: list[float]
) -> None:
    found = LinkLatency(b"s")
    takes, trips = {LINK: there, BACK: back}, {1: one, 2: other}
    # Of each kind one is not held up.
    calm = [*noise[: 4 * (PROBES - 1)]] + [0.0] * (4 * PROBES - len(noise[: 4 * (PROBES - 1)]))
    for number in range(ROUNDS):
        round_trip(found, 10.0 + number, takes, trips, calm)
    list(found.begin_round(takes, 20.0))
    assert found.known.keys() == {(1, 5), (2, 6)}
    assert found.known[1, 5] == pytest.approx(there * 1e6, abs=1.0)
    assert found.known[2, 6] == pytest.approx(back * 1e6, abs=1.0)


def test_a_single_outlier_is_ignored_and_a_lasting_change_is_accepted() -> None:
    found = LinkLatency(b"s")
    seen = []
    for number, takes in enumerate((0.010, 0.010, 0.090, 0.010, 0.010, 0.040, 0.040)):
        round_trip(found, 10.0 + number, {LINK: takes}, {1: 0.001, 2: 0.003}, [])
        list(found.begin_round([LINK], 10.5 + number))
        seen.append(round(found.known[1, 5] / 1000))
    assert seen == [10, 10, 10, 10, 10, 10, 40]


def test_latencies_above_the_probe_interval_are_measured() -> None:
    found = LinkLatency(b"s")
    first = list(found.begin_round([LINK], 10.0))
    for dpid, message in list(found.begin_round([LINK], 10.1)):
        if isinstance(message, of.EchoRequest):
            found.echoed(dpid, message.body, 10.1)
    assert found.arrived(2, 6, probes(first)[0], 10.3)
    list(found.begin_round([LINK], 10.4))
    assert found.known == {(1, 5): 300_000}


def test_a_probe_is_accepted_once_at_its_links_far_end_and_expires() -> None:
    found = LinkLatency(b"s")
    one, two, three, *_ = probes(list(found.begin_round([LINK], 10.0)))
    assert found.arrived(2, 6, one, 10.1)
    with pytest.raises(Forged, match="a copy, or late"):
        found.arrived(2, 6, one, 10.1)
    with pytest.raises(Forged, match="another link"):
        found.arrived(2, 7, two, 10.1)
    list(found.begin_round([LINK], 10.1 + PROBE_TIMEOUT))
    with pytest.raises(Forged, match="a copy, or late"):
        found.arrived(2, 6, three, 10.1 + PROBE_TIMEOUT)
    stranger = probes(list(LinkLatency(b"other").begin_round([LINK], 10.0)))[0]
    with pytest.raises(Forged, match="a copy, or late"):
        found.arrived(2, 6, stranger, 10.2)


@given(st.binary(max_size=80))
def test_no_frame_raises_an_exception(frame: bytes) -> None:
    found = LinkLatency(b"s")
    list(found.begin_round([LINK], 1.0))
    try:
        assert not found.arrived(2, 6, frame, 1.0)
    except Forged:
        assert b"NV\x02" in frame


def test_lost_links_are_removed_and_many_are_probed_in_rotation() -> None:
    found = LinkLatency(b"s")
    round_trip(found, 10.0, {LINK: 0.01}, {1: 0.0, 2: 0.0}, [])
    list(found.begin_round([Edge(1, 5, 2, 6, 7.0)], 11.0))
    assert found.known.keys() == {(1, 5)}
    list(found.begin_round([Edge(1, 5, 3, 6)], 12.0))
    assert found.known == {}
    many = [Edge(1, n, 2, n) for n in range(LINKS_PER_ROUND + 3)]
    sent = [list(found.begin_round(many, 13.0)) for _ in range(2)]
    turns = [{_output(m) for _, m in one if isinstance(m, of.PacketOut)} for one in sent]
    assert [len(turn) for turn in turns] == [LINKS_PER_ROUND, LINKS_PER_ROUND]
    assert turns[0] | turns[1] == set(range(LINKS_PER_ROUND + 3))


def test_a_latency_is_a_figure_or_measured_for_all_links_or_for_one() -> None:
    text = 'latency = "measured"\n[[link]]\nswitch = 1\nport = 1\nlatency = "2 ms"\n'
    found = Capacities({}, text, "c.toml")
    assert [found.is_measured(link) for link in ((1, 1), (1, 2))] == [False, True]
    assert [found.latency(link) for link in ((1, 1), (1, 2))] == [2000, None]
    found.measurements = {(1, 2): 77, (1, 1): 99}
    assert [found.latency(link) for link in ((1, 1), (1, 2))] == [2000, 77]


TRIANGLE = [((1, 1), (2, 1)), ((1, 2), (3, 1)), ((3, 2), (2, 2))]


def triangle(chance: Random | None = None) -> tuple[Rig, VirtualNetwork]:
    rig = Rig(Options(VLAN, capacities='latency = "measured"'), chance)
    for dpid in (1, 2, 3):
        rig.switch(dpid)
    for one, other in TRIANGLE:
        rig.link(one, other)
    rig.delays = dict.fromkeys([place for pair in TRIANGLE for place in pair], 0.001)
    before = network(1, endpoint(1, 1, 3, None, 1), endpoint(2, 2, 3, None, 2))
    rig.change(None, before)
    return rig, before


def within(before: VirtualNetwork, **asked: object) -> VirtualNetwork:
    wanted = {name.replace("_", "-"): value for name, value in asked.items()}
    return before.changed(constraints=(Constraint.model_validate({"source": 1, "destination": 2, **wanted}),))


def measure(rig: Rig, rounds: int = ROUNDS + 1) -> None:
    for _ in range(rounds):
        rig.tick()


def test_a_path_moves_only_when_it_exceeds_its_bound_by_the_slack() -> None:
    rig, before = triangle()
    with pytest.raises(ConstraintUnmet, match="if it is measured, wait for the first measurement"):
        rig.core.constraints.plan(within(before, max_latency="10 ms"))
    measure(rig)
    assert set(rig.state.latency.known.values()) == {1000}
    rig.change(before, within(before, max_latency="10 ms"))

    def path() -> list[int]:
        (te_path,) = rig.state.te_paths.ordered()
        return [] if te_path.degraded else [edge.destination for edge in te_path.edges]

    for milliseconds, then in ((10.9, [2]), (11.1, [3, 2]), (1, [3, 2])):
        rig.delays[1, 1] = milliseconds / 1000
        measure(rig)
        assert path() == then, milliseconds
    assert rig.kinds().count("constraint.moved") == 1
    # The other way becomes slow, too: the first is within its bound, and is taken again.
    rig.delays[1, 2] = 0.050
    measure(rig)
    assert path() == [2]
    rig.delays[1, 1] = 0.050
    measure(rig)
    assert path() == []
    # Between bound and slack nothing is restored: that would begin again.
    rig.delays[1, 1] = 0.0105
    measure(rig)
    assert path() == []
    rig.delays[1, 1] = 0.0095
    measure(rig)
    assert path() == [2]
    kinds = [kind for kind in rig.kinds() if kind.startswith("constraint.")]
    assert kinds == [f"constraint.{what}" for what in ("moved", "moved", "degraded", "restored")]
    rig.holds_what_it_should()
