"""Commands on whole networks: validate, create, apply, remove, list, dump."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import zip_longest
from typing import Annotated

import typer

import libnetvirt
from libnetvirt import Fault, NetworkNotFound, VirtualNetwork, formats
from libnetvirt.cli import files
from libnetvirt.cli.forecasts import DryRun
from libnetvirt.cli.listing import Selection
from libnetvirt.cli.naming import find, find_all
from libnetvirt.cli.options import (
    DOCUMENTS,
    Connect,
    DocumentOutput,
    Output,
    Pending,
    chosen,
    connected,
    takes,
)
from libnetvirt.cli.output import document, line
from libnetvirt.cli.paging import pages
from libnetvirt.cli.progress import Progress, Several
from libnetvirt.errors import InvalidDescription
from libnetvirt.model.report import Report


class _Removed(Report):
    """A network that was removed, as output shows it beside :class:`Applied`."""

    uuid: str
    name: str
    outcome: str = "removed"
    changes: tuple[str, ...] = ()


def removed(network: VirtualNetwork) -> _Removed:
    """What is told of a network that was removed."""
    return _Removed(uuid=network.uuid, name=network.name)


Files = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE",
        help="Descriptions in XML, YAML or JSON; a directory stands for those in it; '-' reads stdin.",
    ),
]


def validate(ctx: typer.Context, paths: Files, output: Output = None) -> None:
    """Check descriptions without connecting to a driver.

    Reports every error of every file with its line.

    \b
    Examples:
      netvirt validate blue.xml red.yaml
      generate-networks | netvirt validate -
    """
    wanted = chosen(ctx, output)
    found, faults = files.read(paths)
    if wanted.tabular:
        for d in found:
            line(f"{d.file}: network {d.network.name} ({_size(d.network)}) is valid")
    else:
        rows = [
            {"file": d.file, "uuid": d.network.uuid, "name": d.network.name, "valid": True} for d in found
        ]
        document(rows + [_fault_row(fault) for fault in faults], wanted)
    if faults:
        raise InvalidDescription(faults)


def create(
    ctx: typer.Context,
    paths: Files,
    pending: Pending = False,
    dry_run: DryRun = False,
    connect: Connect = None,
    output: Output = None,
) -> None:
    """Create the networks described in files.

    Returns when the networks forward traffic. All files are checked before the first network is created.
    The networks are begun in the order given, each one is created completely or not at all.

    \b
    Examples:
      netvirt create blue.xml red.yaml
      netvirt create networks/
      netvirt create --pending blue.xml
      netvirt create --dry-run blue.xml
      netvirt -c openflow+unix:///run/netvirt.sock create - < blue.json
    """
    wanted = chosen(ctx, output)
    described = files.read_valid(paths)
    networks = [d.network for d in described]
    with Several("creating", wanted, dry_run=dry_run) as several, connected(ctx, connect) as connection:
        several.begin(words_of(described))
        if dry_run:
            trial = connection.rehearsal(joint=True)
            trial.create_all(networks, pending=pending, done=several.foreseen(trial))
        else:
            connection.create_all(networks, pending=pending, done=several.done)


def apply(
    ctx: typer.Context,
    paths: Files,
    pending: Pending = False,
    dry_run: DryRun = False,
    connect: Connect = None,
    output: Output = None,
) -> None:
    """Create or change networks to match the descriptions in files.

    Changes a network in one step and prints what changed. Other traffic is not interrupted. Applying the
    same description again changes nothing. Endpoints may move from one of the networks to another, in any
    order of the files.

    \b
    Examples:
      netvirt apply blue.xml
      netvirt apply --dry-run networks/
      netvirt apply --format json networks/*.yaml
    """
    wanted = chosen(ctx, output)
    described = files.read_valid(paths)
    networks = [d.network for d in described]
    with Several("applying", wanted, dry_run=dry_run) as several, connected(ctx, connect) as connection:
        several.begin(words_of(described))
        if dry_run:
            trial = connection.rehearsal(joint=True)
            trial.apply_all(networks, pending=pending, done=several.foreseen(trial))
        else:
            connection.apply_all(networks, pending=pending, done=several.done)


def remove(
    ctx: typer.Context,
    networks: Annotated[
        list[str] | None, typer.Argument(metavar="[VN]...", help="UUIDs or names of the networks.")
    ] = None,
    described: Annotated[
        list[str] | None,
        typer.Option(
            "--file",
            "-f",
            metavar="FILE",
            help="Remove the networks that are described in a file or directory; may be repeated.",
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Remove all networks.")] = False,
    dry_run: DryRun = False,
    connect: Connect = None,
    output: Output = None,
) -> None:
    """Remove networks.

    Returns when their rules are gone from every switch. A description stands for the network with its uuid,
    or, if it gives none, with its name.

    \b
    Examples:
      netvirt remove blue
      netvirt remove 7 8 9
      netvirt remove -f networks/
      netvirt remove --all --dry-run
    """  # fmt: skip
    wanted = chosen(ctx, output)
    if [bool(networks), bool(described), every].count(True) != 1:
        raise typer.BadParameter("name networks, or give -f FILE, or --all.", ctx=ctx)
    # label -> what is to be looked up
    words = {word: word for word in networks or ()}
    for d in files.read_valid(described) if described else ():
        known = f"uuid:{d.network.uuid}" if "uuid" in d.network.model_fields_set else f"name:{d.network.name}"
        words[f"{d.network.name} ({d.file})"] = known
    with Several("removing", wanted, dry_run=dry_run) as several, connected(ctx, connect) as connection:
        if every:
            words = {f"{n.name} ({n.uuid})": n.uuid for n in connection.descriptions()}
            uuids, missing = list(words.values()), None
        else:
            # All of them before any is removed: one that is gone must not leave its word to another.
            uuids, missing = find_all(connection, words.values())
        several.begin({label: {("uuid", uuid)} for label, uuid in zip_longest(words, uuids, fillvalue="")})
        uuids = list(dict.fromkeys(uuids))
        if dry_run:
            trial = connection.rehearsal(joint=True)
            trial.remove_all(uuids, by="uuid", done=several.foreseen(trial))
        else:
            connection.remove_all(
                uuids,
                by="uuid",
                done=lambda gone: several.done(removed(gone)),
            )
        if missing is not None:
            raise missing
    if not words and wanted.tabular:
        line("there are no networks")


_COLUMNS = ("uuid", "name", "forwarding", "endpoints", "state")


@pages
@takes(Selection)
def list_networks(
    ctx: typer.Context, given: Selection, connect: Connect = None, output: Output = None
) -> None:
    """List the networks in order of creation.

    On a terminal that is too narrow, columns are left out and named below the table; -o wide prints all.

    \b
    Examples:
      netvirt list
      netvirt list --filter 'state!=active' --sort name
      netvirt list --format json | jq -r '.[].name'
      netvirt list -q --filter 'name=test-*'
    """
    wanted = chosen(ctx, output)
    listing = given.of(ctx, _COLUMNS)
    with connected(ctx, connect) as connection:
        rows: list[dict[str, object]] = []
        handles = {handle.uuid: handle for handle in connection.networks()}
        networks = connection.descriptions()
        with Progress("reading the state of", len(networks) if listing.needs("state") else 0) as progress:
            for network in networks:
                if network.uuid not in handles:
                    # Created between the two calls.
                    continue
                state = ""
                if listing.needs("state"):
                    progress.at(len(rows), network.name)
                    try:
                        state = str(handles[network.uuid].state().state)
                    except libnetvirt.NotFound:
                        # Removed after the list was read.
                        continue
                values = (network.uuid, network.name, str(network.forwarding), len(network.endpoints), state)
                rows.append(dict(zip(_COLUMNS, values, strict=True)))
    listing.print(rows, wanted)


def dump(
    ctx: typer.Context,
    network: Annotated[
        str | None, typer.Argument(metavar="[VN]", help="UUID or name of the network.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Print all networks, as one document.")] = False,
    connect: Connect = None,
    output: DocumentOutput = None,
) -> None:
    """Print the description of a network, or of all.

    The output is valid input for 'create' and 'apply': XML by default, or YAML or JSON.

    \b
    Examples:
      netvirt dump blue > blue.xml
      netvirt dump blue --format yaml
      netvirt dump --all > networks.xml
    """
    wanted = chosen(ctx, output, DOCUMENTS)
    if (network is None) is not every:
        raise typer.BadParameter("name one network, or give --all.", ctx=ctx)
    with connected(ctx, connect) as connection:
        if network is not None:
            descriptions = [find(connection, network).description()]
        else:
            descriptions = connection.descriptions()
    if not descriptions:
        raise NetworkNotFound("there are no networks: a document describes at least one")
    sys.stdout.write(formats.write(descriptions, str(wanted)).rstrip("\n") + "\n")


def _size(network: VirtualNetwork) -> str:
    count = len(network.endpoints)
    return f"{network.forwarding}, {count} endpoint{'' if count == 1 else 's'}"


def _fault_row(fault: Fault) -> dict[str, object]:
    return {
        "file": fault.file,
        "line": fault.line,
        "path": fault.path,
        "text": fault.text,
        "valid": False,
    }


def words_of(described: Sequence[files.Described]) -> dict[str, set[tuple[str, str]]]:
    """The label of each description -> what its network is known by."""
    labels = [f"{d.network.name} ({d.file})" for d in described]
    if len(set(labels)) < len(labels):
        labels = [f"{d.network.name} ({d.file}, number {i})" for i, d in enumerate(described, 1)]
    return {
        label: {("uuid", d.network.uuid), ("name", d.network.name)}
        for label, d in zip(labels, described, strict=True)
    }
