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
from libnetvirt.controller.ondemand.flows import PAIR_LIMIT

REACTIVE = {"encapsulation": "native", "insertion": "on-demand", "timeout": "idle", "duration": "60 s"}
WINDOW = 128
#: Lifts the limit of packet-ins per endpoint and network, so that it does not bound the rate.
UNLIMITED = "&packet-rate=1000000"
#: ovs-testcontroller serves no more switches.
OVS_SWITCHES = 16
#: The first trial is not counted. It warms the controller up and tells how many set-ups to prepare.
WARM_UP, WARM_UP_COUNT = 0.3, 60_000
#: The longest trial, in seconds, with one set-up outstanding, and of a responder: thousands of set-ups.
SHORT_SECONDS = 0.6
#: The share of the pairs that libnetvirt keeps rules for, or that there are, which one process may get.
_PAIRS_SHARE = 0.95
#: A trial that has used up its set-ups in a smaller share of its time is reported.
_SHORT = 0.8
MANY, FEW = "many hosts", "one host a port"


@dataclass(frozen=True, slots=True)
class Case:
    """A fleet of switches in a line, with paths of 1 + ``reach`` switches. The switches that have hosts
    (those at the ends of paths) have ``ports`` ports of ``behind`` hosts each.

    ``beside``: whom the ``variants`` of libnetvirt are compared with. ``bars``: the share of
    ovs-testcontroller's rate that is wanted in pure Python and compiled; ``latency``: of its latency;
    ``slow``: of os-ken's rate.
    """

    switches: int
    ports: int
    networks: int
    reach: int
    behind: int = 1
    load: str = FEW
    options: str = UNLIMITED
    beside: tuple[str, ...] = (peers.OVS_NAME,)
    variants: tuple[str, ...] = (peers.OURS, peers.COMPILED)
    bars: tuple[float, float] = (0.0, 0.0)
    latency: float = 0.0
    slow: float = 0.0
    windows: tuple[int, ...] = (1, WINDOW)

    @property
    def hops(self) -> int:
        """The number of switches on a path."""
        return self.reach + 1

    @property
    def on(self) -> list[int]:
        """The switches with hosts: of a line that is one path, its ends."""
        ends = self.reach > 0 and self.switches == self.hops
        return [1, self.switches] if ends else list(range(1, self.switches + 1))

    @property
    def sizes(self) -> dict[str, float]:
        """The sizes for a row."""
        hosts = len(self.on) * self.ports * self.behind
        return {"hosts": hosts, "networks": self.networks, "switches": self.switches, "hops": self.hops}


_ALL = (peers.OVS_NAME, peers.OSKEN_NAME, peers.LEAST)
_BOTH_CEILINGS = (peers.OVS_NAME, peers.LEAST_BY_HOP, peers.LEAST)
_EVERY_VARIANT = (peers.OURS, peers.COMPILED, peers.FAST)
SMOKE = (Case(1, 16, 4, 0, 32, MANY, "", (peers.LEAST,), (peers.OURS,)),)
QUICK = (
    Case(1, 64, 16, 0, 32, MANY, "", _ALL, _EVERY_VARIANT),
    Case(5, 64, 16, 4, 16, MANY, "", _BOTH_CEILINGS),
)
FULL = (
    Case(1, 64, 16, 0, 128, MANY, "", _ALL, _EVERY_VARIANT, (2.2, 4.0), 0.7, 50.0),
    # ovs-testcontroller learns no more than 8,192 hosts at one switch, and floods frames to all others.
    Case(5, 64, 16, 4, 64, MANY, "", _BOTH_CEILINGS, bars=(8.0, 8.0), windows=(WINDOW,)),
    Case(16, 32, 8, 0, 32, MANY, "", bars=(2.2, 4.0), windows=(WINDOW,)),
    Case(1, 2_000, 2, 0, variants=(peers.OURS,), bars=(2.0, 2.0), latency=1.0),
)


