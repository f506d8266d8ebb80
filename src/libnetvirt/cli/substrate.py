"""Commands on the physical network: substrate, rules, repair, reload."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Annotated

import typer

import libnetvirt
from libnetvirt.cli.forecasts import DryRun, rehearsed
from libnetvirt.cli.listing import Selection
from libnetvirt.cli.naming import find
from libnetvirt.cli.options import Connect, Output, chosen, connected, takes
from libnetvirt.cli.output import document, line, notes, table, told
from libnetvirt.cli.paging import pages
from libnetvirt.cli.servers import server_socket
from libnetvirt.cli.traffic import state
from libnetvirt.configuration import running
from libnetvirt.errors import DaemonUnreachable, SubstrateError
from libnetvirt.model import Bandwidth, Duration, Link, Substrate

# Links are discovered one by one. Discovery counts as complete when no new link came for so many seconds.
_SETTLED = 0.5
# Seconds between two looks at the substrate.
_POLL = 0.1


@pages
def substrate(
    ctx: typer.Context,
    wait: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Wait until N switches are connected and links connect all of them."
        ),
    ] = None,
    links: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="M", help="With --wait: wait for M links instead, each up in both directions."
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0, metavar="S", help="With --wait: give up after S seconds.")
    ] = 60.0,
    connect: Connect = None,
    output: Output = None,
) -> None:
    """Show the switches, their ports and the links.

    Each direction of a link is a row of its own. The notes, of a switch and below the tables, say what needs
    attention: refused switches, dropped frames, unknown capacities. With --wait, the command also waits for
    the server, and fails with status 7 if the switches and links are not there in time (8: the server).

    \b
    Examples:
      netvirt substrate
      netvirt substrate --wait 4 --timeout 30
      netvirt substrate --format json | jq '.links'
    """
    wanted = chosen(ctx, output)
    if links is not None and wait is None:
        raise typer.BadParameter("--links requires --wait N.", ctx=ctx)
    end = time.monotonic() + timeout
    opened = connected(ctx, connect) if wait is None else _wait_for_server(ctx, connect, end)
    with opened as connection:
        seen = connection.substrate() if wait is None else _wait(connection, wait, links, timeout, end)
    if not wanted.tabular:
        document(seen.to_json(), wanted)
        return
    table(
        ["SWITCH", "STATE", "PORTS", "ADDRESS", "DESCRIPTION", "NOTES"],
        [
            (
                s.id,
                "connected" if s.connected else "disconnected",
                len(s.ports),
                s.address or "-",
                s.description or "-",
                "; ".join(s.notes) or "-",
            )
            for s in seen.switches
        ],
        title="Switches",
        output=wanted,
    )
    line("")
    table(
        ["SWITCH", "PORT", "NAME", "STATE", "SPEED", "USE"],
        [
            (s.id, p.number, p.name, "up" if p.up else "down", _speed(p.speed), p.use or "-")
            for s in seen.switches
            for p in s.ports
        ],
        title="Ports",
        output=wanted,
    )
    line("")
    table(
        _LINK_COLUMNS,
        [
            (
                k.source,
                k.source_port,
                k.destination,
                k.destination_port,
                state(k),
                f"{k.cost:g}",
                _speed(k.capacity),
                _speed(k.reserved),
                str(Bandwidth(k.free)) if k.free else "0" if k.capacity else "-",
                str(Duration(k.latency)) if k.latency else "-",
                k.mtu or "-",
                "yes" if k.static else "-",
            )
            for k in seen.links
        ],
        title="Links",
        output=wanted,
    )
    if seen.notes:
        line("")
        notes("Notes", seen.notes)


_LINK_COLUMNS = [
    "FROM", "PORT", "TO", "PORT", "STATE", "COST", "CAPACITY", "RESERVED", "FREE", "LATENCY", "MTU", "STATIC"
]  # fmt: skip
_RULE_COLUMNS = ("switch", "table", "network", "text")


@pages
@takes(Selection)
def rules(
    ctx: typer.Context,
    network: Annotated[
        str | None, typer.Argument(metavar="VN", help="Only the rules of this network (UUID or name).")
    ] = None,
    *,
    given: Selection,
    connect: Connect = None,
    output: Output = None,
) -> None:
    """Show the rules in the switches.

    The rules are read from the switches, so the output shows what they hold now.

    \b
    Examples:
      netvirt rules
      netvirt rules blue
      netvirt rules --filter switch=1 --columns network,rule
    """
    wanted = chosen(ctx, output)
    listing = given.of(ctx, _RULE_COLUMNS)
    with connected(ctx, connect) as connection:
        found = connection.rules(None if network is None else find(connection, network).uuid)
    listing.print([rule.to_json() for rule in found], wanted)


def repair(
    ctx: typer.Context,
    network: Annotated[
        str | None, typer.Argument(metavar="VN", help="UUID or name of the network [default: all].")
    ] = None,
    drop_orphans: Annotated[
        bool,
        typer.Option("--drop-orphans", help="Also remove what libnetvirt created and no network uses."),
    ] = False,
    dry_run: DryRun = False,
    connect: Connect = None,
    output: Output = None,
) -> None:
    """Restore what others changed in the networks' configuration.

    'netvirt show' lists the differences, and so does --dry-run, as far as they are known: the repair itself
    looks again. Only drivers whose substrate others can change offer this.

    \b
    Examples:
      netvirt repair blue
      netvirt repair --dry-run
      netvirt repair --drop-orphans
    """
    wanted = chosen(ctx, output)
    if network is not None and drop_orphans:
        raise typer.BadParameter("--drop-orphans applies to all networks: remove VN.", ctx=ctx)
    with connected(ctx, connect) as connection:
        uuid = None if network is None else find(connection, network).uuid
        done = rehearsed(connection, dry_run).repair(uuid, orphans=drop_orphans)
    nothing = "nothing is known to need a repair" if dry_run else "nothing to repair"
    told(done or (nothing,), _document(dry_run, done), wanted)


def _document(dry_run: bool, lines: Sequence[str]) -> dict[str, list[str]]:
    """What was done, or what a dry run has found."""
    return {"would-be-done" if dry_run else "done": list(lines)}


def reload(
    ctx: typer.Context,
    degrade: Annotated[
        bool,
        typer.Option("--degrade", help="Degrade constraints that no longer fit instead of refusing."),
    ] = False,
    dry_run: DryRun = False,
    connect: Connect = None,
    output: Output = None,
) -> None:
    """Reload the configuration of netvirtd, and the capacities of links.

    With netvirtd, its configuration is read again first: connections and listeners that are new are opened,
    those that are gone are closed, all others are not touched. A configuration with a fault is refused as a
    whole. Then the files are read that the option 'capacities' of the drivers' URIs names. If constraints
    would no longer fit, the command lists them and changes no capacity, unless --degrade is given.

    Without a connection URI: the netvirtd at /run/libnetvirt/netvirtd.sock.

    \b
    Examples:
      netvirt reload --dry-run
      netvirt reload
      netvirt -c openflow+unix:///run/netvirt.sock reload --degrade
    """
    wanted = chosen(ctx, output)
    path = server_socket(ctx, connect)
    if path:
        done: Sequence[str] = running.reload(path, degrade=degrade, dry_run=dry_run)
    else:
        with connected(ctx, connect) as connection:
            done = rehearsed(connection, dry_run).reload(degrade=degrade)
    reloaded = f"capacities {'would be ' if dry_run else ''}reloaded; every constraint keeps its path"
    told(done or (reloaded,), _document(dry_run, done), wanted)


def _wait_for_server(
    ctx: typer.Context, connect: str | None, end: float
) -> AbstractContextManager[libnetvirt.Connection]:
    """Try to connect until ``end``. Blocks. Raises DaemonUnreachable."""
    while True:
        try:
            return connected(ctx, connect)
        except DaemonUnreachable:
            if time.monotonic() >= end:
                raise
        time.sleep(_POLL)


def _wait(
    connection: libnetvirt.Connection, switches: int, links: int | None, timeout: float, end: float
) -> Substrate:
    """Poll the substrate until it is complete. Blocks. Raises SubstrateError at ``end``."""
    before: frozenset[tuple[str, ...]] | None = None
    since = time.monotonic()
    while True:
        seen = connection.substrate()
        now = time.monotonic()
        both = bidirectional(seen.links)
        if both != before:
            before, since = both, now
        up = [s.id for s in seen.switches if s.connected]
        complete = len(up) >= switches and (
            len(both) // 2 >= links
            if links is not None
            else connects_all(up, both) and now - since >= _SETTLED
        )
        if complete:
            return seen
        if now >= end:
            expected = f"{switches} switches, " + ("all linked" if links is None else f"{links} links")
            raise SubstrateError(
                f"after {timeout:g} s, {len(up)} switches are connected ({', '.join(up[:20]) or 'none'}) and "
                f"{len(both) // 2} links are up; expected {expected}. 'netvirt substrate' shows the details."
            )
        time.sleep(min(_POLL, max(0.0, end - now)))


def bidirectional(links: tuple[Link, ...]) -> frozenset[tuple[str, ...]]:
    """The links that are up in both directions: (source, port, destination, port) of each direction."""
    up = {(k.source, k.source_port, k.destination, k.destination_port) for k in links if k.up}
    return frozenset(k for k in up if (k[2], k[3], k[0], k[1]) in up)


def connects_all(switches: list[str], links: frozenset[tuple[str, ...]]) -> bool:
    """Whether the links connect every switch with every other."""
    reached, edge = set(switches[:1]), list(switches[:1])
    while edge:
        here = edge.pop()
        for source, _, destination, _ in links:
            if source == here and destination not in reached:
                reached.add(destination)
                edge.append(destination)
    return reached.issuperset(switches)


def _speed(speed: int) -> str:
    return str(Bandwidth(speed)) if speed else "-"
