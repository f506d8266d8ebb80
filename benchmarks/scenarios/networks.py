"""Networks: created and removed, and one endpoint added and removed, compared with the floor.

Users run ``netvirt serve`` and ask it through its socket, and so does this scenario; a few rows are of a
program that opens the driver itself. The floor is a resident program that has nothing to do but to send the
same rules to the same Open vSwitch bridges: see `benchmarks.peers.loader`.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from typing import Any

from benchmarks import peers
from benchmarks.rows import Plan, Row
from benchmarks.scenarios import bridges
from benchmarks.workers import LOADER, Failed, Worker

NAME = "measured"
FLOOR = "resident loader"
#: Seconds in which the rules of a removed network must be gone.
_LINGERING = 10.0
#: How libnetvirt is opened: yields a worker with a connection, and the port for switches.
Opened = Callable[..., AbstractContextManager[tuple[Worker, int]]]
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
    """Times in seconds of each repetition, by what was done: create, remove, add, drop, and the floor's.
    ``rules``: how many rules and groups the network has."""

    times: dict[str, list[float]] = field(default_factory=dict)
    rules: int = 0

    def note(self, what: str, seconds: float) -> None:
        self.times.setdefault(what, []).append(seconds)


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
    worker: Worker, sizes: Sizes, first_port: int, repeats: int, floor: Worker | None = None, changes: int = 5
) -> Seen:
    """Create and remove the network several times, and change it in between; the floor learns its rules."""
    described = network(sizes, first_port)
    # Add it to a switch that the network already uses; another switch would cost more.
    port = first_port + -(-sizes.endpoints // sizes.switches)
    extra = {"uuid": sizes.endpoints + 1, "switch": "1", "port": str(port)}
    seen = Seen()
    if floor is not None:
        floor.ask("note")
    for turn in range(repeats):
        seen.note("create", worker.ask("create", network=described))
        if turn == 0:
            if floor is not None:
                seen.rules = floor.ask("learn", name=str(sizes))
            for _ in range(changes):
                seen.note("add", worker.ask("add_endpoint", name=NAME, endpoint=extra))
                seen.note("drop", worker.ask("remove_endpoint", name=NAME, uuid=str(extra["uuid"])))
        seen.note("remove", worker.ask("remove", name=NAME))
        if floor is not None:
            _gone(floor, str(sizes))
    return seen


def _settled(floor: Worker) -> None:
    """Wait until the rules of the links that were found last are there, too."""
    deadline, before = time.monotonic() + _LINGERING, -1
    while (now := floor.ask("note")) != before and time.monotonic() < deadline:
        before = now
        time.sleep(1.0)


def _gone(floor: Worker, name: str) -> None:
    """Wait until the removed network's rules are gone; those that frames may still need go a little later."""
    deadline = time.monotonic() + _LINGERING
    while held := floor.ask("left", name=name):
        if time.monotonic() > deadline:
            raise Failed(f"{held} rules of a removed network were left behind")
        time.sleep(0.05)


def measure_floor(floor: Worker, sizes: Sizes, seen: Seen, repeats: int) -> None:
    """Have the floor add and remove what it has learned. Raises Failed if it does not do the same."""
    floor.ask("note")
    for turn in range(repeats):
        seen.note("floor_create", floor.ask("load", name=str(sizes)))
        if (held := floor.ask("held")) != seen.rules:
            raise Failed(f"the floor added {held} of {seen.rules} rules")
        if turn == 0 and (other := floor.ask("others", name=str(sizes))):
            raise Failed(f"{other} rules of the floor are not those of libnetvirt")
        seen.note("floor_remove", floor.ask("unload", name=str(sizes)))
        if held := floor.ask("held"):
            raise Failed(f"the floor left {held} rules behind")


