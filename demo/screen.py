"""The output of the demonstration."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

_WIDTH = 96


class Screen:
    """Writes to a terminal. ``slow``: wait for Enter after each step."""

    def __init__(self, *, slow: bool = False, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        if self.console.width > _WIDTH or not self.console.is_terminal:
            self.console.width = _WIDTH
        self._slow = slow

    def title(self, text: str, below: str) -> None:
        self.console.print(Panel(Text(below), title=Text(text, "bold"), border_style="cyan", padding=(0, 1)))

    def act(self, number: int, title: str, promise: str) -> None:
        self.console.print()
        self.console.rule(Text(f"{number}. {title}", "bold cyan"), align="left", style="cyan")
        self.console.print(Text("Promise: ", "bold").append(promise, "italic"))

    def code(self, text: str, language: str = "python") -> None:
        self.console.print(Padding(Syntax(text, language, theme="ansi_dark", word_wrap=True), (0, 2)))

    def say(self, text: str) -> None:
        self.console.print(Text(text, "dim"))

    def check(self, kept: bool, text: str) -> None:
        mark = Text("✓ ", "bold green") if kept else Text("✗ ", "bold red")
        self.console.print(mark.append(text, "default" if kept else "bold red"))

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        table = Table(*headings, box=box.SIMPLE_HEAD, pad_edge=False)
        for row in rows:
            table.add_row(*row)
        self.console.print(Padding(table, (0, 2)))

    def matrix(self, names: Sequence[str], cells: Mapping[tuple[str, str], Text], legend: str) -> None:
        """Print the reachability matrix, a row for each source."""
        table = Table("from \\ to", *names, box=box.SIMPLE_HEAD, pad_edge=False)
        for source in names:
            table.add_row(
                Text(source, "bold"), *(cells.get((source, destination), Text(" ")) for destination in names)
            )
        self.console.print(Padding(table, (0, 2)))
        self.say(f"  {legend}")

    def pause(self) -> None:
        if not self._slow:
            return
        if self.console.is_terminal:
            self.console.input("[dim]Press Enter for the next step …[/dim]")
        else:
            time.sleep(3)
