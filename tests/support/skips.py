"""What is skipped is listed in docs/testing.md with its reason, and nothing else is: a pytest plugin.

A run fails if a test is skipped that the page does not list with this reason, or if one runs that the page
lists as skipped. Skips for what this machine lacks (:mod:`tests.support.requirements`) are no concern of the
page: in CI they are failures.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.requirements import MISSING

PAGE = Path(__file__).resolve().parents[2] / "docs" / "testing.md"
_HEADING = "## What is skipped, and why\n"
_ROW = re.compile(
    r"^\| `(tests/[\w/]+\.py)` \| ([^|]+) \| ((?:`test_\w+`(?:, )?)+) \| [^|]+ \|$", re.MULTILINE
)


class Skip(NamedTuple):
    """A test function that is skipped, with one of its parameters at least."""

    module: str
    test: str
    reason: str


def listed(page: str) -> set[Skip]:
    """The skips that the page lists. Fails on a row of the table that is not understood."""
    section = page.partition(_HEADING)[2].partition("\n## ")[0]
    rows = _ROW.findall(section)
    lines = [line for line in section.splitlines() if line.startswith("|")]
    assert len(lines) == len(rows) + 2, f"{PAGE.name}: a row of the table of skips is not understood"
    return {Skip(m, t, reason) for m, reason, tests in rows for t in re.findall(r"\w+", tests)}


def faults(page: set[Skip], skipped: set[Skip], passed: Iterable[tuple[str, str]]) -> Iterator[str]:
    """What the page says and a run contradicts. ``passed``: (module, test) of tests that ran to their end."""
    for skip in sorted(skipped - page):
        yield f"{skip.module}: {skip.test} is skipped and not listed in {PAGE.name}: {skip.reason}"
    ran = set(passed)
    for skip in sorted(page - skipped):
        if (skip.module, skip.test) in ran:
            yield f"{skip.module}: {skip.test} ran, but {PAGE.name} lists it as skipped: {skip.reason}"


class SkipWatch:
    """The plugin, in the process that prints the results."""

    def __init__(self) -> None:
        self.skipped: set[Skip] = set()
        self.passed: set[tuple[str, str]] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take down what was skipped, and what passed."""
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Take down the modules that were skipped as a whole."""
        self._note(report)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail a run that would have passed."""
        if session.exitstatus == pytest.ExitCode.OK and self._faults():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print what is wrong."""
        if found := self._faults():
            terminalreporter.section("skips that docs/testing.md gets wrong", red=True)
            for fault in found:
                terminalreporter.line(fault)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        module, _, name = report.nodeid.partition("::")
        test = re.split(r"[\[@]", name)[0]  # without parameters, and without the group of pytest-xdist
        if report.skipped and isinstance(report.longrepr, tuple):
            reason = report.longrepr[2].removeprefix("Skipped: ")
            if not reason.startswith(MISSING):
                self.skipped.add(Skip(module, test, reason))
        elif report.passed and report.when == "call":
            self.passed.add((module, test))

    def _faults(self) -> list[str]:
        return list(faults(listed(PAGE.read_text()), self.skipped, self.passed))
