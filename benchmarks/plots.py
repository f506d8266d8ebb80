"""SVG plots: bars and lines, with logarithmic axes because sizes differ by orders of magnitude."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

from benchmarks.rows import quantity

_COLOURS = ("#1b6ca8", "#d1495b", "#edae49", "#7a7a7a", "#3c887e", "#8e5aa8", "#52796f", "#b56576")
_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 720, 84, 24, 44, 56
_HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
    'width="{width}" height="{height}" '
    'font-family="sans-serif" font-size="12" role="img" aria-label="{title}">\n'
    '<rect width="100%" height="100%" fill="white"/>\n'
    '<text x="{left}" y="22" font-size="15" font-weight="bold">{title}</text>\n'
)

Point = tuple[float, float]


class Axis:
    """A logarithmic axis between two pixel positions, with a mark at each power of ten."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        low, high = math.log10(min(values)), math.log10(max(values))
        self._low, self._high = math.floor(low + 1e-9), math.ceil(high - 1e-9)
        if self._low == self._high:
            self._high += 1
        self._start, self._end = start, end

    def at(self, value: float) -> float:
        """The pixel position of a value."""
        share = (math.log10(value) - self._low) / (self._high - self._low)
        return self._start + share * (self._end - self._start)

    @property
    def marks(self) -> list[float]:
        """The powers of ten on the axis."""
        return [10.0**n for n in range(self._low, self._high + 1)]


def bars(title: str, groups: Mapping[str, Mapping[str, float]], unit: str) -> str:
    """Horizontal bars of ``groups``: group -> series -> value. Bars begin at the lowest power of ten."""
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    values = [v for group in groups.values() for v in group.values() if v > 0]
    if not values:
        return ""
    left, line = 170, 18
    height = _TOP + sum(line * len(g) + 14 for g in groups.values()) + _BOTTOM
    axis = Axis([min(values) / 2, *values], left, _WIDTH - 90)
    parts = [_HEAD.format(width=_WIDTH, height=height, title=escape(title), left=12)]
    for mark in axis.marks:
        x = axis.at(mark)
        parts.append(_line(x, _TOP - 6, x, height - _BOTTOM + 4, "#dddddd"))
        parts.append(_text(x, height - _BOTTOM + 20, quantity(mark, unit), "middle"))
    y = float(_TOP)
    for group, series in groups.items():
        parts.append(_text(left - 8, y + line * len(series) / 2 + 4, group, "end"))
        for name, value in series.items():
            colour = _COLOURS[names.index(name) % len(_COLOURS)]
            if value > 0:
                width = axis.at(value) - left
                geometry = f'x="{left}" y="{y:.1f}" width="{width:.1f}" height="{line - 4}"'
                parts.append(f'<rect {geometry} fill="{colour}"/>\n')
                parts.append(_text(axis.at(value) + 5, y + 11, quantity(value, unit)))
            y += line
        y += 14
    parts.append(_legend(names, height - 14))
    return "".join(parts) + "</svg>\n"


def lines(title: str, series: Mapping[str, Sequence[Point]], across: str, unit: str) -> str:
    """Lines through points on two logarithmic axes. ``across``: label of the horizontal axis."""
    points = [p for some in series.values() for p in some if p[0] > 0 and p[1] > 0]
    if not points:
        return ""
    rows = (len(series) + 1) // 2
    bottom = _BOTTOM + 18 * rows
    height = 320 + bottom
    horizontal = Axis([x for x, _ in points], _LEFT, _WIDTH - _RIGHT)
    vertical = Axis([y for _, y in points], height - bottom, _TOP)
    parts = [_HEAD.format(width=_WIDTH, height=height, title=escape(title), left=12)]
    for mark in horizontal.marks:
        x = horizontal.at(mark)
        parts.append(_line(x, _TOP, x, height - bottom, "#dddddd"))
        parts.append(_text(x, height - bottom + 18, f"{mark:,.0f}", "middle"))
    for mark in vertical.marks:
        y = vertical.at(mark)
        parts.append(_line(_LEFT, y, _WIDTH - _RIGHT, y, "#dddddd"))
        parts.append(_text(_LEFT - 6, y + 4, quantity(mark, unit), "end"))
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, height - bottom + 38, across, "middle"))
    for number, some in enumerate(series.values()):
        colour = _COLOURS[number % len(_COLOURS)]
        pixels = [(horizontal.at(x), vertical.at(y)) for x, y in sorted(some) if x > 0 and y > 0]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in pixels)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>\n')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>\n' for x, y in pixels]
    for row in range(rows):
        two = list(series)[row * 2 : row * 2 + 2]
        parts.append(_legend(two, height - 10 - 18 * (rows - 1 - row), row * 2, 340))
    return "".join(parts) + "</svg>\n"


def _legend(names: Sequence[str], y: float, first: int = 0, step: float = 160) -> str:
    parts = []
    for number, name in enumerate(names):
        x, colour = 16 + step * number, _COLOURS[(first + number) % len(_COLOURS)]
        parts.append(f'<rect x="{x}" y="{y - 10}" width="12" height="12" fill="{colour}"/>\n')
        parts.append(_text(x + 18, y, name))
    return "".join(parts)


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>\n'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>\n'
