"""A session whose state is in a cluster, and which takes turns with those of other processes.

One of them *leads*: it has the lease (:mod:`libnetvirt.store.lease`), and does all that a session does. The
others are *standbys*: they listen for switches, too, hold the connections as slaves, and answer every request
with :class:`NotLeader`, which tells where the leader is.

A standby that gets the lease loads the state, becomes master of the switches that it holds, and compares
their rules, as a controller does that was restarted. A leader that loses the lease closes all that it has,
and begins again as a standby. What it sends after that is refused: by the cluster, because its commits name
its term; by the switches, because their new master has a later generation.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Self, TypeVar

from libnetvirt.driver import Capabilities, Change
from libnetvirt.drivers.openflow.driver import OpenFlowDriver
from libnetvirt.drivers.openflow.opened import OpenedDriver, Plan
from libnetvirt.errors import NetvirtError, NotLeader, StateUnusable
from libnetvirt.events import EventStream
from libnetvirt.model import (
    ConstraintCounters,
    Counters,
    Event,
    NetworkState,
    Path,
    Recovered,
    RuleLine,
    State,
    Substrate,
    VirtualNetwork,
)
from libnetvirt.model.metrics import Measurement, single
from libnetvirt.store.cluster import Cluster
from libnetvirt.store.lease import BEATS
from libnetvirt.store.ovsdb import OvsdbStore
from libnetvirt.tasks import Tasks
from libnetvirt.uri import URI

T = TypeVar("T")
log = logging.getLogger(__name__)
#: seconds until a standby that could not lead tries again
AGAIN: Final = 1.0
#: seconds that the switches have to become ready before requests are answered
TAKING_OVER: Final = 1.0
#: seconds without any switch after which a leader that had some lets others try, and for how many leases
CUT_OFF: Final = 1.0
REST: Final = 4


class SharedDriver(OpenFlowDriver):
    """An open connection, which leads or stands by."""

    def __init__(self, plan: Plan, cluster: Cluster) -> None:
        self._plan = plan
        self._cluster = cluster
        self._events = EventStream()
        self._tasks = Tasks(self._failed)
        self._moved = asyncio.Event()
        self._decided: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._standby = plan.runtime(OvsdbStore(cluster), self._events)
        self._opened: OpenedDriver | None = None
        self._trouble = ""
        # Whether the leader has reached switches, and since when it does not any more.
        self._reached = False
        self._cut_off_since = math.inf
        loop = asyncio.get_running_loop()

        def changed() -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._moved.set)

        cluster.changed = changed

    @classmethod
    async def open(cls, uri: URI) -> Self:
        """Connect to the cluster, and listen. Returns when this session leads, or has seen another lead."""
        plan = Plan.of(uri)
        cluster = plan.settings.cluster()
        assert cluster is not None
        await asyncio.to_thread(cluster.open)
        self = cls(plan, cluster)
        try:
            await self._standby.listen(plan.listens, plan.identity)
            await asyncio.to_thread(cluster.compete)
            self._tasks.spawn(self._live())
            self._tasks.every(plan.settings.lease / BEATS, self._watch)
            await self._decided
        except BaseException:
            await self.close()
            raise
        return self

    # ---- turns ---------------------------------------------------------------------------------

    async def _live(self) -> None:
        while True:
            await self._until(lambda: self._cluster.lease.term != 0)
            term = self._cluster.lease.term
            if await self._lead():
                await self._until(lambda term=term: self._cluster.lease.term != term)  # type: ignore[misc]
                self._opened = None
                self._events.report(
                    "leader.lost", f"this controller does not lead any more: {self._cluster.reason}"
                )
            else:
                await asyncio.sleep(AGAIN)
            await self._stand_by()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            if self._cluster.lease.followed and not self._decided.done():
                self._decided.set_result(None)
            self._moved.clear()
            if not condition():
                await self._moved.wait()

    async def _lead(self) -> bool:
        """Begin to lead; returns whether that was possible."""
        try:
            await self._standby.lead()
        except NetvirtError as error:
            if not self._decided.done():
                self._decided.set_exception(error)
            self._trouble = str(error)
            self._events.report("store.error", f"this controller cannot lead: {error}")
            await asyncio.to_thread(self._cluster.give_up, str(error), self._cluster.lease.seconds)
            return False
        await self._standby.taken_over(TAKING_OVER)
        self._trouble = ""
        self._reached, self._cut_off_since = False, math.inf
        self._opened = OpenedDriver(self._standby, self._plan.capabilities)
        self._events.report("leader.elected", f"this controller leads (term {self._cluster.lease.term})")
        if not self._decided.done():
            self._decided.set_result(None)
        return True

    async def _stand_by(self) -> None:
        """Close what has led, and listen again."""
        await self._standby.close()
        while True:
            self._standby = self._plan.runtime(OvsdbStore(self._cluster), self._events)
            try:
                await self._standby.listen(self._plan.listens, self._plan.identity)
                return
            except NetvirtError as error:
                self._trouble = str(error)
                self._events.report("store.error", f"this controller cannot stand by: {error}")
                await self._standby.close()
                await asyncio.sleep(AGAIN)

    def _watch(self) -> None:
        """Let others lead if this one reaches no switch any more: once, for they may reach none, too."""
        reached, now = self._standby.reached > 0, self._standby.now()
        self._cluster.lease.reluctant = not reached
        if reached:
            self._cluster.lease.resting_until = 0.0
        if reached or self._opened is None:
            self._reached, self._cut_off_since = reached, math.inf
        elif self._reached:
            self._cut_off_since = min(self._cut_off_since, now)
            if now - self._cut_off_since > CUT_OFF:
                self._reached = False
                rest = REST * self._cluster.lease.seconds
                reason = "no switch answers here, and another one may reach some"
                self._tasks.spawn(asyncio.to_thread(self._cluster.give_up, reason, rest))

    def _failed(self, error: BaseException) -> None:
        log.error("internal error, please report it", exc_info=error)
        if not self._decided.done():
            self._decided.set_exception(error)

    @property
    def _leading(self) -> OpenedDriver:
        """The session that leads. Raises NotLeader."""
        if self._opened is not None and self._cluster.leading:
            return self._opened
        leader = self._cluster.leader
        if self._opened is not None:
            text = (
                "this controller cannot reach a majority of the cluster with the state, so it may not lead "
                "any more: nothing was done. Try again in some seconds, or ask another one"
            )
        elif leader:
            text = f"another controller leads: nothing was done. Ask the one at {leader}"
        else:
            text = (
                "this controller stands by, and it is not known where the one that leads is (option "
                "advertise): nothing was done. Ask another one, or try again in some seconds"
            )
        raise NotLeader(text, leader=leader)

    async def _done(self, work: Coroutine[Any, Any, T]) -> T:
        """Await what the leader does. If it loses the lease meanwhile, raises StateUnusable."""
        try:
            return await work
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise StateUnusable(
                "this controller has lost the lease while it carried this out: check with 'netvirt list' "
                "at the one that leads now whether it took effect"
            ) from None

    # ---- the driver ----------------------------------------------------------------------------

    @property
    def capabilities(self) -> Capabilities:
        return self._plan.capabilities

    async def networks(self) -> Sequence[VirtualNetwork]:
        return await self._leading.networks()

    async def lookup(self, key: str) -> VirtualNetwork | None:
        return await self._leading.lookup(key)

    def validate(self, change: Change) -> None:
        self._leading.validate(change)

    async def check(self, change: Change) -> None:
        await self._leading.check(change)

    async def apply(self, change: Change) -> None:
        await self._done(self._leading.apply(change))

    async def state(self, uuid: str) -> NetworkState:
        return await self._done(self._leading.state(uuid))

    async def states(self) -> Mapping[str, State]:
        return await self._leading.states()

    async def substrate(self) -> Substrate:
        return await self._leading.substrate()

    async def paths(self, uuid: str) -> Sequence[Path]:
        return await self._done(self._leading.paths(uuid))

    async def statistics(self, uuid: str) -> Sequence[Counters]:
        return await self._done(self._leading.statistics(uuid))

    async def constraint_statistics(self, uuid: str) -> Sequence[ConstraintCounters]:
        return await self._done(self._leading.constraint_statistics(uuid))

    async def rules(self, uuid: str | None) -> Sequence[RuleLine]:
        return await self._done(self._leading.rules(uuid))

    async def repair(self, uuid: str | None, *, orphans: bool) -> Sequence[str]:
        return await self._done(self._leading.repair(uuid, orphans=orphans))

    async def reload(self, *, degrade: bool) -> Sequence[str]:
        return await self._done(self._leading.reload(degrade=degrade))

    async def preview_reload(self, *, degrade: bool) -> Sequence[str]:
        return await self._leading.preview_reload(degrade=degrade)

    async def adopt(self, switch: str | None) -> Sequence[str]:
        return await self._done(self._leading.adopt(switch))

    async def forget(self, switch: str | None) -> Sequence[str]:
        return await self._done(self._leading.forget(switch))

    async def recover(self) -> Recovered:
        return await self._done(self._leading.recover())

    async def backup(self) -> bytes:
        return await self._leading.backup()

    async def metrics(self) -> Sequence[Measurement]:
        """Of a standby only that it is one: it knows nothing of networks."""
        found = [] if self._opened is None else await self._opened.metrics()
        return [*found, single("netvirt_leading", int(self._opened is not None and self._cluster.leading))]

    async def readiness(self) -> Sequence[str]:
        if self._trouble:
            return (self._trouble,)
        try:
            return await self._leading.readiness()
        except NotLeader as error:
            return (str(error),)

    def events(self) -> AsyncIterator[Event]:
        return self._events.subscribe()

    async def close(self) -> None:
        await self._tasks.close()
        self._opened = None
        await self._standby.close()
        self._events.close()
        await asyncio.to_thread(self._cluster.close)
