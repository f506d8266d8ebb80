"""Discovery: which frames make a link, and when a link is lost."""

from __future__ import annotations

from collections.abc import Callable, Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libnetvirt.controller.intent.switches import parse_switch
from libnetvirt.controller.topology.discovery import ONLY_STORED, Discovery, Forged, Shared
from libnetvirt.controller.topology.link_ports import LinkPorts
from libnetvirt.controller.topology.link_state import LinkState
from libnetvirt.controller.topology.pathfinder import Edge, LinkEnd
from tests.support.controller_rig import Rig, discovery, line

A, B = (1, 5), (2, 6)


def _dead(*_: object) -> tuple[LinkState, str]:
    return LinkState.DOWN, ""


def _unseen(*_: object) -> tuple[LinkState, str]:
    return LinkState.UNCONFIRMED, "switch 2 does not answer"


def _both(found: Discovery, now: float = 100.0) -> None:
    assert found.receive(*B, found.frame(*A, 0, now), now)
    assert found.receive(*A, found.frame(*B, 0, now), now)


def test_a_link_is_used_once_frames_arrived_in_both_directions() -> None:
    found = discovery()
    assert found.receive(*B, found.frame(*A, 0, 100.0), 100.0)
    assert not list(found.edges())
    assert not found.is_link(*A)
    assert found.receive(*A, found.frame(*B, 0, 100.0), 100.1)
    assert set(found.edges()) == {Edge(*A, *B), Edge(*B, *A)}
    assert found.is_link(*A)
    assert found.is_link(*B)
    assert not found.receive(*B, found.frame(*A, 0, 101.0), 101.0)


def test_two_one_way_observations_make_no_link() -> None:
    found = discovery()
    found.receive(*B, found.frame(*A, 0, 1.0), 1.0)
    found.receive(3, 3, found.frame(*B, 0, 1.0), 1.0)
    assert not list(found.edges())


@pytest.mark.parametrize("start", [1, 2, 3, 4])
def test_switches_are_linked_by_what_was_seen_in_one_direction_only(start: int) -> None:
    found = discovery()
    # 1 -> 2 <- 3 -> 4, and 8 -> 9 apart from them; the ports are numbered like other switches.
    for sender, receiver in (((1, 9), (2, 8)), ((3, 8), (2, 9)), ((3, 9), (4, 8)), ((8, 1), (9, 2))):
        found.receive(*receiver, found.frame(*sender, 0, 1.0), 1.0)
    assert found.linked([start]) == {1, 2, 3, 4}
    assert found.linked([9]) == {8, 9}
    assert found.linked([start, 8]) == {1, 2, 3, 4, 8, 9}
    assert found.linked([7]) == {7}
    assert found.linked([]) == set()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda f: f[:-20] + bytes([f[-20] ^ 1]) + f[-19:],
        lambda f: f[:40],
        lambda f: f[:-3],
        lambda f: f[:14],
        lambda f: f[:0],
        lambda f: Discovery(b"another", 2.0).frame(*A, 0, 100.0) + f[:0],
    ],
    ids=["signature", "cut short", "cut in the signature", "empty", "nothing", "another controller"],
)
def test_a_foreign_frame_changes_nothing_and_is_counted(spoil: Callable[[bytes], bytes]) -> None:
    found = discovery()
    with pytest.raises(Forged):
        found.receive(*B, spoil(found.frame(*A, 0, 100.0)), 100.0)
    assert not found.link_ends()


@pytest.mark.parametrize("changed", range(60))
def test_no_signed_byte_can_be_changed(changed: int) -> None:
    found = discovery()
    sent = found.frame(*A, 0, 100.0)
    start = sent.index(b"\x02\x4e\x56\x01")
    at = start + changed
    if at >= len(sent) - 2:
        return
    with pytest.raises(Forged):
        found.receive(*B, sent[:at] + bytes([sent[at] ^ 0x40]) + sent[at + 1 :], 100.0)


@pytest.mark.parametrize(("sent", "now"), [(100.0, 106.1), (100.0, 99.9), (100.0, 5000.0)])
def test_replays_and_frames_from_the_future_are_refused(sent: float, now: float) -> None:
    found = discovery()
    with pytest.raises(Forged, match="replay"):
        found.receive(*B, found.frame(*A, 0, sent), now)


def test_a_frame_looped_back_to_its_port_makes_no_link() -> None:
    found = discovery()
    with pytest.raises(Forged, match="looped"):
        found.receive(*A, found.frame(*A, 0, 100.0), 100.0)
    assert not found.link_ends()


