"""The oracle: the priorities of tags, where endpoints keep them."""

from __future__ import annotations

import pytest

from libnetvirt.model import VirtualNetwork
from libnetvirt.semantics import DropReason, LearnedState, forward
from tests.unit.semantics.test_bridge import ALL, A, frame

VOICE = VirtualNetwork.model_validate(
    {
        "uuid": 1,
        "endpoints": [
            {"uuid": 1, "switch": 1, "port": 1, "vlan": 10, "pcp": {"map": "7:2,5:0,1:1"}},
            {"uuid": 2, "switch": 2, "port": 1, "pcp": {"default": 3, "map": "0:6"}},
            {"uuid": 3, "switch": 3, "port": 1, "vlan": 30},
            {"uuid": 4, "switch": 4, "port": 1},
            {"uuid": 5, "switch": 5, "port": 1, "vlan": 50, "pcp": {}},
        ],
    }
)


@pytest.mark.parametrize(
    ("switch", "vlans", "priority"),
    [
        ("1", (10,), 0),
        ("1", (10 | 6 << 13,), 6),
        ("1", (10 | 7 << 13,), 2),
        ("1", (10 | 5 << 13,), 0),
        ("1", (10 | 1 << 13,), 1),
        ("1", (10 | 0xD000,), 6),  # drop-eligible: the bit is not kept
        ("2", (), 3),
        ("2", (0,), 6),
        ("2", (4 << 13,), 4),
        ("3", (30 | 7 << 13,), 0),
        ("4", (), 0),
        ("4", (7 << 13,), 0),
        ("5", (50 | 4 << 13,), 4),
    ],
)
def test_a_frame_leaves_with_the_priority_that_its_endpoint_gave_it(
    switch: str, vlans: tuple[int, ...], priority: int
) -> None:
    for tpid in (0x8100, 0x88A8):
        outcome = forward((VOICE,), LearnedState(), switch, "1", frame(ALL, A, *vlans, tpid=tpid))
        wanted = {
            "1": frame(ALL, A, 10 | priority << 13),
            "2": frame(ALL, A),
            "3": frame(ALL, A, 30),
            "4": frame(ALL, A),
            "5": frame(ALL, A, 50 | priority << 13),
        }
        del wanted[switch]
        assert {(s, out) for s, _, out in outcome.outputs} == set(wanted.items())


def test_a_priority_tag_above_another_tag_is_dropped_or_the_other_is_not_seen() -> None:
    outcome = forward((VOICE,), LearnedState(), "2", "1", frame(ALL, A, 5 << 13, 20))
    assert (outcome.outputs, outcome.drop) == ((), DropReason.PRIORITY_TAG)
    assert ("5", "1", frame(ALL, A, 50 | 5 << 13, 20)) in outcome.tolerated
