"""Random L2 networks and frames: the bridge of the Linux kernel judges what the oracle says."""

from __future__ import annotations

import itertools
import random
import struct
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple, Self

from libnetvirt import Endpoint, VirtualNetwork
from libnetvirt.conformance.support import frames
from libnetvirt.semantics import DropReason, LearnedState, Outcome, forward
from libnetvirt.semantics.bridge import bridge
from libnetvirt.semantics.outcome import PortFrame
from tests.support.judge.kernel import KernelNode, Left

SETTINGS = {
    "ipv6/conf/default/disable_ipv6": "1",
    # A bridge that hands its frames to the firewall drops IP packets that are not well-formed.
    "bridge/bridge-nf-call-iptables": "0",
    "bridge/bridge-nf-call-ip6tables": "0",
    "bridge/bridge-nf-call-arptables": "0",
}
BRIDGE = "link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0 ageing_time 100000"
#: IEEE 802.1Q-2018, table 8-1: frames to these are for the bridge itself. A Linux bridge without a spanning
#: tree forwards those of the first one.
RESERVED = tuple(f"01:80:c2:00:00:{last}" for last in ("02", "03", "0e"))
GROUPS = frames.BROADCAST, "01:00:5e:00:00:fb", "33:33:00:00:00:fb", "01:80:c2:00:00:00", "01:80:c2:00:00:21"
FENCE = "02:fe:00:00:00"
PLACES = tuple((switch, port, vlan) for switch in (1, 2) for port in (1, 2) for vlan in (None, 10, 20))
TAGS = (0x8100, 5), (0x88A8, 6), (0x8100, 0)


class Exchange(NamedTuple):
    """A frame that entered at an endpoint, the state before it, and what the oracle said."""

    network: VirtualNetwork
    endpoint: Endpoint
    before: LearnedState
    frame: bytes
    outcome: Outcome

    def forwarded(self) -> list[Left]:
        """What the network would do with the frame if it did not look at what it drops it for."""
        tables = self.before.network(self.network.uuid)
        outputs, _, _ = bridge(self.network, self.endpoint, tables, 0, self.frame)
        return [(int(uuid), frame) for uuid, frame in outputs]

    def bare(self, outputs: tuple[PortFrame, ...]) -> list[Left]:
        """Frames at ports of the kernel's bridge: an endpoint each, without the endpoint's tag."""
        return [_bare(self.network, output) for output in outputs]


def nested_tags(x: Exchange, expected: list[Left]) -> list[Left]:
    """The kernel forwards a frame with a tag that is none of the bridge's; a network drops it (or forwards
    it, where a switch cannot see that tag: then exactly as the kernel does)."""
    if x.outcome.drop is not DropReason.NESTED_TAG:
        return expected
    tolerated = x.bare(x.outcome.tolerated)
    assert Counter(tolerated) == Counter(x.forwarded())
    return tolerated


def declared_elsewhere(x: Exchange, expected: list[Left]) -> list[Left]:
    """The kernel forwards a frame from an address that is static at another port; a network drops it, so that
    nobody can speak for a declared host."""
    return x.forwarded() if x.outcome.drop is DropReason.DECLARED_ELSEWHERE else expected


def reserved_groups(x: Exchange, expected: list[Left]) -> list[Left]:
    """The kernel forwards no frame to a reserved address (IEEE 802.1Q-2018 8.6.3); a network forwards all, as
    a wire does, so that hosts can run LLDP, LACP and 802.1X between them."""
    return [] if x.frame[:6].hex(":") in RESERVED else expected


#: what the kernel does differently, in order: each turns what was expected so far into what is expected of it
DIFFERENCES = (nested_tags, declared_elsewhere, reserved_groups)


def _bare(network: VirtualNetwork, output: PortFrame) -> Left:
    """The endpoint at which a frame leaves, as a number, and the frame without the endpoint's tag."""
    switch, port, frame = output
    tpid, tci = struct.unpack_from("!HH", frame, 12) if len(frame) >= 16 else (0, 0)
    at_port = {e.vlan: e for e in network.endpoints if (e.switch, e.port) == (switch, port)}
    # A frame of an endpoint without a tag may have a tag only if it came with one of its own.
    if tpid == frames.VLAN and tci in at_port:
        return int(at_port[tci].uuid), frame[:12] + frame[16:]
    return int(at_port[None].uuid), frame


