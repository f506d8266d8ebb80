"""Options that all commands share, before the command and after it, and what they come to."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import typer

import libnetvirt
from libnetvirt.errors import InvalidURI
from libnetvirt.uri import EXAMPLES

#: Holds the URI if none is given.
ENVIRONMENT = "LIBNETVIRT_URI"


class Format(StrEnum):
    """How results are written."""

    TABLE = "table"
    JSON = "json"
    XML = "xml"
    YAML = "yaml"


REPORTS = (Format.TABLE, Format.JSON, Format.YAML)
DOCUMENTS = (Format.XML, Format.YAML, Format.JSON)

Connect = Annotated[
    str | None,
    typer.Option(
        "--connect",
        "-c",
        metavar="URI",
        help=f"Which driver or server to use; ${ENVIRONMENT} if left out.",
        show_default=False,
    ),
]
Output = Annotated[
    Format | None,
    typer.Option("--format", help="How to write the result.", show_default=False),
]
Pending = Annotated[
    bool,
    typer.Option(
        "--pending", help="Accept endpoints whose switch or port is not there: they come up with it."
    ),
]
NetworkName = Annotated[str, typer.Argument(metavar="VN", help="A network's uuid or name.")]


@dataclass
class Settings:
    """What was given before the command."""

    uri: str | None = None
    output: Format | None = None
    debug: bool = False


def settings(ctx: typer.Context) -> Settings:
    """Those of this run."""
    found = ctx.find_object(Settings)
    return found if found is not None else Settings()


def address(ctx: typer.Context, connect: str | None) -> str:
    """The URI to use: after the command, before it, or the environment's. Raises InvalidURI if none."""
    text = connect or settings(ctx).uri or os.environ.get(ENVIRONMENT)
    if not text:
        raise InvalidURI(f"no connection URI: give one with -c or set ${ENVIRONMENT}, for example {EXAMPLES}")
    return text


def connected(ctx: typer.Context, connect: str | None) -> libnetvirt.Connection:
    """An open connection; use it in a ``with``."""
    return libnetvirt.open(address(ctx, connect))


def chosen(ctx: typer.Context, output: Format | None, allowed: tuple[Format, ...] = REPORTS) -> Format:
    """The output format; the first allowed one by default. Raises a usage error for one not allowed."""
    wanted = output or settings(ctx).output
    if wanted is None:
        return allowed[0]
    if wanted not in allowed:
        offered = ", ".join(allowed)
        raise typer.BadParameter(f"'{ctx.info_name}' cannot write {wanted}: it writes {offered}.", ctx=ctx)
    return wanted
