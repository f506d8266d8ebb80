"""Networks that keep their customers' tags, and those that keep priorities, with what they can have beside:
constraints, limits, storm protection, groups of ports; what is on links; what switches say of their rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import pytest

from libnetvirt import Rules, VirtualNetwork
from libnetvirt.conformance.harness import Place
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.aggregation import bonded, joint
from libnetvirt.conformance.support.frames import AD, BROADCAST, tag
from libnetvirt.conformance.support.testbed import Guest, Tag, Testbed, clean, endpoint_at
from libnetvirt.errors import Unsupported
from tests.support.lab.wire import Wire
from tests.support.openflow_harness import OpenFlow

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

KINDS: dict[str, Tag] = {"any": "any", "set": "100-199,300", "inner": {"vlan": 20, "inner_vlan": "any"}}
STACKS = (tag(150), tag(300, tpid=AD, priority=5), tag(100) + tag(7, priority=3) + tag(7) + tag(7))
LEVELS = range(8)


@pytest.fixture(scope="module")
def harness(private_namespace: None) -> Iterator[OpenFlow]:  # noqa: ARG001
    with OpenFlow(3, [(1, 2), (2, 3)], hosts=4) as harness:
        yield harness


@pytest.fixture
def testbed(harness: OpenFlow) -> Iterator[Testbed]:
    testbed = Testbed(harness, Rules(encapsulation="mpls"))
    yield testbed
    assert list(clean(testbed)) == []


def test_constraints_limits_and_declared_hosts_and_the_next_run_of_the_controller(
    testbed: Testbed, harness: OpenFlow
) -> None:
    ports = {switch: [p for p in harness.host_ports() if p.switch == switch] for switch in "13"}
    pairs = []
    for n, kept in enumerate(KINDS.values()):
        here, there = ports["1"][n], ports["3"][n]
        ends = [
            endpoint_at(here, 1, kept, mac=[frames.mac(2 * n + 1)], bandwidth={"inbound": "50 Mbit/s"}),
            endpoint_at(there, 2, kept, mac=[frames.mac(2 * n + 2)]),
        ]
        asked = {"source": 1, "destination": 2, "min-bandwidth": "1 Mbit/s", "max-bandwidth": "90 Mbit/s"}
        network = testbed.create(endpoints=ends, constraints=[asked])
        pairs.append([testbed.guest(network, end, end.mac[0]) for end in ends])

    def check() -> None:
        for a, b in (*pairs, *(pair[::-1] for pair in pairs)):
            for destination in (b.mac, BROADCAST):
                sent = [frames.tagged(frames.marked(a.mac, destination, b"kept"), stack) for stack in STACKS]
                assert sorted(testbed.exchange(a, *sent)) == sorted(b.arrival(frame) for frame in sent)

    check()
    # What switches report of the rules is what was sent: else every audit would find drift.
    testbed.eventually(harness.differences, "the switches hold what they should")
    harness.kill_controller()
    harness.start_controller()
    check()
    testbed.eventually(harness.differences, "the switches hold what they should")
    for network in harness.connection.networks():

        def counted() -> tuple[list[int], set[int]]:
            carried = [c.packets for c in network.constraint_statistics()]  # noqa: B023
            return carried, {c.received_packets for c in network.statistics()}  # noqa: B023

        wanted = [2 * len(STACKS)], {4 * len(STACKS)}
        testbed.eventually(lambda: counted() != wanted and counted(), "all frames are counted")  # noqa: B023


# ---- priorities ------------------------------------------------------------------------------------


@pytest.fixture(params=["vlan", "mpls"])
def tunnels(harness: OpenFlow, request: pytest.FixtureRequest) -> Iterator[Testbed]:
    testbed = Testbed(harness, Rules(encapsulation=request.param))
    yield testbed
    assert list(clean(testbed)) == []


def exchange_all(testbed: Testbed, guests: Sequence[Guest]) -> None:
    """Every guest sends with each PCP to all and to each other guest. The testbed compares what arrives with
    what the oracle says."""
    for a in guests:
        for destination in (BROADCAST, *(b.mac for b in guests if b is not a)):
            frame = frames.marked(a.mac, destination, b"how urgent?")
            vlan = a.vlan if isinstance(a.vlan, int) else 0
            sent = [frames.tagged(frame, tag(vlan, priority=level)) for level in LEVELS]
            assert len(testbed.inject(a.place, *sent)) >= len(sent)


class Link:
    """What a switch sends into a link: the outer and the inner priority of the frames that carry a text."""

    def __init__(self, harness: OpenFlow, switch: int, port: int) -> None:
        # The far end of a cable receives what leaves at the near one.
        far = harness.lab.link_ports[switch, port]
        self._wire = Wire(harness.lab.interface(*far))

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        self._wire.close()

    def seen(self, text: bytes) -> list[tuple[int, int]]:
        found = []
        while (frame := self._wire.receive()) is not None:
            if text in frame:
                found.append(_labels(frame))
        return found


def _labels(frame: bytes) -> tuple[int, int]:
    if frame[12:14] == b"\x88\x47":
        outer, inner = (int.from_bytes(frame[at : at + 4]) >> 9 & 7 for at in (14, 18))
        return outer, inner
    assert (frame[12:14], frame[16:18]) == (b"\x88\xa8", b"\x88\xa8"), frames.described(frame)
    return frame[14] >> 5, frame[18] >> 5


def test_both_labels_of_a_tunnel_have_the_priority(tunnels: Testbed, harness: OpenFlow) -> None:
    p, q, r = tunnels.places(3)
    urgent = tunnels.create(endpoints=[endpoint_at(p, 1, 10, pcp={}), endpoint_at(r, 2, 20, pcp={})])
    plain = tunnels.create((p, 11), (r, 21))  # in the same tunnel
    harness.flush_caches()
    pairs = [tunnels.guests(network) for network in (urgent, plain)]
    tunnels.announce(*pairs[0], *pairs[1])
    links = [end for end in sorted(harness.lab.link_ports) if end[0] < harness.lab.link_ports[end][0]]
    assert len(links) == 2, "from switch 1 to 2, and on to 3"
    with ExitStack() as stack:
        taps = [stack.enter_context(Link(harness, *end)) for end in links]
        for (a, b), carried in ((pairs[0], 5), (pairs[1], 0)):
            for destination in (b.mac, BROADCAST):
                text = b"%d to " % carried + destination.encode()
                frame = frames.marked(a.mac, destination, text)
                vlan = a.vlan if isinstance(a.vlan, int) else 0
                (arrived,) = tunnels.inject(a.place, frames.tagged(frame, tag(vlan, priority=5)))
                assert arrived.frame[14] >> 5 == carried
                assert [tap.seen(text) for tap in taps] == [[(carried, carried)]] * 2
    # A network that begins or ends to carry priorities does so everywhere, as a new controller would have it.
    third = endpoint_at(q, 3)
    plain.add_endpoint(third)
    harness.flush_caches()
    guests = [*pairs[1], tunnels.guest(plain, third)]
    tunnels.announce(*guests)
    for uuid in "1", "2":
        plain.modify_endpoint(uuid, pcp={})
        tunnels.eventually(harness.differences, "the rules are those of a new controller")
    harness.flush_caches()
    exchange_all(tunnels, guests)
    urgent.remove()
    tunnels.eventually(harness.differences, "the rules are those of a new controller")
    for uuid in "1", "2":
        plain.modify_endpoint(uuid, pcp=None)
        tunnels.eventually(harness.differences, "the rules are those of a new controller")
    harness.flush_caches()
    # The tunnel is changed back when no network that carries priorities is left.
    tunnels.check_reachability(guests)


def test_limits_storm_protection_and_constraints_and_the_next_run_of_the_controller(
    tunnels: Testbed, harness: OpenFlow
) -> None:
    p, q, r = tunnels.places(3)
    limits = {"inbound": "90 Mbit/s", "outbound": "90 Mbit/s"}
    ends = [
        endpoint_at(p, 1, 10, mac=[frames.mac(1)], pcp={"map": "1:6"}, bandwidth=limits),
        endpoint_at(q, 2, mac=[frames.mac(2)], pcp={"default": 2, "map": "7:0"}, storm={"rate": 100_000}),
        endpoint_at(r, 3, 30, mac=[frames.mac(3)], pcp={}, bandwidth=limits),
        endpoint_at(r, 4, 31, mac=[frames.mac(4)], pcp={}),
        endpoint_at(p, 5, 11, mac=[frames.mac(5)]),
    ]
    asked = [
        {"source": 1, "destination": 3, "min-bandwidth": "1 Mbit/s"},
        {"source": 2, "destination": 4, "max-bandwidth": "90 Mbit/s"},
    ]
    network = tunnels.create(endpoints=ends, constraints=asked)
    guests = [tunnels.guest(network, end, end.mac[0]) for end in ends]
    harness.flush_caches()

    def check(times: int) -> None:
        exchange_all(tunnels, guests)
        # What switches report of the rules is what was sent: else every audit would find drift.
        tunnels.eventually(harness.differences, "the rules are those of a new controller")
        # Each frame is counted once, those with priority tags, too.
        counted = times * len(LEVELS) * len(guests)
        tunnels.eventually(lambda: _others(harness, counted), f"{counted} frames of each are counted")

    check(1)
    harness.kill_controller()
    harness.start_controller()
    check(2)


def _others(harness: OpenFlow, counted: int) -> dict[str, int]:
    """The endpoints of which another number of frames is counted."""
    (network,) = harness.connection.networks()
    received = {c.endpoint: c.received_packets for c in network.statistics()}
    return {endpoint: number for endpoint, number in received.items() if number != counted}


@pytest.mark.parametrize("vlan", [None, 9])
def test_a_group_of_ports_keeps_priorities(tunnels: Testbed, vlan: int | None) -> None:
    one, two = (Place("1", port) for port in "12")
    with bonded(tunnels, (one, two)) as (joined, _):
        ends = [
            endpoint_at(joint((one, two)), 1, vlan, pcp={"default": 1, "map": "3:4"}),
            endpoint_at(Place("3", "1"), 2, 20, pcp={}, bandwidth={"outbound": "90 Mbit/s"}),
            endpoint_at(Place("1", "3"), 3, 30, pcp={}),
        ]
        network = joined.create(endpoints=ends)
        joined.harness.flush_caches()
        bond, *others = guests = joined.guests(network)
        joined.announce(*guests)
        exchange_all(joined, guests)
        for other in others:
            for level in LEVELS:
                frame = frames.marked(bond.mac, other.mac, b"through the other cable")
                joined.inject(two, frames.tagged(frame, tag(vlan or 0, priority=level)))


def test_what_cannot_carry_priorities_is_refused(harness: OpenFlow) -> None:
    p, q, _ = Testbed(harness, None).places(3)
    ends = [endpoint_at(p, 1, 10, pcp={}), endpoint_at(q, 2, 20)]
    for rules, why in (
        (Rules(encapsulation="native"), "no tag between switches.*Choose encapsulation vlan or mpls"),
        (Rules(encapsulation="mpls", insertion="on-demand"), "by the controller.*Choose insertion offline"),
    ):
        with pytest.raises(Unsupported, match=f"endpoint 1: .*{why}"):
            harness.connection.create(VirtualNetwork(name="refused", endpoints=ends, rules=rules))
    assert harness.leftovers() == []
