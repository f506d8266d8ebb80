"""Link capacities: the operator's file, its errors, and the effect of changes."""

from __future__ import annotations

import asyncio
import re

import pytest

from libnetvirt import openflow as of
from libnetvirt.controller.engine.capacity_reload import NAMED_LIMIT
from libnetvirt.controller.engine.controller import Options
from libnetvirt.controller.intent.switches import PortView, SwitchView
from libnetvirt.controller.qos.capacities import Capacities
from libnetvirt.controller.qos.te_paths import check
from libnetvirt.drivers.openflow.forecast import foresee_reload
from libnetvirt.errors import ConstraintUnmet, InvalidDescription, Unsupported
from libnetvirt.model import Constraint, VirtualNetwork
from tests.support.controller_rig import BROADCAST, VLAN, Rig, endpoint, facts_of, frame, line, mac, network

MBIT = 1_000_000
FILE = """
reservable = 0.5
latency = "2 ms"
[[link]]
switch = 1
port = "eth7"
capacity = "100 Mbit/s"
cost = 3
[[link]]
switch = "00:00:00:00:00:00:00:02"
port = 4
reservable = 0.9
latency = "10 us"
"""


def switches() -> dict[int, SwitchView]:
    one = SwitchView(1, known=True)
    one.ports = {7: PortView(7, "eth7", True, 10**9), 8: PortView(8, "eth8", True, 10**9)}
    two = SwitchView(2, known=True)
    two.ports = {4: PortView(4, "x", True, 10 * MBIT), 5: PortView(5, "y", True)}
    return {1: one, 2: two}


def test_the_file_takes_precedence_over_the_speed_of_ports() -> None:
    found = Capacities(switches(), FILE, "links.toml")
    assert [found.capacity(p) for p in ((1, 7), (1, 8), (2, 4), (2, 5), (3, 1))] == [
        100 * MBIT, 10**9, 10 * MBIT, 0, None,
    ]  # fmt: skip
    assert [found.reservable(p) for p in ((1, 7), (2, 4), (3, 1))] == [50 * MBIT, 9 * MBIT, None]
    assert [found.latency(p) for p in ((1, 7), (2, 4))] == [2000, 10]
    assert [found.cost(p) for p in ((1, 7), (1, 8))] == [3.0, 1.0]
    assert found.best_effort((1, 7), 30 * MBIT) == 65 * MBIT
    assert found.best_effort((1, 7), 99 * MBIT) == 2 * MBIT
    assert list(found.unknown_links(frozenset({(2, 4)}))) == [
        "the capacities name port eth7 of switch 1, which is not the end of a link"
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("capacity = ", r"links\.toml: this is not TOML: Invalid value"),
        ("capacity = 100", r"capacity: .100. has no unit.*in quotes"),
        ('speed = "1 Gbit/s"', r"speed: is not known here; known: capacity, cost"),
        ("reservable = 1.5", r"reservable: .1.5. is too large: 0.93 is the most; .*a fraction above 0"),
        ("reservable = 0.0", r"reservable: .0.0. is too small: it has to be more than 0;"),
        ("cost = -1", r"cost: .-1. is too small: it has to be more than 0"),
        ('[[link]]\nswitch = "1"', r"link 1 port: is missing"),
        ('[[link]]\nswitch = "x"\nport = 1', r"link 1: switch 'x' is not a datapath id"),
        ("[[link]]\nswitch = 1\nport = 1\n[[link]]\nswitch = 1\nport = 1", r"link 2: .*is named twice"),
        ("[[link]]\nswitch = 1\nport = 1\nlatency = '0 ms'", r"link 1 latency: .*out of range"),
    ],
)
def test_an_invalid_file_is_one_error_with_its_place_and_remedy(text: str, fault: str) -> None:
    with pytest.raises(InvalidDescription, match=fault) as caught:
        Capacities({}, text, "links.toml")
    assert "\n" not in str(caught.value)


def constrained(rate: str) -> VirtualNetwork:
    before = network(1, endpoint(1, 1, 3, None, 1), endpoint(2, 2, 3, None, 2))
    asked = {"source": 1, "destination": 2, "min-bandwidth": rate}
    return before.changed(constraints=(Constraint.model_validate(asked),))


