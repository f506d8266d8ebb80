"""A session with a switch over a transport in memory: confirmations, errors, timeouts, ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from libnetvirt import openflow as of
from libnetvirt.controller.engine.effects import Effects
from libnetvirt.drivers.openflow.southbound.session import Session
from libnetvirt.errors import RuleRefused, SwitchTimeout

FLOW = of.Match(in_port=1)


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.ended = False
        self.protocol: Session | None = None

    def write(self, data: Any) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        if not self.ended:
            self.ended = True
            assert self.protocol is not None
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    close = abort


class Owner:
    """Notes what a session says."""

    def __init__(self) -> None:
        self.heard: list[object] = []
        self.ended = 0

    def now(self) -> float:
        return 0.0

    def opened(self, session: Session) -> None:  # noqa: ARG002
        self.heard.append("opened")

    def handshake(self, session: Session, features: of.FeaturesReply) -> None:  # noqa: ARG002
        self.heard.append(features.datapath_id)

    def message(self, session: Session, message: object) -> None:  # noqa: ARG002
        self.heard.append(message)

    def packet(self, dpid: int, message: of.PacketIn, now: float) -> None:  # noqa: ARG002
        self.heard.append(message)

    def called_for(self, effects: Effects) -> None:
        """No frame of these tests calls for anything."""

    def data_handled(self) -> None:
        pass

    def demoted(self, session: Session) -> None:  # noqa: ARG002
        self.heard.append("demoted")

    def refused(self, address: str, reason: str) -> None:  # noqa: ARG002
        self.heard.append(reason)

    def closed(self, session: Session) -> None:  # noqa: ARG002
        self.ended += 1


class Peer:
    """The switch's end."""

    def __init__(self, timeout: float = 60.0, bundles: bool = False) -> None:
        self.owner = Owner()
        self.session = Session(self.owner, timeout)
        self.transport = self.session_transport()
        self.session.connection_made(self.transport)
        self._framer = of.Framer()
        self.say(of.Hello(xid=1), of.FeaturesReply(7, n_tables=254, xid=2))
        self.session.bundles = bundles
        self.got()

    def session_transport(self) -> Transport:
        transport = Transport()
        transport.protocol = self.session
        return transport

    def say(self, *messages: of.Message) -> None:
        self.session.data_received(b"".join(m.encode() for m in messages))

    def got(self) -> list[of.Message]:
        data = bytes(self.transport.written)
        self.transport.written.clear()
        return [of.decode(f) for f in self._framer.feed(data)]


async def _turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def _run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(story())


def _barrier(messages: list[of.Message]) -> int:
    return next(m.xid for m in messages if isinstance(m, of.BarrierRequest))


def _error(xid: int) -> of.Error:
    return of.Error(of.ErrorType.FLOW_MOD_FAILED, 1, b"", xid=xid)


def test_the_handshake_says_which_switch_it_is() -> None:
    async def story() -> None:
        peer = Peer()
        assert peer.owner.heard == ["opened", 7]
        assert peer.session.dpid == 7

    _run(story)


def test_a_change_is_confirmed_by_its_barrier() -> None:
    async def story() -> None:
        peer = Peer()
        task = asyncio.create_task(peer.session.confirm([of.FlowMod(match=FLOW), of.FlowMod()]))
        await _turn()
        sent = peer.got()
        assert [type(m) for m in sent] == [of.FlowMod, of.FlowMod, of.BarrierRequest]
        assert not task.done()
        peer.say(of.BarrierReply(xid=_barrier(sent)))
        await task

    _run(story)


def test_an_empty_change_needs_no_confirmation() -> None:
    async def story() -> None:
        peer = Peer()
        await peer.session.confirm([])
        assert peer.got() == []

    _run(story)


