"""Commands with their output, and files, that documentation pages show."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_CONSOLE = re.compile(r"^(<!-- not run: [^\n]*-->\n)?```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
_FENCED = re.compile(r"^(<!-- not run: [^\n]*-->\n)?```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"^<!-- file: (\S+) -->\n```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)


class Command(NamedTuple):
    """A command of a page and the output shown below it, where … stands for anything."""

    text: str
    output: str


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
    run. The output is in the block of kind ``text`` that follows, where … stands for anything."""
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


def write_files(markdown: str, directory: Path) -> list[str]:
    """Write the files that a page shows. Their names."""
    found = _FILE.findall(markdown)
    for name, text in found:
        (directory / name).write_text(text)
    return [name for name, _ in found]


def matches(shown: str, output: str) -> bool:
    """Whether output is what the page shows."""
    parts = [r"\s+".join(map(re.escape, part.split())) for part in shown.split("…")]
    return re.fullmatch(r"\s*" + r".*?".join(parts) + r"\s*", output, re.DOTALL) is not None
