"""Back-off: the delay before a switch that failed is connected again."""

from __future__ import annotations

from libnetvirt.drivers.openflow.southbound.backoff import LIMIT, MAXIMUM, RESET_AFTER, Backoff


def test_each_failure_doubles_the_wait_up_to_a_bound() -> None:
    found, now = Backoff(), 100.0
    periods = []
    for _ in range(8):
        periods.append(found.fail(7, "silent", now))
        now += periods[-1] + 1
    assert periods == [1, 2, 4, 8, 16, 32, MAXIMUM, MAXIMUM]


def test_a_switch_is_held_off_until_its_delay_ends_and_others_are_not() -> None:
    found = Backoff()
    assert found.left(7, 100.0) == 0
    found.fail(7, "silent", 100.0)
    assert 0.5 < found.left(7, 100.4) < 0.7
    assert found.left(8, 100.4) == 0
    assert [f.reason for f in found.waiting(100.4).values()] == ["silent"]
    assert found.left(7, 101.0) == 0
    assert not found.waiting(101.0)


def test_old_failures_expire() -> None:
    found = Backoff()
    for now in (100.0, 102.0, 105.0):
        found.fail(7, "silent", now)
    assert found.fail(7, "silent", 110.0 + RESET_AFTER) == 1


def test_the_failures_of_strangers_are_bounded() -> None:
    found = Backoff()
    for dpid in range(1, LIMIT + 1):
        found.fail(dpid, "silent", 100.0)
    found.fail(1, "silent", 102.0)
    found.fail(LIMIT + 1, "silent", 102.0)
    assert len(found.waiting(0.0)) == LIMIT
    assert found.left(1, 102.0) == 2
    assert found.left(LIMIT + 1, 102.0) == 1
    # The one whose wait ended first is a first-time failure again.
    assert found.fail(2, "silent", 103.0) == 1
    assert found.fail(LIMIT, "silent", 103.0) == 2
