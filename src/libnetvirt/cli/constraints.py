"""``constraint add|modify|remove``."""

from __future__ import annotations

from typing import Annotated

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
    constraint = _constraint(
        ctx, source, destination, min_bandwidth, max_bandwidth, max_latency, max_hops, priority
    )
    with connected(ctx, connect) as connection:
        found = connection.lookup(network)
        _require(connection, constraint)
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
    connect: Connect = None,
    output: Output = None,
) -> None:
    """Replace the requirements of the path from one endpoint to another.

    \b
    Examples:
      netvirt constraint modify blue 11 12 --min-bandwidth '20 Mbit/s'
    """
    wanted = chosen(ctx, output)
    constraint = _constraint(
        ctx, source, destination, min_bandwidth, max_bandwidth, max_latency, max_hops, priority
    )
    with connected(ctx, connect) as connection:
        found = connection.lookup(network)
        _require(connection, constraint)
        found.modify_constraint(constraint)
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
    connect: Connect = None,
    output: Output = None,
) -> None:
    """Tell whether add, or modify, would be accepted now. Changes nothing.

    What would be refused ends with the same error and exit status.

    \b
    Examples:
      netvirt constraint check blue 11 12 --min-bandwidth '20 Mbit/s'
    """
    wanted = chosen(ctx, output)
    constraint = _constraint(
        ctx, source, destination, min_bandwidth, max_bandwidth, max_latency, max_hops, priority
    )
    with connected(ctx, connect) as connection:
        now = connection.lookup(network).description
        others = tuple(c for c in now.constraints if c.key != constraint.key)
        connection.check(now.changed(constraints=(*others, constraint)))
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


def _constraint(
    ctx: typer.Context,
    source: str,
    destination: str,
    min_bandwidth: str | None,
    max_bandwidth: str | None,
    max_latency: str | None,
    max_hops: str | None,
    priority: str | None,
) -> Constraint:
    if not any((min_bandwidth, max_bandwidth, max_latency, max_hops)):
        raise typer.BadParameter(
            "nothing is required: give at least one option, such as --max-hops.", ctx=ctx
        )
    return Constraint.model_validate(
        {
            "source": source,
            "destination": destination,
            "min-bandwidth": min_bandwidth,
            "max-bandwidth": max_bandwidth,
            "max-latency": max_latency,
            "max-hops": max_hops,
            "priority": priority,
        }
    )


def _require(connection: libnetvirt.Connection, constraint: Constraint) -> None:
    # Before looking whether there is one to modify: "not offered" is the more useful answer.
    for name in constraint.asked:
        connection.capabilities().require(
            f"constraint.{name}", f"the constraint from {constraint.source} to {constraint.destination}"
        )


def _tell(network: str, source: str, destination: str, outcome: str, output: Format) -> None:
    if output is Format.TABLE:
        line(f"constraint from {source} to {destination} of {network} {outcome}")
        return
    document({"network": network, "source": source, "destination": destination, "outcome": outcome}, output)
