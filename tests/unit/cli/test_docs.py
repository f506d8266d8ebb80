"""The examples of the command reference print what it shows."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from libnetvirt.cli.main import COMMANDS, GROUPS, build
from tests.support.command_line import NETVIRT, Serve
from tests.support.documentation import commands, write_files
from tests.support.requirements import in_ci

REFERENCE = Path(__file__).parents[3] / "docs" / "cli.md"


@pytest.mark.parametrize(
    ("page", "files", "least"), [("cli.md", ["blue.xml", "red.yaml"], 20), ("output.md", ["blue.xml"], 3)]
)
def test_every_example_prints_what_the_page_says(
    serve: Serve, directory: Path, page: str, files: list[str], least: int
) -> None:
    text = (REFERENCE.parent / page).read_text()
    assert sorted(write_files(text, directory)) == files
    path = f"{Path(NETVIRT).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "LIBNETVIRT_URI": serve().uri, "PATH": path, "TMPDIR": str(directory)}
    examples = list(commands(text))
    assert len(examples) >= least
    for example in examples:
        if example.text.startswith("curl") and not shutil.which("curl") and not in_ci():
            continue
        output, status = _run(example.text, environment)
        fault = example.fault(output, int(status != 0))
        assert fault is None, fault


def _run(command: str, environment: dict[str, str]) -> tuple[str, int]:
    """What a terminal would show, stdout and stderr in one, and the exit status."""
    if command.startswith("netvirt ") and not re.search(r"[|<>;&$]", command):
        # Without a shell's work to do there is no need to wait for a process.
        words = shlex.split(command)[1:]
        result = CliRunner().invoke(build(), words, env=environment, prog_name="netvirt")
        return str(result.output), result.exit_code
    done = subprocess.run(
        ["bash", "-c", command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    return done.stdout, done.returncode


def test_the_reference_names_every_command_and_exit_status() -> None:
    text = REFERENCE.read_text()
    names = [name for name, *_ in (*COMMANDS, *GROUPS)]
    assert len(names) == 33
    for name in names:
        assert re.search(rf"`{name}\b|netvirt {name}\b", text), name


@pytest.mark.parametrize("status", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 130, 141])
def test_the_reference_explains_each_exit_status(status: int) -> None:
    assert f"\n| {status} |" in REFERENCE.read_text()
