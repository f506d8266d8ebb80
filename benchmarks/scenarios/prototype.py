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
    for part in (_by_hops, _flooded, _started):
        try:
            found += part(plan)
        except (Failed, RuntimeError) as error:
            plan.say(f"prototype: {part.__name__}: {error}")
    return found


def _by_hops(plan: Plan) -> Iterator[Row]:
    """The median set-up time on paths of 1 to 10 switches, one at a time."""
    case = Case(_HOPS, 20, 1, 0, 300)
    wanted = (1, 5, 10) if plan.quick else range(1, _HOPS + 1)
    seen: dict[str, dict[int, dict[str, float]]] = {}
    with Worker("benchmarks.fleet", LOADER) as fleet:
        for peer in (peers.OVS_NAME, peers.OURS):
            if peers.missing(peer):
                continue
            plan.say(f"prototype: set-up time by hops, {peer}")
            with running(peer, case, fleet):
                for hops in wanted:
                    where = {"networks": 1, "reach": hops - 1}
                    fleet.ask("introduce", **where)
                    trial = fleet.ask("trial", count=case.count, seconds=3.0, window=1, **where)
                    seen.setdefault(peer, {})[hops] = trial
    for hops, trial in seen.get(peers.OURS, {}).items():
        theirs = seen.get(peers.OVS_NAME, {}).get(hops)
        row = Row("prototype", "set-up time by hops (median)", {"hops": hops}, "s", trial["p50"])
        if theirs is not None and trial["p50"]:
            row.peer, row.peer_name = theirs["p50"], peers.OVS_NAME
            row.ratio = theirs["p50"] / trial["p50"]
        yield row


def _flooded(plan: Plan) -> Iterator[Row]:
    """The victim's median set-up time, one at a time, while another network sends to unknown addresses."""
    attacks = [("flood from 1 endpoint, same switch", 1, 0), ("flood from 1 endpoint, other switch", 1, 1)]
    attacks += [] if plan.quick else [("flood from 10 endpoints, same switch", 10, 0)]
    networks, each, rate = 8, 160, 20_000.0
    # The victim is network 1, with 20 hosts on each of two switches; network 0 floods.
    count = 100 if plan.quick else 150
    case = Case(2, each, networks, 0, count)
    trial = {"count": count, "networks": networks, "victim": 1, "seconds": 4.0}
    with Worker("benchmarks.fleet", LOADER) as fleet, running(peers.OURS, case, fleet):
        fleet.ask("introduce", networks=networks, reach=0)
        quiet = fleet.ask("under_flood", rate=0.0, sources=[0], skip=0, **trial)
        for turn, (what, number, switch) in enumerate(attacks, 1):
            plan.say(f"prototype: {what}")
            sources = [switch * each + networks * n for n in range(number)]
            seen = fleet.ask("under_flood", rate=rate, sources=sources, skip=turn * count, **trial)
            ratio = seen["p50"] / quiet["p50"] if quiet["p50"] else 0.0
            yield Row(
                "prototype", f"set-up time under a {what}", {"frames/s": rate}, "s", seen["p50"],
                quiet["p50"], "no flood", 1 / ratio if ratio else None, "time ≤ 2× no flood",
                0 < ratio <= 2 and not seen["lost"], measured={"flooded": seen, "quiet": quiet},
            )  # fmt: skip


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
        plan.say(f"prototype: no bridges: {why}")
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
            row.holds = stream.lost <= allowed and (bool(rules) or not stream.reordered)
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
