"""What every store promises: a file of SQLite, and a database that several controllers share."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from libnetvirt.errors import StateUnusable
from libnetvirt.model import Endpoint, VirtualNetwork
from libnetvirt.store import Batch, Key, Snapshot, Store
from libnetvirt.store.sqlite import MEMORY, SqliteStore
from tests.support.shared_store import SharedStore
from tests.support.state_cluster import StateCluster
from tests.unit.store.test_sqlite_store import BLUE, RED

#: opens the same store again and again
Open = Callable[[], Store]


@pytest.fixture(params=["sqlite", "ovsdb"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    if request.param == "sqlite":
        yield lambda: SqliteStore(tmp_path / "state.db")
        return
    with StateCluster(members=1) as cluster:
        yield lambda: SharedStore(cluster.state)


def test_everything_survives_reopening_in_the_order_of_creation(reopen: Open) -> None:
    with closing(reopen()) as store:
        assert store.load() == Snapshot()
        assert store.created
        store.commit(Batch(put=[RED, BLUE], facts={("label", "1"): "100", ("label", "2"): "200"}))
        store.commit(Batch(put=[RED.changed(name="rouge")], facts={("label", "1"): None}))
        assert store.commits == 2
    with closing(reopen()) as again:
        assert again.load() == Snapshot([RED.changed(name="rouge"), BLUE], {("label", "2"): "200"})
        assert (again.commits, again.created) == (2, False)
        again.commit(Batch(drop=["8", "not there"]))
        assert again.load().networks == [BLUE]


def test_a_batch_is_written_completely_or_not_at_all(reopen: Open) -> None:
    with closing(reopen()) as store:
        store.load()
        store.commit(Batch(put=[BLUE]))
        bad = Batch(put=[RED], drop=["7"], facts={("kind", "key"): object()})  # type: ignore[dict-item]
        with pytest.raises(StateUnusable):
            store.commit(bad)
        assert store.load() == Snapshot([BLUE])
        store.commit(Batch(put=[RED]))
        assert store.load() == Snapshot([BLUE, RED])


def test_a_network_that_is_dropped_and_put_is_the_new_one(reopen: Open) -> None:
    with closing(reopen()) as store:
        store.load()
        store.commit(Batch(put=[BLUE, RED]))
        store.commit(Batch(drop=["7"], put=[BLUE.changed(name="bleu")]))
        assert store.load().networks == [RED, BLUE.changed(name="bleu")]


def test_a_closed_store_says_so(reopen: Open) -> None:
    store = reopen()
    store.load()
    store.close()
    store.close()
    with pytest.raises(StateUnusable, match="closed"):
        store.commit(Batch(put=[RED]))


def test_a_backup_is_a_state_file_with_everything(reopen: Open, tmp_path: Path) -> None:
    with closing(reopen()) as store:
        store.load()
        store.commit(Batch(put=[RED, BLUE], facts={("label", "1"): "100"}))
        file = tmp_path / "backup.db"
        file.write_bytes(store.backup())
        with closing(SqliteStore(file)) as copy:
            assert copy.load() == store.load()


def test_it_can_be_written(reopen: Open) -> None:
    with closing(reopen()) as store:
        store.load()
        store.check()


def test_any_changes_leave_what_they_leave_in_memory(reopen: Open) -> None:
    chance = random.Random(1412)
    facts: dict[Key, str | None]
    with closing(reopen()) as store, closing(SqliteStore(MEMORY)) as oracle:
        for one in (store, oracle):
            one.load()
        networks: dict[str, VirtualNetwork] = {}
        for step in range(150):
            batch = Batch()
            uuid = str(chance.randrange(1, 6))
            old = networks.get(uuid)
            if old is None:
                batch.put.append(_network(chance, uuid, step))
            elif chance.random() < 0.2:
                batch.drop.append(uuid)
            else:
                batch.alter.append((old, _altered(chance, old, step)))
            facts = {
                ("kind", str(chance.randrange(9))): chance.choice([None, str(step), "ä\n"]) for _ in range(3)
            }
            batch.facts.update(facts)
            for one in (store, oracle):
                one.commit(batch)
            networks |= {n.uuid: n for n in (*batch.put, *(after for _, after in batch.alter))}
            for dropped in batch.drop:
                del networks[dropped]
            if step % 10 == 9:
                assert store.load() == oracle.load()
        expected = oracle.load()
    with closing(reopen()) as store:
        assert store.load() == expected
        assert {n.uuid: n for n in expected.networks} == networks


def _network(chance: random.Random, uuid: str, step: int) -> VirtualNetwork:
    endpoints = [_endpoint(number, step) for number in chance.sample(range(1, 20), chance.randrange(5))]
    return VirtualNetwork(uuid=uuid, name=f"n{uuid}", endpoints=endpoints)


def _endpoint(number: int, step: int) -> Endpoint:
    return Endpoint(uuid=number, switch=1, port=1 + step, vlan=100 + number)


def _altered(chance: random.Random, old: VirtualNetwork, step: int) -> VirtualNetwork:
    endpoints = list(old.endpoints)
    what = chance.randrange(4)
    if what == 0 and endpoints:
        endpoints.pop(chance.randrange(len(endpoints)))
    elif what == 1 and endpoints:
        at = chance.randrange(len(endpoints))
        endpoints[at] = endpoints[at].changed(port=500 + step)
    elif what == 2:
        chance.shuffle(endpoints)
    else:
        endpoints = [e for e in endpoints if e.uuid != "30"] + [_endpoint(30, step)]
    return old.changed(endpoints=tuple(endpoints), name=chance.choice([old.name, f"m{old.uuid}"]))
