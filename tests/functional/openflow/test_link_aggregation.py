"""Endpoints on several ports of a switch: real bonds, LACP, limits, and faults."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import cast

import pytest

from libnetvirt import Endpoint, Network, State
from libnetvirt.conformance.harness import Place
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.aggregation import bonded, joint
from libnetvirt.conformance.support.frames import BROADCAST
from libnetvirt.conformance.support.stream import Stream, repeated_if_void
from libnetvirt.conformance.support.testbed import Guest, Testbed, clean, endpoint_at
from tests.support.lab.linux_hosts import LinuxHost, need_programs
from tests.support.lab.network import Lab
from tests.support.lab.peer_switch import HOST_PORT, PeerSwitch
from tests.support.lab.traffic import Flow, run
from tests.support.lab.wire import set_up
from tests.support.openflow_harness import OpenFlow
from tests.support.promised_times import by, crowd

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

GROUP = Place("1", "1"), Place("1", "2")
FAR = Place("2", "1")
PORT = 21
#: frames per second of storm protection
RATE = 50
#: bit/s of limits, and what a meter lets pass at once
LIMIT, BURST = 2_000_000, 400_000
NEAR = Place("1", "3")
#: so many flows that some take each cable
FLOWS = 8


@pytest.fixture(scope="module")
def harness(private_namespace: None) -> Iterator[OpenFlow]:  # noqa: ARG001
    need_programs()
    with OpenFlow(2, [(1, 2)], hosts=3) as harness:
        yield harness


@pytest.fixture
def testbed(harness: OpenFlow) -> Iterator[Testbed]:
    testbed = Testbed(harness, None)
    yield testbed
    assert list(clean(testbed)) == []


def state_of(network: Network) -> tuple[State, str]:
    """The state of the endpoint with the group, and its reason."""
    seen = next(e for e in network.state().endpoints if e.uuid == "1")
    return seen.state, seen.reason


def pinged(host: LinuxHost, count: int = 10) -> str:
    """What of some pings was answered; the answers that came twice."""
    said = host.run("ping", "-n", "-c", str(count), "-i", "0.02", "-W", "5", "10.0.0.2")
    return said if f" {count} received" not in said or "DUP" in said else ""


@contextmanager
def plugged_in(lab: Lab, switch: int, port: int) -> Iterator[None]:
    """A new port of a switch, with nobody behind it."""
    name = lab.interface(switch, port)
    subprocess.run(["ip", "link", "add", name, "up", "type", "veth", "peer", "name", f"x{name}"], check=True)
    set_up(f"x{name}", True)
    words = ("--", "set", "Interface", name, f"ofport_request={port}")
    lab.ovs.vsctl("add-port", lab.bridge(switch), name, *words)
    try:
        yield
    finally:
        lab.ovs.vsctl("del-port", name)
        subprocess.run(["ip", "link", "delete", name], check=True)


@pytest.mark.parametrize("lacp", [True, False], ids=["lacp", "static"])
def test_a_bond_of_another_switch_is_one_endpoint(testbed: Testbed, harness: OpenFlow, lacp: bool) -> None:
    lab = harness.lab
    with ExitStack() as stack:
        peer = stack.enter_context(PeerSwitch(lab, 1, lacp=lacp))
        near = stack.enter_context(LinuxHost(cast("Lab", peer), 1, HOST_PORT, ["10.0.0.1/24"], []))
        far = stack.enter_context(LinuxHost(lab, 2, PORT, ["10.0.0.2/24"], []))
        wanted = {*peer.members, lab.interface(2, PORT)}

        def missing() -> object:
            switches = harness.connection.substrate().switches
            return wanted - {p.name for s in switches for p in s.ports if p.up}

        testbed.eventually(missing, "the driver knows the ports")
        ends = [endpoint_at(Place("1", ",".join(peer.members)), 1), endpoint_at(Place("2", str(PORT)), 2)]
        network = testbed.create(endpoints=ends)
        testbed.eventually(lambda: _not(network, State.ACTIVE, ""), "the group is up", 20.0)
        assert pinged(near) == ""
        before = peer.carried()
        # Sixteen flows each way: one of them at least takes each cable.
        assert run([Flow(far, near, "10.0.0.1", streams=16)], 1.0)[0] > 0
        assert all(now > then + 10 for then, now in zip(before, peer.carried(), strict=True))
        for number, down in enumerate(peer.members):
            peer.cut(number)
            left = f"port {down} is down: the others carry the traffic"
            testbed.eventually(partial(_not, network, State.ACTIVE, left), "a cable is gone")
            testbed.eventually(lambda: pinged(near, 3), "frames take the other cable", 30.0)
            assert pinged(near) == ""
            peer.repair(number)
            testbed.eventually(lambda: _not(network, State.ACTIVE, ""), "both cables are there", 20.0)
        if lacp:
            peer.negotiate(active=False)
            reason = f"ports {', '.join(peer.members)} of switch 1 are down"
            testbed.eventually(lambda: _not(network, State.DOWN, reason), "no LACP, no group", 20.0)
            peer.negotiate(active=True)
            testbed.eventually(lambda: _not(network, State.ACTIVE, ""), "the group is up", 20.0)
        testbed.eventually(lambda: pinged(near, 3), "frames pass", 30.0)
        assert pinged(near) == ""
        network.remove()


def _not(network: Network, state: State, reason: str) -> object:
    """The state of the group, unless it is this one."""
    found = state_of(network)
    return None if found == (state, reason) else found


def _end(network: Network, guest: Guest) -> Endpoint:
    return network.description().by_uuid[guest.endpoint]


def guarded(
    joined: Testbed, vlan: int | None, action: str, encapsulation: str = "vlan"
) -> tuple[Network, list[Guest]]:
    """A network with a guarded group, a host beside it and one at the other switch."""
    limits = {"inbound": f"{LIMIT} bit/s", "outbound": f"{LIMIT} bit/s"}
    storm = {"rate": RATE, "action": action}
    ends = [
        endpoint_at(joint(GROUP), 1, vlan, bandwidth=limits, storm=storm),
        endpoint_at(NEAR, 2),
        endpoint_at(FAR, 3, 30),
    ]
    network = joined.create(endpoints=ends, rules={"encapsulation": encapsulation})
    joined.harness.flush_caches()
    return network, joined.learned_guests(network)


def passed(
    joined: Testbed, sent: Sequence[tuple[Place, bytes]], receivers: Sequence[Place]
) -> tuple[Counter[Place], float]:
    """Send frames, a few at a time. How many have come out at each of the receivers, and how long it took."""
    began, arrived = time.monotonic(), Counter[Place]()
    for first in range(0, len(sent), 10):
        for place, frame in sent[first : first + 10]:
            joined.harness.send(place, [frame])
        arrived.update(arrival.place for arrival in joined.harness.receive(0.0))
    while found := joined.harness.receive(0.3):
        arrived.update(arrival.place for arrival in found)
    assert arrived.keys() <= set(receivers)
    return arrived, time.monotonic() - began


def through_both(guest: Guest, frame: bytes, number: int) -> list[tuple[Place, bytes]]:
    """A frame of the group, again and again, through one cable and the other."""
    return [(GROUP[n % 2], guest.on_wire(frame)) for n in range(number)]


@pytest.mark.parametrize(("encapsulation", "vlan"), [("vlan", None), ("mpls", 9)])
def test_a_group_has_one_storm_protection_and_one_limit_each_way(
    testbed: Testbed, harness: OpenFlow, encapsulation: str, vlan: int | None
) -> None:
    with bonded(testbed, GROUP) as (joined, wires):
        network, (bond, near, far) = guarded(joined, vlan, "drop", encapsulation)
        joined.harness.flush_caches()
        joined.eventually(harness.differences, "the rules are those of a new controller")
        for sender, receiver in ((bond, far), (far, bond)):
            check_limit(joined, network, sender, receiver)
        assert {place for places in wires.seen.values() for place in places} == set(GROUP)
        # Frames for everybody: the rate of the endpoint, not of each cable, and nothing comes back.
        frame, number = frames.marked(bond.mac, BROADCAST, b"storm"), 8 * RATE  # below the limit
        arrived, took = passed(joined, through_both(bond, frame, number), (near.place, far.place))
        for place in (near.place, far.place):
            assert RATE * 0.9 <= arrived[place] <= RATE * 1.1 * (took + 2), (arrived, took)
        # Frames to a host are not counted.
        frame = frames.marked(bond.mac, far.mac, b"to one")
        arrived, _ = passed(joined, through_both(bond, frame, 4 * RATE), (far.place,))
        assert arrived == {far.place: 4 * RATE}
        least = number - RATE * 1.1 * (took + 2)
        joined.eventually(lambda: least > dropped(network), "what was dropped is counted")
        joined.eventually(harness.differences, "the rules are those of a new controller")


def dropped(network: Network) -> int:
    """How many frames of the group its storm protection has dropped."""
    return next(c.storm_dropped_packets for c in network.statistics() if c.endpoint == "1")


def test_a_group_is_blocked_and_released_as_a_whole(testbed: Testbed, harness: OpenFlow) -> None:
    with bonded(testbed, GROUP) as (joined, _):
        network, (bond, near, far) = guarded(joined, 9, "block")

        def state() -> State:
            return next(e.state for e in network.state().endpoints if e.uuid == "1")

        def admitted() -> set[Place]:
            """The cables through which a frame enters."""
            found = set()
            for cable in GROUP:
                frame = frames.marked(bond.mac, far.mac, b"through " + cable.port.encode())
                joined.harness.send(cable, [bond.on_wire(frame)])
                if far.arrival(frame) in joined.harness.receive(0.2):
                    found.add(cable)
            return found

        def storm() -> None:
            frame = frames.marked(bond.mac, BROADCAST, b"storm")
            passed(joined, through_both(bond, frame, 10 * RATE), (near.place, far.place))
            joined.eventually(lambda: state() is not State.DOWN, "it is blocked", by(2.5))
            joined.eventually(admitted, "nothing enters at either port")

        storm()
        # It still receives, and others are as before.
        frame = frames.marked(far.mac, bond.mac, b"to it")
        assert joined.exchange(far, frame) == [bond.arrival(frame)]
        frame = frames.marked(far.mac, near.mac, b"to another")
        assert joined.exchange(far, frame) == [near.arrival(frame)]
        (line,) = harness.connection.repair(network.uuid)
        assert "endpoint 1 of network" in line
        joined.eventually(lambda: state() is State.DOWN, "it is released", by(1.5))
        joined.eventually(lambda: admitted() != set(GROUP), "both ports admit frames")
        # Without its lowest port, by which rules know it, it is another endpoint: it is released.
        storm()
        network.modify_endpoint("1", port=GROUP[1].port)
        joined.eventually(lambda: state() is State.DOWN, "it is released", by(2.5))
        joined.eventually(lambda: admitted() != {GROUP[1]}, "the port that is left admits frames")
        network.modify_endpoint("1", port=joint(GROUP).port)
        joined.eventually(lambda: admitted() != set(GROUP), "both ports admit frames")
        joined.eventually(harness.differences, "what is replaced is removed", by(4.0))


def check_limit(joined: Testbed, network: Network, sender: Guest, receiver: Guest) -> None:
    """Frames of many flows above the limit of the group: as many pass as the limit says."""
    size, number = 1400, 600
    end = network.description().by_uuid[sender.endpoint]
    hosts = [joined.guest(network, end) for _ in range(FLOWS)]
    joined.announce(*hosts)
    joined.drain()
    texts = [
        sender.on_wire(frames.marked(host.mac, receiver.mac, b"large").ljust(size, b"\0")) for host in hosts
    ]
    places = GROUP if sender.place == GROUP[0] else (sender.place,)
    sent = [(places[n // FLOWS % len(places)], texts[n % FLOWS]) for n in range(number)]
    arrived, took = passed(joined, sent, (receiver.place,))
    bits = arrived[receiver.place] * size * 8
    assert 0.5 * BURST <= bits <= 1.1 * (BURST + LIMIT * took), (bits, took)
    assert bits < 0.9 * number * size * 8, "more was sent than may pass"


@repeated_if_void
def test_a_port_that_goes_down_costs_little(testbed: Testbed) -> None:
    with bonded(testbed, GROUP) as (joined, wires):
        network = joined.create(joint(GROUP), FAR)
        bond, far = joined.learned_guests(network)
        frame = frames.marked(far.mac, bond.mac, b"which cable")
        joined.exchange(far, frame)
        (used,) = wires.seen[frame]
        with Stream(joined, far, bond, rate=1000) as stream:
            joined.harness.unplug(used)
            joined.eventually(lambda: state_of(network)[1] == "", "the port is down")
        lost = len(stream.lost)
        with Stream(joined, far, bond, rate=1000) as stream:
            joined.harness.plug(used)
            joined.eventually(lambda: state_of(network)[1] != "", "the port is up")
        stream.check_exactly_once()
        # Seconds of a stream of 1000 frames a second.
        assert lost < 500 * crowd()


@repeated_if_void
def test_a_controller_that_is_started_again_finds_groups_as_they_were(
    testbed: Testbed, harness: OpenFlow
) -> None:
    with bonded(testbed, GROUP) as (joined, _):
        network = joined.create(joint(GROUP), (joint(GROUP), 5), FAR)
        bond, tagged, far = joined.learned_guests(network)
        joined.eventually(harness.differences, "the switches hold what they should")
        before = Counter(harness.leftovers())
        with Stream(joined, far, bond) as stream:
            harness.kill_controller()
            harness.start_controller()
        stream.check_exactly_once()
        joined.eventually(harness.differences, "the switches hold what they should")
        assert Counter(harness.leftovers()) == before
        joined.check_reachability([bond, tagged, far])


def test_a_group_that_another_program_removes_is_restored(testbed: Testbed, harness: OpenFlow) -> None:
    with bonded(testbed, GROUP) as (joined, _):
        network = joined.create(joint(GROUP), FAR)
        guests = joined.learned_guests(network)
        joined.eventually(harness.differences, "nothing moves any more")
        before = Counter(harness.leftovers())
        for line in harness.lab.dump(1):
            if "type=select" in line:
                number = line.partition("group_id=")[2].partition(",")[0]
                harness.lab.ofctl("del-groups", 1, f"group_id={number}")
        assert Counter(harness.leftovers()) != before
        joined.eventually(lambda: Counter(harness.leftovers()) - before, "it is restored", 60.0)
        joined.eventually(lambda: before - Counter(harness.leftovers()), "it is restored", 60.0)
        # What the switch has cached of its rules, it may use for a moment after a change.
        harness.flush_caches()
        joined.check_reachability(guests)


def test_a_group_has_constraints_as_any_endpoint(testbed: Testbed) -> None:
    with bonded(testbed, GROUP) as (joined, _):
        asked = [
            {"source": 1, "destination": 2, "min_bandwidth": "5 Mbit/s"},
            {"source": 2, "destination": 1, "max_bandwidth": "500 Mbit/s", "max_hops": 2},
        ]
        network = joined.create(joint(GROUP), FAR, constraints=asked)
        assert {c.state for c in network.state().constraints} == {State.ACTIVE}
        bond, far = joined.learned_guests(network)
        for place in GROUP:
            frame = frames.marked(bond.mac, far.mac, b"with a promise")
            assert joined.inject(place, frame) == [far.arrival(frame)]


def test_a_port_of_a_group_may_come_later(testbed: Testbed, harness: OpenFlow) -> None:
    members = (GROUP[0], Place("1", str(PORT)))
    far = testbed.description(FAR).endpoints[0].changed(uuid=2)
    wanted = testbed.description(endpoints=[endpoint_at(joint(members), 1), far])
    network = harness.connection.create(wanted, pending=True)
    assert state_of(network) == (State.ACTIVE, f"port {PORT} is down: the others carry the traffic")
    guests = testbed.guests(network)
    testbed.announce(*guests)
    with plugged_in(harness.lab, 1, PORT):
        testbed.eventually(lambda: state_of(network)[1], "the other port is there")
        harness.unplug(GROUP[0])
        try:
            testbed.eventually(lambda: state_of(network)[1] == "", "the first is gone")
            testbed.eventually(harness.differences, "the switch holds what it should")
            (entry,) = [line for line in harness.lab.dump(1) if "type=select" in line]
            assert f"watch_port:{PORT}" in entry or f"watch_port={PORT}" in entry
        finally:
            harness.plug(GROUP[0])
    testbed.eventually(lambda: PORT_GONE not in state_of(network)[1], "the other port is gone again")
    testbed.announce_after_failure(*guests)


PORT_GONE = f"port {PORT} is down"
