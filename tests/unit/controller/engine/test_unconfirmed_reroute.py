"""A reroute that a switch does not confirm: an old path stays until all of the new one is confirmed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from libnetvirt.controller.engine.controller import Options, Transaction
from libnetvirt.controller.reports import views
from libnetvirt.model import Constraint, Encapsulation, Insertion, Rules, State, Timeout
from tests.support.controller_rig import VLAN, Rig, counted, endpoint, frame, mac, network, places

OFFLINE = Rules(encapsulation=Encapsulation.NATIVE, insertion=Insertion.OFFLINE, timeout=Timeout.PERMANENT)
RULES = pytest.mark.parametrize("rules", [VLAN, OFFLINE], ids=["vlan", "native"])
ENDS = network(1, endpoint(11, 1, 3, None, 1), endpoint(12, 3, 3, None, 2))
#: ticks until paths avoid a silent switch
NOTICED = 4


def _ring(rules: Rules = VLAN) -> Rig:
    """1 - 2 - 3 - 4 - 1, with a network of 1 and 3, which is forwarded over 2."""
    rig = Rig(Options(rules))
    for dpid in (1, 2, 3, 4):
        rig.switch(dpid)
    for one, other in (((1, 2), (2, 1)), ((2, 2), (3, 1)), ((3, 2), (4, 1)), ((4, 2), (1, 1))):
        rig.link(one, other)
    rig.change(None, ENDS)
    rig.tick()
    assert _way(rig) == [2, 3]
    return rig


def _way(rig: Rig) -> list[int]:
    record = rig.state.rulesdb.networks["1"]
    path = next(p for p in views.paths(rig.state, record) if p.source == "11")
    return [int(hop.switch) for hop in path.hops][1:]


def _watch(rig: Rig) -> list[bool]:
    """From now on, what arrives after each message to a switch."""
    seen: list[bool] = []

    def arrives() -> bool:
        there, back = (
            rig.fabric.probe(dpid, 3, frame(mac(to), mac(sender)))
            for dpid, sender, to in ((1, 1, 2), (3, 2, 1))
        )
        return places(there) == [(3, 3)] and places(back) == [(1, 3)]

    rig.between = lambda: seen.append(arrives())
    return seen


def _state(rig: Rig) -> tuple[State, set[str]]:
    state = views.network_state(rig.state, rig.state.rulesdb.networks["1"], rig.now)
    return state.state, {e.reason for e in state.endpoints}


@contextmanager
def _first_reroute(rig: Rig, act: Callable[[Transaction], None]) -> Iterator[None]:
    """Do something when the first reroute is planned that has rounds."""
    execute = rig.execute
    done = False

    def executed(work: Transaction) -> None:
        nonlocal done
        if work.unconfirmed is not None and work.plan.rounds and not done:
            done = True
            act(work)
        execute(work)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rig, "execute", executed)
        yield
    assert done


def _lose(rig: Rig, transit: int, other: int, part: int = 0) -> None:
    """``transit`` is silent until paths move away from it; ``other`` is, from ``part`` parts of rounds on."""
    rig.silent.add(transit)
    between = rig.between
    parts = 0

    def counting() -> None:
        nonlocal parts
        parts += 1
        between()
        if parts == part:
            rig.silent.add(other)

    def began(_: Transaction) -> None:
        rig.between = counting
        if not part:
            rig.silent.add(other)

    with _first_reroute(rig, began):
        for _ in range(NOTICED + 1):
            rig.tick()
    rig.between = between


def _return(rig: Rig, *switches: int) -> None:
    for dpid in switches:
        rig.silent.discard(dpid)
        if not rig.state.switches[dpid].connected:
            rig.queues.pop(dpid, None)
            rig.connect(dpid, 4)
        rig.tick()
    for _ in range(3):
        rig.tick()


@RULES
@pytest.mark.parametrize("order", [(2, 4), (4, 2)])
def test_traffic_stays_on_the_old_path_while_the_new_one_is_not_confirmed(
    rules: Rules, order: tuple[int, int]
) -> None:
    rig = _ring(rules)
    label = rig.space.tunnel(3) if rules is VLAN else None
    seen = _watch(rig)
    _lose(rig, 2, 4)
    assert _way(rig) == [2, 3]
    if rules is VLAN:
        assert rig.space.tunnel(3) == label, "2 has no rules for another one"
    assert _state(rig)[0] is State.UNCONFIRMED
    assert any("switch 2 does not answer" in why for why in _state(rig)[1])
    for _ in range(10):
        rig.tick()
    assert seen
    assert all(seen)
    assert _way(rig) == [2, 3]
    _return(rig, *order)
    assert all(seen)
    assert not rig.state.doubted
    assert _state(rig)[0] is State.ACTIVE
    rig.holds_what_it_should()
    if rules is VLAN:
        used = {rig.space.tunnel(egress).label for egress in rig.space.tunnels()}
        assert vars(rig.space)["_outer"] == used, "what was given up is free again"


def test_the_events_tell_of_no_move_that_was_not_confirmed() -> None:
    rig = _ring()
    rig.events.clear()
    _lose(rig, 2, 4)
    assert "path.moved" not in rig.kinds()


def test_an_old_path_stays_while_a_switch_may_still_send_into_it() -> None:
    """1 confirms the new path, and not what sends into it."""
    rig = _ring()
    seen = _watch(rig)
    # The first round is for 4.
    _lose(rig, 2, 1, part=1)
    assert _way(rig) == [4, 3]
    assert rig.core.deferred.transactions, "the old path has not been removed"
    for _ in range(10):
        rig.tick()
    assert seen
    assert all(seen)
    assert rig.core.deferred.transactions
    state, why = _state(rig)
    assert state is State.UNCONFIRMED, why
    _return(rig, 1)
    assert not rig.core.deferred.transactions
    _return(rig, 2)
    assert all(seen)
    assert _state(rig)[0] is State.ACTIVE
    rig.holds_what_it_should()


def test_a_switch_that_has_not_confirmed_is_in_doubt_until_it_was_compared() -> None:
    rig = _ring()
    _lose(rig, 2, 4)
    assert rig.state.doubted == {4}
    links = {(e.source, e.source_port) for e in rig.state.paths.edges if 4 in (e.source, e.destination)}
    why = rig.state.confirmed_parts()[4]
    assert why[1] == "switch 4 has not confirmed its rules"
    assert links
    _return(rig, 4)
    assert not rig.state.doubted


def test_a_constraint_keeps_its_path_until_another_one_is_confirmed() -> None:
    rig = _ring()
    bounded = Constraint.model_validate({"source": "11", "destination": "12", "max-hops": 3})
    rig.change(ENDS, ENDS.changed(constraints=(bounded,)))
    rig.tick()
    (was,) = rig.state.te_paths.of("1").values()
    free = vars(rig.space)["_outer"].copy()
    seen = _watch(rig)
    _lose(rig, was.edges[0].destination, 6 - was.edges[0].destination)
    assert list(rig.state.te_paths.of("1").values()) == [was]
    for _ in range(5):
        rig.tick()
    assert list(rig.state.te_paths.of("1").values()) == [was]
    assert seen
    assert all(seen)
    assert "constraint.moved" not in rig.kinds()
    _return(rig, 4, 2)
    assert all(seen)
    rig.holds_what_it_should()
    assert len(vars(rig.space)["_outer"]) == len(free)


@pytest.mark.parametrize(("rules", "part"), [(VLAN, 0), (VLAN, 1), (OFFLINE, 0), (OFFLINE, 2)])
def test_a_path_that_shares_switches_with_the_new_one_is_given_back(rules: Rules, part: int) -> None:
    """1 - 2, then over 5, or over 3 and 6, to 4: 2 sends what comes from 1 another way. 3 does not confirm.

    The tunnel gets another label for that; the rules of a native network are changed in place.
    """
    rig = Rig(Options(rules))
    for dpid in range(1, 7):
        rig.switch(dpid, 5)
    links = ((1, 1), (2, 1)), ((2, 2), (5, 1)), ((5, 2), (4, 1)), ((2, 4), (3, 1)), ((3, 2), (6, 1))
    for one, other in (*links, ((6, 2), (4, 2))):
        rig.link(one, other)
    rig.change(None, network(1, endpoint(11, 1, 3, None, 1), endpoint(12, 4, 3, None, 2)))
    rig.tick()
    assert _way(rig) == [2, 5, 4]
    label = rig.space.tunnel(4) if rules is VLAN else None
    lost: list[bool] = []

    def look() -> None:
        out = rig.fabric.probe(1, 3, frame(mac(2), mac(1)))
        lost.append(places(out) != [(4, 3)] and not rig.fabric.raised)

    rig.between = look
    _lose(rig, 5, 3, part)
    assert _way(rig) == [2, 5, 4]
    assert places(rig.fabric.probe(1, 3, frame(mac(2), mac(1)))) == [(4, 3)]
    if rules is VLAN:
        assert rig.space.tunnel(4) == label, "5 has no rules for another one"
    _return(rig, 3, 5)
    assert lost
    assert not any(lost)
    rig.holds_what_it_should()


def test_a_reroute_that_all_switches_confirm_takes_as_many_rounds_and_messages_as_before() -> None:
    rig = _ring()
    works: list[Transaction] = []
    rig.silent.add(2)
    with _first_reroute(rig, works.append):
        for _ in range(NOTICED + 1):
            rig.tick()
    (work,) = works
    assert not work.stopped
    assert not work.awaited
    # Of both tunnels: the rules at 4, then the groups.
    assert counted(work) == {0: 2, 1: 2}
