"""Put a netvirtd under load, and hold what it does against what its clients were told: ``make load-api``.

The daemon, its clients and the readers of its events are processes of their own; the driver is ``test``, with
its state in a file. What is promised is checked, and a promise that is not held makes the exit status 1:

- whatever was confirmed is there at the end, and nothing else; what was to be refused was refused;
- each reader of events, a slow one too, gets each event once and in order, or is told how many it has lost;
- of 10,000 networks a page takes 100 ms at most, whatever its filters;
- memory does not grow with the number of changes, nor descriptors with that of clients.

Times are printed, by kind of operation. Files are where ``TMPDIR`` says: with ``TMPDIR=/dev/shm`` no commit
waits for a disk.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import httpx

import libnetvirt
import libnetvirt.aio
from libnetvirt import thin
from libnetvirt.driver import Change
from libnetvirt.model import Endpoint, State, VirtualNetwork
from tests.support.load import clients, readers
from tests.support.load.daemon import SWITCHES, Daemon, running
from tests.support.load.figures import percentile, slope, table

#: events that the log keeps, so that slow readers lose some
KEEP = 20_000
#: seconds that a page may take: of the server's processor, and, unless the machine has more to do than it
#: can, as its client sees it (median)
PAGE = 0.1
#: seconds of the processor to create one more network, and to remove it
ONE_MORE = 0.25
#: bytes by which the memory may seem to grow during 100,000 changes, and after how many that can be told
GROWTH = 8 * 2**20
ENOUGH = 10_000
#: how many processes share the clients, and the readers
PROCESSES = 2
#: uuids of networks that are created and removed to see their events
MARKERS = range(10, 100)


class Result(NamedTuple):
    """What a leg has shown: lines for people, and what is not as promised."""

    lines: list[str]
    faults: list[str]


class Helper:
    """A process of clients or readers: it is ready, it begins or ends with a line, it tells what it has."""

    def __init__(self, module: Any, order: Any) -> None:
        self.module = module
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", module.__name__],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1],
        )  # fmt: skip
        self.say(json.dumps(asdict(order)))

    def say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def hear(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.module.__name__} ended with status {self._process.wait()}")
        return line

    def told(self) -> Any:
        return json.loads(self.hear())

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()


def begin(stack: ExitStack, module: Any, orders: Sequence[Any]) -> list[Helper]:
    """Start processes, and wait until all of them are ready."""
    found = []
    for order in orders:
        found.append(Helper(module, order))
        stack.callback(found[-1].stop)
    for one in found:
        assert one.hear() == "ready\n"
    return found


def shared_out(number: int, processes: int) -> list[int]:
    """How many each process gets."""
    return [number // processes + (n < number % processes) for n in range(processes)]


@contextmanager
def served() -> Iterator[Daemon]:
    """A daemon with the networks that clients share."""
    with tempfile.TemporaryDirectory(prefix="nv") as directory, running(Path(directory), KEEP) as daemon:
        with libnetvirt.open(daemon.uri) as connection:
            connection.create(clients.OWNER)
            for number in clients.SHARED:
                connection.create(VirtualNetwork(uuid=number, name=f"shared-{number}"))
        yield daemon


def mark(daemon: Daemon) -> int:
    """Make an event, and return its number."""
    for uuid in MARKERS:
        with thin.connect(daemon.uri, timeout=60) as client, client.events() as events:
            client.create({"uuid": str(uuid), "name": f"marker-{uuid}"})
            client.remove(str(uuid))
            for event in events:
                if event["kind"] == "network.removed" and event.get("network") == str(uuid):
                    return int(event["id"].rpartition("-")[2])
                if event["kind"] == "events.lost":
                    break
    raise RuntimeError("the events of networks that were made for them are lost")


def under_load(number: int, seconds: float, reading: int = 0, processes: int = PROCESSES) -> Result:
    """Clients for some seconds, beside readers of events of which a tenth is slow."""
    with ExitStack() as stack:
        daemon = stack.enter_context(served())
        before = daemon.descriptors
        socket = str(daemon.socket)
        watching = [readers.Order(socket, 1, record=True)]
        for count in shared_out(reading, processes) if reading else []:
            watching.append(readers.Order(socket, count, slow=count // 10))
        watched = begin(stack, readers, watching)
        orders, first = [], 0
        for count in shared_out(number, processes):
            orders.append(clients.Order(socket, first, count, seconds, switches=SWITCHES))
            first += count
        worked = begin(stack, clients, orders)
        began, used = mark(daemon), daemon.processor
        for helper in worked:
            helper.say("go")
        told = [clients.Told(**helper.told()) for helper in worked]
        used, final = daemon.processor - used, mark(daemon)
        for helper in watched:
            helper.say(str(final))
        record, *read = [readers.Read(**helper.told()) for helper in watched]
        faults = [fault for client in told for fault in client.faults]
        faults += [fault for got in (record, *read) for fault in got.faults]
        faults += lost_changes(daemon, told) + lost_events(told, record)
        for got in read:
            # The events of the first marker are those that all readers have to begin with.
            if got.first and got.first != record.first:
                faults.append(f"readers began with the events {got.first}, the first is {record.first}")
        faults += ended(daemon, before)
        changes, events = sum(one.changes for one in told), final - began
        times: dict[str, list[float]] = {}
        for client in told:
            for kind, taken in client.times.items():
                times.setdefault(kind, []).extend(taken)
    lines = [
        *table(times),
        f"{changes / seconds:.0f} changes and {events / seconds:.0f} events a second; netvirtd took "
        f"{100 * used / seconds:.0f} % of a processor",
    ]
    if read:
        late = [one for found in read for one in found.late]
        lines.append(
            f"{reading} readers got {sum(one.received for one in read)} events; "
            f"{sum(one.lossy for one in read)} of them were told that they have lost "
            f"{sum(one.lost for one in read)} in all; the others had an event after "
            f"{percentile(late, 0.5):.2f} s (p50) and {percentile(late, 0.99):.2f} s (p99)"
        )
    return Result(lines, faults)


def lost_changes(daemon: Daemon, told: Sequence[clients.Told]) -> list[str]:
    """What is not there as clients were told, and what is there beside."""
    wanted = {clients.OWNER.uuid: clients.OWNER}
    members: dict[str, set[str]] = {str(number): set() for number in clients.SHARED}
    for one in told:
        for text in one.networks:
            network = VirtualNetwork.model_validate_json(text)
            wanted[network.uuid] = network
        for uuid, endpoint in one.shared:
            members[uuid].add(endpoint)
    faults = []
    with libnetvirt.open(daemon.uri) as connection:
        found = {one.uuid: one for one in connection.descriptions()}
        for uuid, ends in members.items():
            if {e.uuid for e in found.pop(uuid).endpoints} != ends:
                faults.append(f"the shared network {uuid} has other endpoints than clients were told")
        for uuid in wanted.keys() | found.keys():
            if wanted.get(uuid) != found.get(uuid):
                faults.append(f"network {uuid} is {found.get(uuid)}, clients were told {wanted.get(uuid)}")
        states = {one.state().state for one in connection.networks()[:200]}
    if states - {State.ACTIVE}:
        faults.append(f"states of networks are {states}")
    return faults


def lost_events(told: Sequence[clients.Told], record: readers.Read) -> list[str]:
    """Confirmed changes without an event, and events without one."""
    confirmed: Counter[str] = Counter()
    for one in told:
        confirmed.update(one.events)
    happened = Counter(record.happened)
    for uuid in MARKERS:
        for kind in ("created", "removed"):
            happened.pop(f"{kind} {uuid}", None)
    if record.lost:
        return [f"the events could not be checked: their reader has lost {record.lost}"]
    return [
        f"'{what}' was confirmed {confirmed[what]} times, and {happened[what]} events tell of it"
        for what in confirmed.keys() | happened.keys()
        if confirmed[what] != happened[what]
    ]


def ended(daemon: Daemon, descriptors: int) -> list[str]:
    """What is wrong with the daemon when all clients have gone. Ends it."""
    deadline = time.monotonic() + 60
    while (now := daemon.descriptors) > descriptors and time.monotonic() < deadline:
        time.sleep(0.1)
    faults = [f"{now - descriptors} descriptors are left open"] if now > descriptors else []
    if (status := daemon.close()) != 0:
        faults.append(f"netvirtd ended with status {status}")
        return faults
    return faults + [one for one in daemon.faults() if "status 0" not in one]


def pages(networks: int, repeated: int = 20) -> Result:
    """Many networks, listed in pages with all kinds of filters."""
    lines, faults = [], []
    with (
        served() as daemon,
        httpx.Client(
            transport=httpx.HTTPTransport(uds=str(daemon.socket)), base_url="http://x/v1", timeout=60
        ) as client,
    ):
        began, used = time.monotonic(), daemon.processor
        asyncio.run(create([many(number, networks) for number in range(networks)], daemon.uri))
        lines.append(
            f"{networks} networks were created in {time.monotonic() - began:.1f} s, "
            f"{daemon.processor - used:.1f} s of the processor"
        )
        used = daemon.processor
        with libnetvirt.open(daemon.uri) as connection:
            connection.create(VirtualNetwork(uuid=MARKERS[0], name="marker")).remove()
        if (used := daemon.processor - used) > ONE_MORE:
            faults.append(f"one more network took {1000 * used:.0f} ms of the processor")
        lines.append(f"one more was created and removed in {1000 * used:.1f} ms of the processor")
        middle = f"after={many(networks // 2, networks).name}"
        for query, count in (
            ("limit=100", 100), (f"limit=100&{middle}", 100), ("limit=100&name=net-*77*", None),
            ("limit=100&switch=2", 100), ("limit=100&status=active", 100), ("limit=100&status=down", 0),
            ("limit=100&forwarding=L3", 0),
            (f"limit=100&name=*1*&switch=1&status=active&forwarding=L2&{middle}", None),
        ):  # fmt: skip
            taken, waited = [], []
            for _ in range(repeated):
                used, at = daemon.processor, time.monotonic()
                reply = client.get(f"/networks?{query}").raise_for_status()
                waited.append(time.monotonic() - at)
                taken.append(daemon.processor - used)
                if count is not None and networks >= 2_000 and len(reply.json()) != count:
                    faults.append(f"{query}: {len(reply.json())} networks for {count}")
            used_, seen = percentile(taken, 0.5), percentile(waited, 0.5)
            lines.append(
                f"{query[:60]:60} processor {1000 * used_:6.1f} ms, seen {1000 * seen:6.1f} ms (p50), "
                f"{1000 * percentile(waited, 0.99):6.1f} ms (p99)"
            )
            quiet = os.getloadavg()[0] <= (os.cpu_count() or 1)
            if max(used_, seen if quiet else 0) > PAGE:
                faults.append(f"{query}: {1000 * used_:.0f} ms of the processor, {1000 * seen:.0f} ms seen")
        faults += whole_list(client, networks + 1 + len(clients.SHARED))
        faults += ended(daemon, daemon.descriptors)
    return Result(lines, faults)


async def create(networks: Sequence[VirtualNetwork], uri: str) -> None:
    """Create networks, some at the same time."""
    waiting = iter(networks)

    async def some() -> None:
        for network in waiting:
            await connection.driver.apply(Change(None, network))

    async with await libnetvirt.aio.open(uri) as connection:
        await asyncio.gather(*(some() for _ in range(16)))


def many(number: int, networks: int) -> VirtualNetwork:
    """One of many networks; their names are not in the order of their creation."""
    ends = [
        Endpoint(uuid=n, switch=(number + n) % SWITCHES + 1, port=n, vlan=number // SWITCHES + 1)
        for n in (1, 2)
    ]
    name = f"net-{number * 7919 % networks:05}"
    return VirtualNetwork(uuid=1000 + number, name=name, endpoints=ends)


def whole_list(client: httpx.Client, wanted: int) -> list[str]:
    """Follow the pages from the first to the last: each network once, in order."""
    names: list[str] = []
    link = "?limit=1000"
    while link:
        reply = client.get(f"/networks{link}").raise_for_status()
        names += [one["name"] for one in reply.json()]
        found = re.fullmatch(r'<(\?.*)>; rel="next"', reply.headers.get("link", ""))
        link = found[1] if found else ""
    return (
        []
        if names == sorted(set(names)) and len(names) == wanted
        else [f"the pages have {len(names)} networks"]
    )


def memory(changes: int, number: int = 50, processes: int = PROCESSES, every: float = 2.0) -> Result:
    """So many changes, and the memory meanwhile."""
    points: list[tuple[float, float]] = []
    with ExitStack() as stack:
        daemon = stack.enter_context(served())
        before, socket, first, orders = daemon.descriptors, str(daemon.socket), 0, []
        for count, share in zip(shared_out(number, processes), shared_out(changes, processes), strict=True):
            one = clients.Order(socket, first, count, 3600.0, share, only_changes=True, switches=SWITCHES)
            orders.append(one)
            first += count
        worked = begin(stack, clients, orders)
        ending = threading.Event()
        start = mark(daemon)
        watching = threading.Thread(target=lambda: points.extend(measure(daemon, ending, every)))
        for helper in worked:
            helper.say("go")
        watching.start()
        began = time.monotonic()
        try:
            told = [clients.Told(**helper.told()) for helper in worked]
        finally:
            ending.set()
            watching.join()
        seconds = time.monotonic() - began
        assert mark(daemon) > start
        faults = [fault for each in told for fault in each.faults] + lost_changes(daemon, told)
        faults += ended(daemon, before)
        done = sum(each.changes for each in told)
    # At first, what is bounded fills up: the networks of clients, the last events.
    later = points[len(points) // 2 :]
    grown = 100_000 * slope(later) if len(later) > 2 else 0.0
    lines = [f"{done} changes in {seconds:.0f} s, {done / seconds:.0f} a second"]
    lines += [
        f"memory after {int(n):7} changes: {size / 2**20:6.1f} MiB"
        for n, size in points[:: len(points) // 10 or 1]
    ]
    lines.append(f"a line through the second half grows by {grown / 2**20:.2f} MiB in 100,000 changes")
    if changes >= ENOUGH and grown > GROWTH:
        faults.append(lines[-1])
    return Result(lines, faults)


def measure(daemon: Daemon, ending: threading.Event, every: float) -> Iterator[tuple[float, float]]:
    """Number of changes and bytes of memory, again and again."""
    counter = re.compile(r"^netvirt_store_commits_total{[^\n]*} (\d+)", re.MULTILINE)
    with httpx.Client(
        transport=httpx.HTTPTransport(uds=str(daemon.socket)), base_url="http://x", timeout=60
    ) as client:
        while True:
            found = counter.search(client.get("/metrics").text)
            assert found is not None
            yield float(found[1]), float(daemon.memory)
            if ending.wait(every):
                return


def legs(given: argparse.Namespace) -> dict[str, Callable[[], Result]]:
    """What is run, by name."""
    return {
        "mixed": lambda: under_load(given.clients, given.seconds),
        "events": lambda: under_load(40, given.seconds, given.readers),
        "pages": lambda: pages(given.networks),
        "memory": lambda: memory(given.changes),
    }


def main() -> int:
    """Run all legs, or some. Returns 1 if something is not as promised."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("legs", nargs="*", help="mixed, events, pages, memory (default: all)")
    for name, kind, default, text in (
        ("clients", int, 200, "clients of mixed operations"), ("readers", int, 2000, "readers of events"),
        ("seconds", float, 60.0, "how long each"), ("networks", int, 10_000, "networks that are listed"),
        ("changes", int, 100_000, "changes during which memory is watched"),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=kind, default=default, help=f"{text} (default: %(default)g)")
    given = parser.parse_args()
    known = legs(given)
    if unknown := set(given.legs) - known.keys():
        parser.error(f"there is no leg {', '.join(sorted(unknown))}: there are {', '.join(known)}")
    failed = False
    for name in given.legs or known:
        print(f"{name}: load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors", flush=True)
        result = known[name]()
        failed = failed or bool(result.faults)
        print(*result.lines, *(f"NOT AS PROMISED: {one}" for one in result.faults[:20]), sep="\n", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
