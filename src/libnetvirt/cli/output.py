"""Writing results to stdout: tables that fit a terminal, plain columns in a pipe, JSON and YAML."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from libnetvirt.cli import screen
from libnetvirt.cli.options import Format


def line(text: str) -> None:
    """Write one line."""
    sys.stdout.write(text + "\n")


def document(value: Any, output: Format) -> None:
    """Write lists, dictionaries and scalars as JSON or YAML."""
    if output is Format.JSON:
        line(json.dumps(value, indent=2, ensure_ascii=False))
        return
    from ruamel.yaml import YAML

    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.allow_unicode = True
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    buffer = io.StringIO()
    writer.dump(value, buffer)
    sys.stdout.write(buffer.getvalue().removesuffix("...\n"))


def member(value: Any, output: Format) -> None:
    """Write one of a stream of documents: in JSON a line, in YAML a document that begins with ``---``."""
    if output is Format.JSON:
        line(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
    else:
        line("---")
        document(value, output)


def told(lines: Iterable[str], value: Any, output: Format) -> None:
    """Write what was done: sentences for people, one a line, or a document."""
    if not output.tabular:
        document(value, output)
        return
    for text in lines:
        line(text)


def table(
    headings: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    title: str = "",
    output: Format = Format.TABLE,
) -> None:
    """Write a table: coloured and fitted on a terminal, elsewhere and as ``wide`` with all columns."""
    cells = [[clean(cell) for cell in row] for row in rows]
    if title:
        line(title)
    if screen.is_terminal():
        # Room for everything, but with colours.
        room = sys.maxsize if output is Format.WIDE else screen.width()
        lines = screen.fitted(headings, cells, room)
    else:
        lines = screen.plain(headings, cells)
    for text in lines:
        line(text)


def notes(title: str, lines: Iterable[str]) -> None:
    """Write a list of sentences, one a line, below a title."""
    line(title)
    for text in lines:
        line(f"- {clean(text)}")


def pairs(rows: Iterable[tuple[str, object]]) -> None:
    """Write names and values, one pair a line."""
    found = [(name, clean(value)) for name, value in rows]
    width = max(len(name) for name, _ in found)
    for name, value in found:
        line(f"{name:<{width}}  {value}".rstrip())


def clean(value: object) -> str:
    """A value as text that cannot control the terminal: it may come from a switch."""
    return "".join(c if c.isprintable() else "?" for c in str(value))
