"""Declarative wire formats: each class declares its fields once, and packing and parsing follow.

Theory of operation
-------------------
A `Layout` has two parts. The fixed part is a format string of the `struct` module with one name for each
value. The variable-length fields follow it on the wire, in the order of the keyword arguments:

    WIRE = Layout("!IHBBQ", "buffer_id total_len reason table_id cookie", match=MATCH)

In the list of names, `=` stands for the type at the start of a type-length-value structure (TLV), and `#` for
the length in bytes of the whole structure, which OpenFlow counts from its first byte. The names must be the
leading fields of the dataclass, in order, because parsed values are passed by position.

All parsers follow the same contract. `parse(buf, pos, end)` reads only `buf[pos:end]` and returns the parsed
value and the position behind it. That position is greater than `pos` unless `pos == end`, so a loop over a
list ends. `ProtocolError` is the only exception that a parser raises, whatever the input.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any, ClassVar, Final, Protocol, Self

from libnetvirt.openflow.errors import FaultKind, ProtocolError


class VariableField(Protocol):
    """How a variable-length field of a layout is packed and parsed."""

    def pack(self, value: Any, /) -> bytes:
        """Return the wire form of the value. Raises ValueError if it does not fit."""
        ...

    def parse(self, buf: bytes, pos: int, end: int, /) -> tuple[Any, int]:
        """Parse the value at `pos`. Returns it and the position behind it. Raises ProtocolError."""
        ...


class Converter:
    """How a fixed-size field is converted between its Python value and the value that `struct` packs."""

    def __init__(self, pack: Callable[[Any], Any], parse: Callable[[Any], Any]) -> None:
        self.pack = pack
        self.parse = parse


def _pack_mac(value: int) -> bytes:
    return value.to_bytes(6, "big")


def _parse_mac(wire: bytes) -> int:
    return int.from_bytes(wire, "big")


def _text(width: int) -> Converter:
    def pack(value: str) -> bytes:
        wire = value.encode("utf-8")
        if len(wire) > width:
            raise ValueError(f"{value!r} is longer than {width} bytes")
        return wire

    def parse(wire: bytes) -> str:
        # The text is for people: a switch that sends other bytes, or half a character, is still usable.
        text = wire.split(b"\0", 1)[0].decode("utf-8", "replace")
        # U+FFFD may be longer than what it stands for.
        return text.encode()[:width].decode("utf-8", "ignore")

    return Converter(pack, parse)


MAC: Final = Converter(_pack_mac, _parse_mac)
"""A MAC address, as a 48-bit int."""

TEXT16: Final = _text(16)
"""A text padded with NUL to 16 bytes. What is not UTF-8 is parsed as U+FFFD; so in the texts below."""

TEXT32: Final = _text(32)
"""A text padded with NUL to 32 bytes."""

TEXT256: Final = _text(256)
"""A text padded with NUL to 256 bytes."""


class Layout:
    """The wire format of a class: the fixed part as one compiled struct, then the variable-length fields.

    `tag` is the type number of a TLV. `align`: the length field `#`, if there is one, must be a multiple of
    this number of bytes (0: any length).
    """

    __slots__ = (
        "_convert",
        "_fetch",
        "_length_at",
        "_names",
        "_struct",
        "_tag",
        "_variable",
        "align",
        "size",
    )

    def __init__(
        self,
        fmt: str,
        names: str,
        *,
        tag: int | None = None,
        convert: Mapping[str, Converter] | None = None,
        align: int = 0,
        **variable: VariableField,
    ) -> None:
        listed = names.split()
        self._struct = struct.Struct(fmt)
        self.size = self._struct.size
        self.align = align
        self._length_at = listed.index("#") if "#" in listed else None
        self._tag = tag
        if (tag is None) != ("=" not in listed) or ("=" in listed and listed[0] != "="):
            raise TypeError("a tag is the first value, and given exactly when '=' is listed")
        self._names = tuple(name for name in listed if name not in "#=")
        self._fetch: Callable[[Any], Any] | None = attrgetter(*self._names) if self._names else None
        self._convert = tuple((self._names.index(name), how) for name, how in (convert or {}).items())
        self._variable = tuple((name, part, attrgetter(name)) for name, part in variable.items())

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of all fields, in wire order."""
        return self._names + tuple(name for name, _, _ in self._variable)

    def pack(self, source: object) -> bytes:
        """Return the wire form of `source`. Raises ValueError if a field does not fit."""
        get = self._fetch
        try:
            if get is None:
                values: list[Any] = []
            elif len(self._names) == 1:
                values = [get(source)]
            else:
                values = list(get(source))
            for index, how in self._convert:
                values[index] = how.pack(values[index])
            rest = b"".join([part.pack(fetch(source)) for _, part, fetch in self._variable])
            if self._tag is not None:
                values.insert(0, self._tag)
            if self._length_at is not None:
                values.insert(self._length_at, self.size + len(rest))
            return self._struct.pack(*values) + rest
        except (struct.error, OverflowError) as fault:
            raise ValueError(f"{type(source).__name__} cannot be encoded: {fault}") from fault

    def parse(self, buf: bytes, pos: int, end: int) -> tuple[list[Any], int]:
        """Parse at `pos`. Returns the values of all fields and the position behind. Raises ProtocolError."""
        after = pos + self.size
        if after > end:
            raise ProtocolError(f"{end - pos} bytes where at least {self.size} are needed")
        values = list(self._struct.unpack_from(buf, pos))
        if self._length_at is not None:
            length = values.pop(self._length_at)
            if length < self.size or length > end - pos or (self.align and length % self.align):
                raise ProtocolError(f"a length of {length} where {self.size} to {end - pos} are allowed")
            end = pos + length
        if self._tag is not None:
            del values[0]
        for index, how in self._convert:
            values[index] = how.parse(values[index])
        pos = after
        for _, part, _ in self._variable:
            value, pos = part.parse(buf, pos, end)
            values.append(value)
        if self._length_at is not None and pos != end:
            raise ProtocolError(f"{end - pos} bytes after the end of a sized structure")
        return values, pos


