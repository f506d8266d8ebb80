"""Profile of libnetvirt during flow set-ups: ``python -m benchmarks.profiled [1|5]`` (hops).

Unlike the benchmarks, it profiles a connection opened in the worker itself, not a server.
"""

from __future__ import annotations

import sys

from benchmarks import peers
from benchmarks.scenarios.setup import QUICK, WINDOW, described
from benchmarks.workers import LOADER, Worker


def main() -> None:
    """Run the set-ups and print the profile."""
    case = next(c for c in QUICK if str(c.hops) == (sys.argv[1] if len(sys.argv) > 1 else "1"))
    where = {"networks": case.networks, "reach": case.reach}
    with (
        Worker("benchmarks.fleet", LOADER) as fleet,
        peers.embedded(case.options + peers.NO_AUDIT) as (worker, port),
    ):
        sizes = {"switches": case.switches, "hosts": case.ports, "behind": case.behind, "on": case.on}
        places = fleet.ask("build", kind="line", **sizes)
        fleet.ask("connect", host="127.0.0.1", port=port)
        worker.ask("wait", switches=case.switches, links=2 * (case.switches - 1))
        for network in range(case.networks):
            members = [p for p in places if p[0] % case.networks == network]
            worker.ask("create", network=described(f"vn{network}", members))
        fleet.ask("introduce", **where)
        worker.ask("profile")
        seen = fleet.ask("trial", count=10_000, seconds=20.0, window=WINDOW, **where)
        print(f"{seen['completed']} set-ups, {seen['rate']:,.0f}/s while profiled")
        print(worker.ask("profiled"))


if __name__ == "__main__":
    main()
