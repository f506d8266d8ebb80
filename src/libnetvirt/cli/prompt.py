"""The prompt of ``netvirt shell``: history, and completion from the server. Needs prompt_toolkit."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.shortcuts import CompleteStyle

import libnetvirt
from libnetvirt.cli.completion import Names, candidates
from libnetvirt.cli.output import clean

_PROMPT = "netvirt> "


def lines(root: Any, connection: libnetvirt.Connection, history: Path | None) -> Iterator[str]:
    """The lines that are typed, until Ctrl-D. Ctrl-C clears a line. ``root``: the group of all commands."""
    session: PromptSession[str] = PromptSession(
        _PROMPT,
        completer=_Commands(root, Names(connection)),
        complete_in_thread=True,
        complete_while_typing=False,
        complete_style=CompleteStyle.COLUMN,
        history=_history(history),
        enable_history_search=True,
    )
    print(f"Connected to {clean(connection.uri)}. Tab completes, 'help' lists the commands, Ctrl-D ends.")
    while True:
        try:
            yield session.prompt()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return


def _history(given: Path | None) -> History:
    """The lines of earlier shells, in a file that only its owner can read; in memory if there can be none."""
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    file = given or Path(state).expanduser() / "libnetvirt" / "history"
    try:
        if given is None:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.fchmod(handle, 0o600)
        finally:
            os.close(handle)
    except (OSError, RuntimeError):
        return InMemoryHistory()
    return FileHistory(file)


class _Commands(Completer):
    def __init__(self, root: Any, names: Names) -> None:
        self._root, self._names = root, names
        self._files = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """What may be typed at the cursor."""
        try:
            words = shlex.split(document.text_before_cursor)
        except ValueError:
            return
        typed = "" if not words or document.text_before_cursor[-1].isspace() else words.pop()
        option, equals, value = typed.partition("=")
        if equals and option.startswith("--"):
            words, typed = [*words, option], value
        found = candidates(self._root, words, self._names)
        if found is None:
            yield from self._files.get_completions(Document(typed), complete_event)
            return
        # A value that is a list, such as --port 5,6, is completed at its last part.
        start = typed.rpartition(",")[2] if words and words[-1] == "--port" else typed
        # Options are offered when they are begun, or when there is nothing else.
        every = sorted(
            {one for one in found if one.word.startswith(start)}, key=lambda one: _natural(one.word)
        )
        values = [one for one in every if not one.word.startswith("-")]
        shown = every if typed.startswith("-") or not values else values
        # The only one is complete, so the next word may follow.
        end = " " if len(shown) == 1 else ""
        for one in shown:
            yield Completion(
                shlex.quote(one.word) + end, start_position=-len(start), display=clean(one.word),
                display_meta=clean(one.about),
            )  # fmt: skip


def _natural(text: str) -> list[tuple[int, int, str]]:
    """A key that sorts ``port9`` before ``port10``."""
    parts: list[tuple[int, int, str]] = []
    digits = ""
    for c in [*text, ""]:
        if c.isascii() and c.isdigit():
            digits += c
            continue
        if digits:
            parts.append((0, int(digits), ""))
            digits = ""
        parts.append((1, 0, c))
    return parts
