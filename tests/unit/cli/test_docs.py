"""The examples of the command reference print what it shows."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from libnetvirt.cli.main import COMMANDS, GROUPS, build
from tests.support.command_line import NETVIRT, Serve

REFERENCE = Path(__file__).parents[3] / "docs" / "cli.md"
_BLOCK = re.compile(r"(?:<!-- (?P<mark>[^\n]*?) -->\n)?```(?P<kind>\w+)\n(?P<text>.*?)```", re.DOTALL)


@dataclass
class Example:
    command: str
    expected: str


def _blocks() -> list[tuple[str, str, str]]:
    found = _BLOCK.finditer(REFERENCE.read_text())
    return [(m["mark"] or "", m["kind"], m["text"]) for m in found]


def _examples() -> list[Example]:
    examples: list[Example] = []
    for mark, kind, text in _blocks():
        if kind != "console" or mark.startswith("not run"):
            continue
        for line in text.splitlines():
            if line.startswith("$ "):
                examples.append(Example(line[2:], ""))
            else:
                examples[-1].expected += line + "\n"
    return examples


def test_every_example_prints_what_the_reference_says(serve: Serve, directory: Path) -> None:
    for mark, _, text in _blocks():
        if mark.startswith("file: "):
            (directory / mark.removeprefix("file: ")).write_text(text)
    path = f"{Path(NETVIRT).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "LIBNETVIRT_URI": serve().uri, "PATH": path}
    examples = _examples()
    assert len(examples) >= 20
    for example in examples:
        if example.command.startswith("curl") and not _has("curl"):
            continue
        printed = _printed(example.command, environment).rstrip("\n")
        wanted = ".*".join(re.escape(part) for part in example.expected.rstrip("\n").split("..."))
        assert re.fullmatch(wanted, printed), f"$ {example.command}\n{printed}"


def _printed(command: str, environment: dict[str, str]) -> str:
    """What a terminal would show: stdout and stderr in one."""
    if command.startswith("netvirt ") and not re.search(r"[|<>;&$]", command):
        # Without a shell's work to do there is no need to wait for a process.
        words = shlex.split(command)[1:]
        return str(CliRunner().invoke(build(), words, env=environment, prog_name="netvirt").output)
    return subprocess.run(
        ["bash", "-c", command],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    ).stdout


def _has(program: str) -> bool:
    return any((Path(d) / program).exists() for d in os.environ["PATH"].split(":"))


def test_the_reference_names_every_command_and_exit_status() -> None:
    text = REFERENCE.read_text()
    names = [name for name, *_ in (*COMMANDS, *GROUPS)]
    assert len(names) == 22
    for name in names:
        assert re.search(rf"`{name}\b|netvirt {name}\b", text), name


@pytest.mark.parametrize("status", [0, 1, 2, 3, 4, 5, 6, 7, 8, 130, 141])
def test_the_reference_explains_each_exit_status(status: int) -> None:
    assert f"\n| {status} |" in REFERENCE.read_text()
