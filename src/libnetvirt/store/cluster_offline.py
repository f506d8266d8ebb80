"""Backup and restore of the state in a cluster that no controller leads."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from libnetvirt.errors import StateUnusable
from libnetvirt.model import VirtualNetwork
from libnetvirt.store import Snapshot
from libnetvirt.store.cluster import Cluster
from libnetvirt.store.offline import Inherit
from libnetvirt.store.ovsdb import OvsdbStore, as_state_file
from libnetvirt.store.state_file import unusable, write_private

#: seconds between two looks at the lease
_LOOK: Final = 0.02


def backup(cluster: Cluster) -> bytes:
    """A copy of the state, as the content of a state file. Blocks. Raises StateUnusable."""
    cluster.open()
    with closing(cluster):
        return OvsdbStore(cluster).backup()


def networks(cluster: Cluster) -> Sequence[VirtualNetwork] | None:
    """The networks in the state; None if they cannot be read. Blocks. Raises StateUnusable if no member of
    the cluster answers."""
    cluster.open()
    with closing(cluster):
        try:
            return OvsdbStore(cluster).read().networks
        except StateUnusable:
            return None


def restore(
    cluster: Cluster, snapshot: Snapshot, commits: int, inherit: Inherit, kept: Path
) -> Sequence[VirtualNetwork]:
    """Replace the state by a backup with so many commits; returns its networks. What it replaces is kept as
    ``KEPT.replaced-N``, if there was anything.

    ``inherit``: what the backup gets from the state that it replaces. Blocks. Raises StateUnusable if a
    controller leads: then nothing was changed.
    """
    cluster.open()
    with closing(cluster):
        _lead(cluster)
        store = OvsdbStore(cluster)
        try:
            old = store.load()
        except StateUnusable:
            if store.term != cluster.lease.term:
                raise
            old = None  # It is damaged, and that may be why it is replaced.
        facts = dict(snapshot.facts)
        if old is not None and not store.created:
            _keep(kept, as_state_file(old))
            facts |= inherit(old.facts, store.commits, snapshot.facts)
        store.replace(Snapshot(snapshot.networks, facts), commits)
        return snapshot.networks


def _lead(cluster: Cluster) -> None:
    """Wait for the lease. Raises StateUnusable if another one renews it."""
    cluster.compete()
    while not cluster.leading:
        if cluster.lease.followed:
            where = f" (at {cluster.leader})" if cluster.leader else ""
            raise StateUnusable(
                f"nothing was restored: a controller leads{where} with the state in {cluster.name}. Stop all "
                "controllers with this state first"
            )
        time.sleep(_LOOK)


def _keep(path: Path, content: bytes) -> None:
    number = 1
    while (file := path.with_name(f"{path.name}.replaced-{number}")).exists():
        number += 1
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_private(file, content)
    except OSError as error:
        raise unusable(file, f"what is replaced cannot be kept there: {error}") from None
