"""Programs on a pseudo-terminal: what a user sees."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence

#: variables of the environment of the tests that programs do not see
HIDDEN = ("COLUMNS", "LINES", "NO_COLOR", "NETVIRT_PAGER")
_CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class Terminal:
    """A program whose stdin, stdout and stderr are a terminal of some width, without a pager unless the
    environment names one."""

    def __init__(
        self, words: Sequence[str], environment: Mapping[str, str] | None = None, columns: int = 80
    ) -> None:
        self._screen, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        kept = {k: v for k, v in os.environ.items() if k not in HIDDEN}
        try:
            self.process = subprocess.Popen(
                words, stdin=inner, stdout=inner, stderr=inner, start_new_session=True,
                env={**kept, "TERM": "xterm", "PAGER": "", **(environment or {})},
            )  # fmt: skip
        finally:
            os.close(inner)
        self.seen = ""

    def until(self, text: str, seconds: float = 60.0) -> None:
        """Wait until the program has written ``text``."""
        end = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < end, self.seen
            assert self._read(), f"ended without {text!r}: {self.seen}"

    def type(self, text: str) -> None:
        """Type keys."""
        os.write(self._screen, text.encode())

    def close(self, seconds: float = 60.0) -> int:
        """Read until the program ends. Its exit status."""
        end = time.monotonic() + seconds
        while self._read():
            assert time.monotonic() < end, self.seen
        os.close(self._screen)
        return self.process.wait(seconds)

    @property
    def lines(self) -> list[str]:
        """What is left to be seen: lines without colours, and without what was erased."""
        text = _CONTROL.sub("", self.seen).replace("\r\n", "\n").removesuffix("\n")
        return [line.rpartition("\r")[2] for line in text.split("\n")]

    def _read(self) -> bool:
        """Read what there is, or wait for it. False at the end."""
        content = b""
        # A terminal whose last writer is gone is an error.
        with contextlib.suppress(OSError):
            if not select.select([self._screen], [], [], 1.0)[0]:
                return True
            content = os.read(self._screen, 65536)
        self.seen += content.decode(errors="replace")
        return bool(content)


def shown(
    words: Sequence[str], environment: Mapping[str, str] | None = None, columns: int = 80
) -> tuple[int, list[str]]:
    """The exit status of a program on a terminal, and the lines it has written."""
    terminal = Terminal(words, environment, columns)
    status = terminal.close()
    return status, terminal.lines
