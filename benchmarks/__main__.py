"""``python -m benchmarks [SCENARIO...] [--quick | --smoke] [--json FILE]``; without scenarios, all of them.

The exit status is 0 if everything was measured and every bar holds, 1 if a bar does not hold, and 2 if
anything could not be measured or was measured wrongly.
"""

from __future__ import annotations

import argparse
import importlib
import shlex
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from benchmarks import growth, machine, pages, report
from benchmarks.rows import Plan, Row


class Scenario(NamedTuple):
    """What a scenario measures, and its seconds: in full, and with --quick. When they are over, it leaves out
    what it has not begun, which is what matters least."""

    what: str
    budget: int
    quick: int


SCENARIOS = {
    "setup": Scenario("flow set-ups, compared with ovs-testcontroller and os-ken", 385, 100),
    "networks": Scenario("creating, changing and removing networks, beside a resident loader", 85, 45),
    "ovn": Scenario("networks on OVN, beside a resident ovn-nbctl", 60, 15),
    "recovery": Scenario("reroute, restart, memory", 85, 40),
    "prototype": Scenario("the three tests of the 2012 prototype, floods", 80, 40),
    "descriptions": Scenario("parsing and writing descriptions; calls through netvirt serve", 40, 15),
    "verification": Scenario("proving all rules of many networks", 60, 40),
    "codec": Scenario("the OpenFlow codec, compared with os-ken's", 5, 5),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the scenarios, print and save the results. Returns the exit status."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    chosen = _options(arguments)
    if chosen.redo:
        rows, rest = report.load(chosen.redo)
        report.show(rows, console)
        pages.write(rows, rest)
        return status(rows, rest.get("failures", []))
    plan = Plan(chosen.quick, lambda text: console.print(text, style="dim", highlight=False), chosen.smoke)
    names = chosen.scenarios or list(SCENARIOS)
    budgets = {n: SCENARIOS[n].quick if chosen.quick else SCENARIOS[n].budget for n in names}
    if not chosen.smoke:
        told = ", ".join(f"{name} {seconds} s" for name, seconds in budgets.items())
        plan.say(f"may take {told}; together {sum(budgets.values()) / 60:.1f} minutes")
    facts = machine.facts()
    rows, took = [], {}
    for name in names:
        start = time.monotonic()
        plan.begin(float("inf") if chosen.smoke else budgets[name])
        some = _run(name, plan)
        took[name] = round(time.monotonic() - start, 1)
        plan.say(f"{name}: took {took[name]:.0f} of {budgets[name]} s")
        report.show(some, console)
        rows += some
    fits = growth.rows_of(rows)
    report.show(fits, console)
    rows += fits
    command = shlex.join(["python", "-m", "benchmarks", *(sys.argv[1:] if arguments is None else arguments)])
    default = "smoke" if chosen.smoke else "quick" if chosen.quick else "-".join(chosen.scenarios) or "full"
    path = chosen.json or report.RESULTS / f"{default}.json"
    rest = report.save(
        path, rows, facts, command, took=took, budgets=budgets, failures=plan.failures, skipped=plan.skipped
    )
    if chosen.report:
        pages.write(rows, rest)
    missed = sum(1 for row in rows if row.holds is False)
    plan.say(f"total {sum(took.values()):.0f} s; {missed} bars do not hold; saved as {path.name}")
    for failure in plan.failures:
        console.print(f"failed: {failure}", style="red", highlight=False)
    return status(rows, plan.failures)


def status(rows: Sequence[Row], failures: Sequence[str]) -> int:
    """The exit status."""
    if failures or not rows:
        return 2
    return 1 if any(row.holds is False for row in rows) else 0


def _run(name: str, plan: Plan) -> list[Row]:
    """The rows of one scenario; a failure and none if it raises, after its traceback is printed."""
    try:
        rows = list(importlib.import_module(f"benchmarks.scenarios.{name}").rows(plan))
    except Exception as error:
        plan.fail(f"{name}: {type(error).__name__}: {error}")
        plan.say(traceback.format_exc())
        return []
    if plan.smoke:
        for row in rows:
            if row.timed:
                row.bar, row.holds, row.share = "", None, None
    return rows


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    options = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__,
        epilog="scenarios: " + "; ".join(f"{name}: {one.what}" for name, one in SCENARIOS.items()),
    )  # fmt: skip
    options.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="scenarios to run (default: all)")
    options.add_argument(
        "--quick", action="store_true", help="measure less: for a first impression, not for results"
    )
    options.add_argument(
        "--smoke", action="store_true", help="measure as little as shows that all runs; times have no bars"
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
    chosen = options.parse_args(arguments)
    unknown = set(chosen.scenarios) - SCENARIOS.keys()
    if unknown:
        options.error(
            f"unknown scenario {', '.join(sorted(unknown))}; the scenarios are {', '.join(SCENARIOS)}"
        )
    return chosen


if __name__ == "__main__":
    sys.exit(main())
