"""The openflow driver as it is found by its name: its options, what it offers, and its state file.

Commands that open no connection need no more. The controller is imported with the first connection
(`libnetvirt.drivers.openflow.opened`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from libnetvirt.driver import Capabilities, Driver
from libnetvirt.drivers.openflow import capabilities
from libnetvirt.drivers.openflow.options import CLUSTER, OpenFlowSettings
from libnetvirt.errors import StateUnusable, Unsupported
from libnetvirt.model import VirtualNetwork
from libnetvirt.store import Key, offline
from libnetvirt.store.sqlite import MEMORY, default_path
from libnetvirt.uri import URI


class OpenFlowDriver(Driver):
    """Virtual networks on OpenFlow 1.3 switches."""

    settings = OpenFlowSettings

    @classmethod
    def offers(cls) -> Capabilities:
        return capabilities.capabilities(capabilities.PRESETS["proactive"])

    @classmethod
    async def open(cls, uri: URI) -> Driver:
        if OpenFlowSettings.from_uri(uri).state.startswith(CLUSTER):
            from libnetvirt.drivers.openflow.shared import SharedDriver

            return await SharedDriver.open(uri)
        from libnetvirt.drivers.openflow.opened import OpenedDriver

        return await OpenedDriver.open(uri)

    @classmethod
    def backup_file(cls, uri: URI) -> bytes:
        from libnetvirt.controller.intent.facts import from_version_1

        if (cluster := OpenFlowSettings.from_uri(uri).cluster()) is not None:
            from libnetvirt.store import cluster_offline

            return cluster_offline.backup(cluster)
        return offline.backup(_state_file(uri), from_version_1)

    @classmethod
    def restore(cls, uri: URI, content: bytes, *, incomplete: bool = False) -> Sequence[VirtualNetwork]:
        from libnetvirt.controller.intent.facts import Facts, from_version_1

        if (cluster := OpenFlowSettings.from_uri(uri).cluster()) is not None:
            from libnetvirt.store import cluster_offline

            backup = offline.examined(content, from_version_1, Facts.from_rows, incomplete)
            kept = default_path(capabilities.NAME).with_name("cluster")
            return cluster_offline.restore(cluster, *backup, _inherited, kept)
        return offline.restore(
            _state_file(uri), content, from_version_1, Facts.from_rows, incomplete, _inherited
        )

    @classmethod
    def preview_restore(
        cls, uri: URI, content: bytes, *, incomplete: bool = False
    ) -> tuple[Sequence[VirtualNetwork] | None, Sequence[VirtualNetwork]]:
        from libnetvirt.controller.intent.facts import Facts, from_version_1

        if (cluster := OpenFlowSettings.from_uri(uri).cluster()) is not None:
            from libnetvirt.store import cluster_offline

            backup, _ = offline.examined(content, from_version_1, Facts.from_rows, incomplete)
            return cluster_offline.networks(cluster), backup.networks
        return offline.preview(_state_file(uri), content, from_version_1, Facts.from_rows, incomplete)


def _inherited(replaced: Mapping[Key, str], commits: int, backup: Mapping[Key, str]) -> Mapping[Key, str]:
    from libnetvirt.controller.intent.facts import Facts
    from libnetvirt.controller.intent.inherited_runs import inherited_runs

    try:
        runs = inherited_runs(Facts.from_rows(replaced), commits, Facts.from_rows(backup))
    except StateUnusable:
        return {}
    return dict(run.row() for run in runs)


def _state_file(uri: URI) -> str | Path:
    """The file that sessions with this URI keep their state in. Raises InvalidURI, Unsupported."""
    state = OpenFlowSettings.from_uri(uri).state or default_path(capabilities.NAME)
    if state == MEMORY:
        raise Unsupported(
            f"{uri.text!r} keeps nothing (state=:memory:): name the file in use with state=PATH"
        )
    return state
