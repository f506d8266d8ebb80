"""CacheWait: switches are seen to have gone through their caches.

`CachePasses` makes the probes and tells what they prove; this part sends them, again and again until they
have come back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection

from libnetvirt.controller.engine.cache_passes import CachePass, CachePasses
from libnetvirt.controller.engine.effects import PendingEffects
from libnetvirt.drivers.openflow.execution.fair_lock import FairLock
from libnetvirt.tasks import Tasks

#: seconds that a switch is waited for, whatever it shows
WITHIN = 1.0
#: seconds until a probe that was not seen is sent again: first, and doubled up to the last
FIRST_PAUSE, LAST_PAUSE = 0.005, 0.1
#: switches up to which that is worth the messages
AT_MOST = 32


class CacheWait:
    """Waits until switches have gone through their caches."""

    def __init__(
        self,
        passes: CachePasses,
        pending: PendingEffects,
        lock: FairLock,
        tasks: Tasks,
    ) -> None:
        self._passes = passes
        self._pending = pending
        self._lock = lock
        self._tasks = tasks

    async def passed(self, switches: Collection[int], yield_after: float) -> None:
        """Return when these switches have gone through their caches, or when their time is up: ``WITHIN``, or
        ``yield_after`` seconds if other tasks wait for the lock. Returns at once if they are more than
        `AT_MOST`. The caller holds the lock."""
        if len(switches) > AT_MOST:
            return
        late = {self._tasks.spawn(self._pass(dpid)) for dpid in switches}
        try:
            late = await self._lock.wait(late, yield_after)
        finally:
            for one in late:
                one.cancel()

    async def _pass(self, dpid: int) -> None:
        one = self._passes.begin(dpid)
        if one is None:
            return
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WITHIN):
                    await self._probe(one)
        finally:
            self._pending.add(self._passes.end(one))

    async def _probe(self, one: CachePass) -> None:
        seen = asyncio.Event()
        one.when_seen = seen.set
        while not one.is_over:
            seen.clear()
            self._pending.add(self._passes.enter(one))
            pause = FIRST_PAUSE
            while not seen.is_set():
                self._pending.add(self._passes.probe(one))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(seen.wait(), pause)
                pause = min(2 * pause, LAST_PAUSE)
