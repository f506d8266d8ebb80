"""Queues in random operations: ports have the queues of their reservations, and rules use no others."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from libnetvirt import openflow as of
from libnetvirt.controller.intent.facts import QueueNumber
from libnetvirt.controller.qos.queues import DEFAULT
from libnetvirt.errors import ConstraintUnmet
from tests.property.controller.test_admission import (
    CAPACITIES,
    MBIT,
    cut_or_restore,
    holds,
    random_constraint,
    world,
)
from tests.support.controller_rig import Rig, facts_of
from tests.support.tally import Tally


def queues_agree(rig: Rig) -> None:
    """Books, ports and rules say the same."""
    shape, reservations = rig.core.constraints.queue_config(), rig.state.te_paths.reservations
    assert shape.keys() == reservations.links().keys()
    for place, port in shape.items():
        assert port.rate == 100 * MBIT
        # All least rates together fit the link, labels included, and none is less than what was promised.
        assert sum(queue.min_rate for queue in port.queues.values()) <= port.rate
        promised = {q.key: q.min_rate for number, q in port.queues.items() if number != DEFAULT}
        assert sum(promised.values()) >= reservations.reserved(place)
        assert all(queue.min_rate <= queue.max_rate <= port.rate for queue in port.queues.values())
    named = {
        ((dpid, then.port), now.queue_id)
        for dpid, switch in rig.fabric.switches.items()
        for flow in switch.flows.values()
        for one in flow.instructions
        if isinstance(one, of.ApplyActions)
        for now, then in zip(one.actions, one.actions[1:], strict=False)
        if isinstance(now, of.SetQueue) and isinstance(then, of.Output)
    }
    there = {(place, n) for place, port in shape.items() for n in port.queues if n != DEFAULT}
    assert named <= there
    assert {n for switch in rig.fabric.switches.values() for n in switch.meters if n >= 4096} <= {
        rig.state.meters.number(c.ends[0], c.meter)
        for c in rig.state.te_paths.ordered()
        if c.constraint.max_bandwidth is not None
    }


def test_random_changes_and_failures_keep_queues_consistent() -> None:
    tally = Tally()

    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, 2**32))
    def live(seed: int) -> None:
        _random_changes_and_failures(seed, tally)

    live()
    tally.check(least=50, most_refused=0.5)


def _random_changes_and_failures(seed: int, tally: Tally) -> None:
    chance = Random(seed)
    rig = world(chance, f'{CAPACITIES}enforcement = "queue"\n')
    down: list[tuple[int, int]] = []
    for _ in range(10):
        before = chance.choice(rig.networks)
        step = chance.random()
        if step < 0.6:
            new = random_constraint(chance, before)
            after = before.changed(constraints=(*(c for c in before.constraints if c.key != new.key), new))
            fits = False
            with tally.trial(ConstraintUnmet):
                rig.core.constraints.plan(after)
                fits = True
            if not fits:
                continue
            if chance.random() < 0.3:
                known = rig.core.constraints.queue_config()
                rig.undo(rig.core.operations.begin(before, after))
                assert rig.core.constraints.queue_config() == known
            else:
                rig.change(before, after)
        elif step < 0.75 and before.constraints:
            rig.change(before, before.changed(constraints=before.constraints[1:]))
        else:
            cut_or_restore(rig, chance, step, down)
        queues_agree(rig)
        if not down:
            holds(rig)
    while down:
        rig.cut(down.pop(), up=True)
    rig.tick()
    queues_agree(rig)
    holds(rig)
    for before in rig.networks:
        rig.change(before, None)
    assert rig.core.constraints.queue_config() == {}
    assert not facts_of(rig.core).of(QueueNumber)
