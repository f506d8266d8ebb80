"""Commands for whole networks: validate, create, apply, remove, list, dump."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

import libnetvirt
from libnetvirt import Applied, Fault, NetvirtError, Outcome, VirtualNetwork, formats
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
    The networks are created in the order given, each one completely or not at all.

    \b
    Examples:
      netvirt create blue.xml red.yaml
      netvirt create --pending blue.xml
      netvirt -c openflow+unix:///run/netvirt.sock create - < blue.json
    """
    wanted = chosen(ctx, output)
    described = files.read_valid(paths)

    def one(connection: libnetvirt.Connection, network: VirtualNetwork) -> Applied:
        connection.create(network, pending=pending)
        return Applied(uuid=network.uuid, name=network.name, outcome=Outcome.CREATED)

    with connected(ctx, connect) as connection:
        _in_order(described, lambda network: one(connection, network), wanted)


def apply(
    ctx: typer.Context,
    paths: Files,
    pending: Pending = False,
    connect: Connect = None,
    output: Output = None,
) -> None:
    """Create or change networks to match the descriptions in files.

    Changes a network in one step and prints what changed. Other traffic is not interrupted. Applying the
    same description again changes nothing.

    \b
    Examples:
      netvirt apply blue.xml
      netvirt apply --format json networks/*.yaml
    """
    wanted = chosen(ctx, output)
    described = files.read_valid(paths)
    with connected(ctx, connect) as connection:
        _in_order(described, lambda network: connection.apply(network, pending=pending), wanted)


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
    with connected(ctx, connect) as connection:

        def one(key: str) -> _Removed:
            network = connection.lookup(key)
            name = network.description().name
            network.remove()
            return _Removed(uuid=network.uuid, name=name)

        _each(networks, one, wanted)


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


def _in_order(
    described: Sequence[files.Described], operation: Callable[[VirtualNetwork], Applied], output: Format
) -> None:
    networks = {f"{d.network.name} ({d.file})": d.network for d in described}
    if len(networks) == len(described):
        _each(list(networks), lambda label: operation(networks[label]), output)
        return
    by_place = {f"{d.network.name} ({d.file}, number {i})": d.network for i, d in enumerate(described, 1)}
    _each(list(by_place), lambda label: operation(by_place[label]), output)


def _each(labels: Sequence[str], operation: Callable[[str], Applied | _Removed], output: Format) -> None:
    """Perform the operations in order, up to the first that fails. Its error then notes which were done."""
    done: list[Applied | _Removed] = []
    try:
        for label in labels:
            done.append(operation(label))
            if output is Format.TABLE:
                _tell(done[-1])
                sys.stdout.flush()
    except (NetvirtError, KeyboardInterrupt) as error:
        if len(labels) > 1:
            error.add_note(f"Done: {', '.join(labels[: len(done)]) or 'nothing'}.")
            error.add_note(f"Not done: {', '.join(labels[len(done) :])}.")
        raise
    finally:
        if output is not Format.TABLE:
            document([applied.to_json() for applied in done], output)


def _tell(applied: Applied | _Removed) -> None:
    line(f"network {applied.name} ({applied.uuid}) {applied.outcome}")
    for change in applied.changes:
        line(f"  {change}")
