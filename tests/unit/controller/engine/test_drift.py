"""Which networks drift concerns, and what is no drift."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import EntryKey, Flow, Group, SwitchEntry
from libnetvirt.controller.dataplane.pipeline import Kind, Table
from libnetvirt.controller.dataplane.readback import Difference
from libnetvirt.controller.engine.controller import Options
from libnetvirt.model import Encapsulation
from tests.support.controller_rig import VLAN, Rig, endpoint, frame, mac, network
from tests.unit.controller.dataplane.test_readback import read


@pytest.fixture
def rig() -> Rig:
    """Networks 1 on switches 1 and 3, 2 on switches 1 and 2, 3 on switch 1 alone; all paths lead over 2."""
    rig = Rig(Options(VLAN))
    for dpid in (1, 2, 3):
        rig.switch(dpid)
    rig.link((1, 1), (2, 1))
    rig.link((2, 2), (3, 1))
    rig.change(None, network(1, endpoint(11, 1, 3), endpoint(12, 3, 3)))
    rig.change(None, network(2, endpoint(21, 1, 4), endpoint(22, 2, 4)))
    rig.change(None, network(3, endpoint(31, 1, 3, 30), endpoint(32, 1, 4, 30)))
    return rig


def held(rig: Rig, dpid: int) -> dict[EntryKey, SwitchEntry]:
    return {e.key: e for e in rig.fabric.switches[dpid].dump().entries()}


def networks(rig: Rig, dpid: int, entries: Iterable[SwitchEntry]) -> set[str]:
    """The networks that a switch's drift concerns if it holds these entries."""
    found = rig.core.drift.differences(dpid, read(tuple(entries)))
    drifts, new = rig.core.drift.record(dpid, found)
    assert drifts == new
    return {uuid for drift in drifts for uuid in drift.networks}


def without(rig: Rig, dpid: int, kind: Kind) -> list[SwitchEntry]:
    """What a switch holds, without its rules of one kind."""
    return [e for e in held(rig, dpid).values() if not (isinstance(e, Flow) and e.cookie & 0xFFFF == kind)]


def test_a_switch_in_order_has_no_drift(rig: Rig) -> None:
    for dpid in (1, 2, 3):
        assert networks(rig, dpid, held(rig, dpid).values()) == set()


@pytest.mark.parametrize(
    ("dpid", "kind", "concerned"),
    [
        (1, Kind.BASE, {"1", "2", "3"}),
        (2, Kind.BASE, {"2"}),
        (2, Kind.LINK, {"1", "2"}),
        (3, Kind.SERVICE, {"1"}),
        (1, Kind.ENDPOINT, {"1", "2", "3"}),
        (3, Kind.FLOOD, {"1"}),
        (3, Kind.TUNNEL, {"1"}),
    ],
)
def test_drift_concerns_the_networks_that_use_the_entry(
    rig: Rig, dpid: int, kind: Kind, concerned: set[str]
) -> None:
    assert networks(rig, dpid, without(rig, dpid, kind)) == concerned


def test_a_group_of_a_tunnel_concerns_the_networks_that_it_serves(rig: Rig) -> None:
    number = rig.space.tunnel(3).number
    group = pipeline.tunnel_group(number)
    entries = [e for e in held(rig, 1).values() if not (isinstance(e, Group) and e.group_id == group)]
    assert networks(rig, 1, entries) == {"1"}
    assert rig.state.tunnel_users[Encapsulation.VLAN].used(3)


@pytest.mark.parametrize(
    ("match", "concerned"),
    [
        (of.Match(), {"1", "2", "3"}),
        (of.Match(in_port=3, vlan_vid=0), {"1"}),
        (of.Match(in_port=4), {"2", "3"}),
        (of.Match(in_port=1), {"1", "2", "3"}),  # a link, which all networks of the switch may use
    ],
)
@pytest.mark.parametrize("cookie", [0xABC, pipeline.cookie(777, Kind.ENDPOINT)])
def test_a_surplus_rule_concerns_the_networks_whose_frames_it_takes(
    rig: Rig, cookie: int, match: of.Match, concerned: set[str]
) -> None:
    surplus = Flow(Table.CLASSIFY, 65535, match, (), cookie)
    assert networks(rig, 1, [*held(rig, 1).values(), surplus]) == concerned


def test_what_a_host_changed_meanwhile_is_left_out(rig: Rig) -> None:
    asked = rig.core.drift.expected(1)
    before = read(tuple(held(rig, 1).values()))
    rig.inject(1, 3, frame(mac(2), mac(1)))
    assert rig.core.drift.differences(1, before)
    assert rig.core.drift.differences(1, before, asked) == []


def test_a_missing_rule_that_expires_is_drift_the_second_time_or_beside_others(rig: Rig) -> None:
    rig.inject(1, 3, frame(mac(2), mac(1)))

    def differences(lost: Iterable[SwitchEntry]) -> list[Difference]:
        left = [e for e in held(rig, 1).values() if e not in lost]
        return rig.core.drift.certain(1, rig.core.drift.differences(1, read(tuple(left))))

    (expiring,) = [e for e in held(rig, 1).values() if isinstance(e, Flow) and e.idle]
    other = next(e for e in held(rig, 1).values() if isinstance(e, Flow) and not e.idle)
    assert differences([expiring]) == []
    assert [d.entry for d in differences([expiring])] == [expiring]
    rig.core.drift.clear(1)
    assert differences([expiring]) == []
    rig.core.drift.clear(1)
    assert {d.entry for d in differences([expiring, other])} == {expiring, other}


def test_entries_whose_removal_is_deferred_are_no_drift(rig: Rig) -> None:
    rig.inject(1, 4, frame(mac(2), mac(1)))
    before = rig.state.rulesdb.networks["2"].description
    after = before.changed(endpoints=(endpoint(21, 3, 4), before.endpoints[1]))
    work = rig.core.operations.begin(before, after)
    rig.execute(work)
    assert set(rig.state.installed.outlasting(1)) <= held(rig, 1).keys() - rig.state.installed.on(1).keys()
    assert rig.state.installed.outlasting(1)
    assert networks(rig, 1, held(rig, 1).values()) == set()


def test_the_switches_of_a_network_are_those_on_its_paths(rig: Rig) -> None:
    records = rig.state.rulesdb.networks
    assert rig.core.drift.switches(records["1"]) == {1, 2, 3}
    assert rig.core.drift.switches(records["2"]) == {1, 2}
    assert rig.core.drift.switches(records["3"]) == {1}
