"""``endpoint add|modify|remove``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer

import libnetvirt
from libnetvirt import Endpoint, Fault, InvalidDescription
from libnetvirt.cli.forecasts import DryRun, rehearsed, tell
from libnetvirt.cli.naming import find
from libnetvirt.cli.options import (
    Connect,
    Format,
    NetworkName,
    Output,
    Pending,
    chosen,
    connected,
    takes,
)
from libnetvirt.cli.output import document, line
from libnetvirt.cli.parts import PartFile, option_names, part, required, same

EndpointUuid = Annotated[
    str, typer.Argument(metavar="UUID", help="UUID of the endpoint, unique in its network.")
]


@dataclass(frozen=True)
class Attributes:
    """The options for everything that describes an endpoint, apart from its uuid, switch and port."""

    vlan: Annotated[
        str | None,
        typer.Option(
            metavar="N|any|SET",
            help="VLAN tag of the endpoint's frames (1 to 4094); 'any' or a set such as 100-199,300 keeps "
            "the tags that customers send.",
        ),
    ] = None
    inner_vlan: Annotated[
        str | None,
        typer.Option(metavar="any", help="Keep the tags that customers send below the VLAN tag (QinQ)."),
    ] = None
    mpls: Annotated[str | None, typer.Option(metavar="N", help="MPLS label of the endpoint's packets.")] = (
        None
    )
    address: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDR", help="L3 networks: gateway address, such as 10.0.1.254/24; may be repeated."
        ),
    ] = None
    route: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PREFIX,VIA", help="L3 networks: route to a prefix behind the endpoint; may be repeated."
        ),
    ] = None
    mac: Annotated[
        list[str] | None,
        typer.Option(metavar="MAC", help="MAC address of a host behind the endpoint; may be repeated."),
    ] = None
    inbound: Annotated[
        str | None,
        typer.Option(metavar="BW", help="Limit of traffic into the network, such as '50 Mbit/s'."),
    ] = None
    outbound: Annotated[
        str | None,
        typer.Option(metavar="BW", help="Limit of traffic out of the network, to the hosts."),
    ] = None

    storm: Annotated[
        str | None,
        typer.Option(
            metavar="RATE[,ACTION]",
            help="Broadcast, multicast and unknown unicast frames per second that may enter, and what is "
            "done about more: drop (the default) or block.",
        ),
    ] = None
    pcp: Annotated[
        str | None,
        typer.Option(
            metavar="DEFAULT[,MAP]",
            help="Keep the priorities (PCP, 802.1p) of frames: the priority of those without a tag, such as "
            "0, and how others change where they enter, such as 0,5:3,6:3.",
        ),
    ] = None

    def fields(self, ctx: typer.Context) -> dict[str, Any]:
        """The endpoint's fields, without its bandwidth. Raises BadParameter for two tags."""
        if self.vlan is not None and self.mpls is not None:
            raise typer.BadParameter(
                "--vlan and --mpls exclude each other: an endpoint has at most one tag.", ctx=ctx
            )
        given = {"address": self.address, "mac": self.mac, "route": self.route and _routes(self.route)}
        fields: dict[str, Any] = {name: value for name, value in given.items() if value}
        # A new tag replaces the old one, of whichever kind.
        if self.vlan is not None or self.mpls is not None:
            fields |= {"vlan": self.vlan, "mpls": self.mpls, "inner_vlan": self.inner_vlan}
        elif self.inner_vlan is not None:
            fields["inner_vlan"] = self.inner_vlan
        if self.storm is not None:
            rate, _, action = self.storm.partition(",")
            fields["storm"] = {"rate": rate, **({"action": action} if action else {})}
        if self.pcp is not None:
            default, _, mapped = self.pcp.partition(",")
            fields["pcp"] = {"default": default, **({"map": mapped} if mapped else {})}
        return fields

    @property
    def limits(self) -> dict[str, Any]:
        """The bandwidth limits."""
        limits = (("inbound", self.inbound), ("outbound", self.outbound))
        return {name: value for name, value in limits if value is not None}


