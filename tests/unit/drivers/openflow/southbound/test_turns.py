"""Controllers that take turns on a switch in memory, with their state in a real cluster."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from libnetvirt import openflow as of
from libnetvirt.controller.intent.facts import FactJournal, Facts
from libnetvirt.controller.intent.ownership import Ownership
from libnetvirt.drivers.openflow.southbound.life import SwitchState
from libnetvirt.errors import StateUnusable, SubstrateError
from libnetvirt.store.cluster import Cluster
from libnetvirt.store.ovsdb import OvsdbStore
from tests.support.session_switch import WIRES, Wire
from tests.support.shared_store import unopened
from tests.support.state_cluster import StateCluster
from tests.support.switch_fabric import Fabric
from tests.unit.drivers.openflow.southbound.test_owners import ONE, TWO, Controller, _rules


class Turn(Controller):
    """A controller that stands by until it leads."""

    def __init__(self, fabric: Fabric, cluster: Cluster) -> None:
        super().__init__(fabric, OvsdbStore(cluster))
        self.cluster = cluster

    async def stand_by(self) -> Turn:
        await self.runtime.listen([])
        self.wire = Wire(self.runtime, self.fabric, 1, 1.0)
        await self.until(lambda: self.wire.agent.role is of.ControllerRole.SLAVE)
        return self

    async def until(self, true: Callable[[], Any]) -> None:
        # With pauses, which the thread of the cluster needs.
        async with asyncio.timeout(60):
            while not true():  # noqa: ASYNC110
                await asyncio.sleep(0.002)

    async def lead(self) -> None:
        """Wait for the lease, for which it has not competed before, and for the switch."""
        await asyncio.to_thread(self.cluster.compete)
        await self.until(lambda: self.cluster.leading)
        await self.runtime.lead()
        await self.until(lambda: self.state is SwitchState.READY)
        async with self.runtime.executor.lock:
            return

    def freeze(self) -> None:
        """It does nothing about its lease any more."""
        competing = self.cluster._competing
        assert competing is not None
        self.cluster._loop.call_soon_threadsafe(competing.cancel)


@pytest.fixture
def clusters() -> Iterator[Callable[[], Cluster]]:
    with ExitStack() as stack:
        state = stack.enter_context(StateCluster(members=1)).state

        def one() -> Cluster:
            cluster = unopened(state, lease=0.5)
            cluster.open()
            return stack.enter_context(closing(cluster))

        yield one


def test_a_standby_takes_over_without_touching_rules_and_the_late_one_writes_nothing(
    clusters: Callable[[], Cluster],
) -> None:
    async def story() -> None:
        fabric = Fabric()
        first = await Turn(fabric, clusters()).stand_by()
        await first.lead()
        await first.create(ONE)
        second = await Turn(fabric, clusters()).stand_by()
        assert second.wire.agent.changes == 0, "a standby sends nothing"
        assert fabric.switches[1].master is first.wire.agent
        rules = _rules(fabric)
        first.freeze()
        await second.lead()
        # As at a restart: a change without effect to probe it, and the marker.
        assert (second.wire.agent.changes, second.wire.agent.marks) == (1, 1)
        assert _rules(fabric) == rules
        assert fabric.switches[1].master is second.wire.agent
        assert second.runtime.core.state.ownership.generation == 2
        await second.create(TWO)
        rules = _rules(fabric)

        # The first one has noticed nothing, and its connection to the switch is still there.
        assert first.state is SwitchState.READY
        with pytest.raises(StateUnusable, match="another controller leads"):
            await first.runtime.owners._become_master(first.wire.session)
        assert fabric.switches[1].master is second.wire.agent
        with pytest.raises(SubstrateError, match="IS_SLAVE"):
            await first.create(TWO)
        assert _rules(fabric) == rules
        # Nor does it get the switch when it connects again.
        first.wire.abort()
        await first.connect()
        assert first.runtime.core.state.ownership.refused, "its rules are newer than what the first one knows"
        assert fabric.switches[1].master is second.wire.agent
        for one in (first, second):
            await one.told()

    WIRES.clear()
    asyncio.run(story())


def test_a_switch_that_goes_while_it_is_held_leaves_nothing(clusters: Callable[[], Cluster]) -> None:
    async def story() -> None:
        one = await Turn(Fabric(), clusters()).stand_by()
        for _ in range(5):
            assert one.runtime.reached == 1
            one.wire.abort()
            await one.until(lambda: not one.runtime._held)
            await one.until(lambda: not one.runtime.reached)
            one.wire = Wire(one.runtime, one.fabric, 1, 1.0)
            await one.until(lambda: one.runtime._held)
        await one.lead()
        await one.told()

    WIRES.clear()
    asyncio.run(story())


def test_of_two_runs_the_later_one_has_the_later_generation_whatever_was_there_before() -> None:
    def of_run(number: int) -> Ownership:
        ownership = Ownership(FactJournal())
        ownership.begin(Facts.from_rows({}), 0, 1 << 63, 0, number)
        return ownership

    chance = random.Random(1412)
    for _ in range(2000):
        # What either of them may have seen: what was there before, or what the other one has made of it.
        there, early = (
            chance.choice([chance.getrandbits(64), chance.getrandbits(24)]),
            chance.randrange(1, 2000),
        )
        late = early + chance.randrange(1, 50)
        wanted = of_run(early).generation_after(there)
        for seen in (there, wanted):
            ahead = of_run(late).generation_after(seen) - wanted
            assert 0 < ahead % (1 << 64) < 1 << 63
        assert (wanted - there) % (1 << 64) < 1 << 63, "a switch takes no earlier one than it has"
