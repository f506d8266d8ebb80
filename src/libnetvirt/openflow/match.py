"""`Match`: the match of a rule, or the pipeline fields of a packet-in (OpenFlow 1.3.5, section 7.2.3)."""

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
_CACHED_LENGTH: Final = 64
_CACHE_SIZE: Final = 4096

FieldMatch = tuple[OxmField, int, int]
"""A field, its value and its mask; a mask of all ones means an exact match."""


def _canonical_order(field_match: FieldMatch) -> tuple[int, ...]:
    return field_match[0].order


class Match:
    """An immutable, hashable set of match fields. Two are equal if they have the same fields and masks.

    Built from keyword arguments: ``Match(in_port=3, vlan_vid=0x1014, metadata=(value, mask))``. A value is
    an int; a pair is a value and its mask. Equivalent forms are made equal: a mask of all ones is dropped, a
    field with a mask of zero is left out, and the bits of the value outside the mask are cleared. The wire
    form is computed at the first `encode` and cached.

    Raises ValueError if a field is unknown, a value does not fit, or a field that is not maskable has a mask.
    """

    __slots__ = ("_args", "_field_matches", "_hash", "_wire")

    _args: dict[str, int | tuple[int, int]]
    _field_matches: tuple[FieldMatch, ...]
    _hash: int | None
    _wire: bytes | None

    def __init__(self, **fields: int | tuple[int, int]) -> None:
        field_matches: list[FieldMatch] = []
        for name, given in fields.items():
            field = FIELDS.get(name) or field_named(name)
            if isinstance(given, tuple):
                checked = field.normalise(*given)
                if checked is None:
                    continue
                field_matches.append((field, *checked))
            else:
                if given < 0 or given > field.all_ones:
                    raise ValueError(f"{name}={given:#x} does not fit in {field.bits} bits")
                field_matches.append((field, given, field.all_ones))
        self._set(field_matches)

    def _set(self, field_matches: list[FieldMatch]) -> None:
        if len(field_matches) > 1:
            field_matches.sort(key=_canonical_order)
        self._field_matches = tuple(field_matches)
        self._args = {
            field.name: value if mask == field.all_ones else (value, mask)
            for field, value, mask in field_matches
        }
        self._hash = None
        self._wire = None

    @classmethod
    def _from_field_matches(cls, field_matches: list[FieldMatch]) -> Match:
        match = cls.__new__(cls)
        match._set(field_matches)
        return match

    @property
    def fields(self) -> tuple[tuple[str, int, int | None], ...]:
        """A tuple (name, value, mask or None) for each field, in canonical order.

        Canonical order is: standard fields by OXM number, then all others.
        """
        return tuple(
            (field.name, value, None if mask == field.all_ones else mask)
            for field, value, mask in self._field_matches
        )

    @overload
    def get(self, name: str) -> int | tuple[int, int] | None: ...

    @overload
    def get(self, name: str, default: int) -> int | tuple[int, int]: ...

    def get(self, name: str, default: int | None = None) -> int | tuple[int, int] | None:
        """The field in the constructor's form, a value or a pair (value, mask); `default` if it is absent."""
        return self._args.get(name, default)

    def value(self, name: str, default: int = 0) -> int:
        """The field's value without its mask; `default` if the field is absent."""
        found = self._args.get(name, default)
        return found if isinstance(found, int) else found[0]

    def overlaps(self, other: Match) -> bool:
        """Whether a packet can match both, as far as the fields tell: those that only one of them has are
        taken to be independent."""
        theirs = other._args
        for field, value, mask in self._field_matches:
            found = theirs.get(field.name)
            if found is None:
                continue
            wanted, bits = found if isinstance(found, tuple) else (found, field.all_ones)
            if (value ^ wanted) & mask & bits:
                return False
        return True

    def replace(self, **fields: int | tuple[int, int]) -> Match:
        """Return a copy with these fields set; a mask of zero removes a field. Raises ValueError."""
        return Match(**(self._args | fields))

    def encode(self) -> bytes:
        """Return `ofp_match`, padded to a multiple of 8 bytes. Raises ValueError if it is too long."""
        wire = self._wire
        if wire is None:
            body = b"".join([field.encode(value, mask) for field, value, mask in self._field_matches])
            length = 4 + len(body)
            if length > 0xFFFF:
                raise ValueError(f"a match of {length} bytes is too long")
            wire = self._wire = _HEAD.pack(_OXM_MATCH, length) + body + _PADS[-length % 8]
        return wire

    @classmethod
    def decode(cls, wire: bytes) -> Match:
        """Parse a padded `ofp_match` that fills `wire`. Raises ProtocolError."""
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
        return len(self._field_matches)

    def __bool__(self) -> bool:
        return bool(self._field_matches)

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
    field_matches: list[FieldMatch] = []
    seen: set[str] = set()
    while pos < end:
        field, value, mask, pos = parse_field(buf, pos, end)
        if field.name in seen:
            raise bad_value(f"the match field {field.name} occurs twice")
        seen.add(field.name)
        if mask or not field.width:
            field_matches.append((field, value, mask))
    return Match._from_field_matches(field_matches)


@lru_cache(maxsize=_CACHE_SIZE)
def _parse_fields_cached(fields: bytes) -> Match:
    """Like `_parse_fields`, cached, because the same few matches recur in packet-ins.

    The number of cached matches is bounded here, their length by the caller.
    """
    return _parse_fields(fields, 0, len(fields))


class MatchStructure:
    """The variable-length field for an `ofp_match`: header, fields, padding to a multiple of 8 bytes."""

    def pack(self, value: Match, /) -> bytes:
        return value.encode()

    def parse(self, buf: bytes, pos: int, end: int, /) -> tuple[Match, int]:
        if end - pos < 8:
            raise ProtocolError(f"a match needs 8 bytes, {end - pos} are left")
        kind, length = _HEAD.unpack_from(buf, pos)
        if kind != _OXM_MATCH:
            raise bad_value(f"a match of type {kind}; only OXM (1) is known")
        stop = pos + length
        after = stop + -length % 8
        if length < 4 or after > end:
            raise ProtocolError(f"a match with a length of {length}, {end - pos} bytes are left")
        if length <= _CACHED_LENGTH:
            return _parse_fields_cached(buf[pos + 4 : stop]), after
        return _parse_fields(buf, pos + 4, stop), after


MATCH: Final = MatchStructure()
"""The variable-length field that holds a match."""
