"""The entry point: global options, the table of commands, and errors as exit status.

Results go to stdout, errors to stderr in one paragraph. The exit status tells the class of an error;
:mod:`libnetvirt.errors` has the table. 2 is a usage error, 130 an interrupt, 141 a closed pipe, 1
anything that nobody expected.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from libnetvirt import NetvirtError, __version__
from libnetvirt.cli import constraints, drivers, endpoints, events, networks, physical, serve, show
from libnetvirt.cli.options import Connect, Output, Settings
from libnetvirt.errors import InvalidDescription

INTERRUPTED = 130
PIPE_CLOSED = 141
INTERNAL = 1

# typer shows one of its parser's errors only; the root of all of them is two steps above.
_PARSER_ERROR = typer.BadParameter.__mro__[2]
_OURS_TO_PASS = (_PARSER_ERROR, typer.Exit, typer.Abort)


class Commands(TyperGroup):
    """The commands, with errors turned into messages and exit status."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Raises typer.Exit with the status."""
        settings = Settings()
        ctx.obj = settings
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except NetvirtError as error:
            _report(describe(error), error, settings.debug)
            raise typer.Exit(error.exit_status) from None
        except BrokenPipeError:
            _drop_stdout()
            raise typer.Exit(PIPE_CLOSED) from None
        except KeyboardInterrupt as error:
            _report("\n".join(["interrupted", *getattr(error, "__notes__", [])]), error, settings.debug)
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            if isinstance(error, _OURS_TO_PASS):
                raise
            what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            _report(
                f"internal error: {what}. This is a bug in libnetvirt {__version__}: please report it, with "
                "what 'netvirt --debug' and the same command print.",
                error,
                settings.debug,
            )
            raise typer.Exit(INTERNAL) from None
        return result


def describe(error: NetvirtError) -> str:
    """An error in one paragraph: several faults in a list, then what was done before it."""
    if isinstance(error, InvalidDescription) and len(error.faults) > 1:
        text = f"{len(error.faults)} faults:\n" + "\n".join(f"  {fault}" for fault in error.faults)
    else:
        text = str(error)
    return "\n".join([text, *getattr(error, "__notes__", [])])


def _report(text: str, error: BaseException, debug: bool) -> None:
    _flush_quietly()
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    sys.stderr.write(f"error: {text}\n")


def _flush_quietly() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_stdout()


def _drop_stdout() -> None:
    # The interpreter flushes stdout at its end and would complain that nobody reads it.
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
    output: Output = None,
    debug: Annotated[bool, typer.Option("--debug", help="Print tracebacks of errors.")] = False,
    _: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_version, is_eager=True),
    ] = False,
) -> None:
    """Isolated virtual networks, whatever the technology below.

    A network is a set of endpoints, described in a file; 'netvirt create' makes it on the network that
    the URI names, and nothing passes between it and others.

    \b
    Examples:
      netvirt validate blue.xml
      netvirt serve -c 'openflow:///?listen=0.0.0.0:6653' --socket /run/netvirt.sock
      export LIBNETVIRT_URI=openflow+unix:///run/netvirt.sock
      netvirt create blue.xml
      netvirt show blue
      netvirt drivers

    \b
    Exit status: 0 done, 1 internal error, 2 wrong usage, 3 wrong description or URI, 4 not found,
    5 conflict, 6 not offered by the driver, 7 the switches cannot, 8 no connection, 130 interrupted.
    """
    settings = ctx.find_object(Settings)
    assert settings is not None
    settings.uri, settings.output, settings.debug = connect, output, debug


def build() -> typer.Typer:
    """The application with all its commands."""
    app = typer.Typer(
        name="netvirt",
        cls=Commands,
        callback=_common,
        no_args_is_help=True,
        # Plain help: it reads the same in a pipe, and is there sooner.
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    commands: tuple[tuple[str, Callable[..., None]], ...] = (
        ("validate", networks.validate),
        ("create", networks.create),
        ("apply", networks.apply),
        ("remove", networks.remove),
        ("list", networks.list_networks),
        ("show", show.show),
        ("dump", networks.dump),
        ("substrate", physical.substrate),
        ("rules", physical.rules),
        ("repair", physical.repair),
        ("reload", physical.reload),
        ("events", events.events),
        ("drivers", drivers.drivers),
        ("serve", serve.serve),
    )
    for name, function in commands:
        app.command(name)(function)
    for name, about, module in (
        ("endpoint", "Change the endpoints of a network.", endpoints),
        ("constraint", "Change requirements on paths of a network.", constraints),
    ):
        group = typer.Typer(name=name, help=about, no_args_is_help=True, rich_markup_mode=None)
        group.command("add")(module.add)
        if module is constraints:
            group.command("check")(constraints.check)
        group.command("modify")(module.modify)
        group.command("remove")(module.remove)
        app.add_typer(group)
    return app


def main() -> None:
    """Run the command line; ends the process."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name may hold characters that the terminal's encoding has not.
            stream.reconfigure(errors="backslashreplace")
    build()(prog_name="netvirt")
