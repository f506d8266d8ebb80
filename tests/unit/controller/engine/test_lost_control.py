"""Switches that lose their control connection go on forwarding, and what they forward is not cut."""

from __future__ import annotations

from typing import Any

import pytest

from libnetvirt.controller.engine import topology_events
from libnetvirt.controller.engine.controller import Options
from libnetvirt.controller.reports import views
from libnetvirt.controller.topology.link_state import Control
from libnetvirt.driver import Change
from libnetvirt.drivers.openflow import OpenFlowDriver
from libnetvirt.drivers.openflow.validation import Validator
from libnetvirt.errors import NoPath
from libnetvirt.model import Constraint, State
from tests.support.controller_rig import (
    BROADCAST,
    VLAN,
    Rig,
    endpoint,
    frame,
    line,
    mac,
    network,
    places,
    ring,
)

ENDS = network(1, endpoint(11, 1, 3), endpoint(12, 3, 3))
#: ticks until links of a silent switch are unconfirmed, with the one that finds it out
NOTICED = 4


def _line() -> Rig:
    """1 - 2 - 3, with a network of 1 and 3."""
    rig = Rig()
    line(rig, 3)
    return _with_hosts(rig)


def _ring() -> Rig:
    rig = Rig()
    ring(rig, 4)
    return _with_hosts(rig)


def _with_hosts(rig: Rig) -> Rig:
    rig.change(None, ENDS)
    for n, dpid in ((1, 1), (2, 3)):
        rig.check(dpid, 3, frame(BROADCAST, mac(n)))
    rig.tick()
    return rig


def _arrives(rig: Rig) -> bool:
    there, back = (
        rig.fabric.probe(dpid, 3, frame(mac(to), mac(sender))) for dpid, sender, to in ((1, 1, 2), (3, 2, 1))
    )
    return places(there) == [(3, 3)] and places(back) == [(1, 3)]


def _watch(rig: Rig) -> list[bool]:
    """From now on, what arrives after each message."""
    seen: list[bool] = []
    rig.between = lambda: seen.append(_arrives(rig))
    return seen


def _held(rig: Rig) -> Any:
    return {d: (dict(s.flows), dict(s.groups)) for d, s in rig.fabric.switches.items()}


def _states(rig: Rig) -> dict[str, tuple[State, str]]:
    record = rig.state.rulesdb.networks["1"]
    return {a.endpoint.uuid: (s, why) for a, s, why in views.endpoint_states(rig.state, record, rig.now)}


def _overall(rig: Rig) -> State:
    return views.network_state(rig.state, rig.state.rulesdb.networks["1"], rig.now).state


def test_a_silent_transit_switch_without_alternative_is_unconfirmed_and_goes_on_forwarding() -> None:
    rig = _line()
    held = _held(rig)
    rig.silent.add(2)
    for _ in range(NOTICED - 1):
        rig.tick()
    assert _overall(rig) is State.ACTIVE
    for _ in range(30):
        rig.tick()
    assert _held(rig) == held
    assert _arrives(rig)
    why = "the way to other endpoints is unconfirmed: switch 2 does not answer"
    assert _states(rig) == {"11": (State.UNCONFIRMED, why), "12": (State.UNCONFIRMED, why)}
    assert _overall(rig) is State.UNCONFIRMED
    shown = views.substrate(rig.state)
    assert {(x.up, x.unconfirmed, x.cost) for x in shown.links} == {(False, "switch 2 does not answer", 1.0)}
    assert "4 directions of links are unconfirmed: switch 2 does not answer" in shown.notes
    assert shown.switches[1].notes[0].startswith("it does not answer")
    assert rig.kinds().count("switch.silent") == 1
    # It answers again, and frames pass.
    rig.silent.clear()
    rig.tick()
    assert _overall(rig) is State.ACTIVE
    assert all(x.up for x in views.substrate(rig.state).links)
    assert _held(rig) == held
    rig.holds_what_it_should()


@pytest.mark.parametrize("silent_before", [False, True])
def test_a_transit_switch_that_is_disconnected_for_long_goes_on_forwarding(silent_before: bool) -> None:
    rig = _line()
    held = _held(rig)
    if silent_before:
        rig.silent.add(2)
        for _ in range(NOTICED + 2):
            rig.tick()
    rig.pending.add(rig.core.topology.switch_down(2, rig.now, "it did not answer for 15 s"))
    rig.queues.pop(2, None)
    for _ in range(30):
        rig.tick()
    assert _held(rig) == held
    assert _arrives(rig)
    state, why = _states(rig)["11"]
    assert state is State.UNCONFIRMED
    assert why.endswith("switch 2 is not connected (it did not answer for 15 s)")
    rig.silent.clear()
    rig.connect(2, 4)
    assert _held(rig) == held
    assert _overall(rig) is State.ACTIVE
    rig.holds_what_it_should()


