"""A session: one switch's connection. Bytes to and from the codec, replies matched to requests, changes
confirmed.

The session owns the transport; the protocol itself (versions, keep-alive, framing) is in
`libnetvirt.openflow`, without I/O. Messages sent within one iteration of the event loop are collected and
written at once. Two ways to have changes confirmed:

- :meth:`Session.confirm` sends a change as a bundle, or with barriers, and awaits it: for operations.
- :meth:`Session.track` and :meth:`Session.mark` call back when everything sent before is done; all marks of
  one iteration share a barrier: for the hot path.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar, cast

from libnetvirt import openflow as of
from libnetvirt.controller.engine.effects import Effects
from libnetvirt.controller.intent.switches import switch_text
from libnetvirt.drivers.openflow.southbound.batches import Mark, Pending, commit_xid, in_bundle, in_stages
from libnetvirt.drivers.openflow.southbound.life import ENDED, SERVED, Step, SwitchState, after
from libnetvirt.drivers.openflow.southbound.refusals import error_text, refusal_text
from libnetvirt.errors import RuleRefused, SwitchTimeout

#: collected pieces beyond which they are written early, so that the switch can start to process them
FLUSH_PARTS = 256
#: unread bytes in a switch's write buffer beyond which its connection is closed
WRITE_LIMIT = 64 << 20
#: seconds between two questions whether this controller is still the switch's master
ROLE_INTERVAL = 5.0
#: the first bytes of a TLS handshake record (RFC 8446, section 5.1)
_TLS_HANDSHAKE = b"\x16\x03"
#: the error of a switch whose master is another controller
_IS_SLAVE = of.Error(of.ErrorType.BAD_REQUEST, of.BadRequest.IS_SLAVE).text
#: the body of `Session.answers`' echo request; the channel keeps replies with its own body to itself
_ALIVE = b"alive?"

R = TypeVar("R", bound=of.MultipartReply)


class Owner(Protocol):
    """The receiver of a session's events."""

    def now(self) -> float:
        """The time of a steady clock, in seconds."""

    def opened(self, session: Session) -> None:
        """A connection was accepted."""

    def handshake(self, session: Session, features: of.FeaturesReply) -> None:
        """The OpenFlow handshake is complete."""

    def packet(self, dpid: int, message: of.PacketIn, now: float, /) -> Effects | None:
        """A frame came up from a switch that is ready. Called for each frame: hot path."""

    def called_for(self, effects: Effects, /) -> None:
        """Carry out the effects of a frame."""

    def message(self, session: Session, message: object) -> None:
        """Another message arrived that is not a reply."""

    def data_handled(self) -> None:
        """All messages that were received with one read were handled."""

    def demoted(self, session: Session) -> None:
        """Another controller has become the switch's master. Called once a connection."""

    def refused(self, address: str, reason: str) -> None:
        """The connection from this address cannot be used."""

    def closed(self, session: Session) -> None:
        """The connection has ended."""


