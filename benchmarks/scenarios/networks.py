"""Networks: created and removed, and one endpoint added and removed, compared with the floor.

The floor is the time that the same Open vSwitch needs for the same rules without a controller: our rules are
dumped, and loaded with one `ovs-ofctl bundle` for each bridge, all at once. Removal is measured likewise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks import peers
from benchmarks.rows import Plan, Row
from benchmarks.scenarios import bridges
from benchmarks.workers import LOADER, Failed, Worker

NAME = "measured"
FLOOR = "ovs-ofctl --bundle"
Rules = dict[int, set[str]]
#: The sizes that are compared when an endpoint is added.
_SMALL, _LARGE = 10, 1_000


@dataclass(frozen=True, slots=True)
class Sizes:
    """The size of a network: endpoints and switches; ``declared``: whether endpoints declare their hosts."""

    endpoints: int
    switches: int
    declared: bool = False

    def to_json(self) -> dict[str, float]:
        """The sizes for a row."""
        return {"endpoints": self.endpoints, "switches": self.switches}


@dataclass(slots=True)
class Seen:
    """Median times in seconds."""

    create: float
    remove: float
    add: float
    drop: float
    floor_create: float | None = None
    floor_remove: float | None = None
    #: The time of `ovs-ofctl bundle` on all bridges without any rule.
    floor_start: float = 0.0
    rules: int = 0


def endpoint(number: int, sizes: Sizes, first_port: int) -> dict[str, Any]:
    """The endpoint with this number. Endpoints are distributed to the switches in rotation."""
    found: dict[str, Any] = {
        "uuid": number + 1, "switch": str(number % sizes.switches + 1),
        "port": str(first_port + number // sizes.switches),
    }  # fmt: skip
    if sizes.declared:
        found["mac"] = [f"02:01:00:{number >> 16:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"]
    return found


def network(sizes: Sizes, first_port: int) -> dict[str, Any]:
    """The network's description."""
    every = [endpoint(n, sizes, first_port) for n in range(sizes.endpoints)]
    return {"name": NAME, "forwarding": "L2", "endpoints": every}


def ring(switches: int) -> list[tuple[int, int]]:
    """The links of a ring, or of a line for two switches."""
    return [(n, n % switches + 1) for n in range(1, switches + (switches > 2))]


