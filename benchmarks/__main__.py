"""``python -m benchmarks [SCENARIO...] [--quick] [--json FILE]``; without scenarios, all of them."""

from __future__ import annotations

import argparse
import importlib
import shlex
import sys
import time
import traceback
from pathlib import Path

from rich.console import Console

from benchmarks import growth, machine, pages, report
from benchmarks.rows import Plan, Row

SCENARIOS = {
    "setup": "rate and latency of flow set-ups, compared with ovs-testcontroller and os-ken",
    "networks": "creating, changing and removing networks, compared with ovs-ofctl --bundle",
    "ovn": "networks on OVN, compared with ovn-nbctl",
    "recovery": "reroute, restart, memory",
    "prototype": "the three tests of the 2012 prototype",
    "descriptions": "parsing and writing descriptions; calls through netvirt serve",
    "codec": "the OpenFlow codec, compared with os-ken's",
}


def main() -> int:
    """Run the scenarios, print and save the results. Returns the exit status."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    chosen = _options()
    if chosen.redo:
        rows, rest = report.load(chosen.redo)
        report.show(rows, console)
        pages.write(rows, rest)
        return 0
    plan = Plan(chosen.quick, lambda text: console.print(text, style="dim", highlight=False))
    facts = machine.facts()
    rows = []
    began = time.monotonic()
    for name in chosen.scenarios or SCENARIOS:
        start = time.monotonic()
        some = _run(name, plan)
        plan.say(f"{name}: took {time.monotonic() - start:.0f} s")
        report.show(some, console)
        rows += some
    fits = growth.rows_of(rows)
    report.show(fits, console)
    rows += fits
    command = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
    default = "quick" if chosen.quick else "-".join(chosen.scenarios) or "full"
    path = chosen.json or report.RESULTS / f"{default}.json"
    rest = report.save(path, rows, facts, command)
    broken = sum(1 for row in rows if row.holds is False)
    plan.say(f"total {time.monotonic() - began:.0f} s; {broken} bars do not hold; saved as {path.name}")
    if chosen.report:
        pages.write(rows, rest)
    return 0


def _run(name: str, plan: Plan) -> list[Row]:
    """The rows of one scenario; none if it fails, after its traceback is printed."""
    try:
        return list(importlib.import_module(f"benchmarks.scenarios.{name}").rows(plan))
    except Exception:
        plan.say(f"{name} failed:\n{traceback.format_exc()}")
        return []


def _options() -> argparse.Namespace:
    options = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__,
        epilog="scenarios: " + "; ".join(f"{name}: {what}" for name, what in SCENARIOS.items()),
    )  # fmt: skip
    options.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="scenarios to run (default: all)")
    options.add_argument(
        "--quick", action="store_true", help="measure less: for a first impression, not for results"
    )
    options.add_argument(
        "--json", type=Path, metavar="FILE", help="file for the results (default: in benchmarks/results/)"
    )
    options.add_argument("--report", action="store_true", help="also write docs/performance.md")
    options.add_argument(
        "--redo",
        type=Path,
        metavar="FILE",
        help="do not measure; write docs/performance.md from the results in FILE",
    )
    chosen = options.parse_args()
    unknown = set(chosen.scenarios) - SCENARIOS.keys()
    if unknown:
        options.error(
            f"unknown scenario {', '.join(sorted(unknown))}; the scenarios are {', '.join(SCENARIOS)}"
        )
    return chosen


if __name__ == "__main__":
    sys.exit(main())
