"""What docs/switches.md says that switches need: what lacks it is refused, or used as far as it goes."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane.pipeline import ROUTING_TABLES, SWITCHING_TABLES
from libnetvirt.controller.engine.controller import Options
from libnetvirt.driver import Change
from libnetvirt.drivers.openflow.driver import OpenFlowDriver
from libnetvirt.drivers.openflow.runtime import Runtime
from libnetvirt.drivers.openflow.southbound.life import SwitchState
from libnetvirt.drivers.openflow.validation import Validator
from libnetvirt.errors import Unsupported
from libnetvirt.model import VirtualNetwork
from libnetvirt.store.sqlite import MEMORY, SqliteStore
from tests.support.controller_rig import VLAN, Rig, endpoint, network
from tests.support.session_switch import Wire
from tests.support.switch_fabric import Fabric

BLUE = network(1, endpoint(11, 1, 3), endpoint(12, 1, 4))


def connected(tables: int) -> tuple[SwitchState, list[str]]:
    """The state of a switch with so many tables when it has connected, and what was reported."""

    async def whole() -> tuple[SwitchState, list[str]]:
        runtime = Runtime(Options(VLAN), SqliteStore(MEMORY), b"s" * 32, 0.2)
        await runtime.start([])
        wire = Wire(runtime, Fabric(), 1)
        answer = wire.agent.answer

        def with_tables(m: of.Message) -> list[of.Message]:
            return [
                replace(said, n_tables=tables) if isinstance(said, of.FeaturesReply) else said
                for said in answer(m)
            ]

        wire.agent.answer = with_tables  # type: ignore[method-assign]
        try:
            async with asyncio.timeout(60):
                while wire.session.state not in (SwitchState.READY, SwitchState.CLOSED):  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
            return wire.session.state, list(runtime.rejections.notes())
        finally:
            await runtime.close()

    return asyncio.run(whole())


def test_a_switch_with_too_few_tables_is_rejected_with_the_reason() -> None:
    state, notes = connected(SWITCHING_TABLES - 1)
    assert state is SwitchState.CLOSED
    assert [note for note in notes if f"it has {SWITCHING_TABLES - 1} tables, {SWITCHING_TABLES} are" in note]
    state, notes = connected(SWITCHING_TABLES)
    assert (state, notes) == (SwitchState.READY, [])


def rig(tables: int = 254, meters: bool = True) -> Rig:
    rig = Rig(Options(VLAN))
    rig.switch(1)
    rig.state.switches[1].tables, rig.state.switches[1].meters = tables, meters
    return rig


def validate(rig: Rig, after: VirtualNetwork) -> None:
    Validator(rig.core, OpenFlowDriver.offers(), lambda: {}).validate(Change(None, after))


def test_a_switch_with_few_tables_has_networks_that_are_a_switch_and_none_that_are_a_router() -> None:
    ends = [e.changed(address=f"10.0.{n}.254/24") for n, e in enumerate(BLUE.endpoints)]
    router = BLUE.changed(forwarding="L3", endpoints=ends)
    few = rig(ROUTING_TABLES - 1)
    validate(few, BLUE)
    with pytest.raises(Unsupported, match=f"has {ROUTING_TABLES - 1} tables, .* needs {ROUTING_TABLES}"):
        validate(few, router)
    validate(rig(ROUTING_TABLES), router)


def test_a_switch_without_meters_has_no_limits_and_no_bounds_on_bandwidth() -> None:
    limited = BLUE.changed(endpoints=[e.changed(bandwidth={"inbound": "1 Mbit/s"}) for e in BLUE.endpoints])
    constrained = BLUE.changed(constraints=[{"source": 11, "destination": 12, "max_bandwidth": "1 Mbit/s"}])
    for asked in (limited, constrained):
        validate(rig(), asked)
        with pytest.raises(Unsupported, match="switch 1 has no meters"):
            validate(rig(meters=False), asked)
    validate(rig(meters=False), BLUE)
