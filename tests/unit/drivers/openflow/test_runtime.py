"""The runtime with switches in memory: operations that fail midway leave no trace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from math import inf
from random import Random
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

from libnetvirt import progress
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.pipeline import Kind
from libnetvirt.controller.engine.controller import Options
from libnetvirt.controller.engine.effects import REROUTE
from libnetvirt.controller.intent.facts import KnownLink
from libnetvirt.driver import Change
from libnetvirt.drivers.openflow.runtime import Runtime
from libnetvirt.drivers.openflow.southbound import claims
from libnetvirt.drivers.openflow.southbound.backoff import Backoff
from libnetvirt.drivers.openflow.southbound.life import SwitchState
from libnetvirt.drivers.openflow.southbound.session import Session
from libnetvirt.errors import NetvirtError, NoPath, RuleRefused, StaleChange, StateUnusable, SwitchTimeout
from libnetvirt.model import VirtualNetwork
from libnetvirt.store import Batch
from libnetvirt.store.sqlite import MEMORY, SqliteStore
from tests.support.controller_rig import VLAN, endpoint, network
from tests.support.session_switch import WIRES, Wire
from tests.support.switch_fabric import Fabric

ONE = network(1, endpoint(11, 1, 3), endpoint(12, 2, 3))
MORE = ONE.changed(endpoints=(*ONE.endpoints, endpoint(13, 2, 4, 20)))


class FullDisk(SqliteStore):
    """A store that fails when it is told to."""

    fails = False

    def commit(self, batch: Batch) -> None:
        if self.fails:
            raise StateUnusable("the disk is full")
        super().commit(batch)


#: seconds that a switch has to answer, where all of them do: a busy machine may need some. And where one does
#: not answer
PATIENT, HASTY = 60.0, 0.2


L = TypeVar("L", bound="Lab")


class Lab:
    """A shell and two linked switches, which have ``answers`` seconds to answer, and ``confirm`` seconds
    to confirm an operation."""

    def __init__(self, answers: float = PATIENT, confirm: float = PATIENT) -> None:
        self.store = FullDisk(MEMORY)
        self.answers = answers
        self.runtime = Runtime(Options(VLAN), self.store, b"s" * 32, confirm)
        self.runtime.backoff = Backoff(first=0.0)
        self.fabric = Fabric()
        self.fabric.link((1, 2), (2, 1))
        self.wires: dict[int, Wire] = {}
        WIRES.clear()

    async def start(self) -> None:
        await self.runtime.start([])
        # The markers follow commits after two seconds, which a busy machine may be in the middle of a test.
        self.runtime.owners._marked_at = inf
        for dpid in (1, 2):
            await self.connect(dpid)

    async def connect(self, dpid: int) -> None:
        self.wires[dpid] = wire = Wire(self.runtime, self.fabric, dpid, self.answers)
        WIRES.setdefault(id(self.fabric), {}).setdefault(dpid, []).append(wire)
        await self.rest()
        await self.idle()

    def hurry(self, dpid: int) -> None:
        """From now on, a switch has little time to answer: it will not."""
        self.wires[dpid].session._timeout = HASTY

    async def idle(self) -> None:
        """Until no work is under way."""
        while self.runtime.executor.following_up or self.runtime.executor.lock.locked():  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    async def rest(self) -> None:
        for _ in range(300):
            await asyncio.sleep(0)

    async def apply(self, before: VirtualNetwork | None, after: VirtualNetwork | None) -> None:
        await self.runtime.executor.apply(Change(before, after), lambda _: None)

    def held(self) -> Any:
        """All rules but the markers, which count commits."""
        marker = pipeline.cookie(0, Kind.OWNER)
        return {
            d: ({k: f for k, f in s.flows.items() if f.cookie != marker}, dict(s.groups))
            for d, s in self.fabric.switches.items()
        }

    def descriptions(self) -> list[VirtualNetwork]:
        return [e.description for e in self.runtime.core.state.rulesdb.ordered()]

    def agrees(self) -> None:
        """Switches, controller and store say the same."""
        for dpid in self.fabric.switches.keys() & self.runtime.core.state.switches.keys():
            switch = self.fabric.switches[dpid]
            want = {k: p.entry for k, p in self.runtime.core.state.installed.on(dpid).items()}
            assert {e.key: e for e in switch.dump().entries()} == want, dpid
        assert self.store.load().networks == self.descriptions()
        assert not self.runtime.executor.lock.locked()
        assert self.runtime.dispatcher.busy == frozenset()


def _state(session: Session) -> SwitchState:
    """The state now: a type checker takes it for unchanged between two looks at the attribute."""
    return session.state


def _ready(wire: Wire) -> bool:
    return _state(wire.session) is SwitchState.READY


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENT):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def run(
    story: Callable[[Lab], Coroutine[Any, Any, None]], answers: float = PATIENT, confirm: float = PATIENT
) -> None:
    """Tell a story of a lab that has been started."""
    tell(story, lambda: Lab(answers, confirm))


def tell(story: Callable[[L], Coroutine[Any, Any, None]], made: Callable[[], L]) -> None:
    """Tell a story of any kind of lab, which is made and started for it."""

    async def whole() -> None:
        lab = made()
        await lab.start()
        try:
            await story(lab)
        finally:
            await lab.runtime.close()
            await lab.rest()

    asyncio.run(whole())


def test_switches_are_reconciled_and_links_discovered() -> None:
    async def story(lab: Lab) -> None:
        assert {d for d, s in lab.runtime.core.state.switches.items() if s.connected} == {1, 2}
        assert len(lab.runtime.core.state.paths.edges) == 2
        lab.agrees()

    run(story)


def test_links_are_stored_when_they_have_been_seen_to_pass() -> None:
    async def story(lab: Lab) -> None:
        assert {key for key in lab.store.load().facts if key[0] == KnownLink.KIND}
        assert not lab.runtime.core.state.link_probes.doubtful()

    run(story)


def test_an_operation_is_one_change_in_each_switch() -> None:
    async def story(lab: Lab) -> None:
        before = {d: w.agent.changes for d, w in lab.wires.items()}
        await lab.apply(None, ONE)
        assert {d: w.agent.changes - before[d] for d, w in lab.wires.items()} == {1: 1, 2: 1}
        lab.agrees()
        await lab.apply(ONE, MORE)
        lab.agrees()
        await lab.apply(MORE, None)
        lab.agrees()
        assert not any(s.groups for s in lab.fabric.switches.values())

    run(story)


def test_an_operation_tells_how_many_of_its_rounds_are_confirmed() -> None:
    async def story(lab: Lab) -> None:
        most = 0
        for before, after in ((None, ONE), (ONE, MORE), (MORE, None)):
            told: list[tuple[int, int]] = []
            with progress.told_to(lambda done, steps, told=told: told.append((done, steps))):  # type: ignore[misc]
                await lab.apply(before, after)
            steps = told[-1][1]
            # It may have begun again, if a switch was slow while others waited.
            assert told[-steps - 1 :] == [(done, steps) for done in range(steps + 1)]
            most = max(most, steps)
        assert most > 1
        told = []
        with progress.told_to(lambda done, steps: told.append((done, steps))):
            lab.wires[2].faults.refuses = True
            with pytest.raises(RuleRefused):
                await lab.apply(None, ONE)
        assert {done for done, _ in told} == {0}, "what undoes it is no progress"

    run(story, 1000.0)


CHANGES = pytest.mark.parametrize(
    ("before", "after"),
    [(None, ONE), (ONE, MORE), (MORE, ONE), (ONE, None)],
    ids=["create", "add", "drop", "remove"],
)


@CHANGES
def test_an_operation_that_a_switch_refuses_leaves_no_trace(before: Any, after: Any) -> None:
    async def story(lab: Lab) -> None:
        if before:
            await lab.apply(None, before)
        held, networks = lab.held(), lab.descriptions()
        lab.wires[2].faults.refuses = True
        with pytest.raises(RuleRefused):
            await lab.apply(before, after)
        lab.wires[2].faults.refuses = False
        await lab.connect(2)  # it was disconnected if it refused its reconciliation, too
        assert lab.descriptions() == networks
        assert lab.held() == held
        lab.agrees()
        await lab.apply(before, after)
        lab.agrees()

    run(story)


@CHANGES
def test_an_operation_that_cannot_be_stored_leaves_no_trace(before: Any, after: Any) -> None:
    async def story(lab: Lab) -> None:
        if before:
            await lab.apply(None, before)
        held, networks = lab.held(), lab.descriptions()
        lab.store.fails = True
        with pytest.raises(StateUnusable):
            await lab.apply(before, after)
        lab.store.fails = False
        assert lab.descriptions() == networks
        assert lab.held() == held
        lab.agrees()
        await lab.apply(before, after)
        lab.agrees()

    run(story)


@CHANGES
@pytest.mark.parametrize("way", ["silent", "mute", "breaks"])
def test_a_switch_that_fails_during_a_change_is_reconciled_on_its_return(
    before: Any, after: Any, way: str
) -> None:
    async def story(lab: Lab) -> None:
        if before:
            await lab.apply(None, before)
        held, networks = lab.held(), lab.descriptions()
        setattr(lab.wires[2].faults, way, True)
        lab.hurry(2)
        with pytest.raises(SwitchTimeout):
            await lab.apply(before, after)
        await lab.rest()
        assert not lab.runtime.core.state.switches[2].connected
        assert lab.descriptions() == networks
        await lab.connect(2)
        assert lab.held() == held
        lab.agrees()

    run(story)


def test_a_second_switch_with_a_datapath_id_is_refused_while_the_first_answers() -> None:
    async def story(lab: Lab) -> None:
        await lab.apply(None, ONE)
        held, first = lab.held(), lab.wires[1]
        first.session.address = "192.0.2.1:4000"
        events = lab.runtime.events.subscribe()
        for attempt in range(3):
            twin = Wire(lab.runtime, Fabric(), 1)
            twin.session.address = f"192.0.2.2:500{attempt}"
            await _until(lambda twin=twin: twin.session.state is SwitchState.CLOSED)  # type: ignore[misc]
            assert not twin.agent.changes
        assert _ready(first)
        assert lab.runtime.core.state.switches[1].connected
        assert lab.held() == held
        await lab.apply(ONE, MORE)
        lab.agrees()
        lab.runtime.events.close()
        found = [e async for e in events]
        assert {e.kind for e in found} == {"switch.refused", "network.changed"}
        assert found[-1].message == "network n1 was changed: endpoint 13 added"
        refused = [e for e in found if e.kind == "switch.refused"]
        assert len(refused) == 1, "it is told once, not at each attempt"
        assert "the switch at 192.0.2.2:5000 is refused: its datapath id, 1, " in refused[0].message
        assert "connected from 192.0.2.1:4000" in refused[0].message
        assert refused[0].switch == "1"
        assert refused[0].fields == {"address": "192.0.2.2:5000", "holder": "192.0.2.1:4000"}
        notes = list(lab.runtime.rejections.notes())
        assert len(notes) == 1
        assert "192.0.2.2" in notes[0]
        assert "192.0.2.1:4000" in notes[0]

    run(story)


def test_of_two_switches_with_a_datapath_id_that_connect_at_once_one_is_used() -> None:
    async def story(lab: Lab) -> None:
        twins = [Wire(lab.runtime, Fabric(), 9), Wire(lab.runtime, Fabric(), 9)]
        await _until(lambda: any(map(_ready, twins)) and any(w.session.ended for w in twins))
        await lab.rest()
        assert [_ready(wire) for wire in twins] == [True, False]
        twins[0].abort()
        await lab.rest()
        await lab.connect(9)
        assert _ready(lab.wires[9]), "the datapath id is free again"

    run(story)


@pytest.mark.parametrize("lost", ["first", "second"])
def test_a_connection_that_ends_while_its_datapath_id_is_disputed(lost: str) -> None:
    async def story(lab: Lab) -> None:
        first = lab.wires[1]
        first.freeze()
        second = Wire(lab.runtime, lab.fabric, 1)
        await lab.rest()
        assert second.session.state is SwitchState.CLAIMING
        (first if lost == "first" else second).abort()
        await lab.rest()
        first.thaw()
        await lab.rest()
        assert _ready(first if lost == "second" else second)

    run(story)


def test_of_two_changes_from_one_state_the_second_is_stale() -> None:
    async def story(lab: Lab) -> None:
        await lab.apply(None, ONE)
        done = await asyncio.gather(lab.apply(ONE, MORE), lab.apply(ONE, None), return_exceptions=True)
        assert done[0] is None
        assert isinstance(done[1], StaleChange)
        lab.agrees()

    run(story)


def test_a_cancelled_caller_leaves_the_operation_atomic() -> None:
    async def story(lab: Lab) -> None:
        for turns in range(0, 40, 4):
            task = asyncio.create_task(lab.apply(None, ONE))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            async with lab.runtime.executor.lock:
                pass
            await lab.rest()
            await lab.idle()
            lab.agrees()
            if lab.descriptions():
                await lab.apply(ONE, None)

    run(story)


def test_a_connection_that_closes_while_queued_is_not_reconciled() -> None:
    async def story(lab: Lab) -> None:
        async with lab.runtime.executor.lock:
            wire = Wire(lab.runtime, lab.fabric, 9)
            await lab.rest()
            wire.abort()
            await lab.rest()
        await lab.rest()
        assert 9 not in lab.runtime.core.state.switches
        assert len(lab.fabric.switches[9].flows) == 1, "the marker, which is written before the lock is taken"
        await lab.apply(None, ONE)
        lab.agrees()

    run(story)


def test_a_switch_that_connects_again_replaces_its_old_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "ANSWER_TIMEOUT", 0.05)

    async def story(lab: Lab) -> None:
        await lab.apply(None, ONE)
        held = lab.held()
        old = lab.wires[1]
        old.freeze()
        await lab.connect(1)
        assert not _ready(lab.wires[1]), "the old connection has time to answer"
        await _until(lambda: _ready(lab.wires[1]))
        assert old.session.ended
        assert lab.runtime.core.state.switches[1].connected
        assert lab.held() == held
        await lab.apply(ONE, MORE)
        lab.agrees()

    run(story)


def test_paths_are_rerouted_when_the_store_fails() -> None:
    async def story(lab: Lab) -> None:
        await lab.apply(None, ONE)
        lab.store.fails = True
        lab.runtime.core.state.discovery.remove_port(1, 2)
        lab.runtime.pending.add(REROUTE)
        lab.runtime.executor.follow_up()
        for _ in range(50):
            await asyncio.sleep(0.001)
        lab.store.fails = False
        assert not lab.runtime.core.state.paths.edges
        lab.agrees()

    run(story)


def test_an_internal_error_in_the_check_releases_the_lock() -> None:
    async def story(lab: Lab) -> None:
        def veto(_: Change) -> None:
            raise StaleChange("no")

        with pytest.raises(NetvirtError):
            await lab.runtime.executor.apply(Change(None, ONE), veto)
        lab.agrees()

    run(story)


@CHANGES
def test_a_bundle_without_reply_is_no_success(before: Any, after: Any) -> None:
    async def story(lab: Lab) -> None:
        if before:
            await lab.apply(None, before)
        held, networks = lab.held(), lab.descriptions()
        lab.wires[2].faults.forgets = True
        with pytest.raises(RuleRefused, match="the bundle's commit was not answered"):
            await lab.apply(before, after)
        await lab.connect(2)
        assert lab.descriptions() == networks
        assert lab.held() == held
        lab.agrees()

    run(story)


@pytest.mark.parametrize("seed", range(8))
def test_switches_without_bundles_may_carry_out_rules_in_any_order(seed: int) -> None:
    async def story(lab: Lab) -> None:
        for dpid, wire in lab.wires.items():
            wire.faults.plain, wire.faults.order = True, Random(seed + dpid)
            wire.session.bundles = False
        for before, after in ((None, MORE), (MORE, ONE), (ONE, MORE), (MORE, None), (None, ONE)):
            await lab.apply(before, after)
            lab.agrees()

    run(story)


def test_duplicate_messages_change_nothing() -> None:
    async def story(lab: Lab) -> None:
        for wire in lab.wires.values():
            wire.faults.repeats = True
        for before, after in ((None, MORE), (MORE, ONE), (ONE, None), (None, ONE)):
            await lab.apply(before, after)
            lab.agrees()
        await lab.connect(1)
        lab.agrees()
        lab.wires[2].faults.repeats = lab.wires[2].faults.refuses = True
        with pytest.raises(RuleRefused):
            await lab.apply(ONE, MORE)

    run(story)


def test_an_unresponsive_switch_is_backed_off_before_it_is_reconciled_again() -> None:
    async def story(lab: Lab) -> None:
        lab.runtime.backoff = Backoff(first=0.3)
        events = lab.runtime.events.subscribe()
        lab.wires[2].faults.mute = True
        lab.hurry(2)
        with pytest.raises(SwitchTimeout, match=r"switch 2 from .* did not answer within 0.2 s"):
            await lab.apply(None, ONE)
        await lab.rest()
        await lab.connect(2)
        assert not lab.runtime.core.state.switches[2].connected
        assert lab.runtime.backoff.left(2, lab.runtime.now()) > 0
        # Others do not wait for it.
        alone = network(9, endpoint(91, 1, 4, 7))
        await lab.apply(None, alone)
        async with asyncio.timeout(PATIENT):
            while not lab.runtime.core.state.switches[2].connected:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await lab.idle()
        lab.agrees()
        lab.runtime.events.close()
        assert [e.switch async for e in events if e.kind == "switch.quarantined"] == ["2"]

    run(story)


def test_an_unresponsive_switch_is_retried_without_blocking_operations() -> None:
    async def story(lab: Lab) -> None:
        lab.wires[2].abort()
        await lab.rest()
        lab.wires[2] = wire = Wire(lab.runtime, lab.fabric, 2)
        lab.hurry(2)
        wire.faults.silent = True
        await lab.rest()
        assert not lab.runtime.executor.lock.locked()
        await lab.apply(None, network(9, endpoint(91, 1, 4, 7)))
        assert not wire.session.served
        async with asyncio.timeout(PATIENT):
            while not wire.session.ended:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await lab.connect(2)
        lab.agrees()

    run(story)


def test_barriers_that_no_coroutine_awaits_time_out() -> None:
    async def story(lab: Lab) -> None:
        session = lab.wires[2].session
        lab.wires[2].faults.silent = True
        lab.hurry(2)
        done: list[bool] = []
        lab.runtime.confirm(2, done.append)
        await lab.rest()
        session.poll(100.0)
        session.poll(100.1)
        assert _state(session) is SwitchState.READY
        session.poll(100.3)
        await lab.rest()
        assert _state(session) is SwitchState.FAILED
        assert lab.wires[2]._ended
        assert done == [False]
        await lab.connect(2)
        lab.agrees()

    run(story)


def test_queued_frames_are_served_once_in_an_iteration_however_many_switches_sent_some() -> None:
    async def story(lab: Lab) -> None:
        rounds: list[float] = []

        def serve_queued(now: float) -> bool:
            rounds.append(now)
            return len(rounds) < 20

        dispatcher = lab.runtime.dispatcher
        lab.runtime.dispatcher = SimpleNamespace(serve_queued=serve_queued)  # type: ignore[assignment]
        for _ in range(10):
            lab.runtime.data_handled()
        for served in (11, 12, 13):
            await asyncio.sleep(0)
            assert len(rounds) == served
        await lab.rest()
        assert len(rounds) == 20, "none is left"
        lab.runtime.data_handled()
        lab.runtime.dispatcher = dispatcher

    run(story)


def test_refused_switches_are_reported_once_and_not_too_often() -> None:
    async def story(lab: Lab) -> None:
        events = lab.runtime.events.subscribe()
        for _ in range(3):
            lab.runtime.refused("192.0.2.1:4000", "it speaks HTTP")
        for number in range(100):
            lab.runtime.refused("192.0.2.2:4000", f"another reason {number}")
        lab.runtime.events.close()
        said = [e.message async for e in events if e.kind == "switch.refused"]
        assert said[0] == "the switch at 192.0.2.1:4000 is refused: it speaks HTTP"
        assert sum("192.0.2.1" in text for text in said) == 1
        assert 2 <= len(said) <= 12
        assert list(lab.runtime.rejections.notes()) == [
            "the switch at 192.0.2.1 is refused: it speaks HTTP",
            "the switch at 192.0.2.2 is refused: another reason 99",
        ]
        lab.runtime.rejections.remove("192.0.2.1:5000")
        assert len(list(lab.runtime.rejections.notes())) == 1

    run(story)


def test_an_operation_whose_frames_are_not_seen_leaves_no_trace() -> None:
    async def story(lab: Lab) -> None:
        held = lab.held()
        lab.fabric.drops = lambda _, sent: sent[12:14] == b"\x88\xa8"
        with pytest.raises(NoPath, match="no frame of 1506 bytes gets from switch 1 to switch 2"):
            await lab.apply(None, ONE)
        lab.fabric.drops = lambda *_: False
        await lab.idle()
        assert lab.descriptions() == []
        assert lab.held() == held
        lab.agrees()
        await lab.apply(None, ONE)
        lab.agrees()

    run(story, confirm=HASTY)


def test_an_operation_is_confirmed_when_a_late_way_passes() -> None:
    async def story(lab: Lab) -> None:
        lost: list[bytes] = []

        def drops(_: object, sent: bytes) -> bool:
            """The first frames in each tunnel, as if the switch's cache were late."""
            if sent[12:14] != b"\x88\xa8" or len(lost) >= 4:
                return False
            lost.append(sent)
            return True

        lab.fabric.drops = drops
        await lab.apply(None, ONE)
        assert len(lost) == 4
        lab.agrees()

    run(story)
