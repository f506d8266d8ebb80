"""Unresponsive switches: only operations that need them wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from libnetvirt.controller.engine.effects import REROUTE
from libnetvirt.errors import RuleRefused, StaleChange, SwitchTimeout
from libnetvirt.model import VirtualNetwork
from tests.support.controller_rig import endpoint, network
from tests.unit.drivers.openflow.test_runtime import HASTY, MORE, ONE, Lab, run

#: so long that an operation that waited for it would not end
TIMEOUT = 1000.0
NEAR = network(2, endpoint(21, 1, 4), endpoint(22, 1, 4, 20))
FAR = network(3, endpoint(31, 2, 4), endpoint(32, 2, 4, 30))
CHANGES = pytest.mark.parametrize(
    ("before", "after"),
    [(None, ONE), (ONE, MORE), (MORE, ONE), (ONE, None)],
    ids=["create", "add", "drop", "remove"],
)


def _run(story: Callable[[Lab], Coroutine[Any, Any, None]], answers: float = TIMEOUT) -> None:
    run(story, answers, HASTY)


async def _begun(lab: Lab, before: VirtualNetwork | None, after: VirtualNetwork | None) -> asyncio.Task[None]:
    """An operation that is under way."""
    task = asyncio.create_task(lab.apply(before, after))
    await lab.rest()
    assert not task.done()
    return task


@CHANGES
def test_other_operations_proceed_while_one_waits_for_a_switch(before: Any, after: Any) -> None:
    async def story(lab: Lab) -> None:
        if before:
            await lab.apply(None, before)
        lab.wires[2].freeze()
        slow = await _begun(lab, before, after)
        await lab.apply(None, NEAR)
        assert not slow.done()
        # Now that it is known to be late, nobody waits for it any more.
        await lab.apply(NEAR, None)
        assert not slow.done()
        lab.wires[2].thaw()
        await slow
        await lab.idle()
        assert lab.descriptions() == ([after] if after else [])
        lab.agrees()

    _run(story)


def test_a_waiting_operation_leaves_no_trace_except_in_the_unresponsive_switch() -> None:
    async def story(lab: Lab) -> None:
        held = lab.held()
        lab.wires[2].freeze()
        slow = await _begun(lab, None, ONE)
        await lab.apply(None, NEAR)
        await lab.apply(NEAR, None)
        assert lab.held() == held
        assert lab.descriptions() == []
        lab.wires[2].thaw()
        await slow
        lab.agrees()

    _run(story)


def test_operations_wait_for_an_unresponsive_switch_without_holding_the_lock() -> None:
    async def story(lab: Lab) -> None:
        lab.wires[2].freeze()
        slow = await _begun(lab, None, ONE)
        far = await _begun(lab, None, FAR)
        await lab.apply(None, NEAR)
        another = await _begun(lab, NEAR, NEAR.changed(endpoints=(*NEAR.endpoints, endpoint(23, 2, 3, 9))))
        lab.wires[2].thaw()
        await asyncio.gather(slow, far, another)
        await lab.idle()
        assert {d.uuid for d in lab.descriptions()} == {"1", "2", "3"}
        lab.agrees()

    _run(story)


def test_an_operation_is_stale_when_its_network_changed_while_it_waited() -> None:
    async def story(lab: Lab) -> None:
        await lab.apply(None, NEAR)
        lab.wires[2].freeze()
        wider = NEAR.changed(endpoints=(*NEAR.endpoints, endpoint(23, 2, 3)))
        slow = await _begun(lab, NEAR, wider)
        await lab.apply(NEAR, None)
        lab.wires[2].thaw()
        with pytest.raises(StaleChange):
            await slow
        await lab.idle()
        lab.agrees()

    _run(story)


def test_a_switch_that_never_answers_fails_the_operation_in_time() -> None:
    async def story(lab: Lab) -> None:
        lab.wires[2].freeze()
        slow = await _begun(lab, None, ONE)
        await lab.apply(None, NEAR)
        with pytest.raises(SwitchTimeout, match="did not answer within"):
            await slow
        await lab.rest()
        assert not lab.runtime.core.state.switches[2].connected
        assert lab.descriptions() == [NEAR]
        await lab.connect(2)
        lab.agrees()
        await lab.apply(None, ONE)
        lab.agrees()

    _run(story, answers=0.5)


def test_a_late_refusal_by_a_switch_fails_the_operation() -> None:
    async def story(lab: Lab) -> None:
        lab.wires[2].freeze()
        slow = await _begun(lab, None, ONE)
        await lab.apply(None, NEAR)
        lab.wires[2].faults.refuses = True
        lab.wires[2].thaw()
        lab.wires[2].faults.refuses = False
        with pytest.raises(RuleRefused):
            await slow
        await lab.idle()
        assert lab.descriptions() == [NEAR]
        lab.agrees()

    _run(story)


def test_paths_are_rerouted_while_an_operation_waits_for_a_switch() -> None:
    async def story(lab: Lab) -> None:
        lab.wires[2].freeze()
        slow = await _begun(lab, None, FAR)
        lab.runtime.core.state.discovery.remove_port(1, 2)
        lab.runtime.pending.add(REROUTE)
        lab.runtime.executor.follow_up()
        while lab.runtime.core.state.paths.edges:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert not slow.done()
        lab.wires[2].thaw()
        await slow
        await lab.idle()
        lab.agrees()

    _run(story)


def test_a_slow_switch_is_not_starved() -> None:
    """Each time that an operation begins again, others wait twice as long for it."""

    async def story(lab: Lab) -> None:
        over = False

        async def others() -> None:
            known = None
            while not over:
                wanted = NEAR if known is None else None
                await lab.apply(known, wanted)
                known = wanted

        async def lags() -> None:
            """Whatever it is told takes as long as others are to wait at most."""
            while not over:
                lab.wires[2].freeze()
                await asyncio.sleep(0.2)
                lab.wires[2].thaw()

        background = [asyncio.create_task(others()), asyncio.create_task(lags())]
        await lab.apply(None, FAR)
        over = True
        await asyncio.gather(*background)
        lab.wires[2].thaw()
        await lab.idle()
        assert FAR in lab.descriptions()

    _run(story)