def test_trailing_padding_does_not_matter() -> None:
    found = discovery()
    assert found.receive(*B, found.frame(*A, 0, 100.0).ljust(200, b"\0"), 100.0)


def test_links_of_a_failed_port_are_removed() -> None:
    found = discovery()
    _both(found)
    assert found.remove_port(*B)
    assert not found.link_ends()
    assert not found.remove_port(*B)


def test_a_link_is_lost_after_three_intervals_of_silence_in_one_direction() -> None:
    found = discovery()
    _both(found, 100.0)
    for now in (102.0, 104.0, 106.0):
        found.receive(*B, found.frame(*A, 0, now), now)
        assert not found.expire(now, _dead)
    assert found.expire(108.0, _dead)
    assert not list(found.edges())


def test_an_unconfirmed_link_is_used_until_frames_pass_or_it_is_lost() -> None:
    found = discovery()
    _both(found, 100.0)
    assert not found.expire(106.0, _unseen)
    assert not found.unconfirmed()
    for now in (106.1, 200.0):
        assert not found.expire(now, _unseen)
        assert len(list(found.edges())) == 2
        assert found.unconfirmed() == dict.fromkeys((A, B), "switch 2 does not answer")
    # One direction is not enough to trust it.
    assert found.receive(*B, found.frame(*A, 0, 200.0), 200.0)
    assert set(found.unconfirmed()) == {A, B}
    assert found.receive(*A, found.frame(*B, 0, 200.0), 200.0)
    assert not found.unconfirmed()
    for now in (202.0, 204.0, 206.0):
        assert not found.expire(now, _unseen)
    assert found.expire(208.0, _dead)
    assert not found.unconfirmed()
    assert not list(found.edges())


def test_a_port_that_goes_down_takes_an_unconfirmed_link_along() -> None:
    found = discovery()
    _both(found, 100.0)
    found.expire(107.0, _unseen)
    assert found.remove_port(*A)
    assert not found.unconfirmed()
    assert not list(found.edges())


def test_a_cable_that_is_moved_behind_the_controllers_back_replaces_an_unconfirmed_link() -> None:
    found = discovery()
    _both(found, 100.0)
    with pytest.raises(Forged, match="has a link to another port"):
        found.receive(3, 9, found.frame(*A, 0, 101.0), 101.0)
    found.expire(107.0, _unseen)
    assert found.receive(3, 9, found.frame(*A, 0, 107.0), 107.0)
    assert found.receive(*A, found.frame(3, 9, 0, 107.0), 107.0)
    assert set(found.edges()) == {Edge(*A, 3, 9), Edge(3, 9, *A)}
    # What is left of the old link is no link, and is not kept for ever.
    assert not found.unconfirmed()
    found.receive(3, 9, found.frame(*A, 0, 108.0), 108.0)
    found.receive(*A, found.frame(3, 9, 0, 108.0), 108.0)
    assert found.expire(109.0, _unseen)
    assert set(found.link_ends()) == {A, (3, 9)}


def test_paths_avoid_the_links_of_a_switch_until_frames_pass() -> None:
    found = discovery()
    _both(found, 100.0)
    assert not found.avoid({3})
    assert found.avoid({2})
    assert found.is_avoided(A)
    assert found.is_avoided(B)
    assert found.receive(*B, found.frame(*A, 0, 101.0), 101.0)
    assert not found.is_avoided(A)
    assert found.is_avoided(B)
    assert not found.receive(*B, found.frame(*A, 0, 102.0), 102.0)


def test_a_stored_link_is_used_until_it_times_out() -> None:
    found = discovery()
    found.assume(A, B, 100.0)
    found.assume(B, A, 100.0)
    assert len(list(found.edges())) == 2
    assert found.unconfirmed() == dict.fromkeys((A, B), ONLY_STORED)
    assert not found.expire(106.0, _dead)
    assert found.expire(106.5, _dead)


def test_a_suspended_controller_keeps_its_links() -> None:
    found = discovery()
    _both(found, 100.0)
    assert not found.expire(102.0, _dead)
    assert not found.expire(500.0, _dead)  # it slept
    assert not found.expire(502.0, _dead)
    assert found.expire(508.0, _dead)


