"""docs/performance.md: its measured part is written again, between two marks, with plots beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks import growth, plots
from benchmarks.report import HEADINGS, cells
from benchmarks.rows import Row, number, quantity
from benchmarks.workers import ROOT

PAGE = ROOT / "docs" / "performance.md"
PLOTS = ROOT / "docs" / "performance"
BEGIN, END = "<!-- measured: begin (written by make bench) -->", "<!-- measured: end -->"

_TITLES = {
    "setup": "Flow set-ups",
    "networks": "Networks",
    "ovn": "Networks on OVN",
    "recovery": "Reroute, restart and memory",
    "prototype": "The prototype's three tests",
    "descriptions": "Descriptions and the daemon",
    "codec": "The OpenFlow codec",
    "growth": "Growth",
}


def write(rows: Sequence[Row], rest: dict[str, Any]) -> None:
    """Write the page and its plots. Raises ValueError if the page has lost its marks."""
    text = PAGE.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"{PAGE.name} needs the lines {BEGIN!r} and {END!r}, once each")
    PLOTS.mkdir(exist_ok=True)
    drawn = {name: svg for name, svg in _plots(rows) if svg}
    for old in PLOTS.glob("*.svg"):
        old.unlink()
    for name, svg in drawn.items():
        (PLOTS / f"{name}.svg").write_text(svg)
    head, tail = text[: text.index(BEGIN)], text[text.index(END) :]
    PAGE.write_text(f"{head}{BEGIN}\n\n{measured(rows, rest, list(drawn))}\n{tail}")


def measured(rows: Sequence[Row], rest: dict[str, Any], drawn: Sequence[str]) -> str:
    """The measured part."""
    parts = [
        f"Measured on {rest['when']} with", "", "```console", f"$ {rest['command']}", "```", "",
        "| environment | |", "|---|---|", *(f"| {k} | {v} |" for k, v in rest["machine"].items()), "",
        "### Targets", "", "| target | what | measured | result |", "|---|---|---|---|",
    ]  # fmt: skip
    for row in rows:
        if row.bar and row.scenario != "growth":
            seen = f"{number(row.ratio)}×" if row.ratio is not None else quantity(row.ours, row.unit)
            seen += f" as fast as {row.peer_name}" if row.ratio is not None else ""
            what = f"{row.name}{', ' + row.size if row.size else ''}"
            parts.append(f"| {row.bar} | {what} | {seen} | {'met' if row.holds else '**not met**'} |")
    fits = [row for row in rows if row.scenario == "growth"]
    if fits:
        bad = sum(1 for row in fits if not row.holds)
        verdict = "met" if not bad else f"**not met by {bad}**"
        parts.append(f"| ≤ n log n | growth of {len(fits)} costs | see below | {verdict} |")
    for scenario, title in _TITLES.items():
        some = [row for row in rows if row.scenario == scenario]
        if some:
            parts += ["", f"### {title}", "", *_pictures(scenario, drawn)]
            parts += _growth_table(some) if scenario == "growth" else _table(some)
            parts += [f"\n{note}" for note in dict.fromkeys(row.note.strip() for row in some if row.note)]
    return "\n".join(parts) + "\n"


def _pictures(scenario: str, drawn: Sequence[str]) -> Iterator[str]:
    for name in drawn:
        if name.startswith(scenario):
            yield f"![{name.replace('-', ' ')}](performance/{name}.svg)\n"


def _table(rows: Sequence[Row]) -> Iterator[str]:
    yield f"| {' | '.join(HEADINGS)} |"
    yield "|" + "---|" * len(HEADINGS)
    for row in rows:
        yield f"| {' | '.join(cells(row))} |"


def _growth_table(rows: Sequence[Row]) -> Iterator[str]:
    yield "*Exponent* is fitted over all sizes, *at the end* over the two largest; *n log n* is the exponent"
    yield "that n · log n itself has over these sizes.\n"
    yield "| what | sizes | exponent | at the end | n log n | result |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        low, high = row.sizes.values()
        axis = next(iter(row.sizes)).removesuffix(" at least")
        fitted = f"{row.ours:.2f} ± {row.measured['error']:.2f}"
        verdict = "met" if row.holds else "**not met**"
        end = f"{row.measured['end']:.2f}"
        sizes = f"{low:,.0f} to {high:,.0f} {axis}"
        yield f"| {row.name} | {sizes} | {fitted} | {end} | {row.peer:.2f} | {verdict} |"


def _plots(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    for name, start, title in (
        ("setup-rate", "set-ups", "Set-ups per second, 128 outstanding (higher is better)"),
        ("setup-latency", "latency", "Median set-up time, one outstanding (lower is better)"),
    ):
        groups: dict[str, dict[str, float]] = {}
        unit = ""
        for row in rows:
            if row.scenario == "setup" and row.name.startswith(start) and row.ours and row.peer:
                unit = row.unit
                group = groups.setdefault(row.size, {})
                group["libnetvirt, compiled" if row.name.endswith(", compiled") else "libnetvirt"] = row.ours
                group[row.peer_name] = row.peer
        yield name, plots.bars(title, groups, unit)
    found = growth.series(rows)
    for name, words, axis, title in (
        ("networks-bridges", "(Open vSwitch)", "endpoints", "Networks on Open vSwitch"),
        ("networks-emulated", "(emulated)", "endpoints", "Networks on emulated switches"),
        ("recovery-reroute", "reroute", "tunnels", "Reroute: from link down to the last barrier reply"),
        ("recovery-restart", "restart", "endpoints", "Restart of the controller"),
        ("prototype-hops", "by hops", "hops", "Set-up time by hops"),
        ("descriptions-read", "parse", "endpoints", "Reading descriptions"),
        ("descriptions-write", "write", "endpoints", "Writing descriptions"),
    ):
        some = {key: points for (key, grows), points in found.items() if grows == axis and words in key}
        yield name, plots.lines(title, some, axis, "s")
