"""Output that is higher than the terminal is shown by a pager, as git does it.

Only of commands that print a report at once, and only for people at a terminal: never in a pipe or a file, in
the shell, or as JSON or YAML. ``--no-pager``, or an empty ``$NETVIRT_PAGER``, turns it off.
"""

from __future__ import annotations

import functools
import inspect
import io
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_type_hints

import typer

from libnetvirt.cli import screen
from libnetvirt.cli.options import Format, in_shell, settings

#: the environment variables that name the pager; the first one that is set decides
VARIABLES = ("NETVIRT_PAGER", "PAGER")
#: what is used if neither is set: quits if all fits one screen, shows colours, leaves the text on the screen
DEFAULT = "less -FRX"
#: for a ``less`` that a variable names without options, unless the user has options of their own
_LESS = {"LESS": "FRX"}
_NO_PAGER = ("", "cat")
_COMMAND_NOT_FOUND = (126, 127)
_CONTROL = re.compile(r"\x1b\[[0-9;]*m")

NoPager = Annotated[bool, typer.Option("--no-pager", help="Show output in one piece, also if it is long.")]


class _Kept(io.StringIO):
    """What is printed to a terminal, kept until it is known how high it is."""

    def isatty(self) -> bool:
        return True


def pages(command: Callable[..., None]) -> Callable[..., None]:
    """A decorator for commands that print a report: adds the option ``--no-pager``. It
    stands above the one of :func:`~libnetvirt.cli.options.takes`."""
    hints = get_type_hints(command, include_extras=True)
    parameters = [
        p.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints.get(p.name, p.annotation))
        for p in inspect.signature(command).parameters.values()
    ]
    own = inspect.Parameter("no_pager", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=NoPager)
    parameters.append(own)

    @functools.wraps(command)
    def run(*, ctx: typer.Context, no_pager: bool, **values: Any) -> None:
        output = values.get("output") or settings(ctx).output
        readable = output is None or str(output) in (Format.TABLE, Format.WIDE, "text")
        pager = "" if no_pager or settings(ctx).no_pager or not readable else chosen_pager(os.environ)
        if not pager or not screen.is_terminal() or in_shell():
            command(ctx=ctx, **values)
            return
        terminal, sys.stdout = sys.stdout, _Kept()
        whole = False
        try:
            command(ctx=ctx, **values)
            whole = True
        except typer.Exit:
            whole = True  # a report that something is wrong
            raise
        finally:
            text = sys.stdout.getvalue()
            sys.stdout = terminal
            if not whole or fits(text) or not _shown(pager, text):
                terminal.write(text)

    run.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run


def chosen_pager(environment: Mapping[str, str]) -> str:
    """The pager's command line for a shell; empty if there is none."""
    given = next((environment[name] for name in VARIABLES if name in environment), None)
    if given is None:
        given = DEFAULT if shutil.which("less") else ""
    # Without its abilities, a pager on a terminal is no help.
    usable = environment.get("TERM", "dumb") != "dumb"
    return given.strip() if usable and given.strip() not in _NO_PAGER else ""


def fits(text: str) -> bool:
    """Whether a text fits the terminal, with a line left for the prompt."""
    width, height = shutil.get_terminal_size()
    rows = sum(max(1, -(-len(_CONTROL.sub("", line)) // width)) for line in text.splitlines())
    return rows < height


def _shown(pager: str, text: str) -> bool:
    """Run the pager until it ends. Blocks. Whether it could be run."""
    import signal
    import subprocess

    # Ctrl-C is for the pager. A handler, unlike SIG_IGN, is not inherited by it.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        process = subprocess.Popen(
            ["/bin/sh", "-c", pager],
            stdin=subprocess.PIPE,
            env={**_LESS, **os.environ},
            text=True,
            errors="backslashreplace",
        )
        try:
            process.communicate(text)
        except BrokenPipeError:  # it was left before the end
            process.wait()
        return process.returncode not in _COMMAND_NOT_FOUND
    except OSError:
        return False
    finally:
        signal.signal(signal.SIGINT, before)
