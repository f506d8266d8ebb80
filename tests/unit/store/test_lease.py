"""The lease, with a clock of its own: one leads, and another takes over when it is seen to be gone."""

from __future__ import annotations

from dataclasses import replace

from libnetvirt.store.lease import TIMEOUT, Holder, Lease, Todo

FREE = Holder("", 0, 0, "")
SECONDS = 2.0
TOO_LONG = SECONDS * TIMEOUT


def lease(owner: str = "me") -> Lease:
    one = Lease(SECONDS)
    one.be(owner)
    return one


def test_a_free_lease_is_taken_at_once_and_trusted_from_when_it_was_asked_for() -> None:
    me = lease()
    assert me.judge(FREE, 100.0) is Todo.TAKE
    me.renewed(1, sent=100.0)
    assert me.holds(101.9)
    assert not me.holds(102.0)
    assert me.judge(Holder("me", 1, 0, ""), 103.0) is Todo.RENEW, "nobody else has it"


def test_a_standby_waits_as_long_as_the_beat_grows() -> None:
    me, seen, now = lease(), Holder("other", 7, 0, ""), 0.0
    for beat in range(50):
        seen = replace(seen, beat=beat)
        assert me.judge(seen, now) is Todo.WAIT
        now += SECONDS
    assert me.followed
    last = now - SECONDS
    assert me.judge(seen, last + TOO_LONG - 0.01) is Todo.WAIT
    assert me.judge(seen, last + TOO_LONG) is Todo.TAKE


def test_the_timeout_is_longer_than_the_leader_trusts_its_lease() -> None:
    leader, standby = lease("leader"), lease("standby")
    leader.renewed(1, sent=0.0)
    # The standby cannot have seen the renewal before it was sent.
    found = Holder("leader", 1, 1, "")
    assert standby.judge(found, 0.0) is Todo.WAIT
    assert not leader.holds(TOO_LONG), "by then it trusts its lease no more"


def test_the_longer_of_two_leases_counts() -> None:
    me, found = lease(), Holder("other", 7, 0, "", seconds=10.0)
    assert me.judge(found, 0.0) is Todo.WAIT
    assert me.judge(found, 10.0) is Todo.WAIT
    assert me.judge(found, 10.0 * TIMEOUT) is Todo.TAKE


def test_what_a_standby_could_not_see_counts_for_nothing() -> None:
    me, dead = lease(), Holder("other", 7, 3, "")
    assert me.judge(dead, 0.0) is Todo.WAIT
    me.unseen()
    assert me.judge(dead, 100.0) is Todo.WAIT, "it may have been renewed until now"
    assert me.judge(dead, 100.0 + TOO_LONG) is Todo.TAKE


def test_a_leader_steps_down_when_another_has_a_later_term_and_not_for_an_older_row() -> None:
    me = lease()
    me.renewed(5, sent=0.0)
    assert me.judge(Holder("former", 4, 9, ""), 0.1) is Todo.WAIT, "a member that is behind"
    assert me.judge(Holder("other", 6, 0, ""), 0.2) is Todo.STEP_DOWN
    assert me.judge(Holder("other", 5, 0, ""), 0.2) is Todo.STEP_DOWN


def test_a_lease_that_was_taken_without_a_reply_is_led() -> None:
    me = lease()
    assert me.judge(FREE, 0.0) is Todo.TAKE
    assert me.judge(Holder("me", 1, 0, ""), 0.5) is Todo.LEAD


def test_its_own_former_lease_is_taken_at_once() -> None:
    me = lease("before")
    me.renewed(3, sent=0.0)
    me.be("now")
    assert not me.holds(0.1)
    assert me.judge(Holder("before", 3, 9, ""), 0.1) is Todo.TAKE


def test_one_without_switches_lets_others_go_first_and_one_that_gave_up_rests() -> None:
    me, free = lease(), Holder("", 3, 0, "")
    me.reluctant = True
    assert me.judge(FREE, 0.0) is Todo.TAKE, "the first of all need not wait for switches"
    assert me.judge(free, 10.0) is Todo.WAIT
    assert me.judge(free, 10.0 + SECONDS) is Todo.TAKE
    me.reluctant, me.resting_until = False, 20.0
    assert me.judge(free, 19.9) is Todo.WAIT
    assert me.judge(free, 20.0) is Todo.TAKE
