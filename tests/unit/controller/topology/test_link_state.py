"""The tables of link states and of switches that paths avoid, row by row."""

from __future__ import annotations

from itertools import product

import pytest

from libnetvirt.controller.topology.link_state import Control, LinkState, avoids, link_state

UP, UNCONFIRMED, DOWN = LinkState.UP, LinkState.UNCONFIRMED, LinkState.DOWN
ANSWERS, RETURNED, SILENT, AWAY, GONE = Control
BOTH = list(product(Control, Control))


@pytest.mark.parametrize("frames", [True, False])
@pytest.mark.parametrize(("source", "destination"), BOTH)
def test_a_link_is_down_at_once_when_a_port_is(frames: bool, source: Control, destination: Control) -> None:
    assert link_state(False, frames, source, destination) is DOWN


@pytest.mark.parametrize(("source", "destination"), BOTH)
def test_a_link_is_up_while_frames_arrive(source: Control, destination: Control) -> None:
    assert link_state(True, True, source, destination) is UP


def test_a_link_is_down_when_frames_have_stopped_and_both_ends_answer() -> None:
    assert link_state(True, False, ANSWERS, ANSWERS) is DOWN


@pytest.mark.parametrize("unseen", [RETURNED, SILENT, AWAY, GONE])
@pytest.mark.parametrize("other", list(Control))
def test_a_link_is_unconfirmed_when_frames_have_stopped_and_an_end_is_not_seen(
    unseen: Control, other: Control
) -> None:
    assert link_state(True, False, unseen, other) is UNCONFIRMED
    assert link_state(True, False, other, unseen) is UNCONFIRMED


@pytest.mark.parametrize(
    ("control", "before", "after"),
    [
        (ANSWERS, True, False),
        (ANSWERS, False, False),
        (RETURNED, True, False),
        (RETURNED, False, False),
        (SILENT, False, True),
        (SILENT, True, True),
        (AWAY, False, False),
        (AWAY, True, True),
        (GONE, False, True),
        (GONE, True, True),
    ],
)
def test_paths_avoid_switches_that_are_silent_or_gone(control: Control, before: bool, after: bool) -> None:
    assert avoids(control, before, cut_off=False) is after


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("control", list(Control))
def test_nothing_is_moved_while_the_controller_is_cut_off(control: Control, before: bool) -> None:
    assert avoids(control, before, cut_off=True) is before
