"""Reroutes when a link is cut, restarts of the controller, and memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from benchmarks import peers
from benchmarks.rows import Plan, Row
from benchmarks.scenarios.networks import NAME, Sizes, network, ring
from benchmarks.scenarios.setup import Case, described, running
from benchmarks.workers import LOADER, Failed, Worker

REROUTE_BAR, RESTART_BAR, RULE_BAR = 0.1, 3.0, 1024
#: Seconds in which discovery has to find a restored link.
_LINKS_BACK = 30.0


def rows(plan: Plan) -> list[Row]:
    """The rows for reroutes, restarts and memory."""
    found: list[Row] = []
    for part in (_reroutes,) if plan.smoke else (_restarts, _reroutes, _memory):
        if plan.late(f"recovery: {part.__name__.strip('_')}"):
            continue
        try:
            found += part(plan)
        except Failed as error:
            plan.fail(f"recovery: {part.__name__}: {error}")
    return found


def _reroutes(plan: Plan) -> Iterator[Row]:
    """Cut a link that many tunnels use: one network has an endpoint on each edge switch."""
    sizes = (9,) if plan.smoke else (19, 49) if plan.quick else (49, 19, 29)
    graphs = [("dumbbell", n) for n in sizes]
    graphs[1:1] = [] if plan.quick else [("ring", 65)]
    with Worker("benchmarks.fleet", LOADER) as fleet:
        for kind, switches in graphs:
            if plan.late(f"recovery: {kind} of {switches} switches"):
                continue
            hosts = fleet.ask("build", kind=kind, switches=switches, hosts=1)
            tunnels = fleet.ask("crossing", a=1, b=2)
            plan.say(f"recovery: {tunnels} tunnels over a link of a {kind} of {switches} switches")
            with peers.ours(peers.NO_AUDIT) as (worker, port):
                links = 2 * (switches if kind == "dumbbell" else len(ring(switches)))
                fleet.ask("connect", host="127.0.0.1", port=port)
                worker.ask("wait", switches=switches, links=links, timeout=_LINKS_BACK)
                worker.ask("create", network=described("measured", hosts, rules={}))
                seen: list[dict[str, Any]] = []
                for _ in range(1 if plan.smoke else 3 if switches > 40 else 2):
                    # Wait until the old path of the last reroute is removed as well.
                    fleet.ask("settled", quiet=2.0)
                    seen.append(fleet.ask("cut", a=1, b=2))
                    fleet.ask("restore", a=1, b=2)
                    worker.ask("wait", switches=switches, links=links, timeout=_LINKS_BACK)
                fleet.ask("disconnect")
            what = f"reroute, link down to last barrier reply ({kind})"
            times = [one["seconds"] for one in seen]
            row = Row.of("recovery", what, {"tunnels": tunnels}, "s", times, measured={"each": seen})
            if tunnels >= 900:
                row.at_most("≤ 100 ms", row.ours, REROUTE_BAR)
            yield row


def _restarts(plan: Plan) -> Iterator[Row]:
    """Kill and restart the controller while the switches keep all rules."""
    switches = 20
    sizes = [Sizes(n, switches) for n in ((100, 1_000) if plan.quick else (100, 1_000, 10_000))]
    with Worker("benchmarks.fleet", LOADER) as fleet, peers.state_directory() as home:
        for size in sizes:
            plan.say(f"recovery: restart with {size.endpoints} endpoints")
            state = str(home / f"{size.endpoints}.db")
            fleet.ask("build", kind="ring", switches=switches, hosts=-(-size.endpoints // switches))
            with peers.ours(peers.NO_AUDIT, state) as (worker, port):
                fleet.ask("connect", host="127.0.0.1", port=port)
                worker.ask("wait", switches=switches, links=2 * switches)
                worker.ask("create", network=network(size, 1))
            fleet.ask("disconnect")
            times, notes, rules = [], [], 0
            for _ in range(1 if plan.quick else 3):
                took, changes, rules = _restart(fleet, state, switches)
                times.append(took)
                notes += [f"restart: rules were changed: {changes}. "] if changes else []
            row = Row.of(
                "recovery", "restart, process start to last request", size.to_json(), "s", times,
                note="".join(dict.fromkeys(notes)), measured={"rules": rules},
            )  # fmt: skip
            if size.endpoints == 10_000:
                row.at_most("≤ 3 s", row.ours, RESTART_BAR, sound=not notes)
            yield row


def _restart(fleet: Worker, state: str, switches: int) -> tuple[float, dict[str, int], int]:
    """Start a server with a state file. Returns the seconds from the start of the process to its last
    request, what it changed in the switches, and how many rules these hold."""
    before = fleet.ask("counts")
    began = time.perf_counter()
    with peers.ours(peers.NO_AUDIT, state) as (_, port):
        fleet.ask("connect", host="127.0.0.1", port=port)
        took = fleet.ask("settled") - began
        after = fleet.ask("counts")
    fleet.ask("disconnect")
    # A flow-mod that changes nothing, to probe the switch, and the switch's marker.
    before["flow-mods"] += 2 * switches
    changes = {k: after[k] - before[k] for k in ("flow-mods", "group-mods") if after[k] != before[k]}
    return took, changes, before["flows"] + before["groups"]


def _memory(plan: Plan) -> Iterator[Row]:
    """The memory of a network, an endpoint and a rule, measured by the growth of the process."""
    few = 10 if plan.quick else 1
    with Worker("benchmarks.fleet", LOADER) as fleet:
        plan.say("recovery: memory")
        yield _grown(fleet, "network of 2 endpoints", [2] * (500 // few), 20)
        yield _grown(fleet, "endpoint", [10_000 // few], 20)
        hosts = Sizes(1_000 // few, 20, declared=True)
        yield _grown(fleet, "rule (declared hosts)", [hosts.endpoints], 20, declared=True)
        case = Case(1, 200, 2, 0)
        with running(peers.OURS, case, fleet) as worker:
            assert worker is not None
            fleet.ask("introduce", networks=case.networks, reach=0)
            before = worker.ask("memory")
            options = {"seconds": 30.0, "window": 64, "networks": case.networks, "reach": 0}
            made = fleet.ask("trial", count=18_000 // few, **options)["flow_mods"]
            after = worker.ask("memory")
        yield _each("rule (on demand)", before, after, made)


def _grown(fleet: Worker, what: str, counts: list[int], switches: int, declared: bool = False) -> Row:
    """Create networks with ``counts`` endpoints each."""
    total = sum(counts)
    fleet.ask("build", kind="ring", switches=switches, hosts=-(-total // switches))
    with peers.ours() as (worker, port):
        fleet.ask("connect", host="127.0.0.1", port=port)
        worker.ask("wait", switches=switches, links=2 * switches)
        # Do not count what only the first network adds, above all tunnels.
        first = network(Sizes(switches, switches), 1)
        worker.ask("create", network=first)
        worker.ask("remove", name=NAME)
        held, before = fleet.ask("counts"), worker.ask("memory")
        whole = network(Sizes(total, switches, declared), 1)["endpoints"]
        for number, count in enumerate(counts):
            some, whole = whole[:count], whole[count:]
            worker.ask("create", network={"name": f"{NAME}{number}", "forwarding": "L2", "endpoints": some})
        after, now = worker.ask("memory"), fleet.ask("counts")
        fleet.ask("disconnect")
    added = sum(now[k] - held[k] for k in ("flows", "groups"))
    number = added if what.startswith("rule") else total if what == "endpoint" else len(counts)
    return _each(what, before, after, number)


def _each(what: str, before: dict[str, int], after: dict[str, int], number: int) -> Row:
    each = (after["resident"] - before["resident"]) / number
    row = Row("recovery", f"memory of a {what}" if what[0] not in "ae" else f"memory of an {what}",
              {"of them": number}, "B", each, measured={"before": before, "after": after})  # fmt: skip
    if what.startswith("rule"):
        row.at_most("≤ 1 KiB", each, RULE_BAR)
    return row
