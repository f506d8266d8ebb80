"""``constraint add|modify|check|remove``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Annotated, Any

import typer

import libnetvirt
from libnetvirt import Constraint
from libnetvirt.cli.forecasts import DryRun, rehearsed, tell
from libnetvirt.cli.naming import find
from libnetvirt.cli.options import Connect, Format, NetworkName, Output, chosen, connected, takes
from libnetvirt.cli.output import document, line
from libnetvirt.cli.parts import PartFile, option_names, part, required, same
from libnetvirt.driver import FEATURES

Source = Annotated[str, typer.Argument(metavar="SOURCE", help="UUID of the endpoint where the path starts.")]
Destination = Annotated[
    str, typer.Argument(metavar="DESTINATION", help="UUID of the endpoint where the path ends.")
]


MaybeSource = Annotated[
    str | None,
    typer.Argument(metavar="SOURCE", help="UUID of the endpoint where the path starts."),
]
MaybeDestination = Annotated[
    str | None,
    typer.Argument(metavar="DESTINATION", help="UUID of the endpoint where the path ends."),
]


class Clearable(StrEnum):
    """The fields that 'modify --clear' can remove."""

    MIN_BANDWIDTH = "min-bandwidth"
    MAX_BANDWIDTH = "max-bandwidth"
    MAX_LATENCY = "max-latency"
    MAX_HOPS = "max-hops"
    PRIORITY = "priority"


Clear = Annotated[
    list[Clearable] | None,
    typer.Option(
        "--clear", metavar="FIELD", help=f"Remove a field ({', '.join(Clearable)}); may be repeated."
    ),
]


@dataclass(frozen=True)
class Requirements:
    """The options for the fields of a constraint."""

    min_bandwidth: Annotated[
        str | None, typer.Option(metavar="BW", help="Guaranteed bandwidth, such as '10 Mbit/s'.")
    ] = None
    max_bandwidth: Annotated[
        str | None, typer.Option(metavar="BW", help="Maximum bandwidth, such as '50 Mbit/s'.")
    ] = None
    max_latency: Annotated[
        str | None, typer.Option(metavar="TIME", help="Maximum latency of the path, such as '5 ms'.")
    ] = None
    max_hops: Annotated[
        str | None, typer.Option(metavar="N", help="Maximum number of switches of the path, 1 to 255.")
    ] = None
    priority: Annotated[
        str | None,
        typer.Option(metavar="N", help="0 (default) to 255: higher ones are kept first after a failure."),
    ] = None

    @property
    def given(self) -> dict[str, Any]:
        """The fields whose options were given."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


@takes(Requirements)
def add(
    ctx: typer.Context,
    network: NetworkName,
    source: MaybeSource = None,
    destination: MaybeDestination = None,
    *,
    given: Requirements,
    file: PartFile = None,
    dry_run: DryRun = False,
    connect: Connect = None,
    output: Output = None,
) -> None:
    """Add a constraint on the path between two endpoints.

    A constraint applies to one direction. 'netvirt drivers' shows which drivers offer constraints. It is
    described by arguments and options, or by a file.

    \b
    Examples:
      netvirt constraint add blue 11 12 --min-bandwidth '10 Mbit/s' \\
          --max-latency '5 ms'
      netvirt constraint add blue -f constraint.yaml
    """
    wanted = chosen(ctx, output)
    if file is not None:
        constraint = _described(ctx, file, source, destination, given, None)
    else:
        source, destination = required(ctx, SOURCE=source, DESTINATION=destination)
        constraint = _constraint(ctx, source, destination, given.given)
    with connected(ctx, connect) as connection:
        target = rehearsed(connection, dry_run)
        found = find(target, network)
        _require(connection, constraint.source, constraint.destination, constraint.asked)
        found.add_constraint(constraint)
        if dry_run:
            tell(target, wanted)
            return
    _tell(network, constraint.source, constraint.destination, "added", wanted)


