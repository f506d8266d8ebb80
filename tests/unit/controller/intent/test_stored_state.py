"""State files of older versions: what they hold is converted, and gives the rules that switches hold."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import Flow, SwitchEntry, add_message
from libnetvirt.controller.dataplane.pipeline import Table
from libnetvirt.controller.engine.controller import Options
from libnetvirt.controller.intent.facts import (
    ConstraintPath,
    Fact,
    Facts,
    KnownLink,
    LastIndex,
    MeterNumber,
    NetworkIndex,
    QueueNumber,
    ServiceLabel,
    TunnelLabel,
    from_version_1,
    rows,
)
from libnetvirt.controller.rules import priority_tags, probing
from libnetvirt.controller.rules.encapsulation import ANY_VLAN
from libnetvirt.controller.topology import probes
from libnetvirt.errors import StateUnusable
from libnetvirt.model import Encapsulation
from libnetvirt.store import Snapshot, offline
from libnetvirt.store.sqlite import SqliteStore
from tests.support.controller_rig import VLAN, Rig

#: three switches in a ring: networks with vlan and mpls tunnels, native, a router; limits and constraints
WRITTEN = Path(__file__).with_name("data") / "state-version-1.sql"
#: by switch, the number of rules, groups and meters that the controller which wrote it had installed, and a
#: digest of them as they are sent
#: (since then frames in mpls tunnels have been given a source address: of this, the digests are today's)
HELD = {
    1: (133, "d7d2e8776a67b9f6e7c4d308239c2460e1bcad41e85cd11c992c4af8742b14e1"),
    2: (121, "97aa64c4a0232b5ec904a59fec7137f47fb2d465e3be44b61e81d618c52ddd38"),
    3: (137, "311d8749746edb3e389d8b27e03f98e47e7ff3632c6c86960165d128f17f0ce4"),
}


def _file(place: Path) -> Path:
    path = place / "state.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(WRITTEN.read_text())
    return path


def _load(path: Path) -> Snapshot:
    store = SqliteStore(path, from_version_1)
    try:
        return store.load()
    finally:
        store.close()


def test_a_file_of_version_1_gives_the_rules_that_its_controller_had_installed(tmp_path: Path) -> None:
    snapshot = _load(_file(tmp_path))
    assert [network.name for network in snapshot.networks] == ["blue", "red", "router", "native"]
    rig = Rig(Options(VLAN, capacities='capacity = "100 Mbit/s"'))
    rig.core.load(snapshot.networks, Facts.from_rows(snapshot.facts), rig.now)
    for dpid in HELD:
        rig.switch(dpid, 6)
    for one, other in (((1, 1), (2, 1)), ((2, 2), (3, 1)), ((3, 2), (1, 2))):
        rig.fabric.link(one, other)
    # Two of its links were known to it when it was stopped.
    for dpid, port in ((2, 2), (3, 1), (3, 2), (1, 2)):
        rig.pending.add(rig.core.topology.lldp(dpid, [port], rig.now))
    rig.settle()
    for dpid, held in HELD.items():
        # That controller did not probe switches and links, and dropped priority tags.
        switch = rig.state.switches[dpid]
        new = {placed.entry.key for base in (probing.base, priority_tags.base) for placed in base(switch)}
        new |= {entry.key for entry in probes.ENTRIES.values()}
        sent = sorted(
            add_message(_as_it_was(placed.entry)).encode().hex()
            for key, placed in rig.state.installed.on(dpid).items()
            if key not in new
        )
        assert (len(sent), hashlib.sha256("\n".join(sent).encode()).hexdigest()) == held, dpid


def _as_it_was(entry: SwitchEntry) -> SwitchEntry:
    """Version 1 had no networks that keep tags, which the rule that drops a second tag spares; and its rules
    for the outer labels of mpls tunnels took frames with a VLAN tag, too."""
    if not isinstance(entry, Flow):
        return entry
    if entry.match.get("metadata") == (0, pipeline.METADATA_KEEPS):
        return replace(entry, match=of.Match(vlan_vid=ANY_VLAN))
    names = ("eth_type", "mpls_label", "mpls_bos")
    fields = {name: entry.match.value(name) for name in names if entry.match.get(name) is not None}
    if entry.table in (Table.TUNNEL, Table.SERVICE) and entry.match == of.Match(vlan_vid=0, **fields):
        return replace(entry, match=of.Match(**fields))
    return entry


def test_the_records_of_a_file_of_version_1(tmp_path: Path) -> None:
    facts = Facts.from_rows(_load(_file(tmp_path)).facts)
    assert facts.of(LastIndex) == [LastIndex(5)]
    assert NetworkIndex("2", 2) in facts.of(NetworkIndex)
    assert KnownLink(3, 1, 2, 2) in facts.of(KnownLink)
    assert TunnelLabel(Encapsulation.VLAN, 2, 2, 2) in facts.of(TunnelLabel)
    assert TunnelLabel(Encapsulation.MPLS, 1, 1, 17) in facts.of(TunnelLabel)
    assert ServiceLabel(Encapsulation.MPLS, 3, "3", 16) in facts.of(ServiceLabel)
    assert MeterNumber(1, "in/2/21", 4096) in facts.of(MeterNumber)
    assert MeterNumber(1, "constraint/2/21/22", 4098) in facts.of(MeterNumber)
    assert MeterNumber(1, "link//2", 4101) in facts.of(MeterNumber)
    path = ConstraintPath("2", "21", "22", 1, 6, ((1, 2, 3, 2), (3, 1, 2, 2)))
    assert path in facts.of(ConstraintPath)


def test_a_file_is_upgraded_once_and_a_copy_is_kept(tmp_path: Path) -> None:
    path = _file(tmp_path)
    path.chmod(0o600)
    first = _load(path)
    copy = tmp_path / "state.db.version-1"
    assert copy.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(copy)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
        assert ("course", "2/22/23", "2 5 2:2:3:1") in db.execute(
            "SELECT kind, key, value FROM fact"
        ).fetchall()
    copy.unlink()
    assert _load(path) == first
    assert not copy.exists()


def test_queues_and_degraded_constraints_of_version_1() -> None:
    old = {("queue", "7/1/2"): "4", ("course", "7/1/2"): "3 -"}
    facts = Facts.from_rows(from_version_1(old))
    assert facts.of(QueueNumber) == [QueueNumber("7", "1", "2", 4)]
    assert facts.of(ConstraintPath) == [ConstraintPath("7", "1", "2", 3, None, ())]


def test_a_file_of_version_1_that_cannot_be_converted_stays_as_it_is(tmp_path: Path) -> None:
    path = _file(tmp_path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("INSERT INTO fact VALUES ('tunnel', 'no number', '1 1')")
        db.commit()
    with pytest.raises(
        StateUnusable, match=r"state\.db cannot be used: the fact tunnel 'no number' = '1 1' is not one"
    ):
        SqliteStore(path, from_version_1)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
        assert db.execute("SELECT value FROM fact WHERE kind = 'last'").fetchone() == ("5",)


def test_a_record_that_is_not_valid_is_named() -> None:
    (key, value) = LastIndex(5).row()
    assert Facts.from_rows({key: value}).of(LastIndex) == [LastIndex(5)]
    with pytest.raises(StateUnusable, match=r"stored fact meter \[1,\"in\"\] = \[\"many\"\] is not valid"):
        Facts.from_rows({("meter", '[1,"in"]'): '["many"]'})
    with pytest.raises(StateUnusable, match="knows no such kind"):
        Facts.from_rows({("weather", "[]"): "[]"})
    assert rows({}) == {}


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("network-index", '["2"]', "[0]"),
        ("network-index", '["2"]', "[1048576]"),
        ("network-index", '["2"]', "[-1]"),
        ("network-index", '["2"]', "[1.5]"),
        ("last-index", "[]", "[0]"),
        ("tunnel-label", '["vlan",2]', "[1,4095]"),
        ("tunnel-label", '["vlan",2]', "[0,1]"),
        ("tunnel-label", '["vlan",2]', "[4194304,1]"),
        ("tunnel-label", '["mpls",2]', "[1,15]"),
        ("tunnel-label", '["mpls",2]', "[1,1048576]"),
        ("tunnel-label", '["native",2]', "[1,16]"),
        ("tunnel-label", '["vlan",18446744073709551616]', "[1,1]"),
        ("service-label", '["vlan",2,"1"]', "[0]"),
        ("service-label", '["mpls",-2,"1"]', "[16]"),
        ("link", "[1,0,2,1]", "[]"),
        ("link", "[1,1,2,4294967041]", "[]"),
        ("link", "[1,1,2]", "[]"),
        ("meter", '[1,"in/2/21"]', "[4294901761]"),
        ("queue", '["1","2","3"]', "[4294967295]"),
        ("constraint-path", '["1","2","3"]', "[1,1048576,[]]"),
        ("constraint-path", '["1","2","3"]', "[1,6,[[1,2,3,0]]]"),
        ("network-rules", '["1"]', '[{"encapsulation":"gre"}]'),
        ("last-index", "not json", "[1]"),
    ],
)
def test_a_record_out_of_range_is_one_clear_error(kind: str, key: str, value: str) -> None:
    with pytest.raises(StateUnusable, match=r"stored fact .* is not valid: .*netvirt restore FILE") as caught:
        Facts.from_rows({(kind, key): value})
    assert f"{kind} {key} = {value}" in str(caught.value)


@pytest.mark.parametrize(
    ("one", "other", "named"),
    [
        (NetworkIndex("1", 7), NetworkIndex("2", 7), "network index 7"),
        (
            TunnelLabel(Encapsulation.VLAN, 1, 1, 9),
            TunnelLabel(Encapsulation.VLAN, 2, 2, 9),
            "vlan outer label 9",
        ),
        (
            TunnelLabel(Encapsulation.MPLS, 1, 3, 16),
            TunnelLabel(Encapsulation.MPLS, 2, 3, 17),
            "mpls group number 3",
        ),
        (
            ServiceLabel(Encapsulation.VLAN, 1, "1", 5),
            ServiceLabel(Encapsulation.VLAN, 1, "2", 5),
            "vlan inner label 5 at switch 1",
        ),
        (MeterNumber(1, "in/1/11", 4096), MeterNumber(1, "in/2/21", 4096), "meter 4096 of switch 1"),
    ],
)
def test_a_number_that_two_own_is_one_clear_error(one: Fact, other: Fact, named: str) -> None:
    """Two networks with one index or label would not be isolated from each other."""
    stored = dict(record.row() for record in (one, other))
    with pytest.raises(StateUnusable, match=f"{named} belongs to 2 owners.*netvirt restore FILE"):
        Facts.from_rows(stored)
    assert Facts.from_rows(dict([one.row()])).of(type(one)) == [one]


def test_a_number_out_of_range_in_a_file_of_version_1_leaves_it_as_it_is(tmp_path: Path) -> None:
    path = _file(tmp_path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE fact SET value = '-5' WHERE kind = 'last'")
        db.commit()
    with pytest.raises(StateUnusable, match="the fact last 'index' = '-5' is not one of state version 1"):
        SqliteStore(path, from_version_1)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)


def test_a_backup_of_version_1_is_converted_when_it_is_restored(tmp_path: Path) -> None:
    old = _file(tmp_path).read_bytes()
    path = tmp_path / "new" / "state.db"
    restored = offline.restore(path, old, from_version_1, Facts.from_rows)
    assert [network.name for network in restored] == ["blue", "red", "router", "native"]
    assert _load(path) == _load(tmp_path / "state.db")
