"""Laws of the codec: encoded messages decode to the same, and other bytes raise only `ProtocolError`."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libnetvirt import openflow as of
from tests.support.openflow_strategies import ACTIONS, ANY_MESSAGE, STRATEGIES, matches

# The number of message classes may only grow: raise it with each one that is added.
LEAST_CLASSES = 60

_CALM = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
_BUSY = settings(_CALM, max_examples=400)


def test_every_registered_message_has_a_strategy() -> None:
    assert set(STRATEGIES) == set(of.MESSAGES)
    assert len(of.MESSAGES) == len(set(of.MESSAGES)) >= LEAST_CLASSES


@pytest.mark.parametrize("kind", of.MESSAGES, ids=lambda kind: kind.__name__)
@_CALM
@given(data=st.data())
def test_decode_gives_what_encode_wrote(kind: type[of.Message], data: st.DataObject) -> None:
    message = data.draw(STRATEGIES[kind])
    wire = message.encode()
    assert int.from_bytes(wire[2:4], "big") == len(wire)
    read = of.decode(wire)
    assert type(read) is kind
    assert read == message
    assert read.encode() == wire


@pytest.mark.parametrize("kind", of.MESSAGES, ids=lambda kind: kind.__name__)
@_CALM
@given(data=st.data())
def test_a_changed_message_is_a_message_or_a_protocol_error(
    kind: type[of.Message], data: st.DataObject
) -> None:
    wire = bytearray(data.draw(STRATEGIES[kind]).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(4, max(4, len(wire) - 1)))
        if at < len(wire):
            wire[at] = data.draw(st.sampled_from([0, 1, 2, 3, 4, 7, 8, 0x7F, 0x80, 0xFE, 0xFF]))
    cut = data.draw(st.integers(8, len(wire)) | st.just(len(wire)))
    del wire[cut:]
    wire[2:4] = len(wire).to_bytes(2, "big")
    _message_or_fault(bytes(wire))


@_BUSY
@given(kind=st.integers(0, 30), body=st.binary(max_size=200))
def test_any_body_is_a_message_or_a_protocol_error(kind: int, body: bytes) -> None:
    _message_or_fault(bytes([4, kind]) + (8 + len(body)).to_bytes(2, "big") + b"\0\0\0\7" + body)


@_BUSY
@given(st.binary(max_size=100))
def test_any_bytes_are_a_message_or_a_protocol_error(frame: bytes) -> None:
    _message_or_fault(frame)


@_BUSY
@given(ANY_MESSAGE, st.binary(min_size=1, max_size=20))
def test_trailing_bytes_that_the_header_does_not_count_are_refused(
    message: of.Message, trailing: bytes
) -> None:
    with pytest.raises(of.ProtocolError):
        of.decode(message.encode() + trailing)


@_BUSY
@given(matches())
def test_a_match_survives_the_wire_and_its_own_fields(match: of.Match) -> None:
    wire = match.encode()
    assert len(wire) % 8 == 0
    read = of.Match.decode(wire)
    assert read == match
    assert hash(read) == hash(match)
    pairs = {name: value if mask is None else (value, mask) for name, value, mask in match.fields}
    assert of.Match(**dict(reversed(pairs.items()))) == match
    assert of.Match(**dict(reversed(pairs.items()))).encode() == wire


@_BUSY
@given(st.binary(max_size=60))
def test_any_match_body_is_a_match_or_a_protocol_error(fields: bytes) -> None:
    length = 4 + len(fields)
    try:
        match = of.Match.decode(b"\0\1" + length.to_bytes(2, "big") + fields + bytes(-length % 8))
    except of.ProtocolError:
        return
    assert of.Match.decode(match.encode()) == match


@_BUSY
@given(st.lists(ACTIONS, max_size=6), matches())
def test_every_rule_has_a_text_of_one_line(actions: list[of.Action], match: of.Match) -> None:
    rule = of.FlowMod(match=match, instructions=(of.ApplyActions(tuple(actions)),))
    assert "\n" not in of.format_flow(rule)


def _message_or_fault(frame: bytes) -> None:
    try:
        message = of.decode(frame)
    except of.ProtocolError:
        return
    assert isinstance(message, of.MESSAGES)
    again = of.decode(message.encode())  # what was accepted has a canonical form
    assert again == message
