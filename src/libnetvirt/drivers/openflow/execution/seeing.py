"""Seeing: an operation is confirmed when frames have been seen to get from switch to switch.

`TunnelChecks` makes the probes; this part sends them again until they have come back, for as long as an
operation may wait while it holds the lock.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from libnetvirt.controller.engine.controller import Controller
from libnetvirt.controller.engine.effects import REROUTE, PendingEffects
from libnetvirt.controller.engine.tunnel_checks import Check
from libnetvirt.driver import Change
from libnetvirt.drivers.openflow.execution.fair_lock import FairLock
from libnetvirt.tasks import Tasks


class Unseen(Exception):
    """No frame got one of the ways that a network needs. The operation has to be undone; it may be tried
    again, since the path may be another one by then. The text says which ways.
    """


class Seeing:
    """Waits until the ways that an operation makes have been seen to pass."""

    def __init__(
        self,
        core: Controller,
        pending: PendingEffects,
        lock: FairLock,
        tasks: Tasks,
        now: Callable[[], float],
    ) -> None:
        self._core = core
        self._pending = pending
        self._lock = lock
        self._tasks = tasks
        self._now = now

    def before(self, change: Change) -> set[int]:
        """The switches between which frames of the network get already, before the operation begins."""
        record = self._core.state.rulesdb.networks.get(change.uuid)
        if record is None or change.before is None or change.after is None:
            return set()
        return set(record.by_switch) if change.before.rules == change.after.rules else set()

    async def see(self, uuid: str, before: set[int], timeout: float, yield_after: float) -> None:
        """Return when frames got all new ways of a network. The caller holds the lock.

        Raises Unseen after ``timeout`` seconds, or ``yield_after`` if other tasks wait for the lock.
        """
        tunnels = self._core.tunnels
        check = tunnels.check(uuid, before, self._now())
        if check is None:
            return
        task = self._tasks.spawn(self._send(check, timeout))
        try:
            await self._lock.wait([task], yield_after)
            if check.missing:
                self._pending.add(self._core.links.suspect(check.edges, check.kind, self._now()) | REROUTE)
                raise Unseen(tunnels.unseen_text(check))
        finally:
            task.cancel()
            tunnels.end(check)

    async def _send(self, check: Check, timeout: float) -> None:
        """Send probes until all have been seen, or the time is up."""
        seen, deadline = asyncio.Event(), self._now() + timeout
        check.when_seen = seen.set
        while check.missing and self._now() < deadline:
            self._pending.add(self._core.tunnels.send(check))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(seen.wait(), check.pause)