class Clearable(StrEnum):
    """The fields that 'modify --clear' can remove."""

    TAG = "tag"
    ADDRESS = "address"
    ROUTE = "route"
    MAC = "mac"
    BANDWIDTH = "bandwidth"
    STORM = "storm"
    PCP = "pcp"


@takes(Attributes)
def add(
    ctx: typer.Context,
    network: NetworkName,
    uuid: Annotated[
        str | None, typer.Option(metavar="UUID", help="UUID of the endpoint, unique in its network.")
    ] = None,
    switch: Annotated[str | None, typer.Option(metavar="S", help="Id of the switch.")] = None,
    port: Annotated[
        str | None, typer.Option(metavar="P", help="Number or name of the port; several for a LAG: 5,6.")
    ] = None,
    *,
    given: Attributes,
    file: PartFile = None,
    pending: Pending = False,
    dry_run: DryRun = False,
    connect: Connect = None,
    output: Output = None,
) -> None:
    """Add an endpoint to a network.

    Returns when the network forwards traffic to the endpoint. It is described by options or by a file; by
    options, --uuid, --switch and --port are needed, and without --vlan or --mpls, the endpoint takes the
    untagged frames of its port.

    \b
    Examples:
      netvirt endpoint add blue --uuid 13 --switch 2 --port 3
      netvirt endpoint add blue --uuid 14 --switch 2 --port 3 --vlan 20 \\
          --inbound '50 Mbit/s'
      netvirt endpoint add green --uuid 1 --switch 4 --port 1 \\
          --address 10.0.1.254/24
      netvirt endpoint add blue -f endpoint.yaml
    """
    wanted = chosen(ctx, output)
    place = {"--uuid": uuid, "--switch": switch, "--port": port}
    if file is not None:
        endpoint = part(ctx, Endpoint, file, place | option_names(vars(given)))
    else:
        required(ctx, **place)
        fields = given.fields(ctx)
        if given.limits:
            fields["bandwidth"] = given.limits
        endpoint = Endpoint(**{"uuid": uuid, "switch": switch, "port": port, **fields})
    with connected(ctx, connect) as connection:
        target = rehearsed(connection, dry_run)
        added = find(target, network).add_endpoint(endpoint, pending=pending)
        _end(target, network, added, "added", wanted, dry_run)


@takes(Attributes)
def modify(
    ctx: typer.Context,
    network: NetworkName,
    uuid: Annotated[
        str | None,
        typer.Argument(metavar="UUID", help="UUID of the endpoint; not needed with a file."),
    ] = None,
    switch: Annotated[str | None, typer.Option(metavar="S", help="Move the endpoint to this switch.")] = None,
    port: Annotated[
        str | None, typer.Option(metavar="P", help="Move the endpoint to this port; several: 5,6.")
    ] = None,
    *,
    given: Attributes,
    clear: Annotated[
        list[Clearable] | None,
        typer.Option(
            "--clear", metavar="FIELD", help=f"Remove a field ({', '.join(Clearable)}); may be repeated."
        ),
    ] = None,
    file: PartFile = None,
    pending: Pending = False,
    dry_run: DryRun = False,
    connect: Connect = None,
    output: Output = None,
) -> None:
    """Change fields of an endpoint.

    Each option replaces the old value of its field. Fields without an option stay as they are. A file
    replaces the whole endpoint with its uuid.

    \b
    Examples:
      netvirt endpoint modify blue 12 --switch 3 --port 2
      netvirt endpoint modify blue 12 --clear tag
      netvirt endpoint modify blue 12 --outbound '20 Mbit/s'
      netvirt endpoint modify blue -f endpoint.yaml
    """
    wanted = chosen(ctx, output)
    if file is not None:
        options = {"--switch": switch, "--port": port, "--clear": clear} | option_names(vars(given))
        endpoint = part(ctx, Endpoint, file, options)
        same(ctx, "endpoint", uuid, endpoint.uuid)
        with connected(ctx, connect) as connection:
            target = rehearsed(connection, dry_run)
            replaced = find(target, network).replace_endpoint(endpoint, pending=pending)
            _end(target, network, replaced, "modified", wanted, dry_run)
        return
    (uuid,) = required(ctx, UUID=uuid)
    _refuse_both(ctx, clear or [], given)
    place = {name: value for name, value in (("switch", switch), ("port", port)) if value is not None}
    fields = _cleared(clear or []) | place | given.fields(ctx)
    limits = given.limits
    if not fields and not limits:
        raise typer.BadParameter("nothing to change: give at least one option, such as --port.", ctx=ctx)
    with connected(ctx, connect) as connection:
        target = rehearsed(connection, dry_run)
        found = find(target, network)
        if limits:
            old = found.description().endpoint(uuid)
            if old is not None and old.bandwidth is not None and "bandwidth" not in fields:
                limits = old.bandwidth.model_dump(exclude_none=True) | limits
            fields["bandwidth"] = limits
        modified = found.modify_endpoint(uuid, pending=pending, **fields)
        _end(target, network, modified, "modified", wanted, dry_run)


