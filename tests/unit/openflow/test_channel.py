"""The channel's state table, row by row; keepalive; end of stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from libnetvirt import openflow as of
from libnetvirt.openflow.channel import MAX_CACHED_HEAD_BYTES, MAX_CACHED_HEADS

HELLO = of.Hello(xid=1)
FEATURES = of.FeaturesReply(0x12, n_tables=254, xid=2)


def _wire(messages: Sequence[of.Message]) -> bytes:
    return b"".join(message.encode() for message in messages)


def _sent(channel: of.Channel) -> list[of.Message]:
    return [of.decode(frame) for frame in of.Framer().feed(channel.outgoing())]


def _opened(**timing: Any) -> of.Channel:
    channel = of.Channel(**timing)
    channel.start()
    channel.receive(_wire((HELLO, FEATURES)))
    channel.outgoing()
    return channel


def test_the_first_bytes_are_a_hello_with_a_bitmap() -> None:
    hello = of.decode(of.Channel().start())
    assert isinstance(hello, of.Hello)
    assert (hello.versions, hello.version) == (frozenset((4,)), 4)


def test_the_handshake() -> None:
    channel = of.Channel()
    channel.start()
    assert channel.receive(_wire((HELLO,))) == []
    states = [channel.state]
    (request,) = _sent(channel)
    assert isinstance(request, of.FeaturesRequest)
    assert channel.receive(_wire((FEATURES,))) == [of.HandshakeDone(FEATURES)]
    states.append(channel.state)
    assert states == [of.ChannelState.WAIT_FEATURES, of.ChannelState.OPEN]
    assert channel.outgoing() == b""


@pytest.mark.parametrize(
    "hello",
    [
        of.Hello(frozenset((1, 4)), 4),
        of.Hello(frozenset((1, 4, 6)), 6),
        of.Hello(frozenset(), 4),
        of.Hello(frozenset(), 6),
        of.Hello(frozenset((4,)), 1),
    ],
    ids=repr,
)
def test_a_common_version_is_found(hello: of.Hello) -> None:
    channel = of.Channel()
    assert channel.receive(hello.encode()) == []
    assert channel.state is of.ChannelState.WAIT_FEATURES


@pytest.mark.parametrize(
    ("hello", "offered"),
    [
        (of.Hello(frozenset(), 1), "OpenFlow 1.0 "),
        (of.Hello(frozenset((1, 3)), 3), "OpenFlow 1.0, 1.2 "),
        (of.Hello(frozenset((5, 6)), 6), "OpenFlow 1.4, 1.5 "),
        (of.Hello(frozenset((0x63,)), 0x63), "version 0x63 "),
    ],
    ids=repr,
)
def test_no_common_version_is_refused_with_what_to_do(hello: of.Hello, offered: str) -> None:
    channel = of.Channel()
    (event,) = channel.receive(hello.encode() + FEATURES.encode())
    assert isinstance(event, of.Refused)
    assert offered in event.reason
    assert "protocols=OpenFlow13" in event.reason
    (error,) = _sent(channel)
    assert isinstance(error, of.Error)
    assert error.text == "HELLO_FAILED/INCOMPATIBLE"
    assert channel.closed


def test_a_switch_that_refuses_us_is_quoted() -> None:
    channel = of.Channel()
    (event,) = channel.receive(of.Error(0, 0, b"we support version 0x01").encode())
    assert isinstance(event, of.Refused)
    assert "HELLO_FAILED/INCOMPATIBLE (we support version 0x01)" in event.reason
    talkative = of.Channel()
    (event,) = talkative.receive(of.Error(0, 0, b"no " * 20_000).encode())
    assert isinstance(event, of.Refused)
    assert len(event.reason) < 400
    waiting = of.Channel()
    waiting.receive(HELLO.encode())
    (event,) = waiting.receive(of.ExperimenterError(2300, of.ONF_EXPERIMENTER).encode())
    assert isinstance(event, of.Refused)


def test_another_first_message_than_hello_is_malformed() -> None:
    channel = of.Channel()
    (event,) = channel.receive(FEATURES.encode())
    assert isinstance(event, of.Malformed)
    assert "FeaturesReply" in event.reason
    assert channel.receive(HELLO.encode()) == []


def test_what_comes_before_the_features_is_passed_over_but_echo_is_answered() -> None:
    channel = of.Channel()
    channel.receive(HELLO.encode())
    channel.outgoing()
    early = of.PacketIn(of.PacketInHead(of.NO_BUFFER, 0, 0, 0, 0, of.Match(in_port=1)))
    assert channel.receive(_wire((early, of.EchoRequest(b"x", xid=5)))) == []
    assert _sent(channel) == [of.EchoReply(b"x", xid=5)]


def test_an_open_channel_gives_messages_as_they_are() -> None:
    channel = _opened()
    packet = of.PacketIn(of.PacketInHead(of.NO_BUFFER, 3, 0, 0, 0, of.Match(in_port=1)), b"abc")
    error = of.Error(5, 1, b"", xid=3)
    assert channel.receive(_wire((packet, error, of.BarrierReply(xid=4), FEATURES))) == [
        packet,
        error,
        of.BarrierReply(xid=4),
        FEATURES,
    ]


def test_replies_to_some_requests_are_not_parsed() -> None:
    channel = _opened()
    channel.unparsed.add(5)
    reply = of.FlowStatsReply((of.FlowStatsEntry(1),), more=True, xid=5)
    other = of.FlowStatsReply((of.FlowStatsEntry(1),), xid=6)
    assert channel.receive(_wire((reply, of.BarrierReply(xid=5), other))) == [
        of.RecordsReply(reply.encode()[16:], True, xid=5),
        of.BarrierReply(xid=5),
        other,
    ]
    channel.unparsed.discard(5)
    assert channel.receive(_wire((reply,))) == [reply]


def test_heads_that_are_remembered_are_bounded_and_change_nothing() -> None:
    channel = _opened()
    packets = [
        of.PacketIn(of.PacketInHead(of.NO_BUFFER, n, 0, 0, 0, of.Match(in_port=1)), b"abc", xid=n)
        for n in range(MAX_CACHED_HEADS + 10)
    ]
    wide = of.Match(eth_type=0x86DD, ip_proto=58, ipv6_src=1, ipv6_dst=(2, 3), ipv6_nd_target=4, metadata=5)
    packets += [of.PacketIn(of.PacketInHead(of.NO_BUFFER, 3, 0, 0, 0, wide), b"abc")] * 2
    wire = _wire(packets)
    assert channel.receive(wire) == packets
    assert channel.receive(wire) == packets
    assert 0 < len(channel._cached_heads) <= MAX_CACHED_HEADS
    assert all(len(head) + 8 <= MAX_CACHED_HEAD_BYTES for head in channel._cached_heads)


def test_echo_is_answered_and_late_hellos_are_passed_over() -> None:
    channel = _opened()
    assert channel.receive(_wire((of.EchoRequest(b"abc", xid=77), HELLO))) == []
    assert _sent(channel) == [of.EchoReply(b"abc", xid=77)]


def test_an_echo_reply_to_the_caller_is_an_event() -> None:
    channel = _opened()
    reply = of.EchoReply(b"mine", xid=channel.next_xid())
    assert channel.receive(reply.encode()) == [reply]


def test_echo_replies_that_nobody_writes_are_bounded() -> None:
    channel = _opened()
    wire = of.EchoRequest(bytes(60_000)).encode()
    for _ in range(50):
        channel.receive(wire)
    assert len(channel.outgoing()) <= 1 << 20
    channel.receive(of.EchoRequest(b"again").encode())
    assert _sent(channel) == [of.EchoReply(b"again")]


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (b"\x04\x02\x00\x07\x00\x00\x00\x00", "length of 7"),
        (b"\x01\x02\x00\x08\x00\x00\x00\x05", "version 0x01"),
        (b"\x04\x06\x00\x09\x00\x00\x00\x05\x00", "needed"),
    ],
)
def test_bytes_that_are_no_openflow_close_the_channel(wire: bytes, reason: str) -> None:
    channel = _opened()
    good = of.BarrierReply(xid=9)
    first, second = channel.receive(good.encode() + wire + good.encode())
    assert first == good
    assert isinstance(second, of.Malformed)
    assert reason in second.reason
    assert channel.closed
    assert channel.receive(good.encode()) == channel.poll(99.0) == channel.receive_eof() == []


def test_an_idle_peer_is_asked_once_and_lives_when_it_answers() -> None:
    channel = _opened(idle=5.0, dead=15.0)
    assert channel.poll(100.0) == []
    assert channel.poll(104.9) == []
    assert channel.outgoing() == b""
    assert channel.poll(105.0) == []
    (request,) = _sent(channel)
    assert isinstance(request, of.EchoRequest)
    assert channel.poll(106.0) == []
    assert channel.outgoing() == b""
    assert channel.receive(of.EchoReply(request.body, xid=request.xid).encode()) == []
    assert channel.poll(107.0) == []
    assert channel.poll(111.9) == []
    assert channel.outgoing() == b""
    assert channel.poll(112.0) == []
    assert len(_sent(channel)) == 1


def test_a_silent_peer_is_dead() -> None:
    channel = _opened(idle=5.0, dead=15.0)
    channel.poll(100.0)
    assert channel.poll(114.9) == []
    assert channel.poll(115.0) == [of.PeerDead(15.0)]
    assert channel.closed
    assert channel.poll(200.0) == []


def test_a_handshake_that_does_not_end_is_dead_even_when_bytes_come() -> None:
    channel = of.Channel(idle=5.0, dead=15.0)
    channel.poll(0.0)
    channel.receive(HELLO.encode())
    for second in range(1, 15):
        channel.receive(of.EchoRequest().encode())
        assert channel.poll(float(second)) == []
    assert channel.poll(15.0) == [of.PeerDead(15.0)]


def test_the_end_of_the_stream_says_what_was_cut_off() -> None:
    channel = _opened()
    channel.receive(b"\x04\x02\x00")
    assert channel.receive_eof() == [of.PeerClosed(3)]
    assert channel.receive_eof() == []


def test_transaction_ids_differ_and_are_never_zero() -> None:
    channel = of.Channel()
    xids = [channel.next_xid() for _ in range(1000)]
    assert len(set(xids)) == 1000
    assert 0 not in xids
    channel._xid = 0xFFFFFFFF
    assert channel.next_xid() == 1


@pytest.mark.parametrize("arguments", [{"versions": {1}}, {"versions": ()}, {"idle": 5.0, "dead": 5.0}])
def test_what_a_channel_cannot_do_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        of.Channel(**arguments)  # type: ignore[arg-type]