def test_the_latest_reservation_is_degraded_when_links_become_slower() -> None:
    rig = Rig(Options(VLAN, capacities='capacity = "100 Mbit/s"'))
    line(rig, 2)
    first, second = constrained("60 Mbit/s"), constrained("30 Mbit/s")
    second = second.changed(
        uuid="2", name="n2", endpoints=tuple(e.changed(vlan=7, mac=()) for e in second.endpoints)
    )
    rig.change(None, first)
    rig.change(None, second)
    facts = facts_of(rig.core)
    slow = Rig(Options(VLAN, capacities='capacity = "80 Mbit/s"'))
    slow.fabric = rig.fabric
    slow.core.load([first, second], facts, slow.now)
    for dpid in (1, 2):
        slow.connect(dpid, 4)
    slow.tick()
    states = {c.key[0]: c.degraded for c in slow.state.te_paths.ordered()}
    assert states["1"] == ""
    assert "12 Mbit/s would fit" in states["2"]
    assert "constraint.degraded" in slow.kinds()
    slow.holds_what_it_should()
    slow.change(first, None)
    assert not slow.state.te_paths.ordered()[0].degraded
    assert "constraint.restored" in slow.kinds()
    slow.holds_what_it_should()


def test_links_of_unknown_capacity_admit_no_reservation() -> None:
    rig = Rig(Options(VLAN))
    line(rig, 2)
    with pytest.raises(ConstraintUnmet, match="no min-bandwidth at all would fit"):
        rig.core.constraints.plan(constrained("1 kbit/s"))
    slow = constrained("1 kbit/s")
    late = slow.constraints[0].changed(min_bandwidth=None, max_latency="1 s")
    with pytest.raises(ConstraintUnmet, match="latency of the links is not known"):
        rig.core.constraints.plan(slow.changed(constraints=(late,)))


def test_reserved_traffic_bypasses_the_best_effort_meter() -> None:
    rig = Rig(Options(VLAN, capacities='capacity = "100 Mbit/s"'))
    line(rig, 3)
    ends = [endpoint(1, 1, 3), endpoint(2, 3, 3)]
    rig.change(None, network(1, *ends))
    for dpid, n in ((1, 1), (3, 2)):
        rig.check(dpid, 3, frame(BROADCAST, mac(n)))
    asked = Constraint.model_validate({"source": 1, "destination": 2, "min-bandwidth": "10 Mbit/s"})
    rig.change(rig.networks[0], rig.networks[0].changed(constraints=(asked,)))
    one, two = rig.fabric.switches[1], rig.fabric.switches[2]
    guards = {
        d: next(n for n, m in rig.fabric.switches[d].meters.items() if m.bands[0].rate == 85_000)  # type: ignore[union-attr]
        for d in (1, 2)
    }
    one.exceeded, two.exceeded = {guards[1]}, {guards[2]}
    assert rig.inject(1, 3, frame(mac(2), mac(1)))
    assert not rig.inject(1, 3, frame(BROADCAST, mac(1)))
    one.exceeded, two.exceeded = set(), set()
    rig.check(1, 3, frame(BROADCAST, mac(1)))
    rig.check(3, 3, frame(mac(1), mac(2)))


def test_rates_that_meters_cannot_express_are_refused() -> None:
    with pytest.raises(Unsupported, match="999 bit/s is less than switches can measure"):
        check(constrained("999 bit/s"), VLAN, {})
    bare = {1: SwitchView(1, connected=True, known=True)}
    with pytest.raises(Unsupported, match="switch 1 has no meters"):
        check(constrained("1 Mbit/s"), VLAN, bare)


def test_reservations_follow_the_speed_of_a_port() -> None:
    rig = Rig(Options(VLAN))
    line(rig, 2)

    def speed(mbit: int) -> None:
        for dpid, port in ((1, 2), (2, 1)):
            described = of.PortDesc(port, curr_speed=1000 * mbit, name=f"s{dpid}-eth{port}")
            status = of.PortStatus(of.PortStatusReason.MODIFY, described)
            rig.pending.add(rig.core.topology.port_status(dpid, status, rig.now))
        rig.settle()

    speed(100)
    rig.change(None, constrained("60 Mbit/s"))
    (te_path,) = rig.state.te_paths.ordered()
    assert not te_path.degraded
    speed(1000)
    assert any(m.bands[0].rate == 890_000 for m in rig.fabric.switches[1].meters.values())  # type: ignore[union-attr]
    speed(10)
    assert "9 Mbit/s would fit" in rig.state.te_paths.ordered()[0].degraded
    assert "constraint.degraded" in rig.kinds()
    rig.holds_what_it_should()
    speed(100)
    assert "constraint.restored" in rig.kinds()
    rig.holds_what_it_should()


