"""`Match`: what a rule looks for, or where a packet came in (OpenFlow 1.3.5 §7.2.3)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from struct import Struct
from typing import Any, Final, overload

from libnetvirt.openflow.errors import ProtocolError
from libnetvirt.openflow.layout import bad_value
from libnetvirt.openflow.oxm import FIELDS, OxmField, field_named, parse_field

_HEAD: Final = Struct("!HH")
_OXM_MATCH: Final = 1
_PADS: Final = tuple(b"\0" * count for count in range(8))
_MEMO_LENGTH: Final = 64
_MEMO_SIZE: Final = 4096

Entry = tuple[OxmField, int, int]
"""A field, its value and its mask (all ones: no mask)."""


def _order(entry: Entry) -> tuple[int, ...]:
    return entry[0].order


class Match:
    """An immutable, hashable set of match fields, equal to any other that matches the same packets.

    Built from keywords: ``Match(in_port=3, vlan_vid=0x1014, metadata=(value, mask))``. Values are ints; a
    pair is a value and its mask. A mask of all ones is the same as none, a mask of zero the same as not
    naming the field, and bits outside a mask do not count. The wire form is computed once, when asked for.

    Raises ValueError for an unknown field, a value that is too large, or a mask where there can be none.
    """

    __slots__ = ("_args", "_entries", "_hash", "_wire")

    _args: dict[str, int | tuple[int, int]]
    _entries: tuple[Entry, ...]
    _hash: int | None
    _wire: bytes | None

    def __init__(self, **fields: int | tuple[int, int]) -> None:
        entries: list[Entry] = []
        for name, given in fields.items():
            field = FIELDS.get(name) or field_named(name)
            if isinstance(given, tuple):
                checked = field.check(*given)
                if checked is None:
                    continue
                entries.append((field, *checked))
            else:
                if given < 0 or given > field.full:
                    raise ValueError(f"{name}={given:#x} does not fit in {field.bits} bits")
                entries.append((field, given, field.full))
        self._fill(entries)

    def _fill(self, entries: list[Entry]) -> None:
        if len(entries) > 1:
            entries.sort(key=_order)
        self._entries = tuple(entries)
        self._args = {
            field.name: value if mask == field.full else (value, mask) for field, value, mask in entries
        }
        self._hash = None
        self._wire = None

    @classmethod
    def _of(cls, entries: list[Entry]) -> Match:
        match = cls.__new__(cls)
        match._fill(entries)
        return match

    @property
    def fields(self) -> tuple[tuple[str, int, int | None], ...]:
        """(name, value, mask or None) of each field, the standard ones first and by OXM number."""
        return tuple(
            (field.name, value, None if mask == field.full else mask) for field, value, mask in self._entries
        )

    @overload
    def get(self, name: str) -> int | tuple[int, int] | None: ...

    @overload
    def get(self, name: str, default: int) -> int | tuple[int, int]: ...

    def get(self, name: str, default: int | None = None) -> int | tuple[int, int] | None:
        """What the constructor would be given for that field: a value, or a (value, mask); else `default`."""
        return self._args.get(name, default)

    def value(self, name: str, default: int = 0) -> int:
        """The field's value without its mask, or `default`."""
        found = self._args.get(name, default)
        return found if isinstance(found, int) else found[0]

    def replace(self, **fields: int | tuple[int, int]) -> Match:
        """The same match with other or more fields; a mask of zero takes one away."""
        return Match(**(self._args | fields))

    def encode(self) -> bytes:
        """`ofp_match` with its padding: a multiple of 8 bytes."""
        wire = self._wire
        if wire is None:
            body = b"".join([field.encode(value, mask) for field, value, mask in self._entries])
            length = 4 + len(body)
            if length > 0xFFFF:
                raise ValueError(f"a match of {length} bytes is too long")
            wire = self._wire = _HEAD.pack(_OXM_MATCH, length) + body + _PADS[-length % 8]
        return wire

    @classmethod
    def decode(cls, wire: bytes) -> Match:
        """The match that `wire`, all of it, says. Raises ProtocolError."""
        match, pos = MATCH.parse(wire, 0, len(wire))
        if pos != len(wire):
            raise ProtocolError(f"{len(wire) - pos} bytes after a match")
        return match

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Match):
            return NotImplemented
        return self is other or self._args == other._args

    def __hash__(self) -> int:
        value = self._hash
        if value is None:
            value = self._hash = hash(tuple(self._args.items()))
        return value

    def __len__(self) -> int:
        return len(self._entries)

    def __bool__(self) -> bool:
        return bool(self._entries)

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{name}={value:#x}" if mask is None else f"{name}=({value:#x}, {mask:#x})"
            for name, value, mask in self.fields
        )
        return f"Match({shown})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (tuple(self._args.items()),)


def _rebuild(fields: Iterable[tuple[str, int | tuple[int, int]]]) -> Match:
    return Match(**dict(fields))


def _parse_fields(buf: bytes, pos: int, end: int) -> Match:
    entries: list[Entry] = []
    seen: set[str] = set()
    while pos < end:
        field, value, mask, pos = parse_field(buf, pos, end)
        if field.name in seen:
            raise bad_value(f"the match field {field.name} twice")
        seen.add(field.name)
        if mask or not field.width:
            entries.append((field, value, mask))
    return Match._of(entries)


@lru_cache(maxsize=_MEMO_SIZE)
def _remembered(fields: bytes) -> Match:
    """A pure function's memo, as packet-ins repeat few matches. Bounded in number, by the caller in bytes."""
    return _parse_fields(fields, 0, len(fields))


class MatchPart:
    """The layout part of an `ofp_match`: header, fields, padding to 8 bytes."""

    def pack(self, value: Match, /) -> bytes:
        return value.encode()

    def parse(self, buf: bytes, pos: int, end: int, /) -> tuple[Match, int]:
        if end - pos < 8:
            raise ProtocolError(f"{end - pos} bytes left where a match needs 8")
        kind, length = _HEAD.unpack_from(buf, pos)
        if kind != _OXM_MATCH:
            raise bad_value(f"a match of type {kind}; only OXM (1) is known")
        stop = pos + length
        after = stop + -length % 8
        if length < 4 or after > end:
            raise ProtocolError(f"a match with a length of {length}, {end - pos} bytes being left")
        if length <= _MEMO_LENGTH:
            return _remembered(buf[pos + 4 : stop]), after
        return _parse_fields(buf, pos + 4, stop), after


MATCH: Final = MatchPart()
"""The layout part for a match."""