def test_a_change_is_one_bundle_where_bundles_are_supported() -> None:
    async def story() -> None:
        peer = Peer(bundles=True)
        meter = of.MeterMod(of.MeterModCommand.ADD, 0, 1)
        task = asyncio.create_task(peer.session.confirm([meter, of.FlowMod(match=FLOW), of.FlowMod()]))
        await _turn()
        sent = peer.got()
        kinds = [
            of.MeterMod,
            of.BundleControl,
            of.BundleAdd,
            of.BundleAdd,
            of.BundleControl,
            of.BarrierRequest,
        ]
        assert [type(m) for m in sent] == kinds
        commit = of.BundleControl(1, of.BundleCtrlType.COMMIT_REPLY, xid=sent[-2].xid)
        peer.say(commit, of.BarrierReply(xid=sent[-1].xid))
        await task

    _run(story)


@pytest.mark.parametrize("bundles", [False, True])
@pytest.mark.parametrize("at", range(3))
def test_any_error_refuses_the_change(bundles: bool, at: int) -> None:
    async def story() -> None:
        peer = Peer(bundles=bundles)
        task = asyncio.create_task(peer.session.confirm([of.FlowMod(match=FLOW), of.FlowMod()]))
        await _turn()
        sent = peer.got()
        peer.say(_error(sent[at].xid), of.BarrierReply(xid=_barrier(sent)))
        with pytest.raises(RuleRefused, match="TABLE_FULL"):
            await task
        assert not any(isinstance(m, of.Error) for m in peer.owner.heard)

    _run(story)


def test_an_unrelated_error_does_not_refuse_a_change() -> None:
    async def story() -> None:
        peer = Peer()
        xid = peer.session.send(of.FlowMod())
        task = asyncio.create_task(peer.session.confirm([of.FlowMod(match=FLOW)]))
        await _turn()
        sent = peer.got()
        peer.say(_error(xid), of.BarrierReply(xid=_barrier(sent)))
        await task
        assert any(isinstance(m, of.Error) for m in peer.owner.heard)

    _run(story)


def test_two_concurrent_changes_are_confirmed_separately() -> None:
    async def story() -> None:
        peer = Peer()
        one = asyncio.create_task(peer.session.confirm([of.FlowMod(match=FLOW)]))
        two = asyncio.create_task(peer.session.confirm([of.FlowMod()]))
        await _turn()
        first, b1, _, b2 = peer.got()
        peer.say(_error(first.xid), of.BarrierReply(xid=b1.xid), of.BarrierReply(xid=b2.xid))
        with pytest.raises(RuleRefused):
            await one
        await two

    _run(story)


def test_an_unresponsive_switch_is_disconnected() -> None:
    async def story() -> None:
        peer = Peer(timeout=0.01)
        with pytest.raises(SwitchTimeout, match="did not answer within"):
            await peer.session.confirm([of.FlowMod()])
        await _turn()
        assert peer.transport.ended
        assert peer.owner.ended == 1

    _run(story)


def test_a_lost_connection_fails_all_waiting_requests() -> None:
    async def story() -> None:
        peer = Peer()
        marked: list[bool] = []
        peer.session.mark(marked.append)
        change = asyncio.create_task(peer.session.confirm([of.FlowMod()]))
        ask = asyncio.create_task(peer.session.request(of.DescRequest(), of.DescReply))
        await _turn()
        peer.session.connection_lost(None)
        for task in (change, ask):
            with pytest.raises(SwitchTimeout, match="was lost"):
                await task
        assert marked == [False]
        assert peer.session.ended
        assert peer.owner.ended == 1

    _run(story)


def test_a_mark_confirms_or_refuses_all_messages_before_it() -> None:
    async def story() -> None:
        peer = Peer()
        marked: list[tuple[str, bool]] = []
        peer.session.send(of.FlowMod())
        peer.session.mark(lambda ok: marked.append(("one", ok)))
        bad = peer.session.send(of.FlowMod())
        peer.session.mark(lambda ok: marked.append(("two", ok)))
        peer.session.send(of.FlowMod())
        peer.session.mark(lambda ok: marked.append(("three", ok)))
        await _turn()
        (barrier,) = [m.xid for m in peer.got() if isinstance(m, of.BarrierRequest)]
        peer.say(_error(bad), of.BarrierReply(xid=barrier))
        assert marked == [("one", True), ("two", False), ("three", True)]

    _run(story)