def test_a_moved_cable_is_a_new_link_when_the_old_one_times_out() -> None:
    found = discovery()
    _both(found)
    with pytest.raises(Forged, match="port 5 of switch 1 has a link to another port"):
        found.receive(3, 9, found.frame(*A, 0, 101.0), 101.0)
    assert len(list(found.edges())) == 2
    assert [found.expire(now, _dead) for now in (102.0, 104.0, 106.0, 108.0)] == [False] * 3 + [True]
    assert found.receive(3, 9, found.frame(*A, 0, 108.0), 108.0)


def test_a_cable_moved_while_the_controller_was_down_invalidates_the_stored_link() -> None:
    found = discovery()
    found.assume(A, B, 100.0)
    found.assume(B, A, 100.0)
    assert found.receive(3, 9, found.frame(*A, 0, 101.0), 101.0)
    assert not list(found.edges())


def test_a_discovery_frame_is_accepted_once() -> None:
    found = discovery()
    sent = found.frame(*A, 0, 100.0)
    assert found.receive(*B, sent, 100.1)
    with pytest.raises(Forged, match="a copy or a replay"):
        found.receive(*B, sent, 100.2)
    assert found.link_ends() == [A, B]


def test_a_discovery_frame_is_valid_only_while_its_port_is_up() -> None:
    found = discovery()
    sent = found.frame(*A, 0, 100.0)
    found.remove_port(*A)
    with pytest.raises(Forged, match="its port was down"):
        found.receive(*B, sent, 100.1)
    assert found.receive(*B, found.frame(*A, 0, 100.2), 100.3)


def test_a_port_belongs_to_one_link() -> None:
    found = discovery()
    _both(found)
    with pytest.raises(Forged, match="port 6 of switch 2 has a link"):
        found.receive(*B, found.frame(3, 9, 0, 101.0), 101.0)
    assert not found.receive(*B, found.frame(*A, 0, 101.0), 101.0)
    assert set(found.edges()) == {Edge(*A, *B), Edge(*B, *A)}


def test_discovery_frames_are_answered_once_per_interval() -> None:
    found = discovery()
    assert found.may_answer(*A, 100.0)
    assert not found.may_answer(*A, 101.9)
    assert found.may_answer(*A, 102.0)
    found.remove_port(*A)
    assert found.may_answer(*A, 102.1)


def test_counters_of_ignored_frames_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("libnetvirt.controller.topology.discovery.IGNORED_LIMIT", 2)
    found = discovery()
    for port in (1, 2, 3, 4, 1):
        found.ignore(7, port)
    assert found.ignored == {(7, 1): 2, (7, 2): 1, (7, 0): 2}
    assert found.forged == 5
    assert [found.ignore_foreign(7, port) for port in (1, 2, 3, 4, 1)] == [True, True, True, False, False]
    assert found.foreign == {(7, 1): 2, (7, 2): 1, (7, 0): 2}
    found.remove_switch(7)
    assert not found.ignored
    assert not found.foreign


@pytest.mark.parametrize(
    ("text", "may", "may_not"),
    [
        ("", [(1, 1, "eth1"), (9, 9, "")], []),
        ("101,102", [(1, 101, "a"), (2, 102, "b")], [(1, 1, "a"), (1, 1011, "a")]),
        ("eth*, 2/7", [(1, 3, "eth3"), (2, 7, "veth")], [(1, 7, "veth"), (2, 8, "veth")]),
        ("00:00:00:00:00:00:00:02/10?,*/up", [(2, 101, ""), (3, 1, "up")], [(3, 101, ""), (2, 10, "")]),
    ],
)
def test_link_ports_are_chosen_by_switch_number_and_name(
    text: str, may: list[tuple[int, int, str]], may_not: list[tuple[int, int, str]]
) -> None:
    chosen = LinkPorts.parse(text, parse_switch)
    assert all(chosen.allow(*place) for place in may)
    assert not any(chosen.allow(*place) for place in may_not)


def test_a_discovery_frame_identifies_its_sender() -> None:
    found = discovery()
    sent = found.frame(1, 5, 0x0A_0000_0000_01, 100.0)
    assert sent[:6] == bytes.fromhex("0180c200000e")
    assert sent[6:12] == bytes.fromhex("0a0000000001")
    assert sent[12:14] == b"\x88\xcc"
    assert not found.frame(1, 5, 0, 100.0)[6] & 1
    assert b"dpid:0000000000000001" in sent


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_a_link_or_a_forgery(junk: bytes, head: bool) -> None:
    found = discovery()
    sent = found.frame(*A, 0, 100.0)[:14] + junk if head else junk
    with pytest.raises(Forged):
        found.receive(*B, sent, 100.0)


