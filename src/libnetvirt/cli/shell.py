"""``shell``: commands at a prompt, or one a line from a file, with one connection for all of them."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

import libnetvirt
from libnetvirt.cli.options import ENVIRONMENT, Connect, address, sharing
from libnetvirt.errors import Unsupported

#: what is typed to leave, and what begins a command in the system's shell as well
_LEAVE = ("exit", "quit")
_PROGRAM = "netvirt"


def shell(
    ctx: typer.Context,
    history: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File of the lines typed [default: ~/.local/state/libnetvirt/history].",
            show_default=False,
        ),
    ] = None,
    connect: Connect = None,
) -> None:
    """Run commands at a prompt, with completion from the server.

    Every command of 'netvirt' can be typed, without that word. Tab completes commands, options, and the names
    of networks, endpoints, switches and ports as the server has them now. 'help' lists the commands, 'help
    COMMAND' explains one; 'exit' or Ctrl-D ends the shell. Lines are kept in a file that only its owner can
    read. Needs the extra 'shell': pip install 'libnetvirt[shell]'.

    If stdin is not a terminal, its lines are run one after the other, up to the first that fails, whose exit
    status is that of the shell. '#' begins a comment.

    \b
    Examples:
      netvirt shell
      netvirt -c openflow+unix:///run/netvirt.sock shell < changes.txt
    """
    uri = address(ctx, connect)
    root = ctx.find_root().command
    if sys.stdin.isatty():
        # Before the connection is opened: what is missing is said at once.
        read = _prompting()
        with _connected(uri) as connection:
            _session(root, read(root, connection, history))
        return
    with _connected(uri):
        for line in sys.stdin:
            status = run(root, line)
            if status is None:
                return
            if status:
                raise typer.Exit(status)


@contextlib.contextmanager
def _connected(uri: str) -> Iterator[libnetvirt.Connection]:
    """The connection that all commands in the block share."""
    before = os.environ.get(ENVIRONMENT)
    os.environ[ENVIRONMENT] = uri
    try:
        with libnetvirt.open(uri) as connection, sharing(connection):
            yield connection
    finally:
        if before is None:
            del os.environ[ENVIRONMENT]
        else:
            os.environ[ENVIRONMENT] = before


def _prompting() -> Callable[[Any, libnetvirt.Connection, Path | None], Iterator[str]]:
    try:
        from libnetvirt.cli.prompt import lines
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "prompt_toolkit":
            raise
        raise Unsupported(
            "'netvirt shell' needs prompt_toolkit on a terminal, which is not installed: "
            "pip install 'libnetvirt[shell]'"
        ) from None
    return lines


def _session(root: Any, typed: Iterator[str]) -> None:
    for line in typed:
        if run(root, line) is None:
            return


def run(root: Any, line: str) -> int | None:
    """Run a line. Returns its exit status, None for one that leaves the shell. Errors are on stderr."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        sys.stderr.write(f"error: {error}: close what was opened, or quote it\n")
        return 2
    if words[:1] == [_PROGRAM]:
        del words[0]
    if not words:
        return 0
    if words[0] in _LEAVE:
        return None
    if words[0] == "help":
        words = [*words[1:], "--help"]
    if words[0] == "shell":
        sys.stderr.write("error: this is the shell of netvirt already: 'help' lists the commands\n")
        return 2
    try:
        root.main(args=words, prog_name=_PROGRAM)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
    return 0
