"""docs/testing.md lists each difference between the judges and the oracle, in the words of the tests."""

from __future__ import annotations

from pathlib import Path

from tests.support.judge.differences import bridges, routers, rows

PAGE = Path(__file__).resolve().parents[3] / "docs" / "testing.md"


def test_the_page_lists_all_differences_and_no_others() -> None:
    section = PAGE.read_text().partition("## The judge of the oracle")[2].partition("\n## ")[0]
    for differences in (bridges(), routers()):
        assert f"|---|---|\n{rows(differences)}\n" in section
    assert section.count("\n| `") == len(bridges()) + len(routers())
