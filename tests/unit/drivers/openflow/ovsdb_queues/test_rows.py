"""Queues as OVSDB rows: one transaction makes the desired rows, and foreign rows are not changed."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libnetvirt.controller.qos.capacities import Capacities
from libnetvirt.controller.qos.queues import PortQueues, Queue
from libnetvirt.controller.topology.pathfinder import LinkEnd
from libnetvirt.drivers.openflow import capabilities
from libnetvirt.drivers.openflow.options import OpenFlowSettings
from libnetvirt.drivers.openflow.ovsdb_queues.rows import OWNER, PORT, Ports, operations
from libnetvirt.errors import InvalidDescription, InvalidURI, Unsupported
from libnetvirt.model import Constraint, VirtualNetwork
from libnetvirt.ovsdb.database import Operation, Refused
from libnetvirt.uri import URI
from tests.support.switch_database import Rows

US, OTHERS = "libnetvirt", "others"
PLACES: list[LinkEnd] = [(1, 1), (1, 2), (2, 1), (3, 1)]
rates = st.integers(1, 3)
queues = st.dictionaries(
    st.integers(0, 3), st.builds(Queue, rates, rates, st.just(("n", "1", "2"))), min_size=1
)
ports = st.one_of(st.just(PortQueues(None)), st.builds(PortQueues, rates, queues))
shapes = st.dictionaries(st.sampled_from(PLACES), ports)
#: what a stranger does: to which of the things that he finds, and how
thefts = st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 5)), max_size=3)


def wish(rows: Rows, shape: dict[LinkEnd, PortQueues], dpids: set[int]) -> list[Operation]:
    return operations(rows.tables, Ports.of(rows.tables), shape, dpids, US)


def theirs(rows: Rows) -> dict[str, dict[str, Any]]:
    return {
        uuid: row
        for table in ("QoS", "Queue")
        for uuid, row in rows.tables[table].items()
        if row["external_ids"].get(OWNER) != US
    }


def steal(rows: Rows, what: str, which: int) -> None:
    """Another program changes something."""
    tables = rows.tables
    port = sorted(tables["Port"])[which % len(tables["Port"])]
    qos = sorted(tables["QoS"])
    if what == "a":
        tables["Port"][port]["qos"] = None
    elif what == "b":
        tables["Port"][port]["qos"] = rows.put("QoS", type="linux-sfq", external_ids={OWNER: OTHERS})
    elif qos and what == "c":
        tables["QoS"][qos[which % len(qos)]]["queues"] = {}
    elif qos and what == "d":
        stranger = rows.put("Queue", external_ids={})
        row = tables["QoS"][qos[which % len(qos)]]
        row["queues"] = {**row["queues"], which: ["uuid", stranger]}
    elif qos and what == "e":
        tables["Port"][port]["qos"] = qos[which % len(qos)]
    elif what == "f":
        for row in tables["Queue"].values():
            row["other_config"] = {}


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(shapes, thefts), min_size=1, max_size=4))
def test_one_transaction_restores_the_desired_rows_after_any_foreign_change(
    steps: list[tuple[dict[LinkEnd, PortQueues], list[tuple[str, int]]]],
) -> None:
    rows = Rows({1: (1, 2), 2: (1,), 3: (1,)})
    dpids = {1, 2}  # the third is another controller's
    for shape, stolen in steps:
        for theft in stolen:
            steal(rows, *theft)
        before, foreign = seen_or_none(rows), copy.deepcopy(theirs(rows))
        third = copy.deepcopy(rows.tables["Port"][Ports.of(rows.tables).rows[3, 1]])
        rows.transact(wish(rows, shape, dpids))
        assert wish(rows, shape, dpids) == []
        assert theirs(rows) == foreign
        assert rows.tables["Port"][Ports.of(rows.tables).rows[3, 1]] == third
        uuids = Ports.of(rows.tables).rows
        for place in [place for place in PLACES if place[0] in dpids]:
            qos = rows.tables["Port"][uuids[place]]["qos"]
            if qos in foreign:
                continue
            wanted = shape.get(place, PortQueues(0))
            if wanted.rate is None:
                assert qos == before[place]
            elif wanted.queues:
                now = seen_at(rows, place)
                assert now == (wanted.rate, {n: (q.min_rate, q.max_rate) for n, q in wanted.queues.items()})
            else:
                assert qos is None
        used = {row["qos"] for row in rows.tables["Port"].values()}
        assert {u for u, r in rows.tables["QoS"].items() if r["external_ids"].get(OWNER) == US} <= used


def seen_or_none(rows: Rows) -> dict[LinkEnd, str | None]:
    return {place: rows.tables["Port"][uuid]["qos"] for place, uuid in Ports.of(rows.tables).rows.items()}


def seen_at(rows: Rows, place: LinkEnd) -> object:
    qos = rows.tables["QoS"][rows.tables["Port"][Ports.of(rows.tables).rows[place]]["qos"]]
    assert qos["external_ids"] == {OWNER: US, PORT: f"{place[0]:016x}/{place[1]}"}
    held = {n: rows.tables["Queue"][ref[1]]["other_config"] for n, ref in qos["queues"].items()}
    return int(qos["other_config"]["max-rate"]), {
        n: (int(c["min-rate"]), int(c["max-rate"])) for n, c in held.items()
    }


def test_unused_rows_are_removed() -> None:
    rows = Rows({1: (1, 2)})
    shape = {(1, 1): PortQueues(9, {0: Queue(1, 9), 4: Queue(5, 9, ("n", "1", "2"))})}
    rows.transact(wish(rows, shape, {1}))
    assert len(rows.tables["Queue"]) == 2
    rows.transact(wish(rows, {}, {1}))
    assert not rows.tables["QoS"]
    assert not rows.tables["Queue"]


def test_a_concurrent_writer_is_not_overwritten() -> None:
    rows = Rows({1: (1,)})
    steps = wish(rows, {(1, 1): PortQueues(9, {0: Queue(1, 9)})}, {1})
    steal(rows, "b", 0)
    with pytest.raises(Refused, match="timed out"):
        rows.transact(steps)


def test_the_reason_why_a_port_has_no_queues_is_reported() -> None:
    rows = Rows({1: (1, 2)}, "netdev")
    bonded = frozenset({rows.put("Interface", ofport=5), rows.put("Interface", ofport=6)})
    bridge = next(iter(rows.tables["Bridge"].values()))
    bridge["ports"] |= {rows.put("Port", interfaces=bonded)}
    steal(rows, "b", 1)
    known = Ports.of(rows.tables)
    taken = next(place for place, uuid in known.rows.items() if rows.tables["Port"][uuid]["qos"])
    free = next(place for place in known.rows if place != taken)

    def why(place: LinkEnd, unchecked: bool = True) -> str:
        return known.support(rows.tables, place, US, unchecked).reason

    assert why(free) == ""
    assert "netdev, ignores queues" in why(free, unchecked=False)
    assert "QoS of another program" in why(taken)
    assert "in a bond" in why((1, 5))
    assert "no bridge with its datapath id" in why((7, 1))


def _settings(options: str = "") -> OpenFlowSettings:
    return OpenFlowSettings.from_uri(URI.parse(f"openflow:///{options}"))


def test_databases_are_given_in_the_uri_or_per_switch() -> None:
    capacities = Capacities({}, '[[switch]]\nid = 3\novsdb = "tcp:[fd00::1]:6640"\n', "c.toml")
    found = _settings("?ovsdb=unix:/x").databases(capacities, "c.toml")
    assert (str(found.of(1)), str(found.of(3))) == ("unix:/x", "tcp:[fd00::1]:6640")
    assert not _settings().databases(Capacities({}), "").remotes
    for text, why in (
        ("ovsdb=x", "is not a database's address"),
        ("ovsdb=ssl:a:1", "key, certificate and ca"),
        ("owner=", "option owner"),
    ):
        with pytest.raises(InvalidURI, match=why):
            _settings(f"?{text}").databases(capacities, "c.toml")
    wrong = Capacities({}, '[[switch]]\nid = 3\novsdb = "there"\n', "c.toml")
    with pytest.raises(
        InvalidDescription, match=r"c\.toml: switch 3: ovsdb: 'there' is not a database's address"
    ):
        _settings().databases(wrong, "c.toml")


def test_queues_without_a_database_are_not_offered() -> None:
    offered = capabilities.capabilities(capabilities.PRESETS["proactive"], without=capabilities.NO_DATABASE)
    asked = Constraint.model_validate({"source": 1, "destination": 2, "min-bandwidth": "1 Mbit/s"})
    ends = [{"uuid": n, "switch": n, "port": 1} for n in (1, 2)]
    reason = r"the databases of the switches are not known: .* enforcement=meter"
    with pytest.raises(Unsupported, match=reason):
        offered.check(VirtualNetwork.model_validate({"endpoints": ends, "constraints": [asked]}))
