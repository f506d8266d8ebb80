"""The asyncio shell around the controller: sockets, timers, the store, and one piece of work at a time."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from libnetvirt import openflow as of
from libnetvirt.controller import layout
from libnetvirt.controller.capacities import Capacities
from libnetvirt.controller.core import Controller, Options, Work, port_view
from libnetvirt.controller.intake import Intake
from libnetvirt.controller.rulesdb import SwitchView, switch_text
from libnetvirt.controller.state import LINGER
from libnetvirt.driver import Change
from libnetvirt.drivers.openflow.listen import Listen
from libnetvirt.drivers.openflow.notices import Notices
from libnetvirt.drivers.openflow.patience import (
    SHARE,
    UPKEEP_SHARE,
    Confirmation,
    Exclusive,
    Late,
    Unanswered,
)  # fmt: skip
from libnetvirt.drivers.openflow.quarantine import Quarantine
from libnetvirt.drivers.openflow.queueing import NO_SOURCES, Queueing, Sources
from libnetvirt.drivers.openflow.refusals import Refusals
from libnetvirt.drivers.openflow.session import Session, error_text
from libnetvirt.drivers.openflow.tls import Credentials, Identity, SecureServer
from libnetvirt.errors import (
    ConnectionClosed,
    NetvirtError,
    RuleRefused,
    StaleChange,
    StateUnusable,
    SubstrateError,
)
from libnetvirt.events import EventStream
from libnetvirt.model import Event
from libnetvirt.store import Batch, Store

#: messages kept of a switch that is being taken up
EARLY_LIMIT = 1000
POLL_INTERVAL = 1.0
#: what switches report by themselves: everything, and unlike by default also packets whose TTL is used up
REPORTS = of.SetAsync(packet_in=(0b111, 0), port_status=(0b111, 0b111), flow_removed=(0b1111, 0))
log = logging.getLogger(__name__)
T = TypeVar("T")


class Shell:
    """Runs a controller. Everything happens in one event loop."""

    def __init__(
        self,
        options: Options,
        store: Store,
        secret: bytes,
        confirm_timeout: float,
        databases: Sources = NO_SOURCES,
    ) -> None:
        self.events = EventStream()
        self.core = Controller(options, secret, self, self.publish)
        self.intake = Intake(self.core)
        self.notices = Notices(self.core)
        self.packet = self.intake.packet_in
        self.refusals = Refusals()
        self.quarantine = Quarantine()
        self._store = store
        # One thread, so that commits follow one another, also when the caller of one is cancelled.
        self._writer = ThreadPoolExecutor(1, "libnetvirt-store")
        self._confirm_timeout = confirm_timeout
        self._servers: list[asyncio.Server | SecureServer] = []
        self._all: set[Session] = set()
        self._sessions: dict[int, Session] = {}
        self._lock = Exclusive()
        self._late = Late()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._settling = False
        self._serving = False
        self._lingering: list[Work] = []
        self._closed = False
        self.queueing = Queueing(
            self.core, databases, confirm_timeout, self._lingering, self.publish, self._queues_changed
        )

    # ---- life ----------------------------------------------------------------------------------

    async def start(self, listens: list[Listen], identity: Identity | None = None) -> None:
        """Load the state and wait for switches, with ``identity`` where they have to speak TLS.

        Raises AddressInUse, ConnectionFailed, InvalidURI, StateUnusable.
        """
        report = functools.partial(self.publish, "controller.identity")
        secured = Credentials(identity, report).context if identity else None
        snapshot = self._store.load()
        self.core.load(snapshot.networks, snapshot.facts, self.now())
        self.notices.states(self.now(), report=False)
        await self.queueing.open()
        for listen in listens:
            self._servers.append(await listen.open(self._session, secured, self.refused))
        self._spawn(self._timer(self.core.options.lldp_interval, self._tick))
        self._spawn(self._timer(POLL_INTERVAL, self._poll))

    async def close(self) -> None:
        """Stop listening and let all switches go; they go on forwarding."""
        self._closed = True
        for server in self._servers:
            server.close()
        for session in list(self._all):
            session.abort("the controller is closing")
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.queueing.close()
        self.events.close()
        await asyncio.to_thread(self._writer.shutdown)
        self._store.close()

    @property
    def ports(self) -> list[int]:
        """The TCP ports that are listened on."""
        return [s.getsockname()[1] for server in self._servers for s in server.sockets if s.family != 1]

    def _session(self) -> Session:
        return Session(self, self._confirm_timeout)

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        # An operation's own errors go to its caller.
        if error is not None and not isinstance(error, NetvirtError):
            self._report_internal(error)

    def _report_internal(self, error: BaseException) -> None:
        log.error("internal error in the controller", exc_info=error)
        self.publish("controller.error", f"internal error, please report it: {error!r}")

    async def _timer(self, interval: float, action: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(interval)
            try:
                action()
            except Exception as error:  # the next turn may go better, and without turns switches are lost
                self._report_internal(error)

    def _tick(self) -> None:
        now = self.now()
        self.core.tick(now)
        self.intake.tick(now)
        self.queueing.tick()
        self._settle()
        if not all(switch.connected for switch in self.core.switches.values()):
            self.notices.states(self.now())

    def _poll(self) -> None:
        now = self.now()
        for session in list(self._all):
            session.poll(now)
        self.intake.poll(now)

    def now(self) -> float:
        return time.monotonic()

    def publish(self, kind: str, message: str, **fields: str) -> None:
        """Report an event. Fields that an event has no place for go into ``fields``."""
        known = {k: fields.pop(k) for k in ("network", "endpoint", "switch", "port") if k in fields}
        self.events.publish(Event(time=time.time(), kind=kind, message=message, fields=fields, **known))

    # ---- the controller's wire -----------------------------------------------------------------

    def send(self, dpid: int, message: of.Message) -> None:
        session = self._sessions.get(dpid)
        if session is not None:
            session.send(message)

    def post(self, dpid: int, *parts: bytes) -> None:
        session = self._sessions.get(dpid)
        if session is not None:
            session.post(parts)

    def track(self, dpid: int, done: Callable[[bool], None], header: bytes, *parts: bytes) -> None:
        session = self._sessions.get(dpid)
        if session is None:
            asyncio.get_running_loop().call_soon(done, False)
        else:
            session.track(done, header, parts)

    def confirm(self, dpid: int, done: Callable[[bool], None]) -> None:
        session = self._sessions.get(dpid)
        if session is None:
            asyncio.get_running_loop().call_soon(done, False)
        else:
            session.mark(done)

    def linger(self, action: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(LINGER, action)

    # ---- sessions ------------------------------------------------------------------------------

    def opened(self, session: Session) -> None:
        self._all.add(session)

    def handshake(self, session: Session, features: of.FeaturesReply) -> None:
        if features.auxiliary_id:
            session.abort("auxiliary connections are not used")
        elif features.n_tables < layout.SWITCHING_TABLES:
            reason = f"it has {features.n_tables} tables, {layout.SWITCHING_TABLES} are needed"
            self.refused(session.address, reason)
            session.abort(reason)
        else:
            self._spawn(self._take_up(session))

    def message(self, session: Session, message: object) -> None:
        if not session.ready:
            if len(session.early) < EARLY_LIMIT:
                session.early.append(message)
            return
        if isinstance(message, of.PacketIn):
            self.packet(session.dpid, message, self.now())
        elif isinstance(message, of.EchoReply):
            self.core.latency.echoed(session.dpid, message.body, self.now())
        elif isinstance(message, of.FlowRemoved):
            self.intake.flow_removed(session.dpid, message)
        elif isinstance(message, of.PortStatus):
            self.core.port_status(session.dpid, message, self.now())
            while self.core.ports_down:
                self.intake.port_down(*self.core.ports_down.pop())
            self.notices.states(self.now())
        elif isinstance(message, (of.Error, of.ExperimenterError)):
            self.notices.error(self.now(), session.dpid, error_text(message))
        self._settle()

    def turned(self) -> None:
        self._next_turn()
        self._settle()

    def _next_turn(self) -> None:
        """Serve some of what waits for its turn, and the rest after what has come in meanwhile."""
        if self.intake.next_turn(self.now()) and not self._serving:
            self._serving = True
            asyncio.get_running_loop().call_soon(self._served)

    def _served(self) -> None:
        self._serving = False
        self._next_turn()

    def refused(self, address: str, reason: str) -> None:
        """Report a switch that cannot be used."""
        if self.refusals.note(address, reason, self.now()):
            self.publish("switch.refused", f"the switch at {address} is refused: {reason}")

    def closed(self, session: Session) -> None:
        self._all.discard(session)
        if self._sessions.get(session.dpid) is session:
            del self._sessions[session.dpid]
            self.core.switch_down(session.dpid, self.now())
            if not self._closed:
                self.notices.states(self.now())
        if session.failed and not self._closed:
            self._leave_alone(session)

    def _leave_alone(self, session: Session) -> None:
        """The switch has failed: it is taken up again after a while only."""
        seconds = self.quarantine.fail(session.dpid, session.reason, self.now())
        self.publish(
            "switch.quarantined",
            f"{session.reason}: switch {switch_text(session.dpid)} is left alone for {seconds:g} s, and then "
            "mended",
            switch=switch_text(session.dpid),
        )

    async def _take_up(self, session: Session) -> None:
        """Learn what a switch is and holds, and mend what differs from what it should hold."""
        try:
            await asyncio.sleep(self.quarantine.left(session.dpid, self.now()))
            if session.closed:
                return
            session.send(of.SetConfig(0, of.CONTROLLER_NO_BUFFER))
            session.send(REPORTS)
            await session.probe_bundles()
            desc = await session.request(of.DescRequest(), of.DescReply)
            ports = await session.request(of.PortDescRequest(), of.PortDescReply)
            view = SwitchView(session.dpid, connected=True, known=True, address=session.address)
            view.ports = {p.number: p for d in ports.ports if (p := port_view(d)) is not None}
            view.description = " ".join(t for t in (desc.mfr_desc, desc.hw_desc, desc.sw_desc) if t)
            view.bundles, view.tables = session.bundles, session.tables
            with contextlib.suppress(RuleRefused):
                meters = await session.request(of.MeterFeaturesRequest(), of.MeterFeaturesReply)
                view.meter_limit = meters.max_meter
                view.meters = meters.max_meter > 0 and bool(meters.band_types & 1 << of.BandType.DROP)
            # Not while others wait: it may be one that does not answer.
            await session.try_out()
            async with self._lock:
                if session.closed:
                    return
                old = self._sessions.get(session.dpid)
                if old is not None and old is not session:
                    old.abort("the switch connected anew")
                    self.core.switch_down(session.dpid, self.now())
                self._sessions[session.dpid] = session
                self.refusals.forget(session.address)
                self.core.switch_up(view)
                await self._mend(session)
                total = await session.request(of.AggregateStatsRequest(), of.AggregateStatsReply)
                ours = await session.request(
                    of.AggregateStatsRequest(cookie=layout.COOKIE_MARK, cookie_mask=layout.COOKIE_MARK_MASK),
                    of.AggregateStatsReply,
                )
                view.foreign = total.flow_count - ours.flow_count
                session.ready = True
                self.core.send_lldp(session.dpid, view.ports, self.now())
            early, session.early = session.early, []
            for message in early:
                self.message(session, message)
        except SubstrateError as error:
            session.fail(str(error))
            return
        self._settle()
        self.notices.states(self.now())

    async def _mend(self, session: Session) -> None:
        dump = await session.dump()
        work = self.core.mend(session.dpid, dump)
        count = sum(len(one.get(session.dpid, ())) for one in work.plan.rounds)
        if count:
            name = switch_text(session.dpid)
            what = f"{count} changes make switch {name} hold what it should"
            self.publish("switch.mended", what, switch=name)
        await self.queueing.mend()
        await self._execute(work, tolerant=True)

    # ---- work ----------------------------------------------------------------------------------

    async def apply(self, change: Change, validate: Callable[[Change], None]) -> None:
        """Carry out an operation, wholly or not at all. If the caller is cancelled, it still ends whole."""
        if self._closed:
            raise ConnectionClosed("the connection is closed: open a new one")
        await asyncio.shield(self._spawn(self._apply(change, validate)))

    async def _apply(self, change: Change, validate: Callable[[Change], None]) -> None:
        patience = self._confirm_timeout * SHARE
        while True:
            try:
                async with self._lock:
                    await self._carry_out(change, validate, patience)
                break
            except Unanswered as unanswered:
                await self._late.answered(unanswered)
                # It may be that there is much to do: it is not put off for ever.
                patience *= 2
        self._settle()

    async def _carry_out(self, change: Change, validate: Callable[[Change], None], patience: float) -> None:
        """Do an operation, or nothing. Raises Unanswered if others are to go on meanwhile."""
        entry = self.core.rulesdb.networks.get(change.uuid)
        known = entry.description if entry else None
        if known is not change.before and known != change.before:
            raise StaleChange(f"network {change.uuid} was changed by somebody else meanwhile: read it again")
        validate(change)
        work = self.core.begin(change.before, change.after, change.touched)
        try:
            if late := [s for s in self._addressed(work.plan.switches) if s in self._late]:
                raise Unanswered(late)
            await self.queueing.prepare(work, self._sessions)
            await self._execute(work, patience=patience)
            await self._commit(change)
        except BaseException:
            await self._undo(change, work)
            raise
        for lingering in self._lingering:
            await self._execute(Work(self.core.unneeded(lingering), frozenset()), tolerant=True)
        if work.later.remove:
            self._linger_over(work)
        else:
            work.done()
            await self.queueing.mend()
        await self._store_facts()
        after = change.after or change.before
        assert after is not None
        kind = "created" if change.before is None else "removed" if change.after is None else "changed"
        self.publish(f"network.{kind}", f"network {after.name} was {kind}", network=after.uuid)
        self.notices.change(change, self.now())

    async def _commit(self, change: Change) -> None:
        batch = Batch(facts=self._take_facts())
        if change.after is None:
            batch.drop.append(change.uuid)
        elif change.before is None:
            batch.put.append(change.after)
        else:
            batch.alter.append((change.before, change.after))
        try:
            await self._write(batch)
        except BaseException:
            self.core.labels.changes = batch.facts | self.core.labels.changes
            raise

    async def _write(self, batch: Batch) -> None:
        await asyncio.get_running_loop().run_in_executor(self._writer, self._store.commit, batch)

    async def _store_facts(self) -> None:
        """Store what is not part of an operation. A failure is reported, and made good with the next."""
        facts = self._take_facts()
        if not facts:
            return
        try:
            await self._write(Batch(facts=facts))
        except StateUnusable as error:
            self.core.labels.changes = facts | self.core.labels.changes
            self.publish("store.error", str(error))

    def _take_facts(self) -> dict[tuple[str, str], str | None]:
        facts = self.core.labels.changes
        self.core.labels.changes = {}
        return facts | self.core.link_facts()

    async def _undo(self, change: Change, work: Work) -> None:
        """Take a change back in the controller's mind, then make the switches agree."""
        self.core.undo(work, change.before, change.after)
        for session in self._addressed(work.plan.switches):
            # One that is away is compared when it connects again, one that is late when it answers.
            if session not in self._late:
                await self._compare(session)
        await self.queueing.mend()

    def _queues_changed(self) -> None:
        """Rows were changed, or a database came or went: what can be promised may be another thing."""
        self.core.topology_changed = True
        self._settle()

    def _addressed(self, switches: Iterable[int]) -> list[Session]:
        """The connections of those switches that have one."""
        return [session for dpid in switches if (session := self._sessions.get(dpid)) is not None]

    async def _execute(self, work: Work, tolerant: bool = False, patience: float | None = None) -> None:
        """Send a plan's rounds. ``tolerant``: a switch that fails is let go, to be mended when it connects
        again, and the others go on; else the first failure is raised when all of its round have answered.

        While others wait for their turn, a switch has ``patience`` seconds to answer. Then, if ``tolerant``,
        the rest goes on without it; else Unanswered is raised.
        """
        self.intake.busy = work.networks
        try:
            for one in work.plan.rounds:
                asked = {
                    self._spawn(session.confirm(one[session.dpid])): session
                    for session in self._addressed(one)
                }
                await self._confirmed(asked, tolerant, patience or self._confirm_timeout * UPKEEP_SHARE)
        finally:
            self.intake.resume(self.now())
            self._next_turn()

    async def _confirmed(self, asked: dict[Confirmation, Session], tolerant: bool, patience: float) -> None:
        """Wait until switches have confirmed a round."""
        pending = await self._lock.share([t for t, s in asked.items() if s not in self._late], patience)
        unanswered = {t: s for t, s in asked.items() if t in pending or s in self._late}
        for task, session in unanswered.items():
            self._late.add(
                session, self._spawn(self._recover(session, task, self._late.recovery(session), tolerant))
            )
        for task, session in asked.items():
            error = None if task in unanswered else task.exception()
            if error is None:
                continue
            if not tolerant or not isinstance(error, SubstrateError):
                raise error
            self._let_go(session, error)
        if unanswered and not tolerant:
            raise Unanswered(list(unanswered.values()), list(unanswered))

    def _let_go(self, session: Session, error: SubstrateError) -> None:
        self.notices.error(self.now(), session.dpid, str(error))
        session.fail(str(error))

    async def _recover(
        self, session: Session, task: Confirmation, earlier: asyncio.Task[Any] | None, tolerant: bool
    ) -> None:
        """A switch is late: when it has answered, compare it with what it should hold by then."""
        await asyncio.wait([task] if earlier is None else [task, earlier])
        error = None if task.cancelled() else task.exception()
        if tolerant and isinstance(error, SubstrateError):
            self._let_go(session, error)
        async with self._lock:
            if not (session.closed or session.failed):
                await self._compare(session)

    def _settle(self) -> None:
        """Start the work that events have called for, unless it is on its way."""
        if self._called_for() and not self._settling and not self._closed:
            self._settling = True
            self._spawn(self._follow_substrate())

    async def _follow_substrate(self) -> None:
        try:
            while self._called_for():
                async with self._lock:
                    before = self.core.paths.edges
                    while self.core.rebind:
                        await self._execute(self.core.rebound(self.core.rebind.pop()), tolerant=True)
                    while self.core.compare:
                        for session in self._addressed([self.core.compare.pop()]):
                            if session not in self._late:
                                await self._compare(session)
                    work = self.core.reroute()
                    if work is None:
                        await self.queueing.mend()
                        continue
                    await self._move(work)
                self.notices.links(before)
        finally:
            self._settling = False
        self.notices.states(self.now())

    async def _move(self, work: Work) -> None:
        """Carry out what a change of the substrate calls for."""
        await self._store_facts()
        await self.queueing.mend(work.queues)
        await self._execute(work, tolerant=True)
        if work.later.remove:
            self._linger_over(work)
        else:
            work.done()
            await self.queueing.mend()

    async def reweigh(self, said: Capacities, degrade: bool) -> list[str]:
        """Take other capacities of links; what became of constraints. If the caller is cancelled, it still
        ends whole. Raises ConstraintUnmet, with nothing changed."""

        async def work() -> list[str]:
            async with self._lock:
                moving, lines = self.core.reweigh(said, degrade)
                await self._move(moving)
            self._settle()
            return lines

        return await asyncio.shield(self._spawn(work()))

    def _called_for(self) -> bool:
        core = self.core
        return bool(core.topology_changed or core.rebind or core.compare or self.queueing.stale)

    async def _compare(self, session: Session) -> None:
        """Make a switch hold what it should."""
        try:
            await self._mend(session)
        except SubstrateError as error:
            session.fail(str(error))

    def _linger_over(self, work: Work) -> None:
        self._lingering.append(work)
        self._spawn(self._finish_later(work))

    async def _finish_later(self, work: Work) -> None:
        await asyncio.sleep(LINGER)
        async with self._lock:
            self._lingering.remove(work)
            await self._execute(Work(self.core.linger_over(work), frozenset()), tolerant=True)
            work.done()
            await self.queueing.mend()
            await self._store_facts()
        self._settle()

    # ---- reports -------------------------------------------------------------------------------

    async def each_switch(self, ask: Callable[[Session], Coroutine[Any, Any, Any]]) -> list[tuple[int, Any]]:
        """Ask all connected switches at once; those that fail are left out."""
        sessions = [s for s in self._sessions.values() if s.ready]
        answers = await asyncio.gather(*(ask(s) for s in sessions), return_exceptions=True)
        return [
            (s.dpid, a) for s, a in zip(sessions, answers, strict=True) if not isinstance(a, BaseException)
        ]
