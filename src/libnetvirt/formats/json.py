"""Read and write JSON.

The standard library's parser is fast but does not tell lines. If there are faults, the text, by then known to
be JSON, is parsed a second time into a tree with lines.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from libnetvirt.errors import Fault, InvalidDescription
from libnetvirt.formats.document import Document, document_from
from libnetvirt.formats.dump import dump
from libnetvirt.formats.limits import MAX_DEPTH
from libnetvirt.formats.tree import LocatedValue
from libnetvirt.model import VirtualNetwork
from libnetvirt.model.messages import shown

# The tokens of JSON, for a text that is known to be valid.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+|\n', re.DOTALL)


def write(networks: Sequence[VirtualNetwork]) -> str:
    """Return the networks in JSON."""
    return json.dumps(dump(networks), indent=2, ensure_ascii=False) + "\n"


def read(text: str) -> Document:
    """Parse JSON. Raises InvalidDescription if the text is not JSON."""
    content, repeated = load(text)
    document = document_from(content, lambda: parse_tree(text, []))
    document.faults.extend(repeated)
    return document


def load(text: str) -> tuple[Any, list[Fault]]:
    """The content of a JSON text as plain values, and a fault for each field that is given twice.

    Raises InvalidDescription if the text is not JSON, is nested too deep, or has a number that is too long.
    """
    twice = False

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal twice
        found = dict(pairs)
        twice = twice or len(found) != len(pairs)
        return found

    try:
        content = json.loads(
            text, object_pairs_hook=members, parse_constant=_reject_constant, parse_int=_number
        )
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
    if twice or not _within_depth(content):
        # Find the lines of the repeated keys, or where the nesting is too deep.
        parse_tree(text, repeated)
    return content, repeated


def _reject_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not allowed")


def _number(digits: str) -> int:
    if len(digits) > 40:
        raise ValueError(f"the number {digits[:20]}… is too long")
    return int(digits)


def _too_deep(line: int) -> Fault:
    return Fault(f"is nested deeper than {MAX_DEPTH} levels: a description needs six", line=line)


def _within_depth(content: Any) -> bool:
    """Whether the nesting is at most `MAX_DEPTH` levels."""
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


def parse_tree(text: str, repeated: list[Fault]) -> LocatedValue:
    """Parse valid JSON into a tree with lines. Adds a fault to ``repeated`` for each repeated key.

    Raises InvalidDescription if the nesting is too deep.
    """
    line = 1
    top = LocatedValue([], 1)
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
        node = LocatedValue({} if first == "{" else [] if first == "[" else None, line)
        if isinstance(outer, dict) and key is not None:
            if key in outer:
                repeated.append(Fault(f"field {shown(key)} is given twice: remove one", line=key_line))
            outer[key] = node
            key = None
        else:
            outer.append(node)
        if first in "{[":
            if len(stack) > MAX_DEPTH:
                raise InvalidDescription([_too_deep(line)])
            stack.append(node)
    found: LocatedValue = top.value[0]
    return found
