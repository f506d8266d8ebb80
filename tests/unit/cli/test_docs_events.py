"""docs/events.md: its examples print what it shows."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import libnetvirt
from libnetvirt.configuration import parse
from tests.support.command_line import NETVIRT, Serve
from tests.support.documentation import commands, write_files
from tests.support.requirements import need_programs

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "events.md").read_text()


def test_every_example_prints_what_the_page_says(serve: Serve, directory: Path) -> None:
    need_programs("curl")
    assert write_files(PAGE, directory) == ["blue.yaml"]
    server = serve(f"test:///default?state={directory}/state.db", socket="netvirt.sock")
    environment = {**os.environ, "PATH": f"{Path(NETVIRT).parent}:{os.environ['PATH']}"}
    examples = list(commands(PAGE))
    assert len(examples) == 5
    for example in examples:
        text = f"export LIBNETVIRT_URI={server.uri}; {example.text}"
        done = subprocess.run(
            ["bash", "-c", text], env=environment, cwd=directory, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
        )  # fmt: skip
        fault = example.fault(
            re.sub(r"^\d{4}\S+ \S+", "2026-01-31 12:00:00.000", done.stdout), done.returncode
        )
        assert fault is None, fault
    (program,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    uri = '"test+unix:///run/netvirt.sock"'
    assert uri in program
    found: list[tuple[str, ...]] = []
    exec(
        compile(program.replace(uri, repr(server.uri)), "events.md", "exec"),
        {"print": lambda *words: found.append(words), "libnetvirt": libnetvirt},
    )
    assert [words[1:] for words in found] == [("network.created", "network blue created")]


def test_the_configuration_on_the_page_is_accepted() -> None:
    found = re.findall(r"^ *```toml\n(.*?)^ *```", PAGE, re.MULTILINE | re.DOTALL)
    assert found
    for text in found:
        parse(f'{text}\n[connections.core]\nuri = "openflow:///"\n', certificates=False)
