"""The frames of the hosts: the set-ups of a trial and their results.

A **set-up** begins when the first frame between a pair of hosts (source, destination) enters at the source's
port and causes a table miss. It is *complete* when that frame has been sent out at the destination's port.
This definition fits every controller: one that installs rules switch by switch gets a packet-in at each.
A trial is *sound* if, at its end, the switches have received at least one flow-mod for each switch on the
path of each completed set-up.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from benchmarks.fleet.switch import Switch

BROADCAST = bytes.fromhex("ffffffffffff")


class Host(NamedTuple):
    """A host. Its MAC and IP addresses are derived from its number."""

    number: int
    dpid: int
    port: int

    @property
    def mac(self) -> bytes:
        """Its MAC address."""
        return b"\x02\0" + (self.number + 1).to_bytes(4)

    @property
    def address(self) -> bytes:
        """Its IP address."""
        return b"\x0a" + (self.number + 1).to_bytes(3)


def groups_of(hosts: list[Host], networks: int) -> dict[tuple[int, int], list[Host]]:
    """(switch, network) -> hosts. Host n belongs to network n mod ``networks``."""
    groups: dict[tuple[int, int], list[Host]] = {}
    for host in hosts:
        groups.setdefault((host.dpid, host.number % networks), []).append(host)
    return groups


def pairs(hosts: list[Host], networks: int, reach: int) -> Iterator[tuple[int, int]]:
    """Pairs of different hosts of one network, ``reach`` switches apart, each once, rotating the sources.

    The first host of each group is no destination here, because `introductions` uses it as one.
    """
    groups = groups_of(hosts, networks)
    for turn in itertools.count():
        found = False
        for host in hosts:
            others = groups.get((host.dpid + reach, host.number % networks), [])[1:]
            if turn < len(others):
                found = True
                # Each source has its own order, so that not all of them use the same destination at once.
                other = others[(host.number // networks + turn) % len(others)]
                if other != host:
                    yield host.number, other.number
        if not found:
            return


def introductions(
    hosts: list[Host], networks: int, reach: int
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The pairs of frames by which the controller learns all hosts: broadcasts, then unicasts.

    The first host of each group sends a broadcast to its network. Then every other host sends to the first
    host of the group whose hosts will send to it.
    """
    groups = groups_of(hosts, networks)
    everybody = []
    for (_, network), group in groups.items():
        other = next((h for h in hosts if h.number % networks == network and h != group[0]), None)
        if other is not None:
            everybody.append((group[0].number, other.number))
    single = []
    for (dpid, network), group in groups.items():
        first = (groups.get((dpid - reach, network)) or groups.get((dpid + reach, network)) or group)[0]
        single += [(h.number, first.number) for h in group if h != first]
    return everybody, single


def percentile(ordered: list[float], share: float) -> float:
    """A percentile of an ordered list."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


@dataclass(slots=True)
class Load:
    """The load of a trial: at most ``count`` set-ups or ``seconds``, ``window`` of them outstanding."""

    count: int
    seconds: float
    window: int


class Traffic:
    """Sends frames and records where they leave. Frames are built before the trial begins."""

    def __init__(self, hosts: list[Host], switches: dict[int, Switch]) -> None:
        self.hosts = hosts
        self._switches = switches
        self._places = [h.dpid << 32 | h.port for h in hosts]
        self._ready: list[tuple[Switch, bytes]] = []
        self._next = 0
        self._expected: list[int] = []
        self._started: list[float] = []
        self.latencies: list[float] = []
        self.first = self.last = 0.0
        self.strays = 0
        self.twice = 0
        #: Called when all set-ups are complete.
        self.finished: Callable[[], None] = lambda: None

    def begin(self, work: Iterable[tuple[int, int]], count: int, broadcast: bool = False) -> None:
        """Prepare at most ``count`` set-ups. ``broadcast``: with broadcast frames."""
        chosen = list(itertools.islice(work, count))
        self._ready = [self._packet_in(n, *pair, broadcast) for n, pair in enumerate(chosen)]
        self._expected = [self._places[target] for _, target in chosen]
        self._started = [0.0] * len(chosen)
        self._next = 0
        self.latencies = []
        self.strays = self.twice = 0
        self.first = self.last = time.perf_counter()

    @property
    def outstanding(self) -> int:
        """Set-ups begun and not complete."""
        return self._next - len(self.latencies)

    def ask(self, now: float) -> bool:
        """Begin the next set-up at the time ``now``. Returns False if none is left."""
        number = self._next
        if number >= len(self._ready):
            return False
        self._next = number + 1
        self._started[number] = now
        switch, message = self._ready[number]
        switch.say(message)
        return True

    def end(self) -> None:
        """Begin no further set-ups."""
        del self._ready[self._next :]

    def came_out(self, place: int, number: int) -> None:
        """The frame with this number left at a host's port (switch << 32 | port)."""
        if number >= len(self._expected):
            return
        if self._expected[number] != place:
            if self._expected[number] == -1 - place:
                self.twice += 1
            else:
                self.strays += 1
            return
        self.last = now = time.perf_counter()
        self._expected[number] = -1 - place
        self.latencies.append(now - self._started[number])
        if not self.ask(now) and not self.outstanding:
            self.finished()

    def _packet_in(self, number: int, source: int, target: int, broadcast: bool) -> tuple[Switch, bytes]:
        here, there = self.hosts[source], self.hosts[target]
        switch = self._switches[here.dpid]
        mac = BROADCAST if broadcast else there.mac
        return switch, switch.head(here.port) + frame(mac, here, there, number)


def frame(mac: bytes, source: Host, target: Host, number: int) -> bytes:
    """The frame of a host, FRAME_LENGTH bytes: UDP over IPv4, with its number at the end."""
    ip = bytes.fromhex("4500002e0000000040110000") + source.address + target.address
    udp = bytes.fromhex("04d2162e001a0000")
    return mac + source.mac + b"\x08\x00" + ip + udp + bytes(14) + number.to_bytes(4)
