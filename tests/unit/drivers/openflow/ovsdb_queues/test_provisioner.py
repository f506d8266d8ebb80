"""The shell over switches and a database in memory: no rule ever names a queue that is not there, and what
fails in the middle leaves neither rules nor rows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

import pytest

from libnetvirt import openflow as of
from libnetvirt.controller.engine.controller import Options
from libnetvirt.controller.engine.effects import REROUTE
from libnetvirt.controller.qos.enforcement import Enforcement
from libnetvirt.driver import Change
from libnetvirt.drivers.openflow import runtime as shell_module
from libnetvirt.drivers.openflow.ovsdb_queues import provisioner
from libnetvirt.drivers.openflow.ovsdb_queues.provisioner import QueueDatabases
from libnetvirt.drivers.openflow.ovsdb_queues.rows import Ports
from libnetvirt.drivers.openflow.runtime import Runtime
from libnetvirt.drivers.openflow.southbound.backoff import Backoff
from libnetvirt.errors import ConnectionFailed, ConstraintUnmet, RuleRefused, SwitchTimeout
from libnetvirt.model import Constraint, VirtualNetwork
from libnetvirt.ovsdb.database import Interrupted, Operation, Refused, RowUpdate
from libnetvirt.ovsdb.remotes import Remote
from libnetvirt.store.sqlite import MEMORY, SqliteStore
from tests.support.controller_rig import VLAN, endpoint, network
from tests.support.session_switch import WIRES, Wire
from tests.support.switch_database import Rows
from tests.support.switch_fabric import Fabric, Switch

FILE = 'capacity = "100 Mbit/s"\n[[link]]\nswitch = 1\nport = 2\ncost = 0.5\n'
PLAIN = network(1, endpoint(11, 1, 3, None, 1), endpoint(12, 2, 3, None, 2))
#: seconds that switches have to answer
TIMEOUT = 20.0
REMOTE = Remote.parse("unix:/nowhere")


def promised(rate: str) -> VirtualNetwork:
    asked = {"source": 11, "destination": 12, "min-bandwidth": rate}
    return PLAIN.changed(constraints=(Constraint.model_validate(asked),))


class MemoryDatabase:
    """As the client of a database, of rows in memory."""

    def __init__(self, rows: Rows, changed: Callable[..., None], session: Callable[[bool], None]) -> None:
        self.content = rows
        self._changed, self._session = changed, session
        self.trouble = ""
        self.fault: Exception | None = None
        #: whether Open vSwitch does what the rows say
        self.followed = True
        self._config = 0
        self.transactions = 0

    connected = property(lambda self: not self.trouble)
    tables = property(lambda self: self.content.tables)

    async def open(self, timeout: float, *, required: bool = True) -> None:  # noqa: ARG002
        self._session(self.connected)

    async def ready(self, timeout: float) -> None:  # noqa: ARG002
        if self.trouble:
            raise ConnectionFailed(self.trouble)

    async def close(self) -> None:
        pass

    async def transact(self, operations: Sequence[Operation], timeout: float) -> list[Any]:  # noqa: ARG002
        await asyncio.sleep(0)
        if self.fault is not None:
            raise self.fault
        *steps, _, _ = operations
        self.content.transact(steps)
        self.transactions += 1
        self._config += 1
        self._changed([RowUpdate("QoS", "u", None, {})])
        return [{}, {"rows": [{"next_cfg": self._config}]}]

    def rows(self, table: str) -> Iterator[tuple[str, dict[str, int]]]:
        assert table == "Open_vSwitch"
        yield "u", {"cur_cfg": self._config if self.followed else 0}

    async def until(self, condition: Callable[[], bool], timeout: float) -> None:  # noqa: ARG002
        if not condition():
            raise TimeoutError

    def told(self) -> None:
        """Another program has changed something."""
        self._changed([RowUpdate("Port", "u", {}, {})])


class Lab:
    """A shell, a ring of three switches, and the one database of all."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows = Rows(dict.fromkeys((1, 2, 3), range(1, 5)))
        self.databases: list[MemoryDatabase] = []

        def opened(*_: Any, changed: Any, session: Any, **__: Any) -> MemoryDatabase:
            self.databases.append(MemoryDatabase(self.rows, changed, session))
            return self.databases[-1]

        monkeypatch.setattr(provisioner, "Database", opened)
        monkeypatch.setattr(shell_module, "LINGER", 0.02)
        options = Options(VLAN, capacities=FILE, enforcement=Enforcement.QUEUE)
        # Nobody is to seem late because the machine is busy: nothing here depends on who answers when.
        self.runtime = Runtime(options, SqliteStore(MEMORY), b"s" * 32, TIMEOUT, QueueDatabases(every=REMOTE))
        self.runtime.backoff = Backoff(first=0.0)
        self.fabric = Fabric()
        for one, other in (((1, 2), (2, 1)), ((2, 2), (3, 1)), ((3, 2), (1, 1))):
            self.fabric.link(one, other)
        self.wires: dict[int, Wire] = {}
        WIRES.clear()
        self.wrong: list[str] = []

    @property
    def database(self) -> MemoryDatabase:
        return self.databases[0]

    def queues(self, dpid: int, port: int) -> set[int]:
        """The queues of a port, as the rows say."""
        uuid = self.rows.tables["Port"][Ports.of(self.rows.tables).rows[dpid, port]]["qos"]
        return set(self.rows.tables["QoS"][uuid]["queues"]) if uuid else set()

    def check(self, dpid: int) -> None:
        """No rule of a switch names a queue that its port does not have."""
        for port, number in set_queues(self.fabric.switches[dpid]):
            if number not in self.queues(dpid, port):
                self.wrong.append(f"switch {dpid} has no queue {number} at port {port}")

    async def connect(self, dpid: int) -> None:
        self.wires[dpid] = wire = Wire(self.runtime, self.fabric, dpid, TIMEOUT)
        wire.agent.queues = lambda port: self.queues(dpid, port)
        switch, answer = wire.agent.switch, wire.agent.answer

        def watched(m: of.Message) -> list[of.Message]:
            said = answer(m)
            assert switch is self.fabric.switches[dpid]
            self.check(dpid)
            return said

        wire.agent.answer = watched  # type: ignore[method-assign]
        WIRES.setdefault(id(self.fabric), {})[dpid] = [wire]
        await self.idle()

    async def idle(self) -> None:
        """Until no work is under way; at each moment, rules name queues that are there."""
        for _ in range(4):
            for _ in range(100):
                await asyncio.sleep(0)
            while (
                self.runtime.executor.following_up
                or self.runtime.executor.lock.locked()
                or self.runtime.core.deferred.transactions
            ):
                await asyncio.sleep(0.001)
                for dpid in self.wires:
                    self.check(dpid)

    async def apply(self, before: VirtualNetwork | None, after: VirtualNetwork | None) -> None:
        await self.runtime.executor.apply(Change(before, after), lambda _: None)

    def held(self) -> Any:
        return {d: dict(s.flows) for d, s in self.fabric.switches.items()}, self.rows.tables["Queue"].keys()


