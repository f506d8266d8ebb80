"""Read and write YAML 1.2.

A text in plain block style is read by ``yaml_fast``; all others by the event parser of ruamel.yaml and a tree
builder that is safe for hostile input. Scalars are kept as text, so a switch ``007`` or a name ``no`` is not
converted to a number or a boolean. Tags and repeated keys are faults, and the repetition by aliases is
bounded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from libnetvirt.errors import Fault, InvalidDescription
from libnetvirt.formats.document import Document, document_from
from libnetvirt.formats.dump import dump
from libnetvirt.formats.limits import MAX_ALIASED, MAX_DEPTH, MAX_YAML
from libnetvirt.formats.tree import LocatedValue
from libnetvirt.formats.yaml_fast import NULL_SCALARS, read_block_style
from libnetvirt.model import VirtualNetwork
from libnetvirt.model.messages import shown

_PLAIN_TAGS = {None, "!", "tag:yaml.org,2002:str", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}

# Texts that every YAML reader, of version 1.1 or 1.2, reads as a string without quotes.
_UNQUOTED = re.compile(
    r"(?!(?:null|true|false|yes|no|on|off|y|n)\Z)"
    r"(?:[a-z][a-z0-9_./-]*(?: [a-z0-9_./-]+)*"
    r"|[0-9]+(?:\.[0-9]+)? [a-z/]+"
    r"|[0-9]+(?:\.[0-9]+){3}(?:/[0-9]+)?)",
    re.ASCII | re.IGNORECASE,
)
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


def write(networks: Sequence[VirtualNetwork]) -> str:
    """Return the networks in YAML, in plain block style."""
    lines: list[str] = []
    _emit(dump(networks), "", lines)
    return "\n".join(lines) + "\n"


def _emit(content: dict[str, Any], indent: str, lines: list[str]) -> None:
    for key, value in content.items():
        if isinstance(value, dict) and value:
            lines.append(f"{indent}{key}:")
            _emit(value, indent + "  ", lines)
        elif isinstance(value, list) and value:
            lines.append(f"{indent}{key}:")
            for one in value:
                if isinstance(one, dict):
                    start = len(lines)
                    _emit(one, indent + "  ", lines)
                    lines[start] = f"{indent}- {lines[start].lstrip()}"
                else:
                    lines.append(f"{indent}- {_scalar(key, one)}")
        else:
            lines.append(f"{indent}{key}: {'{}' if value == {} else _scalar(key, value)}")


def _scalar(key: str, value: Any) -> str:
    text = str(value)
    if _UNQUOTED.fullmatch(text) or (key != "name" and _NUMBER.fullmatch(text)):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def read(text: str) -> Document:
    """Parse YAML. Raises InvalidDescription if the text is not YAML, or neither a mapping nor a list."""
    top = read_block_style(text)
    faults: list[Fault] = []
    if top is None:
        top, faults = parse_tree(text)
    document = document_from(top.without_lines(), lambda: top)
    document.faults.extend(faults)
    return document


def parse_tree(text: str) -> tuple[LocatedValue, list[Fault]]:
    """Parse a text in any YAML syntax. Returns the tree with lines and the faults.

    Raises InvalidDescription if the text is not YAML, or neither a mapping nor a list.
    """
    if len(text) > MAX_YAML:
        limit = f"{MAX_YAML // 2**20} MiB"
        text = f"is larger than {limit} and not in plain block style: use plain block style, JSON or XML"
        raise InvalidDescription([Fault(text)])
    builder = _Builder()
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            builder.handle(event)
    except YAMLError as error:
        raise InvalidDescription([_syntax_fault(error)]) from None
    except InvalidDescription:
        raise
    except Exception:
        # On hostile input the parser raises exceptions that it does not document.
        raise InvalidDescription([Fault(f"is not XML, JSON or YAML. {_EXPECTED}")]) from None
    top = builder.top
    if top is None or not isinstance(top.value, (dict, list)):
        line = top.line if top else 1
        raise InvalidDescription(
            [Fault(f"is no network description in XML, JSON or YAML. {_EXPECTED}", line=line)]
        )
    return top, builder.faults


_EXPECTED = (
    "XML starts with '<', JSON with '{' or '[', and YAML is a list of fields such as 'name: blue': "
    "see docs/description.md"
)


def _syntax_fault(error: YAMLError) -> Fault:
    if not isinstance(error, MarkedYAMLError):
        return Fault(f"is not XML or JSON, and contains characters that YAML does not allow. {_EXPECTED}")
    mark = error.problem_mark or error.context_mark
    problem = " ".join(str(error.problem or error.context or "").split())[:80]
    where = f" (column {mark.column + 1})" if mark else ""
    return Fault(
        f"is not XML or JSON, nor YAML: {problem}{where}. {_EXPECTED}", line=mark.line + 1 if mark else 0
    )


class _OpenCollection:
    """A mapping or list whose end event has not been handled yet.

    ``size`` is the number of values in it, itself included.
    """

    __slots__ = ("anchor", "key", "key_line", "node", "size")

    def __init__(self, node: LocatedValue, anchor: str | None) -> None:
        self.node = node
        self.anchor = anchor
        self.key: str | None = None
        self.key_line = 0
        self.size = 1


class _Builder:
    """Builds the tree from the parser's events, without recursion."""

    def __init__(self) -> None:
        self.top: LocatedValue | None = None
        self.faults: list[Fault] = []
        self._stack: list[_OpenCollection] = []
        self._anchors: dict[str, tuple[LocatedValue, int]] = {}
        self._aliased = 0
        self._documents = 0

    def handle(self, event: Any) -> None:
        """Handle one event. Raises InvalidDescription if a fault makes the rest unreadable."""
        if isinstance(event, ScalarEvent):
            self._check_tag(event)
            nothing = event.implicit[0] and event.style is None and event.value in NULL_SCALARS
            node = LocatedValue(None if nothing else event.value, event.start_mark.line + 1)
            if event.anchor:
                self._anchors[event.anchor] = (node, 1)
            self._add(node, 1)
        elif isinstance(event, (MappingStartEvent, SequenceStartEvent)):
            self._check_tag(event)
            line = event.start_mark.line + 1
            if len(self._stack) >= MAX_DEPTH:
                text = f"is nested deeper than {MAX_DEPTH} levels: a description needs six"
                raise InvalidDescription([Fault(text, line=line)])
            node = LocatedValue({} if isinstance(event, MappingStartEvent) else [], line)
            self._stack.append(_OpenCollection(node, event.anchor))
        elif isinstance(event, (MappingEndEvent, SequenceEndEvent)):
            done = self._stack.pop()
            if done.anchor:
                self._anchors[done.anchor] = (done.node, done.size)
            self._add(done.node, done.size)
        elif isinstance(event, AliasEvent):
            self._alias(event)
        elif isinstance(event, DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                text = "a second YAML document starts here: put the networks into one list"
                raise InvalidDescription([Fault(text, line=event.start_mark.line + 1)])

    def _alias(self, event: AliasEvent) -> None:
        line = event.start_mark.line + 1
        node, size = self._anchors.get(event.anchor, (None, 0))
        if node is None:
            text = f"alias {shown(event.anchor)} refers to no anchor whose value is complete before it"
            raise InvalidDescription([Fault(text, line=line)])
        self._aliased += size
        if self._aliased > MAX_ALIASED:
            text = f"aliases repeat more than {MAX_ALIASED} values: write the values without aliases"
            raise InvalidDescription([Fault(text, line=line)])
        self._add(node, size)

    def _check_tag(self, event: ScalarEvent | MappingStartEvent | SequenceStartEvent) -> None:
        tag = str(event.tag) if event.tag is not None else None
        if tag not in _PLAIN_TAGS:
            text = f"tag {shown(tag)} is not allowed: write the plain value"
            self.faults.append(Fault(text, line=event.start_mark.line + 1))

    def _add(self, node: LocatedValue, size: int) -> None:
        if not self._stack:
            self.top = node
            return
        outer = self._stack[-1]
        outer.size += size
        if isinstance(outer.node.value, list):
            outer.node.value.append(node)
        elif outer.key is None:
            if not isinstance(node.value, str):
                text = f"{shown(node.value)} is found where the name of a field is expected"
                raise InvalidDescription([Fault(text, line=node.line)])
            outer.key, outer.key_line = node.value, node.line
        else:
            if outer.key in outer.node.value:
                text = f"field {shown(outer.key)} is given twice: remove one"
                self.faults.append(Fault(text, line=outer.key_line))
            outer.node.value[outer.key] = node
            outer.key = None