def test_links_are_discovered_between_switches() -> None:
    rig = Rig()
    line(rig, 3)
    assert len(rig.state.paths.edges) == 4
    for _ in range(10):
        rig.tick()
    assert len(rig.state.paths.edges) == 4
    rig.fabric.links.clear()  # silence
    for _ in range(4):
        rig.tick()
    assert not rig.state.paths.edges


# ---- segments that several ports share ---------------------------------------------------------

C, D = (3, 7), (4, 8)


def _hub(found: Discovery, now: float, *ports: tuple[int, int]) -> list[Collection[LinkEnd]]:
    """Each port sends a frame, which all others receive. Returns the segments that are reported as new."""
    new: list[Collection[LinkEnd]] = []
    for source in ports:
        sent = found.frame(*source, 0, now)
        for here in ports:
            if here != source:
                try:
                    found.receive(*here, sent, now + 0.01)
                except Shared as shared:
                    new += [shared.ends] * shared.new
                except Forged:
                    pass
    found.expire(now, _dead)
    return new


def test_a_segment_of_three_ports_makes_no_link_and_is_reported_once() -> None:
    found = discovery()
    new = _hub(found, 100.0, A, B, C)
    assert not list(found.edges())
    assert found.segments.shared() == [{A, B, C}]
    assert new == [{A, B, C}]
    for now in (102.0, 104.0, 106.0, 108.0):
        assert not _hub(found, now, A, B, C)
        assert not list(found.edges())


def test_when_one_of_three_is_unplugged_the_others_have_a_link() -> None:
    found = discovery()
    _hub(found, 100.0, A, B, C)
    found.remove_port(*C)
    for now in (102.0, 104.0, 106.0, 108.0, 110.0):
        _hub(found, now, A, B)
    assert {edge.ends for edge in found.edges()} == {(*A, *B), (*B, *A)}
    assert found.segments.shared() == []
    # Also without being told so.
    found = discovery()
    _hub(found, 100.0, A, B, C)
    for now in (102.0, 104.0, 106.0, 108.0, 110.0):
        _hub(found, now, A, B)
    assert {edge.ends for edge in found.edges()} == {(*A, *B), (*B, *A)}


def test_a_link_that_was_there_before_is_kept_and_others_make_none() -> None:
    found = discovery()
    for now in (100.0, 102.0, 104.0, 106.0):
        _hub(found, now, A, B)
    for now in (108.0, 110.0, 112.0, 114.0, 116.0):
        _hub(found, now, C, A, D, B)
        assert {edge.ends for edge in found.edges()} == {(*A, *B), (*B, *A)}
    assert found.segments.shared() == [{A, B, C, D}]


def test_a_link_that_was_found_just_before_is_given_up() -> None:
    found = discovery()
    _hub(found, 100.0, A, B)
    assert len(list(found.edges())) == 2
    _hub(found, 102.0, A, B, C)
    assert not list(found.edges())


# ---- static links ------------------------------------------------------------------------------


def test_a_static_link_needs_no_frames_and_is_lost_with_its_declaration_or_its_port() -> None:
    found = discovery()
    assert found.declare([(A, B)], 100.0)
    assert not found.declare([(A, B)], 101.0)
    assert {edge.ends for edge in found.edges()} == {(*A, *B), (*B, *A)}
    assert not found.expire(200.0, _dead)
    assert found.static() == {A, B}
    assert found.remove_port(*A)
    assert not list(found.edges())
    assert found.declare([(A, B)], 201.0)
    assert found.declare([], 202.0)
    assert not list(found.edges())


def test_a_static_link_is_unconfirmed_while_a_switch_is_silent_and_until_a_probe_passes() -> None:
    found = discovery()
    found.declare([(A, B)], 100.0)
    assert found.avoid([2])
    found.expire(110.0, _unseen)
    assert found.unconfirmed() == dict.fromkeys((A, B), "switch 2 does not answer")
    assert found.passed(A, 111.0)
    assert found.passed(B, 111.0)
    assert not found.passed(B, 112.0)
    assert found.unconfirmed() == {}
    assert not found.is_avoided(A)


def test_no_other_link_comes_to_a_static_one() -> None:
    found = discovery()
    _both(found)
    found.declare([(A, C)], 101.0)
    assert {edge.ends for edge in found.edges()} == {(*A, *C), (*C, *A)}
    with pytest.raises(Forged, match="port 5 of switch 1 has a static link to another port"):
        found.receive(*B, found.frame(*A, 0, 102.0), 102.0)
