"""What every message has: the header (OpenFlow 1.3.5 §7.1), a transaction id, `encode` and `parse_body`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from struct import Struct, error
from typing import Any, ClassVar, Final, Self, TypeVar

from libnetvirt.openflow.constants import HEADER_LENGTH, MAX_MESSAGE_LENGTH, OFP_VERSION, MultipartType
from libnetvirt.openflow.errors import ProtocolError
from libnetvirt.openflow.layout import Layout

HEADER: Final = Struct("!BBHI")
"""version, type, length, xid."""

_MULTIPART: Final = Struct("!BBHIHH4x")

NOTHING: Final = Layout("!", "")
"""The layout of a message that is only a header."""


def frame_of(kind: int, xid: int, body: bytes, version: int = OFP_VERSION) -> bytes:
    """A whole message. Raises ValueError when the body is too long or a number does not fit."""
    length = HEADER_LENGTH + len(body)
    if length > MAX_MESSAGE_LENGTH:
        raise ValueError(f"a message of {length} bytes; at most {MAX_MESSAGE_LENGTH} are possible")
    try:
        return HEADER.pack(version, kind, length, xid) + body
    except error as fault:
        raise ValueError(f"version {version}, type {kind}, xid {xid}: {fault}") from fault


@dataclass(slots=True)
class Message:
    """Base of all messages. Two are equal when their class and all fields, with the xid, are."""

    TYPE: ClassVar[int]
    WIRE: ClassVar[Layout] = NOTHING

    xid: int = field(default=0, kw_only=True)

    def encode(self) -> bytes:
        """The whole message, header included. Raises ValueError when a field does not fit."""
        return frame_of(self.TYPE, self.xid, self.WIRE.pack(self))

    @classmethod
    def parse_body(cls, frame: bytes, xid: int) -> Self:
        """The message from a whole frame, whose header was looked at. Raises ProtocolError."""
        return _build(cls, frame, HEADER_LENGTH, {"xid": xid})


_M = TypeVar("_M", bound=Message)


def _build(cls: type[_M], frame: bytes, pos: int, keywords: dict[str, Any]) -> _M:
    end = len(frame)
    values, pos = cls.WIRE.parse(frame, pos, end)
    if pos != end:
        raise ProtocolError(f"{end - pos} bytes after the end of {cls.__name__}")
    make: Callable[..., _M] = cls
    return make(*values, **keywords)


@dataclass(slots=True)
class Multipart(Message):
    """Base of multipart requests and replies (§7.3.5). `more`: another part with this xid follows.

    `PART` is the multipart type; `LISTED` names the field that holds a reply's entries, if it has one.
    """

    PART: ClassVar[MultipartType]
    LISTED: ClassVar[str | None] = None

    more: bool = field(default=False, kw_only=True)

    def encode(self) -> bytes:
        """The whole message, both headers included. Raises ValueError when a field does not fit."""
        body = self.WIRE.pack(self)
        length = 16 + len(body)
        if length > MAX_MESSAGE_LENGTH:
            raise ValueError(f"a message of {length} bytes; at most {MAX_MESSAGE_LENGTH} are possible")
        try:
            head = _MULTIPART.pack(OFP_VERSION, self.TYPE, length, self.xid, self.PART, self.more)
        except error as fault:
            raise ValueError(f"xid {self.xid}: {fault}") from fault
        return head + body

    @classmethod
    def parse_body(cls, frame: bytes, xid: int) -> Self:
        """The message from a whole frame, whose headers were looked at. Raises ProtocolError."""
        return _build(cls, frame, 16, {"xid": xid, "more": bool(frame[11] & 1)})
