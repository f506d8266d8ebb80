"""Endpoints on several ports: which ports they have, and who holds these."""

from __future__ import annotations

import pytest

from libnetvirt.controller.intent.rulesdb import RulesDB
from libnetvirt.controller.intent.switches import SwitchView
from libnetvirt.controller.rules import link_aggregation
from libnetvirt.errors import EndpointClaimed, Unsupported
from libnetvirt.model import Rules
from tests.support.controller_rig import endpoint, network
from tests.unit.controller.intent.test_places import KNOWN, UNKNOWN, Switches, view


@pytest.mark.parametrize("then", [KNOWN, UNKNOWN, view(eth1=1)])
@pytest.mark.parametrize(("asked", "now"), [("3", KNOWN), ("3", UNKNOWN), ("03,7", UNKNOWN), ("eth3", KNOWN)])
def test_each_port_of_a_group_is_held(then: Switches, asked: str, now: Switches) -> None:
    rulesdb = RulesDB()
    rulesdb.add(network(1, endpoint(11, 1, "1,3", 20)), 1, Rules(), then)
    new = network(2, endpoint(21, 1, asked, 20))
    with pytest.raises(EndpointClaimed, match="endpoint 11 of network n1"):
        rulesdb.check(new, new.by_uuid, now)
    other = network(2, endpoint(21, 1, asked, 21))
    rulesdb.check(other, other.by_uuid, now)
    rulesdb.remove("1")
    rulesdb.check(new, new.by_uuid, now)
    assert not rulesdb.by_point
    assert not rulesdb.ports


def test_a_group_is_on_the_ports_that_its_switch_has() -> None:
    rulesdb = RulesDB()
    record = rulesdb.add(network(1, endpoint(11, 1, "eth30,eth1,9")), 1, Rules(), UNKNOWN)
    (one,) = record.endpoints.values()
    assert (one.port, one.members, one.absent) == (None, (), ("eth30", "eth1", "9"))
    assert rulesdb.unbound[1] == 1
    rulesdb.bind_ports(KNOWN[1])
    assert (one.port, one.members, one.absent) == (1, (1, 30), ("9",))
    assert [rulesdb.holds_port(1, port) for port in (1, 3, 30)] == [True, False, True]
    assert rulesdb.at(1, 1, 0) is rulesdb.at(1, 30, 0) is one
    rulesdb.bind_ports(view(eth30=30, eth9=9)[1])
    assert (one.port, one.members, one.absent) == (9, (9, 30), ("eth1",))
    assert rulesdb.unbound[1] == 0
    assert not rulesdb.holds_port(1, 1)


def test_endpoints_of_one_network_share_all_ports_of_a_group_or_none() -> None:
    rulesdb = RulesDB()
    shared = network(1, endpoint(11, 1, "1,3"), endpoint(12, 1, "3,1", 20))
    rulesdb.check(shared, shared.by_uuid, KNOWN)
    rulesdb.add(shared, 1, Rules(), KNOWN)
    for port in ("1", "1,30"):
        more = network(1, *shared.endpoints, endpoint(13, 1, port, 21))
        with pytest.raises(EndpointClaimed, match=r"endpoint 13: .* shares a port with endpoint 1[12] "):
            rulesdb.check(more, {"13"}, KNOWN)
        with pytest.raises(EndpointClaimed, match="have the same ports"):
            RulesDB().check(more, more.by_uuid, KNOWN)
    # Of another network it may.
    other = network(2, endpoint(21, 1, "1", 21))
    rulesdb.check(other, other.by_uuid, KNOWN)


def test_frames_of_old_rules_are_the_endpoints_when_its_lowest_port_goes() -> None:
    rulesdb = RulesDB()
    record = rulesdb.add(network(1, endpoint(11, 1, "1,3,30")), 1, Rules(), KNOWN)
    now = network(1, endpoint(11, 1, "3,30"))
    rulesdb.update(record, now, {"11"}, KNOWN)
    assert rulesdb.at(1, 1, 0) is rulesdb.at(1, 3, 0) is record.endpoints["11"]
    # The port is free all the same.
    other = network(2, endpoint(21, 1, 1))
    rulesdb.check(other, other.by_uuid, KNOWN)
    rulesdb.add(other, 2, Rules(), KNOWN)
    assert rulesdb.at(1, 1, 0) is rulesdb.networks["2"].endpoints["21"]


def test_what_a_switch_cannot_do_is_refused_with_the_reason() -> None:
    other = SwitchView(1, connected=True, known=True, description="ACME 2000")
    group = endpoint(11, 1, "1,3")
    link_aggregation.check(group, None)
    link_aggregation.check(endpoint(11, 1, 1), other)
    with pytest.raises(Unsupported, match="endpoint 11: switch 1 is not Open vSwitch"):
        link_aggregation.check(group, other)
    with pytest.raises(Unsupported, match="endpoint 11: an endpoint with an mpls label cannot be"):
        link_aggregation.check(group.changed(mpls=77), None)
    with pytest.raises(Unsupported, match="endpoint 11: an endpoint that keeps tags of its customers"):
        link_aggregation.check(group.changed(vlan="any"), None)
