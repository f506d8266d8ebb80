"""TOML (1.0) with the line of each key, which :mod:`tomllib` does not tell."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any, Final

from libnetvirt.errors import Fault, InvalidDescription

#: The way to a value: names of keys, and positions in arrays of tables from 0.
Location = tuple[str | int, ...]

_KEY = re.compile(r"""\s*(?:([A-Za-z0-9_-]+)|"((?:\\.|[^"\\\n])*)"|'([^'\n]*)')[ \t]*""")
# What a value consists of: strings, comments, ends of lines, brackets, and all else.
_PIECE = re.compile(
    r'''"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:\\.|[^"\\\n])*"|'[^'\n]*'|#[^\n]*|[\[{]|[\]}]|\n|[^"'#\[\]{}\n]+''',
    re.DOTALL,
)
_SPACE = re.compile(r"(?:\s|#[^\n]*)*")
_PLACE: Final = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def read(text: str, file: str = "") -> tuple[dict[str, Any], Mapping[Location, int]]:
    """Parse a document; returns it, and the line of each key and table in it, from 1.

    Keys of inline tables have no line of their own. Raises InvalidDescription with the line.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = _PLACE.search(str(error))
        found = _PLACE.sub("", str(error))
        line = int(place.group(1)) if place and place.group(1) else text.rstrip("\n").count("\n") + 1
        raise InvalidDescription([Fault(f"is not TOML: {found}", file=file, line=line)]) from None
    return document, lines(text.replace("\r\n", "\n"))


def lines(text: str) -> dict[Location, int]:
    """The line of each key and table of a valid document."""
    found: dict[Location, int] = {}
    arrays: dict[Location, int] = {}
    table: Location = ()
    at, line, counted = 0, 1, 0
    while (at := _end(_SPACE, text, at)) < len(text):
        line, counted = line + text.count("\n", counted, at), at
        array = text.startswith("[[", at)
        if array or text[at] == "[":
            key, at = _dotted(text, at + (2 if array else 1))
            table = _resolved(key[:-1], arrays) + key[-1:]
            if array:
                arrays[table] = arrays.get(table, -1) + 1
                found.setdefault(table, line)
                table = (*table, arrays[table])
            else:
                table = _resolved(key, arrays)
            found[table] = line
            at = text.find("\n", at) % (len(text) + 1)
        else:
            key, at = _dotted(text, at)
            for depth in range(1, len(key) + 1):
                found.setdefault(table + key[:depth], line)
            at = _after_value(text, at + 1)
    return found


def line_of(location: Location, found: Mapping[Location, int]) -> int:
    """The line of a value, else of the innermost table around it; 0 if there is none."""
    while location and location not in found:
        location = location[:-1]
    return found.get(location, 0)


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


def _dotted(text: str, at: int) -> tuple[tuple[str, ...], int]:
    """A key, such as ``connections.core``, and where it ends."""
    names: list[str] = []
    while match := _KEY.match(text, at):
        bare, basic, literal = match.groups()
        quoted = tomllib.loads(f'key = "{basic}"')["key"] if basic is not None else literal
        names.append(bare if bare is not None else quoted)
        at = match.end()
        if not text.startswith(".", at):
            break
        at += 1
    return tuple(names), at


def _resolved(key: tuple[str, ...], arrays: Mapping[Location, int]) -> Location:
    """The table that a header names: of an array of tables, the last one."""
    location: Location = ()
    for name in key:
        location = (*location, name)
        if location in arrays:
            location = (*location, arrays[location])
    return location


def _after_value(text: str, at: int) -> int:
    depth = 0
    while at < len(text) and (match := _PIECE.match(text, at)):
        piece = match.group()
        if piece == "\n" and depth == 0:
            break
        depth += (piece in ("[", "{")) - (piece in ("]", "}"))
        at = match.end()
    return at
