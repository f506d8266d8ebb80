"""``constraint add|modify|check|remove``."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer

import libnetvirt
from libnetvirt import Constraint
from libnetvirt.cli.options import Connect, Format, NetworkName, Output, chosen, connected
from libnetvirt.cli.output import document, line
from libnetvirt.driver import FEATURES

Source = Annotated[str, typer.Argument(metavar="SOURCE", help="Uuid of the endpoint it starts at.")]
Destination = Annotated[str, typer.Argument(metavar="DESTINATION", help="Uuid of the endpoint it leads to.")]
MinBandwidth = Annotated[str | None, typer.Option(metavar="BW", help="Guaranteed, such as '10 Mbit/s'.")]
MaxBandwidth = Annotated[str | None, typer.Option(metavar="BW", help="Never exceeded.")]
MaxLatency = Annotated[str | None, typer.Option(metavar="TIME", help="Of the path, such as '5 ms'.")]
MaxHops = Annotated[str | None, typer.Option(metavar="N", help="Of the path, 1 to 255.")]
Priority = Annotated[
    str | None,
    typer.Option(metavar="N", help="0 to 255: higher ones come first where not all can be kept (default 0)."),
]


class Clearable(StrEnum):
    """What 'modify --clear' can take away."""

    MIN_BANDWIDTH = "min-bandwidth"
    MAX_BANDWIDTH = "max-bandwidth"
    MAX_LATENCY = "max-latency"
    MAX_HOPS = "max-hops"
    PRIORITY = "priority"


Clear = Annotated[list[Clearable] | None, typer.Option("--clear", help="Take this away; may be repeated.")]


def add(
    ctx: typer.Context,
    network: NetworkName,
    source: Source,
    destination: Destination,
    min_bandwidth: MinBandwidth = None,
    max_bandwidth: MaxBandwidth = None,
    max_latency: MaxLatency = None,
    max_hops: MaxHops = None,
    priority: Priority = None,
    connect: Connect = None,
    output: Output = None,
) -> None:
    """Require something of the path from one endpoint to another, in this direction.

    Refused by drivers that do not offer it; 'netvirt drivers' shows which do.

    \b
    Examples:
      netvirt constraint add blue 11 12 --min-bandwidth '10 Mbit/s' --max-latency '5 ms'
    """
    wanted = chosen(ctx, output)
    fields = _given(min_bandwidth, max_bandwidth, max_latency, max_hops, priority)
    constraint = _constraint(ctx, source, destination, fields)
    with connected(ctx, connect) as connection:
        found = connection.lookup(network)
        _require(connection, source, destination, fields)
        found.add_constraint(constraint)
    _tell(network, source, destination, "added", wanted)


def modify(
    ctx: typer.Context,
    network: NetworkName,
    source: Source,
    destination: Destination,
    min_bandwidth: MinBandwidth = None,
    max_bandwidth: MaxBandwidth = None,
    max_latency: MaxLatency = None,
    max_hops: MaxHops = None,
    priority: Priority = None,
    clear: Clear = None,
    connect: Connect = None,
    output: Output = None,
) -> None:
    """Change a constraint: what is given replaces what was, the rest stays.

    \b
    Examples:
      netvirt constraint modify blue 11 12 --min-bandwidth '20 Mbit/s'
      netvirt constraint modify blue 11 12 --clear max-latency
    """
    wanted = chosen(ctx, output)
    changes = _cleared(clear) | _given(min_bandwidth, max_bandwidth, max_latency, max_hops, priority)
    if not changes:
        raise typer.BadParameter("nothing to change: give at least one option, such as --max-hops.", ctx=ctx)
    with connected(ctx, connect) as connection:
        found = connection.lookup(network)
        _require(connection, source, destination, changes)
        found.modify_constraint(source, destination, **changes)
    _tell(network, source, destination, "modified", wanted)


def check(
    ctx: typer.Context,
    network: NetworkName,
    source: Source,
    destination: Destination,
    min_bandwidth: MinBandwidth = None,
    max_bandwidth: MaxBandwidth = None,
    max_latency: MaxLatency = None,
    max_hops: MaxHops = None,
    priority: Priority = None,
    clear: Clear = None,
    connect: Connect = None,
    output: Output = None,
) -> None:
    """Tell whether add would be accepted now or, if there is a constraint, modify. Changes nothing.

    What would be refused ends with the same error and exit status.

    \b
    Examples:
      netvirt constraint check blue 11 12 --min-bandwidth '20 Mbit/s'
    """
    wanted = chosen(ctx, output)
    changes = _cleared(clear) | _given(min_bandwidth, max_bandwidth, max_latency, max_hops, priority)
    with connected(ctx, connect) as connection:
        now = connection.lookup(network).description()
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
    connect: Connect = None,
    output: Output = None,
) -> None:
    """Drop all requirements of the path from one endpoint to another.

    \b
    Examples:
      netvirt constraint remove blue 11 12
    """
    wanted = chosen(ctx, output)
    with connected(ctx, connect) as connection:
        found = connection.lookup(network)
        capabilities = connection.capabilities()
        known = [feature for feature in FEATURES if feature.startswith("constraint.")]
        if not capabilities.features.intersection(known):
            capabilities.require(known[0], f"a constraint from {source} to {destination}")
        found.remove_constraint(source, destination)
    _tell(network, source, destination, "removed", wanted)


def _given(
    min_bandwidth: str | None,
    max_bandwidth: str | None,
    max_latency: str | None,
    max_hops: str | None,
    priority: str | None,
) -> dict[str, Any]:
    """The fields of a constraint that options give."""
    fields = {
        "min_bandwidth": min_bandwidth,
        "max_bandwidth": max_bandwidth,
        "max_latency": max_latency,
        "max_hops": max_hops,
        "priority": priority,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _cleared(clear: list[Clearable] | None) -> dict[str, Any]:
    return {what.replace("-", "_"): None for what in clear or ()}


def _constraint(ctx: typer.Context, source: str, destination: str, fields: Mapping[str, Any]) -> Constraint:
    if not any(value for name, value in fields.items() if name != "priority"):
        raise typer.BadParameter(
            "nothing is required: give at least one option, such as --max-hops.", ctx=ctx
        )
    return Constraint(source=source, destination=destination, **fields)


def _require(
    connection: libnetvirt.Connection, source: str, destination: str, fields: Mapping[str, Any]
) -> None:
    # Before looking whether there is one to modify: "not offered" is the more useful answer.
    for name, value in fields.items():
        if value is not None and name != "priority":
            connection.capabilities().require(
                f"constraint.{name.replace('_', '-')}", f"the constraint from {source} to {destination}"
            )


def _tell(network: str, source: str, destination: str, outcome: str, output: Format) -> None:
    if output is Format.TABLE:
        line(f"constraint from {source} to {destination} of {network} {outcome}")
        return
    document({"network": network, "source": source, "destination": destination, "outcome": outcome}, output)
