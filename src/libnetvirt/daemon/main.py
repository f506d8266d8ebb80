"""``netvirtd``: the daemon, with its configuration from a file."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from libnetvirt import __version__
from libnetvirt.configuration import PATH, Configuration, load
from libnetvirt.daemon.server import Daemon
from libnetvirt.errors import NetvirtError
from libnetvirt.event_loop import new_event_loop

log = logging.getLogger("libnetvirt.daemon")


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"netvirtd {__version__}\n")
        raise typer.Exit


def netvirtd(
    config: Annotated[
        Path, typer.Option("--config", metavar="FILE", help="The configuration.", show_default=True)
    ] = PATH,
    check_config: Annotated[
        bool,
        typer.Option("--check-config", help="Check the configuration, open nothing, and exit."),
    ] = False,
    _: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True),
    ] = False,
) -> None:
    """Serve virtual networks: one or several drivers, to clients on unix sockets.

    Runs in the foreground until SIGTERM or SIGINT, and logs to stderr. SIGHUP reloads the configuration:
    what has not changed in it is not touched, and one with a fault is refused as a whole. A supervisor such
    as systemd is told when netvirtd is ready, reloads and ends (sd_notify).

    Clients connect with the URI DRIVER+unix://SOCKET, or DRIVER+unix://SOCKET?connection=NAME where there are
    several connections.

    \b
    Examples:
      netvirtd
      netvirtd --check-config --config ./netvirtd.toml
      netvirt -c openflow+unix:///run/libnetvirt/netvirtd.sock list

    \b
    Exit status:
      0    it was told to end, or the configuration is right
      2    usage error
      3    the configuration or a URI in it is wrong
      8    a port, socket, database or state file cannot be used
    """
    try:
        configuration = load(config)
        if check_config:
            sys.stdout.write(f"{config} is right: {_summary(configuration)}\n")
            return
        _log_to_stderr(configuration)
        daemon = Daemon(
            configuration,
            config,
            ready=lambda: log.info("serving %s", _summary(configuration)),
            configured=_set_level,
        )
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(daemon.run())
    except NetvirtError as error:
        sys.stderr.write(f"error: {error}\n")
        raise typer.Exit(error.exit_status) from None


def _summary(configuration: Configuration) -> str:
    paths = ", ".join(listener.path for listener in configuration.listeners)
    return f"{', '.join(configuration.connections)} on {paths}"


def _log_to_stderr(configuration: Configuration) -> None:
    # The journal has the time of each line itself.
    when = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "
    logging.basicConfig(stream=sys.stderr, format=f"{when}%(levelname)s %(message)s")
    _set_level(configuration)


def _set_level(configuration: Configuration) -> None:
    logging.getLogger().setLevel(configuration.log.level.upper())


def build() -> typer.Typer:
    """The Typer application."""
    app = typer.Typer(
        name="netvirtd",
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.command()(netvirtd)
    return app


def main() -> None:
    """Run the daemon. Exits the process with its status."""
    build()(prog_name="netvirtd")
