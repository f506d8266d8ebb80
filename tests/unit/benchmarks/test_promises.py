"""The table of limits and guarantees: which figures meet their bounds, and where it is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.promises import BEGIN, COMMAND, END, PAGE, Figure, table, write

KEPT = Figure("a link", "UDP", "95% to 105% of 30 Mbit/s", 30e6, 29.7e6, 28.5e6, 31.5e6)
SHORT = Figure("a link", "UDP", "95% to 105% of 30 Mbit/s", 30e6, 28.4e6, 28.5e6, 31.5e6, unread=9)
OVER = Figure("a link", "UDP", "at most 105% of 15 Mbit/s", 60e6, 15.8e6, 0.0, 15.75e6)


def test_the_table_marks_figures_outside_their_bounds() -> None:
    assert [f.holds for f in (KEPT, SHORT, OVER)] == [True, False, False]
    rows = list(table([KEPT, SHORT, OVER]))[2:]
    assert [row.split(" | ")[-1] for row in rows] == ["met |", "**not met** |", "**not met** |"]
    assert "| 30.0 | 29.7 | 0 |" in rows[0]


def test_only_the_marked_part_of_the_page_is_rewritten(tmp_path: Path) -> None:
    assert (PAGE.read_text().count(BEGIN), PAGE.read_text().count(END)) == (1, 1)
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nNot measured yet.\n{END}\nafter\n")
    for _ in range(2):
        write([KEPT, SHORT], page)
        text = page.read_text()
        assert text.startswith(f"before\n{BEGIN}\n")
        assert text.endswith(f"\n{END}\nafter\n")
        assert "Not measured yet" not in text
        assert (f"# {COMMAND}\n" in text, text.count("| a link |")) == (True, 2)
        assert "did not read in time" in text
    page.write_text("no marks")
    with pytest.raises(ValueError, match="needs the lines"):
        write([KEPT], page)
