"""One switch's connection: bytes to and from the codec, requests matched with replies, changes confirmed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, cast

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.installed import SwitchSnapshot
from libnetvirt.controller.intent.switches import switch_text
from libnetvirt.drivers.openflow.southbound.batches import Mark, Pending, in_bundle, in_stages
from libnetvirt.errors import RuleRefused, SwitchTimeout

#: pieces collected, beyond which they are written before the turn is over: the switch begins while we go on
FLUSH_PARTS = 256
#: bytes that a switch may leave unread before its connection is given up
WRITE_LIMIT = 64 << 20
#: how a record of a TLS handshake begins (RFC 8446, section 5.1)
_TLS_HANDSHAKE = b"\x16\x03"

R = TypeVar("R", bound=of.MultipartReply)


class Owner(Protocol):
    """Who a session reports to."""

    def now(self) -> float:
        """Steady seconds."""

    def opened(self, session: Session) -> None:
        """A connection was accepted."""

    def handshake(self, session: Session, features: of.FeaturesReply) -> None:
        """The switch is known."""

    def packet(self, dpid: int, message: of.PacketIn, now: float, /) -> None:
        """A frame came up from a switch that is ready."""

    def message(self, session: Session, message: object) -> None:
        """Another message that is no reply."""

    def turned(self) -> None:
        """All that came in this turn was handed over."""

    def refused(self, address: str, reason: str) -> None:
        """The switch at this address cannot be used."""

    def closed(self, session: Session) -> None:
        """The connection has ended."""


class Session(asyncio.Protocol):
    """A connection. Writes are collected and go out once per turn of the event loop."""

    def __init__(self, owner: Owner, confirm_timeout: float) -> None:
        self._owner = owner
        self._timeout = confirm_timeout
        self._loop = asyncio.get_running_loop()
        self._channel = of.Channel()
        self._parts = of.MultipartAssembler()
        self._out: list[bytes] = []
        self._flushing = False  # whether what is collected is about to go out
        self._replies: dict[int, asyncio.Future[Any]] = {}
        self._changes: dict[int, Pending] = {}  # by the barrier's xid
        self._marks: dict[int, list[Mark]] = {}  # by the barrier's xid
        self._asking: list[Mark] = []
        self._last = 0
        self._bundle_id = 0
        self._transport: asyncio.Transport | None = None
        self.dpid = 0
        self.address = ""
        self.tables = 0
        self.ready = False
        self.bundles = False
        #: what came before the switch was taken up
        self.early: list[object] = []
        self.reason = ""
        #: whether the switch is to be left alone for a while before it is taken up again
        self.failed = False
        # Since when the oldest barrier of the marks is open, as far as poll() has seen.
        self._open: tuple[int, float] | None = None

    # ---- asyncio.Protocol ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.address = address_text(transport)
        self._transport.write(self._channel.start())
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        if not self.dpid and data.startswith(_TLS_HANDSHAKE):
            reason = "it speaks TLS, and this address takes none: point it at tcp:, or give certificates"
            self._owner.refused(self.address, reason)
            self.abort(reason)
            return
        now = self._owner.now()
        packet = self._owner.packet
        self._flushing = True
        for event in self._channel.receive(data):
            if type(event) is of.PacketIn and self.ready:
                packet(self.dpid, event, now)
                if len(self._out) > FLUSH_PARTS:
                    self._write()
            else:
                self._event(event)
        # The answers to what came in go out at once, what other switches are sent when the turn is over.
        self._flush()
        self._drain()
        self._owner.turned()

    def eof_received(self) -> None:
        self._channel.receive_eof()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        lost = SwitchTimeout(
            f"the connection of switch {switch_text(self.dpid)} from {self.address} was lost"
            f"{': ' + (self.reason or str(error)) if self.reason or error else ''}"
        )
        for change in self._changes.values():
            if not change.future.done():
                change.future.set_exception(lost)
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(lost)
        marks, self._marks = self._marks, {}
        asking, self._asking = self._asking, []
        for mark in (*(mark for one in marks.values() for mark in one), *asking):
            mark.done(False)
        self._owner.closed(self)

    # ---- what goes out -------------------------------------------------------------------------

    def send(self, message: of.Message) -> int:
        """Send a message in this turn of the loop; returns its xid."""
        xid = message.xid = self._last = self._channel.next_xid()
        self._flush_soon()
        self._out.append(message.encode())
        return xid

    def post(self, parts: Sequence[bytes]) -> None:
        """Send messages made ready, in parts; errors in answer to them belong to nobody."""
        if not self._flushing:
            self._flush_soon()
        self._out += parts

    def track(self, done: Callable[[bool], None], header: bytes, parts: Sequence[bytes]) -> None:
        """Send one message made ready, with an xid filled in, and `mark` it."""
        xid = self._last = self._channel.next_xid()
        self._flush_soon()
        self._out += (header[:4], xid.to_bytes(4), *parts)
        self._asking.append(Mark(xid, done))

    def _send_all(self, messages: Sequence[of.Message]) -> list[int]:
        """Send all of them or, if one does not fit into an OpenFlow message, none. Raises RuleRefused."""
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
        """Call ``done`` when all that was sent up to here is done; with False if any of it failed."""
        self._flush_soon()
        self._asking.append(Mark(self._last, done))

    async def request(self, message: of.MultipartRequest, kind: type[R]) -> R:
        """Ask, and return the whole reply. Raises RuleRefused on an error, SwitchTimeout."""
        future: asyncio.Future[Any] = self._loop.create_future()
        xid = self.send(message)
        self._replies[xid] = future
        try:
            reply = await self._within(future)
        finally:
            self._replies.pop(xid, None)
            self._parts.discard(xid)
        if not isinstance(reply, kind):
            raise RuleRefused(
                f"switch {switch_text(self.dpid)} answered {type(message).__name__} with {reply}"
            )
        return reply

    async def confirm(self, messages: Sequence[of.Message]) -> None:
        """Have the switch do all of a change or, where it has bundles, nothing; returns when it is done.

        Raises RuleRefused, SwitchTimeout.
        """
        if not messages:
            return
        self._bundle_id += 1
        batch = in_bundle(self._bundle_id, messages) if self.bundles else list(in_stages(messages))
        xids = self._send_all(batch)
        barrier = self.send(of.BarrierRequest())
        # At once, and not when all switches of a round have been made theirs: this one begins meanwhile.
        self._flush()
        change = Pending(xids[0], barrier, self._loop.create_future(), _commit(xids, batch))
        self._changes[barrier] = change
        try:
            await self._within(change.future)
        finally:
            self._changes.pop(barrier, None)
        if change.commit and not change.errors:
            change.errors.append("the bundle's commit was not answered")
        if change.errors:
            kinds = ", ".join(dict.fromkeys(change.errors))
            remedy = next((text for kind, text in _REMEDIES.items() if kind in kinds), _SHOWN)
            raise RuleRefused(
                f"switch {switch_text(self.dpid)} refused the change ({kinds}); it was undone. {remedy}"
            )

    async def dump(self) -> SwitchSnapshot:
        """What the switch holds: flows with our cookie, groups and meters."""
        ask = of.FlowStatsRequest(cookie=pipeline.COOKIE_MARK, cookie_mask=pipeline.COOKIE_MARK_MASK)
        flows = await self.request(ask, of.FlowStatsReply)
        groups = await self.request(of.GroupDescRequest(), of.GroupDescReply)
        try:
            meters = list((await self.request(of.MeterConfigRequest(), of.MeterConfigReply)).entries)
        except RuleRefused:
            meters = []
        return SwitchSnapshot(list(flows.entries), list(groups.entries), meters)

    async def try_out(self) -> None:
        """Have the switch carry out a change that changes nothing. Raises RuleRefused, SwitchTimeout."""
        nobody = of.FlowMod(
            table_id=of.ALL_TABLES,
            command=of.FlowModCommand.DELETE,
            cookie=pipeline.COOKIE_MARK | pipeline.NOBODY,
            cookie_mask=0xFFFF_FFFF_FFFF_FFFF,
        )
        await self.confirm([nobody])

    async def probe_bundles(self) -> None:
        """Find out whether the switch has bundles (ONF extension 230)."""
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

    @property
    def closed(self) -> bool:
        """Whether the connection has ended."""
        return self._transport is None

    def poll(self, now: float) -> None:
        """Once a second: keep-alive, and whether barriers that nobody waits for by himself are answered."""
        for event in self._channel.poll(now):
            self._event(event)
        oldest = next(iter(self._marks), 0)
        if not oldest or self._open is None or self._open[0] != oldest:
            self._open = (oldest, now) if oldest else None
        elif now - self._open[1] > self._timeout:
            self.fail(self._silence())
        self._drain()

    def fail(self, reason: str) -> None:
        """End the connection: the switch does not do as it should."""
        self.failed = True
        self.abort(reason)

    def abort(self, reason: str) -> None:
        """End the connection now; the switch will connect again."""
        self.reason = self.reason or reason
        if self._transport is not None:
            self._flush()
            if self._transport is not None:
                self._transport.close() if self._channel.closed else self._transport.abort()

    # ---- what comes in -------------------------------------------------------------------------

    def _event(self, event: object) -> None:
        if isinstance(event, of.BarrierReply):
            self._barrier(event.xid)
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
        elif isinstance(event, of.HandshakeDone):
            self.dpid, self.tables = event.features.datapath_id, event.features.n_tables
            self._owner.handshake(self, event.features)
        elif isinstance(event, of.Refused):
            self._owner.refused(self.address, event.reason)
            self.abort(event.reason)
        elif isinstance(event, of.Malformed) and not self.dpid:
            self._owner.refused(self.address, f"it does not speak OpenFlow: {event.reason}")
            self.abort(event.reason)
        elif isinstance(event, (of.Malformed, of.PeerDead)):
            self.abort(str(event))
        elif not isinstance(event, of.PeerClosed):
            self._owner.message(self, event)

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
                return
        # The first that was asked about behind the message is the one it belongs to; 0 is nobody's.
        found = next((m for one in self._marks.values() for m in one if 0 < error.xid <= m.last), None)
        if found is not None:
            found.ok = False
        self._owner.message(self, error)

    async def _within(self, future: asyncio.Future[Any]) -> Any:
        try:
            return await asyncio.wait_for(future, self._timeout)
        except TimeoutError:
            reason = self._silence()
            # It may still do what it was asked: it is compared and mended when it connects again.
            self.fail(reason)
            raise SwitchTimeout(f"{reason}; the change is undone. Is the switch overloaded?") from None

    def _silence(self) -> str:
        return (
            f"switch {switch_text(self.dpid)} from {self.address} did not answer within {self._timeout:g} s"
        )

    def _flush_soon(self) -> None:
        """Have what is collected go out when this turn is over."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        if self._asking:
            # One barrier for all that was asked about in this turn.
            xid = self.send(of.BarrierRequest())
            self._marks[xid], self._asking = self._asking, []
        self._flushing = False
        self._write()

    def _write(self) -> None:
        """Hand over what has been collected."""
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


