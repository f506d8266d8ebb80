"""Layouts: each message, action, band or record declares its fields once; packing and parsing follow.

A `Layout` is a struct format with one name per value, and then the variable parts ("tails") in wire order:

    WIRE = Layout("!IHBBQ", "buffer_id total_len reason table_id cookie", match=MATCH)

In the list of names, `=` stands for the type that a TLV begins with, and `#` for the length of the whole
thing (OpenFlow counts it from the thing's first byte). The names must be the leading fields of the
dataclass, in order, because parsed values are passed by position.

Every parser obeys one law: it reads nothing at or after `end`, it returns a position greater than the one
it was given unless there was nothing left, and it raises `ProtocolError` and nothing else.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any, ClassVar, Final, Protocol, Self

from libnetvirt.openflow.errors import FaultKind, ProtocolError


class Part(Protocol):
    """A variable part of a layout: how one field is packed, and parsed between two positions."""

    def pack(self, value: Any, /) -> bytes: ...

    def parse(self, buf: bytes, pos: int, end: int, /) -> tuple[Any, int]: ...


class Convert:
    """A fixed-size field that is not a number on the wire: how it is read and written."""

    def __init__(self, pack: Callable[[Any], Any], parse: Callable[[Any], Any]) -> None:
        self.pack = pack
        self.parse = parse


def _pack_mac(value: int) -> bytes:
    return value.to_bytes(6, "big")


def _parse_mac(wire: bytes) -> int:
    return int.from_bytes(wire, "big")


def _text(width: int) -> Convert:
    def pack(value: str) -> bytes:
        wire = value.encode("utf-8", "surrogateescape")
        if len(wire) > width:
            raise ValueError(f"{value!r} is longer than {width} bytes")
        return wire

    def parse(wire: bytes) -> str:
        return wire.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")

    return Convert(pack, parse)


MAC: Final = Convert(_pack_mac, _parse_mac)
TEXT16: Final = _text(16)
TEXT32: Final = _text(32)
TEXT256: Final = _text(256)


class Layout:
    """The wire form of a class: fixed fields as one precompiled struct, then tails.

    `align` is what a sized thing's length must be a multiple of (0: anything).
    """

    __slots__ = (
        "_constant",
        "_convert",
        "_get",
        "_length_at",
        "_names",
        "_struct",
        "_tails",
        "align",
        "size",
    )

    def __init__(
        self,
        fmt: str,
        names: str,
        *,
        tag: int | None = None,
        convert: Mapping[str, Convert] | None = None,
        align: int = 0,
        **tails: Part,
    ) -> None:
        listed = names.split()
        self._struct = struct.Struct(fmt)
        self.size = self._struct.size
        self.align = align
        self._length_at = listed.index("#") if "#" in listed else None
        self._constant = tag
        if (tag is None) != ("=" not in listed) or ("=" in listed and listed[0] != "="):
            raise TypeError("a tag is the first value, and given exactly when '=' is listed")
        self._names = tuple(name for name in listed if name not in "#=")
        self._get: Callable[[Any], Any] | None = attrgetter(*self._names) if self._names else None
        self._convert = tuple((self._names.index(name), how) for name, how in (convert or {}).items())
        self._tails = tuple((name, part, attrgetter(name)) for name, part in tails.items())

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of all fields, in wire order."""
        return self._names + tuple(name for name, _, _ in self._tails)

    def pack(self, source: object) -> bytes:
        """The bytes of `source`. Raises ValueError when a field does not fit."""
        get = self._get
        try:
            if get is None:
                values: list[Any] = []
            elif len(self._names) == 1:
                values = [get(source)]
            else:
                values = list(get(source))
            for index, how in self._convert:
                values[index] = how.pack(values[index])
            rest = b"".join([part.pack(fetch(source)) for _, part, fetch in self._tails])
            if self._constant is not None:
                values.insert(0, self._constant)
            if self._length_at is not None:
                values.insert(self._length_at, self.size + len(rest))
            return self._struct.pack(*values) + rest
        except (struct.error, OverflowError) as fault:
            raise ValueError(f"{type(source).__name__} does not fit the wire: {fault}") from fault

    def parse(self, buf: bytes, pos: int, end: int) -> tuple[list[Any], int]:
        """The values of all fields, and where the next thing begins. Raises ProtocolError."""
        after = pos + self.size
        if after > end:
            raise ProtocolError(f"{end - pos} bytes where at least {self.size} are needed")
        values = list(self._struct.unpack_from(buf, pos))
        if self._length_at is not None:
            length = values.pop(self._length_at)
            if length < self.size or length > end - pos or (self.align and length % self.align):
                raise ProtocolError(f"a length of {length} where {self.size} to {end - pos} are possible")
            end = pos + length
        if self._constant is not None:
            del values[0]
        for index, how in self._convert:
            values[index] = how.parse(values[index])
        pos = after
        for _, part, _ in self._tails:
            value, pos = part.parse(buf, pos, end)
            values.append(value)
        if self._length_at is not None and pos != end:
            raise ProtocolError(f"{end - pos} bytes after the end of a sized structure")
        return values, pos


