"""The life of a switch's connection: one table, and nothing beside it."""

from __future__ import annotations

import re
from itertools import product

import pytest

from libnetvirt.drivers.openflow.southbound import life
from libnetvirt.drivers.openflow.southbound.life import ENDED, IllegalStep, Step, SwitchState, after

S = SwitchState


def test_a_healthy_switch_goes_through_all_stages_in_order() -> None:
    state, seen = S.CONNECTING, []
    for step in (
        Step.IDENTIFIED,
        Step.DUE,
        Step.CLAIMED,
        Step.PROBED,
        Step.RECONCILED,
        Step.LATE,
        Step.ANSWERED,
    ):
        state = after(state, step)
        seen.append(state)
    assert seen == [S.BACKING_OFF, S.CLAIMING, S.PROBING, S.RECONCILING, S.READY, S.UNRESPONSIVE, S.READY]


def test_a_switch_that_is_late_while_it_is_reconciled_is_unresponsive_when_that_is_over() -> None:
    overdue = after(S.RECONCILING, Step.LATE)
    assert after(overdue, Step.ANSWERED) is S.RECONCILING
    assert after(overdue, Step.RECONCILED) is S.UNRESPONSIVE
    assert overdue not in life.SERVED


@pytest.mark.parametrize("state", S)
def test_whatever_a_switch_does_it_may_fail_and_its_connection_may_be_lost(state: SwitchState) -> None:
    if state not in ENDED:
        assert after(state, Step.FAIL) is S.FAILED
        assert after(state, Step.LOST) is S.CLOSED


@pytest.mark.parametrize(("state", "step"), list(product(sorted(ENDED, key=str), Step)))
def test_an_end_is_final(state: SwitchState, step: Step) -> None:
    assert after(state, step) is state


@pytest.mark.parametrize(
    ("state", "step"),
    [
        (S.CONNECTING, Step.RECONCILED), (S.CONNECTING, Step.DUE), (S.CONNECTING, Step.LATE),
        (S.BACKING_OFF, Step.PROBED), (S.PROBING, Step.LATE), (S.PROBING, Step.RECONCILED),
        (S.CLAIMING, Step.PROBED),
        (S.RECONCILING, Step.ANSWERED), (S.READY, Step.RECONCILED), (S.READY, Step.ANSWERED),
        (S.READY, Step.IDENTIFIED), (S.UNRESPONSIVE, Step.RECONCILED),
    ],
)  # fmt: skip
def test_steps_out_of_order_are_faults(state: SwitchState, step: Step) -> None:
    with pytest.raises(IllegalStep, match=state.value):
        after(state, step)


def test_each_state_can_be_reached() -> None:
    reached = {S.CONNECTING}
    while more := {end for (start, _), end in life.TRANSITIONS.items() if start in reached} - reached:
        reached |= more
    assert reached == set(S)


def test_the_table_at_the_top_of_the_module_is_the_table() -> None:
    written = re.findall(r"^    ([A-Z_]+) +([A-Z]+) +([A-Z_]+)\b", life.__doc__ or "", re.MULTILINE)
    table = {
        (start.name, step.name, end.name)
        for (start, step), end in life.TRANSITIONS.items()
        if start not in ENDED and step not in (Step.FAIL, Step.LOST) and start is not end
    }
    assert set(written) == table
