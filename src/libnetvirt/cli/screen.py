"""Tables that fit a terminal. Nothing is cut: a name, a uuid or a rule stays in one piece.

A table that is too wide for the terminal is made narrower in this order: columns of sentences are folded at
spaces; then columns are left out from the right, and named below the table. Elsewhere, in a pipe or a file,
and with ``-o wide``, all columns are printed as wide as they are.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence

_GAP = 2
_RESET = "\x1b[0m"
_BOLD = "\x1b[1m"
_COLOURS: Mapping[str, str] = {
    "active": "\x1b[32m",
    "up": "\x1b[32m",
    "yes": "\x1b[32m",
    "connected": "\x1b[32m",
    "pending": "\x1b[33m",
    "degraded": "\x1b[33m",
    "unconfirmed": "\x1b[33m",
    "disconnected": "\x1b[33m",
    "down": "\x1b[31m",
    "no": "\x1b[2m",
}
#: columns whose cells may be folded at spaces
PROSE = frozenset(
    (
        "NOTES", "REASON", "REASON IT IS NOT OFFERED", "DESCRIPTION", "MEANING", "VALUES", "REQUIREMENTS",
        "ADDRESS", "ADDRESSES", "HOPS", "TIMEOUT",
    )
)  # fmt: skip
#: columns that are never left out
KEPT = frozenset(("NAME", "STATE", "RULE"))


def is_terminal() -> bool:
    """Whether stdout is a terminal."""
    return sys.stdout.isatty()


def width() -> int:
    """The terminal's width, in characters."""
    return shutil.get_terminal_size().columns


def plain(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table with all columns, for a pipe or a file."""
    return [_line(row, _widths(headings, rows)) for row in (headings, *rows)]


def fitted(headings: Sequence[str], rows: Sequence[Sequence[str]], room: int) -> list[str]:
    """The lines of a table that is at most ``room`` characters wide, if that is possible without cutting."""
    columns = list(range(len(headings)))
    while True:
        names = [headings[i] for i in columns]
        cells = [[row[i] for i in columns] for row in rows]
        widths = _narrowed(names, cells, room)
        if _total(widths) <= room or "RULE" in names:
            break
        unneeded = [i for i in columns[1:] if headings[i] not in KEPT]
        # A name that is long is worth more than a uuid: it can be used instead.
        spare = (
            [i for i in unneeded if headings[i] not in PROSE] or unneeded or columns[: "NAME" in names[1:]]
        )
        if not spare:
            break
        columns.remove(spare[-1])
    colours = _has_colours()
    lines = [_coloured(_line(names, widths), _BOLD, colours)]
    for row in cells:
        lines += _folded(names, row, widths, colours)
    left_out = [headings[i] for i in range(len(headings)) if i not in columns]
    if left_out:
        lines.append(f"(not shown here: {', '.join(left_out)}; -o wide shows all columns)")
    return lines


def _narrowed(headings: Sequence[str], rows: Sequence[Sequence[str]], room: int) -> list[int]:
    """The widths of the columns, where those of sentences share what the others leave."""
    widths = _widths(headings, rows)
    least = [
        max((len(word) for row in (headings, *rows) for word in row[i].split()), default=0)
        if heading in PROSE
        else widths[i]
        for i, heading in enumerate(headings)
    ]
    missing = _total(widths) - room
    for i in sorted(range(len(widths)), key=lambda i: widths[i] - least[i], reverse=True):
        taken = max(0, min(missing, widths[i] - least[i]))
        widths[i] -= taken
        missing -= taken
    return widths


def _folded(headings: Sequence[str], row: Sequence[str], widths: Sequence[int], colours: bool) -> list[str]:
    """The lines of one row."""
    parts = [
        textwrap.wrap(cell, max(1, w), break_long_words=False, break_on_hyphens=False) or [""]
        if heading in PROSE
        else [cell]
        for heading, cell, w in zip(headings, row, widths, strict=True)
    ]
    lines = []
    for n in range(max(map(len, parts))):
        cells = []
        for i, (part, w) in enumerate(zip(parts, widths, strict=True)):
            text = part[n] if n < len(part) else ""
            # The first column is a name. It is not coloured as a state, even if it reads like one.
            colour = _COLOURS.get(text, "") if i else ""
            cells.append(_coloured(text, colour, colours) + " " * (w - len(text)))
        lines.append((" " * _GAP).join(cells).rstrip())
    return lines


def _widths(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(headings, *rows, strict=True)]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell.ljust(w) for cell, w in zip(cells, widths, strict=True))
    return (" " * _GAP).join(padded).rstrip()


def _coloured(text: str, colour: str, wanted: bool) -> str:
    return f"{colour}{text}{_RESET}" if wanted and colour and text else text


def _has_colours() -> bool:
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") not in (None, "dumb")
