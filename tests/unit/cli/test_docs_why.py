"""The page about explanations: its examples print what it shows, and its tables are complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from libnetvirt.cli.main import build
from libnetvirt.cli.why import DOES_NOT_WORK
from libnetvirt.model import ObstacleCode, Verdict
from libnetvirt.model.obstacles import MEANINGS, REMEDIES
from tests.support.command_line import Serve
from tests.support.documentation import commands, matches, python_output, write_files

PAGE = Path(__file__).parents[3] / "docs" / "why.md"


def test_examples_print_what_the_page_shows(serve: Serve, directory: Path) -> None:
    text = PAGE.read_text()
    assert write_files(text, directory) == ["blue.yaml"]
    environment, examples = {"LIBNETVIRT_URI": serve().uri}, list(commands(text))
    assert len(examples) == 3
    for example in examples:
        words = example.text.split()[1:]
        result = CliRunner().invoke(build(), words, env=environment, prog_name="netvirt")
        assert matches(example.output, result.output), result.output
        assert result.exit_code == (DOES_NOT_WORK if "DO NOT ARRIVE" in example.output else 0)


@pytest.mark.usefixtures("directory")
def test_the_program_prints_what_the_page_shows(directory: Path) -> None:
    write_files(PAGE.read_text(), directory)
    said, shown = python_output(PAGE.read_text(), "why.md")
    assert said == shown


def test_tables_are_complete() -> None:
    rows = re.findall(r"^\| `([a-z][a-z-]+)` \| ([^|]+) \|$", PAGE.read_text(), re.MULTILINE)
    codes = {code: meaning for code, meaning in rows if code not in list(Verdict)}
    assert codes == {str(code): meaning for code, meaning in MEANINGS.items()}
    assert {name for name, _ in rows if name not in codes} == set(Verdict)
    assert set(MEANINGS) == set(REMEDIES) == set(ObstacleCode)
