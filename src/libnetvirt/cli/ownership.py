"""``switch``: decides about switches whose rules belong to another controller: adopt, forget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import typer

import libnetvirt
from libnetvirt.cli.options import Connect, connected
from libnetvirt.cli.output import line

_Switch = Annotated[
    str | None, typer.Argument(metavar="SWITCH", help="The switch, as 'netvirt substrate' names it.")
]
_All = Annotated[bool, typer.Option("--all", help="All switches that are refused for this reason.")]


def adopt(ctx: typer.Context, switch: _Switch = None, every: _All = False, connect: Connect = None) -> None:
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
    _decide(ctx, switch, every, connect, libnetvirt.Connection.adopt, "taken over")


def forget(ctx: typer.Context, switch: _Switch = None, every: _All = False, connect: Connect = None) -> None:
    """Leave a switch that is refused to the other controller.

    It is not used, also after a restart, until 'netvirt switch adopt' takes it over. Its rules stay as they
    are.

    \b
    Examples:
      netvirt switch forget 1
    """
    _decide(ctx, switch, every, connect, libnetvirt.Connection.forget, "left to the other controller")


def _decide(
    ctx: typer.Context,
    switch: str | None,
    every: bool,
    connect: str | None,
    decide: Callable[[libnetvirt.Connection, str | None], Sequence[str]],
    done: str,
) -> None:
    if (switch is None) is not every:
        raise typer.BadParameter("Name one SWITCH, or give --all.", ctx=ctx)
    with connected(ctx, connect) as connection:
        names = decide(connection, switch)
    for name in names:
        line(f"switch {name} is {done}")
    if not names:
        line("no switch is refused because of another controller")
