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
# The most set-ups of a trial. The upper bits of a frame's number are the trial's.
_TRIAL = 1 << 24
# The ethertype and the IP header up to the addresses; the UDP header and the payload up to the number.
_IP = bytes.fromhex("08004500002e0000000040110000")
_UDP = bytes.fromhex("04d2162e001a0000") + bytes(14)


class Host(NamedTuple):
    """A host. Its MAC and IP addresses are derived from its number. Several hosts may share a port, which is
    the ``endpoint`` with this number, counted over all switches."""

    number: int
    dpid: int
    port: int
    endpoint: int

    @property
    def mac(self) -> bytes:
        """Its MAC address."""
        return b"\x02\0" + (self.number + 1).to_bytes(4)

    @property
    def address(self) -> bytes:
        """Its IP address."""
        return b"\x0a" + (self.number + 1).to_bytes(3)


def groups_of(hosts: list[Host], networks: int) -> dict[tuple[int, int], list[Host]]:
    """(switch, network) -> hosts. Endpoint n belongs to network n mod ``networks``."""
    groups: dict[tuple[int, int], list[Host]] = {}
    for host in hosts:
        groups.setdefault((host.dpid, host.endpoint % networks), []).append(host)
    return groups


def greeted(group: list[Host]) -> list[Host]:
    """The hosts of a group that `introductions` sends to: the first, and one at another port for the hosts at
    the port of the first."""
    first = group[0]
    shared = any(h.endpoint == first.endpoint for h in group[1:])
    others = [h for h in group if h.endpoint != first.endpoint] if shared else []
    return [first, *others[:1]]


def partners(hosts: list[Host], networks: int, reach: int) -> list[tuple[Host, list[int]]]:
    """Each host that can send, with the numbers of those it can send to: the hosts of its network at other
    ports, ``reach`` switches away.

    The `greeted` hosts of each group are not among them, because `introductions` has used them.
    """
    targets = {}
    for key, group in groups_of(hosts, networks).items():
        known = set(greeted(group))
        targets[key] = [h for h in group if h not in known]
    # Hosts at one port share a list.
    others: dict[tuple[int, int], list[int]] = {}
    found = []
    for host in hosts:
        if (own := others.get((host.endpoint, host.dpid))) is None:
            group = targets.get((host.dpid + reach, host.endpoint % networks), [])
            own = [h.number for h in group if h.endpoint != host.endpoint]
            others[host.endpoint, host.dpid] = own
        if own:
            found.append((host, own))
    return found


def pairs(hosts: list[Host], networks: int, reach: int) -> Iterator[tuple[int, int]]:
    """Pairs of hosts (source, destination) that are `partners`, each once, rotating the sources, so that all
    ports send equally many."""
    work = [(h.number, h.number // networks, others) for h, others in partners(hosts, networks, reach)]
    for turn in range(max((len(others) for *_, others in work), default=0)):
        for number, start, others in work:
            if turn < len(others):
                # Each source has its own order, so that not all of them use the same destination at once.
                yield number, others[(start + turn) % len(others)]


def introductions(
    hosts: list[Host], networks: int, reach: int
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The pairs of frames by which the controller learns all hosts: broadcasts, then unicasts.

    The first host of each group sends a broadcast to its network. Then every other host sends to the first
    host of the group whose hosts will send to it, or to another one if it shares the port of the first.
    """
    groups = groups_of(hosts, networks)
    everybody = []
    members: dict[int, list[Host]] = {}
    for host in hosts:
        members.setdefault(host.endpoint % networks, []).append(host)
    for (_, network), group in groups.items():
        other = next((h for h in members[network] if h.endpoint != group[0].endpoint), None)
        if other is not None:
            everybody.append((group[0].number, other.number))
    single = []
    for (dpid, network), group in groups.items():
        others = greeted(groups.get((dpid - reach, network)) or groups.get((dpid + reach, network)) or group)
        for host in group[1:]:
            to = next((h for h in others if h.endpoint != host.endpoint), None)
            if to is not None:
                single.append((host.number, to.number))
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
        self._macs = [h.mac for h in hosts]
        self._addresses = [h.address for h in hosts]
        self._ready: list[tuple[Switch, bytes]] = []
        self._next = 0
        #: the number of the first frame of the trial
        self.base = 0
        #: the frames that have come out, wherever
        self.out = 0
        self._chosen: list[tuple[int, int]] = []
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
        heads = [self._switches[h.dpid].head(h.port) for h in self.hosts]
        macs, addresses = self._macs, self._addresses
        switches = [self._switches[h.dpid] for h in self.hosts]
        places, ready, expected = self._places, [], []
        self._chosen = list(itertools.islice(work, count))
        # A late frame of an earlier trial is none of this one.
        self.base = (self.base + _TRIAL) & 0xFFFFFFFF
        for number, (source, target) in enumerate(self._chosen, self.base):
            mac = BROADCAST if broadcast else macs[target]
            front = heads[source] + mac + macs[source] + _IP + addresses[source] + addresses[target]
            ready.append((switches[source], front + _UDP + number.to_bytes(4)))
            expected.append(places[target])
        self._ready, self._expected = ready, expected
        self._started = [0.0] * len(ready)
        self._next = 0
        self.latencies = []
        self.strays = self.twice = 0
        self.first = self.last = time.perf_counter()

    @property
    def outstanding(self) -> int:
        """Set-ups begun and not complete."""
        return self._next - len(self.latencies)

    @property
    def unused(self) -> list[tuple[int, int]]:
        """The pairs that were prepared and not begun."""
        return self._chosen[self._next :]

    @property
    def used_up(self) -> bool:
        """Whether all prepared set-ups were begun, so that the trial may have ended before its time."""
        return self._next >= len(self._started)

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
        self.out += 1
        number -= self.base
        if not 0 <= number < len(self._expected):
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


def frame(mac: bytes, source: Host, target: Host, number: int) -> bytes:
    """The frame of a host, FRAME_LENGTH bytes: UDP over IPv4, with its number at the end."""
    return mac + source.mac + _IP + source.address + target.address + _UDP + number.to_bytes(4)
