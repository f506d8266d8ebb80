"""Differences between the rules of switches and those that a newly started controller would install."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import Flow, SwitchEntry
from libnetvirt.controller.dataplane.installed import SwitchSnapshot
from libnetvirt.controller.dataplane.pipeline import Kind
from libnetvirt.controller.engine.controller import Controller, Options, port_view
from libnetvirt.controller.intent.facts import Facts, from_version_1
from libnetvirt.controller.intent.switches import SwitchView
from libnetvirt.drivers.openflow import OpenFlowDriver
from libnetvirt.store.sqlite import SqliteStore
from tests.support.lab.network import Lab
from tests.support.lab.switch_requests import ask


class _NoWire:
    """Discards what the controller sends by itself."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


def differences(lab: Lab, state: Path) -> list[str]:
    """One line for each entry that is missing in a switch, given this stored state, or that is surplus."""
    core, dumps = _controller(state), {}
    for dpid in lab.switches:
        flows, groups, meters, ports, desc = ask(
            lab,
            dpid,
            of.FlowStatsRequest(cookie=pipeline.COOKIE_MARK, cookie_mask=pipeline.COOKIE_MARK_MASK),
            of.GroupDescRequest(),
            of.MeterConfigRequest(),
            of.PortDescRequest(),
            of.DescRequest(),
        )
        dumps[dpid] = SwitchSnapshot(list(flows.entries), list(groups.entries), list(meters.entries))
        view = SwitchView(dpid, connected=True, known=True, bundles=True, meters=True)
        view.description = " ".join((desc.mfr_desc, desc.hw_desc, desc.sw_desc))
        view.ports = {p.number: p for d in ports.ports if (p := port_view(d)) is not None}
        core.topology.switch_up(view, time.monotonic())
        core.reconciler.reconcile(dpid, dumps[dpid])  # so it knows the hosts that were learned, too
    found = []
    for dpid, dump in dumps.items():
        wanted = {key: placed.entry for key, placed in core.state.installed.on(dpid).items()}
        held = {entry.key: entry for entry in dump.entries() if not is_marker(entry)}
        for key in wanted.keys() | held.keys():
            if wanted.get(key) != held.get(key):
                found.append(f"switch {dpid} holds {held.get(key)} where {wanted.get(key)} should be")
        found += [
            f"switch {dpid} has {line} of a network that is not there" for line in _of_nobody(core, dump)
        ]
    return found


def is_marker(entry: SwitchEntry) -> bool:
    """Whether an entry says whose the rules are: that changes with each run of a controller."""
    return isinstance(entry, Flow) and entry.cookie == pipeline.cookie(0, Kind.OWNER)


def _of_nobody(core: Controller, dump: SwitchSnapshot) -> Iterator[str]:
    indexes = {0, *core.state.rulesdb.by_index}
    for flow in dump.flows:
        if pipeline.cookie_network(flow.cookie) not in indexes:
            yield of.format_flow(flow)
    for group in dump.groups:
        if pipeline.flood_group_network(group.group_id) not in indexes:
            yield f"group {group.group_id:#x}"


def _controller(state: Path) -> Controller:
    """A controller with a copy of the state file, which its owner holds."""
    with tempfile.TemporaryDirectory(prefix="netvirt-fresh-") as directory:
        copy = Path(directory) / state.name
        with (
            contextlib.closing(sqlite3.connect(state)) as source,
            contextlib.closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
        store = SqliteStore(copy, from_version_1, incomplete=True)
        try:
            snapshot = store.load()
        finally:
            store.close()
    core = Controller(Options(OpenFlowDriver.offers().defaults), bytes(32), _NoWire(), lambda *_, **__: None)
    core.load(snapshot.networks, Facts.from_rows(snapshot.facts), time.monotonic())
    core.restart.end_hold()
    return core
