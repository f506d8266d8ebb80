"""Options of the commands that print one table: which columns, which rows, in which order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any

import typer

from libnetvirt.cli.options import Format
from libnetvirt.cli.output import document, line, table
from libnetvirt.suggestions import did_you_mean

Row = dict[str, Any]
#: the headings of columns that are not called as in JSON
_HEADINGS = {"text": "RULE"}


@dataclass(frozen=True)
class Selection:
    """The options. Columns are named as in JSON; upper and lower case are alike."""

    columns: Annotated[
        str | None, typer.Option(metavar="NAME,...", help="Print these columns only, in this order.")
    ] = None
    filter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PATTERN",
            help="Print only rows that match, such as 'name=blue-*' or 'state!=active'; may be repeated.",
        ),
    ] = None
    sort: Annotated[
        str | None, typer.Option(metavar="NAME", help="Sort by this column; '-NAME' sorts backwards.")
    ] = None
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", help="Print no headings, and without --columns the first column only."),
    ] = False

    def of(self, ctx: typer.Context, known: Sequence[str]) -> Listing:
        """The listing of a table with the columns ``known``. Raises BadParameter for names that are not."""

        def column(name: str, option: str) -> str:
            found = name.strip().lower()
            found = next((key for key, heading in _HEADINGS.items() if heading.lower() == found), found)
            if found not in known:
                meant = did_you_mean(found, known)
                listed = f"The columns are {', '.join(known)}."
                raise typer.BadParameter(
                    f"{option}: there is no column {name.strip()!r}.{meant} {listed}", ctx=ctx
                )
            return found

        shown = [column(name, "--columns") for name in self.columns.split(",")] if self.columns else None
        filters = []
        for text in self.filter or ():
            parts = re.fullmatch(r"([^=!]+)(!?=)(.*)", text, re.DOTALL)
            if parts is None:
                raise typer.BadParameter(f"--filter: {text!r} is not NAME=PATTERN or NAME!=PATTERN.", ctx=ctx)
            filters.append((column(parts[1], "--filter"), parts[2] == "=", parts[3]))
        key = None if self.sort is None else column(self.sort.removeprefix("-"), "--sort")
        backwards = self.sort is not None and self.sort.startswith("-")
        first = list(known[:1]) if self.quiet else list(known)
        return Listing(shown or first, filters, key, backwards, not self.quiet)


@dataclass(frozen=True)
class Listing:
    """What is printed of a table."""

    columns: Sequence[str]
    filters: Sequence[tuple[str, bool, str]]
    key: str | None
    backwards: bool
    headings: bool

    def needs(self, column: str) -> bool:
        """Whether a column is printed, or decides what is printed."""
        return column in {*self.columns, *(name for name, _, _ in self.filters), self.key}

    def print(self, rows: Sequence[Row], output: Format) -> None:
        """Print the rows."""
        chosen = [
            row
            for row in rows
            if all(fnmatchcase(str(row[name]), pattern) is wanted for name, wanted, pattern in self.filters)
        ]
        if self.key is not None:
            key = self.key
            chosen.sort(key=lambda row: _natural(row[key]), reverse=self.backwards)
        if not output.tabular:
            document([{name: row[name] for name in self.columns} for row in chosen], output)
            return
        cells = [["-" if row[name] in ("", None) else row[name] for name in self.columns] for row in chosen]
        if self.headings:
            table([_HEADINGS.get(name, name.upper()) for name in self.columns], cells, output=output)
            return
        for row in cells:
            line("\t".join("".join(c if c.isprintable() else "?" for c in str(cell)) for cell in row))


def _natural(value: object) -> list[Any]:
    """A key that sorts ``port9`` before ``port10``."""
    parts = re.split(r"(\d+)", str(value))
    return [(0, int(p), "") if p.isascii() and p.isdigit() else (1, 0, p) for p in parts]