@contextmanager
def running(peer: str, case: Case, fleet: Worker) -> Iterator[Worker | None]:
    """Run a controller with the fleet connected and, for libnetvirt, with the networks created."""
    with ExitStack() as stack:
        worker = None
        if peer in peers.VARIANTS:
            worker, port = stack.enter_context(peers.ours(case.options + peers.NO_AUDIT, variant=peer))
        elif peer in peers.RESPONDERS:
            port = stack.enter_context(peers.least(peer, case.ports, case.behind, case.on))
        else:
            started = peers.ovs_testcontroller if peer == peers.OVS_NAME else peers.os_ken
            port = stack.enter_context(started())
        sizes = {"switches": case.switches, "hosts": case.ports, "behind": case.behind, "on": case.on}
        places = fleet.ask("build", kind="line", **sizes)
        fleet.ask("connect", host="127.0.0.1", port=port)
        if worker is not None:
            worker.ask("wait", switches=case.switches, links=2 * (case.switches - 1))
            for network in range(case.networks):
                members = [p for p in places if p[0] % case.networks == network]
                worker.ask("create", network=described(f"vn{network}", members))
        yield worker
        fleet.ask("disconnect")


def described(name: str, places: list[list[int]], rules: dict[str, str] | None = None) -> dict[str, Any]:
    """The description of a network with ports of the fleet (number, switch, port)."""
    endpoints = [{"uuid": n + 1, "switch": str(dpid), "port": str(port)} for n, dpid, port in places]
    rules = REACTIVE if rules is None else rules
    return {"name": name, "forwarding": "L2", "endpoints": endpoints, **({"rules": rules} if rules else {})}


def measure(peer: str, case: Case, fleet: Worker, plan: Plan) -> dict[int, list[dict[str, Any]]]:
    """Run the trials with each window. Raises Failed if a host is not learned.

    All use the same controller process, unless its endpoints would get more pairs than libnetvirt keeps rules
    for, or there are no new ones left: then a new one is started, for which all pairs are new again.
    """
    found: dict[int, list[dict[str, Any]]] = {window: [] for window in case.windows}
    sources = len(case.on) if not case.reach else 1
    kept = PAIR_LIMIT * case.ports * sources if peer in peers.VARIANTS else float("inf")
    while len(found[WINDOW]) < plan.trials:
        with running(peer, case, fleet):
            new = float("inf")
            if peer not in peers.RESPONDERS:
                left = fleet.ask("introduce", networks=case.networks, reach=case.reach)
                if left:
                    raise Failed(f"{left} hosts were not learned")
                new = fleet.ask("possible", networks=case.networks, reach=case.reach)
            _trials(peer, case, fleet, plan, found, _PAIRS_SHARE * min(kept, new))
    return found


def _trials(
    peer: str, case: Case, fleet: Worker, plan: Plan, found: dict[int, list[dict[str, Any]]], room: float
) -> None:
    """Run trials with one controller process until there are enough, or ``room`` for pairs is used."""
    # A responder knows no pairs, so that old ones are as hard for it as new ones.
    again = peer in peers.RESPONDERS
    where = {"networks": case.networks, "reach": case.reach, "again": again}
    for window in case.windows:
        if len(found[window]) == plan.trials:
            continue
        short = window == 1 or peer in peers.RESPONDERS
        seconds = min(plan.seconds, SHORT_SECONDS) if short else plan.seconds
        count = WARM_UP_COUNT // (10 if plan.smoke else 1)
        warm = fleet.ask("trial", count=count, seconds=WARM_UP, window=window, **where)
        room -= warm["asked"]
        first = True
        while len(found[window]) < plan.trials:
            rate = max([warm["rate"], *(t["rate"] for t in found[window])])
            if rate * seconds > room and not first:
                return
            most = int(min(2 * seconds * rate, room)) + window
            trial = fleet.ask("trial", count=most, seconds=seconds, window=window, **where)
            room -= trial["asked"]
            trial["short"] = trial["used_up"] and trial["seconds"] < _SHORT * seconds
            found[window].append(trial)
            first = False