def test_new_capacities_are_applied_atomically() -> None:
    rig = Rig(Options(VLAN, capacities='capacity = "100 Mbit/s"\ncost = 2'))
    line(rig, 2)
    rig.change(None, constrained("60 Mbit/s"))
    before = (
        rig.state.paths.edges,
        rig.state.te_paths.ordered(),
        rig.state.te_paths.reservations.links(),
    )
    less = Capacities(rig.state.switches, 'capacity = "50 Mbit/s"\ncost = 7')
    with pytest.raises(
        ConstraintUnmet, match=r"1 of the constraints .* of network n1: min-bandwidth 60 Mbit/s"
    ):
        rig.core.capacity_reload.plan(less, degrade=False)
    assert (
        rig.state.paths.edges,
        rig.state.te_paths.ordered(),
        rig.state.te_paths.reservations.links(),
    ) == before
    assert rig.state.capacities.capacity((1, 2)) == 100 * MBIT
    rig.holds_what_it_should()
    work, lines = rig.core.capacity_reload.plan(less, degrade=True)
    rig.execute(work)
    rig.core.deferred.add(work)
    rig.settle()
    assert [line.split(":")[0] for line in lines] == ["the constraint from 1 to 2 of network n1 is degraded"]
    assert {e.cost for e in rig.state.paths.edges} == {7.0}
    assert rig.state.te_paths.reservations.links() == {}
    rig.holds_what_it_should()


def test_a_rehearsed_reload_tells_what_it_would_do_and_changes_nothing() -> None:
    rig = Rig(Options(VLAN, capacities='capacity = "100 Mbit/s"\ncost = 2'))
    line(rig, 2)
    rig.change(None, constrained("60 Mbit/s"))

    def state() -> tuple[object, ...]:
        reserved = rig.state.te_paths.reservations.links()
        return rig.state.paths.edges, rig.state.te_paths.ordered(), reserved, rig.kinds()

    before = state()
    less = Capacities(rig.state.switches, 'capacity = "50 Mbit/s"\ncost = 7')
    with pytest.raises(ConstraintUnmet, match="1 of the constraints could no longer be kept"):
        asyncio.run(foresee_reload(rig.core, less, False))
    (said,) = asyncio.run(foresee_reload(rig.core, less, True))
    assert said.startswith("the constraint from 1 to 2 of network n1 is degraded: ")
    same = Capacities(rig.state.switches, 'capacity = "100 Mbit/s"\ncost = 3')
    assert asyncio.run(foresee_reload(rig.core, same, False)) == []
    assert state() == before
    assert rig.state.capacities.capacity((1, 2)) == 100 * MBIT
    rig.holds_what_it_should()


@pytest.mark.parametrize("count", [1, NAMED_LIMIT, NAMED_LIMIT + 2])
def test_a_refused_reload_names_some_constraints_and_counts_the_others(count: int) -> None:
    rig = Rig(Options(VLAN, capacities='capacity = "100 Mbit/s"'))
    line(rig, 2)
    ends = [endpoint(n, 1 + n % 2, 3, 100 + n) for n in range(2, 2 * count + 2)]
    asked = [
        {"source": 2 * n, "destination": 2 * n + 1, "min-bandwidth": "2 Mbit/s"} for n in range(1, count + 1)
    ]
    before = network(1, *ends).changed(constraints=tuple(map(Constraint.model_validate, asked)))
    rig.change(None, before)
    less = Capacities(rig.state.switches, 'capacity = "1 Mbit/s"')
    with pytest.raises(ConstraintUnmet) as caught:
        rig.core.capacity_reload.plan(less, degrade=False)
    text = str(caught.value)
    assert text.startswith(f"with these capacities {count} of the constraints could no longer be kept: ")
    assert text.count("of network n1: min-bandwidth 2 Mbit/s") == min(count, NAMED_LIMIT)
    others = [f"; and {count - NAMED_LIMIT} more. Nothing was changed"] if count > NAMED_LIMIT else []
    assert re.findall(r"; and .*? more\. Nothing was changed", text) == others


def test_pending_admits_only_constraints_without_a_path() -> None:
    rig = Rig(Options(VLAN, capacities='capacity = "100 Mbit/s"'))
    line(rig, 2)
    before = network(1, endpoint(1, 1, 3), endpoint(2, 2, 3), endpoint(3, 9, 3))
    for destination, rate, fits in ((2, "60 Mbit/s", True), (2, "95 Mbit/s", False), (3, "95 Mbit/s", True)):
        asked = {"source": 1, "destination": destination, "min-bandwidth": rate}
        after = before.changed(constraints=(Constraint.model_validate(asked),))
        if fits:
            (te_path,) = rig.core.constraints.plan(after, pending=True).values()
            assert bool(te_path.degraded) == (destination == 3)
        else:
            with pytest.raises(ConstraintUnmet, match="90 Mbit/s would fit"):
                rig.core.constraints.plan(after, pending=True)
    with pytest.raises(ConstraintUnmet, match="no path leads"):
        rig.core.constraints.plan(after)
