"""Writing results to stdout: tables on a terminal, plain columns in a pipe, JSON and YAML for programs."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from libnetvirt.cli.options import Format

_STYLES: Mapping[str, str] = {
    "active": "green",
    "up": "green",
    "yes": "green",
    "connected": "green",
    "pending": "yellow",
    "degraded": "yellow",
    "unconfirmed": "yellow",
    "disconnected": "yellow",
    "down": "red",
    "no": "dim",
}


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


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> None:
    """Write a table: coloured and folded to its width on a terminal, elsewhere plain and never truncated."""
    cells = [[_clean(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        _plain(headings, cells, title)
        return
    # Imported here because a command whose output goes into a pipe starts sooner without it.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, title=title or None, title_justify="left", header_style="bold")
    for heading in headings:
        drawn.add_column(heading, overflow="fold")
    for row in cells:
        # The first column is a name. It is not coloured as a state, even if it reads like one.
        name, *rest = row
        drawn.add_row(Text(name), *(Text(cell, style=_STYLES.get(cell, "")) for cell in rest))
    Console(file=sys.stdout).print(drawn)


def notes(title: str, lines: Iterable[str]) -> None:
    """Write a list of sentences, one a line, below a title."""
    line(title)
    for text in lines:
        line(f"- {_clean(text)}")


def pairs(rows: Iterable[tuple[str, object]]) -> None:
    """Write names and values, one pair a line."""
    found = [(name, _clean(value)) for name, value in rows]
    width = max(len(name) for name, _ in found)
    for name, value in found:
        line(f"{name:<{width}}  {value}".rstrip())


def _plain(headings: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> None:
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    if title:
        line(title)
    for row in (headings, *rows):
        line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _clean(value: object) -> str:
    # Text from switches must not control the terminal.
    return "".join(c if c.isprintable() else "?" for c in str(value))
