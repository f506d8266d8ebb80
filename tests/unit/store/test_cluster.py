"""A store that several controllers share: one writes at a time, and what it has confirmed stays."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from libnetvirt.errors import StateUnusable
from libnetvirt.model import VirtualNetwork
from libnetvirt.ovsdb.remotes import Remote
from libnetvirt.store import Batch, Snapshot, cluster_offline, ovsdb
from libnetvirt.store import cluster as clusters
from libnetvirt.store.cluster import Cluster
from libnetvirt.store.cluster_schema import DATABASE
from libnetvirt.store.ovsdb import OvsdbStore
from tests.support.shared_store import SharedStore, await_lease, opened, unopened
from tests.support.state_cluster import StateCluster
from tests.support.unix_proxy import Proxy
from tests.support.waiting import eventually

RED = VirtualNetwork(uuid=8, name="red")


@pytest.fixture
def three() -> Iterator[StateCluster]:
    with StateCluster(election=200) as cluster:
        yield cluster


@pytest.fixture
def one() -> Iterator[StateCluster]:
    with StateCluster(members=1) as cluster:
        yield cluster


def _freeze(cluster: Cluster) -> None:
    """It renews its lease no more, and does not see what becomes of it: as a process that is stopped."""
    loop = cluster._loop
    assert cluster._competing is not None
    loop.call_soon_threadsafe(cluster._competing.cancel)


def test_of_those_that_start_together_one_leads(one: StateCluster) -> None:
    with ExitStack() as stack:
        many = []
        threads = [threading.Thread(target=lambda: many.append(opened(one.state))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for cluster in many:
            stack.callback(cluster.close)
        eventually(lambda: any(cluster.leading for cluster in many))
        assert [cluster.lease.term for cluster in many if cluster.leading] == [1]
        assert [row["term"] for row in one.rows("Lease")] == [1]


def test_a_leader_that_ends_hands_over_at_once_and_one_that_is_gone_is_replaced(one: StateCluster) -> None:
    with (
        closing(opened(one.state, "first", lease=5.0)) as first,
        closing(opened(one.state, "second", lease=2.0)) as second,
    ):
        await_lease(first)
        eventually(lambda: second.leader == "first")
        first.close()
        await_lease(second, 4.0)  # sooner than a lease of the first would have lasted
        assert (second.lease.term, second.leader) == (2, "")
        with closing(opened(one.state, "third", lease=2.0)) as third:
            eventually(lambda: third.lease.followed)
            with pytest.raises(StateUnusable, match="Stop all controllers"):
                cluster_offline.restore(
                    unopened(one.state), Snapshot(), 0, lambda *_: {}, one.directory / "kept"
                )
            _freeze(second)
            await_lease(third)
            assert third.lease.term == 3


def test_a_late_old_leader_commits_nothing(one: StateCluster) -> None:
    with closing(opened(one.state)) as old, closing(opened(one.state)) as new:
        eventually(lambda: old.leading or new.leading)
        if new.leading:
            old, new = new, old
        late, present = OvsdbStore(old), OvsdbStore(new)
        late.load()
        late.commit(Batch(put=[RED]))
        _freeze(old)
        await_lease(new)
        # Nothing was written meanwhile, so that only the lease tells.
        with pytest.raises(StateUnusable, match="does not lead any more"):
            late.commit(Batch(put=[VirtualNetwork(uuid=9, name="late")]))
        with pytest.raises(StateUnusable):
            late.check()
        assert present.load().networks == [RED]
        present.commit(Batch(facts={("who", "is"): "new"}))
        assert present.load() == Snapshot([RED], {("who", "is"): "new"})


def test_what_another_program_writes_is_not_overwritten(one: StateCluster) -> None:
    with closing(SharedStore(one.state)) as store:
        store.load()
        store.commit(Batch(put=[RED]))
        one.transact({"op": "mutate", "table": "State", "where": [], "mutations": [["commits", "+=", 1]]})
        with pytest.raises(StateUnusable, match="another controller has written"):
            store.commit(Batch(put=[VirtualNetwork(uuid=9, name="blind")]))
        assert [n.name for n in store.load().networks] == ["red"]
        store.commit(Batch(drop=["8"]))
        assert store.load() == Snapshot()


@pytest.mark.parametrize("before", [True, False], ids=["request", "reply"])
def test_a_commit_whose_session_breaks_is_made_once(three: StateCluster, before: bool) -> None:
    with ExitStack() as stack:
        proxies = [
            stack.enter_context(Proxy(three.directory / f"p{member}", three.socket(member)))
            for member in three.members
        ]
        state = "ovsdb:" + ",".join(f"unix:{three.directory}/p{member}" for member in three.members)
        # A long lease: its renewals are not to be what breaks.
        store = stack.enter_context(closing(SharedStore(state, lease=20.0)))
        store.load()
        store.commit(Batch(put=[RED]))
        for proxy in proxies:
            proxy.lose(b'"Network"', before=before)
        store.commit(Batch(put=[VirtualNetwork(uuid=9, name="blue")], facts={("a", "b"): "c"}))
        assert sum(proxy.lost for proxy in proxies) >= 1
        assert [n.name for n in store.load().networks] == ["red", "blue"]
        assert [row["commits"] for row in three.rows("State")] == [2]


@pytest.mark.parametrize("loss", ["kill", "freeze"])
def test_the_loss_of_a_member_loses_no_commit(three: StateCluster, loss: str) -> None:
    with closing(SharedStore(three.state, lease=2.0)) as store:
        store.load()
        for round_, member in enumerate((three.leader(), 1)):
            # The member that leads the others, then perhaps the one that this client talks to.
            over = threading.Timer(0.05, getattr(three, loss), [member])
            over.start()
            for number in range(100):
                store.commit(Batch(facts={(f"round {round_}", str(number)): "x"}))
            over.join()
            if loss == "kill":
                three.start(member)
            else:
                three.thaw(member)
        assert len(store.load().facts) == 200
        assert [row["commits"] for row in three.rows("State")] == [200]


def test_without_a_majority_a_commit_fails_and_afterwards_nothing_is_in_doubt(
    three: StateCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "COMMITTING", 0.5)
    with closing(SharedStore(three.state)) as store:
        store.load()
        store.commit(Batch(put=[RED]))
        for member in (1, 2):
            three.freeze(member)
        with pytest.raises(StateUnusable, match=r"committed for 0\.5 s"):
            store.commit(Batch(put=[VirtualNetwork(uuid=9, name="perhaps")]))
        assert not store.cluster.leading, "what is in the state is not known: it has to be read again"
        for member in (1, 2):
            three.thaw(member)
        names = [n.name for n in store.load().networks]
        assert names in (["red"], ["red", "perhaps"])
        store.commit(Batch(facts={("a", "b"): "c"}))
        assert [n.name for n in store.load().networks] == names


def test_a_database_that_is_not_ours_or_not_there_is_told(
    one: StateCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "OPENING", 0.3)
    nowhere = Cluster(Remote.parse_all(f"unix:{tmp_path}/nothing"), None, address="", lease=1.0)
    with pytest.raises(
        StateUnusable, match=rf"no usable server of database {DATABASE}.* Check that ovsdb-server"
    ):
        nowhere.open()
    opened(one.state).close()
    one.transact({"op": "update", "table": "State", "where": [], "row": {"version": 99}})
    with pytest.raises(StateUnusable, match="newer version of libnetvirt"):
        opened(one.state)


def test_a_row_that_is_spoilt_and_a_commit_that_is_too_long_are_refused(
    one: StateCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(SharedStore(one.state)) as store:
        store.load()
        monkeypatch.setattr(ovsdb, "MAX_COMMIT", 10_000)
        with pytest.raises(StateUnusable, match="10000 are allowed"):
            store.commit(Batch(facts={("a", "b"): "x" * 10_000}))
        store.commit(Batch(put=[RED]))
        one.transact({"op": "update", "table": "Network", "where": [], "row": {"document": "not json"}})
        with pytest.raises(StateUnusable, match="changed by another program"):
            store.load()