def measure(
    worker: Worker,
    sizes: Sizes,
    first_port: int,
    repeats: int,
    floor: Callable[[], tuple[float, float]] | None,
) -> Seen:
    """Create and remove the network several times, each time with the floor, and change it in between."""
    described = network(sizes, first_port)
    # Add it to a switch that the network already uses; another switch would cost more.
    port = first_port + -(-sizes.endpoints // sizes.switches)
    extra = {"uuid": sizes.endpoints + 1, "switch": "1", "port": str(port)}
    times: dict[str, list[float]] = {}
    for turn in range(repeats):
        times.setdefault("create", []).append(worker.ask("create", network=described))
        for _ in range(5 if turn == 0 else 0):
            times.setdefault("add", []).append(worker.ask("add_endpoint", name=NAME, endpoint=extra))
            uuid = str(extra["uuid"])
            times.setdefault("drop", []).append(worker.ask("remove_endpoint", name=NAME, uuid=uuid))
        if floor is not None and turn == 0:
            floor()  # records the rules
        times.setdefault("remove", []).append(worker.ask("remove", name=NAME))
        if floor is not None:
            put, taken = floor()
            times.setdefault("floor_create", []).append(put)
            times.setdefault("floor_remove", []).append(taken)
    medians: dict[str, Any] = {name: median(some) for name, some in times.items()}
    return Seen(**medians)


def on_bridges(plan: Plan, switches: int, wanted: list[Sizes]) -> Iterator[tuple[Sizes, Seen]]:
    """Measure on Open vSwitch bridges. All ``wanted`` sizes have that number of switches."""
    links = ring(switches)
    with bridges.bridges(switches, links) as lab, peers.ours(core=None) as (worker, port):
        # Add all ports first: ports slow a switch down, and all sizes are compared on the same switches.
        bridges.add_ports(lab, -(-max(s.endpoints for s in wanted) // switches) + 1)
        lab.control(f"tcp:127.0.0.1:{port}")
        for sizes in sorted(wanted, key=lambda s: s.endpoints):
            plan.say(f"networks: {sizes.endpoints} endpoints on {switches} bridges")
            _settled(lab, worker, switches, len(links) * 2)
            before = bridges.rules(lab)
            ours: Rules = {}

            def floor(before: Rules = before, ours: Rules = ours) -> tuple[float, float]:
                if not ours:
                    after = bridges.rules(lab)
                    ours.update({s: after[s] - before[s] for s in after})
                    return 0.0, 0.0
                return bridges.load(lab, ours), bridges.unload(lab, ours)

            seen = measure(worker, sizes, bridges.FIRST_PORT, 2 if plan.quick else 3, floor)
            seen.floor_start = median(bridges.load(lab, {s: set() for s in before}) for _ in range(3))
            seen.rules = sum(len(lines) for lines in ours.values())
            left = bridges.rules(lab)
            if any(left[s] - before[s] for s in left):
                plan.say("networks: rules were left behind")
            yield sizes, seen


def _settled(lab: bridges.Lab, worker: Worker, switches: int, links: int) -> None:
    del lab
    worker.ask("wait", switches=switches, links=links)


def on_fleet(plan: Plan, switches: int, wanted: list[Sizes]) -> Iterator[tuple[Sizes, Seen]]:
    """Measure on emulated switches."""
    most = max(s.endpoints for s in wanted)
    each = -(-most // switches) + 1
    kind = "ring" if switches > 2 else "line"
    with Worker("benchmarks.fleet", LOADER) as fleet, peers.ours() as (worker, port):
        fleet.ask("build", kind=kind, switches=switches, hosts=each)
        fleet.ask("connect", host="127.0.0.1", port=port)
        worker.ask("wait", switches=switches, links=2 * len(ring(switches)))
        for sizes in wanted:
            plan.say(f"networks: {sizes.endpoints} endpoints on {switches} emulated switches")
            seen = measure(worker, sizes, 1, 1 if sizes.endpoints > 1000 or plan.quick else 3, None)
            yield sizes, seen


def rows(plan: Plan) -> list[Row]:
    """Creation, removal and small changes, on bridges and on emulated switches."""
    found: list[Row] = []
    counts = (_SMALL, _LARGE) if plan.quick else (_SMALL, 100, _LARGE)
    why = bridges.why_not()
    for switches in (20,) if plan.quick else (1, 20):
        wanted = [Sizes(n, switches) for n in counts]
        if switches > 1:
            wanted.append(Sizes(100 if plan.quick else _LARGE, switches, declared=True))
        if why:
            plan.say(f"networks: no bridges: {why}")
            continue
        found += _rows(plan, "Open vSwitch", on_bridges, switches, wanted)
    most = () if plan.quick else (10_000,)
    for switches in (20,) if plan.quick else (20, 100):
        found += _rows(plan, "emulated", on_fleet, switches, [Sizes(n, switches) for n in (*counts, *most)])
    return found


def _rows(
    plan: Plan, where: str, run: Callable[[Plan, int, list[Sizes]], Iterator[tuple[Sizes, Seen]]],
    switches: int, wanted: list[Sizes],
) -> list[Row]:  # fmt: skip
    found, adds = [], {}
    try:
        for sizes, seen in run(plan, switches, wanted):
            found += list(_of_network(where, sizes, seen))
            if not sizes.declared:
                adds[sizes.endpoints] = seen
    except (Failed, RuntimeError) as error:
        plan.say(f"networks: {where}, {switches} switches: {error}")
    small, large = adds.get(_SMALL), adds.get(_LARGE)
    if small is not None and large is not None:
        for name, a, b in (("add", small.add, large.add), ("remove", small.drop, large.drop)):
            what = f"{name} one endpoint, with {_LARGE:,} endpoints instead of {_SMALL} ({where})"
            row = Row("networks", what, {"switches": switches}, "s", b, a, f"{_SMALL} endpoints", a / b)
            row.bar, row.holds = "within ±20 %", b <= 1.2 * a
            found.append(row)
    return found


def _of_network(where: str, sizes: Sizes, seen: Seen) -> Iterator[Row]:
    hosts = ", hosts declared" if sizes.declared else ""
    at = sizes.to_json()
    for name, ours, floor in (
        ("create", seen.create, seen.floor_create),
        ("remove", seen.remove, seen.floor_remove),
    ):
        row = Row("networks", f"{name} a network{hosts} ({where})", at, "s", ours, floor)
        if floor is not None:
            row.peer_name, row.ratio = FLOOR, floor / ours
            row.measured = {"rules": seen.rules, "start": seen.floor_start}
            if (sizes.endpoints, sizes.switches) == (_LARGE, 20):
                row.bar, row.holds = "time ≤ 1.5× baseline", ours <= 1.5 * floor
        yield row
        if floor is not None and floor > seen.floor_start:
            strict = floor - seen.floor_start
            yield Row(
                "networks", f"{name} a network{hosts} ({where}), process start-up excluded", at, "s", ours,
                strict, FLOOR, strict / ours,
            )  # fmt: skip
    if not sizes.declared:
        yield Row("networks", f"add one endpoint ({where})", at, "s", seen.add)
        yield Row("networks", f"remove one endpoint ({where})", at, "s", seen.drop)