def test_an_error_that_names_no_message_fails_no_mark() -> None:
    async def story() -> None:
        peer = Peer()
        marked: list[bool] = []
        peer.session.send(of.FlowMod())
        peer.session.mark(marked.append)
        await _turn()
        barrier = _barrier(peer.got())
        # Xid 0 is that of messages which are not replies: it is below all xids, and belongs to none.
        peer.say(_error(0), of.BarrierReply(xid=barrier))
        assert marked == [True]
        assert [m.xid for m in peer.owner.heard if isinstance(m, of.Error)] == [0], "it is reported"

    _run(story)


def test_an_error_that_names_no_message_refuses_no_change() -> None:
    async def story() -> None:
        peer = Peer()
        task = asyncio.create_task(peer.session.confirm([of.FlowMod(match=FLOW)]))
        await _turn()
        peer.say(_error(0), of.BarrierReply(xid=_barrier(peer.got())))
        await task

    _run(story)


def test_a_meter_is_added_before_the_bundle_and_deleted_behind_it() -> None:
    async def story() -> None:
        peer = Peer(bundles=True)
        commands = of.MeterModCommand
        delete, modify, add = (of.MeterMod(c, 0, n) for n, c in enumerate((2, 1, 0), 1))
        rule = of.FlowMod(match=FLOW)
        task = asyncio.create_task(peer.session.confirm([delete, rule, modify, add]))
        await _turn()
        sent = peer.got()
        assert [type(m) for m in sent[2:5]] == [of.BundleControl, of.BundleAdd, of.BundleControl]
        ahead, (behind, barrier) = sent[:2], sent[5:]
        assert [m.command for m in ahead if isinstance(m, of.MeterMod)] == [commands.MODIFY, commands.ADD]
        # A switch deletes the rules of a meter with it, even those that the bundle would have changed.
        assert isinstance(behind, of.MeterMod)
        assert behind.command == commands.DELETE
        peer.say(of.BundleControl(1, of.BundleCtrlType.COMMIT_REPLY, xid=sent[4].xid))
        peer.say(of.BarrierReply(xid=barrier.xid))
        await task

    _run(story)


@pytest.mark.parametrize("refusable", [True, False])
def test_what_uses_a_group_is_removed_before_it_in_a_bundle_that_may_be_taken_back(refusable: bool) -> None:
    async def story() -> None:
        peer = Peer(bundles=True)
        group = of.GroupMod(of.GroupModCommand.DELETE, of.GroupType.ALL, 7)
        command = of.FlowModCommand.ADD if refusable else of.FlowModCommand.DELETE_STRICT
        task = asyncio.create_task(peer.session.confirm([group, of.FlowMod(match=FLOW, command=command)]))
        await _turn()
        *_, commit, barrier = sent = peer.got()
        inner = [m.message for m in sent if isinstance(m, of.BundleAdd)]
        of_the_group, other = inner[:-2], inner[-2:]
        assert [type(m) for m in other] == [of.GroupMod, of.FlowMod]
        if refusable:
            (removal,) = of_the_group
            assert isinstance(removal, of.FlowMod)
            assert (removal.command, removal.out_group) == (of.FlowModCommand.DELETE, 7)
            assert (removal.table_id, removal.cookie_mask, bool(removal.match)) == (of.ALL_TABLES, 0, False)
        else:
            assert not of_the_group
        peer.say(of.BundleControl(1, of.BundleCtrlType.COMMIT_REPLY, xid=commit.xid))
        peer.say(of.BarrierReply(xid=barrier.xid))
        await task

    _run(story)


def test_meters_alone_need_no_bundle() -> None:
    async def story() -> None:
        peer = Peer(bundles=True)
        task = asyncio.create_task(peer.session.confirm([of.MeterMod(of.MeterModCommand.DELETE, 0, 1)]))
        await _turn()
        sent = peer.got()
        assert [type(m) for m in sent] == [of.MeterMod, of.BarrierRequest]
        peer.say(of.BarrierReply(xid=sent[-1].xid))
        await task

    _run(story)


