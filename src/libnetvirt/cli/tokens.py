"""``token``: who may use netvirtd over the network: create, list, revoke."""

from __future__ import annotations

import datetime
import re
import sys
import time
from pathlib import Path
from typing import Annotated, get_args

import typer

from libnetvirt.cli.options import Output, chosen
from libnetvirt.cli.output import document, table, told
from libnetvirt.cli.paging import pages
from libnetvirt.configuration import PATH, load, tokens
from libnetvirt.configuration.models import TOKENS
from libnetvirt.errors import InvalidDescription

_SECONDS = {"h": 3600, "d": 86400, "w": 7 * 86400}

_Config = Annotated[
    Path, typer.Option("--config", metavar="FILE", help="The configuration of netvirtd.", show_default=True)
]
_Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the token.")]


def create(
    ctx: typer.Context,
    name: _Name,
    role: Annotated[
        str,
        typer.Option("--role", metavar=f"<{'|'.join(tokens.ROLES)}>", help="What it permits."),
    ],
    network: Annotated[
        list[str] | None,
        typer.Option("--network", metavar="UUID", help="Only for this network; may be repeated."),
    ] = None,
    connection: Annotated[
        list[str] | None,
        typer.Option("--connection", metavar="NAME", help="Only for this connection; may be repeated."),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option("--expires", metavar="TIME", help="Ends after 12h, 30d or 8w [default: never]."),
    ] = None,
    config: _Config = PATH,
    output: Output = None,
) -> None:
    """Create a token for a client of netvirtd on the network, and print it.

    It is printed this once and stored nowhere: netvirtd keeps its hash. Write it to a file that only the
    client can read. It holds at once, without a reload.

    Roles: 'read' lists and shows, and reads events; 'operate' also changes networks; 'admin' may do
    everything, such as reload, adopt and backup.

    \b
    Examples:
      (umask 077; netvirt token create cloud --role operate > cloud.token)
      netvirt token create panel --role read --expires 30d
      netvirt token create blue --role operate --network 1 --connection core
    """
    output_format = chosen(ctx, output)
    file = _file(config)
    try:
        tokens.token_name(name)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="NAME") from None
    if role not in get_args(tokens.Role):
        raise typer.BadParameter(
            f"{role!r} is no role: use one of {', '.join(tokens.ROLES)}.", param_hint="--role"
        )
    if config.exists():
        known = load(config, certificates=False).connections
        for one in connection or ():
            if one not in known:
                raise InvalidDescription(f"there is no connection {one!r}: there is {', '.join(known)}")
    secret = tokens.create(
        file,
        name,
        role,  # type: ignore[arg-type]
        networks=tuple(network or ()),
        connections=tuple(connection or ()),
        expires=None if expires is None else time.time() + _seconds(expires),
    )
    if output_format.tabular:
        sys.stderr.write(f"token {name} created; this is the only time that it is shown:\n")
    told([secret], {"name": name, "role": role, "token": secret, "outcome": "created"}, output_format)


@pages
def list_(ctx: typer.Context, config: _Config = PATH, output: Output = None) -> None:
    """List the tokens: name, role, what they are limited to, and when they end.

    \b
    Examples:
      netvirt token list
      netvirt token list --format json
    """
    output_format = chosen(ctx, output)
    found = tokens.read(_file(config))
    if not output_format.tabular:
        document(
            [one.model_dump(mode="json", exclude={"sha256"}, exclude_none=True) for one in found],
            output_format,
        )
        return
    rows = [
        (
            one.name,
            one.role,
            ", ".join(one.networks) or "all",
            ", ".join(one.connections) or "all",
            "never" if one.expires is None else _day(one.expires) + (" (expired)" if one.expired else ""),
        )
        for one in found
    ]
    table(("NAME", "ROLE", "NETWORKS", "CONNECTIONS", "EXPIRES"), rows, output=output_format)


def revoke(ctx: typer.Context, name: _Name, config: _Config = PATH, output: Output = None) -> None:
    """Revoke a token: its next request is refused, and its streams of events end.

    Changes that are running are completed.

    \b
    Examples:
      netvirt token revoke cloud
    """
    output_format = chosen(ctx, output)
    tokens.revoke(_file(config), name)
    told([f"token {name} revoked"], {"name": name, "outcome": "revoked"}, output_format)


def _file(config: Path) -> Path:
    if config == PATH and not config.exists():
        return TOKENS
    return Path(load(config, certificates=False).tokens)


def _seconds(text: str) -> float:
    found = re.fullmatch(r"([1-9][0-9]{0,4})([hdw])", text)
    if not found:
        raise typer.BadParameter(
            f"{text!r} is not a time: write a whole number with h, d or w, such as 12h, 30d or 8w.",
            param_hint="--expires",
        )
    return int(found.group(1)) * _SECONDS[found.group(2)]


def _day(when: float) -> str:
    return f"{datetime.datetime.fromtimestamp(when, datetime.UTC):%Y-%m-%d %H:%M}Z"
