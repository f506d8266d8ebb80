"""The compiler, the planner and the mirror: descriptions as rows, and changes as operations."""

from __future__ import annotations

import json
from typing import Any

import pytest

from libnetvirt.drivers.ovn import records
from libnetvirt.drivers.ovn.mirror import NetworkMirror
from libnetvirt.errors import EndpointClaimed, LabelsExhausted
from libnetvirt.model import VirtualNetwork
from libnetvirt.ovsdb.database import RowUpdate
from tests.support.northbound_database import Simulation, drift

ROUTER_PORT = {"router-port": "netvirt-7-1-router", "requested-tnl-key": "1"}
SWITCH, PORT, ROUTER = "Logical_Switch", "Logical_Switch_Port", "Logical_Router"


def network(*endpoints: dict[str, Any], uuid: int = 7, **fields: Any) -> VirtualNetwork:
    numbered = [{"uuid": n, **e} for n, e in enumerate(endpoints, 1)]
    return VirtualNetwork.model_validate({"uuid": uuid, "name": f"n{uuid}", "endpoints": numbered, **fields})


def at(switch: str, port: str, vlan: int | None = None, **fields: Any) -> dict[str, Any]:
    return {"switch": switch, "port": port, "vlan": vlan, **fields}


@pytest.fixture
def simulation() -> Simulation:
    return Simulation()


def test_an_l2_network_is_a_logical_switch_with_its_description(simulation: Simulation) -> None:
    wanted = network(at("ch1", "p1"), at("ch2", "p1"))
    simulation.change(None, wanted)
    switch = simulation.only(SWITCH)
    assert switch["name"] == "netvirt-7"
    assert len(switch["ports"]) == 2
    port = simulation.only(PORT, name="ch1:p1")
    assert port["addresses"] == {"unknown"}
    assert port["options"]["requested-chassis"] == "ch1"
    assert port["external_ids"]["netvirt:owner"] == "libnetvirt"
    assert port["external_ids"]["netvirt:network"] == "7"
    assert simulation.mirror.ordered() == [wanted]
    assert drift(simulation) == []


def test_a_tagged_endpoint_has_a_parent_and_without_one_a_trunk(simulation: Simulation) -> None:
    blue, red = network(at("ch1", "p1", 20)), network(at("ch1", "p1"), uuid=8)
    simulation.change(None, blue)
    child = simulation.only(PORT, name="ch1:p1#20")
    assert (child["parent_name"], child["tag"], child["tag_request"]) == ("ch1:p1", 20, 20)
    assert "netvirt-trunk-ch1:p1" in simulation.names(SWITCH)
    parent = simulation.only(PORT, name="ch1:p1")
    assert parent["addresses"] == frozenset()
    simulation.change(None, red)
    assert simulation.names(SWITCH) == ["netvirt-7", "netvirt-8"]
    assert simulation.only(PORT, name="ch1:p1")["addresses"] == {"unknown"}
    simulation.change(red, None)
    assert simulation.names(SWITCH) == ["netvirt-7", "netvirt-trunk-ch1:p1"]
    simulation.change(blue, None)
    assert not any(simulation.everything().values())


def test_an_l3_network_is_a_router_and_a_switch_for_each_endpoint(simulation: Simulation) -> None:
    routes = [{"prefix": "10.9.0.0/16", "via": "10.0.1.7"}]
    wanted = network(
        at("ch1", "p1", address=["10.0.1.254/24", "fd00:1::fe/64"], route=routes, mac="02:00:00:00:00:09"),
        at("ch2", "p1", 5, address="10.0.2.254/24"),
        forwarding="L3",
    )
    simulation.change(None, wanted)
    assert simulation.names(SWITCH) == ["netvirt-7-1", "netvirt-7-2", "netvirt-trunk-ch2:p1"]
    leg = simulation.only("Logical_Router_Port", name="netvirt-7-1-router")
    assert leg["networks"] == {"10.0.1.254/24", "fd00:1::fe/64"}
    route = simulation.only("Logical_Router_Static_Route")
    assert (route["ip_prefix"], route["nexthop"]) == ("10.9.0.0/16", "10.0.1.7")
    peer = simulation.only(PORT, name="netvirt-7-1-switch")
    assert (peer["type"], peer["options"]) == ("router", ROUTER_PORT)
    matches = [row["match"] for row in simulation.server.tables["ACL"].values()]
    assert any("ch2:p1#5" in m and "02:00:00:00:00:09" in m for m in matches), (
        "a declared MAC address is dropped at other endpoints"
    )
    assert simulation.mirror.ordered() == [wanted]
    l2 = wanted.changed(
        forwarding="L2", endpoints=[e.changed(route=()) for e in wanted.endpoints], name="flat"
    )
    simulation.change(wanted, l2)
    assert simulation.names(ROUTER) == []
    assert simulation.mirror.ordered() == [l2]
    assert drift(simulation) == []