def test_a_reply_in_parts_is_put_together() -> None:
    async def story() -> None:
        peer = Peer()
        ask = asyncio.create_task(peer.session.request(of.FlowStatsRequest(), of.FlowStatsReply))
        await _turn()
        (request,) = peer.got()
        part = of.FlowStatsReply((of.FlowStatsEntry(1),), more=True, xid=request.xid)
        peer.say(part, of.FlowStatsReply((of.FlowStatsEntry(2),), xid=request.xid))
        assert [e.table_id for e in (await ask).entries] == [1, 2]

    _run(story)


def test_an_error_as_reply_is_raised() -> None:
    async def story() -> None:
        peer = Peer()
        ask = asyncio.create_task(peer.session.request(of.MeterConfigRequest(), of.MeterConfigReply))
        await _turn()
        (request,) = peer.got()
        peer.say(of.Error(of.ErrorType.BAD_REQUEST, 2, b"", xid=request.xid))
        with pytest.raises(RuleRefused, match="MeterConfigRequest"):
            await ask

    _run(story)


def test_a_reply_is_read_part_by_part_without_being_parsed() -> None:
    async def story() -> None:
        peer, read = Peer(timeout=0.01), list[bytes]()
        ask = asyncio.create_task(peer.session.read(of.FlowStatsRequest(), read.append))
        await asyncio.sleep(0.05)  # longer than other requests may take
        (request,) = peer.got()
        parts = [of.FlowStatsReply((of.FlowStatsEntry(n),), more=n < 2, xid=request.xid) for n in (1, 2)]
        peer.say(parts[0])
        await _turn()
        assert not ask.done()
        peer.say(*parts[1:])
        await ask
        assert read == [part.encode()[16:] for part in parts]
        # What follows is handled as usual.
        peer.say(of.FlowStatsReply((), xid=request.xid))

    _run(story)


@pytest.mark.parametrize("fault", ["error", "malformed", "lost", "gone"])
def test_a_read_that_fails_is_raised(fault: str) -> None:
    async def story() -> None:
        peer = Peer()
        if fault == "gone":
            peer.session.abort("over")
            await _turn()
        ask = asyncio.create_task(peer.session.read(of.FlowStatsRequest(), lambda body: _parse(body)))
        await _turn()
        if fault in ("lost", "gone"):
            peer.session.abort("over")
            with pytest.raises(SwitchTimeout, match="lost: over"):
                await ask
            return
        (request,) = peer.got()
        if fault == "error":
            peer.say(of.Error(of.ErrorType.BAD_REQUEST, 2, b"", xid=request.xid))
        else:
            body = b"\0" * 8
            head = of.FlowStatsReply((), xid=request.xid).encode()
            peer.session.data_received(head[:2] + (24).to_bytes(2) + head[4:] + body)
        with pytest.raises(RuleRefused, match="FlowStatsRequest"):
            await ask
        assert not peer.session.ended

    def _parse(body: bytes) -> None:
        of.flow_records(body)

    _run(story)


@pytest.mark.parametrize("has", [True, False])
def test_bundle_support_is_probed(has: bool) -> None:
    async def story() -> None:
        peer = Peer()
        ask = asyncio.create_task(peer.session.probe_bundles())
        await _turn()
        (request,) = peer.got()
        assert isinstance(request, of.BundleControl)
        if has:
            peer.say(of.BundleControl(0xFFFF, of.BundleCtrlType.OPEN_REPLY, xid=request.xid))
        else:
            peer.say(of.Error(of.ErrorType.BAD_REQUEST, 3, b"", xid=request.xid))
        await ask
        assert peer.session.bundles is has
        await _turn()
        # What was opened is thrown away.
        assert [m.type for m in peer.got() if isinstance(m, of.BundleControl)] == (
            [of.BundleCtrlType.DISCARD_REQUEST] if has else []
        )

    _run(story)


