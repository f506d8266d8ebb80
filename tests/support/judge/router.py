"""An L3 network as a router of the Linux kernel, and the comparison of both, frame by frame."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

from libnetvirt import Endpoint, VirtualNetwork
from libnetvirt.conformance.harness import Allowance
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.normalisation import normalise, routers_of
from libnetvirt.semantics import Delivery, LearnedState, forward_at_endpoint, gateway_mac
from tests.support.judge import packets
from tests.support.judge.kernel import KernelNode, Left

FENCE, FENCE6 = "02:fe:00:00:00:01", "fe80::fe:1"
#: the router's link-local address at every endpoint: a network has none
LINK_LOCAL = "fe80::fe"
#: what Linux may choose in packets that it originates; see normalisation.py
ALLOWED = frozenset({Allowance.FRAGMENTS})
#: milliseconds and seconds that no trial takes
NEVER_MS, NEVER = "3600000", "3600"
#: seconds in which the kernel's clock ticks: it ignores a second change of a neighbour within a tick
TICK = 0.02

SETTINGS = {
    "ipv4/ip_forward": "1",
    "ipv6/conf/all/forwarding": "1",
    # Addresses are usable at once, and nothing is sent by itself.
    "ipv6/conf/default/accept_dad": "0",
    "ipv6/conf/default/dad_transmits": "0",
    "ipv6/conf/default/addr_gen_mode": "1",
    "ipv6/conf/default/router_solicitations": "0",
    "ipv6/auto_flowlabels": "0",
    # Not limited: time is not judged.
    "ipv4/icmp_ratelimit": "0",
    "ipv4/icmp_ratemask": "0",
    "ipv6/icmp/ratelimit": "0",
    # Choices of a router's operator: sources have a route (loose), no redirects, an interface answers for its
    # own addresses, errors come from the address where the packet came in (RFC 1812 4.3.2.4), IP packets in
    # broadcasts of the link layer are discarded (RFC 1122 3.3.6), requests to groups are not answered.
    **{
        f"ipv4/conf/{scope}/{name}": value
        for scope in ("all", "default")
        for name, value in (
            ("rp_filter", "2"), ("send_redirects", "0"), ("arp_ignore", "1"), ("accept_source_route", "0"),
            ("drop_unicast_in_l2_multicast", "1"),
        )
    },
    **{f"ipv6/conf/{scope}/drop_unicast_in_l2_multicast": "1" for scope in ("all", "default")},
    "ipv4/icmp_errors_use_inbound_ifaddr": "1",
    "ipv4/icmp_echo_ignore_broadcasts": "1",
    "ipv6/icmp/echo_ignore_multicast": "1",
}  # fmt: skip
PORT_SETTINGS = {
    # A request is not repeated, a neighbour does not expire, and what a host says now is true now.
    **{f"{family}/neigh/PORT/retrans_time_ms": NEVER_MS for family in ("ipv4", "ipv6")},
    **{f"{family}/neigh/PORT/base_reachable_time_ms": NEVER_MS for family in ("ipv4", "ipv6")},
    **{f"{family}/neigh/PORT/delay_first_probe_time": NEVER for family in ("ipv4", "ipv6")},
    "ipv4/neigh/PORT/locktime": "0",
}


class Exchange(NamedTuple):
    """A frame that entered at an endpoint, the state before it, and what the oracle said."""

    network: VirtualNetwork
    endpoint: Endpoint
    before: LearnedState
    frame: bytes
    outcome: Delivery


class JudgedRouter:
    """A network and a kernel that routes like it. A context manager."""

    def __init__(self, network: VirtualNetwork) -> None:
        self.network = network
        self.learned = LearnedState()
        self.gateway = frames.mac_text(gateway_mac(network.uuid))
        self._routers = routers_of([network])

    def __enter__(self) -> Self:
        macs = {int(e.uuid): self.gateway for e in self.network.endpoints}
        own = {
            file.replace("PORT", f"p{number}"): value
            for number in macs
            for file, value in PORT_SETTINGS.items()
        }
        # An endpoint without IPv6 addresses has no IPv6.
        for e in self.network.endpoints:
            if not any(a.version == 6 for a in e.address):
                own[f"ipv6/conf/p{e.uuid}/disable_ipv6"] = "1"
        self._kernel = KernelNode(macs, SETTINGS, own, list(self._commands()))
        self._kernel.__enter__()
        try:
            for e in self.network.endpoints:
                for version in {a.version for a in e.address}:
                    self._kernel.await_passage(int(e.uuid), self._fence(e, version), _answers_the_fence)
        except BaseException:
            self._kernel.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._kernel.__exit__()

    def forget(self) -> None:
        """Let kernel and oracle forget all neighbours."""
        flushed = [f"neigh flush dev p{e.uuid}" for e in self.network.endpoints]
        self._kernel.inside(["ip", "-batch", "-"], "\n".join(flushed))
        self.learned = LearnedState()

    def _commands(self) -> Iterator[str]:
        for e in self.network.endpoints:
            yield f"link set p{e.uuid} up"
            for a in e.address:
                yield f"address add {a} dev p{e.uuid}{' nodad' * (a.version == 6)}"
            if any(a.version == 6 for a in e.address):
                yield f"address add {LINK_LOCAL}/64 dev p{e.uuid} nodad"
        for number, e in enumerate(self.network.endpoints):
            for r in e.route:
                # A connected prefix wins over a static route, an earlier endpoint over a later one.
                yield f"route add {r.prefix} via {r.via} dev p{e.uuid} metric {2000 + number}"

    def _fence(self, e: Endpoint, version: int = 0) -> bytes:
        """A request that the kernel answers to a host that nobody else is."""
        own = next(a for a in e.address if version in (0, a.version))
        if own.version == 6:
            return packets.solicitation(FENCE, FENCE6, str(own.ip))
        return packets.arp(FENCE, "0.0.0.0", str(own.ip))

    def judge(self, e: Endpoint, frame: bytes) -> tuple[Exchange, list[Left], list[Left]]:
        """Send a frame into kernel and oracle. Returns what they did: oracle and kernel, by endpoint."""
        outcome = forward_at_endpoint(self.network, self.learned, e.uuid, frame)
        x = Exchange(self.network, e, self.learned, frame, outcome)
        if self._changes_a_neighbour(outcome):
            time.sleep(TICK)
        left = self._kernel.exchange(int(e.uuid), frame, self._fence(e), _answers_the_fence)
        self.learned = outcome.learned
        said = [(int(uuid), out) for uuid, out in outcome.outputs]
        return x, said, [item for item in left if not (_answers_the_fence(item) or _joins_groups(item[1]))]

    def _changes_a_neighbour(self, outcome: Delivery) -> bool:
        uuid = self.network.uuid
        before, after = self.learned.network(uuid).neighbours, outcome.learned.network(uuid).neighbours
        return any(after.get(neighbour, mac) != mac for neighbour, mac in before.items())

    def equal(self, one: Sequence[Left], other: Sequence[Left]) -> bool:
        """Whether these are the same frames, but for what a router may choose in its own packets."""
        return self._normal(one) == self._normal(other)

    def _normal(self, left: Sequence[Left]) -> Counter[Left]:
        return Counter((port, normalise(frame, self._routers, ALLOWED)) for port, frame in left)


def _answers_the_fence(left: Left) -> bool:
    return left[1][:6] == frames.mac_bytes(FENCE)


def _joins_groups(frame: bytes) -> bool:
    """Whether a router of IPv6 tells, as RFC 3810 demands, which groups it listens to."""
    return frame[12:14] == b"\x86\xdd" and frame[54:55] == b"\x3a" and frame[62:63] == b"\x8f"


def listed(left: Sequence[Left]) -> str:
    """Frames by endpoint, a line each, for messages of failed tests."""
    lines = (
        f"\n  endpoint {port}: {frames.described(frame)}\n    {frame.hex()}" for port, frame in sorted(left)
    )
    return "".join(lines) or " nothing"