class Session(asyncio.Protocol):
    """The connection of one switch."""

    def __init__(self, owner: Owner, confirm_timeout: float) -> None:
        self._owner = owner
        self._timeout = confirm_timeout
        self._loop = asyncio.get_running_loop()
        self._channel = of.Channel()
        self._parts = of.MultipartAssembler()
        self._out: list[bytes] = []
        self._flushing = False  # whether collected messages are about to be written
        self._replies: dict[int, asyncio.Future[Any]] = {}
        self._readers: dict[int, Callable[[bytes], None]] = {}  # of replies that are not parsed
        self._changes: dict[int, Pending] = {}  # by the barrier's xid
        self._marks: dict[int, list[Mark]] = {}  # by the barrier's xid
        self._unmarked: list[Mark] = []
        self._last = 0
        self._bundle_id = 0
        self._transport: asyncio.Transport | None = None
        self.dpid = 0
        self.address = ""
        self.tables = 0
        self.state = SwitchState.CONNECTING
        self.bundles = False
        #: this controller's role at the switch; None: the switch has no roles
        self.role: of.ControllerRole | None = of.ControllerRole.EQUAL
        self._role_asked = 0.0
        #: messages that arrived before the switch was ready
        self.early: list[object] = []
        self.reason = ""
        # The oldest barrier of marks without a reply, and when poll() saw it first.
        self._oldest_barrier: tuple[int, float] | None = None

    # ---- asyncio.Protocol ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.address = address_text(transport)
        self._transport.write(self._channel.start())
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        if not self.dpid and data.startswith(_TLS_HANDSHAKE):
            reason = (
                "it speaks TLS, which this address does not: use tcp: in the switch, or give certificates"
            )
            self._owner.refused(self.address, reason)
            self.abort(reason)
            return
        now = self._owner.now()
        packet = self._owner.packet
        served = self.state in SERVED
        self._flushing = True
        for event in self._channel.receive(data):
            if served and type(event) is of.PacketIn:
                effects = packet(self.dpid, event, now)
                if effects is not None:
                    self._owner.called_for(effects)
                if len(self._out) > FLUSH_PARTS:
                    self._write()
            else:
                self._event(event)
        # Answers to this switch are written at once, messages to other switches at the end of the iteration.
        self._flush()
        self._drain()
        self._owner.data_handled()

    def eof_received(self) -> None:
        self._channel.receive_eof()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self.step(Step.LOST)
        self._explain_end(error)
        lost = self._lost()
        for change in self._changes.values():
            if not change.future.done():
                change.future.set_exception(lost)
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(lost)
        marks, self._marks = self._marks, {}
        unmarked, self._unmarked = self._unmarked, []
        for mark in (*(mark for one in marks.values() for mark in one), *unmarked):
            mark.done(False)
        self._owner.closed(self)

    def _explain_end(self, error: Exception | None) -> None:
        if self.reason:
            return
        self.reason = f"the connection failed ({error})" if error else "the switch closed it"
        if not self.dpid:
            self._owner.refused(self.address, f"{self.reason} before the OpenFlow handshake was complete")

    def _lost(self) -> SwitchTimeout:
        reason = f": {self.reason}" if self.reason else ""
        return SwitchTimeout(
            f"the connection of switch {switch_text(self.dpid)} from {self.address} was lost{reason}"
        )

    # ---- sending -------------------------------------------------------------------------------

    def send(self, message: of.Message) -> int:
        """Send a message in this iteration of the event loop. Returns its xid."""
        xid = message.xid = self._last = self._channel.next_xid()
        self._flush_soon()
        self._out.append(message.encode())
        return xid

    def post(self, parts: Sequence[bytes]) -> None:
        """Send encoded messages, given in parts. Their errors are not attributed to anything."""
        if not self._flushing:
            self._flush_soon()
        self._out += parts

    def track(self, done: Callable[[bool], None], header: bytes, parts: Sequence[bytes]) -> None:
        """Send one encoded message with an xid filled in, and `mark` it."""
        xid = self._last = self._channel.next_xid()
        self._flush_soon()
        self._out += (header[:4], xid.to_bytes(4), *parts)
        self._unmarked.append(Mark(xid, done))

    def _send_all(self, messages: Sequence[of.Message]) -> list[int]:
        """Send all messages or, if one of them does not fit into an OpenFlow message, none. Raises
        RuleRefused."""
        frames = []
        for message in messages:
            message.xid = self._channel.next_xid()
            try:
                frames.append(message.encode())
            except ValueError as error:
                raise RuleRefused(
                    f"a rule for switch {switch_text(self.dpid)} does not fit into an OpenFlow message "
                    f"({error}): the network spans too many switches"
                ) from error
        self._flush_soon()
        self._out += frames
        return [message.xid for message in messages]

    def mark(self, done: Callable[[bool], None]) -> None:
        """Call ``done(True)`` when the switch has carried out everything sent so far, ``done(False)`` if any
        of it failed."""
        self._flush_soon()
        self._unmarked.append(Mark(self._last, done))

    async def request(self, message: of.MultipartRequest, kind: type[R], within: float | None = None) -> R:
        """Send a multipart request and return the complete reply.

        A switch that does not answer in time has failed; with ``within``, it has not, and as many seconds
        are waited. Raises RuleRefused if the switch answers with an error, SwitchTimeout.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        xid = self.send(message)
        self._replies[xid] = future
        try:
            reply = await (self._within(future) if within is None else self._await(future, within))
        except TimeoutError:
            raise SwitchTimeout(f"{self._silence()}") from None
        finally:
            self._replies.pop(xid, None)
            self._parts.discard(xid)
        if not isinstance(reply, kind):
            raise RuleRefused(
                f"switch {switch_text(self.dpid)} answered {type(message).__name__} with {reply}"
            )
        return reply

    @contextlib.contextmanager
    def refusable(self, messages: Iterable[of.Message]) -> Iterator[Callable[[], bool]]:
        """Send messages that have no reply. Within the block, the function tells whether the switch has
        answered any of them with an error."""
        futures = {self.send(message): self._loop.create_future() for message in messages}
        self._replies |= futures
        try:
            yield lambda: any(future.done() for future in futures.values())
        finally:
            for xid, future in futures.items():
                self._replies.pop(xid, None)
                if not future.cancel():
                    future.exception()

    async def read(self, message: of.MultipartRequest, add: Callable[[bytes], None]) -> None:
        """Send a multipart request and call ``add`` with each part of the reply, not parsed, as it arrives.

        Waits for the reply as long as the connection lasts: a switch that is busy need not be one that has
        failed. Raises RuleRefused if the switch answers with an error or something unreadable, SwitchTimeout
        if the connection is lost.
        """
        if self._transport is None:
            raise self._lost()
        future: asyncio.Future[Any] = self._loop.create_future()
        xid = self.send(message)
        self._replies[xid], self._readers[xid] = future, add
        self._channel.unparsed.add(xid)
        try:
            reply = await future
        finally:
            del self._replies[xid], self._readers[xid]
            self._channel.unparsed.discard(xid)
        if reply is not None:
            raise RuleRefused(
                f"switch {switch_text(self.dpid)} answered {type(message).__name__} with {reply}"
            )

    async def request_role(self, role: of.ControllerRole, generation: int) -> of.RoleReply | of.Error:
        """Request a role at the switch (OpenFlow 1.3.5, section 6.3.4); NOCHANGE asks for the present one.

        Returns the switch's reply or its error. Raises SwitchTimeout.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        xid = self.send(of.RoleRequest(role, generation))
        self._replies[xid] = future
        try:
            reply = await self._within(future)
        finally:
            self._replies.pop(xid, None)
        if isinstance(reply, of.RoleReply):
            self.role, self._role_asked = of.ControllerRole(reply.role), self._owner.now()
            return reply
        return reply if isinstance(reply, of.Error) else of.Error(of.ErrorType.ROLE_REQUEST_FAILED, 0)

    async def answers(self, timeout: float) -> bool:
        """Whether the switch answers an echo request within ``timeout`` seconds. If not, the connection stays
        as it is."""
        future: asyncio.Future[Any] = self._loop.create_future()
        xid = self.send(of.EchoRequest(_ALIVE))
        self._replies[xid] = future
        try:
            await self._await(future, timeout)
        except (TimeoutError, SwitchTimeout):
            return False
        finally:
            self._replies.pop(xid, None)
        return True

    async def confirm(self, messages: Sequence[of.Message]) -> None:
        """Have the switch carry out a change as a whole or, if it supports bundles, not at all. Returns when
        it is done.

        Raises RuleRefused, SwitchTimeout.
        """
        if not messages:
            return
        self._bundle_id += 1
        batch = in_bundle(self._bundle_id, messages) if self.bundles else list(in_stages(messages))
        xids = self._send_all(batch)
        barrier = self.send(of.BarrierRequest())
        # Written at once, so that this switch starts while the messages for others are still encoded.
        self._flush()
        change = Pending(xids[0], barrier, self._loop.create_future(), commit_xid(xids, batch))
        self._changes[barrier] = change
        try:
            await self._within(change.future)
        finally:
            self._changes.pop(barrier, None)
        if change.commit and not change.errors:
            change.errors.append("the bundle's commit was not answered")
        if change.errors:
            raise RuleRefused(refusal_text(self.dpid, change.errors))

    async def probe_bundles(self) -> None:
        """Find out whether the switch supports bundles (ONF extension 230). Raises SwitchTimeout."""
        change: asyncio.Future[Any] = self._loop.create_future()
        xid = self.send(of.BundleControl(0xFFFF, of.BundleCtrlType.OPEN_REQUEST))
        self._replies[xid] = change
        try:
            reply = await self._within(change)
        finally:
            self._replies.pop(xid, None)
        self.bundles = isinstance(reply, of.BundleControl)
        if self.bundles:
            self.send(of.BundleControl(0xFFFF, of.BundleCtrlType.DISCARD_REQUEST))

    # ---- its life ------------------------------------------------------------------------------

    def step(self, step: Step) -> None:
        """Change the state of the connection. Raises IllegalStep if the table in `life` forbids that."""
        self.state = after(self.state, step)

    @property
    def served(self) -> bool:
        """Whether messages of the switch are handled as they arrive."""
        return self.state in SERVED

    @property
    def ended(self) -> bool:
        """Whether the connection has ended, or is being ended because the switch has failed."""
        return self.state in ENDED

    def poll(self, now: float) -> None:
        """Called once a second: keep-alive, whether another controller has become master, and the timeout of
        barriers that no coroutine awaits."""
        for event in self._channel.poll(now):
            self._event(event)
        if self.role is of.ControllerRole.MASTER and now - self._role_asked >= ROLE_INTERVAL:
            self._role_asked = now
            self.send(of.RoleRequest(of.ControllerRole.NOCHANGE))
        oldest = next(iter(self._marks), 0)
        if not oldest or self._oldest_barrier is None or self._oldest_barrier[0] != oldest:
            self._oldest_barrier = (oldest, now) if oldest else None
        elif now - self._oldest_barrier[1] > self._timeout:
            self.fail(self._silence())
        self._drain()

    def fail(self, reason: str) -> None:
        """Close the connection because the switch does not respond as it should. It has to back off."""
        self.step(Step.FAIL)
        self.abort(reason)

    def abort(self, reason: str) -> None:
        """Close the connection now. The switch will connect again."""
        self.reason = self.reason or reason
        if self._transport is not None:
            self._flush()
            if self._transport is not None:
                self._transport.close() if self._channel.closed else self._transport.abort()

    # ---- receiving -----------------------------------------------------------------------------

    def _event(self, event: object) -> None:
        if isinstance(event, of.BarrierReply):
            self._barrier(event.xid)
        elif isinstance(event, of.RecordsReply):
            self._read(event)
        elif isinstance(event, of.MultipartReply):
            whole = self._assemble(event)
            if whole is not None:
                self._answer(whole.xid, whole)
        elif isinstance(event, (of.Error, of.ExperimenterError)):
            self._error(event)
        elif isinstance(event, of.BundleControl):
            self._answer(event.xid, event)
            for change in self._changes.values():
                if change.commit == event.xid:
                    change.commit = 0
        elif isinstance(event, of.EchoReply) and event.xid in self._replies:
            self._answer(event.xid, event)
        elif isinstance(event, of.RoleReply):
            if event.xid in self._replies:
                self._answer(event.xid, event)
            elif event.role == of.ControllerRole.SLAVE:
                self._demoted()
        elif isinstance(event, of.HandshakeDone):
            self.dpid, self.tables = event.features.datapath_id, event.features.n_tables
            self._owner.handshake(self, event.features)
        elif isinstance(event, of.Refused):
            self._owner.refused(self.address, event.reason)
            self.abort(event.reason)
        elif isinstance(event, of.Malformed) and not self.dpid:
            self._owner.refused(self.address, f"it does not speak OpenFlow: {event.reason}")
            self.abort(event.reason)
        elif isinstance(event, of.PeerDead) and not self.dpid:
            reason = f"it did not complete the OpenFlow handshake within {event.silent:.0f} s"
            self._owner.refused(self.address, reason)
            self.abort(reason)
        elif isinstance(event, of.PeerDead):
            self.abort(f"it did not answer for {event.silent:.0f} s")
        elif isinstance(event, of.Malformed):
            self.abort(f"it does not speak OpenFlow: {event.reason}")
        elif not isinstance(event, of.PeerClosed):
            self._owner.message(self, event)

    def _read(self, part: of.RecordsReply) -> None:
        add = self._readers.get(part.xid)
        if add is None:
            return
        try:
            add(part.body)
        except of.ProtocolError as error:
            self._answer(part.xid, error)
        else:
            if not part.more:
                self._answer(part.xid, None)

    def _assemble(self, part: of.MultipartReply) -> of.MultipartReply | None:
        try:
            return self._parts.add(part)
        except of.ProtocolError as error:
            self._answer(part.xid, error)
            return None

    def _answer(self, xid: int, reply: object) -> None:
        future = self._replies.get(xid)
        if future is not None and not future.done():
            future.set_result(reply)

    def _barrier(self, xid: int) -> None:
        for mark in self._marks.pop(xid, ()):
            mark.done(mark.ok)
        change = self._changes.get(xid)
        if change is not None and not change.future.done():
            change.future.set_result(None)

    def _error(self, error: of.Error | of.ExperimenterError) -> None:
        if error.xid in self._replies:
            self._answer(error.xid, error)
            return
        text = error_text(error)
        for change in self._changes.values():
            if change.first <= error.xid <= change.last:
                change.errors.append(text)
                break
        else:
            self._unawaited(error)
        if text == _IS_SLAVE:
            self._demoted()

    def _unawaited(self, error: of.Error | of.ExperimenterError) -> None:
        """An error that is not about a change that a coroutine awaits."""
        # The error belongs to the first mark set after its message. Xid 0 belongs to none.
        found = next((m for one in self._marks.values() for m in one if 0 < error.xid <= m.last), None)
        if found is not None:
            found.ok = False
        self._owner.message(self, error)

    def _demoted(self) -> None:
        """OpenFlow 1.3 has no message for it: it is seen from a refused change, or a reply about the role."""
        if self.role is of.ControllerRole.MASTER:
            self.role = of.ControllerRole.SLAVE
            self._owner.demoted(self)

    async def _within(self, future: asyncio.Future[Any]) -> Any:
        try:
            return await self._await(future, self._timeout)
        except TimeoutError:
            reason = self._silence()
            # It may still carry out the change: it is reconciled when it connects again.
            self.fail(reason)
            raise SwitchTimeout(f"{reason}; the change is undone. Is the switch overloaded?") from None

    async def _await(self, future: asyncio.Future[Any], seconds: float) -> Any:
        """Wait for a reply. Raises TimeoutError; SwitchTimeout if the connection is lost."""
        if self._transport is None and not future.done():
            raise self._lost()  # nobody would end this wait before its time
        # Not wait_for(), which loses a cancellation that comes with the result (Python 3.11).
        async with asyncio.timeout(seconds):
            return await future

    def _silence(self) -> str:
        return (
            f"switch {switch_text(self.dpid)} from {self.address} did not answer within {self._timeout:g} s"
        )

    def _flush_soon(self) -> None:
        """Write collected messages at the end of this iteration of the event loop."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        if self._unmarked:
            # One barrier for all marks of this iteration.
            xid = self.send(of.BarrierRequest())
            self._marks[xid], self._unmarked = self._unmarked, []
        self._flushing = False
        self._write()

    def _write(self) -> None:
        """Write what has been collected."""
        out, self._out = self._out, []
        transport = self._transport
        if transport is None or not out:
            return
        transport.write(b"".join(out))
        if transport.get_write_buffer_size() > WRITE_LIMIT:
            self.abort("the switch does not read what it is sent")

    def _drain(self) -> None:
        data = self._channel.outgoing()
        if data and self._transport is not None:
            self._flush()
            if self._transport is not None:
                self._transport.write(data)


def address_text(transport: asyncio.BaseTransport) -> str:
    """The remote address of a connection, as text."""
    peer = transport.get_extra_info("peername")
    return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "a local socket"
