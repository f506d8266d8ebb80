"""TransactionExecutor: carries out what the controller plans, one transaction at a time.

A transaction is planned by the controller, sent in rounds, and confirmed by the switches. An operation is
then stored, or undone if anything failed; what it no longer needs is removed `LINGER` seconds later, when no
frame uses it any more. Effects of events (`PendingEffects`) are carried out in between, by one task that
takes the lock like an operation does:

    operation    admit, plan                 -> rounds -> see -> store   -> clean up
    follow-up    rebind, compare, reroute    -> rounds                   -> clean up

`fair_lock` tells what happens when a switch does not answer while others wait for the lock.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from libnetvirt import operation_id, progress
from libnetvirt.controller.dataplane.entries import removes
from libnetvirt.controller.engine.controller import LINGER, Controller, Transaction
from libnetvirt.controller.engine.effects import REROUTE, PendingEffects
from libnetvirt.controller.intent.switches import switch_text
from libnetvirt.controller.packetin.dispatcher import PacketInDispatcher
from libnetvirt.controller.qos.capacities import Capacities
from libnetvirt.controller.qos.te_paths import ConstraintKey, TePath
from libnetvirt.driver import Change
from libnetvirt.drivers.openflow.event_reporter import EventReporter
from libnetvirt.drivers.openflow.execution.cache_wait import CacheWait
from libnetvirt.drivers.openflow.execution.connections import SwitchConnections
from libnetvirt.drivers.openflow.execution.fair_lock import (
    FOLLOW_UP_SHARE,
    OPERATION_SHARE,
    Confirmation,
    FairLock,
    Unresponsive,
)
from libnetvirt.drivers.openflow.execution.persistence import Persistence
from libnetvirt.drivers.openflow.execution.seeing import Seeing, Unseen
from libnetvirt.drivers.openflow.execution.withdrawal import Withdrawal
from libnetvirt.drivers.openflow.ovsdb_queues.provisioner import QueueDatabases, QueueProvisioner
from libnetvirt.drivers.openflow.southbound import probe
from libnetvirt.drivers.openflow.southbound.session import Session
from libnetvirt.errors import ConnectionClosed, NoPath, StaleChange, SubstrateError
from libnetvirt.model.differences import change_text
from libnetvirt.tasks import Tasks

log = logging.getLogger(__name__)

#: seconds until an operation whose frames were not seen is tried again
SECOND_LOOK = 0.3
#: seconds that a question about a network waits for a transaction
CONFIRMED_WITHIN = 1.0

#: Checks a change against the state as it is now, and plans the TE paths of its constraints; None: they are
#: planned with the operation, and none is refused. Raises what forbids the change.
Admit = Callable[[Change], Mapping[ConstraintKey, TePath] | None]


@dataclass(frozen=True, slots=True)
class ExecutionContext:
    """The parts of a connection that the executor plans and carries out transactions with."""

    core: Controller
    pending: PendingEffects
    dispatcher: PacketInDispatcher
    connections: SwitchConnections
    persistence: Persistence
    reporter: EventReporter
    tasks: Tasks
    #: steady seconds
    now: Callable[[], float]
    #: called when frames that waited for a transaction may be served
    serve_queued: Callable[[], None]


class TransactionExecutor:
    """Carries out transactions on the switches that are connected."""

    def __init__(self, context: ExecutionContext, databases: QueueDatabases) -> None:
        self._core = context.core
        self._pending = context.pending
        self._dispatcher = context.dispatcher
        self._connections = context.connections
        self._unresponsive = context.connections.unresponsive
        self._persistence = context.persistence
        self._reporter = context.reporter
        self._tasks = context.tasks
        self._now = context.now
        self._serve_queued = context.serve_queued
        self._publish = context.core.publish
        #: held while the entries of switches are changed
        self.lock = FairLock()
        self._seeing = Seeing(context.core, context.pending, self.lock, context.tasks, context.now)
        self._caches = CacheWait(context.core.passes, context.pending, self.lock, context.tasks)
        # Switches that are being given rules which paths are about to use.
        self._given: set[Session] = set()
        # The networks of the transaction that is carried out, and its end.
        self._ahead: tuple[Collection[str] | None, asyncio.Event] | None = None
        #: whether a task carries out pending effects
        self.following_up = False
        #: whether new operations are refused
        self.closed = False
        self.provisioner = QueueProvisioner(
            context.core,
            databases,
            context.connections.confirm_timeout,
            context.core.deferred.transactions,
            self._publish,
            self._queues_changed,
        )

    # ---- operations ----------------------------------------------------------------------------

    async def apply(self, change: Change, admit: Admit) -> None:
        """Carry out an operation completely, or not at all. If the caller is cancelled before the operation
        is committed, it is undone, and CancelledError raised then; else it returns.

        Raises StaleChange, whatever ``admit`` raises, and SubstrateError.
        """
        if self.closed:
            raise ConnectionClosed("the connection is closed: open a new one")
        withdrawal = Withdrawal()
        await withdrawal.await_end(self._tasks.spawn(self._apply(change, admit, withdrawal)))

    async def _apply(self, change: Change, admit: Admit, withdrawal: Withdrawal) -> None:
        yield_after = self._connections.confirm_timeout * OPERATION_SHARE
        deadline = self._now() + self._connections.confirm_timeout
        while True:
            try:
                async with self.lock:
                    await self._carry_out(change, admit, withdrawal, yield_after)
                break
            except asyncio.CancelledError:
                self.follow_up()
                raise
            except Unseen as unseen:
                self.follow_up()
                withdrawal.check()
                if self._now() > deadline:
                    raise NoPath(str(unseen)) from None
                # Links are probed meanwhile, and the path may be another one.
                await asyncio.sleep(SECOND_LOOK)
            except Unresponsive as unanswered:
                withdrawal.check()
                await self._unresponsive.answered(unanswered)
                # Its switches may have a lot to do: it is not put off for ever.
                yield_after *= 2
        self.follow_up()

    async def _carry_out(
        self, change: Change, admit: Admit, withdrawal: Withdrawal, yield_after: float
    ) -> None:
        """Carry out an operation, or nothing. Raises Unresponsive if others are to go first."""
        record = self._core.state.rulesdb.networks.get(change.uuid)
        known = record.description if record else None
        if known is not change.before and known != change.before:
            raise StaleChange(f"network {change.uuid} was changed by another client meanwhile: read it again")
        te_paths, before = admit(change), self._seeing.before(change)
        transaction = self._planned(
            self._core.operations.begin(change.before, change.after, change.touched, te_paths)
        )
        with self._under_way(transaction.networks):
            try:
                addressed = self._connections.of(transaction.plan.switches)
                if late := [session for session in addressed if session in self._unresponsive]:
                    raise Unresponsive(late)
                with withdrawal.settling():
                    await self.provisioner.prepare(transaction, self._connections.by_switch)
                withdrawal.check()
                await self._execute(transaction, yield_after=yield_after)
                await self._seeing.see(change.uuid, before, self._connections.confirm_timeout, yield_after)
            except BaseException:
                with withdrawal.settling():
                    await self._undo(transaction)
                raise
            with withdrawal.settling():
                await self._commit(change, transaction)
        with withdrawal.settling():
            await self._execute(Transaction(self._core.deferred.unneeded(), frozenset()), tolerant=True)
            await self._finish(transaction)
            await self._persistence.store_facts()
        self._report(change, transaction)

    async def _commit(self, change: Change, transaction: Transaction) -> None:
        try:
            await self._persistence.commit(change)
        except BaseException:
            await self._undo(transaction)
            raise

    def _report(self, change: Change, transaction: Transaction) -> None:
        network = change.after or change.before
        assert network is not None
        kind = "created" if change.before is None else "removed" if change.after is None else "changed"
        text = f"network {network.name} was {kind}{change_text(change.before, change.after)}"
        rounds = transaction.plan.rounds
        log.info(
            "network %s was %s: %d messages to %d switches in %d rounds",
            network.name, kind, sum(len(part) for one in rounds for part in one.values()),
            len(transaction.plan.switches), len(rounds),
        )  # fmt: skip
        self._publish(f"network.{kind}", text, network=network.uuid)
        self._reporter.change(change, self._now())

    async def _undo(self, transaction: Transaction) -> None:
        """Undo an operation in the controller's state, then make the switches follow."""
        self._pending.add(transaction.undo())
        if transaction.left:
            await self._turn_back(transaction)
        await self._compare_all(transaction.plan.switches)
        await self.provisioner.reconcile()

    async def _turn_back(self, transaction: Transaction) -> None:
        """Make all switches send to the place that an endpoint has not left after all, before any of them
        stops delivering at the other one. Switches that do not answer are compared when they do."""
        sessions = [
            session
            for session in self._connections.of(transaction.plan.switches)
            if session not in self._unresponsive and not session.ended
        ]
        answers = await asyncio.gather(*map(probe.snapshot, sessions), return_exceptions=True)
        snapshots = {
            session.dpid: answer
            for session, answer in zip(sessions, answers, strict=True)
            if not isinstance(answer, BaseException)
        }
        await self._execute(self._core.reconciler.turn_back(snapshots, transaction), tolerant=True)

    async def reload_capacities(self, capacities: Capacities, degrade: bool) -> list[str]:
        """Apply other capacities of links. Returns a line for each constraint that moved or was degraded.

        If the caller is cancelled, it still ends completely. Raises ConstraintUnmet, with nothing changed.
        """

        async def reload() -> list[str]:
            async with self.lock:
                transaction, lines = self._core.capacity_reload.plan(capacities, degrade, self._now())
                # Paths were just computed again.
                self._pending.take_reroute()
                await self._move(self._planned(transaction))
            self.follow_up()
            return lines

        return await asyncio.shield(self._tasks.spawn(reload()))

    # ---- effects of events ---------------------------------------------------------------------

    def follow_up(self) -> None:
        """Start to carry out the pending effects, unless a task does so already."""
        if self._called_for() and not self.following_up and not self.closed:
            self.following_up = True
            self._tasks.spawn(self._follow_events())

    def _called_for(self) -> bool:
        return bool(self._pending or self.provisioner.stale)

    async def _follow_events(self) -> None:
        # Events of any cause, whichever operation it was that started this task.
        with operation_id.of(""), progress.told_to(None):
            await self._follow_up()

    async def _follow_up(self) -> None:
        try:
            while self._called_for():
                async with self.lock:
                    before = self._core.state.paths.edges
                    while self._pending.rebind:
                        rebound = self._core.reconciler.rebind(self._pending.rebind.pop())
                        await self._execute(self._planned(rebound), tolerant=True)
                    while self._pending.compare:
                        await self._compare_all([self._pending.compare.pop()])
                    rerouted = self._core.reroute.plan(self._pending.take_reroute())
                    if rerouted is None:
                        self._pending.add(self._core.links.ready(self._now()))
                        await self.provisioner.reconcile()
                        # Links that have been seen to pass are kept for the next run.
                        await self._persistence.store_facts()
                        continue
                    await self._move(self._planned(rerouted))
                    self._pending.add(self._core.links.ready(self._now()))
                self._reporter.links(before)
        finally:
            self.following_up = False
        self._reporter.states(self._now())

    async def _move(self, transaction: Transaction) -> None:
        """Carry out a transaction that moves paths."""
        with self._under_way(transaction.networks):
            await self._persistence.store_facts()
            await self.provisioner.reconcile(transaction.queues)
            await self._execute(transaction, tolerant=True)
        await self._finish(transaction)

    @contextmanager
    def _under_way(self, networks: Collection[str] | None) -> Iterator[None]:
        """The controller's state of these networks (None: of all) is ahead of the switches in the block."""
        over = asyncio.Event()
        self._ahead = networks, over
        try:
            yield
        finally:
            self._ahead = None
            over.set()

    async def confirmed(self, uuid: str) -> None:
        """Wait until the switches have what the controller's state says of a network, a second at most."""
        if self._ahead is None:
            return
        networks, over = self._ahead
        if networks is None or uuid in networks:
            with suppress(TimeoutError):
                async with asyncio.timeout(CONFIRMED_WITHIN):
                    await over.wait()

    def _queues_changed(self) -> None:
        """Rows were changed, or a database came or went: other bandwidth may be free for reservations."""
        self._pending.add(REROUTE)
        self.follow_up()

    async def reconcile(self, session: Session) -> None:
        """Reconcile a switch; the caller holds the lock. Raises RuleRefused, SwitchTimeout."""
        snapshot = await probe.snapshot(session)
        transaction = self._planned(self._core.reconciler.reconcile(session.dpid, snapshot))
        count = sum(len(one.get(session.dpid, ())) for one in transaction.plan.rounds)
        if count:
            name = switch_text(session.dpid)
            text = f"switch {name}: {count} differences from the expected rules are repaired"
            self._publish("switch.mended", text, switch=name)
        await self.provisioner.reconcile()
        await self._execute(transaction, tolerant=True)

    async def _compare_all(self, switches: Iterable[int]) -> None:
        """Give switches their expected entries. One that is not connected is compared when it connects, one
        that does not answer when it does."""
        for session in self._connections.of(switches):
            if session not in self._unresponsive and not session.ended:
                await self._compare(session)

    async def _compare(self, session: Session) -> None:
        try:
            await self.reconcile(session)
        except SubstrateError as error:
            session.fail(str(error))

    async def correct(self, transaction: Transaction) -> None:
        """Undo drift; the caller holds the lock. A switch that refuses stays connected. Raises RuleRefused,
        SwitchTimeout, Unresponsive."""
        await self._execute(self._planned(transaction))

    # ---- carrying out --------------------------------------------------------------------------

    def _planned(self, transaction: Transaction) -> Transaction:
        """Add the effects of planning a transaction to the pending ones."""
        self._pending.add(transaction.effects)
        return transaction

    async def _execute(
        self, transaction: Transaction, tolerant: bool = False, yield_after: float | None = None
    ) -> None:
        """Send the rounds of a plan. ``tolerant``: a switch that fails is disconnected, to be compared when
        it connects again, and the others go on; else the first failure is raised when the whole round has
        ended.

        While others wait for the lock, a switch has ``yield_after`` seconds to answer. Then, if ``tolerant``,
        the transaction goes on without it; else Unresponsive is raised.
        """
        if yield_after is None:
            yield_after = self._connections.confirm_timeout * FOLLOW_UP_SHARE
        self._dispatcher.busy = transaction.networks
        try:
            passing = self._cache_passes(transaction)
            overtaken = self._core.deferred.overtaken().rounds
            rounds = (*overtaken, *transaction.plan.rounds)
            for number, one in enumerate(rounds, 1 - len(overtaken)):
                if not tolerant:
                    progress.tell(number - 1 + len(overtaken), len(rounds))
                if log.isEnabledFor(logging.DEBUG):
                    parts = (f"{len(one[d])} to switch {switch_text(d)}" for d in sorted(one))
                    log.debug("messages of a round: %s", ", ".join(parts))
                asked = {
                    self._tasks.spawn(session.confirm(one[session.dpid])): session
                    for session in self._connections.of(one)
                }
                if tolerant:
                    self._given |= {s for s in asked.values() if not all(map(removes, one[s.dpid]))}
                await self._confirmed(asked, tolerant, yield_after)
                self._given -= {s for s in asked.values() if s not in self._unresponsive}
                if number in passing:
                    await self._caches.passed(passing[number], yield_after)
            if not tolerant:
                progress.tell(len(rounds), len(rounds))
        finally:
            self._dispatcher.resume(self._now())
            self._serve_queued()

    @staticmethod
    def _cache_passes(transaction: Transaction) -> dict[int, set[int]]:
        """After how many rounds of a transaction which switches have to go through their caches: before any
        sends to the new place of an endpoint, and before the operation is confirmed."""
        plan = transaction.plan
        if not transaction.left:
            return {}
        parts = (plan.rounds[: plan.receiving], plan.rounds[plan.receiving :])
        ends = (plan.receiving, len(plan.rounds))
        return {end: set[int]().union(*part) for end, part in zip(ends, parts, strict=True) if part}

    async def _confirmed(
        self, asked: dict[Confirmation, Session], tolerant: bool, yield_after: float
    ) -> None:
        """Wait until switches have confirmed a round."""
        waits = [t for t, s in asked.items() if s not in self._unresponsive]
        try:
            pending = await self.lock.wait(waits, yield_after)
        except asyncio.CancelledError:
            # Withdrawn. Switches that answer in time are compared at once, the others when they answer.
            await asyncio.wait(waits, timeout=yield_after)
            self._put_off({t: s for t, s in asked.items() if not t.done()}, tolerant)
            raise
        unanswered = {t: s for t, s in asked.items() if t in pending or s in self._unresponsive}
        self._put_off(unanswered, tolerant)
        for task, session in asked.items():
            error = None if task in unanswered else task.exception()
            if error is None:
                continue
            if not tolerant or not isinstance(error, SubstrateError):
                raise error
            self._disconnect(session, error)
        if unanswered and not tolerant:
            raise Unresponsive(list(unanswered.values()), list(unanswered))

    def _put_off(self, unanswered: Mapping[Confirmation, Session], tolerant: bool) -> None:
        """Do not wait for these switches until they have answered, and were compared."""
        for task, session in unanswered.items():
            recovery = self._recover(session, task, self._unresponsive.recovery(session), tolerant)
            self._unresponsive.add(session, self._tasks.spawn(recovery))

    def _disconnect(self, session: Session, error: SubstrateError) -> None:
        if session in self._given:
            self._given.discard(session)
            self._pending.add(self._core.reroute.doubt(session.dpid))
        self._reporter.error(self._now(), session.dpid, str(error))
        session.fail(str(error))

    async def _recover(
        self, session: Session, task: Confirmation, earlier: asyncio.Task[Any] | None, tolerant: bool
    ) -> None:
        """When an unresponsive switch has answered, compare it with its expected entries by then."""
        await asyncio.wait([task] if earlier is None else [task, earlier])
        error = None if task.cancelled() else task.exception()
        if tolerant and isinstance(error, SubstrateError):
            self._disconnect(session, error)
        self._given.discard(session)
        async with self.lock:
            if not session.ended:
                await self._compare(session)

    async def _finish(self, transaction: Transaction) -> None:
        """Clean up behind a transaction: at once, or together with its deferred removals."""
        if transaction.deferred.remove:
            self._core.deferred.add(transaction)
            self._tasks.spawn(self._finish_later(transaction))
        else:
            self._pending.add(transaction.cleanup())
            await self.provisioner.reconcile()

    async def _finish_later(self, transaction: Transaction) -> None:
        await asyncio.sleep(LINGER)
        async with self.lock:
            due = Transaction(self._core.deferred.due(transaction), frozenset())
            await self._execute(due, tolerant=True)
            self._pending.add(transaction.cleanup())
            await self.provisioner.reconcile()
            await self._persistence.store_facts()
        self.follow_up()