def test_limits_are_qos_rows_and_round_down(simulation: Simulation) -> None:
    limits = {"inbound": "1999999 bit/s", "outbound": "10 bit/s"}
    constraint = {"source": 2, "destination": 1, "max-bandwidth": "5 Mbit/s"}
    wanted = network(at("ch1", "p1", bandwidth=limits), at("ch2", 'p"1'), constraints=[constraint])
    simulation.change(None, wanted)
    inbound = simulation.only("QoS", direction="from-lport")
    assert inbound["match"] == 'inport == "ch1:p1"'
    assert inbound["bandwidth"]["rate"] == 1999
    outbound = simulation.only("QoS", match='outport == "ch1:p1"')
    assert outbound["bandwidth"]["rate"] == 1
    assert simulation.only("QoS", priority=200)["match"] == 'inport == "ch2:p\\"1" && outport == "ch1:p1"'


def test_a_constraint_between_routed_endpoints_counts_all_that_is_behind_its_source(
    simulation: Simulation,
) -> None:
    routes = [
        {"prefix": "10.9.0.0/16", "via": "10.0.1.7"},
        {"prefix": "10.8.1.0/24", "via": "10.0.1.7"},
        {"prefix": "fd09::/48", "via": "fd00:1::7"},
    ]
    source = at("ch1", "p1", address=["10.0.1.254/24", "fd00:1::fe/64"], route=routes)
    constraint = {"source": 1, "destination": 2, "max-bandwidth": "5 Mbit/s"}
    ends = (source, at("ch2", "p1", 5, address=["10.0.2.254/24", "fd00:2::fe/64"]))
    simulation.change(None, network(*ends, forwarding="L3", constraints=[constraint]))
    row = simulation.only("QoS")
    assert row["match"] == (
        'outport == "ch2:p1#5" && '
        "(ip4.src == {10.0.1.0/24, 10.9.0.0/16, 10.8.1.0/24} || ip6.src == {fd00:1::/64, fd09::/48})"
    )
    assert (row["direction"], row["priority"]) == ("to-lport", 200)


def test_a_constraint_from_an_endpoint_of_one_ip_version_names_that_version(simulation: Simulation) -> None:
    ends = (at("ch1", "p1", address="fd00:1::fe/64"), at("ch2", "p1", address="fd00:2::fe/64"))
    constraint = {"source": 1, "destination": 2, "max-bandwidth": "5 Mbit/s"}
    simulation.change(None, network(*ends, forwarding="L3", constraints=[constraint]))
    assert simulation.only("QoS")["match"] == 'outport == "ch2:p1" && (ip6.src == {fd00:1::/64})'


@pytest.mark.parametrize("table", [SWITCH, PORT])
def test_what_others_noted_in_a_row_stays_when_the_row_is_changed(simulation: Simulation, table: str) -> None:
    before = network(at("ch1", "p1"), at("ch2", "p1"))
    simulation.change(None, before)
    name = "netvirt-7" if table == SWITCH else "ch1:p1"
    uuid = next(u for u, row in simulation.server.tables[table].items() if row["name"] == name)

    def ids() -> dict[str, str]:
        return dict(simulation.server.tables[table][uuid]["external_ids"])

    def note(change: dict[str, str]) -> None:
        encoded = ["map", sorted(map(list, {**ids(), **change}.items()))]
        simulation.commit([{"op": "update", "table": table, "where": [["_uuid", "==", ["uuid", uuid]]],
                            "row": {"external_ids": encoded}}])  # fmt: skip

    own = ids()
    theirs = {"neutron:name": "blue", "netvirt": "no key of ours", "x": ""}
    note(theirs)
    assert drift(simulation) == [], "keys of others are no drift"
    # A key that looks like ours is removed by a repair, and nothing else is.
    note({"netvirt:stray": "8"})
    assert drift(simulation) != []
    simulation.commit(simulation.planner.repair("7"))
    assert ids() == {**own, **theirs}
    # An operation rewrites the row.
    after = before.changed(name="red", endpoints=(before.endpoints[0].changed(uuid="5"), before.endpoints[1]))
    simulation.change(before, after)
    assert theirs.items() <= ids().items()
    assert ids() != {**own, **theirs}
    simulation.change(after, None)
    assert not any(simulation.everything().values())


def test_a_physical_network_is_a_gateway_port(simulation: Simulation) -> None:
    simulation.change(None, network(at("ch1", "physnet:ext", 40)))
    port = simulation.only(PORT)
    assert (port["type"], port["tag"], port["parent_name"]) == ("l2gateway", 40, None)
    assert port["options"]["network_name"] == "ext"
    assert port["options"]["l2gateway-chassis"] == "ch1"


