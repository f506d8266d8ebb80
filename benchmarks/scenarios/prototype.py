"""The three tests of the 2012 prototype's own evaluation.

Set-up time by hop count; the set-up time of one network while another floods the controller; the frames lost
when a fast UDP flow starts, on Open vSwitch.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks import peers
from benchmarks.rows import Plan, Row
from benchmarks.scenarios import bridges
from benchmarks.scenarios.setup import REACTIVE, Case, described, running
from benchmarks.workers import LOADER, Failed, Worker

#: Frames that the controller queues until the rules of a path are installed.
QUEUE = 64
_HOPS = 10
_ETHER = bytes.fromhex("0800")


def rows(plan: Plan) -> list[Row]:
    """The rows of all three tests."""
    found: list[Row] = []
    for part in (_flooded,) if plan.smoke else (_started, _flooded, _by_hops):
        if plan.late(f"prototype: {part.__name__.strip('_')}"):
            continue
        try:
            found += part(plan)
        except (Failed, RuntimeError) as error:
            plan.fail(f"prototype: {part.__name__}: {error}")
    return found


def _by_hops(plan: Plan) -> Iterator[Row]:
    """The median set-up time on paths of 1 to 10 switches, one at a time."""
    case = Case(_HOPS, 50, 1, 0, options="")
    wanted = (1, 5, 10) if plan.quick else range(1, _HOPS + 1)
    seen: dict[str, dict[int, list[float]]] = {}
    with Worker("benchmarks.fleet", LOADER) as fleet:
        for peer in (peers.OVS_NAME, peers.OURS):
            if why := peers.missing(peer):
                plan.skip(f"prototype: {peer} {why}")
                continue
            plan.say(f"prototype: set-up time by hops, {peer}")
            with running(peer, case, fleet):
                for hops in wanted:
                    where = {"networks": 1, "reach": hops - 1}
                    if left := fleet.ask("introduce", **where):
                        raise Failed(f"{peer}: {left} hosts were not learned")
                    for _ in range(plan.trials):
                        trial = fleet.ask("trial", count=300, seconds=3.0, window=1, **where)
                        if not trial["sound"] or not trial["completed"]:
                            raise Failed(f"{peer}: not sound over {hops} switches: {trial}")
                        seen.setdefault(peer, {}).setdefault(hops, []).append(trial["p50"])
    for hops, times in seen.get(peers.OURS, {}).items():
        theirs = seen.get(peers.OVS_NAME, {}).get(hops, [])
        what = "set-up time by hops (median)"
        yield Row.of("prototype", what, {"hops": hops}, "s", times, theirs, peers.OVS_NAME)


@dataclass(frozen=True, slots=True)
class Flood:
    """A flood of frames to unknown addresses, from ``sources``: (switch from 0, port from 0)."""

    name: str
    rate: float
    sources: tuple[tuple[int, int], ...]


_SWITCHES, _PORTS, _NETWORKS, _BEHIND = 4, 64, 8, 24
#: Seconds in which the victim sets up pairs.
_FLOOD_SECONDS = 2.0
_FLOODS = (
    Flood("from 1 endpoint, same switch", 20_000.0, ((0, 0),)),
    Flood("from 1 endpoint, other switch", 20_000.0, ((1, 0),)),
    Flood("from 8 endpoints, same switch", 20_000.0, tuple((0, 8 * n) for n in range(8))),
    Flood("from 8 endpoints on 4 switches", 40_000.0, tuple((n % 4, n // 4 * 8) for n in range(8))),
)


def _flooded(plan: Plan) -> Iterator[Row]:
    """The victim's set-up times, one at a time, while another network sends to unknown addresses.

    The endpoints of network 0 flood, from up to four switches, so over up to four connections. Network 1 is
    the victim; its hosts are on all switches, and each set-up is between two hosts on one of them.
    """
    case = Case(_SWITCHES, _PORTS, _NETWORKS, 0, _BEHIND, options="")
    seconds = min(plan.seconds, _FLOOD_SECONDS)
    # One outstanding: no controller does as many a second.
    trial = {"count": int(20_000 * seconds), "seconds": seconds, "networks": _NETWORKS, "victim": 1}
    for flood in _FLOODS[-1:] if plan.smoke else _FLOODS:
        if plan.late(f"prototype: flood {flood.name}"):
            continue
        # For each flood a new controller, and pairs that none has used.
        with Worker("benchmarks.fleet", LOADER) as fleet, running(peers.OURS, case, fleet):
            if left := fleet.ask("introduce", networks=_NETWORKS, reach=0):
                raise Failed(f"{left} hosts were not learned")
            plan.say(f"prototype: flood {flood.name}")
            sources = [switch * _PORTS + port for switch, port in flood.sources]
            quiet, seen = [], []
            # In turn, so that both meet the same state of the controller and of the machine.
            for _ in range(1 if plan.quick else 3):
                calm = {**trial, "seconds": seconds / 2}
                quiet.append(fleet.ask("under_flood", rate=0.0, sources=[0], **calm))
                seen.append(fleet.ask("under_flood", rate=flood.rate, sources=sources, **trial))
            lost = sum(one["lost"] for one in seen)
            if not all(one["completed"] for one in (*quiet, *seen)):
                plan.fail(f"prototype: flood {flood.name}: a trial without a set-up: {seen}")
            note = f"flood {flood.name}: {lost} set-ups of the victim were lost. " if lost else ""
            for what, key in (("median", "p50"), ("99th percentile", "p99")):
                row = Row.of(
                    "prototype", f"set-up time ({what}) under a flood {flood.name}",
                    {"frames/s": flood.rate, "connections": len({s for s, _ in flood.sources})}, "s",
                    [one[key] for one in seen if one["completed"]],
                    [one[key] for one in quiet if one["completed"]], "no flood",
                    note=note, measured={"flooded": seen, "quiet": quiet},
                )  # fmt: skip
                row.at_most_times(2.0, "no flood")
                row.holds = bool(row.holds) and not lost
                yield row


@dataclass(slots=True)
class Stream:
    """The result of a stream of numbered frames. ``early``: frames sent before the first one arrived."""

    sent: int
    arrived: list[int]
    early: int

    @property
    def missing(self) -> list[int]:
        """The numbers of lost frames."""
        return sorted(set(range(self.sent)) - set(self.arrived))

    @property
    def lost(self) -> int:
        """The number of lost frames."""
        return len(self.missing)

    @property
    def reordered(self) -> int:
        """The number of frames that arrived after one sent later."""
        highest, count = -1, 0
        for number in self.arrived:
            count += number < highest
            highest = max(highest, number)
        return count


def _started(plan: Plan) -> Iterator[Row]:
    """Start a UDP flow of 10,000 frames a second over three Open vSwitch bridges."""
    why = bridges.why_not()
    if why:
        plan.skip(f"prototype: no bridges: {why}")
        return
    ends = [(1, 1), (3, 1)]
    with bridges.bridges(3, [(1, 2), (2, 3)], 1) as lab, peers.ours(core=None) as (worker, port):
        lab.control(f"tcp:127.0.0.1:{port}")
        worker.ask("wait", switches=3, links=4)
        for name, rules in (("offline", {}), ("on demand", REACTIVE)):
            plan.say(f"prototype: a UDP flow starts, {name}")
            hosts = [[n, s, p] for n, (s, p) in enumerate(ends)]
            worker.ask("create", network=described("measured", hosts, rules))
            tag = 1 if rules else 2
            macs = [bytes((2, 0, 0, tag, 0, n)) for n in range(2)]
            # The destination is learned, the source is not.
            lab.send(*ends[1], b"\xff" * 6 + macs[1] + _ETHER + bytes(46))
            time.sleep(0.5)
            count = 2_000 if plan.quick else 5_000
            stream = _stream(lab, ends, macs, count)
            control = _stream(lab, ends, macs, count)
            worker.ask("remove", name="measured")
            allowed = 0 if not rules else max(0, stream.early - QUEUE)
            row = Row(
                "prototype", f"frames lost as a UDP flow starts, {name}", {"frames": stream.sent}, "frames",
                stream.lost, control.lost, "again, rules installed",
                measured={
                    "reordered": stream.reordered, "early": stream.early, "missing": stream.missing[:50],
                },
                note=f"{name}: {stream.reordered} of {stream.sent} frames came out of order; "
                f"{stream.early} were sent before the first arrived. ",
            )  # fmt: skip
            row.bar = "none but queue overflow" if rules else "0 lost, in order"
            row.holds, row.timed = stream.lost <= allowed and (bool(rules) or not stream.reordered), False
            yield row


def _stream(lab: bridges.Lab, ends: Sequence[tuple[int, int]], macs: Sequence[bytes], count: int) -> Stream:
    """Send numbered frames and record which arrive, with socket buffers that hold all of them."""
    rate, early = 10_000.0, 0
    arrived: list[int] = []
    head = macs[1] + macs[0] + _ETHER
    ready = [head + number.to_bytes(4) + bytes(42) for number in range(count)]
    with _socket(lab, ends[0]) as out, _socket(lab, ends[1]) as into:
        began = last = time.perf_counter()
        sent = 0
        while sent < count or time.perf_counter() - last < 1.0:
            due = min(count, int((time.perf_counter() - began) * rate))
            for frame in ready[sent:due]:
                out.send(frame)
                last = time.perf_counter()
            sent = max(sent, due)
            with contextlib.suppress(BlockingIOError):
                while True:
                    frame = into.recv(2048)
                    if frame.startswith(head):
                        early = early or sent
                        arrived.append(int.from_bytes(frame[14:18]))
                        last = time.perf_counter()
    return Stream(sent, arrived, early)


def _socket(lab: bridges.Lab, place: tuple[int, int]) -> socket.socket:
    every, force = 3, 33  # ETH_P_ALL, SO_RCVBUFFORCE
    found = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(every))
    found.setsockopt(socket.SOL_SOCKET, force, 64 << 20)
    found.bind((lab.host_interface(*place), 0))
    found.setblocking(False)
    return found
