"""Networks are described again from the rules of their switches."""

from __future__ import annotations

from typing import Any

import pytest

from libnetvirt import openflow as of
from libnetvirt.controller.intent.ownership import Marker, installation_number
from libnetvirt.controller.reports.recovery import recovered
from libnetvirt.drivers.openflow.capabilities import COMBINATIONS
from libnetvirt.model import Insertion, Recovered, Rules, VirtualNetwork
from tests.support.controller_rig import Rig, endpoint, frame, line, mac, network

ONE, TWO = installation_number(1), installation_number(2)


def _seen(rig: Rig, **markers: int) -> Recovered:
    """What is recovered from the switches; ``markers``: the installation of each, by ``s1`` …"""
    flows = {}
    for dpid, switch in rig.fabric.switches.items():
        marker = Marker(markers.get(f"s{dpid}", ONE), 1).entry()
        flows[dpid] = [
            *switch.dump().flows,
            of.FlowStatsEntry(
                table_id=marker.table,
                cookie=marker.cookie,
                match=marker.match,
                instructions=marker.instructions,
            ),
        ]
    return recovered(flows)


def _shape(described: VirtualNetwork) -> Any:
    """A network without what is not in its rules."""
    return described.forwarding, [
        (e.switch, e.port, e.vlan, e.mpls, sorted(e.mac), sorted(map(str, e.address)))
        for e in sorted(described.endpoints, key=lambda e: (e.switch, e.port, e.mpls or 0, e.vlan or 0))
    ]


@pytest.mark.parametrize("combination", COMBINATIONS, ids=str)
def test_endpoints_tags_hosts_and_rules_are_in_the_rules(combination: Any) -> None:
    rig = Rig()
    line(rig, 3)
    rules = Rules.model_validate(
        {**combination.model_dump(), "duration": None if combination.timeout == "permanent" else "20 s"}
    )
    ends = (
        endpoint(11, 1, 3, 20, 5), endpoint(12, 3, 3), endpoint(13, 3, 4).changed(mpls=77),
        endpoint(14, 3, 4, 4094, 6, 7),
    )  # fmt: skip
    one = network(1, *ends, rules=rules)
    other = network(2, endpoint(21, 2, 3))
    rig.change(None, one)
    rig.change(None, other)
    if combination.insertion is Insertion.ON_DEMAND:
        # The time-outs are those of the rules of a pair.
        rig.inject(1, 3, frame(mac(6), mac(5), vlan=20))
        rig.settle()
    found = _seen(rig)
    if combination.insertion is Insertion.ON_DEMAND:
        one = one.changed(endpoints=[e.changed(mac=()) for e in one.endpoints])
        assert any("declared hosts" in note for note in found.notes)
    assert [_shape(n) for n in found.networks] == [_shape(one), _shape(other)]
    again = found.networks[0].rules
    assert again is not None
    assert (again.encapsulation, again.insertion) == (combination.encapsulation, combination.insertion)
    if combination.insertion is Insertion.OFFLINE or again.timeout is not None:
        assert again.timeout == combination.timeout
    [note] = [n for n in found.notes if n.startswith("recovered-2")]
    assert "encapsulation cannot be told" in note
    assert "index 2 of installation 8000000000000001" in note


def test_routers_are_recovered_where_the_rules_tell_which_address_is_whose() -> None:
    rig = Rig()
    line(rig, 2)
    ends = (
        endpoint(11, 1, 3).changed(address=["10.1.0.254/16", "2001:db8:1::1/64"]),
        endpoint(12, 2, 3, 9).changed(address=["10.2.0.1/24"]),
    )
    one = network(1, *ends).changed(forwarding="L3")
    rig.change(None, one)
    found = _seen(rig)
    assert [_shape(n) for n in found.networks] == [_shape(one)]
    assert any("routes have to be described again" in note for note in found.notes)
    crowded = one.with_endpoint(endpoint(13, 2, 4).changed(address=["10.3.0.1/24"]))
    rig.change(one, crowded)
    found = _seen(rig)
    assert found.networks == ()
    assert "several endpoints on switch 2" in found.notes[0]
    assert "10.3.0.1/32" in found.notes[0]


def test_networks_of_two_installations_are_not_mixed() -> None:
    rig = Rig()
    line(rig, 2)
    rig.change(None, network(1, endpoint(11, 1, 3), endpoint(12, 2, 3)))
    found = _seen(rig, s1=ONE, s2=TWO)
    assert [[e.switch for e in n.endpoints] for n in found.networks] == [["1"], ["2"]]


def test_limits_are_said_to_be_missing() -> None:
    rig = Rig()
    rig.switch(1)
    rig.connect(1, 4)
    rig.change(None, network(1, endpoint(11, 1, 3).changed(bandwidth={"inbound": "5 Mbit/s"})))
    found = _seen(rig)
    assert len(found.networks) == 1
    assert any("have limits" in note for note in found.notes)


def test_switches_without_rules_give_nothing() -> None:
    assert recovered({}) == Recovered()
    assert recovered({1: [of.FlowStatsEntry(table_id=0, cookie=7)]}) == Recovered()


def test_the_ports_of_a_group_are_in_the_rules() -> None:
    rig = Rig()
    line(rig, 2)
    one = network(1, endpoint(11, 1, "3,4"), endpoint(12, 1, "3,4", 20, 5), endpoint(13, 2, 3))
    rig.change(None, one)
    (found,) = _seen(rig).networks
    assert _shape(found) == _shape(one)
