"""The base classes of all messages: `Message` and `Multipart` (OpenFlow 1.3.5, sections 7.1 and 7.3.5).

A message class declares its type in `TYPE` and the layout of its body in `WIRE`; `encode` and `parse_body`
follow from them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from struct import Struct, error
from typing import Any, ClassVar, Final, Self, TypeVar

from libnetvirt.openflow.constants import HEADER_LENGTH, MAX_MESSAGE_LENGTH, OFP_VERSION, MultipartType
from libnetvirt.openflow.errors import ProtocolError
from libnetvirt.openflow.layout import Layout

HEADER: Final = Struct("!BBHI")
"""The header of every message: version, type, length in bytes, xid."""

_MULTIPART: Final = Struct("!BBHIHH4x")

HEADER_ONLY: Final = Layout("!", "")
"""The layout of a message without a body."""


def build_frame(kind: int, xid: int, body: bytes, version: int = OFP_VERSION) -> bytes:
    """Return a whole message, `kind` being its type.

    Raises ValueError if the body is too long or a number does not fit.
    """
    length = HEADER_LENGTH + len(body)
    if length > MAX_MESSAGE_LENGTH:
        raise ValueError(f"a message of {length} bytes; at most {MAX_MESSAGE_LENGTH} are allowed")
    try:
        return HEADER.pack(version, kind, length, xid) + body
    except error as fault:
        raise ValueError(f"version {version}, type {kind}, xid {xid}: {fault}") from fault


@dataclass(slots=True)
class Message:
    """The base of all messages. Two messages are equal if their classes and all fields, xid included, are."""

    TYPE: ClassVar[int]
    WIRE: ClassVar[Layout] = HEADER_ONLY

    xid: int = field(default=0, kw_only=True)

    def encode(self) -> bytes:
        """Return the whole message, header included. Raises ValueError if a field does not fit."""
        return build_frame(self.TYPE, self.xid, self.WIRE.pack(self))

    @classmethod
    def parse_body(cls, frame: bytes, xid: int) -> Self:
        """Parse the message from a whole frame whose header has been checked. Raises ProtocolError."""
        return _parse_message(cls, frame, HEADER_LENGTH, {"xid": xid})


_M = TypeVar("_M", bound=Message)


def _parse_message(cls: type[_M], frame: bytes, pos: int, keywords: dict[str, Any]) -> _M:
    end = len(frame)
    values, pos = cls.WIRE.parse(frame, pos, end)
    if pos != end:
        raise ProtocolError(f"{end - pos} bytes after the end of {cls.__name__}")
    make: Callable[..., _M] = cls
    return make(*values, **keywords)


@dataclass(slots=True)
class Multipart(Message):
    """The base of multipart requests and replies (section 7.3.5).

    `more`: whether another part with this xid follows. `ENTRIES_FIELD` is the name of the field that holds a
    reply's entries; None if the reply has none and is always a single message.
    """

    MULTIPART_TYPE: ClassVar[MultipartType]
    ENTRIES_FIELD: ClassVar[str | None] = None

    more: bool = field(default=False, kw_only=True)

    def encode(self) -> bytes:
        """Return the whole message, both headers included. Raises ValueError if a field does not fit."""
        body = self.WIRE.pack(self)
        length = 16 + len(body)
        if length > MAX_MESSAGE_LENGTH:
            raise ValueError(f"a message of {length} bytes; at most {MAX_MESSAGE_LENGTH} are allowed")
        try:
            head = _MULTIPART.pack(OFP_VERSION, self.TYPE, length, self.xid, self.MULTIPART_TYPE, self.more)
        except error as fault:
            raise ValueError(f"xid {self.xid}: {fault}") from fault
        return head + body

    @classmethod
    def parse_body(cls, frame: bytes, xid: int) -> Self:
        """Parse the message from a whole frame whose headers have been checked. Raises ProtocolError."""
        return _parse_message(cls, frame, 16, {"xid": xid, "more": bool(frame[11] & 1)})
