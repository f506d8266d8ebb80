"""Guarantees between real hosts on real switches: minimums hold under overload and after failures."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from libnetvirt import Constraint, Encapsulation, Insertion, Rules, Timeout
from libnetvirt.conformance.harness import Place
from libnetvirt.conformance.support.testbed import Testbed, clean, endpoint_at
from libnetvirt.errors import ConstraintUnmet, Unsupported
from tests.support.guest_pairs import FIRST_PORT, Guests
from tests.support.lab.linux_hosts import LinuxHost, need_programs
from tests.support.lab.promised_traffic import Due, check_promises
from tests.support.lab.traffic import Flow, run
from tests.support.openflow_harness import OpenFlow

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(240)]

MBIT = 1_000_000
SECONDS = 6.0
#: what the operator says, and what the kernel does on each link: so little that a busy machine can do it, too
CAPACITIES = 'capacity = "20 Mbit/s"\nlatency = "1 ms"\n'
SHAPED = ("tbf", "rate", "20mbit", "burst", "128kb", "latency", "50ms")


@pytest.fixture(scope="module")
def harness(private_namespace: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenFlow]:  # noqa: ARG001
    need_programs()
    file: Path = tmp_path_factory.mktemp("promises") / "capacities.toml"
    file.write_text(CAPACITIES)
    with OpenFlow(3, [(1, 2), (2, 3), (3, 1)], hosts=2, options=f"&capacities={file}") as harness:
        for link in harness.lab.link_ports:
            name = harness.lab.interface(*link)
            subprocess.run(["tc", "qdisc", "add", "dev", name, "root", *SHAPED], check=True)
        yield harness


@pytest.fixture(params=[Encapsulation.VLAN, Encapsulation.MPLS])
def guests(harness: OpenFlow, request: pytest.FixtureRequest) -> Iterator[Guests]:
    rules = Rules(encapsulation=request.param, insertion=Insertion.OFFLINE, timeout=Timeout.PERMANENT)
    testbed = Testbed(harness, None)
    with ExitStack() as stack:
        yield Guests(testbed, stack, rules)
        harness.lab.restore_all()
        assert list(clean(testbed)) == []
    testbed.eventually(lambda: _reserved(harness), "nothing is reserved")


def _reserved(harness: OpenFlow) -> dict[tuple[str, str], int]:
    links = harness.connection.substrate().links
    return {(k.source, k.destination): k.reserved for k in links if k.reserved}


@pytest.mark.alone
def test_minimums_hold_under_overload_and_after_a_failure(guests: Guests, harness: OpenFlow) -> None:
    a, b, _ = guests.networks
    a.add_constraint(source=1, destination=2, min_bandwidth="6 Mbit/s")
    b.add_constraint(source=1, destination=2, min_bandwidth="4 Mbit/s", max_hops=3)
    assert _reserved(harness) == {("1", "2"): 10 * MBIT}

    def check() -> None:
        # The second sends four times what it was promised, the third has no promise at all.
        one, two, rest = (guests.flow(n, rate * MBIT) for n, rate in enumerate((6, 16, 24)))
        one.promised = two.promised = True
        dues = [Due((one,), 6 * MBIT, 0.95), Due((two,), 4 * MBIT, 0.95), Due((rest,), 9 * MBIT, 0.8)]
        check_promises(harness.lab, dues, congestion=36 * MBIT, seconds=SECONDS)

    check()
    harness.lab.cut_link(1, 2)
    guests.testbed.eventually(lambda: guests.route(0) != ["1", "3", "2"], "the path goes round")
    guests.testbed.eventually(lambda: guests.route(1) != ["1", "3", "2"], "the other path goes round, too")
    round_ = {("1", "3"): 10 * MBIT, ("3", "2"): 10 * MBIT}
    guests.testbed.eventually(lambda: _reserved(harness) != round_, "what is reserved goes with them")
    time.sleep(1.5)  # the switches' caches
    check()
    # TCP gets its minimum, too, in the same flood; the other direction has no promise and no limit. What
    # iperf3 has to say to start and end that one goes with the second network's promise, not in the flood.
    tcp, back = guests.flow(0, None), guests.flow(1, 2 * MBIT, backwards=True)
    tcp.streams, tcp.promised = 2, True
    flood = guests.flow(2, 24 * MBIT)
    dues = [Due((tcp,), 6 * MBIT, 0.8), Due((flood,), 9 * MBIT, 0.0), Due((back,), 2 * MBIT, 0.8)]
    check_promises(harness.lab, dues, congestion=26 * MBIT, seconds=SECONDS)


@pytest.mark.alone
def test_a_maximum_is_never_exceeded_and_can_change_under_traffic(guests: Guests) -> None:
    a, *_ = guests.networks
    a.add_constraint(source=1, destination=2, max_bandwidth="3 Mbit/s")
    got = run([guests.flow(0, 12 * MBIT), guests.flow(0, 4 * MBIT, backwards=True)], SECONDS)
    assert 0.95 * 3 * MBIT <= got[0] <= 1.05 * 3 * MBIT
    assert got[1] >= 0.95 * 4 * MBIT
    (got_tcp,) = run([guests.flow(0, None)], SECONDS)
    assert 0.8 * 3 * MBIT <= got_tcp <= 1.05 * 3 * MBIT
    a.modify_constraint(source=1, destination=2, max_bandwidth="6 Mbit/s")
    (got_more,) = run([guests.flow(0, 12 * MBIT)], SECONDS)
    assert 0.95 * 6 * MBIT <= got_more <= 1.05 * 6 * MBIT


@pytest.mark.alone
def test_minimums_of_a_router_hold(harness: OpenFlow) -> None:
    """Three hosts send to one: the first has a promise, the second a maximum, the third nothing."""
    testbed = Testbed(harness, None)
    senders = [(1, FIRST_PORT), (1, FIRST_PORT + 1), (1, FIRST_PORT + 2)]
    places = [*senders, (2, FIRST_PORT)]
    with ExitStack() as stack:
        hosts = [
            stack.enter_context(
                LinuxHost(harness.lab, *place, (f"10.0.{n}.1/24",), (f"10.0.{n}.254",), mtu=1492)
            )
            for n, place in enumerate(places, 1)
        ]

        def missing() -> set[tuple[int, int]]:
            switches = harness.connection.substrate().switches
            return set(places) - {(int(s.id), p.number) for s in switches for p in s.ports if p.up}

        testbed.eventually(missing, "the ports are there")
        ends = [
            endpoint_at(Place(str(s), str(p)), n, address=[f"10.0.{n}.254/24"])
            for n, (s, p) in enumerate(places, 1)
        ]
        network = harness.connection.create(testbed.description(endpoints=ends, forwarding="L3"))
        for host in hosts[:3]:
            assert "2 received" in host.run("ping", "-c", "2", "-i", "0.2", "-W", "5", "10.0.4.1")
        network.add_constraint(source=1, destination=4, min_bandwidth="6 Mbit/s")
        network.add_constraint(source=2, destination=4, max_bandwidth="3 Mbit/s")
        assert _reserved(harness) == {("1", "2"): 6 * MBIT}
        flows = [
            Flow(host, hosts[3], "10.0.4.1", rate * MBIT)
            for host, rate in zip(hosts[:3], (6, 12, 24), strict=True)
        ]
        promised, limited, rest = flows
        promised.promised = True
        dues = [
            Due((promised,), 6 * MBIT, 0.95),
            Due((limited,), 3 * MBIT, 0.0),
            Due((limited, rest), 13 * MBIT, 0.8),
        ]
        check_promises(harness.lab, dues, congestion=30 * MBIT, seconds=SECONDS)
        (kept, _) = network.constraint_statistics()
        assert (kept.source, kept.dropped_packets) == ("1", 0), "its own meter has dropped what was promised"
        network.remove()
        assert list(clean(testbed)) == []


def test_an_oversubscribed_minimum_is_refused_without_trace(guests: Guests, harness: OpenFlow) -> None:
    a, b, _ = guests.networks
    a.add_constraint(source=1, destination=2, min_bandwidth="12 Mbit/s")
    before = sorted(harness.leftovers())
    # Round the ring there is room, but not within two switches.
    refused = r"max-hops|switch 1 port 101 has 6 Mbit/s free of the 10 Mbit/s wanted; 6 Mbit/s would fit"
    with pytest.raises(ConstraintUnmet, match=refused):
        b.add_constraint(source=1, destination=2, min_bandwidth="10 Mbit/s", max_hops=2)
    with pytest.raises(ConstraintUnmet, match=r"max-latency 500 us; max-latency 1 ms would fit"):
        b.add_constraint(source=1, destination=2, max_latency="500 us")
    wanted = {"source": 1, "destination": 2, "min-bandwidth": "19 Mbit/s"}
    with pytest.raises(ConstraintUnmet, match=r"18 Mbit/s would fit"):
        harness.connection.check(b.description().changed(constraints=(Constraint.model_validate(wanted),)))
    wanted["min-bandwidth"] = "18 Mbit/s"
    harness.connection.check(b.description().changed(constraints=(Constraint.model_validate(wanted),)))
    assert sorted(harness.leftovers()) == before
    assert _reserved(harness) == {("1", "2"): 12 * MBIT}
    b.add_constraint(source=1, destination=2, min_bandwidth="10 Mbit/s")
    assert guests.route(1) == ["1", "3", "2"]
    # A path that is replaced shares what it has with its successor.
    a.modify_constraint(source=1, destination=2, min_bandwidth="18 Mbit/s")
    assert guests.route(0) == ["1", "2"]
    with pytest.raises(ConstraintUnmet, match=r"18 Mbit/s would fit"):
        a.modify_constraint(source=1, destination=2, min_bandwidth="19 Mbit/s")
    a.remove_constraint(1, 2)
    b.modify_constraint(source=1, destination=2, min_bandwidth="18 Mbit/s", max_latency="1 ms")
    assert guests.route(1) == ["1", "2"]
    assert "3 received" in guests.hosts[1, 1].run("ping", "-c", "3", "-i", "0.2", "-W", "2", "10.0.1.2")


def test_a_constraint_without_a_path_is_degraded_and_recovers_by_itself(
    guests: Guests, harness: OpenFlow
) -> None:
    a, b, _ = guests.networks
    a.add_constraint(source=1, destination=2, min_bandwidth="12 Mbit/s")
    b.add_constraint(source=1, destination=2, min_bandwidth="10 Mbit/s")

    def states() -> list[str]:
        return [str(c.state) for n in (a, b) for c in n.state().constraints]

    assert states() == ["active", "active"]
    harness.lab.cut_link(1, 2)
    guests.testbed.eventually(
        lambda: states() != ["degraded", "active"], "the first has no room beside the second"
    )
    harness.await_data_path()
    assert "3 received" in guests.hosts[0, 1].run("ping", "-c", "3", "-i", "0.2", "-W", "2", "10.0.0.2")
    b.remove_constraint(1, 2)
    guests.testbed.eventually(lambda: states() != ["active"], "there is room again")
    guests.testbed.eventually(lambda: guests.route(0) != ["1", "3", "2"], "round the ring")
    harness.lab.restore_link(1, 2)
    guests.testbed.await_links()
    assert guests.route(0) == ["1", "3", "2"]
    assert _reserved(harness) == {("1", "3"): 12 * MBIT, ("3", "2"): 12 * MBIT}


def test_minimums_hold_through_a_controller_restart(guests: Guests, harness: OpenFlow) -> None:
    a, *_ = guests.networks
    a.add_constraint(source=1, destination=2, min_bandwidth="8 Mbit/s")
    before = {s: harness.lab.dump(s) for s in harness.lab.switches}
    harness.kill_controller()
    harness.start_controller()
    assert _reserved(harness) == {("1", "2"): 8 * MBIT}
    assert {s: harness.lab.dump(s) for s in harness.lab.switches} == before
    again = harness.connection.lookup(a.uuid)
    again.remove_constraint(1, 2)
    guests.testbed.eventually(lambda: _reserved(harness), "nothing is reserved")


def test_minimums_hold_again_after_a_switch_restart(guests: Guests, harness: OpenFlow) -> None:
    a, b, _ = guests.networks
    a.add_constraint(source=1, destination=2, min_bandwidth="12 Mbit/s")
    b.add_constraint(source=1, destination=2, min_bandwidth="10 Mbit/s")
    b.modify_endpoint(1, bandwidth={"inbound": "14 Mbit/s", "outbound": "16 Mbit/s"})
    before = {s: sorted(_enduring(harness, s)) for s in harness.lab.switches}
    for switch in (1, 3):
        harness.lab.release([switch])
        harness.lab.wipe(switch)
        harness.lab.control(harness.served.target, [switch])
    guests.testbed.eventually(
        lambda: {s: _enduring(harness, s) for s in before if sorted(_enduring(harness, s)) != before[s]},
        "the switches hold what they held",
    )
    assert _reserved(harness)["1", "3"] == 10 * MBIT


def _enduring(harness: OpenFlow, switch: int) -> list[str]:
    """What a switch holds that does not depend on which hosts were heard of last, and full meters."""
    kept = [line for line in harness.lab.dump(switch) if "idle_timeout" not in line and "group " not in line]
    rates = harness.lab.ofctl("dump-meters", switch).split("\n\n")[0].splitlines()[1:]
    return [re.sub(r"^\(xid.*", "", line) for line in (*kept, *rates)]


def test_constraints_that_switches_cannot_enforce_are_refused(harness: OpenFlow) -> None:
    testbed = Testbed(harness, None)
    for rules, reason in (
        (Rules(encapsulation=Encapsulation.NATIVE), "Use encapsulation vlan or mpls"),
        (Rules(insertion=Insertion.ON_DEMAND), "Use insertion offline"),
    ):
        network = testbed.create(*harness.host_ports()[:3:2], rules=rules)
        with pytest.raises(Unsupported, match=reason):
            network.add_constraint(source=1, destination=2, max_hops=3)
        network.remove()
    assert list(clean(testbed)) == []
