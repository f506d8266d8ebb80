"""Bridges of Open vSwitch: what is wrong is found in their rows, and a preparation corrects it."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from libnetvirt.ovsdb.bridges import WATCHES, Wanted, commands, faults, of_switch, preparation
from libnetvirt.ovsdb.values import decode, default_value

SAFE = {"fail_mode": "secure", "other_config": {"disable-in-band": "true"}, "controller": frozenset({"c"})}


def tables(bridge: dict[str, Any] | None = None, **others: dict[str, Any]) -> dict[str, Any]:
    """A database with one bridge, one interface and one controller. ``others``: columns by table."""
    rows: dict[str, tuple[str, dict[str, Any]]] = {
        "Open_vSwitch": ("o", {"other_config": {"vlan-limit": "0"}}),
        "Controller": ("c", {"target": "tcp:192.0.2.1:6653"}),
        "Bridge": (
            "b",
            {"name": "br0", "datapath_id": "0000000000000011", "ports": frozenset({"p"}), **SAFE},
        ),
        "Port": ("p", {"interfaces": frozenset({"i"})}),
        "Interface": ("i", {"name": "eth1", "mtu": 1500}),
    }
    found: dict[str, Any] = {}
    for table, watch in WATCHES.items():
        blank = {column: default_value(kind) for column, kind in watch.columns.items()}
        uuid, columns = rows.get(table, ("x", {}))
        changed = bridge or {} if table == "Bridge" else others.get(table, {})
        found[table] = {uuid: {**blank, **columns, **changed}} if table in rows or table in others else {}
    return found


def transact(before: dict[str, Any], operations: list[dict[str, Any]]) -> dict[str, Any]:
    """The tables after these operations."""
    after = copy.deepcopy(before)
    for o in operations:
        rows, kinds = after[o["table"]], WATCHES[o["table"]].columns
        if o["op"] == "insert":
            blank = {column: default_value(kind) for column, kind in kinds.items()}
            rows[o["uuid-name"]] = {**blank, **o["row"]}
            continue
        chosen = [
            row
            for uuid, row in rows.items()
            if all(
                (uuid if c == "_uuid" else row[c]) == (v[1] if isinstance(v, list) else v)
                for c, _, v in o["where"]
            )
        ]
        assert chosen
        for row in chosen:
            if o["op"] == "update":
                row.update({c: decode(kinds[c], w) for c, w in o["row"].items()})
                if "controller" in o["row"]:
                    row["controller"] = frozenset({o["row"]["controller"][1]})
            else:
                for column, how, what in o["mutations"]:
                    if how == "delete":
                        row[column] = {k: v for k, v in row[column].items() if k not in what[1]}
                    else:
                        inserted = decode(kinds[column], what)
                        row[column] |= {k: v for k, v in inserted.items() if k not in row[column]}
    return after


WRONG: list[Any] = [
    ({"other_config": {}}, {}, "in-band"),
    ({"other_config": {"disable-in-band": "false"}}, {}, "in-band"),
    ({"fail_mode": None}, {}, "standalone"),
    ({"fail_mode": "standalone"}, {}, "standalone"),
    ({"stp_enable": True}, {}, "stp"),
    ({"rstp_enable": True}, {}, "rstp"),
    ({"mirrors": frozenset({"x"})}, {"Mirror": {"name": "tap"}}, "mirror"),
    ({"other_config": {"disable-in-band": "true", "forward-bpdu": "true"}}, {}, "forward-bpdu"),
]
INCOMPLETE: list[Any] = [
    ({}, {"Open_vSwitch": {"other_config": {}}}, "vlan-limit"),
    ({}, {"Open_vSwitch": {"other_config": {"vlan-limit": "1"}}}, "vlan-limit"),
    ({"protocols": frozenset({"OpenFlow10"})}, {}, "protocols"),
    ({}, {"Controller": {"target": "tcp:192.0.2.2:6653"}}, "controller"),
    ({"other_config": {"disable-in-band": "true", "datapath-id": "0000000000000012"}}, {}, "datapath-id"),
    ({}, {"Interface": {"mtu": 1400}}, "mtu"),
]
WANTED = Wanted("tcp:192.0.2.1:6653", 17, ("eth1",), 1500)


def test_a_bridge_that_is_set_up_has_no_faults() -> None:
    assert faults(tables(), "b") == []
    assert of_switch(tables(), 17) == "b"
    assert of_switch(tables(), 18) is None


@pytest.mark.parametrize(("bridge", "others", "kind"), WRONG + INCOMPLETE)
def test_each_fault_is_found_and_one_preparation_corrects_it(
    bridge: dict[str, Any], others: dict[str, Any], kind: str
) -> None:
    right = {"disable-in-band": "true", "datapath-id": "0000000000000011"}
    before = tables({"other_config": right, "protocols": frozenset({"OpenFlow13"}), **bridge}, **others)
    found = {fault.kind: fault for fault in faults(before, "b", WANTED)}
    assert kind in found
    assert found[kind].unsafe is ((bridge, others, kind) in WRONG)
    assert found[kind].remedy.startswith("ovs-vsctl ")
    assert "br0" in found[kind].remedy or kind in ("vlan-limit", "mtu")
    after = transact(before, preparation(before, "b", WANTED))
    # Open vSwitch follows.
    after["Interface"]["i"]["mtu"] = after["Interface"]["i"]["mtu_request"] or after["Interface"]["i"]["mtu"]
    assert faults(after, "b", WANTED) == []
    assert preparation(after, "b", WANTED) == []


@pytest.mark.parametrize(("headers", "kinds"), [("0", []), ("1", ["restart"]), ("2", [])])
def test_a_datapath_that_was_made_before_vlan_limit_was_set_needs_a_restart(
    headers: str, kinds: list[str]
) -> None:
    """Which only the row of the bridge's own datapath tells."""
    known = tables(
        {"datapath_type": "netdev"},
        Datapath={"capabilities": {"max_vlan_headers": headers}},
        Open_vSwitch={"datapaths": {"netdev": ["uuid", "x"]}},
    )
    assert [(f.kind, f.unsafe) for f in faults(known, "b")] == [(kind, True) for kind in kinds]
    known["Bridge"]["b"]["datapath_type"] = ""
    assert faults(known, "b") == []
    before = tables()
    assert transact(before, preparation(before, "b", Wanted()))["Open_vSwitch"]["o"]["datapaths"] == {
        "system": ["named-uuid", "datapath"]
    }


