"""One endpoint or one constraint in XML, YAML or JSON, as it stands in a description."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from libnetvirt.errors import Fault, InvalidDescription
from libnetvirt.formats.decoding import decode_text, detect_format
from libnetvirt.formats.limits import MAX_BYTES
from libnetvirt.formats.tree import LocatedValue
from libnetvirt.model import Constraint, Endpoint
from libnetvirt.model.element import path_text

P = TypeVar("P", Endpoint, Constraint)

#: what is read of a text: the content as plain values, the same with lines, the faults found so far
_Parsed = tuple[Any, Callable[[], LocatedValue], list[Fault]]


def read_part(kind: type[P], text: str | bytes, *, file: str = "") -> P:
    """The endpoint or constraint in a text. Raises InvalidDescription with every fault, its line and path."""
    try:
        return _read(kind, decode_text(text))
    except InvalidDescription as error:
        raise InvalidDescription(replace(fault, file=file) for fault in error.faults) from None


def read_part_file(kind: type[P], path: str) -> P:
    """Like :func:`read_part`, from a file. Blocks while reading; reads no more than the maximum size."""
    try:
        with Path(path).open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise InvalidDescription([Fault(f"cannot be read: {error.strerror}", file=path)]) from None
    return read_part(kind, content, file=path)


def _read(kind: type[P], text: str) -> P:
    format = detect_format(text)
    content, tree, faults = _xml(text, kind.element_name()) if format == "xml" else _PARSERS[format](text)
    if not isinstance(content, Mapping):
        fields = ", ".join(kind.document_names()[:3])
        raise InvalidDescription([Fault(f"is not one {kind.element_name()}: give its fields, {fields} …")])
    part, found = kind.examined(content)
    faults += [
        Fault(text, path_text(kind, location, content), line=tree().at(location).line)
        for location, text in found
    ]
    if faults or part is None:
        raise InvalidDescription(sorted(faults, key=lambda fault: fault.line))
    return part


def _json(text: str) -> _Parsed:
    from libnetvirt.formats import json

    content, repeated = json.load(text)
    return content, lambda: json.parse_tree(text, []), repeated


def _yaml(text: str) -> _Parsed:
    from libnetvirt.formats import yaml

    top, faults = yaml.parse_tree(text)
    return top.without_lines(), lambda: top, faults


def _xml(text: str, name: str) -> _Parsed:
    from libnetvirt.formats import xml

    faults: list[Fault] = []
    top = xml.read_part(text, name, faults)
    return top.without_lines(), lambda: top, faults


_PARSERS: Mapping[str, Callable[[str], _Parsed]] = {"json": _json, "yaml": _yaml}