def _commit(xids: Sequence[int], batch: Sequence[of.Message]) -> int:
    """The xid of a bundle's commit; 0 if there is no bundle."""
    return next(
        (x for x, m in zip(reversed(xids), reversed(batch), strict=True) if isinstance(m, of.BundleControl)),
        0,
    )


def address_text(transport: asyncio.BaseTransport) -> str:
    """Where a connection comes from."""
    peer = transport.get_extra_info("peername")
    return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "a local socket"


_SHOWN = "'netvirt rules' shows what the switch holds; its log says more."
_FULL = "It has no room for more: remove networks or hosts, or raise the limit of its tables."
_REMEDIES = {
    "TABLE_FULL": _FULL,
    "OUT_OF_GROUPS": _FULL,
    "OUT_OF_METERS": "It has no meter left: remove bandwidth limits or constraints there.",
    "BAD_ACTION/": "It lacks an action that is needed: networks with mpls labels, and limits of what "
    "leaves, need Open vSwitch 2.17.",
}


def error_text(error: of.Error | of.ExperimenterError) -> str:
    """An error's names, such as ``FLOW_MOD_FAILED/TABLE_FULL``."""
    if isinstance(error, of.Error):
        return error.text
    return f"experimenter {error.experimenter:#x} error {error.exp_type}"
