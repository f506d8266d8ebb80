"""Which elements and attributes an XML document may have where, and reading them into a tree with lines.

The RELAX NG schemas say the same; this module exists because a schema's messages stop at the first
fault and seldom name what is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lxml import etree

from libnetvirt.errors import Fault
from libnetvirt.formats.limits import MAX_FAULTS
from libnetvirt.formats.tree import Node
from libnetvirt.model.messages import key_text, shown

_XSI = "http://www.w3.org/2001/XMLSchema-instance"


@dataclass(frozen=True)
class Child:
    """An element allowed in another: the field it fills, its shape (None: text), whether it may repeat."""

    field: str
    shape: Shape | None = None
    many: bool = False


@dataclass(frozen=True)
class Shape:
    """What an element may hold."""

    attributes: tuple[str, ...] = ()
    children: Mapping[str, Child] = field(default_factory=dict)


def line_of(element: etree._Element) -> int:
    """The line, from 1, that an element starts on; 0 if it was not read from a text."""
    line = element.sourceline
    return line if isinstance(line, int) else 0


def attributes_of(element: etree._Element) -> list[tuple[str, str]]:
    """An element's attributes: (name, value)."""
    return [(str(name), str(value)) for name, value in element.attrib.items()]


def new_root(namespace: str, name: str) -> etree._Element:
    """The root of a document whose default namespace is ``namespace``."""
    nsmap: Any = {None: namespace}
    return etree.Element(f"{{{namespace}}}{name}", nsmap=nsmap)


def document_text(root: etree._Element) -> str:
    """An element tree as the text of a document."""
    etree.indent(root)
    body = etree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'


def read_shape(
    element: etree._Element, shape: Shape, namespace: str, faults: list[Fault], path: str = ""
) -> Node:
    """The element, which is at ``path``, as a tree; adds to ``faults`` whatever stands where it may not.

    Elements that are not known are not looked into.
    """
    line = line_of(element)
    found: dict[str, Node] = {}
    root = not path
    path = path or _local(element)
    for name, value in attributes_of(element):
        if name in shape.attributes:
            found[name] = Node(value, line)
        elif not (root and name.startswith(f"{{{_XSI}}}")):
            text = f"attribute {shown(_bare(name))} is not known here: {_allowed(shape)}"
            _add(faults, text, path, element)
    if _is_text(element.text):
        text = f"text {shown((element.text or '').strip())} is not allowed here: {_allowed(shape)}"
        _add(faults, text, path, element)
    prefix = f"{{{namespace}}}"
    for inner in element:
        tag = str(inner.tag)
        child = shape.children.get(tag.removeprefix(prefix)) if tag.startswith(prefix) else None
        if child is None:
            _add(
                faults,
                f"{_why(inner, shape, namespace)}: {_allowed(shape)}",
                f"{path}/{_local(inner)}",
                inner,
            )
        elif child.many:
            several = found.setdefault(child.field, Node([], line_of(inner))).value
            here = f"{path}/{_local(inner)}[{_label(inner) or len(several) + 1}]"
            several.append(_read_child(inner, child, namespace, faults, here))
        else:
            here = f"{path}/{_local(inner)}"
            if child.field in found:
                _add(faults, "is given twice: one is allowed", here, inner)
            else:
                found[child.field] = _read_child(inner, child, namespace, faults, here)
        if _is_text(inner.tail):
            text = f"text {shown((inner.tail or '').strip())} is not allowed here: {_allowed(shape)}"
            _add(faults, text, path, inner)
    return Node(found, line)


def _read_child(
    element: etree._Element, child: Child, namespace: str, faults: list[Fault], path: str
) -> Node:
    if child.shape is not None:
        return read_shape(element, child.shape, namespace, faults, path)
    for name, _ in attributes_of(element):
        _add(faults, f"attribute {shown(_bare(name))} is not known here: only text is allowed", path, element)
    for inner in element:
        _add(faults, "is not known here: only text is allowed", f"{path}/{_local(inner)}", inner)
    return Node(element.text or "", line_of(element))


def _add(faults: list[Fault], text: str, path: str, element: etree._Element) -> None:
    # One more than is listed, so that the reader of the list learns that there are more.
    if len(faults) <= MAX_FAULTS:
        faults.append(Fault(text, path, line=line_of(element)))


def _label(element: etree._Element) -> str:
    return key_text((element.get("uuid") or "").strip())


def _is_text(text: str | None) -> bool:
    return text is not None and not text.isspace()


def _local(element: etree._Element) -> str:
    return key_text(_bare(str(element.tag)))


def _bare(name: str) -> str:
    return name.rpartition("}")[2]


def _why(element: etree._Element, shape: Shape, namespace: str) -> str:
    if _bare(str(element.tag)) in shape.children:
        other = str(element.tag).rpartition("}")[0].lstrip("{")
        return f"is in {f'namespace {shown(other)}' if other else 'no namespace'} instead of {namespace}"
    return "is not known here"


def _allowed(shape: Shape) -> str:
    parts = []
    if shape.children:
        parts.append("elements " + ", ".join(shape.children))
    if shape.attributes:
        parts.append("attributes " + ", ".join(shape.attributes))
    return "allowed are " + "; ".join(parts)
