"""Two controllers on the same switches in memory: who may use them, and who is told what."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.pipeline import Kind
from libnetvirt.controller.engine.controller import Options
from libnetvirt.controller.intent.ownership import Marker
from libnetvirt.controller.reports import views
from libnetvirt.driver import Change
from libnetvirt.drivers.openflow.runtime import Runtime
from libnetvirt.drivers.openflow.southbound import owners, session
from libnetvirt.drivers.openflow.southbound.backoff import Backoff
from libnetvirt.drivers.openflow.southbound.life import SwitchState
from libnetvirt.errors import SubstrateError, SwitchNotFound
from libnetvirt.model import Event, State
from libnetvirt.store import Store
from libnetvirt.store.sqlite import MEMORY, SqliteStore
from tests.support.controller_rig import VLAN, endpoint, network
from tests.support.session_switch import WIRES, Wire
from tests.support.switch_fabric import Fabric

ONE = network(1, endpoint(11, 1, 3), endpoint(12, 1, 4))
TWO = network(2, endpoint(21, 1, 3, 20), endpoint(22, 1, 4, 20))


class Controller:
    """A controller, the store of which may be a file, and its connection to switch 1 of a fabric."""

    def __init__(self, fabric: Fabric, state: str | Path | Store = MEMORY) -> None:
        self.store = state if isinstance(state, Store) else SqliteStore(state)
        self.runtime = Runtime(Options(VLAN), self.store, b"s" * 32, 1.0)
        self.runtime.backoff = Backoff(first=0.0)
        self.fabric = fabric
        self.events = self.runtime.events.subscribe()

    async def start(self) -> Controller:
        await self.runtime.start([])
        return self

    async def connect(self, **faults: bool) -> Wire:
        self.wire = Wire(self.runtime, self.fabric, 1, 1.0)
        for name, value in faults.items():
            setattr(self.wire.faults, name, value)
        WIRES.setdefault(id(self.fabric), {})[1] = [self.wire]
        await self.until(lambda: self.state in (SwitchState.READY, SwitchState.REFUSED, SwitchState.FAILED))
        # An early READY is followed by what the runtime does next.
        async with self.runtime.executor.lock:
            return self.wire

    @property
    def state(self) -> SwitchState:
        return self.wire.session.state

    async def until(self, true: Callable[[], Any]) -> None:
        async with asyncio.timeout(60):
            while not true():  # noqa: ASYNC110
                await asyncio.sleep(0)

    async def create(self, described: Any) -> None:
        await self.runtime.executor.apply(Change(None, described), lambda _: None)

    def of(self, uuid: str) -> State:
        record = self.runtime.core.state.rulesdb.networks[uuid]
        return views.network_state(self.runtime.core.state, record, self.runtime.now()).state

    async def told(self) -> list[Event]:
        """Close it, and return its events."""
        await self.runtime.close()
        return [event async for event in self.events]

    def kill(self) -> None:
        """As kill -9: nothing is sent any more."""
        self.runtime.executor.closed = True
        self.wire.abort()

    @property
    def markers(self) -> list[Marker]:
        dump = self.fabric.switches[1].dump()
        return [marker for flow in dump.flows if (marker := Marker.of(flow)) is not None]


def run(story: Callable[[Fabric], Coroutine[Any, Any, None]]) -> None:
    WIRES.clear()
    asyncio.run(story(Fabric()))


def _rules(fabric: Fabric) -> dict[Any, Any]:
    marker = pipeline.cookie(0, Kind.OWNER)
    return {key: flow for key, flow in fabric.switches[1].flows.items() if flow.cookie != marker}


def test_a_second_controller_changes_nothing_and_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners, "RECHECK", 0.001)

    async def story(fabric: Fabric) -> None:
        first, second = await Controller(fabric).start(), await Controller(fabric).start()
        await first.connect()
        await first.create(ONE)
        held = dict(fabric.switches[1].flows)
        wire = await second.connect()
        assert second.state is SwitchState.REFUSED
        for _ in range(20):
            await asyncio.sleep(0.002)
        assert second.state is SwitchState.REFUSED, "it stays connected"
        assert fabric.switches[1].flows == held
        assert wire.agent.role is of.ControllerRole.SLAVE, "it gets no frames"
        assert first.wire.agent.role is of.ControllerRole.MASTER
        assert fabric.switches[1].master is first.wire.agent
        assert first.of("1") is State.ACTIVE
        [note] = [n for n in second.runtime.notes() if "refused" in n]
        refused = [e for e in await second.told() if e.kind == "switch.refused"]
        assert len(refused) == 1
        assert refused[0].switch == "1"
        for text in (note, refused[0].message):
            assert f"{first.runtime.core.state.ownership.installation:016x}" in text
            assert f"{second.runtime.core.state.ownership.installation:016x}" in text
        await first.told()

    run(story)


def test_adoption_removes_the_rules_of_the_other_which_says_that_it_has_lost_the_switch() -> None:
    async def story(fabric: Fabric) -> None:
        first, second = await Controller(fabric).start(), await Controller(fabric).start()
        await first.connect()
        await first.create(ONE)
        await second.connect()
        await second.runtime.executor.apply(Change(None, TWO, pending=True), lambda _: None)
        assert second.of("2") is State.DOWN
        assert await second.runtime.adopt(None) == [1]
        assert second.of("2") is State.ACTIVE
        indexes = {pipeline.cookie_network(flow.cookie) for flow in fabric.switches[1].flows.values()}
        assert len(second.markers) == 1
        rules = _rules(fabric)
        # The first one asks for its role, as it does every few seconds.
        first.wire.session.poll(session.ROLE_INTERVAL + first.runtime.now())
        await first.until(lambda: first.wire.session.ended)
        assert first.of("1") is State.DOWN
        await first.connect()
        assert first.state is SwitchState.REFUSED
        with pytest.raises(SwitchNotFound):
            await first.runtime.adopt(2)
        assert _rules(fabric) == rules
        assert indexes == {0, 1}
        assert [e.kind for e in await first.told()].count("switch.taken") == 1
        await second.told()

    run(story)


def test_a_controller_that_is_no_longer_master_notices_it_with_its_next_change() -> None:
    async def story(fabric: Fabric) -> None:
        first = await Controller(fabric).start()
        await first.connect()
        await first.create(ONE)
        # A program that knows nothing of markers.
        fabric.switches[1].master = None
        with pytest.raises(SubstrateError, match="another controller has taken control of it"):
            await first.create(TWO)
        await first.until(lambda: first.wire.session.ended)
        assert first.of("1") is State.DOWN
        await first.connect()
        assert first.state is SwitchState.REFUSED, "it does not take it back by itself"
        assert fabric.switches[1].master is None
        assert await first.runtime.adopt(1) == [1]
        assert first.of("1") is State.ACTIVE
        await first.create(TWO)
        await first.told()

    run(story)


def test_a_forgotten_switch_stays_so_until_it_is_adopted(tmp_path: Path) -> None:
    async def story(fabric: Fabric) -> None:
        first = await Controller(fabric).start()
        await first.connect()
        second = await Controller(fabric, tmp_path / "state.db").start()
        await second.connect()
        assert await second.runtime.forget(1) == [1]
        with pytest.raises(SwitchNotFound):
            await second.runtime.forget(2)
        await second.told()
        third = await Controller(fabric, tmp_path / "state.db").start()
        await third.connect()
        assert third.state is SwitchState.REFUSED
        assert "left to another controller" in third.runtime.notes()[0]
        assert await third.runtime.adopt(1) == [1]
        assert not [e for e in await third.told() if e.kind == "switch.refused"]
        await first.told()

    run(story)


def test_a_switch_whose_owner_goes_is_used_without_a_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners, "RECHECK", 0.001)

    async def story(fabric: Fabric) -> None:
        first, second = await Controller(fabric).start(), await Controller(fabric).start()
        await first.connect()
        await first.create(ONE)
        await second.connect()
        await first.told()  # its state was in memory: what it left on the switch is nobody's
        await second.until(lambda: second.state is SwitchState.READY)
        await second.create(TWO)
        assert not [n for n in second.runtime.notes() if "refused" in n]
        await second.told()

    run(story)


def test_a_restart_changes_the_marker_and_nothing_else(tmp_path: Path) -> None:
    async def story(fabric: Fabric) -> None:
        first = await Controller(fabric, tmp_path / "state.db").start()
        await first.connect()
        await first.create(ONE)
        rules, [before] = _rules(fabric), first.markers
        first.kill()
        await first.told()
        second = await Controller(fabric, tmp_path / "state.db").start()
        wire = await second.connect()
        assert second.state is SwitchState.READY
        # A change without effect to probe it, and the marker.
        assert (wire.agent.changes, wire.agent.marks) == (1, 1)
        assert _rules(fabric) == rules
        [after] = second.markers
        assert (after.installation, after.run) == (before.installation, before.run + 1)
        assert after.commits > before.commits
        kinds = [event.kind for event in await second.told()]
        assert "switch.mended" not in kinds
        assert "switch.refused" not in kinds

    run(story)


def test_markers_follow_the_store_at_a_bounded_rate(tmp_path: Path) -> None:
    async def story(fabric: Fabric) -> None:
        one = await Controller(fabric, tmp_path / "state.db").start()
        await one.connect()
        now = one.runtime.now() + 1000.0
        await one.create(ONE)
        marks = one.wire.agent.marks
        one.runtime.owners.update(now)
        await one.until(lambda: one.markers[0].commits == one.store.commits)
        assert one.wire.agent.marks == marks + 1
        await one.create(TWO)
        one.runtime.owners.update(now + owners.MARK_INTERVAL / 2)
        for _ in range(20):
            await asyncio.sleep(0)
        assert one.markers[0].commits < one.store.commits
        one.runtime.owners.update(now + owners.MARK_INTERVAL)
        await one.until(lambda: one.markers[0].commits == one.store.commits)
        marks = one.wire.agent.marks
        one.runtime.owners.update(now + 100)
        for _ in range(20):
            await asyncio.sleep(0)
        assert one.wire.agent.marks == marks, "nothing was committed since"
        # The expected marker is the one that was sent.
        assert one.runtime.core.state.installed.on(1).keys() == fabric.switches[1].flows.keys() | {
            *(("meter", number) for number in pipeline.BASE_METERS),
            *(("group", number) for number in fabric.switches[1].groups),
        }
        await one.create(network(3, endpoint(31, 1, 3, 30)))
        await one.told()
        assert one.markers[0].commits == one.store.commits, "it is brought up to date at the end"

    run(story)


def test_an_older_state_is_refused_until_it_is_adopted(tmp_path: Path) -> None:
    async def story(fabric: Fabric) -> None:
        first = await Controller(fabric, tmp_path / "state.db").start()
        await first.connect()
        await first.create(ONE)
        (tmp_path / "backup.db").write_bytes(await first.runtime.backup())
        await first.create(TWO)
        await first.told()
        rules = _rules(fabric)
        second = await Controller(fabric, tmp_path / "backup.db").start()
        await second.connect()
        assert second.state is SwitchState.REFUSED
        assert "newer than the state" in second.runtime.notes()[0]
        assert _rules(fabric) == rules
        assert await second.runtime.adopt(1) == [1]
        assert {pipeline.cookie_network(f.cookie) for f in _rules(fabric).values()} == {0, 1}
        await second.told()

    run(story)


def test_an_empty_store_does_not_take_the_unmarked_rules_of_a_version_before(tmp_path: Path) -> None:
    async def story(fabric: Fabric) -> None:
        first = await Controller(fabric, tmp_path / "state.db").start()
        await first.connect()
        await first.create(ONE)
        await first.told()
        flows = fabric.switches[1].flows
        for key in [key for key, flow in flows.items() if flow.cookie == pipeline.cookie(0, Kind.OWNER)]:
            del flows[key]
        empty = await Controller(fabric, tmp_path / "mistyped.db").start()
        await empty.connect()
        assert empty.state is SwitchState.REFUSED
        assert str(tmp_path / "mistyped.db") in empty.runtime.notes()[0]
        await empty.told()
        again = await Controller(fabric, tmp_path / "state.db").start()
        await again.connect()
        assert again.state is SwitchState.READY
        assert len(again.markers) == 1
        await again.told()

    run(story)


def test_a_switch_without_roles_is_used() -> None:
    async def story(fabric: Fabric) -> None:
        one = await Controller(fabric).start()
        wire = await one.connect(no_roles=True)
        assert wire.session.role is None
        await one.create(ONE)
        assert one.of("1") is State.ACTIVE
        two = await Controller(fabric).start()
        await two.connect(no_roles=True)
        assert two.state is SwitchState.REFUSED
        await two.told()
        await one.told()

    run(story)


@pytest.mark.parametrize("held", [0, 7, (1 << 63) - 1, (1 << 64) - 2])
def test_the_generation_of_another_program_is_no_obstacle(held: int) -> None:
    async def story(fabric: Fabric) -> None:
        one = await Controller(fabric).start()
        await one.connect()
        one.wire.abort()
        await one.until(lambda: one.wire.session.ended)
        fabric.switches[1].generation = held
        wire = await one.connect()
        assert one.state is SwitchState.READY
        assert wire.session.role is of.ControllerRole.MASTER
        await one.told()

    run(story)
