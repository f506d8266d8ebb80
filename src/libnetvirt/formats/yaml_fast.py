"""A fast reader for YAML in plain block style, the style that :mod:`libnetvirt.formats.yaml` writes.

Plain block style has one field or list item (``- ``) on a line, plain or quoted scalars within one line, and
comments on lines of their own. For any other text, valid or not, the reader returns None, and ruamel.yaml
reads it, which supports all of YAML but takes seconds for thousands of endpoints. A property test checks that
both readers return equal trees.
"""

from __future__ import annotations

import re

from libnetvirt.formats.limits import MAX_DEPTH
from libnetvirt.formats.tree import LocatedValue

_LINE = re.compile(
    r"(?P<indent> *)(?P<dash>- +)?"
    r"(?:(?P<key>[A-Za-z][A-Za-z0-9_-]*):(?: +|\Z))?"
    r"(?:(?P<plain>[A-Za-z0-9][A-Za-z0-9._/+-]*(?:[ :][A-Za-z0-9._/+-]+)*)"
    r'|"(?P<double>(?:[^"\\]|\\["\\])*)"'
    r"|'(?P<single>[^']*)'"
    r"|(?P<empty>\{\}|\[\]))? *",
)
_ESCAPED = re.compile(r'\\(["\\])')

#: plain scalars that mean null
NULL_SCALARS = frozenset({"", "~", "null", "Null", "NULL"})


class _OpenCollection:
    """A mapping or list that may get more fields or items, and the column where their lines start."""

    __slots__ = ("column", "value")

    def __init__(self, column: int, value: dict[str, LocatedValue] | list[LocatedValue]) -> None:
        self.column = column
        self.value = value


def _scalar(found: re.Match[str]) -> str | dict[str, LocatedValue] | list[LocatedValue] | None:
    kind = found.lastgroup
    if kind == "plain":
        text = found["plain"]
        return None if text in NULL_SCALARS else text
    if kind == "double":
        return _ESCAPED.sub(r"\1", found["double"])
    if kind == "single":
        return found["single"]
    return {} if found["empty"] == "{}" else []


def read_block_style(text: str) -> LocatedValue | None:
    """Return the tree of a text in plain block style; None if it has another style or a fault."""
    lines = text.split("\n")
    if not all(line.isprintable() for line in lines):
        return None
    stack: list[_OpenCollection] = []
    top: LocatedValue | None = None
    # The field whose value starts on a later line, and the column of the field's name.
    waiting: LocatedValue | None = None
    waiting_column = 0
    for number, line in enumerate(lines, 1):
        bare = line.lstrip(" ")
        if not bare or bare[0] == "#":
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            return None
        indent, dash, key = found.group("indent", "dash", "key")
        column = len(indent)
        valued = found.lastgroup not in ("indent", "dash", "key")
        if (key is None and not dash) or (key is None and not valued) or key in NULL_SCALARS:
            return None
        if waiting is not None or top is None:
            if top is None:
                if column:
                    return None
                waiting = top = LocatedValue(None, number)
                waiting_column = -1
            node = waiting
            waiting = None
            if node is not None and column >= waiting_column + (0 if dash else 1):
                node.value = [] if dash else {}
                node.line = number
                stack.append(_OpenCollection(column, node.value))
        while stack and (
            stack[-1].column > column
            or (stack[-1].column == column and not dash and isinstance(stack[-1].value, list))
        ):
            stack.pop()
        if not stack or stack[-1].column != column or len(stack) > MAX_DEPTH - 2:
            return None
        outer = stack[-1].value
        if dash:
            if not isinstance(outer, list):
                return None
            if key is None:
                outer.append(LocatedValue(_scalar(found), number))
                continue
            inner: dict[str, LocatedValue] = {}
            outer.append(LocatedValue(inner, number))
            column += len(dash)
            stack.append(_OpenCollection(column, inner))
            outer = inner
        if not isinstance(outer, dict) or key is None or key in outer:
            return None
        field = LocatedValue(_scalar(found) if valued else None, number)
        outer[key] = field
        if not valued:
            waiting, waiting_column = field, column
    return top