def test_in_band_control_is_no_fault_where_no_controller_is_reached_in_band() -> None:
    outside = {"connection_mode": "out-of-band"}
    exposed: dict[str, Any] = {"other_config": {}}
    assert faults(tables(exposed, Controller=outside), "b") == []
    assert faults(tables(exposed, Controller={"target": "unix:/run/controller"}), "b") == []
    manager = {"target": "tcp:192.0.2.9:6640"}
    assert [f.kind for f in faults(tables(exposed, Controller=outside, Manager=manager), "b")] == ["in-band"]
    # A bridge without a controller will have one.
    assert "in-band" in {f.kind for f in faults(tables(exposed | {"controller": frozenset()}), "b")}


def test_a_new_controller_does_not_turn_in_band_control_on() -> None:
    before = tables({"other_config": {}}, Controller={"connection_mode": "out-of-band"})
    after = transact(before, preparation(before, "b", Wanted("tcp:192.0.2.2:6653")))
    assert faults(after, "b") == []


def test_what_is_unsafe_comes_first() -> None:
    both = tables({"rstp_enable": True}, Open_vSwitch={"other_config": {}})
    assert [f.unsafe for f in faults(both, "b")] == [True, False]


def test_a_link_that_is_not_there_is_told() -> None:
    with pytest.raises(KeyError, match="eth9"):
        preparation(tables(), "b", Wanted(links=("eth9",), mtu=2000))


def test_the_commands_name_everything_that_is_wanted() -> None:
    text = "\n".join(commands("br 0", WANTED))
    for part in (
        "other_config:vlan-limit=0", "'br 0'", "fail_mode=secure", "disable-in-band=true", "mtu_request=1500",
        "datapath-id=0000000000000011", "tcp:192.0.2.1:6653", "protocols=OpenFlow13", "stp_enable=false",
    ):  # fmt: skip
        assert part in text
