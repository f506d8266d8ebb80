"""The command on what becomes of frames between two endpoints: why."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Annotated, Any

import typer

from libnetvirt import Traffic
from libnetvirt.cli.naming import find
from libnetvirt.cli.options import Connect, Format, NetworkName, connected, settings, takes
from libnetvirt.cli.output import clean, document, line
from libnetvirt.cli.paging import pages
from libnetvirt.cli.traffic import rate
from libnetvirt.cli.way import path_line, svg
from libnetvirt.model import ExplainedDirection, ExplainedHop, Explanation, Host, Verdict

#: the exit status if frames do not arrive both ways
DOES_NOT_WORK = 7
_SAID = {
    Verdict.ARRIVES: "frames arrive",
    Verdict.PARTLY: "SOME FRAMES ARE LOST",
    Verdict.FIRST_FRAME: "set up on the first frame",
    Verdict.LOST: "FRAMES DO NOT ARRIVE",
    Verdict.UNKNOWN: "CANNOT BE TOLD",
}


@dataclass(frozen=True)
class Asked:
    """The options for which frames are asked about."""

    mac: Annotated[
        str | None, typer.Option(metavar="MAC", help="MAC address of the host at TO [default: a known one].")
    ] = None
    from_mac: Annotated[
        str | None,
        typer.Option(metavar="MAC", help="MAC address of the host at FROM [default: a known one]."),
    ] = None
    ip: Annotated[str | None, typer.Option(metavar="ADDR", help="IP address of the host at TO.")] = None
    from_ip: Annotated[str | None, typer.Option(metavar="ADDR", help="IP address of the host at FROM.")] = (
        None
    )
    size: Annotated[str | None, typer.Option(metavar="BYTES", help="Size of the IP packet.")] = None
    vlan: Annotated[
        str | None,
        typer.Option(
            metavar="N", help="VLAN tag that FROM sends, instead of that of its endpoint; 0: no tag."
        ),
    ] = None

    @property
    def given(self) -> dict[str, Any]:
        """The fields whose options were given."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


class Picture(StrEnum):
    """The formats."""

    TEXT = "text"
    SVG = "svg"
    JSON = "json"
    YAML = "yaml"


@pages
@takes(Asked)
def why(
    ctx: typer.Context,
    network: NetworkName,
    source: Annotated[str, typer.Argument(metavar="FROM", help="UUID of the endpoint that sends.")],
    destination: Annotated[str, typer.Argument(metavar="TO", help="UUID of the endpoint that receives.")],
    given: Asked,
    connect: Connect = None,
    output: Annotated[
        Picture | None,
        typer.Option(
            "--format", "-o", metavar=f"<{'|'.join(Picture)}>", help="Output format.", show_default=False
        ),
    ] = None,
) -> None:
    """Explain why frames between two endpoints arrive or not.

    Follows a frame in both directions, hop by hop, through the rules that the switches hold now, and names
    everything that is in its way, with what to do about it. No frame is sent. The exit status is 0 if
    frames arrive both ways, or will when the first frame has set their rules up.

    \b
    Examples:
      netvirt why blue 11 12
      netvirt why blue 11 12 --mac 02:00:00:00:00:0c --size 1500
      netvirt why blue 11 12 --format svg > way.svg
    """
    wanted = _wanted(ctx, output)
    traffic = Traffic(**given.given)
    with connected(ctx, connect) as connection:
        found = connection.explain(find(connection, network).uuid, source, destination, traffic)
    if wanted in (Picture.JSON, Picture.YAML):
        document(found.to_json(), Format(wanted))
    elif wanted is Picture.SVG:
        sys.stdout.write(svg(found))
    else:
        for text in _lines(found):
            line(clean(text))
    if not found.works:
        raise typer.Exit(DOES_NOT_WORK)


def _wanted(ctx: typer.Context, output: Picture | None) -> Picture:
    before = settings(ctx).output
    if output is None and before in (Format.JSON, Format.YAML):
        output = Picture(before)
    if output is None and before not in (None, Format.TABLE, Format.WIDE):
        raise typer.BadParameter(f"'why' cannot write {before}: it writes {', '.join(Picture)}.", ctx=ctx)
    if output in (Picture.JSON, Picture.YAML):
        settings(ctx).output = Format(output)
    return output or Picture.TEXT


def _lines(found: Explanation) -> Iterator[str]:
    for number, one in enumerate(found.directions):
        if number:
            yield ""
        yield f"{one.source} -> {one.destination}: {_SAID[one.verdict]}"
        yield from (f"  {text}" for text in _direction(one))


def _direction(one: ExplainedDirection) -> Iterator[str]:
    for number, obstacle in enumerate(one.obstacles, 1):
        yield f"{number}. {obstacle.code}: {obstacle.text}"
        yield f"   {obstacle.remedy}"
    if one.hops:
        yield path_line(one)
    if one.frame:
        yield f"frame: {one.frame}"
    for what, host in (("from", one.sender), ("to", one.receiver)):
        if host is not None:
            yield f"{what} {_host(host)}"
    for hop in one.hops:
        yield from _hop(hop)
    if one.mtu:
        yield f"MTU {one.mtu}"
    limits = [
        f"{word} {rate(bits)}"
        for word, bits in (("inbound", one.inbound), ("outbound", one.outbound))
        if bits
    ]
    if limits:
        yield f"limits: {', '.join(limits)}"
    if one.constraint is not None:
        reserved = f", {rate(one.constraint.reserved)} reserved" if one.constraint.reserved else ""
        reason = f": {one.constraint.reason}" if one.constraint.reason else ""
        yield f"constraint: {one.constraint.state}{reserved}{reason}"
    yield from (f"note: {note}" for note in one.notes)


def _host(host: Host) -> str:
    addresses = f" ({', '.join(host.addresses)})" if host.addresses else ""
    return f"host {host.mac}{addresses} at endpoint {host.endpoint}, {host.source}"


def _hop(hop: ExplainedHop) -> Iterator[str]:
    yield f"switch {hop.switch}, in at port {hop.in_port}"
    for rule in hop.rules:
        yield f"  {rule.table}: {rule.text}{'  (of another program)' if rule.foreign else ''}"
    if not hop.out_port:
        yield "  ends here"
    elif hop.out_port == "controller":
        yield "  to the controller"
    else:
        where = ""
        if hop.link is not None:
            where = f" to switch {hop.link.destination} port {hop.link.destination_port}"
            where += f", tunnel {hop.tunnel}" if hop.tunnel else ""
            where += "" if hop.link.up else ", LINK DOWN"
            where += f", MTU {hop.link.mtu}" if hop.link.mtu else ""
            where += f", {rate(hop.link.reserved)} reserved" if hop.link.reserved else ""
        yield f"  out at port {hop.out_port}{where}{hop.frame and f': {hop.frame}'}"
