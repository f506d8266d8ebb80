"""YAML 1.2, by ruamel.yaml's parser and a builder of our own.

Scalars stay the texts that they are, so a switch ``007`` or a name ``no`` is not turned into something
else; tags are refused; aliases may repeat only so much; keys may not repeat at all.
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
from libnetvirt.formats.document import Document, structured
from libnetvirt.formats.dump import plain
from libnetvirt.formats.limits import MAX_ALIASED, MAX_DEPTH, MAX_YAML
from libnetvirt.formats.tree import Node
from libnetvirt.formats.yaml_fast import NOTHING, read_block
from libnetvirt.model import VirtualNetwork
from libnetvirt.model.messages import shown

_PLAIN_TAGS = {None, "!", "tag:yaml.org,2002:str", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}

# Texts that no YAML reader, of version 1.1 or 1.2, takes for anything but a text.
_SAFE = re.compile(
    r"(?!(?:null|true|false|yes|no|on|off|y|n)\Z)"
    r"(?:[a-z][a-z0-9_./-]*(?: [a-z0-9_./-]+)*"
    r"|[0-9]+(?:\.[0-9]+)? [a-z/]+"
    r"|[0-9]+(?:\.[0-9]+){3}(?:/[0-9]+)?)",
    re.ASCII | re.IGNORECASE,
)
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


def write(networks: Sequence[VirtualNetwork]) -> str:
    """The networks in YAML, in block style."""
    lines: list[str] = []
    _emit(plain(networks), "", lines)
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
    if _SAFE.fullmatch(text) or (key != "name" and _NUMBER.fullmatch(text)):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def read(text: str) -> Document:
    """Read YAML. Raises InvalidDescription where the text is not YAML or not a description at all."""
    top = read_block(text)
    faults: list[Fault] = []
    if top is None:
        top, faults = parsed(text)
    document = structured(top.plain(), lambda: top)
    document.faults.extend(faults)
    return document


def parsed(text: str) -> tuple[Node, list[Fault]]:
    """The tree that all of YAML's syntax makes of a text, and the faults in it. Raises InvalidDescription."""
    if len(text) > MAX_YAML:
        limit = f"{MAX_YAML // 2**20} MiB"
        text = f"is larger than {limit} and not in plain block style: write it so, or in JSON or XML"
        raise InvalidDescription([Fault(text)])
    builder = _Builder()
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            builder.take(event)
    except YAMLError as error:
        raise InvalidDescription([_syntax(error)]) from None
    except InvalidDescription:
        raise
    except Exception:
        # Hostile input makes the parser fail in ways that it does not document.
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


def _syntax(error: YAMLError) -> Fault:
    if not isinstance(error, MarkedYAMLError):
        return Fault(f"is not XML or JSON, and holds characters that YAML does not allow. {_EXPECTED}")
    mark = error.problem_mark or error.context_mark
    problem = " ".join(str(error.problem or error.context or "").split())[:80]
    where = f" (column {mark.column + 1})" if mark else ""
    return Fault(
        f"is not XML or JSON, nor YAML: {problem}{where}. {_EXPECTED}", line=mark.line + 1 if mark else 0
    )


class _Open:
    """A mapping or list whose end has not come yet."""

    __slots__ = ("anchor", "key", "key_line", "node", "size")

    def __init__(self, node: Node, anchor: str | None) -> None:
        self.node = node
        self.anchor = anchor
        self.key: str | None = None
        self.key_line = 0
        self.size = 1


class _Builder:
    """Takes the parser's events and builds the tree, without recursion."""

    def __init__(self) -> None:
        self.top: Node | None = None
        self.faults: list[Fault] = []
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._aliased = 0
        self._documents = 0

    def take(self, event: Any) -> None:
        """One event. Raises InvalidDescription where reading on makes no sense."""
        if isinstance(event, ScalarEvent):
            self._tag(event)
            nothing = event.implicit[0] and event.style is None and event.value in NOTHING
            node = Node(None if nothing else event.value, event.start_mark.line + 1)
            if event.anchor:
                self._anchors[event.anchor] = (node, 1)
            self._add(node, 1)
        elif isinstance(event, (MappingStartEvent, SequenceStartEvent)):
            self._tag(event)
            line = event.start_mark.line + 1
            if len(self._stack) >= MAX_DEPTH:
                text = f"is nested deeper than {MAX_DEPTH} levels: a description needs six"
                raise InvalidDescription([Fault(text, line=line)])
            node = Node({} if isinstance(event, MappingStartEvent) else [], line)
            self._stack.append(_Open(node, event.anchor))
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
            text = f"alias {shown(event.anchor)} names nothing that is complete before it"
            raise InvalidDescription([Fault(text, line=line)])
        self._aliased += size
        if self._aliased > MAX_ALIASED:
            text = f"aliases repeat more than {MAX_ALIASED} values: write the document out"
            raise InvalidDescription([Fault(text, line=line)])
        self._add(node, size)

    def _tag(self, event: ScalarEvent | MappingStartEvent | SequenceStartEvent) -> None:
        tag = str(event.tag) if event.tag is not None else None
        if tag not in _PLAIN_TAGS:
            text = f"tag {shown(tag)} is not allowed: write the plain value"
            self.faults.append(Fault(text, line=event.start_mark.line + 1))

    def _add(self, node: Node, size: int) -> None:
        if not self._stack:
            self.top = node
            return
        outer = self._stack[-1]
        outer.size += size
        if isinstance(outer.node.value, list):
            outer.node.value.append(node)
        elif outer.key is None:
            if not isinstance(node.value, str):
                text = f"{shown(node.value)} stands where the name of a field is expected"
                raise InvalidDescription([Fault(text, line=node.line)])
            outer.key, outer.key_line = node.value, node.line
        else:
            if outer.key in outer.node.value:
                text = f"{shown(outer.key)} is given twice in one group of fields"
                self.faults.append(Fault(text, line=outer.key_line))
            outer.node.value[outer.key] = node
            outer.key = None
