"""Flow set-ups: their rate and latency, compared with two learning switches.

libnetvirt runs native, on-demand networks with all checks: it finds the endpoint by port, tag and network,
learns the source, looks the destination up in the same network, and installs the rules on the whole path,
those of the first switch after the others are confirmed. The peers get a packet-in at each switch of the path
and do not separate networks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks import peers
from benchmarks.rows import Plan, Row
from benchmarks.workers import LOADER, Failed, Worker

REACTIVE = {"encapsulation": "native", "insertion": "on-demand", "timeout": "idle", "duration": "60 s"}
WINDOW = 128
#: Lifts the limit of packet-ins per endpoint and network, so that it does not bound the rate.
UNLIMITED = "&packet-rate=1000000"
#: ovs-testcontroller serves no more switches.
OVS_SWITCHES = 16
#: Longest trial in seconds: slow peers do not reach the number of set-ups in that time.
SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class Case:
    """A fleet of switches in a line with ``hosts`` each, and paths of 1 + ``reach`` switches."""

    switches: int
    hosts: int
    networks: int
    reach: int
    count: int

    @property
    def hops(self) -> int:
        """The number of switches on a path."""
        return self.reach + 1


QUICK = (Case(1, 300, 2, 0, 30_000), Case(5, 120, 2, 4, 5_000))
FULL = (
    Case(1, 500, 2, 0, 100_000),
    Case(16, 60, 2, 0, 20_000),
    Case(100, 20, 1, 0, 20_000),
    Case(5, 200, 2, 4, 15_000),
    Case(16, 60, 2, 4, 15_000),
    Case(100, 20, 1, 4, 15_000),
)


@contextmanager
def running(peer: str, case: Case, fleet: Worker, options: str = "") -> Iterator[Worker | None]:
    """Run a controller with the fleet connected and, for libnetvirt, with the networks created."""
    with ExitStack() as stack:
        worker = None
        if peer in peers.TREES:
            worker, port = stack.enter_context(peers.ours(options, tree=peer))
        elif peer == peers.LEAST:
            port = stack.enter_context(peers.least(case.hosts))
        else:
            started = peers.ovs_testcontroller if peer == peers.OVS_NAME else peers.os_ken
            port = stack.enter_context(started())
        hosts = fleet.ask("build", kind="line", switches=case.switches, hosts=case.hosts)
        fleet.ask("connect", host="127.0.0.1", port=port)
        if worker is not None:
            worker.ask("wait", switches=case.switches, links=2 * (case.switches - 1))
            for network in range(case.networks):
                members = [h for h in hosts if h[0] % case.networks == network]
                worker.ask("create", network=described(f"vn{network}", members))
            worker.ask("settle")
        yield worker
        fleet.ask("disconnect")


def described(name: str, hosts: list[list[int]], rules: dict[str, str] | None = None) -> dict[str, Any]:
    """The description of a network with hosts of the fleet (number, switch, port)."""
    endpoints = [{"uuid": n + 1, "switch": str(dpid), "port": str(port)} for n, dpid, port in hosts]
    rules = REACTIVE if rules is None else rules
    return {"name": name, "forwarding": "L2", "endpoints": endpoints, **({"rules": rules} if rules else {})}


def measure(peer: str, case: Case, fleet: Worker, windows: tuple[int, ...]) -> dict[int, dict[str, Any]]:
    """Run a trial with each window, all with the same controller process."""
    found, used = {}, 0
    with running(peer, case, fleet, UNLIMITED):
        if peer != peers.LEAST:
            left = fleet.ask("introduce", networks=case.networks, reach=case.reach)
            if left:
                raise Failed(f"{left} hosts were not learned")
        for window in windows:
            count = case.count if window > 1 else min(2_000, case.count // 5)
            found[window] = fleet.ask(
                "trial", count=count, seconds=SECONDS if window > 1 else 1.0, window=window,
                networks=case.networks, reach=case.reach, skip=used,
            )  # fmt: skip
            used += count
    return found


def rows(plan: Plan) -> list[Row]:
    """The rate and latency of set-ups, by the number of switches and the length of paths."""
    found: list[Row] = []
    with Worker("benchmarks.fleet", LOADER) as fleet:
        for case in QUICK if plan.quick else FULL:
            seen: dict[str, dict[int, dict[str, Any]]] = {}
            for peer in (peers.LEAST, peers.OVS_NAME, peers.OSKEN_NAME, *peers.TREES):
                why = peers.missing(peer)
                if peer == peers.OVS_NAME and case.switches > OVS_SWITCHES:
                    why = f"takes {OVS_SWITCHES} switches at most"
                if why:
                    plan.say(f"setup: {peer} {why}")
                    continue
                plan.say(f"setup: {peer}, {case.switches} switches, paths of {case.hops}")
                try:
                    seen[peer] = measure(peer, case, fleet, (1, WINDOW))
                except Failed as error:
                    plan.say(f"setup: {peer} failed: {error}")
            for tree in peers.TREES:
                found += list(_compared(case, seen, tree))
    return found


def _compared(case: Case, seen: dict[str, dict[int, dict[str, Any]]], tree: str) -> Iterator[Row]:
    ours = seen.get(tree)
    if ours is None:
        return
    which = tree.removeprefix(peers.OURS)
    one_switch = case.switches == 1
    for peer, bar in ((peers.OVS_NAME, 2.0), (peers.OSKEN_NAME, 50.0), (peers.LEAST, 0.0)):
        theirs = seen.get(peer)
        if theirs is None:
            continue
        sizes = {"switches": case.switches, "hops": case.hops}
        a, b = ours[WINDOW], theirs[WINDOW]
        ratio = a["rate"] / b["rate"] if b["rate"] else None
        many = Row(
            "setup", f"set-ups, {WINDOW} outstanding{which}", sizes, "/s", a["rate"], b["rate"], peer, ratio,
            note=_note(a, tree) + _note(b, peer), measured={"ours": a, "peer": b},
        )  # fmt: skip
        if one_switch and bar:
            many.bar, many.holds = f"≥ {bar:g}×", (ratio or 0) >= bar and _is_whole(a)
        yield many
        a, b = ours[1], theirs[1]
        ratio = b["p50"] / a["p50"] if a["p50"] else None
        one = Row(
            "setup", f"latency, 1 outstanding (median){which}", sizes, "s", a["p50"], b["p50"], peer, ratio,
            note=_note(a, tree) + _note(b, peer), measured={"ours": a, "peer": b},
        )  # fmt: skip
        if one_switch and peer == peers.OVS_NAME:
            one.bar, one.holds = "time ≤ 1× peer", (ratio or 0) >= 1 and _is_whole(a)
        yield one


def _is_whole(trial: dict[str, Any]) -> bool:
    """Whether every requested set-up was completed correctly."""
    return bool(trial["sound"] and not trial["lost"])


def _note(trial: dict[str, Any], who: str) -> str:
    if _is_whole(trial):
        return ""
    seen = {k: trial[k] for k in ("completed", "flow_mods", "lost", "strays", "twice") if trial[k]}
    return f"{who} not sound: {seen}. " if not trial["sound"] else f"{who}: {trial['lost']} lost. "