class Wired:
    """Base of every class with a layout: `encode` and `parse`. No state of its own."""

    __slots__ = ()
    WIRE: ClassVar[Layout]

    def encode(self) -> bytes:
        """The wire form. Raises ValueError when a field does not fit."""
        return self.WIRE.pack(self)

    @classmethod
    def parse(cls, buf: bytes, pos: int, end: int) -> tuple[Self, int]:
        """One of these from `buf[pos:end]`, and the position after it. Raises ProtocolError."""
        values, pos = cls.WIRE.parse(buf, pos, end)
        return cls(*values), pos


class Rest:
    """A tail of raw bytes, up to the end."""

    def pack(self, value: bytes, /) -> bytes:
        return value

    def parse(self, buf: bytes, pos: int, end: int, /) -> tuple[bytes, int]:
        return buf[pos:end], end


class Record:
    """A tail of exactly one record."""

    def __init__(self, kind: type[Wired]) -> None:
        self._kind = kind

    def pack(self, value: Wired, /) -> bytes:
        return value.encode()

    def parse(self, buf: bytes, pos: int, end: int, /) -> tuple[Wired, int]:
        return self._kind.parse(buf, pos, end)


class Records:
    """A tail of records of one kind, up to the end; a tuple."""

    def __init__(self, kind: type[Wired]) -> None:
        self._kind = kind

    def pack(self, value: Iterable[Wired], /) -> bytes:
        return b"".join([record.encode() for record in value])

    def parse(self, buf: bytes, pos: int, end: int, /) -> tuple[tuple[Wired, ...], int]:
        parse = self._kind.parse
        records = []
        while pos < end:
            record, pos = parse(buf, pos, end)
            records.append(record)
        return tuple(records), pos


class Numbers:
    """A tail of a fixed number of integers; a tuple."""

    def __init__(self, fmt: str) -> None:
        self._struct = struct.Struct(fmt)

    def pack(self, value: tuple[int, ...], /) -> bytes:
        return self._struct.pack(*value)

    def parse(self, buf: bytes, pos: int, end: int, /) -> tuple[tuple[int, ...], int]:
        after = pos + self._struct.size
        if after > end:
            raise ProtocolError(f"{end - pos} bytes where {self._struct.size} are needed")
        return self._struct.unpack_from(buf, pos), after


_TLV: Final = struct.Struct("!HH")


class Family:
    """A tail of type-length-value structures, up to the end; a tuple.

    `kinds` maps the type to its class; any other type becomes `unknown(type, body)`, where the body is
    everything after the length. Every length must be at least `minimum` and a multiple of `align`.
    """

    def __init__(
        self,
        what: str,
        kinds: Mapping[int, type[Wired]],
        unknown: Callable[[int, bytes], Any],
        *,
        minimum: int = 8,
        align: int = 8,
    ) -> None:
        self._what = what
        self._parsers = {tag: kind.parse for tag, kind in kinds.items()}
        self._unknown = unknown
        self._minimum = minimum
        self._align = align

    def pack(self, value: Iterable[Any], /) -> bytes:
        return b"".join([each.encode() for each in value])

    def parse(self, buf: bytes, pos: int, end: int, /) -> tuple[tuple[Any, ...], int]:
        found: list[Any] = []
        while pos < end:
            if end - pos < self._minimum:
                raise ProtocolError(f"{end - pos} bytes left where {self._what} needs {self._minimum}")
            tag, length = _TLV.unpack_from(buf, pos)
            after = pos + length
            if length < self._minimum or after > end or length % self._align:
                raise ProtocolError(
                    f"{self._what} of type {tag} with a length of {length}, {end - pos} bytes being left"
                )
            parser = self._parsers.get(tag)
            if parser is None:
                found.append(self._unknown(tag, buf[pos + 4 : after]))
            else:
                each, reached = parser(buf, pos, after)
                if reached != after:
                    raise ProtocolError(f"{self._what} of type {tag}: {after - reached} bytes too many")
                found.append(each)
            pos = after
        return tuple(found), pos


def pack_tlv(tag: int, body: bytes) -> bytes:
    """A type-length-value structure with an opaque body. Raises ValueError when it is too long."""
    if len(body) > 0xFFFF - 4:
        raise ValueError(f"a structure of type {tag} with {len(body)} bytes is too long")
    return _TLV.pack(tag, 4 + len(body)) + body


def require_multiple(length: int, of: int, what: str) -> None:
    """Raise ValueError when `length` (bytes) is not a multiple of `of`."""
    if length % of:
        raise ValueError(f"{what} of {length} bytes; a multiple of {of} is needed")


def bad_value(text: str) -> ProtocolError:
    """A `ProtocolError` about a value rather than a length."""
    return ProtocolError(text, kind=FaultKind.VALUE)