def test_messages_of_one_loop_iteration_are_one_write() -> None:
    async def story() -> None:
        peer = Peer()
        writes: list[bytes] = []
        peer.transport.write = lambda data: writes.append(data)  # type: ignore[method-assign]
        for _ in range(10):
            peer.session.send(of.FlowMod())
        assert writes == []
        await _turn()
        assert len(writes) == 1

    _run(story)


def test_a_rule_that_is_too_long_is_refused_and_nothing_of_its_change_is_sent() -> None:
    async def story() -> None:
        peer = Peer(bundles=True)
        long = of.FlowMod(instructions=(of.ApplyActions((of.Output(1),) * 4093),))
        with pytest.raises(RuleRefused, match="does not fit"):
            await peer.session.confirm([of.FlowMod(), long])
        await _turn()
        assert peer.got() == []

    _run(story)


def test_after_the_end_nothing_is_sent() -> None:
    async def story() -> None:
        peer = Peer()
        peer.session.abort("enough")
        await _turn()
        peer.session.send(of.FlowMod())
        await _turn()
        assert peer.owner.ended == 1
        assert peer.session.reason == "enough"

    _run(story)


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"\x16\x03\x01\x02\0\x01", "it speaks TLS, which this address does not"),
        (b"GET / HTTP/1.1\r\n\r\n".ljust(0x5420, b"x"), "it does not speak OpenFlow"),
    ],
)
def test_a_peer_that_does_not_speak_openflow_is_reported_and_disconnected(sent: bytes, said: str) -> None:
    async def story() -> None:
        owner = Owner()
        session = Session(owner, 1.0)
        transport = Transport()
        transport.protocol = session
        session.connection_made(transport)
        session.data_received(sent)
        assert str(owner.heard[-1]).startswith(said)
        await _turn()
        assert owner.ended == 1

    _run(story)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (None, "the switch closed it"),
        (OSError("Connection reset"), "the connection failed (Connection reset)"),
    ],
)
def test_why_a_connection_ended_is_kept_and_reported_if_it_was_before_the_handshake(
    error: OSError | None, reason: str
) -> None:
    async def story() -> None:
        owner = Owner()
        session = Session(owner, 1.0)
        session.connection_made(Transport())
        session.data_received(of.Hello().encode()[:5])
        session.connection_lost(error)
        assert owner.heard == ["opened", f"{reason} before the OpenFlow handshake was complete"]
        peer = Peer()
        peer.session.connection_lost(error)
        assert (peer.session.reason, peer.owner.heard) == (reason, ["opened", 7])

    _run(story)


def test_a_peer_that_says_nothing_is_reported_and_disconnected() -> None:
    async def story() -> None:
        owner = Owner()
        session = Session(owner, 1.0)
        transport = Transport()
        transport.protocol = session
        session.connection_made(transport)
        for now in (100.0, 114.0, 115.0):
            session.poll(now)
        await _turn()
        assert owner.heard == ["opened", "it did not complete the OpenFlow handshake within 15 s"]
        assert owner.ended == 1

    _run(story)


def test_whether_a_switch_answers_is_asked_without_ending_its_connection() -> None:
    async def story() -> None:
        peer = Peer()
        asked = asyncio.create_task(peer.session.answers(5.0))
        await _turn()
        (echo,) = peer.got()
        assert isinstance(echo, of.EchoRequest)
        peer.say(of.EchoReply(echo.body, xid=echo.xid + 1), of.EchoReply(echo.body, xid=echo.xid))
        assert await asked
        assert not await peer.session.answers(0.01)
        assert not peer.transport.ended
        asked = asyncio.create_task(peer.session.answers(5.0))
        await _turn()
        peer.session.connection_lost(None)
        assert not await asked

    _run(story)


def test_a_request_over_a_lost_connection_fails_at_once() -> None:
    async def story() -> None:
        peer = Peer(timeout=1000.0)
        peer.session.connection_lost(None)
        with pytest.raises(SwitchTimeout, match="was lost"):
            await peer.session.request(of.GroupDescRequest(), of.GroupDescReply)
        with pytest.raises(SwitchTimeout, match="was lost"):
            await peer.session.confirm([of.FlowMod()])

    _run(story)
