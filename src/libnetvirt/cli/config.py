"""``config``: the configuration of netvirtd: check, show."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from libnetvirt.cli.options import Connect, Output, chosen
from libnetvirt.cli.output import document, line, table, told
from libnetvirt.cli.paging import pages
from libnetvirt.cli.servers import server_socket
from libnetvirt.cli.system_files import write
from libnetvirt.configuration import PATH, Configuration, effective, load, running, toml_value

_File = Annotated[Path | None, typer.Argument(metavar="[FILE]", help=f"The configuration [default: {PATH}].")]


def check(ctx: typer.Context, file: _File = None, output: Output = None) -> None:
    """Check the configuration, and open nothing.

    Prints every fault with its line and the remedy. 'netvirtd --check-config' is the same.

    \b
    Examples:
      netvirt config check
      netvirt config check ./netvirtd.toml
    """
    wanted = chosen(ctx, output)
    path = file or PATH
    names = list(load(path).connections)
    text = f"{path} is right: {', '.join(names)}"
    told([text], {"file": str(path), "valid": True, "connections": names}, wanted)


def files(
    ctx: typer.Context,
    root: Annotated[
        Path,
        typer.Argument(metavar="[ROOT]", help="Directory below which they are written.", show_default=True),
    ] = Path("/"),
    output: Output = None,
) -> None:
    """Write the files that netvirtd needs as a service of systemd.

    A unit, the user netvirt (sysusers.d), the directories (tmpfiles.d), manual pages, completion for bash,
    zsh and fish, and a first configuration, unless there is one. Prints their paths.

    \b
    Examples:
      netvirt config files
      systemd-sysusers
      systemd-tmpfiles --create
      systemctl daemon-reload
      systemctl enable --now netvirtd
    """
    wanted = chosen(ctx, output)
    written = [str(path) for path in write(root, ctx.find_root().command)]
    told(written, {"files": written}, wanted)


@pages
def show(
    ctx: typer.Context,
    file: _File = None,
    in_use: Annotated[
        bool, typer.Option("--in-use", help="Ask the running netvirtd instead of reading the file.")
    ] = False,
    connect: Connect = None,
    output: Output = None,
) -> None:
    """Show all keys of the configuration with their values, also those that the file leaves out.

    With --in-use: those that netvirtd uses now, which a refused reload has not changed, and whether its
    connections are open. The server is the one of the connection URI, else the one at
    /run/libnetvirt/netvirtd.sock.

    \b
    Examples:
      netvirt config show
      netvirt config show --in-use --format json
    """
    output_format = chosen(ctx, output)
    reports: list[dict[str, Any]] = []
    if in_use:
        path = server_socket(ctx, connect)
        if not path:
            raise typer.BadParameter("--in-use asks a server: give the URI of one.", ctx=ctx)
        answer = running.configuration(path)
        reports = running.connections(path)
        name, configuration = answer["file"], Configuration.model_validate(answer["configuration"])
    else:
        name, configuration = str(file or PATH), load(file or PATH)
    if not output_format.tabular:
        content = configuration.model_dump(mode="json", by_alias=True, exclude_none=True)
        shown = {"file": name, "configuration": content}
        document({**shown, "connections": reports} if in_use else shown, output_format)
        return
    rows = [
        (key, toml_value(value), "file" if given else "default")
        for key, value, given in effective(configuration)
    ]
    if in_use:
        table(("KEY", "VALUE"), [row[:2] for row in rows], output=output_format)
        line("")
        states = [
            (one["name"], "open" if one["open"] else "not open", one["reason"] or "-") for one in reports
        ]
        table(("CONNECTION", "STATE", "REASON"), states, output=output_format)
    else:
        table(("KEY", "VALUE", "FROM"), rows, output=output_format)
