"""Tables of the elements and attributes that an XML document may have, and a reader driven by them.

The RELAX NG schemas define the same language. They are not used for reading, because a validator stops at the
first fault and seldom tells what is allowed instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lxml import etree

from libnetvirt.errors import Fault
from libnetvirt.formats.limits import MAX_FAULTS
from libnetvirt.formats.tree import LocatedValue
from libnetvirt.model.messages import key_text, shown

_XSI = "http://www.w3.org/2001/XMLSchema-instance"


@dataclass(frozen=True)
class ChildSchema:
    """An element that may occur in another one.

    ``field`` is the name of the model's field, ``schema`` the element's own schema (None: it contains text
    only), ``repeated``: whether it may occur more than once.
    """

    field: str
    schema: ElementSchema | None = None
    repeated: bool = False


@dataclass(frozen=True)
class ElementSchema:
    """The attributes and child elements that an element may have."""

    attributes: tuple[str, ...] = ()
    children: Mapping[str, ChildSchema] = field(default_factory=dict)


def line_of(element: etree._Element) -> int:
    """Return the line, from 1, of an element's start tag; 0 if it was not read from a text."""
    line = element.sourceline
    return line if isinstance(line, int) else 0


def attributes_of(element: etree._Element) -> list[tuple[str, str]]:
    """Return an element's attributes as pairs (name, value)."""
    return [(str(name), str(value)) for name, value in element.attrib.items()]


def new_root(namespace: str, name: str) -> etree._Element:
    """Return a new root element with ``namespace`` as the default namespace."""
    nsmap: Any = {None: namespace}
    return etree.Element(f"{{{namespace}}}{name}", nsmap=nsmap)


def document_text(root: etree._Element) -> str:
    """Return an element tree as a text, with XML declaration and indentation."""
    etree.indent(root)
    body = etree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'


def read_element(
    element: etree._Element, schema: ElementSchema, namespace: str, faults: list[Fault], path: str = ""
) -> LocatedValue:
    """Read an element into a tree with lines. Adds a fault for each part that the schema does not allow.

    ``path`` is the element's path; empty for the root. Unknown elements are reported and skipped.
    """
    line = line_of(element)
    fields: dict[str, LocatedValue] = {}
    root = not path
    path = path or _local_name(element)
    for name, value in attributes_of(element):
        if name in schema.attributes:
            fields[name] = LocatedValue(value, line)
        elif not (root and name.startswith(f"{{{_XSI}}}")):
            text = f"attribute {shown(_without_namespace(name))} is not known here: {_allowed_text(schema)}"
            _add_fault(faults, text, path, element)
    if _is_text(element.text):
        text = f"text {shown((element.text or '').strip())} is not allowed here: {_allowed_text(schema)}"
        _add_fault(faults, text, path, element)
    prefix = f"{{{namespace}}}"
    for inner in element:
        tag = str(inner.tag)
        child = schema.children.get(tag.removeprefix(prefix)) if tag.startswith(prefix) else None
        if child is None:
            _add_fault(
                faults,
                f"{_reason(inner, schema, namespace)}: {_allowed_text(schema)}",
                f"{path}/{_local_name(inner)}",
                inner,
            )
        elif child.repeated:
            several = fields.setdefault(child.field, LocatedValue([], line_of(inner))).value
            here = f"{path}/{_local_name(inner)}[{_uuid_label(inner) or len(several) + 1}]"
            several.append(_read_child(inner, child, namespace, faults, here))
        else:
            here = f"{path}/{_local_name(inner)}"
            if child.field in fields:
                _add_fault(faults, "is given twice: remove one", here, inner)
            else:
                fields[child.field] = _read_child(inner, child, namespace, faults, here)
        if _is_text(inner.tail):
            text = f"text {shown((inner.tail or '').strip())} is not allowed here: {_allowed_text(schema)}"
            _add_fault(faults, text, path, inner)
    return LocatedValue(fields, line)


def _read_child(
    element: etree._Element, child: ChildSchema, namespace: str, faults: list[Fault], path: str
) -> LocatedValue:
    if child.schema is not None:
        return read_element(element, child.schema, namespace, faults, path)
    for name, _ in attributes_of(element):
        _add_fault(
            faults,
            f"attribute {shown(_without_namespace(name))} is not known here: only text is allowed",
            path,
            element,
        )
    for inner in element:
        _add_fault(faults, "is not known here: only text is allowed", f"{path}/{_local_name(inner)}", inner)
    return LocatedValue(element.text or "", line_of(element))


def _add_fault(faults: list[Fault], text: str, path: str, element: etree._Element) -> None:
    # One more than is listed, so that the list can end with a fault that says that there are more.
    if len(faults) <= MAX_FAULTS:
        faults.append(Fault(text, path, line=line_of(element)))


def _uuid_label(element: etree._Element) -> str:
    return key_text((element.get("uuid") or "").strip())


def _is_text(text: str | None) -> bool:
    return text is not None and not text.isspace()


def _local_name(element: etree._Element) -> str:
    return key_text(_without_namespace(str(element.tag)))


def _without_namespace(name: str) -> str:
    return name.rpartition("}")[2]


def _reason(element: etree._Element, schema: ElementSchema, namespace: str) -> str:
    if _without_namespace(str(element.tag)) in schema.children:
        other = str(element.tag).rpartition("}")[0].lstrip("{")
        return f"is in {f'namespace {shown(other)}' if other else 'no namespace'} instead of {namespace}"
    return "is not known here"


def _allowed_text(schema: ElementSchema) -> str:
    parts = []
    if schema.children:
        parts.append("elements " + ", ".join(schema.children))
    if schema.attributes:
        parts.append("attributes " + ", ".join(schema.attributes))
    return "allowed are " + "; ".join(parts)
