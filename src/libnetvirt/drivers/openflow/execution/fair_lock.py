"""Patience: one piece of work at a time, and none holds up others for long because a switch does not answer.

An operation that waits for a switch while others wait for their turn is undone, everywhere but there, and
lets them go on. When the switch has answered, and was compared with what it should hold, the operation begins
anew. TopologyEvents does not wait for a switch that is known to be late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

from libnetvirt.drivers.openflow.southbound.session import Session

#: the part of the time a switch has to confirm for which others wait with an operation; and with upkeep,
#: which is not undone: when it goes on, the switch may not yet hold what frames are about to meet there
SHARE = 1 / 8
UPKEEP_SHARE = 1 / 2

Confirmation = asyncio.Task[None]


class FairLock(asyncio.Lock):
    """A lock that knows whether others wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting = 0

    async def acquire(self) -> bool:  # type: ignore[override]
        """Wait for the lock and take it."""
        self._waiting += 1
        try:
            return await super().acquire()
        finally:
            self._waiting -= 1

    async def share(self, tasks: Collection[Confirmation], patience: float) -> set[Confirmation]:
        """Wait for tasks, holding the lock: after ``patience`` seconds only as long as nobody else waits for
        it. Returns the tasks that are not done."""
        pending, pause = set(tasks), patience
        while pending:
            _, pending = await asyncio.wait(pending, timeout=pause)
            if self._waiting:
                break
            pause = patience / 4
        return pending


class Unresponsive(Exception):
    """An operation is to be undone, and begun anew when these switches have answered.

    ``confirmations``: what the operation itself has asked of them.
    """

    def __init__(self, sessions: Collection[Session], confirmations: Collection[Confirmation] = ()) -> None:
        self.sessions = sessions
        self.confirmations = confirmations


class UnresponsiveSwitches:
    """Switches that others do not wait for, and what is done when they have answered."""

    def __init__(self) -> None:
        self._recoveries: dict[Session, asyncio.Task[Any]] = {}

    def __contains__(self, session: Session) -> bool:
        return session in self._recoveries

    def add(self, session: Session, recovery: asyncio.Task[Any]) -> None:
        """A switch is late until its ``recovery`` is over."""
        self._recoveries[session] = recovery
        recovery.add_done_callback(lambda _: self._over(session, recovery))

    def recovery(self, session: Session) -> asyncio.Task[Any] | None:
        """What is under way for a switch."""
        return self._recoveries.get(session)

    async def answered(self, unanswered: Unresponsive) -> None:
        """Wait until switches are late no more. Raises what went wrong with what was asked of them:
        RuleRefused, SwitchTimeout."""
        recoveries = [task for s in unanswered.sessions if (task := self.recovery(s)) is not None]
        if recoveries:
            await asyncio.wait(recoveries)
        for confirmation in unanswered.confirmations:
            await confirmation

    def _over(self, session: Session, recovery: asyncio.Task[Any]) -> None:
        if self._recoveries.get(session) is recovery:
            del self._recoveries[session]
