"""ControlWatch: when a switch is silent, when it is gone, and when the controller itself is cut off."""

from __future__ import annotations

from libnetvirt import openflow as of
from libnetvirt.controller.topology.control_watch import ControlWatch
from libnetvirt.controller.topology.link_state import Control

INTERVAL, TIMEOUT, HOLD = 2.0, 6.0, 15.0


class World:
    """A watch and switches that answer unless they are mute."""

    def __init__(self, *switches: int) -> None:
        self.watch = ControlWatch(INTERVAL, TIMEOUT, HOLD)
        self.now = 100.0
        self.mute: set[int] = set()
        #: requests that were not answered, by switch
        self.held: dict[int, list[bytes]] = {}
        for dpid in switches:
            self.watch.connected(dpid, self.now)

    def round(self, seconds: float = INTERVAL) -> set[int]:
        """Time passes, and switches are asked. Returns those that paths avoid from now on."""
        self.now += seconds
        asked = list(self.watch.ask(self.now))
        found = self.watch.end_round((), self.now)
        for dpid, message in asked:
            assert isinstance(message, of.EchoRequest)
            self.held.setdefault(dpid, []).append(message.body)
        for dpid in self.held.keys() - self.mute:
            self.answer(dpid)
        return found

    def answer(self, dpid: int) -> None:
        """A switch answers what it was asked so far."""
        for body in self.held.pop(dpid, []):
            self.watch.echoed(dpid, body, self.now + 0.01)

    def of(self, dpid: int, since: float | None = None) -> Control:
        return self.watch.of(dpid, self.now, since)


def test_a_switch_is_silent_after_the_link_time_out_and_answers_again() -> None:
    world = World(1, 2)
    for _ in range(5):
        assert world.round() == set()
    world.mute.add(2)
    assert [world.round() for _ in range(5)] == [set(), set(), {2}, set(), set()]
    assert world.of(2) is Control.SILENT
    assert world.watch.avoided == {2}
    assert world.watch.silent() == [2]
    assert not world.watch.is_reachable(2)
    assert world.watch.is_connected(2)
    world.mute.clear()
    world.round()
    assert world.of(2) is Control.ANSWERS
    assert not world.watch.avoided
    assert world.watch.is_reachable(2)


def test_a_late_answer_is_no_answer_to_what_was_asked_since() -> None:
    world = World(1, 2)
    world.round()
    world.mute.add(2)
    world.round()
    early = world.held[2][0]
    for _ in range(6):
        world.round()
    world.watch.echoed(2, early, world.now)
    assert world.of(2) is Control.SILENT
    assert world.watch.avoided == {2}


def test_a_switch_that_returns_answers_for_the_time_out_before_its_links_can_be_dead() -> None:
    world = World(1, 2)
    stopped = world.now
    for _ in range(3):
        world.round()
    assert world.of(2, stopped) is Control.ANSWERS
    world.watch.disconnected(2, world.now)
    assert world.of(2, stopped) is Control.AWAY
    assert not world.watch.is_unconfirmed(2, world.now)
    for _ in range(3):
        world.round()
    assert world.watch.is_unconfirmed(2, world.now)
    world.watch.connected(2, world.now)
    assert world.of(2, stopped) is Control.RETURNED
    for _ in range(2):
        world.round()
    assert world.of(2, stopped) is Control.RETURNED
    world.round()
    assert world.of(2, stopped) is Control.ANSWERS


def test_frames_that_stop_together_with_the_answers_are_no_proof() -> None:
    """The switch has not been silent for long enough to be called so, but has answered nothing since."""
    world = World(1, 2)
    world.round()
    stopped = world.now
    world.mute.add(2)
    world.round()
    world.round()
    assert world.of(2) is Control.ANSWERS
    assert world.of(2, stopped) is Control.SILENT
    assert world.of(1, stopped) is Control.ANSWERS


def test_a_switch_that_is_disconnected_is_gone_after_hold() -> None:
    world = World(1, 2)
    world.round()
    world.watch.disconnected(2, world.now)
    found = [world.round() for _ in range(9)]
    assert found == [set()] * 7 + [{2}, set()]
    assert world.of(2) is Control.GONE
    world.watch.connected(2, world.now)
    assert not world.watch.avoided
    world.watch.disconnected(2, world.now)
    world.watch.remove_switch(2)
    assert all(not world.round() for _ in range(9))


def test_a_switch_that_was_silent_is_avoided_while_it_is_away() -> None:
    world = World(1, 2)
    world.mute.add(2)
    for _ in range(5):
        world.round()
    world.watch.disconnected(2, world.now)
    assert world.of(2) is Control.AWAY
    assert world.round() == set()
    assert world.watch.avoided == {2}


def test_nobody_is_avoided_while_nobody_answers_and_all_have_hold_to_return() -> None:
    world = World(1, 2, 3)
    for _ in range(3):
        world.round()
    world.mute |= {1, 2, 3}
    # One answer arrives just before the controller is cut off, two do not.
    world.round()
    world.answer(1)
    for _ in range(5):
        assert world.round() == set()
    assert world.watch.cut_off
    for dpid in (1, 2, 3):
        world.watch.disconnected(dpid, world.now)
    world.held.clear()
    for _ in range(30):
        assert world.round() == set()
    assert world.of(2) is Control.AWAY
    world.mute.clear()
    world.watch.connected(3, world.now)
    assert [world.round() for _ in range(9)] == [set()] * 8 + [{1, 2}]
    assert not world.watch.cut_off


def test_a_controller_that_was_stopped_takes_nobody_for_silent() -> None:
    world = World(1, 2)
    world.round()
    assert world.round(500.0) == set()
    assert world.watch.silent() == []
    assert world.round() == set()


def test_answers_that_were_not_asked_for_change_nothing() -> None:
    world = World(1)
    world.mute.add(1)
    world.round()
    (body,) = world.held[1]
    for forged in (
        b"",
        b"control",
        body[:-1],
        body + b"\0",
        body[:8] + b"\xff" * 16,
        body[:16] + b"\x7f\xff" * 4,
    ):
        world.watch.echoed(1, forged, world.now)
    world.watch.echoed(7, body, world.now)
    for _ in range(4):
        world.round()
    assert world.watch.silent() == [1]


def test_stored_links_have_switches_that_may_never_connect() -> None:
    world = World(1)
    world.watch.start(world.now)
    found: list[set[int]] = []
    for _ in range(9):
        world.now += INTERVAL
        list(world.watch.ask(world.now))
        found.append(world.watch.end_round({1, 5}, world.now))
        world.watch.connected(1, world.now)
    assert found == [set()] * 7 + [{5}, set()]