def set_queues(switch: Switch) -> set[tuple[int, int]]:
    """(port, queue) of all rules."""
    return {
        (then.port, now.queue_id)
        for flow in switch.flows.values()
        for one in flow.instructions
        if isinstance(one, of.ApplyActions)
        for now, then in zip(one.actions, one.actions[1:], strict=False)
        if isinstance(now, of.SetQueue) and isinstance(then, of.Output)
    }


def _run(monkeypatch: pytest.MonkeyPatch, story: Callable[[Lab], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        lab = Lab(monkeypatch)
        await lab.runtime.start([])
        for dpid in (1, 2, 3):
            await lab.connect(dpid)
        assert len(lab.runtime.core.state.paths.edges) == 6
        await lab.apply(None, PLAIN)
        try:
            await story(lab)
            assert lab.wrong == []
        finally:
            await lab.runtime.close()
            for _ in range(50):
                await asyncio.sleep(0)

    asyncio.run(whole())


def test_rows_are_created_before_rules_and_removed_after_them(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(lab: Lab) -> None:
        first = promised("30 Mbit/s")
        await lab.apply(PLAIN, first)
        assert set_queues(lab.fabric.switches[1]) == {(2, 1)}
        assert lab.queues(1, 2) == {0, 1}
        # The path moves: the old queues stay until the last rule that names them has gone.
        lab.runtime.core.state.discovery.remove_port(1, 2)
        lab.runtime.pending.add(REROUTE)
        lab.runtime.executor.follow_up()
        await lab.idle()
        assert set_queues(lab.fabric.switches[1]) == {(1, 1)}
        assert [lab.queues(*place) for place in ((1, 1), (3, 1), (1, 2))] == [{0, 1}, {0, 1}, set()]
        # And back, while the rule of the switch between lingers.
        for dpid in (1, 2):
            lab.runtime.pending.add(lab.runtime.core.topology.lldp(dpid, range(1, 5), lab.runtime.now()))
        await lab.idle()
        lab.runtime.core.state.discovery.remove_port(1, 1)
        lab.runtime.pending.add(REROUTE)
        lab.runtime.executor.follow_up()
        await lab.idle()
        assert [lab.queues(*place) for place in ((1, 1), (3, 1), (1, 2))] == [set(), set(), {0, 1}]
        await lab.apply(first, PLAIN)
        await lab.idle()
        assert not lab.rows.tables["Queue"]
        assert not lab.rows.tables["QoS"]
        before = lab.database.transactions
        await lab.apply(PLAIN, PLAIN.changed(name="another"))
        assert lab.database.transactions == before

    _run(monkeypatch, story)


def _deaf(lab: Lab) -> None:
    lab.wires[1].agent.queues = lambda _: ()


#: what fails, and what the caller is told
FAULTS: dict[str, tuple[Callable[[Lab], None], type[Exception], str]] = {
    "refused": (lambda lab: setattr(lab.database, "fault", Refused("x", "")), RuleRefused, "refused"),
    "broken": (lambda lab: setattr(lab.database, "fault", Interrupted("x")), SwitchTimeout, "be reached: x"),
    "away": (lambda lab: setattr(lab.database, "trouble", "gone"), SwitchTimeout, "be reached: gone"),
    "idle": (lambda lab: setattr(lab.database, "followed", False), SwitchTimeout, "ovs-vswitchd running"),
    "deaf": (_deaf, RuleRefused, "did not create queue 0 of port 2"),
    "rules": (lambda lab: setattr(lab.wires[2].faults, "refuses", True), RuleRefused, "TABLE_FULL"),
}


@pytest.mark.parametrize(
    ("fault", "rates"),
    [
        *((fault, (None, "30 Mbit/s")) for fault in FAULTS),
        # Other figures change no rule, so no rule can fail.
        *((fault, ("30 Mbit/s", "60 Mbit/s")) for fault in FAULTS if fault != "rules"),
    ],
)
def test_a_failed_operation_leaves_no_trace(
    monkeypatch: pytest.MonkeyPatch, fault: str, rates: tuple[str, str]
) -> None:
    fail, kind, told = FAULTS[fault]

    async def story(lab: Lab) -> None:
        before, after = (PLAIN if rate is None else promised(rate) for rate in rates)
        if rates[0]:
            await lab.apply(PLAIN, before)
            await lab.idle()
        held = str(lab.held())
        fail(lab)
        with pytest.raises(kind, match=told):
            await lab.apply(before, after)
        lab.database.fault, lab.database.trouble, lab.database.followed = None, "", True
        lab.wires[2].faults.refuses = False
        lab.wires[1].agent.queues = lambda port: lab.queues(1, port)
        lab.runtime._tick()
        await lab.idle()
        if lab.wires[2].session.ended:
            await lab.connect(2)
        assert [e.description for e in lab.runtime.core.state.rulesdb] == [before]
        assert lab.runtime.core.state.te_paths.reservations.links().keys() == (
            {(1, 2)} if rates[0] else set()
        )
        assert len(lab.rows.tables["Queue"]) == (2 if rates[0] else 0)
        if rates[0]:
            assert str(lab.held()) == held
        await lab.apply(before, after)
        assert lab.queues(1, 2) == {0, *(n for _, n in set_queues(lab.fabric.switches[1]))}

    _run(monkeypatch, story)


def test_the_queues_of_all_ports_are_checked_also_behind_one_that_keeps_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story(lab: Lab) -> None:
        first = promised("30 Mbit/s")
        await lab.apply(PLAIN, first)
        await lab.idle()
        back = Constraint.model_validate({"source": 12, "destination": 11, "min-bandwidth": "30 Mbit/s"})
        both = first.changed(constraints=(*first.constraints, back))
        lab.wires[2].agent.queues = lambda _: ()
        with pytest.raises(RuleRefused, match="switch 2 did not create queue 0"):
            await lab.apply(first, both)
        lab.wires[2].agent.queues = lambda port: lab.queues(2, port)
        await lab.idle()
        await lab.apply(first, both)
        # The one that keeps its queues comes first: what is behind it was looked at.
        assert next(dpid for dpid, _ in lab.runtime.core.constraints.queue_config()) == 1

    _run(monkeypatch, story)


def test_rows_removed_by_others_are_restored_or_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(lab: Lab) -> None:
        await lab.apply(PLAIN, promised("30 Mbit/s"))
        port = lab.rows.tables["Port"][Ports.of(lab.rows.tables).rows[1, 2]]
        port["qos"] = None
        lab.wrong.clear()
        lab.database.told()
        await lab.idle()
        assert lab.queues(1, 2) == {0, 1}
        lab.rows.tables["Port"][Ports.of(lab.rows.tables).rows[1, 2]]["qos"] = lab.rows.put("QoS", type="x")
        lab.database.told()
        await lab.idle()
        lab.wrong.clear()  # until the path had moved, that could not be otherwise
        assert set_queues(lab.fabric.switches[1]) == {(1, 1)}
        with pytest.raises(ConstraintUnmet, match="a QoS of another program"):
            lab.runtime.core.constraints.plan(
                PLAIN.changed(constraints=(promised("1 Mbit/s").constraints[0].changed(max_hops=2),))
            )

    _run(monkeypatch, story)
