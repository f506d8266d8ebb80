"""Reroutes that a switch does not confirm, in the runtime: they end where the old paths are still whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from libnetvirt.controller.engine.effects import REROUTE
from libnetvirt.drivers.openflow.execution import executor
from tests.support.controller_rig import endpoint, frame, mac, network, places
from tests.unit.drivers.openflow.test_runtime import Lab, _until, tell

#: seconds that a switch has to answer: so many that it does, and so few that a test can wait for it
LONG, SHORT = 1000.0, 1.0
ENDS = network(1, endpoint(11, 1, 3, None, 1), endpoint(12, 3, 3, None, 2))
NEAR = network(2, endpoint(21, 1, 4), endpoint(22, 1, 4, 20))


#: seconds in which a switch has to confirm an operation
CONFIRM = 0.2


class Ring(Lab):
    """1 - 2 - 3 - 4 - 1. Switch ``fails`` is frozen in a test, and has less time to answer."""

    def __init__(self, fails: int) -> None:
        super().__init__(LONG, CONFIRM)
        self.fails = fails

    async def connect(self, dpid: int) -> None:
        self.answers = SHORT if dpid == self.fails else LONG
        await super().connect(dpid)

    async def start(self) -> None:
        for one, other in (((2, 2), (3, 1)), ((3, 2), (4, 1)), ((4, 2), (1, 1))):
            self.fabric.link(one, other)
        await super().start()
        for dpid in (3, 4):
            await self.connect(dpid)
        await _until(lambda: len(self.runtime.core.state.paths.edges) == 8)
        await self.apply(None, ENDS)
        assert self.way() == [2, 3]

    def way(self) -> list[int]:
        return [edge.destination for edge in self.runtime.core.state.paths.path(1, 3) or ()]

    def arrives(self) -> bool:
        return places(self.fabric.probe(1, 3, frame(mac(2), mac(1)))) == [(3, 3)]

    def leave(self, dpid: int) -> None:
        """Paths are to avoid a switch from now on."""
        assert self.runtime.core.state.discovery.avoid({dpid})
        self.runtime.pending.add(REROUTE)
        self.runtime.executor.follow_up()

    async def over(self) -> None:
        """Until nothing is left to do."""
        executor, deferred = self.runtime.executor, self.runtime.core.deferred
        await self.rest()
        await _until(lambda: not (deferred.transactions or executor.following_up or executor.lock.locked()))


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "LINGER", 0.01)


def _run(story: Callable[[Ring], Coroutine[Any, Any, None]], fails: int) -> None:
    tell(story, lambda: Ring(fails))


def test_a_switch_that_fails_a_reroute_gets_no_frames() -> None:
    async def story(lab: Ring) -> None:
        held = lab.held()
        lab.wires[4].freeze()
        lab.leave(2)
        await _until(lambda: not lab.runtime.core.state.switches[4].connected)
        await lab.idle()
        await lab.over()
        assert lab.way() == [2, 3]
        assert lab.arrives()
        assert lab.held() == held
        assert lab.runtime.core.state.doubted == {4}
        await lab.connect(4)
        await lab.over()
        assert not lab.runtime.core.state.doubted
        assert lab.way() == [4, 3]
        assert lab.arrives()
        lab.agrees()

    _run(story, 4)


def test_a_late_switch_gets_no_frames_until_it_has_answered() -> None:
    """An operation waits meanwhile, so the reroute goes on without the switch."""

    async def story(lab: Ring) -> None:
        lab.wires[4].freeze()
        lab.leave(2)
        await lab.rest()
        await lab.apply(None, NEAR)
        assert lab.way() == [2, 3]
        assert lab.arrives()
        assert lab.runtime.core.state.doubted == {4}
        assert lab.runtime.core.state.switches[4].connected
        lab.wires[4].thaw()
        await _until(lambda: lab.way() == [4, 3])
        await lab.over()
        assert not lab.runtime.core.state.doubted
        assert lab.arrives()
        lab.agrees()

    _run(story, 0)


def test_an_old_path_stays_until_those_that_send_into_it_have_confirmed() -> None:
    async def story(lab: Ring) -> None:
        lab.wires[1].freeze()
        lab.leave(2)
        await _until(lambda: not lab.runtime.core.state.switches[1].connected)
        await asyncio.sleep(0.05)
        await lab.idle()
        assert lab.way() == [4, 3]
        assert lab.arrives(), "1 sends over 2 as before"
        assert lab.runtime.core.deferred.transactions
        await lab.connect(1)
        await lab.over()
        assert not lab.runtime.core.state.doubted
        assert lab.arrives()
        lab.agrees()

    _run(story, 1)
