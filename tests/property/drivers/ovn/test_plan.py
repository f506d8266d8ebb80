"""Any change between descriptions ends in the rows of the new one and leaves none of the old one."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from libnetvirt.drivers.ovn.compiler import logical_port
from libnetvirt.drivers.ovn.rows import compare, operations
from libnetvirt.model import VirtualNetwork
from tests.support.northbound_database import Simulation, drift

SWITCHES, PORTS, TAGS = ("ch1", "ch2"), ("p1", "p2", "physnet:ext"), (None, 1, 20)
PLACES = [(s, p, t) for s in SWITCHES for p in PORTS for t in TAGS]
MACS = [f"02:00:00:00:00:0{n}" for n in range(4)]


@st.composite
def a_network(draw: st.DrawFn, uuid: int, free: list[tuple[str, str, int | None]]) -> VirtualNetwork:
    routed = draw(st.booleans())
    places = draw(st.lists(st.sampled_from(free), unique=True, max_size=5)) if free else []
    numbers = draw(st.permutations(range(1, 9)))
    endpoints: list[dict[str, Any]] = []
    macs = list(MACS)
    for number, (switch, port, vlan) in zip(numbers, places, strict=False):
        e: dict[str, Any] = {"uuid": number, "switch": switch, "port": port, "vlan": vlan}
        if routed:
            e["address"] = draw(st.sampled_from([[f"10.0.{number}.254/24"], [f"fd00:{number}::1/64"]]))
        if macs and bool(draw(st.booleans())):
            e["mac"] = [macs.pop()]
        if draw(st.booleans()):
            e["bandwidth"] = {draw(st.sampled_from(["inbound", "outbound"])): "2 Mbit/s"}
        endpoints.append(e)
    constraints = []
    if len(endpoints) > 1 and draw(st.booleans()):
        ends = {"source": endpoints[0]["uuid"], "destination": endpoints[1]["uuid"]}
        constraints = [{**ends, "max-bandwidth": "1 Mbit/s"}]
    document = {"uuid": uuid, "name": f"n{uuid}", "forwarding": "L3" if routed else "L2"}
    return VirtualNetwork.model_validate({**document, "endpoints": endpoints, "constraints": constraints})


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_sequence_of_changes_ends_in_the_described_rows(data: st.DataObject) -> None:
    simulation = Simulation()
    networks: dict[int, VirtualNetwork] = {}
    for _ in range(data.draw(st.integers(1, 7))):
        uuid = data.draw(st.integers(1, 3))
        taken = {(e.switch, e.port, e.vlan) for u, n in networks.items() if u != uuid for e in n.endpoints}
        free = [p for p in PLACES if p not in taken]
        before = networks.pop(uuid, None)
        after = data.draw(st.none() | a_network(uuid, free)) if before else data.draw(a_network(uuid, free))
        if before is not None and after is not None and simulation.planner.is_move(before, after):
            _check_move(simulation, before, after)
        simulation.change(before, after)
        if after is not None:
            networks[uuid] = after
        assert {n.uuid: n for n in simulation.mirror.ordered()} == {n.uuid: n for n in networks.values()}
        assert drift(simulation) == []
        assert list(simulation.mirror.orphans()) == []
        if after is not None:
            assert simulation.change(after, after) == 0, "a change that is in place already writes nothing"
    for network in networks.values():
        simulation.change(network, None)
    assert not any(simulation.everything().values())


def _check_move(simulation: Simulation, before: VirtualNetwork, after: VirtualNetwork) -> None:
    """The first transaction of a move: the new ports are there, and the vacated ones still are."""
    simulation.commit(simulation.planner.move(before, after))
    assert drift(simulation) == []
    names = set(simulation.names("Logical_Switch_Port"))
    assert {logical_port(e) for e in after.endpoints} <= names
    stay = [e for e in before.endpoints if e.uuid in after.by_uuid]
    assert {logical_port(e) for e in stay} <= names
    assert simulation.mirror.networks[after.uuid].description == after


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_foreign_change_is_repaired(data: st.DataObject) -> None:
    simulation = Simulation()
    network = data.draw(a_network(1, PLACES))
    simulation.change(None, network)
    before = simulation.everything()
    main = ("Logical_Router" if network.forwarding == "L3" else "Logical_Switch", "netvirt-1")
    for _ in range(data.draw(st.integers(1, 4))):
        rows = [
            (t, u) for t, rs in simulation.server.tables.items() for u in rs if rs[u].get("name") != main[1]
        ]
        if not rows:
            break
        table, uuid = data.draw(st.sampled_from(sorted(rows)))
        simulation.commit(_foreign_change(data, simulation, table, uuid))
    assert bool(drift(simulation)) is (simulation.everything() != before)
    simulation.commit(simulation.planner.repair("1"))
    assert drift(simulation) == []
    assert simulation.everything() == before


def _foreign_change(
    data: st.DataObject, simulation: Simulation, table: str, uuid: str
) -> list[dict[str, Any]]:
    """A change of a row by another program."""
    here = [["_uuid", "==", ["uuid", uuid]]]
    row = simulation.server.tables[table][uuid]
    kind = data.draw(st.sampled_from(["delete", "change", "intrude", "loosen"]))
    columns = [c for c in ("ports", "acls", "qos_rules", "static_routes") if row.get(c)]
    if kind == "loosen" and columns:
        part = sorted(row[columns[0]])[0]
        return [{"op": "mutate", "table": table, "where": here,
                 "mutations": [[columns[0], "delete", ["set", [["uuid", part]]]]]}]  # fmt: skip
    if kind == "intrude" and "ports" in row and table == "Logical_Switch":
        new = {"op": "insert", "table": "Logical_Switch_Port", "uuid-name": "i", "row": {"name": f"x{uuid}"}}
        if f"x{uuid}" in simulation.names("Logical_Switch_Port"):
            return []
        return [new, {"op": "mutate", "table": table, "where": here,
                      "mutations": [["ports", "insert", ["set", [["named-uuid", "i"]]]]]}]  # fmt: skip
    if kind == "change" and "match" in row:
        return [{"op": "update", "table": table, "where": here, "row": {"match": "1"}}]
    if kind == "change" and table == "Logical_Switch_Port":
        return [{"op": "update", "table": table, "where": here, "row": {"addresses": ["set", []]}}]
    holders = [
        {"op": "mutate", "table": t, "where": [["_uuid", "==", ["uuid", u]]],
         "mutations": [[c, "delete", ["set", [["uuid", uuid]]]]]}
        for t, rs in simulation.server.tables.items() for u, r in rs.items()
        for c in ("ports", "acls", "qos_rules", "static_routes") if uuid in r.get(c, ())
    ]  # fmt: skip
    return holders or [{"op": "delete", "table": table, "where": here}]


def test_a_comparison_with_no_desired_rows_removes_all() -> None:
    simulation = Simulation()
    description = {"uuid": 1, "endpoints": [{"uuid": 1, "switch": "ch1", "port": "p1", "vlan": 5}]}
    simulation.change(None, VirtualNetwork.model_validate(description))
    stored = simulation.mirror.stored_rows(["1", "trunk ch1:p1"])
    simulation.commit(operations(compare((), stored), stored))
    assert not any(simulation.everything().values())
