"""Commands for whole networks: validate, create, apply, remove, list, dump."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Self

import typer

import libnetvirt
from libnetvirt import Applied, Fault, NetvirtError, VirtualNetwork, formats
from libnetvirt.cli import files
from libnetvirt.cli.options import (
    DOCUMENTS,
    Connect,
    DocumentOutput,
    Format,
    NetworkName,
    Output,
    Pending,
    chosen,
    connected,
)
from libnetvirt.cli.output import document, line, table
from libnetvirt.errors import InvalidDescription
from libnetvirt.model.report import Report


class _Removed(Report):
    """A network that was removed, as output shows it beside :class:`Applied`."""

    uuid: str
    name: str
    outcome: str = "removed"
    changes: tuple[str, ...] = ()


Files = Annotated[
    list[str], typer.Argument(metavar="FILE", help="Descriptions in XML, YAML or JSON; '-' reads stdin.")
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
    if wanted is Format.TABLE:
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
    connect: Connect = None,
    output: Output = None,
) -> None:
    """Create the networks described in files.

    Returns when the networks forward traffic. All files are checked before the first network is created.
    The networks are begun in the order given, each one is created completely or not at all.

    \b
    Examples:
      netvirt create blue.xml red.yaml
      netvirt create --pending blue.xml
      netvirt -c openflow+unix:///run/netvirt.sock create - < blue.json
    """
    wanted = chosen(ctx, output)
    described = files.read_valid(paths)
    networks = [d.network for d in described]
    with connected(ctx, connect) as connection, _Progress(_labels(described), wanted) as progress:
        connection.create_all(networks, pending=pending, done=progress.applied)


def apply(
    ctx: typer.Context,
    paths: Files,
    pending: Pending = False,
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
      netvirt apply --format json networks/*.yaml
    """
    wanted = chosen(ctx, output)
    described = files.read_valid(paths)
    networks = [d.network for d in described]
    with connected(ctx, connect) as connection, _Progress(_labels(described), wanted) as progress:
        connection.apply_all(networks, pending=pending, done=progress.applied)


def remove(
    ctx: typer.Context,
    networks: Annotated[list[str], typer.Argument(metavar="VN", help="UUIDs or names of the networks.")],
    connect: Connect = None,
    output: Output = None,
) -> None:
    """Remove networks.

    Returns when their rules are gone from every switch.

    \b
    Examples:
      netvirt remove blue
      netvirt remove 7 8 9
    """
    wanted = chosen(ctx, output)
    labels = {key: {("uuid", key.lower()), ("name", key)} for key in networks}
    with connected(ctx, connect) as connection, _Progress(labels, wanted) as progress:
        connection.remove_all(networks, done=progress.removed)


def list_networks(ctx: typer.Context, connect: Connect = None, output: Output = None) -> None:
    """List the networks in order of creation.

    \b
    Examples:
      netvirt list
      netvirt list --format json | jq -r '.[].name'
    """
    wanted = chosen(ctx, output)
    with connected(ctx, connect) as connection:
        rows = []
        handles = {handle.uuid: handle for handle in connection.networks()}
        for network in connection.descriptions():
            if network.uuid not in handles:
                # Created between the two calls.
                continue
            try:
                state = str(handles[network.uuid].state().state)
            except libnetvirt.NotFound:
                # Removed after the list was read.
                continue
            rows.append(
                {
                    "uuid": network.uuid,
                    "name": network.name,
                    "forwarding": str(network.forwarding),
                    "endpoints": len(network.endpoints),
                    "state": state,
                }
            )
    if wanted is not Format.TABLE:
        document(rows, wanted)
        return
    table(["UUID", "NAME", "FORWARDING", "ENDPOINTS", "STATE"], [list(row.values()) for row in rows])


def dump(
    ctx: typer.Context, network: NetworkName, connect: Connect = None, output: DocumentOutput = None
) -> None:
    """Print the description of a network.

    The output is valid input for 'create' and 'apply': XML by default, or YAML or JSON.

    \b
    Examples:
      netvirt dump blue > blue.xml
      netvirt dump blue --format yaml
    """
    wanted = chosen(ctx, output, DOCUMENTS)
    with connected(ctx, connect) as connection:
        description = connection.lookup(network).description()
    sys.stdout.write(formats.write([description], str(wanted)).rstrip("\n") + "\n")


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


def _labels(described: Sequence[files.Described]) -> dict[str, set[tuple[str, str]]]:
    """The label of each description -> the uuid and the name of its network."""
    labels = [f"{d.network.name} ({d.file})" for d in described]
    if len(set(labels)) < len(labels):
        labels = [f"{d.network.name} ({d.file}, number {i})" for i, d in enumerate(described, 1)]
    return {label: _words(d.network) for label, d in zip(labels, described, strict=True)}


def _words(network: VirtualNetwork | Applied | _Removed) -> set[tuple[str, str]]:
    """What a network is known by."""
    return {("uuid", network.uuid), ("name", network.name)}


class _Progress:
    """Prints what was done. If an operation fails, its error notes which were done.

    ``labels``: what each network is called there -> the words that it is known by.
    """

    def __init__(self, labels: Mapping[str, Collection[tuple[str, str]]], output: Format) -> None:
        self._labels = labels
        self._output = output
        self._done: list[Applied | _Removed] = []

    def applied(self, applied: Applied | _Removed) -> None:
        """A network is as described."""
        self._done.append(applied)
        if self._output is Format.TABLE:
            _tell(applied)
            sys.stdout.flush()

    def removed(self, network: VirtualNetwork) -> None:
        """A network is gone."""
        self.applied(_Removed(uuid=network.uuid, name=network.name))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, NetvirtError | KeyboardInterrupt) and len(self._labels) > 1:
            rest = dict(self._labels)
            for one in self._done:
                rest.pop(
                    next((label for label, own in rest.items() if _words(one).intersection(own)), ""), None
                )
            done = [label for label in self._labels if label not in rest]
            error.add_note(f"Done: {', '.join(done) or 'nothing'}.")
            error.add_note(f"Not done: {', '.join(rest)}.")
        if self._output is not Format.TABLE:
            document([applied.to_json() for applied in self._done], self._output)


def _tell(applied: Applied | _Removed) -> None:
    line(f"network {applied.name} ({applied.uuid}) {applied.outcome}")
    for change in applied.changes:
        line(f"  {change}")
