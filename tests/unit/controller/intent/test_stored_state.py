"""State files of older versions: what they hold is converted, and gives the rules that switches hold."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from libnetvirt.controller.dataplane.entries import add_message
from libnetvirt.controller.engine.controller import Options
from libnetvirt.controller.intent.facts import (
    ConstraintPath,
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
from libnetvirt.errors import StateUnusable
from libnetvirt.model import Encapsulation
from libnetvirt.store import Snapshot
from libnetvirt.store.sqlite import SqliteStore
from tests.support.controller_rig import VLAN, Rig

#: three switches in a ring: networks with vlan and mpls tunnels, native, a router; limits and constraints
WRITTEN = Path(__file__).with_name("data") / "state-version-1.sql"
#: by switch, the number of rules, groups and meters that the controller which wrote it had installed, and a
#: digest of them as they are sent
HELD = {
    1: (133, "bd62e831be87f2efa24bf74fdd164c70d0c5aa42ebec78b07be2589cf78fe4d0"),
    2: (121, "7f631f149b933c6c2e257e3959c6dd635cab27a006a2b4d3f79611aa133004ae"),
    3: (137, "73823fce2baeb6635b684f672e5cda78123138487f4752b265d7cff10c5ca8cf"),
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
        sent = sorted(
            add_message(placed.entry).encode().hex() for placed in rig.state.installed.on(dpid).values()
        )
        assert (len(sent), hashlib.sha256("\n".join(sent).encode()).hexdigest()) == held, dpid


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
