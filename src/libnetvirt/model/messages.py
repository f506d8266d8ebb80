"""How values and places are put into words: bounded, printable, with the names that documents use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: The most characters of a user's value that a message repeats.
SHOWN = 40

Location = tuple[int | str, ...]


def hyphenated(name: str) -> str:
    """``min_bandwidth`` -> ``min-bandwidth``, as documents write it."""
    return name.replace("_", "-")


def shown(value: Any, limit: int = SHOWN) -> str:
    """A value for a message: short and printable, whatever it is."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        # Python refuses to write numbers of more than 4300 digits.
        return repr(str(value)) if abs(value) < 10**limit else "a number that is too long"
    if isinstance(value, str):
        return repr(value[:limit]) + ("…" if len(value) > limit else "")
    if isinstance(value, Mapping):
        return "a group of fields"
    if isinstance(value, Sequence):
        return "a list"
    return shown(str(value), limit) if isinstance(value, float) else f"a {type(value).__name__}"


def key_text(key: str) -> str:
    """A field's name as a step of a path; names nobody knows may hold anything."""
    short = key[:SHOWN]
    return short + ("…" if len(key) > SHOWN else "") if short.isprintable() else repr(short)
