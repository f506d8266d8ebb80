"""A parsed text as a tree of values, each with its line in the text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from libnetvirt.model.messages import Location


class LocatedValue:
    """A value and its line, from 1.

    ``value`` is a scalar, a dict from field names to located values, or a list of located values.
    """

    __slots__ = ("line", "value")

    def __init__(self, value: Any, line: int) -> None:
        self.value = value
        self.line = line

    def without_lines(self) -> Any:
        """Return the value as plain dicts, lists and scalars."""
        value = self.value
        if isinstance(value, dict):
            return {name: node.without_lines() for name, node in value.items()}
        if isinstance(value, list):
            return [node.without_lines() for node in value]
        return value

    def at(self, location: Sequence[int | str]) -> LocatedValue:
        """Return the value at a location or, if there is none, the innermost value that contains it.

        A list of one may be written as the value alone, so an index is ignored where there is no list.
        """
        node = self
        for step in location:
            inner = node.value
            if isinstance(inner, list):
                if not isinstance(step, int) or step >= len(inner):
                    break
                node = inner[step]
            elif isinstance(step, str):
                if not isinstance(inner, dict) or step not in inner:
                    break
                node = inner[step]
        return node


def value_at(value: Any, location: Location) -> Any:
    """Return the part of a plain value at a location."""
    for step in location:
        value = value[step]
    return value
