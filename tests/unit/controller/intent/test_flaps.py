"""Hosts that move to and fro are told from hosts that move."""

from __future__ import annotations

from libnetvirt.controller.intent.flaps import AGAIN, LIMIT, MOVES, WINDOW, Flaps

HOST, OTHER = ("1", 1), ("1", 2)


def test_a_host_that_moves_too_often_is_reported_once_a_minute() -> None:
    flaps = Flaps()
    said = [flaps.moved(HOST, 0.1 * n) for n in range(3 * MOVES)]
    assert [n for n, yes in enumerate(said) if yes] == [MOVES - 1]
    assert not flaps.moved(OTHER, 1.0)
    assert any(flaps.moved(HOST, AGAIN + 1.0 + 0.1 * n) for n in range(MOVES + 1))


def test_hosts_that_move_at_times_are_not() -> None:
    flaps = Flaps()
    assert not any(flaps.moved(HOST, n * WINDOW / (MOVES - 2)) for n in range(100))


def test_what_is_remembered_is_bounded() -> None:
    flaps = Flaps()
    for n in range(3 * LIMIT):
        flaps.moved(("1", n), 0.0)
    assert len(flaps._moves) <= LIMIT + 1
