"""Commands on the stored state: backup, restore."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from libnetvirt import VirtualNetwork, formats
from libnetvirt.cli import files
from libnetvirt.cli.options import Connect, DocumentOutput, DryRun, Format, Output, address, chosen, connected
from libnetvirt.cli.output import document, line, told
from libnetvirt.driver import load
from libnetvirt.errors import InvalidDescription
from libnetvirt.uri import URI


def backup(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File to write. It must not exist.")],
    connect: Connect = None,
    output: Output = None,
) -> None:
    """Write a consistent copy of all stored networks to a file.

    With the URI of a server, the server makes the copy while it runs. With the URI of a driver, the driver
    is not started: its state file is copied, which no server may hold. The file has mode 0600.

    \b
    Examples:
      netvirt -c openflow+unix:///run/netvirt.sock backup monday.db
      netvirt -c openflow:///?state=/srv/openflow.db backup monday.db
    """
    wanted = chosen(ctx, output)
    uri = URI.parse(address(ctx, connect))
    if uri.transport:
        with connected(ctx, connect) as connection:
            content = connection.backup()
    else:
        content = load(uri).backup_file(uri)
    files.write_new(file, content)
    told(
        [f"backup written to {file}"],
        {"file": str(file), "bytes": len(content), "outcome": "written"},
        wanted,
    )


def restore(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File that 'netvirt backup' has written.")],
    incomplete: Annotated[
        bool,
        typer.Option(
            "--incomplete",
            help="Accept a copy of a state file that was in use, which may lack the last operations.",
        ),
    ] = False,
    dry_run: DryRun = False,
    connect: Connect = None,
    output: Output = None,
) -> None:
    """Replace the stored networks by those in a backup.

    Stop the server first, and give the URI of the driver that it was started with. The replaced state file is
    kept beside the new one, as PATH.replaced-1. At the next start, the switches get the rules of the restored
    networks, and lose those of networks that are not in the backup.

    \b
    Examples:
      netvirt -c openflow:///?state=/srv/openflow.db restore --dry-run monday.db
      netvirt -c openflow:///?state=/srv/openflow.db restore monday.db
    """
    wanted = chosen(ctx, output)
    uri = URI.parse(address(ctx, connect))
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InvalidDescription(f"{file} cannot be read: {error.strerror}") from None
    if dry_run:
        before, after = load(uri).preview_restore(uri, content, incomplete=incomplete)
        _foresee(before, after, wanted)
        return
    networks = load(uri).restore(uri, content, incomplete=incomplete)
    names = ", ".join(network.name for network in networks)
    text = f"restored {len(networks)} network{'s' if len(networks) != 1 else ''}: {names or 'none'}"
    described = [{"uuid": network.uuid, "name": network.name} for network in networks]
    told([text], {"outcome": "restored", "networks": described}, wanted)


def _foresee(
    before: Sequence[VirtualNetwork] | None, after: Sequence[VirtualNetwork], output: Format
) -> None:
    """Print what a restore would make of the networks."""
    from libnetvirt.cli.forecasts import print_one
    from libnetvirt.model.forecast import forecast

    old = {network.uuid: network for network in before or ()}
    new = {network.uuid: network for network in after}
    gone = [forecast(network, None) for uuid, network in old.items() if uuid not in new]
    found = [*gone, *(forecast(old.get(uuid), network) for uuid, network in new.items())]
    if before is None:
        typer.echo("the state in use cannot be read: the backup is compared with nothing", err=True)
    if not output.tabular:
        document([one.to_json() for one in found], output)
        return
    for one in found:
        print_one(one)
    if not found:
        line("nothing would be changed: there are no networks, and none in the backup")


def recover(
    ctx: typer.Context,
    from_switches: Annotated[
        bool,
        typer.Option("--from-switches", help="Read the rules of the switches that the server refuses."),
    ] = False,
    connect: Connect = None,
    output: DocumentOutput = None,
) -> None:
    """Describe the networks that the rules of switches were made for.

    For the case that the state file and all backups are lost. Start a server with a new state: it refuses the
    switches, because their rules are not its own, and nothing changes. This command reads these rules, and
    prints descriptions of their networks: YAML by default, or XML or JSON. What they do not tell is printed
    to stderr: check the descriptions, complete them, apply them, and let the server take the switches over.

    \b
    Examples:
      netvirt recover --from-switches > networks.yaml
      netvirt apply --pending networks.yaml
      netvirt switch adopt --all
    """
    if not from_switches:
        raise typer.BadParameter("Networks are recovered from switches only: add --from-switches.", ctx=ctx)
    wanted = chosen(ctx, output, (Format.YAML, Format.XML, Format.JSON))
    with connected(ctx, connect) as connection:
        found = connection.recover()
    if found.networks:
        line(formats.write(found.networks, str(wanted)).rstrip("\n"))
    for note in (*found.notes, *_NEVER_KNOWN) if found.networks else (*found.notes, _NOTHING):
        typer.echo(note, err=True)


_NEVER_KNOWN = (
    "names, uuids and constraints are not in the rules: names and uuids are new, constraints are missing",
)
_NOTHING = "no network was found: only switches are read that are connected and refused ('netvirt substrate')"