def remove(
    ctx: typer.Context,
    network: NetworkName,
    uuid: EndpointUuid,
    dry_run: DryRun = False,
    connect: Connect = None,
    output: Output = None,
) -> None:
    """Remove an endpoint.

    The constraints from and to the endpoint are removed as well.

    \b
    Examples:
      netvirt endpoint remove blue 12
    """
    wanted = chosen(ctx, output)
    with connected(ctx, connect) as connection:
        target = rehearsed(connection, dry_run)
        find(target, network).remove_endpoint(uuid)
        if dry_run:
            tell(target, wanted)
            return
    if wanted.tabular:
        line(f"endpoint {uuid} of {network} removed")
    else:
        document({"network": network, "uuid": uuid, "outcome": "removed"}, wanted)


def _refuse_both(ctx: typer.Context, clear: list[Clearable], given: Attributes) -> None:
    """Raise BadParameter if a field is both set and removed.

    Bandwidths are no such field: ``--clear bandwidth --inbound X`` removes the other limit.
    """
    options = {
        Clearable.TAG: ("vlan", "mpls", "inner_vlan"),
        Clearable.ADDRESS: ("address",),
        Clearable.ROUTE: ("route",),
        Clearable.MAC: ("mac",),
        Clearable.STORM: ("storm",),
        Clearable.PCP: ("pcp",),
    }
    for what in clear:
        for name in options.get(what, ()):
            if getattr(given, name):
                name = name.replace("_", "-")
                raise typer.BadParameter(f"--{name} and --clear {what} exclude each other.", ctx=ctx)


def _cleared(clear: list[Clearable]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for what in clear:
        if what is Clearable.TAG:
            fields |= {"vlan": None, "mpls": None, "inner_vlan": None}
        elif what in (Clearable.BANDWIDTH, Clearable.STORM, Clearable.PCP):
            fields[str(what)] = None
        else:
            fields[str(what)] = ()
    return fields


def _routes(texts: list[str]) -> list[dict[str, str]]:
    routes = []
    for text in texts:
        prefix, separator, via = text.partition(",")
        if not separator:
            raise InvalidDescription(
                [
                    Fault(
                        f"{text!r} is not a route: write PREFIX,VIA, for example 10.9.0.0/16,10.0.1.7",
                        "endpoint/route",
                    )
                ]
            )
        routes.append({"prefix": prefix, "via": via})
    return routes


def _end(
    target: libnetvirt.Connection,
    network: str,
    endpoint: Endpoint,
    outcome: str,
    output: Format,
    dry_run: bool,
) -> None:
    if dry_run:
        tell(target, output)
    elif output.tabular:
        line(f"endpoint {endpoint.uuid} of {network} {outcome} at {endpoint.place}")
    else:
        written = endpoint.model_dump(mode="json", by_alias=True, exclude_none=True)
        document({"network": network, "uuid": endpoint.uuid, "outcome": outcome, "endpoint": written}, output)
