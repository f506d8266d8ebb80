"""Commands with their output, and files, that documentation pages show."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support.netvirt_server import NETVIRT

_CONSOLE = re.compile(r"^(<!-- not run: [^\n]*-->\n)?```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
_FENCED = re.compile(r"^(<!-- not run: [^\n]*-->\n)?```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"^<!-- file: (\S+) -->\n```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)

#: What differs from run to run, and is written … in a shown output. No space is part of it.
_VARYING = "|".join(
    (
        r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",  # a uuid
        r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}",  # a MAC address
        r"[0-9a-f]{16}",  # a datapath id
        r"\d+(?:\.\d+){3}:\d+",  # an address with a port
        r"\d\d:\d\d:\d\d(?:\.\d+)?",  # a time
        r"\d+(?:\.\d+)*",  # a number, or a version
        r"(?:/[\w.-]+)+",  # a path
    )
)
#: Lines of an output that say that the command has failed: of netvirt, and of ping.
_ERROR = re.compile(r"^error: |^\{\"error\": |\b100% packet loss\b", re.MULTILINE)


class Command(NamedTuple):
    """A command, or several, of a page and the output shown below.

    In the output, … stands for one number, version, uuid, datapath id, MAC address, time, path, or address
    with a port.
    """

    text: str
    output: str

    @property
    def errors(self) -> int:
        """How many errors the page shows."""
        return len(_ERROR.findall(self.output))

    def fault(self, output: str, failed: int) -> str | None:
        """What is different from the page when this was printed and so many commands failed; None if nothing
        is. As many have to fail as errors are shown."""
        if matches(self.output, output) and failed == self.errors:
            return None
        return (
            f"$ {self.text}\n{output}\n{failed} commands failed\n"
            f"instead of\n{self.output}\nand {self.errors} that fail"
        )


def commands(markdown: str) -> Iterator[Command]:
    """The commands of a page, without those marked as not run."""
    for skipped, block in _CONSOLE.findall(markdown):
        if skipped:
            continue
        for chunk in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = chunk.splitlines()
            end = next((i for i, line in enumerate(lines[1:], 1) if not line.startswith("> ")), len(lines))
            command = [lines[0], *(line.removeprefix("> ") for line in lines[1:end])]
            yield Command("\n".join(command), "\n".join(lines[end:]))


def steps(markdown: str) -> Iterator[Command]:
    """The shell blocks of a page, to be pasted as they are, and what each prints, without those marked as not
    run. The output is in the block of kind ``text`` that follows."""
    text = ""
    for skipped, kind, block in _FENCED.findall(markdown):
        if kind == "sh":
            if text:
                yield Command(text, "")
            text = "" if skipped else block
        elif kind == "text" and text:
            yield Command(text, block)
            text = ""
    if text:
        yield Command(text, "")


def run(command: str, directory: Path) -> tuple[str, int]:
    """What a terminal in a directory would show of a command, stdout and stderr in one, and the exit status.
    ``netvirt`` is the one of these tests."""
    done = subprocess.run(
        ["bash", "-c", command], cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PATH": f"{Path(NETVIRT).parent}:{os.environ['PATH']}"}, timeout=60, check=False,
    )  # fmt: skip
    return done.stdout, done.returncode


def python_output(markdown: str, page: str) -> tuple[str, str]:
    """What the first program of a page prints that an output follows, and that output."""
    found = re.search(r"^```python\n(.*?)^```\n\n```\n(.*?)^```", markdown, re.MULTILINE | re.DOTALL)
    assert found is not None
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(compile(found[1], page, "exec"), {})
    return said.getvalue(), found[2]


def write_files(markdown: str, directory: Path) -> list[str]:
    """Write the files that a page shows. Their names."""
    found = _FILE.findall(markdown)
    for name, text in found:
        (directory / name).write_text(text)
    return [name for name, _ in found]


def matches(shown: str, output: str) -> bool:
    """Whether output is what the page shows, line by line, with any number of spaces between words."""
    wanted, lines = shown.strip().splitlines(), output.strip().splitlines()
    return len(wanted) == len(lines) and all(map(_line_matches, wanted, lines))


def _line_matches(shown: str, line: str) -> bool:
    parts = (r"\s+".join(map(re.escape, re.split(r"\s+", part))) for part in shown.rstrip().split("…"))
    return re.fullmatch(f"(?:{_VARYING})".join(parts), line.rstrip()) is not None