def on_bridges(
    plan: Plan, switches: int, wanted: list[Sizes], opened: Opened = peers.ours
) -> Iterator[tuple[Sizes, Seen]]:
    """Measure on Open vSwitch bridges. All ``wanted`` sizes have that number of switches."""
    links, found = ring(switches), []
    with bridges.bridges(switches, links) as lab, Worker("benchmarks.peers.loader") as floor:
        # Add all ports first: ports slow a switch down, and all sizes are compared on the same switches.
        bridges.add_ports(lab, -(-max(s.endpoints for s in wanted) // switches) + 1)
        floor.ask("connect", sockets=bridges.sockets(lab))
        with opened(core=None) as (worker, port):
            lab.control(f"tcp:127.0.0.1:{port}")
            worker.ask("wait", switches=switches, links=len(links) * 2)
            _settled(floor)
            for sizes in sorted(wanted, key=lambda s: s.endpoints):
                if plan.late(f"networks: {sizes.endpoints} endpoints on {switches} bridges"):
                    continue
                plan.say(f"networks: {sizes.endpoints} endpoints on {switches} bridges")
                many = repeats(plan) if sizes.endpoints >= _LARGE else min(3, repeats(plan))
                found.append((sizes, measure(worker, sizes, bridges.FIRST_PORT, many, floor)))
        # Only now: the audits of libnetvirt would remove the floor's rules.
        for sizes, seen in found:
            measure_floor(floor, sizes, seen, len(seen.times["create"]))
            yield sizes, seen


def repeats(plan: Plan) -> int:
    """How often networks are created."""
    return 1 if plan.smoke else 2 if plan.quick else 5


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
            if plan.late(f"networks: {sizes.endpoints} endpoints on {switches} emulated switches"):
                continue
            plan.say(f"networks: {sizes.endpoints} endpoints on {switches} emulated switches")
            yield sizes, measure(worker, sizes, 1, min(3, repeats(plan)))


def in_process(plan: Plan, switches: int, wanted: list[Sizes]) -> Iterator[tuple[Sizes, Seen]]:
    """Measure on Open vSwitch bridges, with the driver opened by the program itself."""
    yield from on_bridges(plan, switches, wanted, peers.embedded)


def rows(plan: Plan) -> list[Row]:
    """Creation, removal and small changes, on bridges and on emulated switches."""
    found = [_commit(plan)]
    counts = (_SMALL,) if plan.smoke else (_SMALL, _LARGE) if plan.quick else (_SMALL, 100, _LARGE)
    if why := bridges.why_not():
        plan.skip(f"networks: no bridges: {why}")
    else:
        for switches in (2,) if plan.smoke else (20,) if plan.quick else (20, 1):
            wanted = [Sizes(n, switches) for n in counts]
            if switches > 1:
                wanted.append(Sizes(100 if plan.quick else _LARGE, switches, declared=True))
            found += _rows(plan, "Open vSwitch", on_bridges, switches, wanted)
        if not plan.smoke:
            wanted = [Sizes(n, 20) for n in (_SMALL, _LARGE)]
            found += _rows(plan, "Open vSwitch, opened by the program itself", in_process, 20, wanted)
    for switches in () if plan.smoke else (20,) if plan.quick else (20, 100):
        most = () if plan.quick or switches > 20 else (10_000,)
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
                adds[sizes.endpoints] = seen.times
    except (Failed, RuntimeError) as error:
        plan.fail(f"networks: {where}, {switches} switches: {error}")
    small, large = adds.get(_SMALL), adds.get(_LARGE)
    if small is not None and large is not None:
        for name, key in (("add", "add"), ("remove", "drop")):
            what = f"{name} one endpoint, with {_LARGE:,} endpoints instead of {_SMALL} ({where})"
            at = {"switches": switches}
            row = Row.of("networks", what, at, "s", large[key], small[key], f"{_SMALL} endpoints")
            found.append(row.at_most_times(1.2, f"with {_SMALL}"))
    return found


def _of_network(where: str, sizes: Sizes, seen: Seen) -> Iterator[Row]:
    hosts = ", hosts declared" if sizes.declared else ""
    at, times = sizes.to_json(), seen.times
    for name in ("create", "remove"):
        what, floor = f"{name} a network{hosts} ({where})", times.get(f"floor_{name}", [])
        row = Row.of("networks", what, at, "s", times[name], floor, FLOOR)
        if floor:
            row.measured = {"rules": seen.rules}
            if (sizes.endpoints, sizes.switches) == (_LARGE, 20):
                row.at_most_times(1.5, "floor")
        yield row
    if not sizes.declared:
        yield Row.of("networks", f"add one endpoint ({where})", at, "s", times["add"])
        yield Row.of("networks", f"remove one endpoint ({where})", at, "s", times["drop"])


def _commit(plan: Plan) -> Row:
    """What one transaction costs that is on the disk before it returns: a part of each operation."""
    times = []
    with peers.state_directory() as home, closing(sqlite3.connect(home / "state.db")) as database:
        database.execute("pragma journal_mode = wal")
        database.execute("pragma synchronous = full")
        database.execute("create table part (value)")
        for _ in range(3 if plan.smoke else 50):
            began = time.perf_counter()
            with database:
                database.execute("insert into part values (?)", (bytes(1_000),))
            times.append(time.perf_counter() - began)
    return Row.of("networks", "one transaction on the disk, which each operation needs", {}, "s", times)