def test_a_change_writes_only_the_rows_that_it_changes(simulation: Simulation) -> None:
    big = network(*(at("ch1", f"p{n}") for n in range(50)))
    simulation.change(None, big)
    one_more = big.with_endpoint(network(at("ch2", "new"), uuid=9).endpoints[0].changed(uuid="99"))
    assert simulation.change(big, one_more) == 3, "the new port, its record, its reference in the switch"
    assert simulation.change(one_more, one_more.without_endpoint("25")) == 2


def test_an_endpoint_keeps_its_tunnel_key_until_it_moves(simulation: Simulation) -> None:
    before = network(at("ch1", "p1"), at("ch2", "p1"))
    simulation.change(None, before)

    def keys() -> dict[str, str]:
        ports = simulation.server.tables[PORT].values()
        return {p["name"]: p["options"]["requested-tnl-key"] for p in ports}

    old = keys()
    moved = before.with_endpoint(before.endpoints[0].changed(port="p9"))
    simulation.change(before, moved)
    assert keys()["ch2:p1"] == old["ch2:p1"]
    assert keys()["ch1:p9"] not in old.values(), (
        "a port with the key of a removed one would inherit its hosts"
    )
    limited = moved.with_endpoint(moved.endpoints[0].changed(bandwidth={"inbound": "1 Mbit/s"}))
    now = keys()
    simulation.change(moved, limited)
    assert keys() == now


def test_tunnel_keys_wrap_around_and_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_TUNNEL_KEY", 4)
    old: dict[str, str] = {}
    for n in range(7):
        wanted = network(at("ch1", "p1"), at("ch2", f"p{n}"))
        old = records.encode(wanted, 1, old)
        keys = {records.tunnel_key(old, e.uuid) for e in wanted.endpoints}
        assert len(keys) == 2
        assert keys <= {2, 3, 4}
    with pytest.raises(LabelsExhausted, match="3 in one switch"):
        records.encode(network(*(at("ch1", f"p{n}") for n in range(4))), 1, {})


def test_ports_are_occupied_under_all_names_of_a_switch(simulation: Simulation) -> None:
    blue, red = network(at("ch1", "p1", 5)), network(at("host1", "p1", 5), uuid=8)
    simulation.change(None, blue)
    names = {"host1": ["ch1"], "ch1": ["host1"]}
    with pytest.raises(
        EndpointClaimed, match=r"endpoint 1: .* belongs to endpoint 1 of network n7 \(uuid 7\)"
    ):
        simulation.mirror.check_free(red, red.endpoints, lambda s: names.get(s, []))
    simulation.mirror.check_free(blue, blue.endpoints, lambda s: names.get(s, []))


def test_a_damaged_description_is_reported_and_harms_no_other(simulation: Simulation) -> None:
    simulation.change(None, network(at("ch1", "p1")))
    simulation.change(None, network(at("ch1", "p2"), uuid=8))
    uuid, row = next((u, r) for u, r in simulation.server.tables[SWITCH].items() if r["name"] == "netvirt-7")
    for damage in ("{", json.dumps({"forwarding": "L9"})):
        ids = row["external_ids"] | {records.DESCRIPTION: damage}
        encoded = ["map", sorted(map(list, ids.items()))]
        simulation.commit([{"op": "update", "table": SWITCH, "where": [["_uuid", "==", ["uuid", uuid]]],
                       "row": {"external_ids": encoded}}])  # fmt: skip
        assert list(simulation.mirror.unreadable) == ["7"]
        assert "8" in simulation.mirror.networks


def test_a_network_whose_description_cannot_be_decoded_is_not_orphaned(simulation: Simulation) -> None:
    # As a client sees it that connects after a newer version has written the row.
    for uuid, port in ((7, "p1"), (8, "p2")):
        simulation.change(None, network(at("ch1", port, 5), at("ch1", port, 6), uuid=uuid))
    stored = [(table, u, r) for table, held in simulation.server.tables.items() for u, r in held.items()]
    row = next(r for table, _, r in stored if table == SWITCH and r["name"] == "netvirt-7")
    row["external_ids"] = row["external_ids"] | {records.DESCRIPTION: json.dumps({"forwarding": "L9"})}
    late = NetworkMirror(lambda *_: None)
    late.apply(RowUpdate(table, u, None, r) for table, u, r in stored)
    assert list(late.networks) == ["8"]
    assert list(late.unreadable) == ["7"]
    assert list(late.orphans()) == []


def test_a_change_of_a_description_is_notified_once(simulation: Simulation) -> None:
    blue = network(at("ch1", "p1"))
    simulation.change(None, blue)
    assert simulation.notified == [({"7"}, {"7"})]
    simulation.change(blue, blue)
    assert len(simulation.notified) == 1, "nothing changed"
    simulation.change(blue, None)
    assert simulation.notified[1] == ({"7"}, {"7"})
    assert simulation.mirror.networks == {}
