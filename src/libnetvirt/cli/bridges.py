"""Commands on the bridges of Open vSwitch: doctor, prepare."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from libnetvirt.cli.host import Finding, examine
from libnetvirt.cli.options import Format, Output, chosen
from libnetvirt.cli.output import document, line, told
from libnetvirt.cli.paging import pages
from libnetvirt.configuration import PATH
from libnetvirt.errors import InvalidDescription, SubstrateError
from libnetvirt.ovsdb import preparation
from libnetvirt.ovsdb.bridges import BridgeFault, Wanted, commands
from libnetvirt.ovsdb.remotes import FORMS, Remote, tls_context

# The MTU of links if --mtu is not given: room for every encapsulation, with large packets of hosts.
_LINK_MTU = 2000
#: exit status of ``doctor`` if something is wrong
FOUND = SubstrateError.exit_status

Database = Annotated[
    str | None,
    typer.Option(
        "--switch",
        metavar="DB",
        help=f"Database of the switch: {FORMS} [default: the one of this machine].",
        show_default=False,
    ),
]
Controller = Annotated[
    str | None, typer.Option("--controller", metavar="TARGET", help="Controller, as tcp:ADDRESS:PORT.")
]
DatapathId = Annotated[
    str | None, typer.Option("--datapath-id", metavar="ID", help="Datapath id: 1, or 16 hexadecimal digits.")
]
Links = Annotated[
    list[str] | None, typer.Option("--link", metavar="PORT", help="Port to another switch. May be repeated.")
]
Mtu = Annotated[int, typer.Option("--mtu", metavar="N", min=576, max=65535, help="MTU of these ports.")]
Bridges = Annotated[list[str] | None, typer.Argument(metavar="[BRIDGE]...", help="Names of bridges.")]
Key = Annotated[str | None, typer.Option("--key", metavar="FILE", help="Private key, for ssl.")]
Certificate = Annotated[
    str | None, typer.Option("--certificate", metavar="FILE", help="Certificate, for ssl.")
]
Ca = Annotated[str | None, typer.Option("--ca", metavar="FILE", help="CA certificate, for ssl.")]


@pages
def doctor(
    ctx: typer.Context,
    names: Bridges = None,
    host: Annotated[
        bool, typer.Option("--host", help="Examine this whole machine, as one that runs netvirtd.")
    ] = False,
    config: Annotated[
        Path, typer.Option("--config", metavar="FILE", help="With --host: the configuration of netvirtd.")
    ] = PATH,
    switch: Database = None,
    controller: Controller = None,
    datapath_id: DatapathId = None,
    link: Links = None,
    mtu: Mtu = _LINK_MTU,
    key: Key = None,
    certificate: Certificate = None,
    ca: Ca = None,
    output: Output = None,
) -> None:
    """Report what is wrong with the bridges of Open vSwitch, or with this host.

    Reads the switch's database, and changes nothing. Each fault comes with the command that corrects it.
    Faults marked 'unsafe' let frames pass outside of the networks' rules. The exit status is 7 if anything is
    wrong, else 0.

    With --host, examines the configuration of netvirtd, its state files, sockets and ports, the connections
    of the running netvirtd, the databases they need, the clock, and Open vSwitch on this machine: its
    bridges, and whether they reach their controllers.

    \b
    Examples:
      netvirt doctor
      netvirt doctor --host
      netvirt doctor br0 --controller tcp:192.0.2.1:6653
      netvirt doctor --switch tcp:192.0.2.17:6640 --format json
    """
    output_format = chosen(ctx, output)
    wanted = _wanted(controller, datapath_id, link, mtu)
    if host:
        if names or switch is not None:
            raise typer.BadParameter("--host examines this machine: name no bridge and no --switch.", ctx=ctx)
        _report_host(examine(config, wanted), output_format)
        return
    remote, tls = _database(switch, key, certificate, ca)
    found = preparation.examine(remote, names or (), wanted, tls)
    if not output_format.tabular:
        document([_document(one) for one in found], output_format)
    else:
        for one in found:
            line(f"bridge {one.name}: {'something is wrong' if one.faults else 'nothing is wrong'}")
            for fault in one.faults:
                line(f"- {'unsafe: ' if fault.unsafe else ''}{fault.text}")
                line(f"  {fault.remedy}")
    if any(one.faults for one in found):
        raise typer.Exit(FOUND)


def _report_host(found: list[Finding], output_format: Format) -> None:
    if not output_format.tabular:
        document([one._asdict() for one in found], output_format)
    else:
        line(f"this host: {'something is wrong' if found else 'nothing is wrong'}")
        for one in found:
            line(f"- {'unsafe: ' if one.unsafe else ''}{one.area}: {one.text}")
            line(f"  {one.remedy}")
    if found:
        raise typer.Exit(FOUND)


def prepare(
    ctx: typer.Context,
    names: Bridges = None,
    switch: Database = None,
    controller: Controller = None,
    datapath_id: DatapathId = None,
    link: Links = None,
    mtu: Mtu = _LINK_MTU,
    only_print: Annotated[
        bool, typer.Option("--print", help="Print the commands of ovs-vsctl instead, without a database.")
    ] = False,
    key: Key = None,
    certificate: Certificate = None,
    ca: Ca = None,
    output: Output = None,
) -> None:
    """Set bridges of Open vSwitch up for networks.

    Turns in-band control, spanning tree, mirrors and forward-bpdu off, and sets fail_mode=secure,
    vlan-limit=0, OpenFlow 1.3, and what the options give. Returns when Open vSwitch has followed; nothing is
    changed that is right already. Without BRIDGE: the only bridge there is. The exit status is 7 if something
    is left to be done, such as a restart of Open vSwitch.

    \b
    Examples:
      netvirt prepare br0 --controller tcp:192.0.2.1:6653 --datapath-id 1
      netvirt prepare br0 --link eth1 --link eth2 --mtu 9000
      netvirt prepare br0 --controller tcp:192.0.2.1:6653 --print
      netvirt prepare br0 --switch tcp:192.0.2.17:6640
    """
    output_format = chosen(ctx, output)
    wanted = _wanted(controller, datapath_id, link, mtu)
    if wanted.datapath_id and names is not None and len(names) > 1:
        raise InvalidDescription("a datapath id belongs to one bridge: name one bridge with --datapath-id")
    if only_print:
        if not names:
            raise InvalidDescription("name the bridges whose commands are to be printed")
        found_commands = list(dict.fromkeys(c for name in names for c in commands(name, wanted)))
        told(found_commands, {"commands": found_commands}, output_format)
        return
    remote, tls = _database(switch, key, certificate, ca)
    found = preparation.prepare(remote, names or (), wanted, tls)
    texts: list[str] = []
    for one in found:
        texts.append(f"bridge {one.name} is {'not ready yet' if one.left else 'prepared'}")
        texts += [f"- corrected: {fault.text}" for fault in one.corrected]
        texts += [text for fault in one.left for text in (f"- {fault.text}", f"  {fault.remedy}")]
    described = [
        {"bridge": one.name, "corrected": _faults(one.corrected), "left": _faults(one.left)} for one in found
    ]
    told(texts, described, output_format)
    if any(one.left for one in found):
        raise typer.Exit(FOUND)


def _wanted(controller: str | None, datapath_id: str | None, links: list[str] | None, mtu: int) -> Wanted:
    return Wanted(controller or "", _datapath_id(datapath_id or "0"), tuple(links or ()), mtu)


def _datapath_id(text: str) -> int:
    plain = text.replace(":", "").lower().removeprefix("0x")
    try:
        number = int(plain) if len(plain) < 16 and plain.isdigit() and ":" not in text else int(plain, 16)
    except ValueError:
        number = -1
    if not 0 <= number < 1 << 64:
        raise InvalidDescription(f"{text!r} is not a datapath id: write a number or 16 hexadecimal digits")
    return number


def _database(
    text: str | None, key: str | None, certificate: str | None, ca: str | None
) -> tuple[Remote, Any]:
    """Where a switch's database is, and the TLS context for it."""
    remote = Remote.parse(text) if text else Remote.local()
    given = {"key": key or "", "certificate": certificate or "", "ca": ca or ""}
    context = tls_context(given)
    if remote.kind == "ssl" and context is None:
        raise InvalidDescription("a database behind ssl needs --key, --certificate and --ca")
    return remote, context


def _document(one: preparation.Examined) -> dict[str, Any]:
    return {
        "bridge": one.name,
        "datapath-id": one.datapath_id,
        "faults": _faults(one.faults),
    }


def _faults(faults: Iterable[BridgeFault]) -> list[dict[str, Any]]:
    return [{"kind": f.kind, "unsafe": f.unsafe, "text": f.text, "remedy": f.remedy} for f in faults]
