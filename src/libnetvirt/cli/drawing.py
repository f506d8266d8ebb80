"""Switches and links as SVG: a layout that is the same for the same substrate, and the picture.

The layout is force-directed (Fruchterman and Reingold, 1991): links pull switches together, and all switches
repel each other. It begins with a circle in the order of names, takes a fixed number of steps and uses no
random numbers, so a substrate that has not changed is drawn the same again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from xml.sax.saxutils import escape, quoteattr

#: steps of the layout, and how many pairs of switches they may look at in all
_STEPS, _WORK = 120, 3_000_000
#: pixels: of a distance of 1, at least and at most; between the two nearest switches; around all
_SIZE, _LARGEST, _APART, _MARGIN = 150.0, 600.0, 110.0, 90
_COLOURS = {"up": "#667085", "unconfirmed": "#b54708", "down": "#d92d20"}
NETWORK = "#1570ef"
_STYLE = (
    "text{font:13px sans-serif;fill:#101828} "
    ".small{font-size:11px;fill:#475467;paint-order:stroke;stroke:#fff;stroke-width:3px} "
    ".switch{fill:#fff;stroke:#344054;stroke-width:1.5} .away{stroke-dasharray:4 3;stroke:#d92d20} "
    "line{stroke-linecap:round} .end{fill:#1570ef}"
)


@dataclass(frozen=True, slots=True)
class Node:
    """A switch. ``below``: what is written below it, a line each."""

    name: str
    connected: bool
    title: str
    below: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Line:
    """A link, both directions in one. ``state``: up, unconfirmed or down; ``full``: its utilisation, 0 to 1;
    ``used``: whether a network uses it; ``label``: what is written beside it."""

    ends: tuple[str, str]
    state: str
    label: str
    title: str
    full: float = 0.0
    used: bool = False


def layout(names: Sequence[str], links: Iterable[tuple[str, str]]) -> dict[str, tuple[float, float]]:
    """The place of each switch; the distance of linked ones is about 1."""
    count = len(names)
    radius = max(1.0, count / (2 * math.pi))
    places = [
        [radius * math.cos(2 * math.pi * i / count), radius * math.sin(2 * math.pi * i / count)]
        for i in range(count)
    ]
    index = {name: i for i, name in enumerate(names)}
    pairs = sorted({tuple(sorted((index[a], index[b]))) for a, b in links if a != b})
    steps = min(_STEPS, _WORK // max(1, count * count))
    for step in range(steps):
        moves = [[0.0, 0.0] for _ in names]
        for i in range(count):
            for j in range(i):
                x, y = places[i][0] - places[j][0], places[i][1] - places[j][1]
                square = x * x + y * y or 1e-6
                moves[i][0] += x / square
                moves[i][1] += y / square
                moves[j][0] -= x / square
                moves[j][1] -= y / square
        for i, j in pairs:
            x, y = places[i][0] - places[j][0], places[i][1] - places[j][1]
            pull = math.hypot(x, y)
            moves[i][0] -= x * pull
            moves[i][1] -= y * pull
            moves[j][0] += x * pull
            moves[j][1] += y * pull
        # Shorter and shorter steps, so that it comes to rest.
        limit = radius * 0.3 * (1 - step / steps)
        for place, (x, y) in zip(places, moves, strict=True):
            length = math.hypot(x, y) or 1.0
            place[0] += x / length * min(length, limit)
            place[1] += y / length * min(length, limit)
    return {name: (places[i][0], places[i][1]) for name, i in index.items()}


def svg(nodes: Sequence[Node], lines: Sequence[Line], title: str, legend: Sequence[str]) -> str:
    """The picture, as the text of a file. ``title`` and ``legend`` are written at its top."""
    placed = _pixels(layout([node.name for node in nodes], [line.ends for line in lines]))
    head = 30 + 16 * len(legend)
    width = max([*(x for x, _ in placed.values()), 330]) + _MARGIN
    height = max([*(y for _, y in placed.values()), 0]) + _MARGIN + head
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label={quoteattr(_text(title))}>',
        f"<style>{_STYLE}</style>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="16" y="24" font-weight="bold">{escape(_text(title))}</text>',
        *(
            f'<text class="small" x="16" y="{40 + 16 * i}">{escape(_text(one))}</text>'
            for i, one in enumerate(legend)
        ),
        f'<g transform="translate(0 {head})">',
        *_lines(lines, placed),
        *(part for node in nodes for part in _node(node, *placed[node.name])),
        "</g>",
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _pixels(places: Mapping[str, tuple[float, float]]) -> dict[str, tuple[int, int]]:
    left = min((x for x, _ in places.values()), default=0.0)
    top = min((y for _, y in places.values()), default=0.0)
    nearest = min((math.dist(a, b) for a, b in combinations(places.values(), 2)), default=1.0)
    scale = max(_SIZE, min(_APART / max(nearest, 1e-3), _LARGEST))
    return {
        name: (round((x - left) * scale) + _MARGIN, round((y - top) * scale) + _MARGIN // 2)
        for name, (x, y) in places.items()
    }


def _lines(lines: Sequence[Line], placed: Mapping[str, tuple[int, int]]) -> Iterable[str]:
    drawn: dict[frozenset[str], int] = {}
    for line in lines:
        (x1, y1), (x2, y2) = (placed[name] for name in line.ends)
        # Links between the same two switches are drawn beside each other.
        beside = drawn[frozenset(line.ends)] = drawn.get(frozenset(line.ends), -1) + 1
        length = math.hypot(x2 - x1, y2 - y1) or 1.0
        first = 1 if line.ends[0] <= line.ends[1] else -1
        shift = (beside + 1) // 2 * 14 * (1 if beside % 2 else -1) * first
        dx, dy = -(y2 - y1) / length * shift, (x2 - x1) / length * shift
        x1, y1, x2, y2 = round(x1 + dx), round(y1 + dy), round(x2 + dx), round(y2 + dy)
        colour = NETWORK if line.used and line.state == "up" else _COLOURS[line.state]
        strong = 2 + round(6 * min(1.0, line.full), 1) + (2 if line.used else 0)
        dashes = "" if line.state == "up" else ' stroke-dasharray="6 5"'
        yield (
            f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{colour}" stroke-width="{strong:g}"'
            f"{dashes}><title>{escape(_text(line.title))}</title></line>"
        )
        if line.label:
            yield (
                f'<text class="small" x="{(x1 + x2) // 2}" y="{(y1 + y2) // 2 - 5 + 12 * beside}" '
                f'text-anchor="middle">{escape(_text(line.label))}</text>'
            )


def _node(node: Node, x: int, y: int) -> Iterable[str]:
    width = max(44, 8 * len(node.name) + 16)
    kind = "switch" if node.connected else "switch away"
    left = x - width // 2
    yield (
        f"<g><title>{escape(_text(node.title))}</title>"
        f'<rect class="{kind}" x="{left}" y="{y - 15}" width="{width}" height="30" rx="6"/>'
        f'<text x="{x}" y="{y + 5}" text-anchor="middle">{escape(_text(node.name))}</text></g>'
    )
    for i, text in enumerate(node.below):
        yield (
            f'<circle class="end" cx="{left + 6}" cy="{y + 25 + 14 * i}" r="4"/>'
            f'<text class="small" x="{left + 14}" y="{y + 29 + 14 * i}">{escape(_text(text))}</text>'
        )


def _text(text: str) -> str:
    """Text as XML can hold it."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