@takes(Requirements)
def modify(
    ctx: typer.Context,
    network: NetworkName,
    source: MaybeSource = None,
    destination: MaybeDestination = None,
    *,
    given: Requirements,
    clear: Clear = None,
    file: PartFile = None,
    dry_run: DryRun = False,
    connect: Connect = None,
    output: Output = None,
) -> None:
    """Change fields of a constraint.

    Each option replaces the old value of its field. Fields without an option stay as they are. A file
    replaces the whole constraint from its source to its destination.

    \b
    Examples:
      netvirt constraint modify blue 11 12 --min-bandwidth '20 Mbit/s'
      netvirt constraint modify blue 11 12 --clear max-latency
      netvirt constraint modify blue -f constraint.yaml
    """
    wanted = chosen(ctx, output)
    if file is not None:
        constraint = _described(ctx, file, source, destination, given, clear)
        with connected(ctx, connect) as connection:
            target = rehearsed(connection, dry_run)
            found = find(target, network)
            _require(connection, constraint.source, constraint.destination, constraint.asked)
            found.replace_constraint(constraint)
            if dry_run:
                tell(target, wanted)
                return
        _tell(network, constraint.source, constraint.destination, "modified", wanted)
        return
    source, destination = required(ctx, SOURCE=source, DESTINATION=destination)
    changes = _changes(ctx, clear, given)
    if not changes:
        raise typer.BadParameter("nothing to change: give at least one option, such as --max-hops.", ctx=ctx)
    with connected(ctx, connect) as connection:
        target = rehearsed(connection, dry_run)
        found = find(target, network)
        _require(connection, source, destination, changes)
        found.modify_constraint(source, destination, **changes)
        if dry_run:
            tell(target, wanted)
            return
    _tell(network, source, destination, "modified", wanted)


@takes(Requirements)
def check(
    ctx: typer.Context,
    network: NetworkName,
    source: Source,
    destination: Destination,
    given: Requirements,
    clear: Clear = None,
    connect: Connect = None,
    output: Output = None,
) -> None:
    """Check whether a constraint would be accepted now.

    Checks what 'modify' would do if the constraint exists, else 'add', and changes nothing. If it would be
    refused, the command fails with the same error and exit status.

    \b
    Examples:
      netvirt constraint check blue 11 12 --min-bandwidth '20 Mbit/s'
    """
    wanted = chosen(ctx, output)
    changes = _changes(ctx, clear, given)
    with connected(ctx, connect) as connection:
        now = find(connection, network).description()
        old = now.constraint(source, destination)
        new = old.changed(**changes) if old else _constraint(ctx, source, destination, changes)
        others = tuple(c for c in now.constraints if c is not old)
        connection.check(now.changed(constraints=(*others, new)))
    _tell(network, source, destination, "can be kept", wanted)


def remove(
    ctx: typer.Context,
    network: NetworkName,
    source: Source,
    destination: Destination,
    dry_run: DryRun = False,
    connect: Connect = None,
    output: Output = None,
) -> None:
    """Remove the constraint on the path between two endpoints.

    \b
    Examples:
      netvirt constraint remove blue 11 12
    """
    wanted = chosen(ctx, output)
    with connected(ctx, connect) as connection:
        target = rehearsed(connection, dry_run)
        found = find(target, network)
        capabilities = connection.capabilities()
        known = [feature for feature in FEATURES if feature.startswith("constraint.")]
        if not capabilities.features.intersection(known):
            capabilities.require(known[0], f"a constraint from {source} to {destination}")
        found.remove_constraint(source, destination)
        if dry_run:
            tell(target, wanted)
            return
    _tell(network, source, destination, "removed", wanted)


def _described(
    ctx: typer.Context,
    file: str,
    source: str | None,
    destination: str | None,
    given: Requirements,
    clear: list[Clearable] | None,
) -> Constraint:
    """The constraint in a file. Raises BadParameter if options are given as well, or other endpoints."""
    found = part(ctx, Constraint, file, {"--clear": clear} | option_names(given.given))
    same(ctx, "source", source, found.source)
    same(ctx, "destination", destination, found.destination)
    return found


def _changes(ctx: typer.Context, clear: list[Clearable] | None, given: Requirements) -> dict[str, Any]:
    """The fields that change. Raises BadParameter if one is both set and removed."""
    cleared = {what.replace("-", "_"): None for what in clear or ()}
    for name in cleared.keys() & given.given.keys():
        option = name.replace("_", "-")
        raise typer.BadParameter(f"--{option} and --clear {option} exclude each other.", ctx=ctx)
    return cleared | given.given


def _constraint(ctx: typer.Context, source: str, destination: str, fields: Mapping[str, Any]) -> Constraint:
    if not any(value for name, value in fields.items() if name != "priority"):
        raise typer.BadParameter("no requirement: give at least one option, such as --max-hops.", ctx=ctx)
    return Constraint(source=source, destination=destination, **fields)


def _require(
    connection: libnetvirt.Connection, source: str, destination: str, fields: Mapping[str, Any]
) -> None:
    # Before the constraint is looked up: "not offered" is more useful than "not found".
    for name, value in fields.items():
        if value is not None and name != "priority":
            connection.capabilities().require(
                f"constraint.{name.replace('_', '-')}", f"the constraint from {source} to {destination}"
            )


def _tell(network: str, source: str, destination: str, outcome: str, output: Format) -> None:
    if output.tabular:
        line(f"constraint from {source} to {destination} of {network} {outcome}")
        return
    document({"network": network, "source": source, "destination": destination, "outcome": outcome}, output)
