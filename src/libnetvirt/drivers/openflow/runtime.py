"""Runtime: the controller with sockets, timers and connections, in one asyncio event loop.

The controller itself does no I/O. The runtime listens, brings switches up as they connect, hands their
messages and the time to the controller, carries out the `Effects` that it returns, and is the
:class:`~libnetvirt.controller.ondemand.flows.Wire` that it sends through. Changes of several switches
go through the `TransactionExecutor`.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import ssl
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from libnetvirt import openflow as of
from libnetvirt.acceptor import Acceptor
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.engine.controller import LINGER, Controller, Options
from libnetvirt.controller.engine.effects import PendingEffects
from libnetvirt.controller.intent.switches import SwitchView, switch_text
from libnetvirt.controller.packetin.dispatcher import PacketInDispatcher
from libnetvirt.drivers.openflow.event_reporter import EventReporter, dropped_text
from libnetvirt.drivers.openflow.execution.audit import Auditor
from libnetvirt.drivers.openflow.execution.connections import SwitchConnections
from libnetvirt.drivers.openflow.execution.executor import ExecutionContext, TransactionExecutor
from libnetvirt.drivers.openflow.execution.persistence import Persistence
from libnetvirt.drivers.openflow.ovsdb_queues.provisioner import NO_DATABASES, QueueDatabases
from libnetvirt.drivers.openflow.southbound import probe
from libnetvirt.drivers.openflow.southbound.backoff import Backoff
from libnetvirt.drivers.openflow.southbound.claims import Claims, duplicate_text
from libnetvirt.drivers.openflow.southbound.life import Step, SwitchState
from libnetvirt.drivers.openflow.southbound.link_loads import LinkLoads
from libnetvirt.drivers.openflow.southbound.listener import Listen
from libnetvirt.drivers.openflow.southbound.owners import SwitchOwners
from libnetvirt.drivers.openflow.southbound.refusals import error_text
from libnetvirt.drivers.openflow.southbound.rejections import Rejections
from libnetvirt.drivers.openflow.southbound.session import Session
from libnetvirt.drivers.openflow.southbound.storm_watch import StormWatch
from libnetvirt.drivers.openflow.southbound.tls import Credentials, Identity
from libnetvirt.drivers.openflow.southbound.trust_watch import TrustWatch
from libnetvirt.errors import StateUnusable, SubstrateError
from libnetvirt.events import EventStream
from libnetvirt.store import Store
from libnetvirt.tasks import Tasks

#: messages of one switch kept until it is ready
EARLY_LIMIT = 1000
#: seconds between two polls of sessions and neighbours
POLL_INTERVAL = 1.0
#: seconds between two looks at what probes of links have shown
PROBE_INTERVAL = 0.2
#: LLDP intervals between two probes of a switch
TRUST_INTERVALS = 2
log = logging.getLogger(__name__)
T = TypeVar("T")


class Runtime:
    """Runs a controller."""

    def __init__(
        self,
        options: Options,
        store: Store,
        secret: bytes,
        confirm_timeout: float,
        databases: QueueDatabases = NO_DATABASES,
        audit: float = 0.0,
        repairs: bool = True,
        events: EventStream | None = None,
    ) -> None:
        """``audit``: seconds between two audits of a switch, 0: none. ``repairs``: whether drift that they
        find is undone. ``events``: where to report events; it is not closed with the runtime."""
        self.events = EventStream() if events is None else events
        self._owns_events = events is None
        self.core = Controller(options, secret, self, self.publish)
        self.dispatcher = PacketInDispatcher(self.core)
        self.pending = PendingEffects(self.send, self.publish, self.dispatcher.port_down)
        self.reporter = EventReporter(self.core)
        self.packet = self.dispatcher.packet_in
        self.called_for = self.pending.add
        self.rejections = Rejections()
        self.backoff = Backoff()
        self._store = store
        self._claims = Claims()
        self.tasks = Tasks(self._report_bug)
        self.persistence = Persistence(self.core, store, self.publish)
        self.connections = SwitchConnections(confirm_timeout)
        self._sessions = self.connections.by_switch
        self.owners = SwitchOwners(self.core, store, self._sessions, self._report_states)
        self._servers: list[Acceptor] = []
        self._all: set[Session] = set()
        self._serving = False
        #: whether it has loaded the state; until then, switches that connect are held
        self.leading = False
        self._held: dict[Session, asyncio.Event] = {}
        self._held_by: dict[Session, asyncio.Task[Any]] = {}
        # The tasks that bring up the switches that were held when it began to lead.
        self._taking_over: set[asyncio.Task[Any]] = set()
        self._early_dropped = 0
        self._reporting = False
        context = ExecutionContext(
            self.core,
            self.pending,
            self.dispatcher,
            self.connections,
            self.persistence,
            self.reporter,
            self.tasks,
            self.now,
            self._serve_queued,
        )
        self.executor = TransactionExecutor(context, databases)
        self.auditor = Auditor(context, self.executor, audit, repairs)
        provisioner = self.executor.provisioner
        self.trust = TrustWatch(self.core, self._sessions, provisioner.tables, self._report_states)
        self.storms = StormWatch(self.core, self.pending, self.each_switch, self.now, self._report_states)
        self.link_loads = LinkLoads(self.each_switch, self.now)
        provisioner.rows_changed = self.trust.read_databases

    # ---- life ----------------------------------------------------------------------------------

    async def start(self, listens: list[Listen], identity: Identity | None = None) -> None:
        """Load the stored state, and listen for switches. Returns when it listens.

        ``identity``: the certificate for addresses where switches have to speak TLS. Raises AddressInUse,
        ConnectionFailed, InvalidURI, StateUnusable.
        """
        secured = self._secured(identity)
        await self.lead()
        await self._listen(listens, secured)

    async def listen(self, listens: list[Listen], identity: Identity | None = None) -> None:
        """Listen for switches. Those that connect are held, as slave, until :meth:`lead`. Raises as
        :meth:`start` does."""
        await self._listen(listens, self._secured(identity))

    def _secured(self, identity: Identity | None) -> Callable[[], ssl.SSLContext] | None:
        report = functools.partial(self.publish, "controller.identity")
        return Credentials(identity, report).context if identity else None

    async def _listen(self, listens: list[Listen], secured: Callable[[], ssl.SSLContext] | None) -> None:
        for listen in listens:
            self._servers.append(await listen.open(self._session, secured, self.refused, self._exhausted))
        self.tasks.every(POLL_INTERVAL, self._poll)

    async def lead(self) -> None:
        """Load the stored state, and use the switches that are held and those that connect from now on.
        Raises StateUnusable, ConnectionFailed."""
        await self.persistence.load(self.now)
        if self._store.created:
            # If the path was mistyped, the switches are refused, and that is a warning.
            log.info("the state file %s did not exist: it was made, with no networks", self._store.name)
        self.reporter.states(self.now(), report=False)
        await self.executor.provisioner.open()
        self.leading = True
        self._taking_over = set(self._held_by.values())
        for waiting in self._held.values():
            waiting.set()
        self.tasks.every(self.core.state.options.lldp_interval, self._tick)
        self.tasks.every(PROBE_INTERVAL, self._probe_links)
        self.auditor.start()
        self.tasks.every(TRUST_INTERVALS * self.core.state.options.lldp_interval, self._probe)

    async def taken_over(self, timeout: float) -> None:
        """Wait until the switches that were held are ready, up to ``timeout`` seconds."""
        if self._taking_over:
            await asyncio.wait(self._taking_over, timeout=timeout)

    @property
    def reached(self) -> int:
        """How many switches are connected, and not known not to answer."""
        used, control = self._sessions, self.core.state.control
        return sum(
            s.dpid != 0 and not s.ended and (used.get(s.dpid) is not s or control.is_present(s.dpid))
            for s in self._all
        )

    async def close(self) -> None:
        """Stop listening, and disconnect all switches; they go on forwarding."""
        self.executor.closed = True
        for server in self._servers:
            server.close()
        await self.owners.conclude(self.connections.confirm_timeout)
        for session in list(self._all):
            session.abort("the controller is closing")
        await self.tasks.close()
        await self.executor.provisioner.close()
        if self._owns_events:
            self.events.close()
        await self.persistence.close()

    @property
    def state_file(self) -> str:
        """Path of the file with the stored state; empty if it is in none."""
        return self._store.path

    async def backup(self) -> bytes:
        """A consistent copy of the stored state. Raises StateUnusable."""
        return await self.persistence.backup()

    @property
    def ports(self) -> list[int]:
        """The TCP ports that are listened on."""
        return [s.getsockname()[1] for server in self._servers for s in server.sockets if s.family != 1]

    def _exhausted(self, reason: str) -> None:
        self.publish(
            "controller.exhausted",
            f"switches cannot connect ({reason}): raise the limit of open files of this process (ulimit -n, "
            "or LimitNOFILE= in its unit of systemd)",
        )

    def _session(self) -> Session:
        return Session(self, self.connections.confirm_timeout)

    def _tick(self) -> None:
        now = self.now()
        for effects in self.core.tick(now):
            self.pending.add(effects)
        self.dispatcher.tick(now)
        self.executor.provisioner.tick()
        self.executor.follow_up()
        if self.reporter.watches():
            self.reporter.states(self.now())

    def _poll(self) -> None:
        now = self.now()
        for session in list(self._all):
            session.poll(now)
        if not self.leading:
            return
        if not self.executor.lock.locked():
            self.owners.update(now)
        self.dispatcher.poll(now)
        if not self.storms.idle:
            self.tasks.spawn(self.storms.read())
        if self.link_loads.due:
            self.tasks.spawn(self.link_loads.read())
        self.reporter.dropped(now, self.dispatcher.all_dropped)

    def _probe_links(self) -> None:
        now = self.now()
        self.pending.add(self.core.links.poll(now))
        self.pending.add(self.core.caches.poll(now))
        self.trust.read_caches()
        self.executor.follow_up()

    def _report_soon(self) -> None:
        """Report states once, after all that is handled in this iteration of the event loop: a switch may
        report thousands of ports at a time."""
        if not self._reporting:
            self._reporting = True
            asyncio.get_running_loop().call_soon(self._report_states)

    def _report_states(self) -> None:
        self._reporting = False
        if not self.executor.closed:
            self.reporter.states(self.now())

    def _probe(self) -> None:
        self.tasks.spawn(self.trust.probe_all())

    def now(self) -> float:
        return time.monotonic()

    def publish(self, kind: str, message: str, **fields: str) -> None:
        """Report an event. Does not block."""
        self.events.report(kind, message, **fields)

    def _report_bug(self, error: BaseException) -> None:
        self.publish("controller.error", f"internal error, please report it: {error!r}")

    # ---- the Wire of the controller ------------------------------------------------------------

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

    # ---- the Owner of sessions -----------------------------------------------------------------

    def opened(self, session: Session) -> None:
        self._all.add(session)

    def handshake(self, session: Session, features: of.FeaturesReply) -> None:
        if features.auxiliary_id:
            session.abort("auxiliary connections are not used")
        elif features.n_tables < pipeline.SWITCHING_TABLES:
            reason = f"it has {features.n_tables} tables, {pipeline.SWITCHING_TABLES} are needed"
            self.refused(session.address, reason, session.dpid)
            session.abort(reason)
        else:
            session.step(Step.IDENTIFIED)
            self.tasks.spawn(self._bring_up(session))

    def message(self, session: Session, message: object) -> None:
        if session.state is SwitchState.REFUSED or not self.leading:
            # When this controller begins to lead, it asks the switches for all that it has to know.
            return
        if isinstance(message, of.EchoReply) and self._sessions.get(session.dpid) is session:
            # Also while it is reconciled: it answers.
            self.core.topology.echoed(session.dpid, message.body, self.now())
        elif not session.served:
            if len(session.early) < EARLY_LIMIT:
                session.early.append(message)
            else:
                self._early_dropped += 1
            return
        elif isinstance(message, of.PacketIn):
            effects = self.packet(session.dpid, message, self.now())
            if effects is not None:
                self.pending.add(effects)
        elif isinstance(message, of.FlowRemoved):
            self.dispatcher.flow_removed(session.dpid, message)
        elif isinstance(message, of.PortStatus):
            self.pending.add(self.core.topology.port_status(session.dpid, message, self.now()))
            self._report_soon()
        elif isinstance(message, (of.Error, of.ExperimenterError)):
            self.reporter.error(self.now(), session.dpid, error_text(message))
        self.executor.follow_up()

    def data_handled(self) -> None:
        self._serve_queued()
        self.executor.follow_up()

    def _serve_queued(self) -> None:
        """Serve some of the queued frames, and the others after those that have come in meanwhile."""
        if self.dispatcher.serve_queued(self.now()) and not self._serving:
            self._serving = True
            asyncio.get_running_loop().call_soon(self._served)

    def _served(self) -> None:
        self._serving = False
        self._serve_queued()

    def refused(self, address: str, reason: str, dpid: int = 0, **fields: str) -> None:
        """Report a switch that cannot be used, with the reason. ``dpid``: its datapath id, if it is known."""
        if self.rejections.record(address, reason, self.now(), dpid):
            text = f"the switch at {address} is refused: {reason}"
            self.publish(
                "switch.refused", text, switch=switch_text(dpid) if dpid else "", address=address, **fields
            )

    def demoted(self, session: Session) -> None:
        self.owners.demoted(session)

    async def adopt(self, dpid: int | None) -> list[int]:
        """Take over a switch that is refused because of another controller, or all such switches. Raises
        SwitchNotFound, RuleRefused, SwitchTimeout."""
        try:
            return await self.owners.adopt(dpid)
        finally:
            await self._store_facts()

    async def forget(self, dpid: int | None) -> list[int]:
        """Leave such switches to the other controller, until they are adopted. Raises SwitchNotFound."""
        chosen = self.owners.forget(dpid)
        await self._store_facts()
        return chosen

    async def _store_facts(self) -> None:
        async with self.executor.lock:
            await self.persistence.store_facts()

    def closed(self, session: Session) -> None:
        self._all.discard(session)
        if (waiting := self._held.get(session)) is not None:
            waiting.set()
        self.owners.closed(session)
        self._claims.release(session)
        if self._sessions.get(session.dpid) is session:
            del self._sessions[session.dpid]
            self.pending.add(self.core.topology.switch_down(session.dpid, self.now(), session.reason))
            if not self.executor.closed:
                self.reporter.states(self.now())
        if session.state is SwitchState.FAILED and not self.executor.closed:
            self._back_off(session)

    def _back_off(self, session: Session) -> None:
        """A switch has failed: its next connection waits for a while."""
        seconds = self.backoff.fail(session.dpid, session.reason, self.now())
        name = switch_text(session.dpid)
        text = f"{session.reason}: switch {name} will be retried in {seconds:g} s"
        self.publish("switch.quarantined", text, switch=name)

    async def _bring_up(self, session: Session) -> None:
        """Take a connected switch through its life (`life`) until it is ready."""
        try:
            await asyncio.sleep(self.backoff.left(session.dpid, self.now()))
            if not self.leading:
                await self._hold(session)
            if session.ended:
                return
            session.step(Step.DUE)
            holder = await self._claims.claim(session)
            if holder is not None:
                reason = duplicate_text(session, holder)
                self.refused(session.address, reason, session.dpid, holder=holder.address)
                session.abort(reason)
            if session.ended or holder is not None:
                return
            session.step(Step.CLAIMED)
            await self.owners.settle(session)
            if session.ended:
                return
            view = await probe.describe(session)
            # Without the lock: it may be a switch that does not answer.
            await probe.exercise(session)
            async with self.executor.lock:
                if session.ended:
                    return
                session.step(Step.PROBED)
                await self._reconcile(session, view)
                session.step(Step.RECONCILED)
                self.auditor.reconciled(session.dpid)
                self.pending.add(self.core.topology.lldp(session.dpid, view.ports, self.now()))
            early, session.early = session.early, []
            for message in early:
                self.message(session, message)
        except SubstrateError as error:
            session.fail(str(error))
            return
        except StateUnusable as error:
            session.abort(str(error))
            return
        self.owners.ready(session)
        self.executor.follow_up()
        self.reporter.states(self.now())

    async def _hold(self, session: Session) -> None:
        """Stay connected to a switch, and do nothing there until this controller leads. Returns also if the
        connection has ended. Raises SwitchTimeout."""
        waiting = self._held[session] = asyncio.Event()
        if (task := asyncio.current_task()) is not None:
            self._held_by[session] = task
        try:
            await self.owners.become_slave(session)
            if not self.leading and not session.ended:
                await waiting.wait()
        finally:
            del self._held[session], self._held_by[session]

    async def _reconcile(self, session: Session, view: SwitchView) -> None:
        """Use this connection for its switch from now on, and give the switch its expected entries."""
        self._sessions[session.dpid] = session
        self.rejections.remove(session.address)
        self.pending.add(self.core.topology.switch_up(view, self.now()))
        await self.executor.reconcile(session)
        view.foreign = await probe.foreign_flows(session)
        await self.trust.connected(session)

    # ---- reports -------------------------------------------------------------------------------

    def notes(self) -> list[str]:
        """A sentence for each kind of thing that was dropped since the connection was opened."""
        notes = list(self.owners.notes())
        if frames := self.dispatcher.all_dropped:
            notes.append(dropped_text(frames))
        if early := self._early_dropped:
            notes.append(
                f"{early} messages of switches were dropped: they came before the switches were reconciled"
            )
        return notes + self.events.notes()

    async def each_switch(self, ask: Callable[[Session], Coroutine[Any, Any, Any]]) -> list[tuple[int, Any]]:
        """Ask all switches that are ready at once. Those that fail are missing in the result."""
        sessions = [s for s in self._sessions.values() if s.served]
        answers = await asyncio.gather(*(ask(s) for s in sessions), return_exceptions=True)
        return [
            (s.dpid, a) for s, a in zip(sessions, answers, strict=True) if not isinstance(a, BaseException)
        ]