class Structure:
    """The base of all classes with a layout, except messages: `encode` and `parse`."""

    __slots__ = ()
    WIRE: ClassVar[Layout]

    def encode(self) -> bytes:
        """Return the wire form. Raises ValueError if a field does not fit."""
        return self.WIRE.pack(self)

    @classmethod
    def parse(cls, buf: bytes, pos: int, end: int) -> tuple[Self, int]:
        """Parse one at `pos`. Returns it and the position behind it. Raises ProtocolError."""
        values, pos = cls.WIRE.parse(buf, pos, end)
        return cls(*values), pos


class RawBytes:
    """A variable-length field of opaque bytes, up to the end."""

    def pack(self, value: bytes, /) -> bytes:
        return value

    def parse(self, buf: bytes, pos: int, end: int, /) -> tuple[bytes, int]:
        return buf[pos:end], end


class SingleStructure:
    """A field that holds exactly one structure."""

    def __init__(self, kind: type[Structure]) -> None:
        self._kind = kind

    def pack(self, value: Structure, /) -> bytes:
        return value.encode()

    def parse(self, buf: bytes, pos: int, end: int, /) -> tuple[Structure, int]:
        return self._kind.parse(buf, pos, end)


class StructureList:
    """A variable-length field of structures of one class, up to the end; its value is a tuple."""

    def __init__(self, kind: type[Structure]) -> None:
        self._kind = kind

    def pack(self, value: Iterable[Structure], /) -> bytes:
        return b"".join([structure.encode() for structure in value])

    def parse(self, buf: bytes, pos: int, end: int, /) -> tuple[tuple[Structure, ...], int]:
        parse = self._kind.parse
        structures = []
        while pos < end:
            structure, pos = parse(buf, pos, end)
            structures.append(structure)
        return tuple(structures), pos


class IntegerArray:
    """A field of a fixed number of integers; its value is a tuple."""

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


class TlvList:
    """A variable-length field of type-length-value structures, up to the end; its value is a tuple.

    `kinds` maps a type number to its class. A structure of any other type is parsed as `unknown(type, body)`,
    where `body` is all bytes after the length field. Every length must be at least `minimum` and a multiple
    of `align`, both in bytes. `name` is the structure's name in error messages.
    """

    def __init__(
        self,
        name: str,
        kinds: Mapping[int, type[Structure]],
        unknown: Callable[[int, bytes], Any],
        *,
        minimum: int = 8,
        align: int = 8,
    ) -> None:
        self._name = name
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
                raise ProtocolError(f"{self._name} needs {self._minimum} bytes, {end - pos} are left")
            tag, length = _TLV.unpack_from(buf, pos)
            after = pos + length
            if length < self._minimum or after > end or length % self._align:
                raise ProtocolError(
                    f"{self._name} of type {tag} with a length of {length}, {end - pos} bytes are left"
                )
            parser = self._parsers.get(tag)
            if parser is None:
                found.append(self._unknown(tag, buf[pos + 4 : after]))
            else:
                each, reached = parser(buf, pos, after)
                if reached != after:
                    raise ProtocolError(f"{self._name} of type {tag}: {after - reached} bytes too many")
                found.append(each)
            pos = after
        return tuple(found), pos


def pack_tlv(tag: int, body: bytes) -> bytes:
    """Return a type-length-value structure with an opaque body. Raises ValueError if it is too long."""
    if len(body) > 0xFFFF - 4:
        raise ValueError(f"a structure of type {tag} with {len(body)} bytes is too long")
    return _TLV.pack(tag, 4 + len(body)) + body


def require_multiple(length: int, of: int, name: str) -> None:
    """Raise ValueError if `length`, in bytes, is not a multiple of `of`. `name` is for the message."""
    if length % of:
        raise ValueError(f"{name} of {length} bytes; a multiple of {of} is needed")


def bad_value(text: str) -> ProtocolError:
    """Return a `ProtocolError` about a wrong value, as opposed to a wrong length."""
    return ProtocolError(text, kind=FaultKind.VALUE)
