"""What the ovn driver reports, from the copies of the databases: states, hosts, paths, the substrate."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from libnetvirt.drivers.ovn import schema
from libnetvirt.errors import RuleRefused, SwitchTimeout
from libnetvirt.model import Endpoint, EndpointState, HostSource, PortUse, State, VirtualNetwork
from libnetvirt.ovsdb.database import Interrupted, Refused
from tests.unit.drivers.ovn.deployment import Deployment

ENDS = (
    {"uuid": 1, "switch": "ch1", "port": "p1", "mac": ["02:00:00:00:00:01"]},
    {"uuid": 2, "switch": "ch2", "port": "p1"},
    {"uuid": 3, "switch": "ch1", "port": "p2", "vlan": 5},
)
BLUE = VirtualNetwork.model_validate(
    {"uuid": 7, "name": "blue", "endpoints": ENDS,
     "constraints": [{"source": 1, "destination": 2, "max-bandwidth": "1 Mbit/s"},
                     {"source": 2, "destination": 3, "max-bandwidth": "1 Mbit/s"}]}
)  # fmt: skip


@pytest.fixture
def ovn() -> Deployment:
    deployment = Deployment()
    deployment.interfaces("p1", "p2")
    deployment.change(None, BLUE)
    return deployment


def states(ovn: Deployment) -> dict[str, tuple[State, str]]:
    found = ovn.view.network_state(ovn.databases.mirror.networks["7"])
    return {e.uuid: (e.state, e.reason) for e in found.endpoints}


# ---- endpoints -------------------------------------------------------------------------------------


def test_an_endpoint_is_pending_until_its_chassis_has_bound_it_and_down_when_it_is_lost(
    ovn: Deployment,
) -> None:
    assert states(ovn)["1"] == (State.PENDING, "chassis ch1 has not bound interface p1")
    ovn.bind(BLUE, "1", up=False)
    assert states(ovn)["1"][0] is State.PENDING, "its rules are not installed"
    ovn.bind(BLUE, "1")
    assert states(ovn)["1"] == (State.ACTIVE, "")
    assert states(ovn)["2"][0] is State.PENDING
    ovn.bind(BLUE, "1", up=False)
    assert states(ovn)["1"] == (State.DOWN, "chassis ch1 has not bound interface p1")
    ovn.view.remove("7")
    assert states(ovn)["1"][0] is State.PENDING, "of another network with this uuid nothing is known"


def test_an_endpoint_that_has_moved_was_not_active_at_its_new_place(ovn: Deployment) -> None:
    ovn.bind(BLUE, "1")
    assert states(ovn)["1"][0] is State.ACTIVE
    after = BLUE.with_endpoint(BLUE.endpoints[0].changed(port="p2"))
    ovn.change(BLUE, after)
    assert states(ovn)["1"] == (State.PENDING, "chassis ch1 has not bound interface p2")


@pytest.mark.parametrize(
    ("row", "state", "reason"),
    [
        ({"link_state": "down"}, State.DOWN, "interface p1 has no carrier"),
        ({"link_state": None}, State.DOWN, "interface p1 has no carrier"),
        ({"ofport": None}, State.PENDING, "chassis ch1 has no interface p1 on its integration bridge"),
        ({"ofport": -1}, State.PENDING, "chassis ch1 has no interface p1 on its integration bridge"),
        ({"type": "patch"}, State.PENDING, "chassis ch1 has no interface p1 on its integration bridge"),
        ({"name": "p9"}, State.PENDING, "chassis ch1 has no interface p1 on its integration bridge"),
    ],
)
def test_an_interface_that_cannot_be_used_is_the_reason(
    ovn: Deployment, row: dict[str, Any], state: State, reason: str
) -> None:
    ovn.bind(BLUE, "1", "2")
    ovn.interface("p1", **row)
    assert states(ovn)["1"] == (state, reason)
    assert states(ovn)["2"] == (State.ACTIVE, ""), "of ch2, only what its binding says is known"
    ovn.vswitch.db.trouble = "not connected"
    assert states(ovn)["1"] == (State.ACTIVE, ""), "nor of ch1 by now"


def test_a_chassis_that_is_not_registered_and_a_network_that_is_not_mapped_are_reasons(
    ovn: Deployment,
) -> None:
    ext = BLUE.endpoints[0].changed(port="physnet:ext", mac=())
    absence = ovn.databases.absence
    assert absence(ext) == "chassis ch1 maps no bridge to ext (ovn-bridge-mappings)"
    ovn.sb("Chassis", "c1", other_config={"ovn-bridge-mappings": "int:br0,ext:br1"})
    assert absence(ext) == ""
    assert absence(ext.changed(port="physnet:in")) != ""
    ovn.sb("Chassis", "c1", other_config={}, external_ids={"ovn-bridge-mappings": "ext:br1"})
    assert absence(ext) == "", "older chassis write it elsewhere"
    assert ovn.southbound.physical_networks("ch9") == set()
    assert absence(ext.changed(switch="ch3")) == "chassis ch3 is not registered"
    # An interface on a mapped bridge needs no carrier that the integration bridge would show.
    before = VirtualNetwork.model_validate({"uuid": 8, "name": "red", "endpoints": [ext.model_dump()]})
    ovn.change(None, before)
    ovn.bind(before, "1")
    assert ovn.view.endpoint_state(before, before.endpoints[0]) == EndpointState(uuid="1", state=State.ACTIVE)


def test_a_chassis_is_found_by_its_name_or_by_a_hostname_that_is_its_own(ovn: Deployment) -> None:
    found = ovn.southbound.chassis_of
    assert [found(name) for name in ("ch1", "host1", "ch2", "host2", "ch3", "")] == [
        "ch1", "ch1", "ch2", "ch2", None, None,
    ]  # fmt: skip
    assert (ovn.southbound.names.aliases("ch1"), ovn.southbound.names.aliases("host1")) == (
        ["host1"],
        ["ch1"],
    )
    assert ovn.southbound.names.aliases("ch9") == []
    ovn.sb("Chassis", "c3", name="ch3", hostname="host1")
    assert found("host1") is None, "two have it"
    assert found("ch1") == "ch1"
    assert ovn.southbound.names.aliases("ch1") == []
    ovn.sb("Chassis", "c3", name="ch3", hostname="ch2")
    assert found("ch2") == "ch2", "a name counts more than a hostname"


# ---- networks --------------------------------------------------------------------------------------


def test_a_network_is_as_good_as_its_endpoints_and_degraded_when_its_rows_have_drifted(
    ovn: Deployment,
) -> None:
    def now() -> Any:
        return ovn.view.network_state(ovn.databases.mirror.networks["7"])

    assert [(c.source, c.destination, c.state) for c in now().constraints] == [
        ("1", "2", State.PENDING), ("2", "3", State.PENDING),
    ]  # fmt: skip
    assert now().constraints[0].reason == "chassis ch1 has not bound interface p1"
    ovn.bind(BLUE, "1", "2")
    assert [c.state for c in now().constraints] == [State.ACTIVE, State.PENDING]
    assert now().state is not State.ACTIVE
    ovn.bind(BLUE, "3")
    assert (now().state, now().drift, now().name) == (State.ACTIVE, (), "blue")
    assert {c.state for c in now().constraints} == {State.ACTIVE}
    (uuid, *_) = ovn.server.tables["QoS"]
    ovn.commit([{"op": "update", "table": "QoS", "where": [["_uuid", "==", ["uuid", uuid]]],
                 "row": {"match": "1"}}])  # fmt: skip
    assert (now().state, len(now().drift)) == (State.DEGRADED, 1)
    assert {(c.state, c.reason) for c in now().constraints} == {
        (State.DEGRADED, "rows of the network were changed by another program")
    }
    ovn.interface("p1", link_state="down")
    assert {c.state for c in now().constraints} == {State.DEGRADED}, "a limit needs no carrier"
    ovn.bind(BLUE, "2", "3", up=False)
    assert now().state is State.DOWN, "drift does not make it better"


def hosts(ovn: Deployment) -> list[tuple[str, str, tuple[str, ...], HostSource]]:
    found = ovn.view.network_state(ovn.databases.mirror.networks["7"]).hosts
    return [(h.mac, h.endpoint, h.addresses, h.source) for h in found]


def test_hosts_are_those_declared_and_those_that_ovn_has_learned(ovn: Deployment) -> None:
    one = ("02:00:00:00:00:01", "1", (), HostSource.DECLARED)
    assert hosts(ovn) == [one]
    ovn.bind(BLUE, "1", "2")
    other, learned = "02:00:00:00:00:22", HostSource.LEARNED
    ovn.learn("f1", other, 12)
    assert hosts(ovn) == [one, (other, "2", (), learned)]
    ovn.learn("f2", "01:00:5e:00:00:01", 12)
    ovn.learn("f3", "02:00:00:00:00:99", 12, dp_key=6)
    ovn.learn("f4", "02:00:00:00:00:99", 77)
    assert hosts(ovn) == [one, (other, "2", (), learned)], "no group, no other switch, no other port"
    for n, ip in enumerate(("10.0.0.9", "10.0.0.2")):
        ovn.sb("MAC_Binding", f"m{n}", logical_port="ch2:p1", ip=ip, mac=other)
    ovn.sb("MAC_Binding", "m9", logical_port="ch1:p1", ip="10.0.0.1", mac="02:00:00:00:00:01")
    assert hosts(ovn) == [
        ("02:00:00:00:00:01", "1", ("10.0.0.1",), HostSource.DECLARED),
        (other, "2", ("10.0.0.2", "10.0.0.9"), learned),
    ]
    # It moves, and is forgotten.
    ovn.learn("f1", other, 13)
    ovn.bind(BLUE, "3")
    assert (other, "3", (), learned) in hosts(ovn)
    ovn.gone("FDB", "f1")
    assert (other, "3", (), learned) not in hosts(ovn)


# ---- paths, links, substrate -----------------------------------------------------------------------


def test_a_path_leads_through_the_tunnel_between_two_chassis(ovn: Deployment) -> None:
    assert {path.hops for path in ovn.view.paths(BLUE)} == {()}
    ovn.bind(BLUE, "1", "2", "3")
    paths = {(p.source, p.destination): [tuple(h.model_dump().values()) for h in p.hops]
             for p in ovn.view.paths(BLUE)}  # fmt: skip
    there, back = "geneve:192.0.2.2", "geneve:192.0.2.1"
    assert {key: [hop[:3] for hop in hops] for key, hops in paths.items()} == {
        ("1", "2"): [("ch1", "p1", there), ("ch2", back, "p1")],
        ("2", "1"): [("ch2", "p1", back), ("ch1", there, "p1")],
        ("1", "3"): [("ch1", "p1", "p2")],
        ("3", "1"): [("ch1", "p2", "p1")],
        ("2", "3"): [("ch2", "p1", back), ("ch1", there, "p2")],
        ("3", "2"): [("ch1", "p2", there), ("ch2", back, "p1")],
    }
    ovn.sb("Encap", "e2", type="vxlan")
    assert ovn.view.links() == {}, "no kind of tunnel that both have"
    assert {len(p.hops) for p in ovn.view.paths(BLUE)} == {0, 1}


def test_the_substrate_is_chassis_their_interfaces_and_tunnels(ovn: Deployment) -> None:
    ovn.interfaces("p1", "p2", "free", "br-int", link_state="down")
    ovn.interface("p1", link_state="up", link_speed=None)
    ovn.sb("Chassis", "c1", other_config={"ovn-bridge-mappings": "ext:br1"})
    found = ovn.view.substrate()
    one, two = found.switches
    assert [(s.id, s.connected, s.description, s.address) for s in found.switches] == [
        ("ch1", True, "OVN chassis on host1", "192.0.2.1"),
        ("ch2", True, "OVN chassis on host2", "192.0.2.2"),
    ]
    end, link, none = PortUse.ENDPOINT, PortUse.LINK, PortUse.NONE
    assert [(p.name, p.up, p.speed, p.use) for p in one.ports] == [
        ("free", False, 10**9, none), ("p1", True, 0, end), ("p2", False, 10**9, end),
        ("physnet:ext", True, 0, none), ("geneve:192.0.2.2", True, 0, link),
    ]  # fmt: skip
    assert [(p.name, p.use) for p in two.ports] == [("p1", end), ("geneve:192.0.2.1", link)]
    assert [(x.source, x.source_port, x.destination, x.destination_port) for x in found.links] == [
        ("ch1", "geneve:192.0.2.2", "ch2", "geneve:192.0.2.1"),
        ("ch2", "geneve:192.0.2.1", "ch1", "geneve:192.0.2.2"),
    ]
    assert found.notes == ()


def test_what_networks_need_and_is_not_there_makes_a_session_not_ready(ovn: Deployment) -> None:
    assert list(ovn.view.troubles()) == []
    ovn.southbound.db.trouble = "refused"
    ovn.gone("Chassis", "c2")
    assert list(ovn.view.troubles()) == [
        "no connection to database OVN_Southbound: refused",
        "chassis ch2, which networks need, is not registered",
    ]
    ovn.southbound.db.trouble = ""
    ovn.gone("Chassis", "c1")
    assert len(list(ovn.view.troubles())) == 2
    ovn.change(BLUE, None)
    assert list(ovn.view.troubles()) == []


def test_notes_name_orphans_damage_and_databases_without_a_connection(ovn: Deployment) -> None:
    ovn.databases.mirror.unreadable["9"] = "no JSON"
    ovn.southbound.db.trouble = "refused"
    notes = ovn.view.substrate().notes
    assert notes == (
        "the description of network 9 in the northbound database is damaged: no JSON",
        "no connection to database OVN_Southbound: refused",
    )
    ovn.databases.mirror.unreadable.clear()
    ovn.southbound.db.trouble = ""
    (uuid,) = [u for u, row in ovn.server.tables["Logical_Switch"].items() if row["name"] == "netvirt-7"]
    ids = ["map", [[schema.OWNER, "libnetvirt"], [schema.NETWORK, "7"]]]
    ovn.commit([{"op": "update", "table": "Logical_Switch", "where": [["_uuid", "==", ["uuid", uuid]]],
                 "row": {"external_ids": ids}}])  # fmt: skip
    notes = ovn.view.substrate().notes
    orphans = {"network 7", "trunk ch1:p2"}
    assert {note.partition(" rows of ")[2].partition(": 'netvirt repair")[0] for note in notes} == orphans


# ---- the southbound database -----------------------------------------------------------------------


def test_chassis_that_have_not_reported_a_change_are_lagging(ovn: Deployment) -> None:
    for n, number in ((1, 5), (2, 6)):
        ovn.sb("Chassis_Private", f"x{n}", name=f"ch{n}", nb_cfg=number)
    lagging = ovn.southbound.lagging
    assert lagging(5, ["ch1", "ch2"]) == []
    assert lagging(6, ["ch2", "ch1", "ch1"]) == ["ch1"]
    assert lagging(7, ["ch2", "ch1"]) == ["ch1", "ch2"]
    assert lagging(0, ["ch3"]) == ["ch3"]


def test_hosts_beyond_the_limit_are_deleted_the_latest_first(ovn: Deployment) -> None:
    ovn.bind(BLUE, "1", "2")
    for n in range(5):
        ovn.learn(f"f{n}", f"02:00:00:00:01:0{n}", 11)
        assert ovn.southbound.over_limit is (n >= 2)
    ovn.learn("g", "02:00:00:00:02:00", 12)
    for n in range(5):
        ovn.learn(f"s{n}", f"02:00:00:00:03:0{n}", 99)  # of another owner
    asyncio.run(ovn.southbound.evict_surplus_hosts())
    (deleted,) = ovn.written
    assert [(o["op"], o["table"], o["where"][0][2][1]) for o in deleted] == [
        ("delete", "FDB", f"f{n}") for n in (2, 3, 4)
    ]
    assert not ovn.southbound.over_limit
    asyncio.run(ovn.southbound.evict_surplus_hosts())
    assert len(ovn.written) == 1


def test_the_hosts_of_an_endpoint_that_moves_move_along(ovn: Deployment) -> None:
    ovn.bind(BLUE, "1", "2", "3")
    ovn.learn("f1", "02:00:00:00:01:01", 11)
    ovn.learn("f2", "02:00:00:00:01:02", 12)
    asyncio.run(ovn.southbound.move_hosts({"ch1:p1": "ch1:p2#5", "ch9:x": "ch2:p1", "ch2:p1": "ch9:y"}))
    (moved,) = ovn.written
    assert [(o["op"], o["where"][0][2][1], o["row"]) for o in moved] == [("update", "f1", {"port_key": 13})]
    asyncio.run(ovn.southbound.move_hosts({"ch9:x": "ch2:p1"}))
    assert len(ovn.written) == 1


def test_changes_say_which_networks_and_whether_chassis_are_concerned(ovn: Deployment) -> None:
    ovn.seen.clear()
    ovn.bind(BLUE, "1")
    ovn.sb("Chassis", "c1", hostname="h")
    ovn.sb("Encap", "e1", ip="192.0.2.9")
    ovn.learn("f1", "02:00:00:00:01:01", 11)
    ovn.gone("Port_Binding", "b-ch1:p1")
    assert ovn.seen == [({"7"}, False), (set(), True), (set(), True), ({"7"}, False)]
    assert ovn.southbound.chassis_of_port("ch1:p1") is None
    assert not ovn.southbound.is_up("ch1:p1")


# ---- the Open_vSwitch database of a chassis ---------------------------------------------------------


def test_iface_ids_are_set_where_there_is_none_and_removed_where_the_driver_has_set_them(
    ovn: Deployment,
) -> None:
    switch, ours = ovn.vswitch, {schema.OWNER: "libnetvirt"}
    keys = ("iface-id", schema.OWNER, schema.IFACE_ID)
    ovn.interfaces("a", "b", "c")
    ovn.interface("b", external_ids={"iface-id": "mine"})
    ovn.interface("c", external_ids={"iface-id": "ch1:c", **ours})
    asyncio.run(switch.set_iface_ids({"a": "ch1:a", "b": "ch1:b", "c": "ch1:c", "x": "ch1:x"}))
    (operations,) = ovn.written
    assert [(o["where"][0][2][1], o["mutations"]) for o in operations] == [
        ("i-a", [["external_ids", "delete", ["set", list(keys)]],
                 ["external_ids", "insert", ["map", [["iface-id", "ch1:a"], [schema.IFACE_ID, "ch1:a"],
                                                     [schema.OWNER, "libnetvirt"]]]]])
    ]  # fmt: skip
    places = (Endpoint(uuid="1", switch="ch1", port=p) for p in ("a", "b", "c", "x"))
    assert [ovn.iface_ids.foreign(e) for e in places] == ["", "mine", "", ""]
    assert switch.unused(["a"]) == ["c"]
    assert switch.unused(["c"]) == []
    asyncio.run(switch.clear_iface_ids(lambda: ["a", "b", "c"]))
    (operations,) = ovn.written[1:]
    assert [(o["where"][0][2][1], o["mutations"]) for o in operations] == [
        ("i-c", [["external_ids", "delete", ["set", list(keys)]]])
    ]
    asyncio.run(switch.clear_iface_ids(lambda: ["a"]))
    assert len(ovn.written) == 2


@pytest.mark.parametrize(
    ("fault", "error", "text"),
    [
        (Refused("syntax error", ""), RuleRefused, "of chassis ch1 rejected the change: syntax error"),
        (Interrupted("no reply"), SwitchTimeout, "of chassis ch1 does not answer: no reply"),
    ],
)
def test_what_goes_wrong_in_a_chassis_database_names_the_chassis(
    ovn: Deployment, fault: Exception, error: type[Exception], text: str
) -> None:
    async def fails(*_: Any) -> list[Any]:
        raise fault

    ovn.vswitch.db.transact = fails  # type: ignore[assignment,method-assign]
    with pytest.raises(error, match=text):
        asyncio.run(ovn.vswitch.set_iface_ids({"p1": "ch1:p1"}))


def test_the_integration_bridge_is_the_one_that_the_chassis_names(ovn: Deployment) -> None:
    ovn.interfaces("p1", "br-x", bridge="br-x")
    assert dict(ovn.vswitch.interfaces()) == {}
    ovn._put(ovn.vswitch.db, "Open_vSwitch", "o", {"external_ids": {"ovn-bridge": "br-x"}})
    assert list(ovn.vswitch.interfaces()) == ["p1"]
