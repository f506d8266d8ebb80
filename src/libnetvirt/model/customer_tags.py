"""Endpoints that carry tags of their customers: ``any``, sets of VLANs, and a tag above the customers' own.

Most endpoints have one tag at most, which is the network's business: it is removed where a frame enters and
added where it leaves. These carry the tags that they find (CE-VLAN preservation in the words of MEF 10):

=================================== ==========================================================================
``vlan="any"``                      all frames of the port, as they are, tagged or not
``vlan="100-199,300"``              frames whose outermost tag is one of these VLANs, as they are
``vlan=20, inner_vlan="any"``       frames whose outermost tag is 20; what is below it stays as it is (QinQ)
=================================== ==========================================================================

All endpoints of a network do the same, so that whatever enters at one may leave at each other.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator
from functools import lru_cache
from typing import Any, Generic, TypeVar

from libnetvirt.model.messages import shown
from libnetvirt.model.scalars import whole_number

ANY = "any"
UNTAGGED = "untagged"
#: the most ranges that a set of VLANs may consist of
MAX_RANGES = 64
_LOW, _HIGH = 1, 4094
_SET = re.compile(r"\d{1,5}(?:\s*-\s*\d{1,5})?(?:\s*,\s*\d{1,5}(?:\s*-\s*\d{1,5})?)*", re.ASCII)
#: the longest text of a set that is read
_MAX_TEXT = 1000

#: first and last VLAN
Range = tuple[int, int]
T = TypeVar("T")


def vlan_tag(value: Any) -> int | str:
    """A VLAN from 1 to 4094 as a number; ``any``, or a set such as ``100-199,300``, as canonical text.

    A single VLAN whose tag is kept is written ``20-20``. Raises ValueError.
    """
    number = whole_number(value, 12)
    if number is not None:
        if not _LOW <= number <= _HIGH:
            raise ValueError(f"vlan {number} is out of range: {_LOW} to {_HIGH}")
        return number
    text = value.strip().lower() if isinstance(value, str) and len(value) <= _MAX_TEXT else ""
    if text == ANY:
        return ANY
    if not _SET.fullmatch(text):
        raise ValueError(
            f"{shown(value)} is not a vlan: write a whole number from {_LOW} to {_HIGH}, a set such as "
            f"100-199,300, or {ANY}"
        )
    return _set_text(_merged(sorted(_ranges(text))))


def inner_tag(value: Any) -> str:
    """``any``. Raises ValueError."""
    text = value.strip().lower() if isinstance(value, str) else ""
    if text != ANY:
        raise ValueError(f"{shown(value)} is not known: allowed is {ANY}")
    return ANY


def set_of(vlans: Iterable[int]) -> str:
    """The canonical text of a set of VLANs; ``any`` if it is empty. Raises ValueError."""
    merged = _merged((vlan, vlan) for vlan in sorted(vlans))
    return _set_text(merged) if merged else ANY


@lru_cache(maxsize=4096)
def ranges(vlans: str) -> tuple[Range, ...]:
    """The ranges of a canonical set, ascending. ``any`` is none: it is not a matter of VLANs."""
    return () if vlans == ANY else tuple(_ranges(vlans))


def contains(vlans: str, vlan: int) -> bool:
    """Whether a VLAN is in a canonical set."""
    return any(low <= vlan <= high for low, high in ranges(vlans))


def _ranges(text: str) -> Iterator[Range]:
    for part in text.split(","):
        first, _, last = (word.strip() for word in part.partition("-"))
        low, high = int(first), int(last or first)
        if not _LOW <= low <= high <= _HIGH:
            raise ValueError(f"vlan {part.strip()} is out of range: {_LOW} to {_HIGH}, the lower one first")
        yield low, high


def _merged(found: Iterable[Range]) -> list[Range]:
    merged: list[Range] = []
    for low, high in found:
        if merged and low <= merged[-1][1]:
            raise ValueError(f"vlan {low} is given twice")
        if merged and low == merged[-1][1] + 1:
            merged[-1] = merged[-1][0], high
        else:
            merged.append((low, high))
    if len(merged) > MAX_RANGES:
        raise ValueError(f"vlan has {len(merged)} ranges: at most {MAX_RANGES} are allowed")
    return merged


def _set_text(merged: list[Range]) -> str:
    if len(merged) == 1:
        return f"{merged[0][0]}-{merged[0][1]}"
    return ",".join(f"{low}-{high}" if high > low else str(low) for low, high in merged)


def is_wide(tag: str) -> bool:
    """Whether a tag (``Endpoint.tag``) stands for more than one kind of frames: ``any`` or a set."""
    return tag.startswith("vlan ") and not tag[5:].isdigit()


@lru_cache(maxsize=4096)
def _claimed(tag: str) -> tuple[Range, ...]:
    """The VLANs of a tag that has some."""
    number = tag[5:]
    return ((int(number), int(number)),) if number.isdigit() else ranges(number)


def overlap(one: str, other: str) -> bool:
    """Whether two tags of one port (``Endpoint.tag``) stand for some frame both. ``any`` stands for all."""
    if one == other or f"vlan {ANY}" in (one, other):
        return True
    if not (one.startswith("vlan ") and other.startswith("vlan ")):
        return False
    return any(a <= d and c <= b for a, b in _claimed(one) for c, d in _claimed(other))


class PortClaims(Generic[T]):
    """Which tags of which ports are claimed, and by what. A single tag is compared with ``any`` and sets, and
    one of these with all tags of the port."""

    def __init__(self) -> None:
        self._single: dict[Hashable, dict[str, T]] = {}
        self._wide: dict[Hashable, dict[str, T]] = {}

    def claim(self, port: Hashable, tag: str, held: T) -> T | None:
        """Claim a tag. Returns what has claimed it, or one that overlaps with it, before; None if nothing
        has."""
        if not is_wide(tag):
            single = self._single.setdefault(port, {})
            if tag in single:
                return single[tag]
            single[tag] = held
            return self._overlapping(self._wide.get(port, {}), tag) if self._wide else None
        wide = self._wide.setdefault(port, {})
        holder = self._overlapping(wide, tag) or self._overlapping(self._single.get(port, {}), tag)
        wide.setdefault(tag, held)
        return holder

    @staticmethod
    def _overlapping(held: dict[str, T], tag: str) -> T | None:
        return next((holder for other, holder in held.items() if overlap(tag, other)), None)
