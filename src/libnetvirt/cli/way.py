"""The ways of an explanation as pictures: a line of text, and SVG."""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape

from libnetvirt.cli.output import clean
from libnetvirt.model import ExplainedDirection, ExplainedHop, Explanation, Verdict

#: pixels: of a switch and of what is between two; of a direction and of each line below it; around all
_BOX, _GAP, _TALL, _LINE, _MARGIN = 90, 120, 80, 16, 20
_STYLE = (
    "text{font:13px sans-serif;fill:#101828} .small{font-size:11px;fill:#475467} .bad{fill:#d92d20} "
    ".switch{fill:#fff;stroke:#344054;stroke-width:1.5} .end{fill:#eff8ff;stroke:#1570ef} "
    "line{stroke:#667085;stroke-width:2} .lost{stroke:#d92d20;stroke-dasharray:6 5}"
)
#: what an obstacle's text may be long
_LONGEST = 140


def _between(hop: ExplainedHop) -> str:
    """What the frame is in when it leaves."""
    return hop.tunnel or ("" if hop.link is None else "link")


def _arrives(way: ExplainedDirection) -> bool:
    return way.verdict in (Verdict.ARRIVES, Verdict.PARTLY) and bool(way.hops)


def _mark(way: ExplainedDirection) -> str:
    """Why the way ends before its destination."""
    if way.verdict is Verdict.FIRST_FRAME:
        return "controller"
    return str(way.obstacles[0].code) if way.obstacles else str(way.verdict)


def path_line(way: ExplainedDirection) -> str:
    """The way as one line: ``11 --> 1 [switch 1] 9 ==vlan 2==> 9 [switch 2] 1 --> 12``."""
    text = way.source
    for number, hop in enumerate(way.hops):
        before = way.hops[number - 1] if number else None
        arrow = "-->" if before is None or not (name := _between(before)) else f"=={name}==>"
        text += f" {arrow} {hop.in_port} [switch {hop.switch}]"
        if hop.out_port and hop.out_port != "controller":
            text += f" {hop.out_port}"
    return f"{text} --> {way.destination}" if _arrives(way) else f"{text} --X {_mark(way)}"


def svg(found: Explanation) -> str:
    """Both ways, one below the other, with what is in the way."""
    longest = max(len(way.hops) for way in found.directions)
    width = max(_MARGIN * 2 + (longest + 2) * (_BOX + _GAP), 900)
    parts: list[str] = []
    top = _MARGIN + 30
    for way in found.directions:
        parts += _way(way, top)
        top += _TALL + _LINE * (1 + len(way.obstacles) + len(way.notes))
    title = f"Network {found.name}"
    return (
        "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top}" '
                f'viewBox="0 0 {width} {top}">',
                f"<style>{_STYLE}</style>",
                f'<rect width="{width}" height="{top}" fill="#fff"/>',
                f'<text x="{_MARGIN}" y="24" font-weight="bold">{_text(title)}</text>',
                *parts,
                "</svg>",
            ]
        )
        + "\n"
    )


def _way(way: ExplainedDirection, top: int) -> Iterator[str]:
    y, x = top + 20, _MARGIN
    yield from _box(x, y, f"endpoint {way.source}", "end", "")
    for number, hop in enumerate(way.hops):
        before = way.hops[number - 1] if number else None
        label = "" if before is None else _between(before)
        yield from _line(x + _BOX, y, label, "" if before is None else before.out_port, hop.in_port)
        x += _BOX + _GAP
        title = "\n".join(f"{rule.table}: {rule.text}" for rule in hop.rules)
        yield from _box(x, y, f"switch {hop.switch}", "switch", title)
    arrives = _arrives(way)
    port = way.hops[-1].out_port if way.hops else ""
    yield from _line(x + _BOX, y, "" if arrives else _mark(way), port, "", lost=not arrives)
    yield from _box(x + _BOX + _GAP, y, f"endpoint {way.destination}", "end", "")
    below = [f"{way.source} to {way.destination}: {way.verdict}"]
    below += [f"{one.code}: {one.text}" for one in way.obstacles]
    kinds = ["small", *["small bad"] * len(way.obstacles), *["small"] * len(way.notes)]
    for number, (text, kind) in enumerate(zip([*below, *way.notes], kinds, strict=True)):
        short = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
        yield f'<text class="{kind}" x="{_MARGIN}" y="{y + 40 + _LINE * number}">{_text(short)}</text>'


def _box(x: int, y: int, name: str, kind: str, title: str) -> Iterator[str]:
    yield (
        f'<g><title>{_text(title or name)}</title><rect class="{kind}" x="{x}" y="{y - 15}" width="{_BOX}" '
        f'height="30" rx="6"/><text x="{x + _BOX // 2}" y="{y + 5}" text-anchor="middle">{_text(name[:14])}'
        "</text></g>"
    )


def _line(x: int, y: int, label: str, out: str, in_port: str, *, lost: bool = False) -> Iterator[str]:
    kind = ' class="lost"' if lost else ""
    yield f'<line{kind} x1="{x}" y1="{y}" x2="{x + _GAP}" y2="{y}"/>'
    for text, at, anchor in ((out, x + 4, "start"), (in_port, x + _GAP - 4, "end")):
        yield f'<text class="small" x="{at}" y="{y + 14}" text-anchor="{anchor}">{_text(text)}</text>'
    bad = " bad" if lost else ""
    yield (
        f'<text class="small{bad}" x="{x + _GAP // 2}" y="{y - 6}" text-anchor="middle">{_text(label)}</text>'
    )


def _text(text: str) -> str:
    return escape("\n".join(clean(part) for part in text.split("\n")))
