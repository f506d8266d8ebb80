"""Options that all commands share. They may stand before the command or after it; after it wins."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, get_type_hints

import typer

import libnetvirt
from libnetvirt.errors import InvalidURI
from libnetvirt.uri import EXAMPLES

#: The environment variable with the connection URI that is used if -c is not given.
ENVIRONMENT = "LIBNETVIRT_URI"


class Format(StrEnum):
    """Output formats. ``wide``: tables with all columns, also on a terminal that is narrower."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    XML = "xml"
    YAML = "yaml"

    @property
    def tabular(self) -> bool:
        """Whether it is for people: tables and sentences."""
        return self in (Format.TABLE, Format.WIDE)


#: The formats that programs read. Errors are JSON with both of them, which is YAML as well.
MACHINE = (Format.JSON, Format.YAML)
#: The formats of a report, of a stream of reports, and of a description; the first one is the default.
REPORTS = (Format.TABLE, Format.WIDE, Format.JSON, Format.YAML)
STREAMS = (Format.TABLE, Format.JSON, Format.YAML)
DOCUMENTS = (Format.XML, Format.YAML, Format.JSON)


def _format_option(allowed: tuple[Format, ...]) -> Any:
    return typer.Option(
        "--format", "-o", metavar=f"<{'|'.join(allowed)}>", help="Output format.", show_default=False
    )


Connect = Annotated[
    str | None,
    typer.Option(
        "--connect",
        "-c",
        metavar="URI",
        help=f"Connection URI of a driver or server [default: ${ENVIRONMENT}].",
        show_default=False,
    ),
]
AnyOutput = Annotated[Format | None, _format_option(tuple(Format))]
Output = Annotated[Format | None, _format_option(REPORTS)]
StreamOutput = Annotated[Format | None, _format_option(STREAMS)]
DocumentOutput = Annotated[Format | None, _format_option(DOCUMENTS)]
Pending = Annotated[
    bool,
    typer.Option(
        "--pending",
        help="Accept endpoints whose switch or port does not exist yet. They become active when it appears.",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check and print what would be changed, and change nothing.")
]
NetworkName = Annotated[
    str, typer.Argument(metavar="VN", help="UUID or name of the network (to say which: uuid:7, name:7).")
]


@dataclass
class Settings:
    """The options that were given before the command."""

    uri: str | None = None
    output: Format | None = None
    debug: bool = False
    no_pager: bool = False


def settings(ctx: typer.Context) -> Settings:
    """The settings of this run."""
    found = ctx.find_object(Settings)
    return found if found is not None else Settings()


def address(ctx: typer.Context, connect: str | None) -> str:
    """The URI given after the command, before it, or in the environment. Raises InvalidURI if none is."""
    given = (connect, settings(ctx).uri, os.environ.get(ENVIRONMENT))
    text = next((uri for uri in given if uri is not None), "")
    if not text:
        raise InvalidURI(f"no connection URI: use -c or set ${ENVIRONMENT}, for example {EXAMPLES}")
    return text


#: The connection that all commands share in a shell.
_SHARED: ContextVar[libnetvirt.Connection | None] = ContextVar("shared", default=None)


@contextmanager
def sharing(connection: libnetvirt.Connection) -> Iterator[None]:
    """In the block, :func:`connected` returns this connection to those who want its URI."""
    token = _SHARED.set(connection)
    try:
        yield
    finally:
        _SHARED.reset(token)


def in_shell() -> bool:
    """Whether the command is one of a shell's."""
    return _SHARED.get() is not None


def connected(ctx: typer.Context, connect: str | None) -> AbstractContextManager[libnetvirt.Connection]:
    """A connection, for a with statement. Raises InvalidURI, DriverNotFound, ConnectionFailed."""
    uri, shared = address(ctx, connect), _SHARED.get()
    if shared is not None and shared.uri == uri:
        return nullcontext(shared)
    return libnetvirt.open(uri)


def chosen(ctx: typer.Context, output: Format | None, allowed: tuple[Format, ...] = REPORTS) -> Format:
    """The output format, by default the first of ``allowed``. Raises BadParameter for any other format.

    Errors are written in it, too.
    """
    wanted = settings(ctx).output = output or settings(ctx).output
    if wanted is None:
        return allowed[0]
    if wanted not in allowed:
        offered = ", ".join(allowed)
        raise typer.BadParameter(f"'{ctx.info_name}' cannot write {wanted}: it writes {offered}.", ctx=ctx)
    return wanted


def takes(kind: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator for commands that share options: the command's parameter ``given`` is a dataclass ``kind``,
    and each field of it is an option of the command.
    """
    hints = get_type_hints(kind, include_extras=True)
    shared = [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=hints[f.name])
        for f in dataclasses.fields(kind)
    ]
    names = {p.name for p in shared}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own_hints = get_type_hints(command, include_extras=True)
        parameters: list[inspect.Parameter] = []
        for p in inspect.signature(command).parameters.values():
            if p.name == "given":
                parameters += shared
            else:
                # Keyword-only parameters may follow in any order, whether or not they have a default.
                parameters.append(
                    p.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=own_hints[p.name])
                )

        @functools.wraps(command)
        def run(**values: Any) -> None:
            own = {name: value for name, value in values.items() if name not in names}
            command(**own, given=kind(**{name: values[name] for name in names}))

        run.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return run

    return decorate