def test_in_a_ring_traffic_moves_away_from_a_silent_switch_without_loss() -> None:
    rig = _ring()
    (through,) = [e.destination for e in rig.state.paths.path(1, 3) or ()][:-1]
    rig.silent.add(through)
    seen = _watch(rig)
    for _ in range(NOTICED + 1):
        rig.tick()
    assert all(seen)
    assert through not in [e.destination for e in rig.state.paths.path(1, 3) or ()]
    assert _arrives(rig)
    assert _overall(rig) is State.ACTIVE
    # What it holds of the old path is corrected when it returns.
    rig.silent.clear()
    if not rig.state.switches[through].connected:
        rig.connect(through, 4)
    for _ in range(3):
        rig.tick()
    assert all(seen)
    rig.holds_what_it_should()
    assert not rig.state.control.avoided


def test_a_frozen_switch_is_avoided_although_its_own_endpoints_stay() -> None:
    """Its endpoints are reached over it only: nothing shows that they are not."""
    rig = Rig()
    ring(rig, 4)
    rig.change(None, network(1, endpoint(11, 1, 3), endpoint(12, 2, 3), endpoint(13, 3, 3)))
    rig.tick()
    rig.silent.add(2)
    for _ in range(NOTICED + 1):
        rig.tick()
    states = _states(rig)
    assert [states[u][0] for u in ("11", "12", "13")] == [State.ACTIVE, State.UNCONFIRMED, State.ACTIVE]
    assert states["12"][1] == "switch 2 does not answer" or "not connected" in states["12"][1]
    assert [e.destination for e in rig.state.paths.path(1, 3) or ()] == [4, 3]
    assert len(rig.state.paths.path(1, 2) or ()) == 1
    assert _overall(rig) is State.UNCONFIRMED


def test_a_link_whose_frames_are_lost_between_switches_that_answer_is_down() -> None:
    rig = _ring()
    one, other = (1, 2), rig.fabric.links[(1, 2)]
    del rig.fabric.links[one], rig.fabric.links[other]
    for _ in range(NOTICED - 1):
        rig.tick()
    assert len(rig.state.paths.edges) == 8
    rig.tick()
    assert len(rig.state.paths.edges) == 6
    assert not rig.state.discovery.unconfirmed()
    assert _arrives(rig)


def test_a_port_that_goes_down_beside_a_silent_switch_is_a_dead_link_at_once() -> None:
    rig = _line()
    rig.silent.add(2)
    for _ in range(NOTICED):
        rig.tick()
    assert _overall(rig) is State.UNCONFIRMED
    rig.port(1, 2, up=False)
    rig.settle()
    assert _states(rig)["11"] == (State.DOWN, "no path leads from switch 1 to the network's other switches")


@pytest.mark.parametrize("closed", [False, True])
def test_nothing_moves_while_no_switch_answers(closed: bool) -> None:
    rig = _ring()
    held, labels = _held(rig), rig.space.tunnel(3)
    rig.silent |= {1, 2, 3, 4}
    for n in range(20):
        rig.tick()
        if closed and n == 8:
            for dpid in (1, 2, 3, 4):
                rig.disconnect(dpid)
    assert not rig.state.control.avoided
    assert "path.moved" not in rig.kinds()
    assert rig.kinds().count("control.lost") == 1
    assert _overall(rig) is State.UNCONFIRMED
    # The switches return one after the other, in less than `hold`.
    rig.silent.clear()
    for dpid in (3, 1, 4, 2):
        if closed:
            rig.connect(dpid, 4)
        rig.tick()
    rig.tick()
    assert rig.kinds().count("control.restored") == 1
    assert "path.moved" not in rig.kinds()
    assert (_held(rig), rig.space.tunnel(3)) == (held, labels)
    assert _overall(rig) is State.ACTIVE
    rig.holds_what_it_should()


def _constrained(rig: Rig) -> list[int]:
    """The switches that the path of the constraint leads to."""
    (te_path,) = rig.state.te_paths.of("1").values()
    return [edge.destination for edge in te_path.edges]


def test_the_path_of_a_constraint_moves_off_a_silent_switch_where_there_is_another() -> None:
    rig = _ring()
    bounded = Constraint.model_validate({"source": "11", "destination": "12", "max-hops": 3})
    rig.change(ENDS, ENDS.changed(constraints=(bounded,)))
    rig.tick()
    through, _ = _constrained(rig)
    rig.silent.add(through)
    seen = _watch(rig)
    for _ in range(NOTICED + 1):
        rig.tick()
    assert _constrained(rig) == [6 - through, 3]
    # The other one, too: now there is nothing better.
    rig.silent.add(6 - through)
    for _ in range(NOTICED + 1):
        rig.tick()
    assert _constrained(rig) == [6 - through, 3]
    assert all(seen)
    (constraint,) = views.network_state(rig.state, rig.state.rulesdb.networks["1"], rig.now).constraints
    assert constraint.state is State.UNCONFIRMED
    assert constraint.reason.startswith(f"a link of its path is unconfirmed: switch {6 - through} ")
    rig.silent.clear()
    for dpid in (2, 4):
        if not rig.state.switches[dpid].connected:
            rig.connect(dpid, 4)
    rig.tick()
    (constraint,) = views.network_state(rig.state, rig.state.rulesdb.networks["1"], rig.now).constraints
    assert constraint.state is State.ACTIVE
    assert all(seen)
    rig.holds_what_it_should()


