"""The oracle in networks that keep their customers' tags."""

from __future__ import annotations

from typing import Any

import pytest

from libnetvirt.model import VirtualNetwork
from libnetvirt.semantics import DropReason, LearnedState, Outcome, forward
from tests.unit.semantics.test_bridge import ALL, A, B, frame


def _network(*kinds: dict[str, Any]) -> VirtualNetwork:
    """Endpoints 1, 2, … each at port 1 of a switch of its own."""
    ends = [{"uuid": n, "switch": n, "port": 1, **kind} for n, kind in enumerate(kinds, 1)]
    return VirtualNetwork.model_validate({"uuid": 7, "endpoints": ends})


def _sent(network: VirtualNetwork, raw: bytes, learned: LearnedState | None = None) -> Outcome:
    return forward([network], learned or LearnedState(), "1", "1", raw)


@pytest.mark.parametrize("tpid", [0x8100, 0x88A8])
@pytest.mark.parametrize("vlans", [(), (20,), (0xF014,), (0,), (0, 5), (5, 6, 7), (4095,)])
def test_a_whole_port_carries_every_frame_as_it_is(vlans: tuple[int, ...], tpid: int) -> None:
    network = _network({"vlan": "any"}, {"vlan": "any"}, {"vlan": "any"})
    raw = frame(ALL, A, *vlans, tpid=tpid)
    outcome = _sent(network, raw)
    assert outcome.outputs == (("2", "1", raw), ("3", "1", raw))
    assert outcome.learned.network("7").hosts == {A: "1"}
    answer = frame(A, B, *vlans[:1], tpid=tpid)
    assert forward([network], outcome.learned, "2", "1", answer).outputs == (("1", "1", answer),)


@pytest.mark.parametrize("vlan", [100, 0x6000 | 199, 300])
def test_a_set_of_vlans_is_carried_as_it_is(vlan: int) -> None:
    network = _network({"vlan": "100-199,300"}, {"vlan": "100-199,300"})
    for raw in (frame(ALL, A, vlan), frame(ALL, A, vlan, 7), frame(ALL, A, vlan, 7, 8, tpid=0x88A8)):
        assert _sent(network, raw).outputs == (("2", "1", raw),)


@pytest.mark.parametrize(
    ("vlans", "drop"),
    [
        ((), DropReason.NO_ENDPOINT),
        ((99,), DropReason.NO_ENDPOINT),
        ((200, 150), DropReason.NO_ENDPOINT),
        ((0, 150), DropReason.PRIORITY_TAG),
    ],
)
def test_a_set_of_vlans_carries_nothing_else(vlans: tuple[int, ...], drop: DropReason) -> None:
    network = _network({"vlan": "100-199,300"}, {"vlan": "100-199,300"})
    outcome = _sent(network, frame(ALL, A, *vlans))
    assert (outcome.outputs, outcome.drop, outcome.learned) == ((), drop, LearnedState())


def test_above_tags_that_are_kept_the_vlan_is_that_of_the_endpoint_and_nothing_else_changes() -> None:
    network = _network({"vlan": 20, "inner-vlan": "any"}, {"vlan": 30, "inner-vlan": "any"})
    for tpid in (0x8100, 0x88A8):
        for below in ((), (5,), (20,), (5, 6, 7)):
            outcome = _sent(network, frame(ALL, A, 0xA000 | 20, *below, tpid=tpid))
            assert outcome.outputs == (("2", "1", frame(ALL, A, 0xA000 | 30, *below, tpid=tpid)),)
    for vlans in ((), (30, 20), (0, 20)):
        assert _sent(network, frame(ALL, A, *vlans)).outputs == ()


def test_sets_of_one_port_are_told_apart() -> None:
    ends = [{"uuid": n, "switch": 1, "port": n, "vlan": "1-9"} for n in (1, 2)]
    one = VirtualNetwork.model_validate({"uuid": 1, "endpoints": ends})
    two = one.changed(uuid=2, name="two", endpoints=[e.changed(vlan="10-19") for e in one.endpoints])
    for vlan, owner in ((9, "1"), (10, "2"), (20, None)):
        assert forward([one, two], LearnedState(), "1", "1", frame(ALL, A, vlan)).network == owner
