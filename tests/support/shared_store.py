"""A store in a cluster, with the lease that it needs."""

from __future__ import annotations

import time

from libnetvirt.ovsdb.remotes import Remote
from libnetvirt.store import Snapshot
from libnetvirt.store.cluster import Cluster
from libnetvirt.store.ovsdb import OvsdbStore


def unopened(state: str, address: str = "", lease: float = 1.0) -> Cluster:
    """What the option ``state`` names."""
    return Cluster(Remote.parse_all(state.removeprefix("ovsdb:")), None, address=address, lease=lease)


def opened(state: str, address: str = "", lease: float = 1.0) -> Cluster:
    """Connect to what the option ``state`` names, and compete for the lease."""
    cluster = unopened(state, address, lease)
    cluster.open()
    cluster.compete()
    return cluster


def await_lease(cluster: Cluster, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not cluster.leading:
        assert time.monotonic() < deadline, f"it does not lead after {seconds} s"
        time.sleep(0.005)


class SharedStore(OvsdbStore):
    """Loads when it leads, and gives the lease back when it is closed."""

    def __init__(self, state: str, lease: float = 1.0) -> None:
        self.cluster = opened(state, lease=lease)
        super().__init__(self.cluster)

    def load(self) -> Snapshot:
        await_lease(self.cluster)
        return super().load()

    def close(self) -> None:
        super().close()
        self.cluster.close()
