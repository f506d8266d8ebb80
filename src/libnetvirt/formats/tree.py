"""The tree that readers make of a text: values, each with its line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from libnetvirt.model.messages import Location


class Node:
    """A value of a document: a scalar, a dict of names to nodes, or a list of nodes; and its line from 1."""

    __slots__ = ("line", "value")

    def __init__(self, value: Any, line: int) -> None:
        self.value = value
        self.line = line

    def plain(self) -> Any:
        """The value without the lines. Nested at most as deep as readers allow."""
        value = self.value
        if isinstance(value, dict):
            return {name: node.plain() for name, node in value.items()}
        if isinstance(value, list):
            return [node.plain() for node in value]
        return value

    def at(self, location: Sequence[int | str]) -> Node:
        """The node at a location or, where it is missing, the innermost one around it.

        One value may stand for a list of one, so a number is passed over where there is no list.
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


def member(value: Any, location: Location) -> Any:
    """The part of a plain value that a location names."""
    for step in location:
        value = value[step]
    return value
