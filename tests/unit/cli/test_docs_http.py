"""docs/http-api.md: its examples print what it shows."""

from __future__ import annotations

from pathlib import Path

from tests.support.command_line import Serve
from tests.support.documentation import commands, python_output, run
from tests.support.requirements import need_programs

PAGE = Path(__file__).resolve().parents[3] / "docs" / "http-api.md"


def test_the_python_example_prints_what_the_page_says() -> None:
    said, shown = python_output(PAGE.read_text(), "http-api.md")
    assert said == shown


def test_every_example_prints_what_the_page_says(serve: Serve, directory: Path) -> None:
    need_programs("curl")
    serve("test:///default", socket="netvirt.sock")
    examples = list(commands(PAGE.read_text()))
    assert len(examples) >= 6
    for example in examples:
        output, status = run(example.text, directory)
        fault = example.fault(output.replace("\r", ""), int(status != 0))
        assert fault is None, fault
