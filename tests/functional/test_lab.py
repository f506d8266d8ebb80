"""The lab of Open vSwitch bridges itself: frames, links, restarts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.lab import Arrival, Lab

pytestmark = pytest.mark.root

PLAIN = bytes.fromhex("ffffffffffff020000000001") + b"\x08\x00" + b"x" * 50
TAGS = {
    "untagged": b"",
    "vlan": b"\x81\x00\x00\x05",
    "priority tag": b"\x81\x00\xe0\x00",
    "802.1ad": b"\x88\xa8\x00\x07",
    "802.1ad and vlan": b"\x88\xa8\x00\x07\x81\x00\x00\x05",
    "two vlans": b"\x81\x00\x00\x07\x81\x00\x00\x05",
}


@pytest.fixture(scope="module")
def lab(private_namespace: None) -> Iterator[Lab]:  # noqa: ARG001
    with Lab(2, [(1, 2)], {1: 2, 2: 1}) as lab:
        for switch in lab.switches:
            lab.ofctl("add-flow", switch, "in_port=1,actions=output:101")
            lab.ofctl("add-flow", switch, "in_port=101,actions=output:1")
        yield lab


@pytest.mark.parametrize("tag", TAGS)
def test_frames_arrive_unchanged(lab: Lab, tag: str) -> None:
    frame = PLAIN[:12] + TAGS[tag] + PLAIN[12:]
    lab.send(1, 1, frame)
    assert lab.receive(2) == [Arrival(2, 1, frame)]
    assert lab.receive(0.02) == []


def test_a_cut_link_carries_nothing_until_it_is_restored(lab: Lab) -> None:
    lab.cut_link(1, 2)
    assert "LINK_DOWN" in lab.ofctl("show", 2)
    lab.send(1, 1, PLAIN)
    assert lab.receive(0.05) == []
    lab.restore_link(1, 2)
    lab.send(1, 1, PLAIN)
    assert len(lab.receive(2)) == 1


def test_port_numbers_and_datapath_ids_are_the_requested_ones(lab: Lab) -> None:
    shown = lab.ofctl("show", 1)
    assert "dpid:0000000000000001" in shown
    assert all(f" {port}({lab.interface(1, port)})" in shown for port in (1, 2, 101))


def test_a_restart_loses_the_rules_of_that_switch_only(lab: Lab) -> None:
    lab.ofctl("add-flow", 1, "table=3,actions=drop")
    before = lab.dump(1), lab.dump(2)
    lab.restart_switch(2)
    assert (lab.dump(1), lab.dump(2)) == (before[0], [])
    lab.ofctl("add-flow", 2, "in_port=101,actions=output:1")