class BridgeTrial:
    """One network and one kernel bridge, reproducible by the seed. A context manager.

    Each endpoint is a port of the bridge. The tags of endpoints are put on and taken off here, as not every
    kernel has VLAN filtering.
    """

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.used: Counter[str] = Counter()
        self.exchanges = 0
        self._fences = itertools.count(1)
        self._learned = LearnedState()
        self.macs = [frames.mac(n) for n in range(1, 7)]
        size = self.chance.randint(2, 5)
        self._declared = frames.mac(0xD)
        self.network = VirtualNetwork(
            uuid=7,
            name="judged",
            endpoints=tuple(
                Endpoint(
                    uuid=n, switch=s, port=p, vlan=vlan, mac=self._declared if n == 1 and seed % 2 else ()
                )
                for n, (s, p, vlan) in enumerate(self.chance.sample(PLACES, size), 1)
            ),
        )

    def __enter__(self) -> Self:
        ports = [int(e.uuid) for e in self.network.endpoints]
        commands = [BRIDGE, "link set br0 up", *(f"link set p{n} master br0 up" for n in ports)]
        static = [
            f"{mac} dev p{e.uuid} master static sticky" for e in self.network.endpoints for mac in e.mac
        ]
        self._kernel = KernelNode({n: f"02:ff:00:00:00:{n:02x}" for n in ports}, SETTINGS, {}, commands)
        self._kernel.__enter__()
        try:
            self._kernel.inside(
                ["bridge", "-batch", "-"], "\n".join(f"fdb replace {line}" for line in static)
            )
            for number in ports:
                self._kernel.await_passage(number, *self._fence(number))
        except BaseException:
            self._kernel.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._kernel.__exit__()

    def run(self, steps: int) -> None:
        """Exchange random frames; AssertionError when kernel and oracle differ in a way that has no name."""
        for _ in range(steps):
            endpoint = self.chance.choice(self.network.endpoints)
            self.exchange(endpoint, self._frame(endpoint))

    def exchange(self, endpoint: Endpoint, frame: bytes) -> None:
        """Send a frame into kernel and oracle, and compare what comes out."""
        tags = () if endpoint.own_vlan is None else (frames.tag(endpoint.own_vlan),)
        entering = frames.tagged(frame, *tags)
        outcome = forward([self.network], self._learned, endpoint.switch, endpoint.port, entering)
        x = Exchange(self.network, endpoint, self._learned, frame, outcome)
        expected = x.bare(outcome.outputs)
        for difference in DIFFERENCES:
            found = difference(x, expected)
            self.used[difference.__name__] += Counter(found) != Counter(expected)
            expected = found
        number = int(endpoint.uuid)
        left = self._kernel.exchange(number, frame, *self._fence(number))
        left = [item for item in left if not item[1][6:12].hex(":").startswith(FENCE)]
        assert Counter(left) == Counter(expected), (
            f"after {self.exchanges} frames, into port {number}: {frames.described(frame)}\n"
            f"kernel: {_listed(left)}\nexpected: {_listed(expected)}\noracle: {outcome.drop}"
        )
        self._learned = outcome.learned
        self.exchanges += 1

    def _fence(self, number: int) -> tuple[bytes, Callable[[Left], bool]]:
        """A broadcast of a host that nobody else is, and whether it has left at all other ports."""
        fence = frames.marked(f"{FENCE}:{number:02x}", frames.BROADCAST, b"fence %d" % next(self._fences))
        awaited = {int(e.uuid) for e in self.network.endpoints} - {number}

        def passed(left: Left) -> bool:
            if left[1] == fence:
                awaited.discard(left[0])
            return left[1] == fence and not awaited

        return fence, passed

    def _frame(self, endpoint: Endpoint) -> bytes:
        choose = self.chance.choice
        sources = [*self.macs * 3, "03:00:00:00:00:01", "00:00:00:00:00:00"]
        if any(e.mac for e in self.network.endpoints):
            sources += [self._declared] * 3
        source = choose(sources)
        known = self._learned.network(self.network.uuid).hosts
        home = known.get(frames.mac_bytes(source))
        destination = choose((*self.macs * 2, *GROUPS, *RESERVED, self._declared, frames.mac(0xFFFF)))
        kind, size = choose((frames.EXPERIMENT, frames.IPV4, frames.LLDP, 0x0003)), choose((2, 20, 46, 1400))
        body = self.chance.getrandbits(8 * size).to_bytes(size, "big")
        frame = frames.ethernet(source, destination, kind, body, pad=False)
        # The kernel learns from a frame that the network drops: so it comes from where its source is known.
        if home == endpoint.uuid and endpoint.vlan is not None and self.chance.random() < 0.3:
            tpid, vlan = choose(TAGS)
            return frames.tagged(frame, frames.tag(vlan, tpid=tpid))
        return frame


def _listed(left: list[Left]) -> str:
    return (
        "".join(f"\n  port {port}: {frames.described(frame)}" for port, frame in sorted(left)) or " nothing"
    )
