"""Output that is drawn again and again on a terminal, until a key ends it."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import termios
import tty
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

#: the other screen without a cursor, where lines are not wrapped; and back
_BEGIN, _END = "\x1b[?1049h\x1b[?25l\x1b[?7l", "\x1b[?7h\x1b[?25h\x1b[?1049l"
_HOME, _END_OF_LINE, _END_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"
QUIT = frozenset("qQ\x1b\x04")


class LiveScreen:
    """The terminal, from entering to leaving: what was there before is there again then."""

    def __init__(self) -> None:
        self._before: list[Any] | None = None
        self._typed = asyncio.Event()
        #: the keys that were typed
        self.keys = ""

    def __enter__(self) -> Self:
        if sys.stdin.isatty():
            self._before = termios.tcgetattr(sys.stdin.fileno())
            tty.setcbreak(sys.stdin.fileno())
            asyncio.get_running_loop().add_reader(sys.stdin.fileno(), self._read)
        sys.stdout.write(_BEGIN)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._before)
        sys.stdout.write(_END)
        sys.stdout.flush()

    def _read(self) -> None:
        self.keys += os.read(sys.stdin.fileno(), 64).decode(errors="replace") or "q"
        self._typed.set()

    @property
    def height(self) -> int:
        """The lines that fit."""
        return shutil.get_terminal_size().lines

    def draw(self, lines: Sequence[str]) -> None:
        """Replace what is shown; lines that do not fit are left out, and the last one says so."""
        height = self.height
        shown = list(lines[:height])
        if len(lines) > height:
            shown[-1] = f"(and {len(lines) - height + 1} more lines)"
        sys.stdout.write(_HOME + "\r\n".join(line + _END_OF_LINE for line in shown) + _END_OF_SCREEN)
        sys.stdout.flush()

    async def wait(self, seconds: float, *others: asyncio.Event) -> bool:
        """Wait until a key is typed, one of the other events is set, or the time is over. False if the key
        means the end."""
        waiting = [asyncio.create_task(event.wait()) for event in (self._typed, *others)]
        try:
            await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        keys, self.keys = self.keys, ""
        self._typed.clear()
        return not QUIT.intersection(keys)
