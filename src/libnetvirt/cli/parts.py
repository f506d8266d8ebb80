"""Endpoints and constraints from a file, in place of options: ``-f FILE``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import typer

from libnetvirt import Constraint, Endpoint
from libnetvirt.cli.files import STDIN
from libnetvirt.formats.limits import MAX_BYTES

P = TypeVar("P", Endpoint, Constraint)

PartFile = Annotated[
    str | None,
    typer.Option(
        "--file",
        "-f",
        metavar="FILE",
        help="File that describes all of it, in XML, YAML or JSON, instead of options; '-' reads stdin.",
    ),
]


def part(ctx: typer.Context, kind: type[P], file: str, options: Mapping[str, Any]) -> P:
    """What a file describes. ``options``: name -> value of those that must not be given beside it.

    Raises BadParameter if one is, InvalidDescription.
    """
    given = [name for name, value in options.items() if value]
    if given:
        raise typer.BadParameter(
            f"a file describes the whole {kind.element_name()}: give -f FILE or options, not both "
            f"({', '.join(given)}).",
            ctx=ctx,
        )
    from libnetvirt.formats import parts

    if file == STDIN:
        return parts.read_part(kind, sys.stdin.buffer.read(MAX_BYTES + 1), file="<stdin>")
    return parts.read_part_file(kind, file)


def same(ctx: typer.Context, what: str, given: str | None, described: str) -> None:
    """Raise BadParameter if a uuid is given as an argument that is not the one in the file."""
    if given is not None and given != described:
        raise typer.BadParameter(
            f"the {what} is {given} here and {described} in the file: leave it out here, or correct one of "
            "them.",
            ctx=ctx,
        )


def required(ctx: typer.Context, **values: str | None) -> list[str]:
    """The values, which are needed without a file. Raises BadParameter if one is missing."""
    missing = [name for name, value in values.items() if value is None]
    if missing:
        raise typer.BadParameter(f"missing: {', '.join(missing)} (or -f FILE).", ctx=ctx)
    return [value for value in values.values() if value is not None]


def option_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a dataclass of options -> the options' names."""
    return {f"--{name.replace('_', '-')}": value for name, value in values.items()}
