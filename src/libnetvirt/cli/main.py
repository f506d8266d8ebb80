"""The entry point: global options, the list of commands, and the mapping of errors to exit statuses.

Results go to stdout, errors to stderr in one paragraph. The exit status is the class of the error, see
the table in :mod:`libnetvirt.errors`; besides, 1 is an internal error, 2 a usage error, 130 an interrupt
and 141 a pipe that was closed by its reader.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from libnetvirt import __version__
from libnetvirt.cli import lazy
from libnetvirt.cli.options import MACHINE, AnyOutput, Connect, Settings
from libnetvirt.errors import InvalidDescription, NetvirtError

INTERRUPTED = 130
PIPE_CLOSED = 141
INTERNAL = 1
USAGE = 2

# Typer exports only one class of its parser's errors. Their common base is two levels up.
_PARSER_ERROR = typer.BadParameter.__mro__[2]
_HANDLED_BY_TYPER = (_PARSER_ERROR, typer.Exit, typer.Abort)


#: the commands: name, module, function, and the first sentence of its docstring
COMMANDS = (
    ("validate", "networks", "validate", "Check descriptions without connecting to a driver."),
    ("create", "networks", "create", "Create the networks described in files."),
    ("apply", "networks", "apply", "Create or change networks to match the descriptions in files."),
    ("edit", "edit", "edit", "Change a network in a text editor."),
    ("remove", "networks", "remove", "Remove networks."),
    ("list", "networks", "list_networks", "List the networks in order of creation."),
    ("show", "show", "show", "Show the details of a network."),
    ("dump", "networks", "dump", "Print the description of a network, or of all."),
    ("substrate", "substrate", "substrate", "Show the switches, their ports and the links."),
    ("rules", "substrate", "rules", "Show the rules in the switches."),
    ("verify", "verification", "verify", "Prove that all frames are forwarded as networks promise."),
    ("why", "why", "why", "Explain why frames between two endpoints arrive or not."),
    ("repair", "substrate", "repair", "Restore what others changed in the networks' configuration."),
    ("reload", "substrate", "reload", "Reload the configuration of netvirtd, and the capacities of links."),
    ("export", "exchange", "export", "Write all networks with their constraints to one file."),
    ("import", "exchange", "import_networks", "Make the networks those that 'export' has written."),
    ("backup", "state", "backup", "Write a consistent copy of all stored networks to a file."),
    ("restore", "state", "restore", "Replace the stored networks by those in a backup."),
    ("recover", "state", "recover", "Describe the networks that the rules of switches were made for."),
    ("events", "events", "events", "Print events as they happen, one a line."),
    ("watch", "watch", "watch", "Watch the states of networks, and events."),
    ("top", "top", "top", "Show the traffic of networks and links."),
    ("topology", "topology", "topology", "Draw the switches and links, with load and paths."),
    ("shell", "shell", "shell", "Run commands at a prompt, with completion from the server."),
    (
        "doctor",
        "bridges",
        "doctor",
        "Report what is wrong with the bridges of Open vSwitch, or with this host.",
    ),
    ("prepare", "bridges", "prepare", "Set bridges of Open vSwitch up for networks."),
    ("drivers", "drivers", "drivers", "Show the capabilities of the installed drivers."),
    ("serve", "serve", "serve", "Run a driver and serve it on a unix socket."),
)
#: the groups of commands: name, module, functions, summary
GROUPS = (
    (
        "endpoint",
        "endpoints",
        ("add", "modify", "remove"),
        "Add, modify or remove endpoints of a network.",
    ),
    (
        "constraint",
        "constraints",
        ("add", "check", "modify", "remove"),
        "Add, check, modify or remove constraints on paths.",
    ),
    ("config", "config", ("check", "files", "show"), "Check or show the configuration of netvirtd."),
    (
        "token",
        "tokens",
        ("create", "list_", "revoke"),
        "Create, list or revoke the tokens of clients on the network.",
    ),
    (
        "switch",
        "ownership",
        ("adopt", "forget"),
        "Decide about switches whose rules belong to another controller.",
    ),
)


class Commands(TyperGroup):
    """The command group. Turns errors into messages and exit statuses."""

    def __init__(self, **attributes: Any) -> None:
        found = [lazy.command(*one) for one in COMMANDS] + [lazy.group(*one) for one in GROUPS]
        super().__init__(**{**attributes, "commands": {str(one.name): one for one in found}})

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Raises typer.Exit with the exit status if it fails."""
        settings = Settings()
        ctx.obj = settings
        words = list(ctx.args)
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except NetvirtError as error:
            _report(describe(error), error, settings, error.to_json(), error.exit_status)
            raise typer.Exit(error.exit_status) from None
        except BrokenPipeError:
            _drop_stdout()
            raise typer.Exit(PIPE_CLOSED) from None
        except KeyboardInterrupt as error:
            text = ": ".join(["interrupted", *map(str, error.args)])
            _report(text, error, settings, {"code": "interrupted", "message": text}, INTERRUPTED)
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            if isinstance(error, _PARSER_ERROR) and _wants_json(settings, words):
                text = getattr(error, "format_message", error.__str__)()
                _report(text, error, settings, {"code": "usage", "message": text}, USAGE)
                raise typer.Exit(USAGE) from None
            if isinstance(error, _HANDLED_BY_TYPER):
                raise
            what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            text = (
                f"internal error: {what}. This is a bug in libnetvirt {__version__}: please report it, with "
                "the output of the same command after 'netvirt --debug'."
            )
            _report(text, error, settings, {"code": "internal", "message": text}, INTERNAL)
            raise typer.Exit(INTERNAL) from None
        return result


