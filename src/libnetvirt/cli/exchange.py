"""All networks in one file: export, import."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from libnetvirt import formats
from libnetvirt.cli import files
from libnetvirt.cli.forecasts import DryRun
from libnetvirt.cli.networks import removed, words_of
from libnetvirt.cli.options import (
    DOCUMENTS,
    Connect,
    DocumentOutput,
    Format,
    Output,
    Pending,
    chosen,
    connected,
)
from libnetvirt.cli.output import line
from libnetvirt.cli.progress import Several
from libnetvirt.errors import InvalidDescription, NetworkNotFound

#: the format that a file's name stands for
_SUFFIXES = {".xml": Format.XML, ".yaml": Format.YAML, ".yml": Format.YAML, ".json": Format.JSON}


def export(
    ctx: typer.Context,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="File to write, which must not exist; '-' is stdout.")
    ],
    connect: Connect = None,
    output: DocumentOutput = None,
) -> None:
    """Write all networks with their constraints to one file.

    The file is a description that 'import', 'create' and 'apply' read, with any driver: XML, YAML or JSON, as
    its name ends. It has what was asked for. What was allocated for it (labels, paths, hosts) is only in a
    'backup', which the same driver restores.

    \b
    Examples:
      netvirt export monday.yaml
      netvirt export - --format json | jq length
    """
    suffix = Path(file).suffix
    by_name = _SUFFIXES.get(suffix)
    if file != files.STDIN and by_name is None and output is None:
        raise InvalidDescription(
            f"{file} does not tell the format: end its name with {', '.join(_SUFFIXES)}, or give --format"
        )
    wanted = by_name if by_name and output is None else chosen(ctx, output, DOCUMENTS)
    with connected(ctx, connect) as connection:
        networks = connection.descriptions()
    if not networks:
        raise NetworkNotFound("there are no networks to export")
    text = formats.write(networks, str(wanted)).rstrip("\n") + "\n"
    if file == files.STDIN:
        sys.stdout.write(text)
        return
    files.write_new(Path(file), text.encode())
    line(f"{len(networks)} network{'s' if len(networks) != 1 else ''} written to {file}")


def import_networks(
    ctx: typer.Context,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="File that 'netvirt export' has written; '-' is stdin.")
    ],
    pending: Pending = False,
    remove_others: Annotated[
        bool, typer.Option("--remove-others", help="Remove the networks that are not in the file.")
    ] = False,
    dry_run: DryRun = False,
    connect: Connect = None,
    output: Output = None,
) -> None:
    """Make the networks those that 'export' has written.

    Creates those that do not exist, and changes the others to match, as 'apply' does: each in one step,
    without interrupting other traffic. With --remove-others, networks that are not in the file are removed
    first, so that their places are free.

    \b
    Examples:
      netvirt import monday.yaml
      netvirt import --dry-run --remove-others monday.yaml
      netvirt -c ovn:///?nb=tcp:192.0.2.7:6641 import --pending monday.yaml
    """
    wanted = chosen(ctx, output)
    described = files.read_valid([file])
    networks = [one.network for one in described]
    with connected(ctx, connect) as connection:
        kept = {network.uuid for network in networks}
        others = [one for one in connection.descriptions() if one.uuid not in kept] if remove_others else []
        with Several("importing", wanted, dry_run=dry_run) as several:
            several.begin(words_of(described))
            gone = [one.uuid for one in others]
            if dry_run:
                trial = connection.rehearsal(joint=True)
                trial.remove_all(gone, by="uuid", done=several.foreseen(trial))
                trial.apply_all(networks, pending=pending, done=several.foreseen(trial))
            else:
                connection.remove_all(gone, by="uuid", done=lambda one: several.done(removed(one)))
                connection.apply_all(networks, pending=pending, done=several.done)
