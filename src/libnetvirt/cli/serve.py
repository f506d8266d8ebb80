"""``serve``: a driver that lives longer than one command."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from libnetvirt import Event
from libnetvirt.cli.events import text
from libnetvirt.cli.options import Connect, address, settings


def serve(
    ctx: typer.Context,
    socket: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="The unix socket to listen on. Default: /run/netvirt.sock for root, "
            "$XDG_RUNTIME_DIR/netvirt.sock for others.",
            show_default=False,
        ),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log events to stderr.")] = False,
    connect: Connect = None,
) -> None:
    """Serve a driver on a unix socket.

    Runs in the foreground until Ctrl-C or SIGTERM.

    The socket has mode 0600: only the user who started the server may use it. Other commands reach
    it with the driver's name and '+unix'. Prints one line when it is ready.

    \b
    Examples:
      netvirt serve -c 'openflow:///?listen=0.0.0.0:6653' --socket /run/netvirt.sock
      netvirt -c openflow+unix:///run/netvirt.sock list
      netvirt serve -c test:///default --socket /tmp/netvirt.sock --verbose
    """
    if settings(ctx).output is not None:
        raise typer.BadParameter("'serve' has no result to write: leave --format out.", ctx=ctx)
    uri = address(ctx, connect)
    path = (socket or default_socket()).absolute()
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(message)s",
    )
    # The web framework takes longer to load than all the rest, and only this command needs it.
    from libnetvirt import daemon

    def ready() -> None:
        sys.stdout.write(f"serving {uri} on {path}\n")
        sys.stdout.flush()

    daemon.run(uri, path, ready=ready, on_event=_log if verbose else None)


def default_socket() -> Path:
    """Where the server listens if nothing is said."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path("/run" if os.geteuid() == 0 or not runtime else runtime) / "netvirt.sock"


def _log(event: Event) -> None:
    sys.stderr.write(text(event) + "\n")
    sys.stderr.flush()
