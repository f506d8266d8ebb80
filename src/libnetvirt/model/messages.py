"""Values and names in messages: bounded, printable, named as in documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: How many characters of a user's value a message repeats at most.
SHOWN = 40

#: The path to a value in raw input: names of fields, and positions in lists from 0.
Location = tuple[int | str, ...]


def hyphenated(name: str) -> str:
    """``min_bandwidth`` -> ``min-bandwidth``, as documents write it."""
    return name.replace("_", "-")


def shown(value: Any, limit: int = SHOWN) -> str:
    """A value as messages show it: printable, at most ``limit`` characters of it."""
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
    """A field's name as messages show it. Names of unknown fields may hold any text."""
    short = key[:SHOWN]
    return short + ("…" if len(key) > SHOWN else "") if short.isprintable() else repr(short)
