"""What is made of rows: a table on the terminal, a file of JSON, docs/performance.md with its plots."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.rows import Row, number, quantity
from benchmarks.workers import ROOT

RESULTS = ROOT / "benchmarks" / "results"
_VERDICTS = {True: "met", False: "not met", None: ""}


def ratio_text(row: Row) -> str:
    """How many times better than the peer."""
    return f"{number(row.ratio)}×" if row.ratio is not None else ""


def cells(row: Row) -> list[str]:
    """A row of the table, without its scenario."""
    theirs = quantity(row.peer, row.unit, row.peer_samples)
    peer = f"{row.peer_name}: {theirs}" if row.peer is not None else ""
    bar = f"{row.bar}: {_VERDICTS[row.holds]}" if row.bar else ""
    if row.excess:
        bar += f" ({row.excess})"
    return [row.name, row.size, quantity(row.ours, row.unit, row.samples), peer, ratio_text(row), bar]


HEADINGS = ("what", "size", "libnetvirt", "peer", "ratio", "target")


def show(rows: Iterable[Row], console: Console) -> None:
    """Print a table a scenario."""
    by_scenario: dict[str, list[Row]] = {}
    for row in rows:
        by_scenario.setdefault(row.scenario, []).append(row)
    for scenario, some in by_scenario.items():
        table = Table(*HEADINGS, title=scenario, title_justify="left")
        for row in some:
            style = {True: "green", False: "red", None: ""}[row.holds]
            table.add_row(*cells(row), style=style)
        console.print(table)
        for note in dict.fromkeys(row.note.strip() for row in some if row.note):
            console.print(f"  {note}")


def save(
    path: Path, rows: Sequence[Row], machine: dict[str, str], command: str, **others: Any
) -> dict[str, Any]:
    """Write the JSON; returns what it says besides the rows. ``others``: more to record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    when = time.strftime("%Y-%m-%d", time.gmtime())
    rest = {"when": when, "command": command, "machine": machine, **others}
    document = {**rest, "rows": [row.to_json() for row in rows]}
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    return rest


def load(path: Path) -> tuple[list[Row], dict[str, Any]]:
    """Read the JSON: rows, and the rest."""
    document = json.loads(path.read_text())
    return [Row.from_json(fields) for fields in document.pop("rows")], document