@pytest.mark.parametrize("way", ["silent", "disconnected", "not seen yet"])
def test_a_network_whose_way_leads_through_a_switch_that_gets_no_rules_is_refused(way: str) -> None:
    rig = Rig()
    rig.stores = True
    line(rig, 3)
    rig.switch(4)
    rig.link((3, 2), (4, 1))
    before = network(1, endpoint(11, 1, 3), endpoint(12, 3, 3))
    rig.change(None, before)
    rig.tick()
    if way == "silent":
        rig.silent.add(2)
    elif way == "disconnected":
        rig.disconnect(2)
    else:
        rig.restart({1: 4, 3: 4, 4: 4})
    for _ in range(NOTICED):
        rig.tick()
    validator = Validator(rig.core, OpenFlowDriver.offers(), dict)
    after = before.changed(endpoints=(*before.endpoints, endpoint(13, 4, 3)))
    with pytest.raises(
        NoPath, match=r"leads through switch 2, which cannot be given rules: switch 2 (is|does) "
    ):
        validator.validate(Change(before, after))
    new = network(2, endpoint(1, 3, 4), endpoint(2, 1, 4))
    with pytest.raises(NoPath, match="from switch 3 to switch 1 leads through switch 2"):
        validator.validate(Change(None, new))
    validator.validate(Change(None, new, pending=True))
    validator.validate(Change(None, network(2, endpoint(1, 3, 4), endpoint(2, 4, 4))))
    # What needs no other rules there is not refused.
    moved = before.changed(endpoints=(endpoint(11, 1, 4), before.endpoints[1]))
    validator.validate(Change(before, moved))


def test_paths_that_change_while_an_ingress_is_silent_keep_its_label() -> None:
    """1 - 2 - 3 - 4, where 2 has a short cut to 4: 1 cannot be told about another label."""
    rig = Rig()
    line(rig, 4)
    rig.link((2, 4), (4, 4))
    rig.change(None, network(1, endpoint(11, 1, 3), endpoint(12, 4, 3)))
    for n, dpid in ((1, 1), (2, 4)):
        rig.check(dpid, 3, frame(BROADCAST, mac(n)))
    rig.silent.add(1)
    for _ in range(NOTICED + 1):
        rig.tick()
    was = rig.space.tunnel(4)
    rig.cut((2, 4))
    assert rig.space.tunnel(4) == was
    assert places(rig.fabric.probe(1, 3, frame(mac(2), mac(1)))) == [(4, 3)]


def test_a_link_that_is_only_stored_is_kept_while_its_switch_does_not_connect() -> None:
    rig = Rig()
    rig.stores = True
    line(rig, 3)
    _with_hosts(rig)
    rig.commit()
    held = _held(rig)
    rig.restart({1: 4, 3: 4})
    assert _states(rig)["11"][1].endswith("no frame has passed it since the controller was started")
    for _ in range(30):
        rig.tick()
    assert _held(rig) == held
    assert _arrives(rig)
    assert _states(rig)["11"][0] is State.UNCONFIRMED
    rig.connect(2, 4)
    rig.tick()
    assert _overall(rig) is State.ACTIVE
    assert _held(rig) == held


def test_switches_that_only_have_links_with_each_other_are_forgotten_when_all_are_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(topology_events, "STRANGER_LIMIT", 0)
    rig = _line()
    for dpid in (101, 102):
        rig.switch(dpid)
    rig.link((101, 1), (102, 1))
    for dpid in (101, 102, 2):
        rig.disconnect(dpid)
    for _ in range(12):
        rig.tick()
    assert set(rig.state.switches) == {1, 2, 3}
    assert {d for d, _ in rig.state.discovery.link_ends()} == {1, 2, 3}
    assert _arrives(rig)


@pytest.mark.parametrize("hold", [1.0, 15.0])
def test_a_switch_without_links_is_unconfirmed_when_it_does_not_answer(hold: float) -> None:
    rig = Rig(Options(VLAN, hold=hold))
    rig.switch(1)
    rig.change(None, network(1, endpoint(11, 1, 3), endpoint(12, 1, 4)))
    rig.silent.add(1)
    for _ in range(3):
        assert _overall(rig) is State.ACTIVE
        rig.tick()
    assert _overall(rig) is State.UNCONFIRMED
    rig.silent.clear()
    rig.tick()
    assert _overall(rig) is State.ACTIVE
    rig.disconnect(1)
    assert _overall(rig) is State.ACTIVE
    rig.tick(min(hold, 6.0))
    assert set(_states(rig).values()) == {(State.UNCONFIRMED, "switch 1 is not connected")}
    assert rig.state.control.of(1, rig.now) is Control.AWAY, "it may be the controller that is cut off"
