"""How far frames of a tunnel get without a look at what is in it."""

from __future__ import annotations

import pytest

from libnetvirt import openflow as of
from libnetvirt.verification.forwarding import End, Looped
from libnetvirt.verification.frame import VLAN_PRESENT, Frame, Shape, Tag
from libnetvirt.verification.tables import Switch
from libnetvirt.verification.tunnels import Tunnels

VLAN = VLAN_PRESENT | 7
NEXT = of.FlowStatsEntry(table_id=0, priority=9, match=of.Match(in_port=1), instructions=(of.GotoTable(1),))
OUT = of.ApplyActions((of.Output(2),))


def passes(*instructions: of.Instruction) -> of.FlowStatsEntry:
    """The rule of a tunnel."""
    return of.FlowStatsEntry(table_id=1, priority=5, match=of.Match(vlan_vid=VLAN), instructions=instructions)


def end(*flows: of.FlowStatsEntry, up: bool = True, links: dict[End, End | None] | None = None) -> End:
    """Where a frame with a tag of a tunnel gets that enters switch a, whose port 2 leads to switch b."""
    switches = {
        name: Switch(name, held, (), (), {1: True, 2: up}) for name, held in (("a", flows), ("b", ()))
    }
    frame = Frame.entering(Shape(0, 0), 0)
    frame.tags = [Tag(0x88A8, VLAN, 0)]
    return Tunnels(switches, {("a", 2): ("b", 1)} if links is None else links).end(("a", 1), frame)


def test_a_switch_that_only_sends_a_tunnel_on_is_passed() -> None:
    assert end(NEXT, passes(OUT)) == ("b", 1)
    other = of.FlowStatsEntry(table_id=1, priority=9, match=of.Match(vlan_vid=VLAN ^ 1, eth_dst=1))
    assert end(NEXT, passes(OUT), other) == ("b", 1)


def test_a_switch_that_does_more_is_not_passed() -> None:
    assert end(NEXT, passes(of.Meter(1), OUT)) == ("a", 1)
    assert end(NEXT, passes(OUT, of.GotoTable(2))) == ("a", 1)
    assert end(NEXT, passes(of.ApplyActions((of.SetField("vlan_vid", VLAN_PRESENT | 8), of.Output(2))))) == (
        "a", 1,
    )  # fmt: skip
    assert end(NEXT, passes(of.ApplyActions((of.Output(2), of.Output(1))))) == ("a", 1)
    assert end(NEXT, passes(of.ApplyActions((of.Output(1),)))) == ("a", 1)
    assert end(NEXT, passes(of.ApplyActions((of.Output(of.Port.CONTROLLER),)))) == ("a", 1)


def test_a_rule_that_looks_further_into_the_frame_counts() -> None:
    for priority in (5, 6):
        match = of.Match(eth_dst=1)
        inside = of.FlowStatsEntry(table_id=1, priority=priority, match=match, instructions=(OUT,))
        assert end(NEXT, passes(OUT), inside) == ("a", 1)
    below = of.FlowStatsEntry(table_id=1, priority=4, match=of.Match(eth_dst=1))
    assert end(NEXT, passes(OUT), below) == ("b", 1)


def test_a_port_or_link_that_is_down_ends_it() -> None:
    assert end(NEXT, passes(OUT), up=False) == ("a", 1)
    assert end(NEXT, passes(OUT), links={("a", 2): None}) == ("a", 1)
    assert end(NEXT, passes(OUT), links={}) == ("a", 1)


def test_a_tunnel_that_comes_back_is_a_loop() -> None:
    with pytest.raises(Looped):
        end(NEXT, passes(OUT), links={("a", 2): ("a", 1)})
