"""Commands on pages that no test runs: netvirt understands them, URIs are valid, make has the targets."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main

from libnetvirt.cli.main import build
from libnetvirt.driver import DRIVERS, installed, load
from libnetvirt.uri import URI

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"^```(sh|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def lines(page: Path) -> Iterator[str]:
    """The commands of a page's blocks, one a line, without prompts, comments and continuation lines."""
    for kind, block in _BLOCK.findall(page.read_text()):
        text = re.sub(r"\\\n\s*(?:> )?", " ", block)
        for line in text.splitlines():
            if kind == "sh" or line.startswith(("$ ", "> ")):
                yield line.removeprefix("$ ").removeprefix("> ")


def netvirt_words(line: str) -> Iterator[list[str]]:
    """The words of each netvirt command in a line of shell, without redirections; variables are 1."""
    line = re.sub(r"(?:^|\s)#.*$", "", line)
    line = re.sub(r"\$\(\([^)]*\)\)|\$\w+", "1", line)
    reader = shlex.shlex(line, posix=True, punctuation_chars=True)
    reader.whitespace_split, reader.commenters = True, ""
    command: list[str] = []
    redirected = False
    for word in [*reader, ";"]:
        if word in ("do", "then") or set(word) <= set("|&;()"):
            if command and Path(command[0]).name == "netvirt":
                yield command[1:]
            command = []
        elif set(word) <= set("<>&"):
            redirected = True
            if command and command[-1] in ("1", "2"):
                command.pop()
        elif not redirected and (command or "=" not in word):
            command.append(word)
        else:
            redirected = False


# Typer exports only one class of its parser's errors, whose base is that of all wrong command lines.
USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]


@cache
def _netvirt() -> Any:
    return typer.main.get_command(build())


def understand(words: list[str]) -> None:
    """Parse a command line as netvirt does, and run nothing. Raises USAGE_ERROR."""
    command: Any = _netvirt()
    context, name = None, "netvirt"
    while True:
        context = command.make_context(name, list(words), parent=context)
        command = context.command  # it may have been imported only now
        if not hasattr(command, "resolve_command"):
            return
        left = [*getattr(context, "_protected_args", ()), *context.args]
        name, command, words = command.resolve_command(context, left)


COMMANDS = [
    pytest.param(words, id=f"{page.name}: {' '.join(words)[:60]}")
    for page in PAGES
    for line in lines(page)
    if "netvirt" in line
    for words in netvirt_words(line.replace("…", ""))
]


@pytest.mark.parametrize("words", COMMANDS)
def test_netvirt_understands_the_commands_of_pages(words: list[str]) -> None:
    understand(words)


def test_many_commands_were_found_and_a_wrong_one_is_not_understood() -> None:
    assert len(COMMANDS) > 60
    for wrong in (["create", "--pend", "x"], ["creat", "x"], ["switch", "adopt", "--everything"]):
        with pytest.raises(USAGE_ERROR):
            understand(wrong)


def test_uris_of_pages_are_valid() -> None:
    found = [
        uri
        for page in PAGES
        for uri in re.findall(
            r"(?<![\w+])(?:test|openflow|ovn):///?\?[^\s'`)…|]*[^\s'`)…|.,;:]", page.read_text()
        )
        if not re.search(r"=(REMOTE|unix)\b(?!:)", uri)  # what stands for an address
    ]
    assert len(found) > 10
    for text in found:
        uri = URI.parse(text)
        assert uri.driver in installed(DRIVERS)
        load(uri).settings.from_uri(uri)


def test_make_has_the_targets_of_pages() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        name
        for page in PAGES
        for block in re.findall(r"`make ([a-z-]+)|^(?:\$ )?make ([a-z-]+)", page.read_text(), re.MULTILINE)
        for name in block
        if name
    }
    assert {"demo", "test", "setup", "bench-promises"} <= named
    assert named - targets == set()
