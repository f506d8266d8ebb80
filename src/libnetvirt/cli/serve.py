"""``serve``: runs a driver for other commands and programs."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from libnetvirt.cli.options import Connect, address, settings


class LogFormat(StrEnum):
    """How the lines of the log are written."""

    TEXT = "text"
    JSON = "json"


def serve(
    ctx: typer.Context,
    socket: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Unix socket to listen on [default: /run/netvirt.sock for root, "
            "$XDG_RUNTIME_DIR/netvirt.sock for other users].",
            show_default=False,
        ),
    ] = None,
    metrics: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS:PORT",
            help="Loopback address where Prometheus reads metrics [default: the unix socket only].",
            show_default=False,
        ),
    ] = "",
    page: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS:PORT",
            help="Loopback address of the web page [default: no page].",
            show_default=False,
        ),
    ] = "",
    log_format: Annotated[
        LogFormat, typer.Option(help="Lines of the log: text, or one JSON object each.")
    ] = LogFormat.TEXT,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log all events to stderr.")] = False,
    connect: Connect = None,
) -> None:
    """Run a driver and serve it on a unix socket.

    Runs in the foreground until Ctrl-C or SIGTERM. Prints one line when clients can connect. Logs to stderr
    what is refused or dropped. SIGHUP reloads the capacities of links, as 'netvirt reload' does.

    The socket has mode 0600: only the user who started the server can use it. Other commands connect with
    the URI DRIVER+unix://PATH.

    The socket also has /metrics for Prometheus, /healthz and /readyz; --metrics offers these three on a
    TCP port of the loopback interface.

    --page offers the web page on such a port, and prints its address with a token as a second line. Who has
    that line may do everything on this server, until it ends.

    \b
    Examples:
      netvirt serve -c 'openflow:///?listen=0.0.0.0:6653' \\
          --socket /run/netvirt.sock
      netvirt -c openflow+unix:///run/netvirt.sock list
      netvirt serve -c test:///default --page 127.0.0.1:8080
      netvirt serve -c test:///default --socket /tmp/netvirt.sock --verbose
    """
    if settings(ctx).output is not None:
        raise typer.BadParameter("'serve' prints no result: remove --format.", ctx=ctx)
    uri = address(ctx, connect)
    path = (socket or default_socket()).absolute()
    # Imported here because the web framework is slow to load and only this command needs it.
    from libnetvirt import daemon
    from libnetvirt.configuration import tokens
    from libnetvirt.daemon import logs

    logs.configure(log_format, events=verbose)

    with TemporaryDirectory(prefix="netvirt-serve-") as directory:
        file = Path(directory) / "tokens.json"
        secret = tokens.create(file, "page", "admin") if page else ""

        def ready() -> None:
            sys.stdout.write(f"serving {uri} on {path}\n")
            if page:
                # Behind '#', browsers send it to no server.
                sys.stdout.write(f"page: http://{page}/ui/#token={secret}\n")
            sys.stdout.flush()

        on_event = logs.log_event if verbose else None
        daemon.run(uri, path, ready=ready, on_event=on_event, metrics=metrics, page=page, tokens=file)


def default_socket() -> Path:
    """The socket's path if --socket is not given."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path("/run" if os.geteuid() == 0 or not runtime else runtime) / "netvirt.sock"
