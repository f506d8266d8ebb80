"""Works: operations, and what changes of the substrate call for, one piece at a time.

A piece is planned by the controller, sent in rounds, and confirmed by the switches; then an operation is
stored, or it is undone. What is no longer needed is removed a little later, when no frame meets it any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from libnetvirt.controller.engine.controller import Controller, Publish, Transaction
from libnetvirt.controller.engine.state import LINGER
from libnetvirt.controller.intent.switches import switch_text
from libnetvirt.controller.packetin.dispatcher import PacketInDispatcher
from libnetvirt.controller.qos.capacities import Capacities
from libnetvirt.driver import Change
from libnetvirt.drivers.openflow.event_reporter import EventReporter
from libnetvirt.drivers.openflow.execution.fair_lock import (
    SHARE,
    UPKEEP_SHARE,
    Confirmation,
    FairLock,
    Unresponsive,
    UnresponsiveSwitches,
)  # fmt: skip
from libnetvirt.drivers.openflow.execution.persistence import Persistence
from libnetvirt.drivers.openflow.ovsdb_queues.provisioner import QueueDatabases, QueueProvisioner
from libnetvirt.drivers.openflow.southbound.session import Session
from libnetvirt.errors import ConnectionClosed, StaleChange, SubstrateError
from libnetvirt.tasks import Tasks


class TransactionExecutor:
    """Carries out what the controller plans, on the switches that are connected."""

    def __init__(
        self,
        core: Controller,
        dispatcher: PacketInDispatcher,
        reporter: EventReporter,
        persistence: Persistence,
        tasks: Tasks,
        sessions: Mapping[int, Session],
        databases: QueueDatabases,
        confirm_timeout: float,
        publish: Publish,
        now: Callable[[], float],
        turned: Callable[[], None],
    ) -> None:
        """``sessions``: by switch, as they come and go; ``turned``: called when frames that waited for a work
        may have their turn."""
        self._core = core
        self._dispatcher = dispatcher
        self._reporter = reporter
        self._persistence = persistence
        self._tasks = tasks
        self._sessions = sessions
        self._confirm_timeout = confirm_timeout
        self._publish = publish
        self._now = now
        self._turned = turned
        #: whoever has it may change what switches hold
        self.lock = FairLock()
        self._unresponsive = UnresponsiveSwitches()
        #: works whose old rules are still there
        self.lingering: list[Transaction] = []
        #: whether what events have called for is being done
        self.following_up = False
        #: nothing is begun any more
        self.closed = False
        self.provisioner = QueueProvisioner(
            core, databases, confirm_timeout, self.lingering, publish, self._queues_changed
        )

    async def apply(self, change: Change, validate: Callable[[Change], None]) -> None:
        """Carry out an operation, wholly or not at all. If the caller is cancelled, it still ends whole."""
        if self.closed:
            raise ConnectionClosed("the connection is closed: open a new one")
        await asyncio.shield(self._tasks.spawn(self._apply(change, validate)))

    async def _apply(self, change: Change, validate: Callable[[Change], None]) -> None:
        patience = self._confirm_timeout * SHARE
        while True:
            try:
                async with self.lock:
                    await self._carry_out(change, validate, patience)
                break
            except Unresponsive as unanswered:
                await self._unresponsive.answered(unanswered)
                # It may be that there is much to do: it is not put off for ever.
                patience *= 2
        self.follow_up()

    async def _carry_out(self, change: Change, validate: Callable[[Change], None], patience: float) -> None:
        """Do an operation, or nothing. Raises Unresponsive if others are to go on meanwhile."""
        entry = self._core.rulesdb.networks.get(change.uuid)
        known = entry.description if entry else None
        if known is not change.before and known != change.before:
            raise StaleChange(f"network {change.uuid} was changed by somebody else meanwhile: read it again")
        validate(change)
        work = self._core.begin(change.before, change.after, change.touched)
        try:
            if late := [s for s in self._addressed(work.plan.switches) if s in self._unresponsive]:
                raise Unresponsive(late)
            await self.provisioner.prepare(work, self._sessions)
            await self._execute(work, patience=patience)
            await self._persistence.commit(change)
        except BaseException:
            await self._undo(change, work)
            raise
        for lingering in self.lingering:
            await self._execute(Transaction(self._core.unneeded(lingering), frozenset()), tolerant=True)
        await self._finish(work)
        await self._persistence.store_facts()
        after = change.after or change.before
        assert after is not None
        kind = "created" if change.before is None else "removed" if change.after is None else "changed"
        self._publish(f"network.{kind}", f"network {after.name} was {kind}", network=after.uuid)
        self._reporter.change(change, self._now())

    async def _undo(self, change: Change, work: Transaction) -> None:
        """Take a change back in the controller's mind, then make the switches agree."""
        self._core.undo(work, change.before, change.after)
        await self._compare_all(work.plan.switches)
        await self.provisioner.reconcile()

    def _queues_changed(self) -> None:
        """Rows were changed, or a database came or went: what can be promised may be another thing."""
        self._core.topology_changed = True
        self.follow_up()

    def _addressed(self, switches: Iterable[int]) -> list[Session]:
        """The connections of those switches that have one."""
        return [session for dpid in switches if (session := self._sessions.get(dpid)) is not None]

    async def _execute(
        self, work: Transaction, tolerant: bool = False, patience: float | None = None
    ) -> None:
        """Send a plan's rounds. ``tolerant``: a switch that fails is let go, to be mended when it connects
        again, and the others go on; else the first failure is raised when all of its round have answered.

        While others wait for their turn, a switch has ``patience`` seconds to answer. Then, if ``tolerant``,
        the rest goes on without it; else Unresponsive is raised.
        """
        self._dispatcher.busy = work.networks
        try:
            for one in work.plan.rounds:
                asked = {
                    self._tasks.spawn(session.confirm(one[session.dpid])): session
                    for session in self._addressed(one)
                }
                await self._confirmed(asked, tolerant, patience or self._confirm_timeout * UPKEEP_SHARE)
        finally:
            self._dispatcher.resume(self._now())
            self._turned()

    async def _confirmed(self, asked: dict[Confirmation, Session], tolerant: bool, patience: float) -> None:
        """Wait until switches have confirmed a round."""
        pending = await self.lock.share(
            [t for t, s in asked.items() if s not in self._unresponsive], patience
        )
        unanswered = {t: s for t, s in asked.items() if t in pending or s in self._unresponsive}
        for task, session in unanswered.items():
            recovery = self._recover(session, task, self._unresponsive.recovery(session), tolerant)
            self._unresponsive.add(session, self._tasks.spawn(recovery))
        for task, session in asked.items():
            error = None if task in unanswered else task.exception()
            if error is None:
                continue
            if not tolerant or not isinstance(error, SubstrateError):
                raise error
            self._let_go(session, error)
        if unanswered and not tolerant:
            raise Unresponsive(list(unanswered.values()), list(unanswered))

    def _let_go(self, session: Session, error: SubstrateError) -> None:
        self._reporter.error(self._now(), session.dpid, str(error))
        session.fail(str(error))

    async def _recover(
        self, session: Session, task: Confirmation, earlier: asyncio.Task[Any] | None, tolerant: bool
    ) -> None:
        """A switch is late: when it has answered, compare it with what it should hold by then."""
        await asyncio.wait([task] if earlier is None else [task, earlier])
        error = None if task.cancelled() else task.exception()
        if tolerant and isinstance(error, SubstrateError):
            self._let_go(session, error)
        async with self.lock:
            if not (session.closed or session.failed):
                await self._compare(session)

    def follow_up(self) -> None:
        """Start the work that events have called for, unless it is on its way."""
        if self._called_for() and not self.following_up and not self.closed:
            self.following_up = True
            self._tasks.spawn(self._follow_substrate())

    async def _follow_substrate(self) -> None:
        try:
            while self._called_for():
                async with self.lock:
                    before = self._core.paths.edges
                    while self._core.rebind:
                        await self._execute(self._core.rebound(self._core.rebind.pop()), tolerant=True)
                    while self._core.compare:
                        await self._compare_all([self._core.compare.pop()])
                    work = self._core.reroute()
                    if work is None:
                        await self.provisioner.reconcile()
                        continue
                    await self._move(work)
                self._reporter.links(before)
        finally:
            self.following_up = False
        self._reporter.states(self._now())

    async def _move(self, work: Transaction) -> None:
        """Carry out what a change of the substrate calls for."""
        await self._persistence.store_facts()
        await self.provisioner.reconcile(work.queues)
        await self._execute(work, tolerant=True)
        await self._finish(work)

    async def reload_capacities(self, said: Capacities, degrade: bool) -> list[str]:
        """Take other capacities of links; what became of constraints. If the caller is cancelled, it still
        ends whole. Raises ConstraintUnmet, with nothing changed."""

        async def work() -> list[str]:
            async with self.lock:
                moving, lines = self._core.reload_capacities(said, degrade)
                await self._move(moving)
            self.follow_up()
            return lines

        return await asyncio.shield(self._tasks.spawn(work()))

    def _called_for(self) -> bool:
        core = self._core
        return bool(core.topology_changed or core.rebind or core.compare or self.provisioner.stale)

    async def _compare_all(self, switches: Iterable[int]) -> None:
        """Make switches hold what they should. One that is away is compared when it connects again, one that
        is late when it answers."""
        for session in self._addressed(switches):
            if session not in self._unresponsive:
                await self._compare(session)

    async def _compare(self, session: Session) -> None:
        """Make a switch hold what it should."""
        try:
            await self.reconcile(session)
        except SubstrateError as error:
            session.fail(str(error))

    async def _finish(self, work: Transaction) -> None:
        """Free what a work no longer needs: at once, or with the rules that are to go later."""
        if work.later.remove:
            self.lingering.append(work)
            self._tasks.spawn(self._finish_later(work))
        else:
            work.done()
            await self.provisioner.reconcile()

    async def _finish_later(self, work: Transaction) -> None:
        await asyncio.sleep(LINGER)
        async with self.lock:
            self.lingering.remove(work)
            await self._execute(Transaction(self._core.linger_over(work), frozenset()), tolerant=True)
            work.done()
            await self.provisioner.reconcile()
            await self._persistence.store_facts()
        self.follow_up()

    async def reconcile(self, session: Session) -> None:
        """Make a switch hold what it should; holding the lock. Raises RuleRefused, SwitchTimeout."""
        dump = await session.snapshot()
        work = self._core.reconcile(session.dpid, dump)
        count = sum(len(one.get(session.dpid, ())) for one in work.plan.rounds)
        if count:
            name = switch_text(session.dpid)
            what = f"{count} changes make switch {name} hold what it should"
            self._publish("switch.mended", what, switch=name)
        await self.provisioner.reconcile()
        await self._execute(work, tolerant=True)
