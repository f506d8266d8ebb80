"""Endpoints on several ports of a switch: real bonds, LACP, limits, and faults."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import cast

import pytest

from libnetvirt import Endpoint, Limits, Network, State
from libnetvirt.conformance.harness import Place
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.aggregation import bonded, joint
from libnetvirt.conformance.support.stream import Stream, repeated_if_void
from libnetvirt.conformance.support.testbed import Guest, Testbed, clean, endpoint_at
from tests.support.lab.linux_hosts import LinuxHost, need_programs
from tests.support.lab.network import Lab
from tests.support.lab.peer_switch import HOST_PORT, PeerSwitch
from tests.support.lab.traffic import Flow, run
from tests.support.lab.wire import set_up
from tests.support.openflow_harness import OpenFlow

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

GROUP = Place("1", "1"), Place("1", "2")
FAR = Place("2", "1")
PORT = 21


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


@pytest.mark.parametrize("direction", ["inbound", "outbound"])
def test_a_limit_holds_for_the_group_not_for_each_port(testbed: Testbed, direction: str) -> None:
    size, count, limit, burst = 1400, 400, 1_000_000, 400_000
    with bonded(testbed, GROUP) as (joined, wires):
        network = joined.create(joint(GROUP), FAR)
        network.modify_endpoint("1", bandwidth=Limits.model_validate({direction: "1 Mbit/s"}))
        bond, far = joined.learned_guests(network)
        source, destination = (bond, far) if direction == "inbound" else (far, bond)
        # As many flows as it takes to have frames in each cable.
        sources = [source.mac, *(joined.guest(network, _end(network, source)).mac for _ in range(15))]
        texts = [frames.marked(mac, destination.mac, b"large").ljust(size, b"\0") for mac in sources]
        joined.announce(*(joined.guest(network, _end(network, source), mac) for mac in sources))
        joined.harness.flush_caches()
        joined.drain()
        began, arrived = time.monotonic(), 0
        for number in range(0, count, 8):
            place = GROUP[number // 8 % 2] if direction == "inbound" else FAR
            joined.harness.send(place, [texts[(number + n) % 16] for n in range(8)])
            arrived += len(joined.harness.receive(0.0))
        while found := joined.harness.receive(0.2):
            arrived += len(found)
        seconds = time.monotonic() - began
        assert 0.5 * burst <= arrived * size * 8 <= 1.1 * (burst + limit * seconds)
        if direction == "outbound":
            assert {place for text in texts for place in wires.seen[text]} == set(GROUP)


def _end(network: Network, guest: Guest) -> Endpoint:
    return network.description().by_uuid[guest.endpoint]


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
        assert lost < 500


@repeated_if_void
def test_a_controller_that_is_started_again_finds_groups_as_they_were(
    testbed: Testbed, harness: OpenFlow
) -> None:
    with bonded(testbed, GROUP) as (joined, _):
        network = joined.create(joint(GROUP), (joint(GROUP), 5), FAR)
        bond, tagged, far = joined.learned_guests(network)
        before = harness.leftovers()
        assert harness.differences() == []
        with Stream(joined, far, bond) as stream:
            harness.kill_controller()
            harness.start_controller()
        stream.check_exactly_once()
        assert harness.leftovers() == before
        assert harness.differences() == []
        joined.check_reachability([bond, tagged, far])


def test_a_group_that_another_program_removes_is_restored(testbed: Testbed, harness: OpenFlow) -> None:
    with bonded(testbed, GROUP) as (joined, _):
        network = joined.create(joint(GROUP), FAR)
        guests = joined.learned_guests(network)
        before = Counter(harness.leftovers())
        for line in harness.lab.dump(1):
            if "type=select" in line:
                number = line.partition("group_id=")[2].partition(",")[0]
                harness.lab.ofctl("del-groups", 1, f"group_id={number}")
        assert Counter(harness.leftovers()) != before
        joined.eventually(lambda: Counter(harness.leftovers()) - before, "it is restored", 20.0)
        joined.eventually(lambda: before - Counter(harness.leftovers()), "it is restored", 20.0)
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
            (entry,) = [line for line in harness.lab.dump(1) if "type=select" in line]
            assert f"watch_port:{PORT}" in entry or f"watch_port={PORT}" in entry
            assert harness.differences() == []
        finally:
            harness.plug(GROUP[0])
    testbed.eventually(lambda: PORT_GONE not in state_of(network)[1], "the other port is gone again")
    testbed.announce_after_failure(*guests)


PORT_GONE = f"port {PORT} is down"
