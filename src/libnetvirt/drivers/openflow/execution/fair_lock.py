"""FairLock: one transaction at a time, and none blocks others for long because a switch does not answer.

The transaction that holds the lock waits for switches to confirm its rounds: for the whole
``confirm-timeout`` if no other task waits for the lock. Otherwise it yields after a part of that time:

- an *operation* yields after `OPERATION_SHARE`. It is undone on all other switches, releases the
  lock, and begins again when the switch has answered and was compared with its expected entries;
- a *reroute*, or another transaction that follows an event, is not undone: it goes on without the switch
  after `FOLLOW_UP_SHARE`.

Until an unresponsive switch has answered and was compared, no transaction waits for it: operations that need
it wait without the lock.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection
from typing import Any

from libnetvirt.drivers.openflow.southbound.life import Step
from libnetvirt.drivers.openflow.southbound.session import Session

#: the part of the time that a switch has to confirm a change after which an operation yields to others
OPERATION_SHARE = 1 / 8
#: the same for transactions that are not undone: when they go on, the switch may not yet hold the rules for
#: frames that are about to arrive there
FOLLOW_UP_SHARE = 1 / 2

Confirmation = asyncio.Task[None]


class FairLock(asyncio.Lock):
    """A lock whose holder can tell whether others wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """How many tasks wait for it."""
        return self._waiting

    async def acquire(self) -> bool:  # type: ignore[override]
        """Wait for the lock and take it."""
        self._waiting += 1
        try:
            return await super().acquire()
        finally:
            self._waiting -= 1

    @contextlib.asynccontextmanager
    async def unhurried(self) -> AsyncIterator[None]:
        """Hold the lock; while waiting for it, do not count as one of those for whom a holder yields."""
        await super().acquire()
        try:
            yield
        finally:
            self.release()

    async def wait(self, tasks: Collection[Confirmation], yield_after: float) -> set[Confirmation]:
        """Wait for tasks while holding the lock: after ``yield_after`` seconds, only as long as no other
        task waits for it. Returns the tasks that are not done."""
        pending, pause = set(tasks), yield_after
        while pending:
            _, pending = await asyncio.wait(pending, timeout=pause)
            if self._waiting:
                break
            pause = yield_after / 4
        return pending


class Unresponsive(Exception):
    """An operation has to be undone, and to begin again when these switches have answered.

    ``confirmations``: those of the operation's own messages.
    """

    def __init__(self, sessions: Collection[Session], confirmations: Collection[Confirmation] = ()) -> None:
        self.sessions = sessions
        self.confirmations = confirmations


class UnresponsiveSwitches:
    """The switches that transactions do not wait for, each with the task that recovers it: waits for its
    answer, and compares it with its expected entries."""

    def __init__(self) -> None:
        self._recoveries: dict[Session, asyncio.Task[Any]] = {}

    def __contains__(self, session: Session) -> bool:
        return session in self._recoveries

    def add(self, session: Session, recovery: asyncio.Task[Any]) -> None:
        """Do not wait for a switch until ``recovery`` is done."""
        session.step(Step.LATE)
        self._recoveries[session] = recovery
        recovery.add_done_callback(lambda _: self._recovered(session, recovery))

    def recovery(self, session: Session) -> asyncio.Task[Any] | None:
        """The task that recovers a switch; None if it is not unresponsive."""
        return self._recoveries.get(session)

    async def answered(self, unanswered: Unresponsive) -> None:
        """Wait until these switches have recovered. Raises the errors of the operation's own messages:
        RuleRefused, SwitchTimeout."""
        recoveries = [task for s in unanswered.sessions if (task := self.recovery(s)) is not None]
        if recoveries:
            await asyncio.wait(recoveries)
        for confirmation in unanswered.confirmations:
            await confirmation

    def _recovered(self, session: Session, recovery: asyncio.Task[Any]) -> None:
        if self._recoveries.get(session) is recovery:
            del self._recoveries[session]
            session.step(Step.ANSWERED)
