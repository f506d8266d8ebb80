"""JSON: read fast, and once more with lines where there are faults."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from libnetvirt.errors import Fault, InvalidDescription
from libnetvirt.formats.document import Document, structured
from libnetvirt.formats.dump import plain
from libnetvirt.formats.limits import MAX_DEPTH
from libnetvirt.formats.tree import Node
from libnetvirt.model import VirtualNetwork
from libnetvirt.model.messages import shown

# The tokens of a text that is known to be JSON.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+|\n', re.DOTALL)


def write(networks: Sequence[VirtualNetwork]) -> str:
    """The networks in JSON."""
    return json.dumps(plain(networks), indent=2, ensure_ascii=False) + "\n"


def read(text: str) -> Document:
    """Read JSON. Raises InvalidDescription where the text is not JSON at all."""
    twice = False

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal twice
        found = dict(pairs)
        twice = twice or len(found) != len(pairs)
        return found

    try:
        content = json.loads(text, object_pairs_hook=members, parse_constant=_no_constant, parse_int=_number)
    except json.JSONDecodeError as error:
        reason = error.msg[:1].lower() + error.msg[1:]
        raise InvalidDescription(
            [Fault(f"is not JSON: {reason} (column {error.colno})", line=error.lineno)]
        ) from None
    except RecursionError:
        raise InvalidDescription([_too_deep(0)]) from None
    except ValueError as error:
        raise InvalidDescription([Fault(f"is not JSON: {error}")]) from None
    repeated: list[Fault] = []
    if twice or not _shallow(content):
        # Only the scanner knows where.
        _scan(text, repeated)
    document = structured(content, lambda: _scan(text, []))
    document.faults.extend(repeated)
    return document


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not allowed")


def _number(digits: str) -> int:
    if len(digits) > 40:
        raise ValueError(f"the number {digits[:20]}… is too long")
    return int(digits)


def _too_deep(line: int) -> Fault:
    return Fault(f"is nested deeper than {MAX_DEPTH} levels: a description needs six", line=line)


def _shallow(content: Any) -> bool:
    """Whether nothing is nested deeper than allowed."""
    level = [content] if isinstance(content, (dict, list)) else []
    for _ in range(MAX_DEPTH):
        if not level:
            return True
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
    return False


def _scan(text: str, repeated: list[Fault]) -> Node:
    """The tree with lines of a text that is JSON. Adds a fault for each key that an object has twice.

    Raises InvalidDescription where it is nested too deep.
    """
    line = 1
    top = Node([], 1)
    stack = [top]
    key: str | None = None
    key_line = 1
    for token in _TOKEN.finditer(text):
        word = token.group()
        first = word[0]
        if first == "\n":
            line += 1
            continue
        if first in "}]":
            stack.pop()
            continue
        if first in ",:":
            continue
        outer = stack[-1].value
        if isinstance(outer, dict) and key is None:
            key, key_line = json.loads(word), line
            continue
        node = Node({} if first == "{" else [] if first == "[" else None, line)
        if isinstance(outer, dict) and key is not None:
            if key in outer:
                repeated.append(Fault(f"{shown(key)} is given twice in one group of fields", line=key_line))
            outer[key] = node
            key = None
        else:
            outer.append(node)
        if first in "{[":
            if len(stack) > MAX_DEPTH:
                raise InvalidDescription([_too_deep(line)])
            stack.append(node)
    found: Node = top.value[0]
    return found
