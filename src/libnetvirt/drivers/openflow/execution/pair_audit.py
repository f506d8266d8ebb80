"""PairAuditor: finds flow entries of on-demand pairs that another program removed or changed.

They are not restored: a pair that has lost an entry is removed as a whole, and its next frame sets it up
again. A lost entry behind the first switch drops the frames of its pair as long as the first entry lives,
which may be for ever. So the entries of pairs are audited, too, in rounds over all switches, since those of
one pair are in several of them:

1. the entries of pairs are read from all switches, and compared with the pairs;
2. a pair that lacks an entry may just have been set up, or have expired. So its switches are read again a
   moment later, behind a barrier; a pair that still lacks the same is broken;
3. entries that belong to no pair, for longer than replaced ones linger, are removed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import Flow, Order, PlacedEntry, delete_message
from libnetvirt.controller.dataplane.readback import Difference, Drift
from libnetvirt.controller.engine.controller import LINGER
from libnetvirt.controller.ondemand.flows import PairFlows
from libnetvirt.controller.ondemand.pair_readback import PairReadback, requests
from libnetvirt.drivers.openflow.drift_reporter import DriftReporter
from libnetvirt.drivers.openflow.execution.executor import ExecutionContext, TransactionExecutor
from libnetvirt.drivers.openflow.southbound.session import Session
from libnetvirt.errors import SubstrateError

#: the least number of seconds between two rounds
ROUND_TIME = 3.0
#: seconds for which an entry may belong to no pair: it lingers, or its pair is about to be adopted
STRANGE_TIME = 2 * LINGER
#: seconds until a suspected pair is looked at again
AGAIN = 0.2
#: entries and pairs that are looked at in a second
RATE = 20_000
#: pairs that are looked at before others may use the event loop
SLICE = 1000
#: entries of one switch that are reported one by one
REPORT_LIMIT = 1000
REMOVED = "These pairs of hosts are removed, and set up again by their next frames"
KEPT = "It is only reported (drift=report): 'netvirt repair' removes these pairs, and they are set up again"


class PairAuditor:
    """Audits the flow entries of pairs in all switches."""

    def __init__(
        self, context: ExecutionContext, executor: TransactionExecutor, interval: float, repairs: bool
    ) -> None:
        """``interval`` and ``repairs``: as for the `Auditor`."""
        self._core = context.core
        self._state = context.core.state
        self._ondemand = context.core.state.ondemand
        self._connections = context.connections
        self._lock = executor.lock
        self._tasks = context.tasks
        self._interval = interval
        self._repairs = repairs
        self._reporter = DriftReporter(context.core.state, context.core.publish)
        self._now = context.now
        self._reads: dict[int, PairReadback] = {}
        #: when entries that belong to no pair were seen first, by switch and record
        self._strange_since: dict[tuple[int, bytes], float] = {}
        #: held during a round
        self._round = asyncio.Lock()

    def start(self) -> None:
        """Begin to audit."""
        if self._interval:
            self._tasks.spawn(self._run())

    async def _run(self) -> None:
        while True:
            entries = sum(len(read) for read in self._reads.values())
            await asyncio.sleep(max(ROUND_TIME, self._interval, 2 * entries / RATE))
            await self._audit(self._repairs, None)

    def entries(self, dpid: int) -> int:
        """How many entries of pairs a switch held in the last round."""
        read = self._reads.get(dpid)
        return len(read) if read is not None else 0

    async def repair(self, network: str | None) -> list[str]:
        """Look for broken pairs now, and remove them. Returns what was done, one line each."""
        return await self._audit(True, network)

    async def _audit(self, repairs: bool, network: str | None) -> list[str]:
        """One round. Returns what was repaired."""
        records = {record.uuid: record for record in self._state.rulesdb if record.on_demand}
        if not records:
            self._reads.clear()
        if not records or (network is not None and network not in records):
            return []
        async with self._round:
            self._reads = await self._read(self._connections.by_switch)
            suspects = [pair async for pair in self._lacking(self._ondemand)]
            if suspects:
                await asyncio.sleep(AGAIN)
                self._reads |= await self._read({dpid for pair in suspects for dpid in pair.places()})
            async with self._lock.unhurried():
                broken = [pair for pair in suspects if self._is_broken(pair)]
                found = [*self._lost(broken), *self._strange()]
                return self._settle(broken, found, repairs, network)

    # ---- reading -------------------------------------------------------------------------------

    async def _read(self, switches: Iterable[int]) -> dict[int, PairReadback]:
        """Read the entries of pairs. Switches that do not answer in time are missing in the result."""
        sessions = [
            session
            for session in self._connections.of(list(switches))
            if session.served and not session.ended and session not in self._connections.unresponsive
        ]
        reads = await asyncio.gather(*(self._read_one(session) for session in sessions))
        return {s.dpid: read for s, read in zip(sessions, reads, strict=True) if read is not None}

    async def _read_one(self, session: Session) -> PairReadback | None:
        last = self._reads.get(session.dpid)
        read = PairReadback(session.dpid, self._state.rulesdb, self._ondemand, last)
        session.send(of.BarrierRequest())
        try:
            async with asyncio.timeout(self._connections.confirm_timeout):
                for request in requests(self.entries(session.dpid)):
                    await session.read(request, read.add)
        except (SubstrateError, TimeoutError):
            return None
        read.close()
        return read

    async def _lacking(self, pairs: Iterable[PairFlows]) -> AsyncIterator[PairFlows]:
        """Those pairs that lack an entry in a switch that was read."""
        for number, pair in enumerate(pairs, 1):
            if self._lacks(pair):
                yield pair
            if not number % SLICE:
                await asyncio.sleep(SLICE / RATE)

    def _lacks(self, pair: PairFlows) -> bool:
        if pair.pending is not None:
            return False
        reads = self._reads
        return any(dpid in reads and reads[dpid].lacks(pair) for dpid in pair.places())

    def _is_broken(self, pair: PairFlows) -> bool:
        return self._ondemand.holds(pair) and self._lacks(pair)

    # ---- what is done --------------------------------------------------------------------------

    def _lost(self, broken: Iterable[PairFlows]) -> Iterator[Drift]:
        """The entries of broken pairs that are missing or differ."""
        for pair in broken:
            for dpid in pair.places():
                read = self._reads.get(dpid)
                if read is None or not read.lacks(pair):
                    continue
                for flow in pair.on(dpid):
                    held = next((f for f in read.strange.values() if f.key == flow.key), None)
                    difference = Difference(PlacedEntry(dpid, Order.ADMIT, flow), held)
                    yield Drift(dpid, difference, frozenset((pair.origin[0],)))

    def _strange(self) -> Iterator[Drift]:
        """The entries that have belonged to no pair for long enough."""
        now, by_index = self._now(), self._state.rulesdb.by_index
        before, self._strange_since = self._strange_since, {}
        for dpid, read in self._reads.items():
            for record, flow in read.strange.items():
                since = self._strange_since[dpid, record] = before.get((dpid, record), now)
                index = pipeline.cookie_network(flow.cookie)
                if now - since >= STRANGE_TIME and not self._core.restart.adopts(index):
                    uuids = {by_index[index].uuid} if index in by_index else set[str]()
                    yield Drift(dpid, Difference(None, flow), frozenset(uuids))

    def _settle(
        self, broken: Iterable[PairFlows], found: Iterable[Drift], repairs: bool, network: str | None
    ) -> list[str]:
        """Report what was found; if ``repairs``, remove it, of one network or of all. Returns what was
        removed."""
        chosen: dict[int, list[Drift]] = {}
        left: dict[int, list[Drift]] = {}
        known = {(d.dpid, d.difference.key) for drifts in self._state.pair_drift.values() for d in drifts}
        new: dict[int, list[Drift]] = {}
        for drift in found:
            undone = repairs and (network is None or network in drift.networks)
            (chosen if undone else left).setdefault(drift.dpid, []).append(drift)
            if (drift.dpid, drift.difference.key) not in known:
                new.setdefault(drift.dpid, []).append(drift)
        for dpid, drifts in new.items():
            self._reporter.found(dpid, drifts, REMOVED if repairs else KEPT)
        for pair in broken:
            if repairs and (network is None or pair.origin[0] == network):
                self._ondemand.remove(pair)
        lines: list[str] = []
        for dpid, drifts in chosen.items():
            for flow in [d.difference.held for d in drifts if d.difference.expected is None]:
                assert isinstance(flow, Flow)
                self._core.wire.send(dpid, delete_message(flow))
            lines += self._reporter.lines(drifts, network)
        before = self._state.pair_drift
        self._state.pair_drift = {dpid: tuple(drifts[:REPORT_LIMIT]) for dpid, drifts in left.items()}
        for dpid in chosen.keys() | (before.keys() - left.keys()):
            self._reporter.undone(dpid, chosen.get(dpid) or before[dpid])
        return lines
