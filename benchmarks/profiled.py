"""Profile of libnetvirt during flow set-ups: ``python -m benchmarks.profiled [1|5]`` (hops)."""

from __future__ import annotations

import sys

from benchmarks import peers
from benchmarks.scenarios.setup import QUICK, UNLIMITED, WINDOW, running
from benchmarks.workers import LOADER, Worker


def main() -> None:
    """Run the set-ups and print the profile."""
    case = next(c for c in QUICK if str(c.hops) == (sys.argv[1] if len(sys.argv) > 1 else "1"))
    with Worker("benchmarks.fleet", LOADER) as fleet, running(peers.OURS, case, fleet, UNLIMITED) as worker:
        assert worker is not None
        fleet.ask("introduce", networks=case.networks, reach=case.reach)
        worker.ask("profile")
        count = min(case.count, 10_000)
        sizes = {"networks": case.networks, "reach": case.reach}
        seen = fleet.ask("trial", count=count, seconds=20.0, window=WINDOW, **sizes)
        print(f"{seen['completed']} set-ups, {seen['rate']:,.0f}/s while profiled")
        print(worker.ask("profiled"))


if __name__ == "__main__":
    main()
