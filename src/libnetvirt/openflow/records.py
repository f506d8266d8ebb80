"""Records: the entries of a multipart reply as bytes, without what changes by itself.

To see whether a switch still holds what it held when it was read last, its entries need not be parsed: their
bytes are compared. The *record* of an entry is its wire form; that of a flow entry leaves out its age and its
counters (OpenFlow 1.3.5, section 7.3.5.2). Entries with equal records are equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from libnetvirt.openflow.constants import MsgType
from libnetvirt.openflow.errors import ProtocolError
from libnetvirt.openflow.message import Message

#: the bytes of a flow entry before its match, and of a description of a group or meter before its list
_FLOW_HEAD: Final = 48
_HEAD: Final = 8


@dataclass(slots=True)
class RecordsReply(Message):
    """One part of a multipart reply whose entries are not parsed. ``body`` begins with the first entry.

    Only a `Channel` returns it, for requests that ask for it (`Channel.unparsed`).
    """

    TYPE: ClassVar = MsgType.MULTIPART_REPLY

    body: bytes
    more: bool


def unparsed_reply(frame: bytes) -> RecordsReply:
    """The reply in a whole MULTIPART_REPLY frame. Raises ProtocolError."""
    if len(frame) < 16:
        raise ProtocolError(f"a multipart message of {len(frame)} bytes; at least 16 are needed")
    return RecordsReply(frame[16:], bool(frame[11] & 1), xid=int.from_bytes(frame[4:8]))


def flow_records(body: bytes) -> list[tuple[bytes, int]]:
    """(record, position in ``body``) of each entry of a part of a FlowStatsReply. Raises ProtocolError."""
    found: list[tuple[bytes, int]] = []
    pos, end = 0, len(body)
    while pos < end:
        after = _after(body, pos, end, _FLOW_HEAD + 8)
        found.append(
            (body[pos + 2 : pos + 4] + body[pos + 12 : pos + 32] + body[pos + _FLOW_HEAD : after], pos)
        )
        pos = after
    return found


def packet_count(body: bytes, pos: int) -> int:
    """How many frames the flow entry at ``pos`` in a part of a FlowStatsReply has taken."""
    return int.from_bytes(body[pos + 32 : pos + 40])


def description_records(body: bytes) -> list[tuple[bytes, int]]:
    """(record, position in ``body``) of each entry of a part of a GroupDescReply or MeterConfigReply. Raises
    ProtocolError."""
    found: list[tuple[bytes, int]] = []
    pos, end = 0, len(body)
    while pos < end:
        after = _after(body, pos, end, _HEAD)
        found.append((body[pos:after], pos))
        pos = after
    return found


def _after(body: bytes, pos: int, end: int, minimum: int) -> int:
    """The position behind the entry at ``pos``, which begins with its length."""
    if end - pos < minimum:
        raise ProtocolError(f"{end - pos} bytes where at least {minimum} are needed")
    length = body[pos] << 8 | body[pos + 1]
    if length < minimum or length > end - pos or length % 8:
        raise ProtocolError(f"a length of {length} where {minimum} to {end - pos} are allowed")
    return pos + length
