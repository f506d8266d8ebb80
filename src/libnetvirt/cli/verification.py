"""The command on what switches do with all frames: verify."""

from __future__ import annotations

from typing import Annotated

import typer

from libnetvirt.cli.naming import find
from libnetvirt.cli.options import Connect, Format, Output, chosen, connected
from libnetvirt.cli.output import document, line, table
from libnetvirt.cli.paging import pages
from libnetvirt.model import Counterexample, Verification

#: the exit status if not everything is proved
NOT_PROVED = 7


@pages
def verify(
    ctx: typer.Context,
    networks: Annotated[
        list[str] | None, typer.Argument(metavar="[VN]...", help="UUIDs or names of networks [default: all].")
    ] = None,
    connect: Connect = None,
    output: Output = None,
) -> None:
    """Prove that all frames are forwarded as networks promise.

    All rules are read from the switches, and every class of frames that can enter is forwarded through a
    model of them. A frame that is not forwarded as promised is shown with the rules that it meets. The exit
    status is 0 only if everything was proved.

    \b
    Examples:
      netvirt verify
      netvirt verify blue red
    """
    wanted = chosen(ctx, output)
    with connected(ctx, connect) as connection:
        found = connection.verify(*(find(connection, word).uuid for word in networks or ()))
    if wanted in (Format.JSON, Format.YAML):
        document(found.to_json(), wanted)
    else:
        _show(found, wanted)
    if not found.proved:
        raise typer.Exit(NOT_PROVED)


def _show(found: Verification, wanted: Format) -> None:
    rows = [(p.name, "proved" if p.proved else "NOT PROVED", p.meaning) for p in found.properties]
    table(("PROPERTY", "RESULT", "MEANING"), rows, output=wanted)
    line(
        f"{found.networks} networks, {found.switches} switches, {found.rules} rules, "
        f"{found.classes} classes of frames, {found.seconds:.2f} s"
    )
    for one in found.properties:
        if one.reason:
            line(f"{one.name}: {one.reason}")
    for example in found.counterexamples:
        _show_example(example)


def _show_example(example: Counterexample) -> None:
    of = f" of network {example.network}" if example.network else " of no network"
    line("")
    line(f"{example.property}: a frame{of} that enters at switch {example.switch} port {example.port}")
    line(f"  {example.frame}")
    for hop in example.hops:
        line(f"  switch {hop.switch} port {hop.in_port}: {hop.rule}")
    line(f"  {example.wrong}")
    line(f"  FRAME: {example.wire}")
    line(f"  {example.remedy}")