def describe(error: NetvirtError) -> str:
    """The error as one paragraph: its message or list of faults, then its notes (what was done before it)."""
    if isinstance(error, InvalidDescription) and len(error.faults) > 1:
        text = f"{len(error.faults)} faults:\n" + "\n".join(f"  {fault}" for fault in error.faults)
    else:
        text = str(error)
    return "\n".join([text, *getattr(error, "__notes__", [])])


def _report(
    text: str, error: BaseException, settings: Settings, content: Mapping[str, Any], status: int
) -> None:
    """Write an error to stderr, as a paragraph or, with ``--format json`` or ``yaml``, as an object."""
    _flush_quietly()
    if settings.debug:
        import traceback

        traceback.print_exception(error, file=sys.stderr)
    if settings.output not in MACHINE:
        sys.stderr.write(f"error: {text}\n")
        return
    notes = list(getattr(error, "__notes__", []))
    whole = {**content, "exit-status": status, **({"notes": notes} if notes else {})}
    sys.stderr.write(json.dumps({"error": whole}, ensure_ascii=False) + "\n")


def _wants_json(settings: Settings, words: list[str]) -> bool:
    """Whether errors are wanted in JSON, where the options after the command could not be read."""
    for option, value in itertools.pairwise([*words, ""]):
        for one in MACHINE:
            if (option in ("--format", "-o") and value == one) or option in (f"--format={one}", f"-o{one}"):
                settings.output = one
    return settings.output in MACHINE


def _flush_quietly() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_stdout()


def _drop_stdout() -> None:
    # The interpreter flushes stdout at exit and would report the closed pipe.
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, sys.stdout.fileno())
    except (OSError, ValueError):
        return
    finally:
        os.close(nothing)


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"netvirt {__version__}\n")
        raise typer.Exit


def _common(
    ctx: typer.Context,
    connect: Connect = None,
    output: AnyOutput = None,
    debug: Annotated[bool, typer.Option("--debug", help="Print a traceback with each error.")] = False,
    no_pager: Annotated[
        bool, typer.Option("--no-pager", help="Show output in one piece, also if it is long.")
    ] = False,
    _: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True),
    ] = False,
) -> None:
    """Create and manage isolated virtual networks.

    A virtual network connects endpoints (a switch, a port and optionally a tag) as one switch or one
    router would. Networks are described in XML, YAML or JSON files. The connection URI selects the driver
    that implements them: 'openflow', 'ovn', 'test' or any other that 'netvirt drivers' lists.

    \b
    Examples:
      netvirt validate blue.xml
      netvirt serve -c 'openflow:///?listen=0.0.0.0:6653' \\
          --socket /run/netvirt.sock
      export LIBNETVIRT_URI=openflow+unix:///run/netvirt.sock
      netvirt create blue.xml
      netvirt show blue
      netvirt drivers

    \b
    Exit status:
      0    success
      1    internal error
      2    usage error
      3    invalid description or URI, or a driver that is not installed
      4    not found
      5    conflict with what exists
      6    not supported by the driver
      7    the switches cannot do it or are not connected
      8    no connection to the driver
      9    the server does not permit it to this client
      130  interrupted
      141  stdout was closed by its reader
    """
    settings = ctx.find_object(Settings)
    assert settings is not None
    settings.uri, settings.output, settings.debug, settings.no_pager = connect, output, debug, no_pager


def build() -> typer.Typer:
    """The Typer application with all commands."""
    return typer.Typer(
        name="netvirt",
        cls=Commands,
        callback=_common,
        no_args_is_help=True,
        # Plain help is the same on a terminal and in a pipe, and starts faster.
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def main() -> None:
    """Run the command line. Exits the process with the command's status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Names may contain characters that the terminal's encoding lacks.
            stream.reconfigure(errors="backslashreplace")
    try:
        build()(prog_name="netvirt")
    except KeyboardInterrupt:
        # While the command is imported.
        sys.stderr.write("error: interrupted\n")
        sys.exit(INTERRUPTED)
