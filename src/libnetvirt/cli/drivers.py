"""``drivers``: the capabilities of the installed drivers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any

import typer

from libnetvirt.cli.options import Output, chosen
from libnetvirt.cli.output import document, line
from libnetvirt.cli.output import table as plain_table
from libnetvirt.cli.paging import pages
from libnetvirt.driver import DRIVERS, FEATURES, TRANSPORTS, Capabilities, installed, load
from libnetvirt.errors import DriverNotFound
from libnetvirt.settings import Option
from libnetvirt.uri import URI

Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show the options of each driver's URI, too.")]


@pages
def drivers(ctx: typer.Context, verbose: Verbose = False, output: Output = None) -> None:
    """Show the capabilities of the installed drivers.

    Opens no connection. Options of a connection URI can restrict what a session offers.

    \b
    Examples:
      netvirt drivers
      netvirt drivers --verbose
      netvirt drivers --format json
    """
    wanted = chosen(ctx, output)
    offered: dict[str, Capabilities] = {}
    options: dict[str, tuple[Option, ...]] = {}
    broken: dict[str, str] = {}
    for name in installed(DRIVERS):
        try:
            driver = load(URI(name))
            offered[name], options[name] = driver.offers(), driver.settings.options()
        except DriverNotFound as error:
            broken[name] = str(error)
    transports = {name: point.value for name, point in installed(TRANSPORTS).items()}
    if not wanted.tabular:
        document(_plain(offered, options if verbose else {}, broken, transports), wanted)
        return
    table = partial(plain_table, output=wanted)
    table(
        ["FEATURE", *(name.upper() for name in offered), "MEANING"],
        [
            (feature, *("yes" if feature in c.features else "no" for c in offered.values()), meaning)
            for feature, meaning in FEATURES.items()
        ],
    )
    line("")
    table(
        ["DRIVER", "DESCRIPTION"],
        [(name, c.description or "-") for name, c in offered.items()],
    )
    rules = [(name, *row) for name, c in offered.items() for row in _rules(c)]
    if rules:
        line("")
        table(["DRIVER", "ENCAPSULATION", "INSERTION", "TIMEOUT"], rules)
    reasons = [(name, f, why) for name, c in offered.items() for f, why in sorted(c.reasons.items())]
    if reasons:
        line("")
        table(["DRIVER", "FEATURE", "REASON IT IS NOT OFFERED"], reasons)
    if verbose:
        line("")
        table(
            ["DRIVER", "OPTION", "DEFAULT", "VALUES", "MEANING"],
            [
                (name, o.name, o.default or "-", o.values, o.meaning)
                for name, found in options.items()
                for o in found
            ],
        )
    line("")
    servers = [(name, f"DRIVER+{name}://{_WHERE.get(name, 'PATH')}") for name in transports]
    table(["TRANSPORT", "URI"], servers)
    for name, why in broken.items():
        line(f"\n{name}: {why}")


#: how servers are named that are not on a path
_WHERE = {"tls": "HOST:PORT/?token-file=FILE"}


def _rules(capabilities: Capabilities) -> Iterator[tuple[str, str, str]]:
    """The rules options offered, one row for each encapsulation and insertion, with all their timeouts."""
    timeouts: dict[tuple[str, str], list[str]] = {}
    for c in capabilities.combinations:
        timeouts.setdefault((str(c.encapsulation), str(c.insertion)), []).append(str(c.timeout))
    for (encapsulation, insertion), offered in timeouts.items():
        yield encapsulation, insertion, ", ".join(offered)


def _plain(
    offered: dict[str, Capabilities],
    options: dict[str, tuple[Option, ...]],
    broken: dict[str, str],
    transports: dict[str, str],
) -> dict[str, Any]:
    described = {
        name: {**c.model_dump(mode="json", by_alias=True, exclude_none=True), "features": sorted(c.features)}
        for name, c in offered.items()
    }
    for name, found in options.items():
        described[name]["options"] = [option._asdict() for option in found]
    return {"drivers": described, "unusable": broken, "transports": sorted(transports)}
