"""``endpoint add|modify|remove``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from libnetvirt import Endpoint, Fault, InvalidDescription
from libnetvirt.cli.options import Connect, Format, NetworkName, Output, Pending, chosen, connected
from libnetvirt.cli.output import document, line

EndpointUuid = Annotated[str, typer.Argument(metavar="UUID", help="The endpoint's uuid in its network.")]
Vlan = Annotated[str | None, typer.Option(metavar="N", help="Take the frames with this vlan tag.")]
Mpls = Annotated[str | None, typer.Option(metavar="N", help="Take the packets with this mpls label.")]
Addresses = Annotated[
    list[str] | None,
    typer.Option("--address", metavar="A", help="Gateway address of an L3 network, such as 10.0.1.254/24."),
]
Routes = Annotated[
    list[str] | None,
    typer.Option("--route", metavar="PREFIX,VIA", help="L3: a network behind the endpoint."),
]
Macs = Annotated[
    list[str] | None, typer.Option("--mac", metavar="M", help="A host that is known beforehand.")
]
Inbound = Annotated[
    str | None, typer.Option(metavar="BW", help="Limit into the network, such as '50 Mbit/s'.")
]
Outbound = Annotated[str | None, typer.Option(metavar="BW", help="Limit out of it, to the host.")]


class Clearable(StrEnum):
    """What 'modify --clear' can take away."""

    TAG = "tag"
    ADDRESS = "address"
    ROUTE = "route"
    MAC = "mac"
    BANDWIDTH = "bandwidth"


def add(
    ctx: typer.Context,
    network: NetworkName,
    uuid: Annotated[str, typer.Option(metavar="U", help="Unique in the network.")],
    switch: Annotated[str, typer.Option(metavar="S", help="The switch's id.")],
    port: Annotated[str, typer.Option(metavar="P", help="The port's number or name.")],
    vlan: Vlan = None,
    mpls: Mpls = None,
    address: Addresses = None,
    route: Routes = None,
    mac: Macs = None,
    inbound: Inbound = None,
    outbound: Outbound = None,
    pending: Pending = False,
    connect: Connect = None,
    output: Output = None,
) -> None:
    """Add an endpoint to a network.

    Returns when traffic flows to it. An endpoint without a tag takes the untagged frames of its port.

    \b
    Examples:
      netvirt endpoint add blue --uuid 13 --switch 2 --port 3
      netvirt endpoint add blue --uuid 14 --switch 2 --port 3 --vlan 20 --inbound '50 Mbit/s'
      netvirt endpoint add green --uuid 1 --switch 4 --port 1 --address 10.0.1.254/24
    """
    wanted = chosen(ctx, output)
    _one_tag(ctx, vlan, mpls)
    fields = _fields(None, None, vlan, mpls, address, route, mac)
    limits = _limits(inbound, outbound)
    if limits:
        fields["bandwidth"] = limits
    endpoint = Endpoint(**{"uuid": uuid, "switch": switch, "port": port, **fields})
    with connected(ctx, connect) as connection:
        found = connection.lookup(network)
        _tell(network, found.add_endpoint(endpoint, pending=pending), "added", wanted)


def modify(
    ctx: typer.Context,
    network: NetworkName,
    uuid: EndpointUuid,
    switch: Annotated[str | None, typer.Option(metavar="S", help="Move it to this switch.")] = None,
    port: Annotated[str | None, typer.Option(metavar="P", help="Move it to this port.")] = None,
    vlan: Vlan = None,
    mpls: Mpls = None,
    address: Addresses = None,
    route: Routes = None,
    mac: Macs = None,
    inbound: Inbound = None,
    outbound: Outbound = None,
    clear: Annotated[
        list[Clearable] | None, typer.Option("--clear", help="Take this away; may be repeated.")
    ] = None,
    pending: Pending = False,
    connect: Connect = None,
    output: Output = None,
) -> None:
    """Change an endpoint: what is given replaces what was, the rest stays.

    \b
    Examples:
      netvirt endpoint modify blue 12 --switch 3 --port 2
      netvirt endpoint modify blue 12 --clear tag
      netvirt endpoint modify blue 12 --outbound '20 Mbit/s'
    """
    wanted = chosen(ctx, output)
    _one_tag(ctx, vlan, mpls)
    fields = _cleared(clear or []) | _fields(switch, port, vlan, mpls, address, route, mac)
    limits = _limits(inbound, outbound)
    if not fields and not limits:
        raise typer.BadParameter("nothing to change: give at least one option, such as --port.", ctx=ctx)
    with connected(ctx, connect) as connection:
        found = connection.lookup(network)
        if limits:
            old = found.description().endpoint(uuid)
            if old is not None and old.bandwidth is not None and "bandwidth" not in fields:
                limits = old.bandwidth.model_dump(exclude_none=True) | limits
            fields["bandwidth"] = limits
        _tell(network, found.modify_endpoint(uuid, pending=pending, **fields), "modified", wanted)


def remove(
    ctx: typer.Context,
    network: NetworkName,
    uuid: EndpointUuid,
    connect: Connect = None,
    output: Output = None,
) -> None:
    """Remove an endpoint, and the constraints from and to it.

    \b
    Examples:
      netvirt endpoint remove blue 12
    """
    wanted = chosen(ctx, output)
    with connected(ctx, connect) as connection:
        connection.lookup(network).remove_endpoint(uuid)
    if wanted is Format.TABLE:
        line(f"endpoint {uuid} of {network} removed")
    else:
        document({"network": network, "uuid": uuid, "outcome": "removed"}, wanted)


def _one_tag(ctx: typer.Context, vlan: str | None, mpls: str | None) -> None:
    if vlan is not None and mpls is not None:
        raise typer.BadParameter("--vlan and --mpls exclude each other: an endpoint has one tag.", ctx=ctx)


def _fields(
    switch: str | None,
    port: str | None,
    vlan: str | None,
    mpls: str | None,
    address: list[str] | None,
    route: list[str] | None,
    mac: list[str] | None,
) -> dict[str, Any]:
    given: dict[str, Any] = {"switch": switch, "port": port, "address": address, "mac": mac}
    given["route"] = _routes(route) if route else None
    fields = {name: value for name, value in given.items() if value}
    # One tag takes the other's place.
    if vlan is not None or mpls is not None:
        fields |= {"vlan": vlan, "mpls": mpls}
    return fields


def _cleared(clear: list[Clearable]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for what in clear:
        if what is Clearable.TAG:
            fields |= {"vlan": None, "mpls": None}
        elif what is Clearable.BANDWIDTH:
            fields["bandwidth"] = None
        else:
            fields[str(what)] = ()
    return fields


def _limits(inbound: str | None, outbound: str | None) -> dict[str, Any]:
    return {k: v for k, v in (("inbound", inbound), ("outbound", outbound)) if v is not None}


def _routes(texts: list[str]) -> list[dict[str, str]]:
    routes = []
    for text in texts:
        prefix, separator, via = text.partition(",")
        if not separator:
            raise InvalidDescription(
                [
                    Fault(
                        f"{text!r} is not a route: write PREFIX,VIA as in 10.9.0.0/16,10.0.1.7",
                        "endpoint/route",
                    )
                ]
            )
        routes.append({"prefix": prefix, "via": via})
    return routes


def _tell(network: str, endpoint: Endpoint, outcome: str, output: Format) -> None:
    if output is Format.TABLE:
        line(f"endpoint {endpoint.uuid} of {network} {outcome} at {endpoint.place}")
        return
    written = endpoint.model_dump(mode="json", by_alias=True, exclude_none=True)
    document({"network": network, "uuid": endpoint.uuid, "outcome": outcome, "endpoint": written}, output)
