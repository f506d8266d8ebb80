"""``topology``: switches and links as a picture or as text, with what they carry, and paths of a network."""

from __future__ import annotations

import asyncio
import re
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any

import typer

from libnetvirt import Link, VirtualNetwork, aio
from libnetvirt.cli.naming import find_async
from libnetvirt.cli.options import Connect, Format, address, settings
from libnetvirt.cli.output import clean, document
from libnetvirt.cli.paging import pages
from libnetvirt.cli.traffic import LinkKey, key, loads, rate, state
from libnetvirt.model import Path, Substrate


class Picture(StrEnum):
    """The formats."""

    TEXT = "text"
    SVG = "svg"
    DOT = "dot"
    JSON = "json"
    YAML = "yaml"


@dataclass(frozen=True)
class View:
    """What is drawn."""

    substrate: Substrate
    loads: dict[LinkKey, float]
    network: VirtualNetwork | None = None
    paths: tuple[Path, ...] = ()
    #: switch and port that a path of the network leaves by
    used: frozenset[tuple[str, str]] = field(default_factory=frozenset)

    def uses(self, link: Link) -> bool:
        """Whether a path of the network takes this direction of a link."""
        return (link.source, link.source_port) in self.used


@pages
def topology(
    ctx: typer.Context,
    network: Annotated[
        str | None,
        typer.Option("--network", "-n", metavar="VN", help="Show the endpoints and paths of this network."),
    ] = None,
    output: Annotated[
        Picture | None,
        typer.Option(
            "--format", "-o", metavar=f"<{'|'.join(Picture)}>", help="Output format.", show_default=False
        ),
    ] = None,
    connect: Connect = None,
) -> None:
    """Draw the switches and links, with load and paths.

    Shows each link with its state, what constraints have reserved on it, and its load, if the driver measures
    it: as text (the default), as a picture (svg), for Graphviz (dot), or as data (json, yaml). A substrate
    that has not changed is drawn the same again. With --network, the links that its paths take are marked.

    \b
    Examples:
      netvirt topology
      netvirt topology --format svg > substrate.svg
      netvirt topology --network blue --format dot | neato -Tpdf > blue.pdf
    """
    wanted = _wanted(ctx, output)
    view = asyncio.run(_look(address(ctx, connect), network))
    if wanted in (Picture.JSON, Picture.YAML):
        document(_data(view), Format(wanted))
        return
    write = {Picture.SVG: as_svg, Picture.DOT: as_dot, Picture.TEXT: as_text}[wanted]
    sys.stdout.write(write(view))


def _wanted(ctx: typer.Context, output: Picture | None) -> Picture:
    before = settings(ctx).output
    if output is None and before in (Format.JSON, Format.YAML):
        output = Picture(before)
    if output is None and before not in (None, Format.TABLE, Format.WIDE):
        raise typer.BadParameter(
            f"'topology' cannot write {before}: it writes {', '.join(Picture)}.", ctx=ctx
        )
    if output in (Picture.JSON, Picture.YAML):
        settings(ctx).output = Format(output)
    return output or Picture.TEXT


async def _look(uri: str, name: str | None) -> View:
    async with await aio.open(uri) as connection:
        description: VirtualNetwork | None = None
        paths: tuple[Path, ...] = ()
        if name is not None:
            found = await find_async(connection, name)
            description = await found.description()
            paths = tuple(await found.paths())
        used = frozenset((hop.switch, hop.out_port) for path in paths for hop in path.hops)
        return View(await connection.substrate(), await loads(connection), description, paths, used)


def _data(view: View) -> dict[str, Any]:
    """The fields of JSON and YAML."""
    links = [
        {
            **link.to_json(),
            "state": state(link),
            "load": _whole(view.loads.get(key(link))),
            "used": view.uses(link),
        }
        for link in view.substrate.links
    ]
    found: dict[str, Any] = {"switches": [s.to_json() for s in view.substrate.switches], "links": links}
    if view.network is not None:
        found["network"] = {
            "uuid": view.network.uuid,
            "name": view.network.name,
            "endpoints": [
                {"uuid": e.uuid, "switch": e.switch, "port": e.port, "tag": str(e.tag)}
                for e in view.network.endpoints
            ],
            "paths": [path.to_json() for path in view.paths],
        }
    return found


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def as_text(view: View) -> str:
    lines = []
    ends = _endpoints(view)
    links = defaultdict(list)
    for link in view.substrate.links:
        links[link.source].append(link)
    for switch in view.substrate.switches:
        away = "" if switch.connected else " (disconnected)"
        lines.append(f"switch {clean(switch.id)}{away}")
        lines += [f"  endpoint {text}" for text in ends[switch.id]]
        for link in sorted(links.pop(switch.id, []), key=lambda one: _natural(one.source_port)):
            mark = "=>" if view.uses(link) else "->"
            far = f"switch {clean(link.destination)} port {clean(link.destination_port)}"
            lines.append(f"  port {clean(link.source_port)} {mark} {far}: {', '.join(_facts(view, link))}")
    if view.network is not None:
        lines.append(f"=> links that paths of network {clean(view.network.name)} take")
    return "\n".join(lines) + "\n"


