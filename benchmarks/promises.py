"""``python -m benchmarks.promises [--report]``: bandwidth limits and guarantees between real hosts.

Three Open vSwitch bridges form a ring in a new network namespace. The kernel shapes each link to 100 Mbit/s,
which is also the capacity configured in the driver. iperf3 sends, and the traffic that arrives is measured.
Takes less than two minutes and needs root. ``--report`` writes the table into docs/qos.md. The exit status is
1 if a figure does not hold. *unread* counts the frames that Open vSwitch did not read in time because the
machine was busy. They are lost before any rule matches them, and still count as lost in the figures.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.workers import ROOT
from labs.daemons import eventually
from libnetvirt import Endpoint, Network, Rules, VirtualNetwork
from tests.support.lab import private_network_namespace, why_not
from tests.support.lab.linux_hosts import PROGRAMS, LinuxHost
from tests.support.lab.socket_overruns import unread
from tests.support.lab.traffic import Flow, run
from tests.support.openflow_harness import OpenFlow

PAGE = ROOT / "docs" / "qos.md"
BEGIN, END = "<!-- measured: begin (written by make bench-promises) -->", "<!-- measured: end -->"
COMMAND = "make bench-promises"
MBIT = 1_000_000
#: The capacity of each link, and the rest for other traffic when 50 of the reservable 95 Mbit/s are reserved.
LINK, REST = 100 * MBIT, 45 * MBIT
SECONDS = 5.0
CAPACITIES = f'capacity = "{LINK // MBIT} Mbit/s"\n'
SHAPED = ("tbf", "rate", f"{LINK // MBIT}mbit", "burst", "128kb", "latency", "50ms")
#: Seconds for which switches may still forward by cached rules.
CACHED = 1.5
PAIRS, FIRST_PORT = 3, 21


@dataclass(frozen=True)
class Figure:
    """The received rate of one flow in bit/s, and its bounds."""

    scene: str
    what: str
    bar: str
    sent: float
    got: float
    least: float
    most: float
    #: Frames of all flows of the scene that Open vSwitch did not read in time.
    unread: int = 0

    @property
    def holds(self) -> bool:
        """Whether the received rate is within the bounds."""
        return self.least <= self.got <= self.most


@dataclass
class Expected:
    """A flow of a scene, and the share of ``figure`` (bit/s) that has to arrive: at least, at most."""

    flow: Flow
    what: str
    figure: int
    least: float
    most: float = 1.05

    def measured(self, scene: str, lost: int) -> Figure:
        """The result after the flow has ended. ``lost``: unread frames of the scene."""
        bar = f"{self.least:.0%} to {self.most:.0%}" if self.least else f"at most {self.most:.0%}"
        due = self.flow.due(self.figure) if self.flow.rate is not None else self.figure
        return Figure(
            scene, self.what, f"{bar} of {self.figure // MBIT} Mbit/s", self.flow.sent, self.flow.arrived,
            self.least * due, self.most * self.figure, lost,
        )  # fmt: skip


@dataclass
class Site:
    """The switches, and the hosts: pairs at switches 1 and 2, each in its own network."""

    stack: ExitStack
    harness: OpenFlow
    hosts: dict[tuple[int, int], LinuxHost] = field(default_factory=dict)
    networks: list[Network] = field(default_factory=list)

    @classmethod
    def build(cls, stack: ExitStack) -> Site:
        """Start the switches, the driver and the hosts."""
        private_network_namespace()
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="netvirt-promises-")))
        file = directory / "capacities.toml"
        file.write_text(CAPACITIES)
        harness = OpenFlow(3, [(1, 2), (2, 3), (3, 1)], hosts=0, options=f"&capacities={file}")
        site = cls(stack, stack.enter_context(harness))
        for link in harness.lab.link_ports:
            name = harness.lab.interface(*link)
            subprocess.run(["tc", "qdisc", "add", "dev", name, "root", *SHAPED], check=True)
        for number in range(PAIRS):
            for switch in (1, 2):
                address = (f"10.0.{number}.{switch}/24",)
                site.plug(switch, FIRST_PORT + number, (number, switch), address, ())
        return site

    def plug(
        self, switch: int, port: int, name: tuple[int, int], addresses: Sequence[str], gateways: Sequence[str]
    ) -> None:
        """Connect another host."""
        host = LinuxHost(self.harness.lab, switch, port, addresses, gateways, mtu=1480)
        self.hosts[name] = self.stack.enter_context(host)

        def there() -> bool:
            switches = self.harness.connection.substrate().switches
            return any(s.id == str(switch) and p.number == port and p.up for s in switches for p in s.ports)

        eventually(there, f"port {port} of switch {switch} is up")

    def connect(self, rules: Rules | None, *limits: dict[str, str]) -> list[Network]:
        """Replace all networks by one for each pair. ``limits``: of the endpoints of the first one."""
        self.clear()
        for number in range(PAIRS):
            given = limits if number == 0 and limits else ({}, {})
            ends = [
                endpoint(n, switch=n, port=FIRST_PORT + number, **({"bandwidth": limit} if limit else {}))
                for n, limit in enumerate(given, 1)
            ]
            network = VirtualNetwork(name=f"pair-{number}", endpoints=tuple(ends), rules=rules)
            self.networks.append(self.harness.connection.create(network))
            self.greet((number, 1), f"10.0.{number}.2")
        return self.networks

    def greet(self, name: tuple[int, int], address: str) -> None:
        """Ping an address from a host, so that both hosts are learned. Raises RuntimeError if it fails."""
        answer = self.hosts[name].run("ping", "-c", "2", "-i", "0.2", "-W", "5", address)
        if "2 received" not in answer:
            raise RuntimeError(f"no answer from {address}: {answer[-500:]}")

    def clear(self) -> None:
        """Remove all networks."""
        for network in self.networks:
            network.remove()
        self.networks.clear()

    def flow(self, number: int, rate: int | None, back: bool = False, streams: int = 1) -> Flow:
        """A flow between the hosts of a pair, or ``back``."""
        source, target = (2, 1) if back else (1, 2)
        address = f"10.0.{number}.{target}"
        return Flow(self.hosts[number, source], self.hosts[number, target], address, rate, streams)

    def reserved(self) -> dict[tuple[str, str], int]:
        """The reserved Mbit/s of each link that has a reservation."""
        links = self.harness.connection.substrate().links
        return {(k.source, k.destination): k.reserved // MBIT for k in links if k.reserved}


def endpoint(uuid: int, **fields: Any) -> Endpoint:
    """An endpoint from its fields."""
    return Endpoint.model_validate({"uuid": uuid, **fields})


def shared_link(site: Site, encapsulation: str) -> Iterator[Figure]:
    """Two guarantees and a flood on one link, and again after that link has failed."""
    first, second, _ = site.connect(Rules.model_validate({"encapsulation": encapsulation}))
    first.add_constraint(source=1, destination=2, min_bandwidth="30 Mbit/s")
    second.add_constraint(source=1, destination=2, min_bandwidth="20 Mbit/s")

    def expected() -> list[Expected]:
        return [
            Expected(site.flow(0, 30 * MBIT), "UDP, guaranteed 30, sends 30", 30 * MBIT, 0.95),
            Expected(site.flow(1, 80 * MBIT), "UDP, guaranteed 20, sends 80", 20 * MBIT, 0.95),
            Expected(site.flow(2, 120 * MBIT), "UDP, best effort, sends 120", REST, 0.8),
        ]

    yield from _scene(f"100 Mbit/s link, {encapsulation}", expected())
    site.harness.lab.cut_link(1, 2)
    try:
        eventually(lambda: ("1", "3") in site.reserved(), "the paths avoid the link")
        time.sleep(CACHED)
        yield from _scene(f"after the link failed, {encapsulation}", expected())
    finally:
        site.harness.lab.restore_link(1, 2)
        eventually(lambda: len(site.harness.connection.substrate().links) == 6, "the link is up again")


def tcp(site: Site) -> Iterator[Figure]:
    """TCP with a promise in a flood; the other direction has neither promise nor limit."""
    first, second, _ = site.connect(None)
    first.add_constraint(source=1, destination=2, min_bandwidth="30 Mbit/s")
    second.add_constraint(source=1, destination=2, min_bandwidth="20 Mbit/s")
    flows = [
        Expected(site.flow(0, None, streams=2), "TCP, guaranteed 30", 30 * MBIT, 0.8),
        Expected(site.flow(2, 120 * MBIT), "UDP, best effort, sends 120", REST, 0.8),
        Expected(site.flow(1, 10 * MBIT, back=True), "UDP, reverse direction, sends 10", 10 * MBIT, 0.8),
    ]
    yield from _scene("100 Mbit/s link, vlan", flows)


def maximum(site: Site) -> Iterator[Figure]:
    """A maximum bandwidth, for UDP and for TCP."""
    first, *_ = site.connect(None)
    first.add_constraint(source=1, destination=2, max_bandwidth="15 Mbit/s")
    for rate, what, least in ((60 * MBIT, "UDP, sends 60", 0.95), (None, "TCP", 0.8)):
        yield from _scene("max-bandwidth 15", [Expected(site.flow(0, rate), what, 15 * MBIT, least)])


def limits(site: Site) -> Iterator[Figure]:
    """Bandwidth limits of endpoints: one inbound, one outbound."""
    site.connect(None, {"inbound": "40 Mbit/s"}, {"outbound": "20 Mbit/s", "inbound": "10 Mbit/s"})
    flows = [
        Expected(site.flow(0, 80 * MBIT), "UDP, sends 80", 20 * MBIT, 0.95),
        Expected(site.flow(0, 80 * MBIT, back=True), "UDP, reverse direction, sends 80", 10 * MBIT, 0.95),
    ]
    yield from _scene("endpoint limits: 20 forward, 10 reverse", flows)
    yield from _scene("the same", [Expected(site.flow(0, None), "TCP", 20 * MBIT, 0.8)])


def router(site: Site) -> Iterator[Figure]:
    """A network that is one router: three endpoints send to a fourth."""
    site.clear()
    places = [(1, 31), (1, 32), (1, 33), (2, 31)]
    for n, place in enumerate(places, 1):
        site.plug(*place, (100, n), (f"10.9.{n}.1/24",), (f"10.9.{n}.254",))
    ends = [endpoint(n, switch=s, port=p, address=[f"10.9.{n}.254/24"]) for n, (s, p) in enumerate(places, 1)]
    network = VirtualNetwork.model_validate({"name": "router", "forwarding": "L3", "endpoints": ends})
    site.networks.append(site.harness.connection.create(network))
    (made,) = site.networks
    for n in (1, 2, 3):
        site.greet((100, n), "10.9.4.1")
    made.add_constraint(source=1, destination=4, min_bandwidth="30 Mbit/s")
    made.add_constraint(source=2, destination=4, max_bandwidth="15 Mbit/s")

    def flow(n: int, rate: int) -> Flow:
        return Flow(site.hosts[100, n], site.hosts[100, 4], "10.9.4.1", rate)

    flows = [
        Expected(flow(1, 30 * MBIT), "UDP, guaranteed 30, sends 30", 30 * MBIT, 0.95),
        Expected(flow(2, 60 * MBIT), "UDP, max-bandwidth 15, sends 60", 15 * MBIT, 0.0),
        Expected(flow(3, 120 * MBIT), "UDP, best effort, sends 120", 65 * MBIT, 0.6),
    ]
    yield from _scene("100 Mbit/s link, L3 network", flows)


def _scene(scene: str, expected: Sequence[Expected]) -> Iterator[Figure]:
    before = unread()
    run([one.flow for one in expected], SECONDS)
    lost = unread() - before
    for one in expected:
        yield one.measured(scene, lost)


SCENES: tuple[Callable[[Site], Iterator[Figure]], ...] = (
    lambda site: shared_link(site, "vlan"),
    lambda site: shared_link(site, "mpls"),
    tcp,
    maximum,
    limits,
    router,
)


def table(figures: Sequence[Figure]) -> Iterator[str]:
    """The figures as a Markdown table, with rates in Mbit/s."""
    yield "| scenario | traffic, Mbit/s | required | sent | received | unread | result |"
    yield "|---|---|---|---|---|---|---|"
    for f in figures:
        verdict = "met" if f.holds else "**not met**"
        rates = f"{f.sent / MBIT:.1f} | {f.got / MBIT:.1f} | {f.unread}"
        yield f"| {f.scene} | {f.what} | {f.bar} | {rates} | {verdict} |"


def write(figures: Sequence[Figure], page: Path = PAGE) -> None:
    """Write the table and the command that produces it into the page. Raises ValueError if the page lacks the
    marks."""
    text = page.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"{page.name} needs the lines {BEGIN!r} and {END!r}, once each")
    facts = machine.facts()
    known = ("cores", "kernel", "Open vSwitch", "load before")
    said = ", ".join(f"{name} {facts[name]}" for name in known)
    lines = ["", "```console", f"# {COMMAND}", "```", "", f"On {time.strftime('%Y-%m-%d')}; {said}.", ""]
    if any(f.unread for f in figures):
        why = "because the machine was busy"
        lines += [f"*Unread* counts frames that Open vSwitch did not read in time {why}.", ""]
    head, tail = text[: text.index(BEGIN)], text[text.index(END) :]
    page.write_text(head + "\n".join([BEGIN, *lines, *table(figures), "", tail]))


def main() -> int:
    """Measure and print; with --report write the page. Returns the exit status."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.promises", description=__doc__)
    options.add_argument("--report", action="store_true", help="write the table into docs/qos.md")
    chosen = options.parse_args()
    missing = [program for program in (*PROGRAMS, "tc", "ss") if not machine.installed(program)]
    reason = why_not() or (f"not installed: {', '.join(missing)} ('make deps-root')" if missing else "")
    if reason:
        sys.stderr.write(f"{options.prog}: {reason}\n")
        return 2
    began, figures = time.monotonic(), list[Figure]()
    with ExitStack() as stack:
        site = Site.build(stack)
        for scene in SCENES:
            for figure in scene(site):
                figures.append(figure)
                sys.stdout.write(f"{[*table([figure])][-1]}\n")
                sys.stdout.flush()
        site.clear()
    broken = sum(not figure.holds for figure in figures)
    sys.stdout.write(f"{time.monotonic() - began:.0f} s; {broken} of {len(figures)} figures are not met\n")
    if chosen.report:
        write(figures)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
