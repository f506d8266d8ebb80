"""The framer: whole messages out of a stream, bounded, broken lengths refused."""

from __future__ import annotations

import pytest

from libnetvirt.openflow import EchoRequest, Framer, ProtocolError

ONE = EchoRequest(b"one", xid=1).encode()
TWO = EchoRequest(b"two two", xid=2).encode()


def test_many_messages_in_one_chunk() -> None:
    assert Framer().feed(ONE + TWO + ONE) == [ONE, TWO, ONE]


def test_a_message_spread_byte_by_byte() -> None:
    framer = Framer()
    found = [framer.feed(bytes((byte,))) for byte in ONE]
    assert found == [[]] * (len(ONE) - 1) + [[ONE]]
    assert framer.pending == 0


def test_the_end_of_one_and_the_start_of_the_next() -> None:
    framer = Framer()
    assert framer.feed(ONE + TWO[:3]) == [ONE]
    assert framer.pending == 3
    assert framer.feed(TWO[3:]) == [TWO]


def test_the_largest_message_in_small_pieces_stays_bounded() -> None:
    wire = EchoRequest(bytes(0xFFFF - 8)).encode()
    framer = Framer()
    frames = []
    for start in range(0, len(wire), 100):
        frames += framer.feed(wire[start : start + 100])
        assert framer.pending < 0x10000
    assert frames == [wire]


@pytest.mark.parametrize("length", range(8))
def test_a_length_below_the_header_is_refused_at_once_and_for_ever(length: int) -> None:
    framer = Framer()
    with pytest.raises(ProtocolError, match=f"length of {length}") as caught:
        framer.feed(bytes((4, 2, 0, length, 0, 0, 0, 9)))
    assert caught.value.xid == 9
    with pytest.raises(ProtocolError):
        framer.feed(ONE)


def test_messages_before_a_broken_one_are_kept() -> None:
    framer = Framer()
    assert framer.feed(ONE + bytes(8) + TWO) == [ONE]
    assert framer.error is not None
    with pytest.raises(ProtocolError):
        framer.feed(b"")


def test_nothing_gives_nothing() -> None:
    assert Framer().feed(b"") == []