def _facts(view: View, link: Link) -> list[str]:
    """What is known of a direction of a link."""
    found = [state(link)]
    load = view.loads.get(key(link))
    if load is not None:
        found.append(f"load {rate(load)}")
    if link.capacity:
        found.append(f"capacity {rate(link.capacity)}")
    if link.reserved:
        found.append(f"reserved {rate(link.reserved)}")
    return found


def _endpoints(view: View) -> defaultdict[str, list[str]]:
    """The endpoints of the network by switch, as they are written beside it."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    # A driver may call the switch of a description by a longer name.
    ends = {path.source: path.hops[0].switch for path in view.paths if path.hops}
    for e in view.network.endpoints if view.network is not None else ():
        tag = "" if str(e.tag) == "untagged" else f" {e.tag}"
        found[ends.get(e.uuid, e.switch)].append(f"{clean(e.uuid)} port {clean(e.port)}{clean(tag)}")
    return found


def _both(view: View) -> list[tuple[Link, Link | None]]:
    """The links, each with the one in the other direction, if there is one."""
    left = {(k.source, k.source_port, k.destination, k.destination_port): k for k in view.substrate.links}
    found = []
    while left:
        (source, port, destination, far), link = next(iter(left.items()))
        del left[source, port, destination, far]
        found.append((link, left.pop((destination, far, source, port), None)))
    return found


def _names(view: View) -> list[str]:
    """All switches, also those that only a link names."""
    known = {s.id for s in view.substrate.switches}
    known |= {name for k in view.substrate.links for name in (k.source, k.destination)}
    return sorted(known, key=_natural)


def _worst(pair: tuple[Link, Link | None]) -> str:
    """The state of a link as a whole."""
    states = {state(one) if one is not None else "down" for one in pair}
    return next(word for word in ("down", "unconfirmed", "up") if word in states)


def _label(view: View, pair: tuple[Link, Link | None]) -> tuple[str, float]:
    """What is written beside a link: the larger load and reservation; and its utilisation."""
    there = [one for one in pair if one is not None]
    known = [view.loads[key(one)] for one in there if key(one) in view.loads]
    full = max((view.loads.get(key(one), 0.0) / one.capacity for one in there if one.capacity), default=0.0)
    reserved = max(one.reserved for one in there)
    parts = [f"{rate(max(known))} ({full:.0%})"] if known else []
    parts += [f"reserved {rate(reserved)}"] if reserved else []
    return ", ".join(parts), full


def as_svg(view: View) -> str:
    from libnetvirt.cli.drawing import Line, Node, svg

    ends = _endpoints(view)
    switches = {s.id: s for s in view.substrate.switches}
    nodes = []
    for name in _names(view):
        switch = switches.get(name)
        connected = switch is not None and switch.connected
        title = f"switch {name}: {'connected' if connected else 'disconnected'}"
        title += f", {switch.description}" if switch is not None and switch.description else ""
        nodes.append(Node(name, connected, title, ends[name]))
    lines = []
    for pair in _both(view):
        label, full = _label(view, pair)
        titles = [
            f"{k.source} port {k.source_port} -> {k.destination} port {k.destination_port}: "
            f"{', '.join(_facts(view, k))}"
            for k in pair
            if k is not None
        ]
        used = any(view.uses(k) for k in pair if k is not None)
        one = pair[0]
        lines.append(Line((one.source, one.destination), _worst(pair), label, "\n".join(titles), full, used))
    legend = ["dashed orange: unconfirmed; dashed red: down; the thicker, the fuller"]
    title = "Switches and links"
    if view.network is not None:
        title = f"Network {view.network.name}"
        legend.insert(0, "blue: links that its paths take, and its endpoints")
    return svg(nodes, lines, title, legend)


def as_dot(view: View) -> str:
    ends = _endpoints(view)
    switches = {s.id: s for s in view.substrate.switches}
    lines = ["graph substrate {", "  node [shape=box, style=rounded];", "  overlap=false;"]
    for name in _names(view):
        text = "\n".join([name, *ends[name]])
        away = "" if name in switches and switches[name].connected else ", color=red, style=dashed"
        lines.append(f"  {_quoted(name)} [label={_quoted(text)}{away}];")
    for pair in _both(view):
        one, (label, full) = pair[0], _label(view, pair)
        word = _worst(pair)
        marked = any(view.uses(k) for k in pair if k is not None)
        colour = (
            "blue"
            if marked and word == "up"
            else {"up": "black", "unconfirmed": "orange", "down": "red"}[word]
        )
        attributes = [
            f"taillabel={_quoted(one.source_port)}", f"headlabel={_quoted(one.destination_port)}",
            f"color={colour}", f"penwidth={1 + 5 * min(1.0, full) + marked:.1f}",
            *([f"label={_quoted(label)}"] if label else []), *(["style=dashed"] if word != "up" else []),
        ]  # fmt: skip
        lines.append(f"  {_quoted(one.source)} -- {_quoted(one.destination)} [{', '.join(attributes)}];")
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    """A name or label of DOT."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "\\n".join(clean(part) for part in escaped.split("\n")) + '"'


def _natural(name: str) -> list[Any]:
    parts = re.split(r"(\d+)", name)
    return [(0, int(p), "") if p.isdecimal() and p.isascii() else (1, 0, p) for p in parts]
