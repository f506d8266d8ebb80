"""Laws of the stream: its segmentation does not matter, and no bytes make a channel raise."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libnetvirt import openflow as of
from tests.support.openflow_strategies import ANY_MESSAGE, STRATEGIES

_CALM = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
_STREAM = st.lists(ANY_MESSAGE.map(lambda message: message.encode()), max_size=5)
_GARBAGE = st.binary(max_size=80)


def _cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    return [stream[start:stop] for start, stop in pairwise(edges)]


@_CALM
@given(_STREAM, st.lists(st.integers(0, 1 << 20), max_size=8), st.binary(max_size=7))
def test_a_framer_gives_the_same_frames_however_the_stream_is_cut(
    frames: list[bytes], cuts: list[int], rest: bytes
) -> None:
    stream = b"".join(frames) + rest
    whole = of.Framer()
    assert whole.feed(stream) == frames
    assert whole.pending == len(rest)
    pieces = of.Framer()
    assert [frame for piece in _cut(stream, cuts) for frame in pieces.feed(piece)] == frames
    single = of.Framer()
    assert [
        frame for index in range(len(stream)) for frame in single.feed(stream[index : index + 1])
    ] == frames
    assert single.pending == len(rest)


def _opened() -> of.Channel:
    channel = of.Channel()
    channel.start()
    channel.receive(of.Hello().encode() + of.FeaturesReply(1).encode())
    assert channel.state is of.ChannelState.OPEN
    channel.outgoing()
    return channel


@_CALM
@given(_STREAM, _GARBAGE, st.booleans())
def test_a_channel_reports_the_same_however_the_stream_is_cut(
    frames: list[bytes], garbage: bytes, opened: bool
) -> None:
    stream = b"".join(frames) + garbage
    whole, single = (_opened(), _opened()) if opened else (of.Channel(), of.Channel())
    events = whole.receive(stream)
    one_by_one = [
        event for index in range(len(stream)) for event in single.receive(stream[index : index + 1])
    ]
    assert one_by_one == events
    assert single.state is whole.state
    assert single.outgoing() == whole.outgoing()


@_CALM
@given(st.lists(st.tuples(_GARBAGE, st.floats(0, 30)), max_size=6), st.booleans())
def test_no_bytes_and_no_times_make_a_channel_raise(steps: list[tuple[bytes, float]], opened: bool) -> None:
    channel = _opened() if opened else of.Channel()
    now = 0.0
    last: list[of.Event] = []
    for piece, delay in steps:
        closed = channel.closed
        now += delay
        events = channel.receive(piece) + channel.poll(now)
        channel.outgoing()
        assert not (closed and events)
        last = events or last
    assert not channel.closed or isinstance(last[-1], of.Malformed | of.Refused | of.PeerDead)


@_CALM
@given(st.lists(STRATEGIES[of.FlowStatsReply], min_size=1, max_size=5), st.integers(0, 0xFFFFFFFF))
def test_an_assembler_joins_the_parts_in_order(parts: list[of.FlowStatsReply], xid: int) -> None:
    assembler = of.MultipartAssembler()
    for part in parts:
        part.xid = xid
        part.more = part is not parts[-1]
    results = [assembler.add(part) for part in parts]
    assert results[:-1] == [None] * (len(parts) - 1)
    assert results[-1] == of.FlowStatsReply(tuple(entry for part in parts for entry in part.entries), xid=xid)
    assert assembler.pending == 0
