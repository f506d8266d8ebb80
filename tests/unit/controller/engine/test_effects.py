"""Effects of events: returned, merged, carried out at once or kept until a task has the lock."""

from __future__ import annotations

import pytest

from libnetvirt import openflow as of
from libnetvirt.controller.engine.controller import Options
from libnetvirt.controller.engine.effects import NOTHING, REROUTE, Effects, PendingEffects, Report
from libnetvirt.controller.qos.te_paths import TePaths
from tests.support.controller_rig import VLAN, Rig, endpoint, line, network


def test_two_effects_call_for_all_that_either_calls_for() -> None:
    one = Effects(((1, of.BarrierRequest()),), (Report("a", "A"),), rebind=frozenset((1,)))
    two = Effects(events=(Report("b", "B"),), reroute=True, capacities=True, compare=frozenset((2,)))
    both = one | two | Effects(ports_down=((3, 4),))
    assert [dpid for dpid, _ in both.messages] == [1]
    assert [event.kind for event in both.events] == ["a", "b"]
    assert (both.reroute, both.capacities) == (True, True)
    assert (set(both.rebind), set(both.compare), both.ports_down) == ({1}, {2}, ((3, 4),))
    assert (one | NOTHING) is one
    assert (NOTHING | one) is one


def test_messages_and_events_go_out_at_once_and_the_rest_is_kept() -> None:
    done: list[object] = []
    pending = PendingEffects(
        lambda dpid, message: done.append((dpid, message)),
        lambda kind, message, **fields: done.append((kind, message, fields)),
        lambda dpid, port: done.append((dpid, port)),
    )
    assert not pending
    pending.add(NOTHING)
    assert not pending
    barrier = of.BarrierRequest()
    pending.add(
        Effects(((1, barrier),), (Report("x", "X", {"switch": "1"}),), True, True, ports_down=((1, 2),))
    )
    assert done == [(1, barrier), ("x", "X", {"switch": "1"}), (1, 2)]
    assert pending
    assert pending.take_reroute()
    assert not pending
    pending.add(REROUTE)
    assert not pending.take_reroute(), "links have the capacities that they had"
    pending.add(Effects(rebind=frozenset((1, 2)), compare=frozenset((2,))))
    assert (pending.rebind, pending.compare) == ({1, 2}, {2})
    assert pending


def test_what_was_admitted_is_not_planned_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(Options(VLAN, capacities='capacity = "100 Mbit/s"'))
    line(rig, 2)
    after = network(1, endpoint(11, 1, 3), endpoint(12, 2, 3)).changed(
        constraints=({"source": "11", "destination": "12", "min-bandwidth": "5 Mbit/s"},)
    )
    admitted = rig.core.constraints.plan(after)
    monkeypatch.setattr(TePaths, "plan", None)
    work = rig.core.operations.begin(None, after, te_paths=admitted)
    (te_path,) = rig.state.te_paths.of("1").values()
    assert te_path.edges == next(iter(admitted.values())).edges
    rig.execute(work)
    rig.undo(work)
    assert not rig.state.te_paths.of("1")
