"""docs/performance.md: its measured part is written again, between two marks, with plots beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from benchmarks import growth, plots, reasons
from benchmarks.report import HEADINGS, cells
from benchmarks.rows import Row, counted, number, quantity
from benchmarks.scenarios.setup import FEW, MANY
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
    "verification": "Verification",
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
        *_spent(rest), "### Targets", "", *_targets(rows), "",
    ]  # fmt: skip
    parts += _missed(rows)
    for scenario, title in _TITLES.items():
        some = [row for row in rows if row.scenario == scenario]
        if some:
            parts += [f"### {title}", "", *_pictures(scenario, drawn)]
            parts += _growth_table(some) if scenario == "growth" else _table(some)
            notes = dict.fromkeys(row.note.strip() for row in some if row.note)
            parts += ["", *(f"- {note}" for note in notes)] if notes else []
            parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def _spent(rest: dict[str, Any]) -> Iterator[str]:
    """The time of each scenario beside its budget, and what was not measured."""
    took, budgets = rest.get("took", {}), rest.get("budgets", {})
    if took:
        yield "| scenario | seconds | of at most |"
        yield "|---|---|---|"
        for name, seconds in took.items():
            yield f"| {name} | {seconds:.0f} | {budgets[name]} |"
        yield f"| all | {sum(took.values()):.0f} | {sum(budgets.values())} |"
        yield ""
    left_out = [f"not measured: {what}" for what in rest.get("skipped", ())]
    left_out += [f"**failed**: {what}" for what in rest.get("failures", ())]
    if left_out:
        yield from (f"- {what}" for what in left_out)
        yield ""


def _targets(rows: Sequence[Row]) -> Iterator[str]:
    yield "| target | what | measured | result |"
    yield "|---|---|---|---|"
    for row in rows:
        if row.bar and row.scenario != "growth":
            seen = quantity(row.ours, row.unit)
            if row.ratio is not None:
                # Times are compared as times: above 1, libnetvirt takes longer.
                ratio = row.ratio if row.unit == "/s" else 1 / row.ratio if row.ratio else None
                seen = f"{number(ratio)}× the {'rate' if row.unit == '/s' else 'time'} of {row.peer_name}"
            what = f"{row.name}{', ' + row.size if row.size else ''}"
            yield f"| {row.bar} | {what} | {seen} | {_verdict(row)} |"
    fits = [row for row in rows if row.scenario == "growth"]
    if fits:
        bad = sum(1 for row in fits if not row.holds)
        verdict = "met" if not bad else f"**not met by {bad}**"
        yield f"| ≤ n log n | growth of {len(fits)} costs | see below | {verdict} |"


def _verdict(row: Row) -> str:
    return "met" if row.holds else f"**not met**: {row.excess}"


def _missed(rows: Sequence[Row]) -> Iterator[str]:
    """What is known about the targets that this run does not meet."""
    told: dict[str, list[str]] = {}
    for row in rows:
        if row.holds is False:
            told.setdefault(reasons.of(row), []).append(f"{row.name}{', ' + row.size if row.size else ''}")
    if told:
        yield "### Targets that are not met, why, and what is next\n"
        for reason, which in told.items():
            yield f"- {reason}"
            yield f"  ({'; '.join(dict.fromkeys(which))})"
        yield ""


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
    yield "*Exponent* is fitted over all trials of all sizes, *at the end* over those of the two largest, if"
    yield "there are three, each with its 95 % confidence interval. *n log n* is the exponent of n · log n"
    yield "itself between the smallest and the largest of these sizes. The target is met if both whole"
    yield "intervals are at or below it; there is no other tolerance.\n"
    yield "| what | sizes | trials | exponent | n log n | at the end | n log n | result |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in rows:
        low, high = row.sizes.values()
        axis = next(iter(row.sizes)).removesuffix(" at least")
        parts = [row.measured.get(part) for part in ("all", "end")]
        fitted = [f"{f['exponent']:.2f} ± {f['error']:.2f} | {f['limit']:.2f}" if f else " | " for f in parts]
        sizes, trials = f"{low:,.0f} to {high:,.0f} {axis}", row.measured["all"]["trials"]
        yield f"| {row.name} | {sizes} | {trials} | {' | '.join(fitted)} | {_verdict(row)} |"


def _plots(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    for name, start, title in (
        ("setup-rate", "set-ups", "Set-ups per second, 128 outstanding (higher is better)"),
        (
            "setup-latency",
            "latency, 1 outstanding (median)",
            "Median set-up time, 1 outstanding (lower is better)",
        ),
    ):
        groups: dict[str, dict[str, float]] = {}
        unit = ""
        for row in rows:
            if row.scenario == "setup" and row.name.startswith(start) and row.ours and row.peer:
                unit = row.unit
                ours = [w for w in row.name.split(", ") if w in ("uvloop", "compiled")]
                load = next(w for w in (MANY, FEW) if w in row.name)
                at = counted(row.sizes["switches"], "switches")
                group = groups.setdefault(f"{load}, {at}", {})
                group[", ".join(["libnetvirt", *ours])] = row.ours
                group[row.peer_name] = row.peer
        yield name, plots.bars(title, groups, unit)
    found = growth.series(rows)
    for name, words, axis, title in (
        ("networks-bridges", "(Open vSwitch)", "endpoints", "Networks on Open vSwitch"),
        ("networks-emulated", "(emulated)", "endpoints", "Networks on emulated switches"),
        ("recovery-reroute", "reroute", "tunnels", "Reroute: from link down to the last barrier reply"),
        ("recovery-restart", "restart", "endpoints", "Restart of the controller"),
        ("prototype-hops", "by hops", "hops", "Set-up time by hops"),
        ("verification-prove", "prove", "rules", "Proving all rules"),
        ("descriptions-read", "parse", "endpoints", "Reading descriptions"),
        ("descriptions-write", "write", "endpoints", "Writing descriptions"),
    ):
        some = {
            key: sorted((size, median(c for s, c in points if s == size)) for size in {s for s, _ in points})
            for (key, grows), points in found.items()
            if grows == axis and words in key
        }
        yield name, plots.lines(title, some, axis, "s")
