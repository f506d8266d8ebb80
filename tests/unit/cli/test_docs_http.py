"""docs/http-api.md: its examples print what it shows."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
from pathlib import Path

from tests.support.command_line import NETVIRT, Serve
from tests.support.documentation import commands
from tests.support.requirements import need_programs

PAGE = Path(__file__).resolve().parents[3] / "docs" / "http-api.md"


def test_the_python_example_prints_what_the_page_says() -> None:
    found = re.search(r"^```python\n(.*?)^```\n\n```\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(compile(found[1], "http-api.md", "exec"), {})
    assert said.getvalue() == found[2]


def test_every_example_prints_what_the_page_says(serve: Serve, directory: Path) -> None:
    need_programs("curl")
    serve("test:///default", socket="netvirt.sock")
    environment = {**os.environ, "PATH": f"{Path(NETVIRT).parent}:{os.environ['PATH']}"}
    examples = list(commands(PAGE.read_text()))
    assert len(examples) >= 6
    for example in examples:
        done = subprocess.run(
            ["bash", "-c", example.text], env=environment, cwd=directory, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
        )  # fmt: skip
        fault = example.fault(done.stdout.replace("\r", ""), int(done.returncode != 0))
        assert fault is None, fault
