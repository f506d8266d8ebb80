"""``switch``: decides about switches whose rules belong to another controller: adopt, forget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import typer

import libnetvirt
from libnetvirt.cli.options import Connect, Format, Output, chosen, connected
from libnetvirt.cli.output import told

_Switch = Annotated[
    str | None, typer.Argument(metavar="SWITCH", help="The switch, as 'netvirt substrate' names it.")
]
_All = Annotated[bool, typer.Option("--all", help="All switches that are refused for this reason.")]


def adopt(
    ctx: typer.Context,
    switch: _Switch = None,
    every: _All = False,
    connect: Connect = None,
    output: Output = None,
) -> None:
    """Take over a switch that is refused because of another controller.

    A switch is refused if its rules belong to another controller, if they are newer than the state of this
    one (which was restored from an old backup, for example), or if another controller has taken control of
    it. Rules that none of your networks needs are REMOVED: hosts of the other controller's networks lose
    their connection there.

    \b
    Examples:
      netvirt switch adopt 1
      netvirt switch adopt --all
    """
    wanted = chosen(ctx, output)
    names = _decide(ctx, switch, every, connect, libnetvirt.Connection.adopt)
    _tell(names, "taken over", "adopted", wanted)


def forget(
    ctx: typer.Context,
    switch: _Switch = None,
    every: _All = False,
    connect: Connect = None,
    output: Output = None,
) -> None:
    """Leave a switch that is refused to the other controller.

    It is not used, also after a restart, until 'netvirt switch adopt' takes it over. Its rules stay as they
    are.

    \b
    Examples:
      netvirt switch forget 1
    """
    wanted = chosen(ctx, output)
    names = _decide(ctx, switch, every, connect, libnetvirt.Connection.forget)
    _tell(names, "left to the other controller", "forgotten", wanted)


def _decide(
    ctx: typer.Context,
    switch: str | None,
    every: bool,
    connect: str | None,
    decide: Callable[[libnetvirt.Connection, str | None], Sequence[str]],
) -> Sequence[str]:
    if (switch is None) is not every:
        raise typer.BadParameter("Name one SWITCH, or give --all.", ctx=ctx)
    with connected(ctx, connect) as connection:
        return decide(connection, switch)


def _tell(names: Sequence[str], done: str, outcome: str, output: Format) -> None:
    lines = [f"switch {name} is {done}" for name in names]
    none = ["no switch is refused because of another controller"]
    told(lines or none, {"outcome": outcome, "switches": list(names)}, output)
