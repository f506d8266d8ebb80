"""Deferred removals in the runtime: what an endpoint left stays on its switch for a while, and then goes."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import Flow
from libnetvirt.controller.dataplane.pipeline import Kind, Table
from libnetvirt.drivers.openflow.execution import executor
from libnetvirt.model import Encapsulation, VirtualNetwork
from tests.support.controller_rig import endpoint, mac, network
from tests.unit.drivers.openflow.test_runtime import Lab, _until, run

#: seconds: so long that nothing is removed while a test runs, and none at all
LONG, NONE = 1000.0, 0.0
BEFORE = network(1, endpoint(11, 1, 3), endpoint(12, 2, 3, None, 2))
_MARKER = pipeline.cookie(0, Kind.OWNER)
AFTER = network(1, endpoint(11, 1, 3), endpoint(12, 1, 4, None, 2))


def _run(
    monkeypatch: pytest.MonkeyPatch, linger: float, story: Callable[[Lab], Coroutine[Any, Any, None]]
) -> None:
    monkeypatch.setattr(executor, "LINGER", linger)
    run(story)


def _left(lab: Lab) -> set[Flow]:
    """The rules of switch 2 that are no longer expected there."""
    expected = lab.runtime.core.state.installed.on(2)
    flows = lab.fabric.switches[2].flows.values()
    return {f for f in flows if f.key not in expected and f.cookie != _MARKER}


def _delivering(lab: Lab) -> set[Flow]:
    """Those of them that send frames to where endpoint 12 was."""
    found = {f for f in _left(lab) if f.table == Table.HOST and f.match.get("eth_dst") == mac(2)}
    assert found
    return found


def _tunnels(lab: Lab) -> list[int]:
    return list(lab.runtime.core.state.labels.spaces[Encapsulation.VLAN].tunnels())


async def _moved(lab: Lab) -> VirtualNetwork:
    await lab.apply(None, BEFORE)
    assert not _left(lab)
    await lab.apply(BEFORE, AFTER)
    return AFTER


def test_rules_that_cached_flows_need_outlast_the_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(lab: Lab) -> None:
        await _moved(lab)
        assert {f.table for f in _left(lab)} >= {Table.TUNNEL, Table.SERVICE, Table.HOST}
        assert 2 in _tunnels(lab), "nor is the tunnel's label used for another one"
        # However long it takes, as far as the event loop is concerned.
        await lab.rest()
        assert _left(lab)
        assert lab.runtime.core.deferred.concerns("1")

    _run(monkeypatch, LONG, story)


def test_rules_that_no_flow_needs_any_more_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(lab: Lab) -> None:
        await _moved(lab)
        await _until(lambda: not lab.runtime.core.deferred.transactions)
        await lab.idle()
        assert not _left(lab)
        assert _tunnels(lab) == []
        lab.agrees()

    _run(monkeypatch, NONE, story)


def test_removing_the_network_removes_what_it_has_left_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(lab: Lab) -> None:
        await lab.apply(await _moved(lab), None)
        assert not _left(lab)
        lab.agrees()

    _run(monkeypatch, LONG, story)


def test_another_endpoint_at_the_place_removes_what_was_left_there(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(lab: Lab) -> None:
        await _moved(lab)
        delivering = _delivering(lab)
        other = network(2, endpoint(21, 2, 3), endpoint(22, 2, 4))
        await lab.apply(None, other)
        assert not delivering & _left(lab)

    _run(monkeypatch, LONG, story)


def test_an_operation_elsewhere_leaves_the_rules_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(lab: Lab) -> None:
        await _moved(lab)
        delivering = _delivering(lab)
        await lab.apply(None, network(2, endpoint(21, 2, 3, 7), endpoint(22, 2, 4)))
        assert delivering <= _left(lab)

    _run(monkeypatch, LONG, story)
