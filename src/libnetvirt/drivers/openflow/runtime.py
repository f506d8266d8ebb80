"""The asyncio shell around the controller: sockets, timers, and the switches that come and go."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.engine.controller import Controller, Options, port_view
from libnetvirt.controller.engine.state import LINGER
from libnetvirt.controller.intent.switches import SwitchView, switch_text
from libnetvirt.controller.packetin.dispatcher import PacketInDispatcher
from libnetvirt.drivers.openflow.event_reporter import EventReporter
from libnetvirt.drivers.openflow.execution.executor import TransactionExecutor
from libnetvirt.drivers.openflow.execution.persistence import Persistence
from libnetvirt.drivers.openflow.ovsdb_queues.provisioner import NO_DATABASES, QueueDatabases
from libnetvirt.drivers.openflow.southbound.backoff import Backoff
from libnetvirt.drivers.openflow.southbound.listener import Listen
from libnetvirt.drivers.openflow.southbound.rejections import Rejections
from libnetvirt.drivers.openflow.southbound.session import Session, error_text
from libnetvirt.drivers.openflow.southbound.tls import Credentials, Identity, SecureServer
from libnetvirt.errors import (
    RuleRefused,
    SubstrateError,
)
from libnetvirt.events import EventStream
from libnetvirt.store import Store
from libnetvirt.tasks import Tasks

#: messages kept of a switch that is being taken up
EARLY_LIMIT = 1000
POLL_INTERVAL = 1.0
#: what switches report by themselves: everything, and unlike by default also packets whose TTL is used up
REPORTS = of.SetAsync(packet_in=(0b111, 0), port_status=(0b111, 0b111), flow_removed=(0b1111, 0))
log = logging.getLogger(__name__)
T = TypeVar("T")


class Runtime:
    """Runs a controller. Everything happens in one event loop."""

    def __init__(
        self,
        options: Options,
        store: Store,
        secret: bytes,
        confirm_timeout: float,
        databases: QueueDatabases = NO_DATABASES,
    ) -> None:
        self.events = EventStream()
        self.core = Controller(options, secret, self, self.publish)
        self.dispatcher = PacketInDispatcher(self.core)
        self.reporter = EventReporter(self.core)
        self.packet = self.dispatcher.packet_in
        self.rejections = Rejections()
        self.backoff = Backoff()
        self.tasks = Tasks(self._report_bug)
        self._persistence = Persistence(self.core, store, self.publish)
        self._confirm_timeout = confirm_timeout
        self._servers: list[asyncio.Server | SecureServer] = []
        self._all: set[Session] = set()
        self._sessions: dict[int, Session] = {}
        self._serving = False
        self.executor = TransactionExecutor(
            self.core,
            self.dispatcher,
            self.reporter,
            self._persistence,
            self.tasks,
            self._sessions,
            databases,
            confirm_timeout,
            self.publish,
            self.now,
            self._serve_queued,
        )

    # ---- life ----------------------------------------------------------------------------------

    async def start(self, listens: list[Listen], identity: Identity | None = None) -> None:
        """Load the state and wait for switches, with ``identity`` where they have to speak TLS.

        Raises AddressInUse, ConnectionFailed, InvalidURI, StateUnusable.
        """
        report = functools.partial(self.publish, "controller.identity")
        secured = Credentials(identity, report).context if identity else None
        self._persistence.load(self.now())
        self.reporter.states(self.now(), report=False)
        await self.executor.provisioner.open()
        for listen in listens:
            self._servers.append(await listen.open(self._session, secured, self.refused))
        self.tasks.every(self.core.options.lldp_interval, self._tick)
        self.tasks.every(POLL_INTERVAL, self._poll)

    async def close(self) -> None:
        """Stop listening and let all switches go; they go on forwarding."""
        self.executor.closed = True
        for server in self._servers:
            server.close()
        for session in list(self._all):
            session.abort("the controller is closing")
        await self.tasks.close()
        await self.executor.provisioner.close()
        self.events.close()
        await self._persistence.close()

    @property
    def ports(self) -> list[int]:
        """The TCP ports that are listened on."""
        return [s.getsockname()[1] for server in self._servers for s in server.sockets if s.family != 1]

    def _session(self) -> Session:
        return Session(self, self._confirm_timeout)

    def _tick(self) -> None:
        now = self.now()
        self.core.tick(now)
        self.dispatcher.tick(now)
        self.executor.provisioner.tick()
        self.executor.follow_up()
        if not all(switch.connected for switch in self.core.switches.values()):
            self.reporter.states(self.now())

    def _poll(self) -> None:
        now = self.now()
        for session in list(self._all):
            session.poll(now)
        self.dispatcher.poll(now)

    def now(self) -> float:
        return time.monotonic()

    def publish(self, kind: str, message: str, **fields: str) -> None:
        """Report an event. Does not block."""
        self.events.report(kind, message, **fields)

    def _report_bug(self, error: BaseException) -> None:
        self.publish("controller.error", f"internal error, please report it: {error!r}")

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
        elif features.n_tables < pipeline.SWITCHING_TABLES:
            reason = f"it has {features.n_tables} tables, {pipeline.SWITCHING_TABLES} are needed"
            self.refused(session.address, reason)
            session.abort(reason)
        else:
            self.tasks.spawn(self._take_up(session))

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
            self.dispatcher.flow_removed(session.dpid, message)
        elif isinstance(message, of.PortStatus):
            self.core.port_status(session.dpid, message, self.now())
            while self.core.ports_down:
                self.dispatcher.port_down(*self.core.ports_down.pop())
            self.reporter.states(self.now())
        elif isinstance(message, (of.Error, of.ExperimenterError)):
            self.reporter.error(self.now(), session.dpid, error_text(message))
        self.executor.follow_up()

    def batch_done(self) -> None:
        self._serve_queued()
        self.executor.follow_up()

    def _serve_queued(self) -> None:
        """Serve some of what waits for its turn, and the rest after what has come in meanwhile."""
        if self.dispatcher.serve_queued(self.now()) and not self._serving:
            self._serving = True
            asyncio.get_running_loop().call_soon(self._served)

    def _served(self) -> None:
        self._serving = False
        self._serve_queued()

    def refused(self, address: str, reason: str) -> None:
        """Report a switch that cannot be used."""
        if self.rejections.record(address, reason, self.now()):
            self.publish("switch.refused", f"the switch at {address} is refused: {reason}")

    def closed(self, session: Session) -> None:
        self._all.discard(session)
        if self._sessions.get(session.dpid) is session:
            del self._sessions[session.dpid]
            self.core.switch_down(session.dpid, self.now())
            if not self.executor.closed:
                self.reporter.states(self.now())
        if session.failed and not self.executor.closed:
            self._leave_alone(session)

    def _leave_alone(self, session: Session) -> None:
        """The switch has failed: it is taken up again after a while only."""
        seconds = self.backoff.fail(session.dpid, session.reason, self.now())
        self.publish(
            "switch.quarantined",
            f"{session.reason}: switch {switch_text(session.dpid)} is left alone for {seconds:g} s, and then "
            "mended",
            switch=switch_text(session.dpid),
        )

    async def _take_up(self, session: Session) -> None:
        """Learn what a switch is and holds, and mend what differs from what it should hold."""
        try:
            await asyncio.sleep(self.backoff.left(session.dpid, self.now()))
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
            await session.probe()
            async with self.executor.lock:
                if session.closed:
                    return
                old = self._sessions.get(session.dpid)
                if old is not None and old is not session:
                    old.abort("the switch connected anew")
                    self.core.switch_down(session.dpid, self.now())
                self._sessions[session.dpid] = session
                self.rejections.remove(session.address)
                self.core.switch_up(view)
                await self.executor.reconcile(session)
                total = await session.request(of.AggregateStatsRequest(), of.AggregateStatsReply)
                ours = await session.request(
                    of.AggregateStatsRequest(
                        cookie=pipeline.COOKIE_MARK, cookie_mask=pipeline.COOKIE_MARK_MASK
                    ),
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
        self.executor.follow_up()
        self.reporter.states(self.now())

    # ---- reports -------------------------------------------------------------------------------

    async def each_switch(self, ask: Callable[[Session], Coroutine[Any, Any, Any]]) -> list[tuple[int, Any]]:
        """Ask all connected switches at once; those that fail are left out."""
        sessions = [s for s in self._sessions.values() if s.ready]
        answers = await asyncio.gather(*(ask(s) for s in sessions), return_exceptions=True)
        return [
            (s.dpid, a) for s, a in zip(sessions, answers, strict=True) if not isinstance(a, BaseException)
        ]
