"""The story: seven acts, each with a promise and the checks whether it is kept. Independent of the driver."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from rich.text import Text

from demo.screen import Screen
from demo.stage import HOSTS, SWITCHES, Pings, Reach, Stage
from libnetvirt import Connection, Endpoint, State
from libnetvirt.model import Path as NetworkPath

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
#: Longest time of a reroute in seconds.
REROUTE = 1.0
TIMEOUT = 10.0
_LEGEND = "● arrives and is answered   · does not arrive   ✗ not as promised"
_COLOURS = {"blue": "blue", "red": "red"}


class BrokenPromise(Exception):
    """An act cannot continue."""


@dataclass(frozen=True)
class Check:
    """A check of a promise, and whether it was kept."""

    kept: bool
    text: str


class Story:
    """Seven acts. :meth:`tell` plays them and returns whether every promise was kept."""

    def __init__(self, stage: Stage, screen: Screen) -> None:
        self.stage = stage
        self.screen = screen
        stage.show = self._show
        self.members = {"blue": ["b1", "b2", "b3"], "red": ["r1", "r2", "r3", "r4"]}
        self.kept = 0
        self.broken: list[str] = []

    def tell(self) -> bool:
        acts: list[tuple[str, str, Callable[[], Iterator[Check]]]] = [
            ("The substrate", "four switches and the links between them are found", self.substrate),
            (
                "Two networks from two XML files",
                "hosts reach all others of their network and none of the other, though addresses are equal",
                self.create,
            ),
            ("An endpoint is added", "it joins its network; no other host loses a packet", self.add),
            ("A host moves", "its endpoint follows; no other host loses a packet", self.move),
            self._disturbance(),
            (
                "The controller is killed and restarted",
                "forwarding continues: no packet is lost",
                self.restart,
            ),
            ("Both networks are removed", "no rule is left in any switch", self.remove),
        ]
        began = time.monotonic()
        self.screen.title("libnetvirt", f"Isolated virtual networks on {self.stage.title}.")
        for number, (title, promise, play) in enumerate(acts, 1):
            self.screen.act(number, title, promise)
            if not self._play(title, play):
                break
            if number < len(acts):
                self.screen.pause()
        self._sum_up(time.monotonic() - began)
        return not self.broken

    def _disturbance(self) -> tuple[str, str, Callable[[], Iterator[Check]]]:
        """The fifth act: title, promise and method."""
        if self.stage.reroutes:
            promise = "traffic is rerouted within {:g} s, and no packet is lost when the link returns"
            return "A link is cut", promise.format(REROUTE), self.cut
        promise = "forwarding continues; a change waits, and completes when it is back"
        return "The process that compiles rules is killed", promise, self.pause

    def _play(self, title: str, play: Callable[[], Iterator[Check]]) -> bool:
        """Play one act. Returns whether the next one can follow."""
        try:
            for check in play():
                self.screen.check(check.kept, check.text)
                if check.kept:
                    self.kept += 1
                else:
                    self.broken.append(f"{title}: {check.text}")
        except Exception as error:
            self.screen.check(False, f"{type(error).__name__}: {error}")
            self.broken.append(f"{title}: {type(error).__name__}: {error}")
            return False
        return True

    def _sum_up(self, seconds: float) -> None:
        self.screen.console.print()
        if self.broken:
            self.screen.check(False, f"{len(self.broken)} promise(s) broken in {seconds:.0f} s:")
            for text in self.broken:
                self.screen.console.print(Text(f"    {text}", "red"))
        else:
            self.screen.check(True, f"all {self.kept} promises kept in {seconds:.0f} s")

    # -- the acts -----------------------------------------------------------------------------------

    def substrate(self) -> Iterator[Check]:
        self.stage.open()
        seen = self.stage.connection.substrate()
        self.screen.say(self.stage.picture)
        switches = {s.id for s in seen.switches if s.connected}
        links = {(link.source, link.destination) for link in seen.links if link.up}
        yield Check(switches == set(SWITCHES), f"{len(switches)} switches are connected")
        both = {*self.stage.links, *((b, a) for a, b in self.stage.links)}
        yield Check(links == both, f"{len(links)} links, counted in each direction, are found")

    def create(self) -> Iterator[Check]:
        for name in ("blue", "red"):
            file = EXAMPLES / f"{name}.xml"
            self.screen.code(f"conn.create('examples/{file.name}')")
            began = time.monotonic()
            network = self._connection.create(file)
            took = time.monotonic() - began
            state = network.state()
            count = len(state.endpoints)
            yield Check(
                state.state is State.ACTIVE,
                f"{name}: {count} endpoints, {state.state} after {took * 1000:.0f} ms",
            )
        self.screen.table(
            ["host", "network", "switch", "port", "tag", "MAC", "address"],
            [
                (h.name, h.network, h.switch, h.port, str(h.vlan or "-"), h.mac, h.address)
                for h in self.stage.hosts.values()
            ],
        )
        self.screen.say("b4 is plugged in, but belongs to no network yet.")
        yield from self._matrix()

    def add(self) -> Iterator[Check]:
        blue = self._connection.lookup("blue")
        new = Endpoint(uuid="4", switch="4", port="1")
        self.screen.code("blue.add_endpoint(uuid='4', switch='4', port='1')")
        with self.stage.pinging(("b1", "b2"), ("r1", "r4")) as running:
            blue.add_endpoint(new)
        self.members["blue"].append("b4")
        yield from self._unharmed(running)
        yield from self._matrix()

    def move(self) -> Iterator[Check]:
        red = self._connection.lookup("red")
        self.screen.say("r3's cable goes from port 2 of switch 3 to port 2 of switch 2.")
        # Not under pings: what a switch loses while it gets a new port is none of the endpoint's doing.
        self.stage.replug("r3", "2", "2")
        self._until(lambda: self._has_port("2", "2"), "port 2 of switch 2 is seen")
        self.screen.code("red.modify_endpoint('3', switch='2', port='2')")
        with self.stage.pinging(("b1", "b3"), ("r1", "r2")) as running:
            red.modify_endpoint("3", switch="2", port="2")
        yield from self._unharmed(running)
        yield from self._matrix()

    def cut(self) -> Iterator[Check]:
        blue = self._connection.lookup("blue")
        before = self._path("1", "3")
        a, b = next(pairwise(before))
        self.screen.say(f"b1 reaches b3 by switches {_arrows(before)}. The link {a}-{b} is cut.")
        with self.stage.pinging(("b1", "b3")) as running:
            self.stage.cut_link(a, b)
            self._until(lambda: not _uses(self._path("1", "3"), a, b), "the path moves off the link")
            time.sleep(REROUTE)
        after = self._path("1", "3")
        yield Check(bool(after) and not _uses(after, a, b), f"the new path is {_arrows(after)}")
        yield from self._rerouted(running)
        yield Check(blue.state().state is State.ACTIVE, f"blue is {blue.state().state}")
        self.screen.say(f"The link {a}-{b} is restored.")
        with self.stage.pinging(("b1", "b3"), ("r1", "r4")) as running:
            self.stage.restore_link(a, b)
            self._until(lambda: self._whole(), "the link is found again")
            time.sleep(0.5)
        yield from self._unharmed(running)

    def pause(self) -> Iterator[Check]:
        with self.stage.pinging(("b1", "b3"), ("r1", "r4")) as running, ThreadPoolExecutor(1) as pool:
            self.stage.stop_control()
            self.screen.code("conn.lookup('blue').add_endpoint(uuid='5', switch='3', port='1', vlan=30)")
            blue = self._connection.lookup("blue")
            asked = pool.submit(blue.add_endpoint, uuid="5", switch="3", port="1", vlan=30)
            time.sleep(0.5)
            yield Check(not asked.done(), "the change waits")
            self.stage.start_control()
            asked.result(TIMEOUT)
        yield from self._unharmed(running)
        yield Check(blue.state().state is State.ACTIVE, f"the change is done, blue is {blue.state().state}")
        blue.remove_endpoint("5")

    def restart(self) -> Iterator[Check]:
        before = self._connection.descriptions()
        if self.stage.restart_note:
            self.screen.say(self.stage.restart_note)
        with self.stage.pinging(("b1", "b3"), ("r1", "r4"), ("b2", "b4")) as running:
            self.stage.kill_controller()
            time.sleep(0.5)
            self.stage.start_controller()
            time.sleep(0.5)
        yield from self._unharmed(running)
        yield Check(
            self._connection.descriptions() == before,
            f"the new controller has {' and '.join(n.name for n in before)} as before",
        )
        yield from self._matrix()

    def remove(self) -> Iterator[Check]:
        before = self.stage.rules()
        for name in ("blue", "red"):
            self.screen.code(f"conn.lookup('{name}').remove()")
            self._connection.lookup(name).remove()
            self.members[name] = []
        after = self.stage.rules()
        yield Check(bool(before), f"before: {_counted(before)}")
        yield Check(not after, f"after: {_counted(after)}")
        for line in after[:5]:
            self.screen.say(f"  {line}")
        yield Check(not self._connection.networks(), "the driver lists no network")
        yield from self._matrix(brief=True)

    # -- what the acts share ------------------------------------------------------------------------

    def _show(self, command: str) -> None:
        self.screen.code(command, "python" if command.startswith("conn") else "bash")

    @property
    def _connection(self) -> Connection:
        return self.stage.connection

    def _matrix(self, *, brief: bool = False) -> Iterator[Check]:
        """Ping every address from every host, and check where the requests arrive."""
        names = [host.name for host in HOSTS]
        reached = {name: self.stage.reach(name) for name in names}
        cells, faults = {}, []
        inside = 0
        for source in names:
            for destination in names:
                if source != destination:
                    wanted = self._together(source, destination)
                    got, fault = self._verdict(reached[source], source, destination, wanted)
                    cells[source, destination] = got
                    inside += wanted
                    if fault:
                        faults.append(fault)
        if not brief:
            self.screen.matrix(names, cells, _LEGEND)
        across = len(names) * (len(names) - 1) - inside
        missing = [f for f in faults if f.startswith("no ")]
        if inside:
            text = f"inside: {inside} of {inside} pairs reach each other"
            yield Check(not missing, text if not missing else f"inside: {'; '.join(missing)}")
        leaks = [f for f in faults if f not in missing]
        text = f"across: 0 of {across} pairs"
        yield Check(not leaks, text if not leaks else f"across: {'; '.join(leaks)}")

    def _together(self, a: str, b: str) -> bool:
        return any(a in members and b in members for members in self.members.values())

    def _verdict(self, reach: Reach, source: str, destination: str, wanted: bool) -> tuple[Text, str]:
        count = reach.arrived.get(destination, 0)
        host = self.stage.hosts[destination]
        if wanted and count == 1 and host.address in reach.answered:
            return Text("●", _COLOURS[host.network]), ""
        if not wanted and count == 0:
            return Text("·", "dim"), ""
        if wanted and count <= 1:
            what = "answer" if count else "packet"
            return Text("✗", "bold red"), f"no {what} from {source} to {destination}"
        return Text("✗", "bold red"), f"{count} packets of {source} reached {destination}"

    def _unharmed(self, running: list[Pings]) -> Iterator[Check]:
        for pings in running:
            yield Check(
                pings.lost == 0 and pings.sent > 0,
                f"{pings.source} → {pings.destination}: {pings.lost} of {pings.sent} packets lost meanwhile",
            )

    def _rerouted(self, running: list[Pings]) -> Iterator[Check]:
        for pings in running:
            yield Check(
                pings.silence < REROUTE and pings.lost < pings.sent,
                f"{pings.source} → {pings.destination}: {pings.lost} of {pings.sent} packets lost, "
                f"at 100 packets/s; longest silence {pings.silence * 1000:.0f} ms",
            )

    def _path(self, source: str, destination: str) -> list[str]:
        """The switches on the path between two endpoints of blue."""
        found: list[NetworkPath] = [
            path
            for path in self._connection.lookup("blue").paths()
            if (path.source, path.destination) == (source, destination)
        ]
        return [hop.switch for path in found for hop in path.hops]

    def _has_port(self, switch: str, port: str) -> bool:
        return any(
            s.id == switch and any(p.word == port and p.up for p in s.ports)
            for s in self._connection.substrate().switches
        )

    def _whole(self) -> bool:
        up = {(link.source, link.destination) for link in self._connection.substrate().links if link.up}
        return all((a, b) in up and (b, a) in up for a, b in self.stage.links)

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            if time.monotonic() > deadline:
                raise BrokenPromise(f"not within {TIMEOUT:g} s: {what}")
            time.sleep(0.02)


def _arrows(switches: list[str]) -> str:
    return " → ".join(switches) or "none"


def _uses(switches: list[str], a: str, b: str) -> bool:
    return (a, b) in pairwise(switches) or (b, a) in pairwise(switches)


def _counted(lines: Sequence[str]) -> str:
    """Such as ``3 groups, 12 rules``, for lines that begin with ``group`` and ``rule``."""
    kinds = Counter(line.split()[0] for line in lines)
    return ", ".join(f"{count} {kind}s" for kind, count in sorted(kinds.items())) or "0 rules"
