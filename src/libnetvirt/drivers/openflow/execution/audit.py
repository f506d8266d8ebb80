"""Auditor: reads what switches hold, again and again, and undoes or reports what other programs changed.

A rule, a group or a meter may vanish or change while the connection stays, and no message tells: over
OpenFlow 1.3 a switch reports the removal of rules that ask for it, and no modification. So each switch is
read every ``audit`` seconds:

1. without the lock: all its flow entries, groups and meters are compared as bytes (`Readback`). In most cases
   nothing differs, and that is all;
2. with the lock, when no operation is in progress: it is read once more. What still differs is drift;
3. it is reported, and undone in the same way as when the switch connects, or with ``drift=report`` only
   reported. Then the switch is read again, and only if it holds what it should the network is active.

The pace is bounded: `RATE` entries a second over all switches. A switch that does not answer is not asked
again, unless others waited for the lock meanwhile; that its connection is dead is noticed elsewhere. Two
programs must not undo each other's work without end: a switch is repaired `BURST` times in a row, then once
in `REPAIR_TIME` seconds.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane.readback import Difference, Drift, Readback, newly_refused
from libnetvirt.controller.engine.drift import Expected
from libnetvirt.controller.intent.switches import switch_text
from libnetvirt.drivers.openflow.drift_reporter import DriftReporter
from libnetvirt.drivers.openflow.execution.executor import ExecutionContext, TransactionExecutor
from libnetvirt.drivers.openflow.execution.fair_lock import FOLLOW_UP_SHARE, Unresponsive
from libnetvirt.drivers.openflow.execution.pair_audit import PairAuditor
from libnetvirt.drivers.openflow.host_reporter import HostReporter
from libnetvirt.drivers.openflow.southbound.session import Session
from libnetvirt.errors import RuleRefused, SubstrateError, SwitchTimeout

#: entries that are read in a second, over all switches: 2 to 3 % of a processor
RATE = 20_000
#: what reading a switch without entries costs, as a number of entries
SWITCH_COST = 100
#: switches that are read at the same time
CONCURRENT = 8
#: entries of on-demand pairs up to which they are read together with the others
FEW_PAIRS = 2000
#: requests for all flow entries, and for those whose cookie does not end like that of pairs (`Kind.PATH`, 8):
#: together the bits of the last four select all others
WHOLE = (of.FlowStatsRequest(),)
WITHOUT_PAIRS = tuple(
    of.FlowStatsRequest(cookie=cookie, cookie_mask=mask)
    for cookie, mask in ((0b0000, 0b1000), (0b1010, 0b1010), (0b1001, 0b1011), (0b1100, 0b1111))
)
#: repairs of one switch in a row, and the seconds after which one more is allowed
BURST = 6
REPAIR_TIME = 10.0


@dataclass(slots=True)
class _Watch:
    """One connection of a switch, as the auditor sees it."""

    session: Session
    #: since when it is watched, and when it is read next
    began: float
    due: float
    #: held while it is read
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    read: Readback | None = None
    #: whether it was reported that the switch does not tell what it holds
    unreadable: bool = False


@dataclass(slots=True)
class Repairs:
    """How often a switch may be repaired."""

    _left: float = BURST
    _counted_at: float = 0.0
    #: whether it was reported that the next repair has to wait
    told: bool = False

    def wait(self, now: float) -> float:
        """Seconds until it may be repaired; 0 if it may be now."""
        self._left = min(BURST, self._left + (now - self._counted_at) / REPAIR_TIME)
        self._counted_at = now
        return max(0.0, 1.0 - self._left) * REPAIR_TIME

    def begin(self, now: float) -> None:
        """It is repaired now."""
        self.wait(now)
        self._left = max(0.0, self._left - 1.0)
        self.told = False


class Auditor:
    """Audits all switches that are ready."""

    def __init__(
        self, context: ExecutionContext, executor: TransactionExecutor, interval: float, repairs: bool
    ) -> None:
        """``interval``: seconds between two reads of a switch, 0: none. ``repairs``: whether drift that an
        audit finds is undone."""
        core = context.core
        self._drift = core.drift
        self._state = core.state
        self._connections = context.connections
        self._executor = executor
        self._tasks = context.tasks
        self._now = context.now
        self._interval = interval
        self._repairs = repairs
        self._reporter = DriftReporter(core.state, core.publish)
        self._hosts = HostReporter(core.state, core.publish)
        self._pairs = PairAuditor(context, executor, interval, repairs)
        self._watches: dict[int, _Watch] = {}
        #: those that are not being read, in the order in which they are due
        self._queue: deque[_Watch] = deque()
        self._history: dict[int, Repairs] = {}
        self._reading = 0
        #: until when entries that were read are paid for
        self._paid_until = 0.0

    def start(self) -> None:
        """Begin to audit."""
        if self._interval:
            self._tasks.every(min(self._interval / 4, 0.5), self._tick)
        self._pairs.start()

    def reconciled(self, dpid: int) -> None:
        """A switch has connected and was given its expected entries."""
        self._reporter.undone(dpid, self._drift.clear(dpid))

    # ---- when ----------------------------------------------------------------------------------

    def _tick(self) -> None:
        """Begin to watch switches that have connected, and read those that are due."""
        switches = self._connections.by_switch
        for dpid in self._watches.keys() - switches.keys():
            del self._watches[dpid]
        for dpid in self._history.keys() - self._state.switches.keys():
            del self._history[dpid]
        for session in switches.values():
            self._watch(session)
        self._begin_due()

    def _begin_due(self) -> None:
        """Begin to read the switches that are due, as many as the pace allows."""
        now = self._now()
        while self._queue and self._queue[0].due <= now and self._reading < CONCURRENT:
            if self._paid_until > now or self._executor.closed:
                return
            watch = self._queue.popleft()
            if self._watches.get(watch.session.dpid) is not watch:
                continue
            if self._usable(watch.session) and not watch.lock.locked():
                self._reading += 1
                self._tasks.spawn(self._audit(watch))
            else:
                watch.due = now + self._interval
                self._queue.append(watch)

    def _watch(self, session: Session) -> _Watch:
        watch = self._watches.get(session.dpid)
        if watch is None or watch.session is not session:
            now = self._now()
            # It was compared with its expected entries when it connected.
            watch = self._watches[session.dpid] = _Watch(session, now, now + self._interval)
            self._queue.append(watch)
        return watch

    def _usable(self, session: Session) -> bool:
        """Whether a switch can be expected to hold what it should."""
        return session.served and not session.ended and session not in self._connections.unresponsive

    async def _audit(self, watch: _Watch) -> None:
        began = self._now()
        try:
            async with watch.lock:
                await self._examine(watch)
        except RuleRefused as error:
            if not watch.unreadable:
                watch.unreadable = True
                self._reporter.unreadable(watch.session.dpid, error)
        except SubstrateError:
            pass  # The connection is lost.
        finally:
            self._reading -= 1
            cost = (SWITCH_COST + (len(watch.read) if watch.read else 0)) / RATE
            now = self._now()
            self._paid_until = max(self._paid_until, now) + cost
            watch.due = max(began + self._interval, self._paid_until)
            self._queue.append(watch)
            asyncio.get_running_loop().call_later(self._paid_until - now, self._begin_due)

    # ---- what ----------------------------------------------------------------------------------

    async def _examine(self, watch: _Watch) -> None:
        """Read a switch, and look closer if anything differs."""
        dpid = watch.session.dpid
        await self._read(watch)
        found = self._differences(watch)
        if not found and not self._state.drift.get(dpid):
            self._drift.clear(dpid)
        elif not self._drift.is_known(dpid, found) or self._repairs_or_tells(dpid):
            await self._settle(watch, forced=False, network=None)

    async def _read(self, watch: _Watch) -> None:
        """Read a switch completely. Raises RuleRefused, SwitchTimeout."""
        session, read = watch.session, Readback(watch.read, self._now() - watch.began)
        for request in WHOLE if self._pairs.entries(session.dpid) <= FEW_PAIRS else WITHOUT_PAIRS:
            await session.read(request, read.add_flows)
        await session.read(of.GroupDescRequest(), read.add_groups)
        view = self._state.switches.get(session.dpid)
        if view is not None and view.meters:
            await session.read(of.MeterConfigRequest(), read.add_meters)
        read.close()
        self._hosts.refused(session.dpid, newly_refused(read, watch.read), self._now())
        watch.read = read
        if view is not None:
            view.foreign = len(read.foreign)

    def _differences(self, watch: _Watch, asked: Expected | None = None) -> list[Difference]:
        assert watch.read is not None
        return self._drift.differences(watch.session.dpid, watch.read, asked)

    async def _read_again(self, watch: _Watch) -> list[Difference]:
        """Read a switch while holding the lock. Returns how it differs. Raises RuleRefused; SwitchTimeout,
        also if it does not answer while others wait for the lock."""
        asked = self._drift.expected(watch.session.dpid)
        # What was sent before has to be carried out before the switch is read.
        watch.session.send(of.BarrierRequest())
        reading = self._tasks.spawn(self._read(watch))
        if await self._executor.lock.wait([reading], self._connections.confirm_timeout * FOLLOW_UP_SHARE):
            reading.cancel()
            raise _busy(watch.session)
        reading.result()
        return self._differences(watch, asked)

    async def _settle(self, watch: _Watch, *, forced: bool, network: str | None) -> list[str]:
        """Find out what has drifted on a switch, report it, and undo it if that is wanted. Returns what was
        undone.

        ``forced``: it is wanted now. ``network``: of this network only, None: all. Raises RuleRefused,
        SwitchTimeout.
        """
        dpid = watch.session.dpid
        async with self._executor.lock.unhurried():
            if not self._usable(watch.session):
                return []
            found = await self._read_again(watch)
            certain = found if forced else self._drift.certain(dpid, found)
            if not certain:
                if not found:
                    self._reporter.undone(dpid, self._drift.clear(dpid))
                return []
            drifts, new = self._drift.record(dpid, certain)
            wait = self._wait(dpid) if self._repairs and not forced else 0.0
            undo = forced or (self._repairs and not wait)
            history = self._history.setdefault(dpid, Repairs())
            self._reporter.found(
                dpid, drifts if wait and not history.told else new, self._outlook(undo, wait)
            )
            history.told = wait > 0
            if not undo:
                return []
            chosen = [d for d in drifts if network is None or network in d.networks]
            history.begin(self._now())
            try:
                await self._executor.correct(self._drift.correction(dpid, chosen))
            except RuleRefused as error:
                if forced:
                    raise
                self._reporter.refused(dpid, error, max(self._wait(dpid), self._interval))
                return []
            except Unresponsive:
                # It is compared with its expected entries when it answers.
                raise _busy(watch.session) from None
            await self._verify(watch, drifts)
            left = self._state.drift.get(dpid, ())
            return self._reporter.lines([d for d in chosen if d not in left], network)

    async def _verify(self, watch: _Watch, drifts: Iterable[Drift]) -> None:
        """Read a switch again after its drift was undone, and report the networks that are whole again."""
        dpid = watch.session.dpid
        left: list[Drift] = []
        if differences := self._drift.certain(dpid, await self._read_again(watch)):
            left, new = self._drift.record(dpid, differences)
            self._reporter.found(dpid, [d for d in new if d not in drifts], self._outlook(False, 0.0))
        else:
            self._drift.clear(dpid)
        concerned = frozenset[str]().union(*(d.networks for d in left))
        self._reporter.undone(dpid, [d for d in drifts if d not in left and not d.networks & concerned])

    def _wait(self, dpid: int) -> float:
        """Seconds until the drift of a switch may be undone."""
        history = self._history.get(dpid)
        return history.wait(self._now()) if history else 0.0

    def _repairs_or_tells(self, dpid: int) -> bool:
        """Whether something is to be done about drift that is known: to undo it, or to tell that this has to
        wait."""
        history = self._history.get(dpid)
        return self._repairs and (history is None or not history.told or not history.wait(self._now()))

    def _outlook(self, undo: bool, wait: float) -> str:
        """What happens next about drift, for people. ``wait``: seconds until it may be undone."""
        if undo:
            return "It is repaired now"
        if wait:
            return (
                f"The switch was repaired {BURST} times in a row, another program may be at work: it is "
                f"repaired again in {wait:.0f} s"
            )
        if self._repairs:
            return f"It is repaired in {self._interval:g} s"
        return "It is only reported (drift=report): 'netvirt repair' restores the rules"

    # ---- on demand -----------------------------------------------------------------------------

    async def repair(self, switches: Iterable[int], network: str | None) -> list[str]:
        """Read these switches now, as far as they are connected, and undo the drift of one network or of all.

        Returns what was undone, one line each. Raises RuleRefused, SwitchTimeout when all others were done.
        """
        usable = [s for s in self._connections.of(switches) if self._usable(s)]
        done = await asyncio.gather(*(self._repair(s, network) for s in usable), return_exceptions=True)
        lines = []
        for one in done:
            if isinstance(one, BaseException):
                raise one
            lines += one
        return lines + await self._pairs.repair(network)

    async def _repair(self, session: Session, network: str | None) -> list[str]:
        watch = self._watch(session)
        try:
            async with asyncio.timeout(self._connections.confirm_timeout):
                await watch.lock.acquire()
        except TimeoutError:
            raise _busy(session) from None
        try:
            async with asyncio.timeout(self._connections.confirm_timeout):
                await self._read(watch)
            if not self._differences(watch) and not self._state.drift.get(session.dpid):
                return []
            return await self._settle(watch, forced=True, network=network)
        except TimeoutError:
            raise _busy(session) from None
        finally:
            watch.lock.release()


def _busy(session: Session) -> SwitchTimeout:
    return SwitchTimeout(
        f"switch {switch_text(session.dpid)} did not tell in time what it holds: try again later"
    )