def rows(plan: Plan) -> list[Row]:
    """The rate and latency of set-ups, by the load, the number of switches and the length of paths."""
    found: list[Row] = []
    with Worker("benchmarks.fleet", LOADER) as fleet:
        for case in SMOKE if plan.smoke else QUICK if plan.quick else FULL:
            seen: dict[str, dict[int, list[dict[str, Any]]]] = {}
            for peer in (*case.variants, *case.beside):
                if plan.late(f"setup: {peer}, {case.load}, {case.switches} switches, {case.hops} hops"):
                    continue
                why = peers.missing(peer)
                if peer == peers.OVS_NAME and case.switches > OVS_SWITCHES:
                    why = f"takes {OVS_SWITCHES} switches at most"
                if why:
                    plan.skip(f"setup: {peer} {why}")
                    continue
                plan.say(f"setup: {peer}, {case.load}, {case.switches} switches, paths of {case.hops}")
                try:
                    seen[peer] = measure(peer, case, fleet, plan)
                except (Failed, OSError) as error:
                    plan.fail(f"setup: {peer} failed: {error}")
            for which in case.variants:
                found += list(_compared(case, seen, which, plan))
    return found


def _compared(
    case: Case, seen: dict[str, dict[int, list[dict[str, Any]]]], which: str, plan: Plan
) -> Iterator[Row]:
    ours = seen.get(which)
    if ours is None:
        return
    wrong = [t for trials in ours.values() for t in trials if not _is_sound(t)]
    if wrong:
        plan.fail(f"setup: {which}, {case.load}: {_note(wrong, which)}")
    variant = which.removeprefix(peers.OURS)
    for peer in case.beside:
        theirs = seen.get(peer)
        if theirs is not None:
            yield from _beside(case, ours, theirs, peer, variant)


def _beside(
    case: Case, ours: dict[int, list[dict[str, Any]]], theirs: dict[int, list[dict[str, Any]]], peer: str,
    variant: str,
) -> Iterator[Row]:  # fmt: skip
    def row(what: str, unit: str, window: int, key: str) -> Row:
        a, b = ours[window], theirs[window]
        return Row.of(
            "setup", f"{what}, {case.load}{variant}", case.sizes, unit,
            [t[key] for t in a if _is_sound(t)], [t[key] for t in b if _is_sound(t)], peer,
            note=_note(a, peers.OURS + variant) + _note(b, peer), measured={"ours": a, "peer": b},
        )  # fmt: skip

    sound = {window: all(_is_whole(t) for t in trials) for window, trials in ours.items()}
    is_ovs, compiled = peer == peers.OVS_NAME, variant == peers.COMPILED.removeprefix(peers.OURS)
    many = row(f"set-ups, {WINDOW} outstanding", "/s", WINDOW, "rate")
    bar = case.bars[compiled] if is_ovs else case.slow if peer == peers.OSKEN_NAME else 0.0
    if bar:
        many.at_least(f"≥ {bar:g}×", many.ratio, bar, sound=sound[WINDOW])
    yield many
    if 1 not in case.windows:
        return
    one = row("latency, 1 outstanding (median)", "s", 1, "p50")
    if is_ovs and case.latency:
        times = 1 / one.ratio if one.ratio else None
        one.at_most(f"time ≤ {case.latency:g}× peer", times, case.latency, sound=sound[1])
    yield one
    yield row("latency, 1 outstanding (99th percentile)", "s", 1, "p99")


def _is_sound(trial: dict[str, Any]) -> bool:
    """Whether a trial has a figure: what it counted as set-ups were set-ups, and there were any."""
    return bool(trial["sound"] and trial["completed"])


def _is_whole(trial: dict[str, Any]) -> bool:
    """Whether every requested set-up was completed correctly."""
    return _is_sound(trial) and not trial["lost"]


def _note(trials: list[dict[str, Any]], who: str) -> str:
    told = []
    for number, trial in enumerate(trials, 1):
        if not _is_sound(trial):
            seen = {k: trial[k] for k in ("completed", "flow_mods", "lost", "strays", "twice") if trial[k]}
            told.append(f"{who}, trial {number}: not sound: {seen}. ")
        elif trial["lost"]:
            told.append(f"{who}, trial {number}: {trial['lost']} of {trial['asked']} set-ups lost. ")
        if trial.get("short"):
            told.append(f"{who}, trial {number}: out of pairs after {trial['seconds']:.2f} s. ")
    return "".join(told)
