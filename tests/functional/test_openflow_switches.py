"""What the openflow driver does with the switches themselves, beyond what the conformance suite sees."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

from lab.openflow import OpenFlow, of_a_network
from libnetvirt import Encapsulation, Insertion, Rules, Timeout
from libnetvirt.conformance.support.stream import Listener, Stream
from libnetvirt.conformance.support.testbed import Bench, clean
from libnetvirt.conformance.tests.faults import _check_all

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

STALE = "cookie=0x4e56000000770006,table=4,priority=7,metadata=0x7700000000/0xffffffff00000000,actions=drop"


@pytest.fixture(scope="module")
def harness(private_namespace: None) -> Iterator[OpenFlow]:  # noqa: ARG001
    with OpenFlow() as harness:
        yield harness


@pytest.fixture
def bench(harness: OpenFlow) -> Iterator[Bench]:
    bench = Bench(harness, None)
    yield bench
    assert list(clean(bench)) == []


def reconnect(bench: Bench, harness: OpenFlow, switch: int) -> None:
    """Break the connection of one switch, which goes on forwarding, and let it connect again."""
    harness.lab.release([switch])
    bench.eventually(lambda: _connected(harness, switch), "the driver has seen it go")
    harness.lab.control(harness.served.target, [switch])
    bench.eventually(lambda: not _connected(harness, switch), "the switch is back")
    bench.await_links()


def _connected(harness: OpenFlow, switch: int) -> bool:
    switches = harness.connection.substrate().switches
    return any(s.connected for s in switches if s.id == str(switch))


def _count(harness: OpenFlow, switch: int) -> dict[str, int]:
    """Packet counters of the rules of networks, by the rest of the rule's text."""
    found = {}
    for line in harness.lab.dump(switch, statistics=True):
        counter = re.search(r"n_packets=(\d+)", line)
        if line.startswith("flow ") and of_a_network(line) and counter:
            rule = re.sub(r"\b(duration|n_packets|n_bytes|idle_age|hard_age)=[^,]*, ?", "", line)
            found[rule] = int(counter[1])
    return found


def _acquainted(bench: Bench) -> list:
    guests = bench.guests(bench.create(*bench.places(4)))
    bench.meet(*guests)
    return guests


def test_reconnecting_mends_the_differences_and_wipes_nothing(bench: Bench, harness: OpenFlow) -> None:
    guests = _acquainted(bench)
    for _ in range(5):
        _check_all(bench, guests)
    time.sleep(1.2)  # the switch's own delay in counting
    before = _count(harness, 1)
    busy = {rule for rule, packets in before.items() if packets}
    assert busy
    lost = next(rule for rule in before if rule not in busy) if len(busy) < len(before) else min(busy)
    harness.lab.release([1])
    bench.eventually(lambda: _connected(harness, 1), "the driver has seen it go")
    table = re.search(r"table=\d+", lost)
    cookie = re.search(r"cookie=(0x[0-9a-f]+)", lost)
    assert cookie
    where = f"cookie={cookie[1]}/-1" + (f",{table[0]}" if table else ",table=0")
    harness.lab.ofctl("del-flows", 1, where)
    gone = set(before) - set(_count(harness, 1))
    assert lost in gone
    harness.lab.ofctl("add-flow", 1, STALE)
    harness.lab.control(harness.served.target, [1])
    bench.eventually(lambda: set(_count(harness, 1)) ^ set(before), "the rules are as before")
    bench.await_links()
    after = _count(harness, 1)
    assert busy - gone
    assert all(after[rule] >= before[rule] for rule in busy - gone)
    bench.await_traffic(*guests)
    _check_all(bench, guests)


def test_a_switch_that_reconnects_loses_no_frame(bench: Bench, harness: OpenFlow) -> None:
    guests = _acquainted(bench)
    with Stream(bench, guests[0], guests[1]) as stream:
        for switch in (1, 2):
            reconnect(bench, harness, switch)
    stream.check_unharmed()


def test_rules_of_others_survive(bench: Bench, harness: OpenFlow) -> None:
    foreign = "cookie=0xabc,table=0,priority=3,in_port=3,dl_type=0x88b6,actions=drop"
    harness.lab.ofctl("add-flow", 2, foreign)
    try:
        guests = _acquainted(bench)
        reconnect(bench, harness, 2)
        _check_all(bench, guests)
        list(clean(bench))
        reconnect(bench, harness, 2)
        assert any("cookie=0xabc" in line for line in harness.lab.dump(2))
        notes = {s.id: s.notes for s in harness.connection.substrate().switches}
        assert any("belong to somebody else" in note for note in notes["2"])
    finally:
        harness.lab.ofctl("del-flows", 2, "cookie=0xabc/-1")


def test_all_switches_restart_at_once(bench: Bench, harness: OpenFlow) -> None:
    guests = _acquainted(bench)
    harness.lab.restart_all()
    bench.await_links()
    bench.await_traffic(*guests)
    bench.meet(*guests)
    _check_all(bench, guests)


def test_a_switch_that_speaks_only_openflow_1_0_is_reported(bench: Bench, harness: OpenFlow) -> None:
    guests = _acquainted(bench)
    listener = Listener(harness.connection)
    harness.lab.ovs.vsctl("add-br", "old", "--", "set", "Bridge", "old", "datapath_type=netdev",
                          "fail_mode=secure", "protocols=OpenFlow10")  # fmt: skip
    try:
        harness.lab.ovs.vsctl("set-controller", "old", harness.served.target)
        bench.eventually(lambda: "switch.refused" not in listener.kinds(), "an event switch.refused")
        refused = next(e for e in listener.events if e.kind == "switch.refused")
        assert "1.0" in refused.message or "0x01" in refused.message
        _check_all(bench, guests)
    finally:
        harness.lab.ovs.vsctl("del-br", "old")


def test_idle_rules_go_and_come_again(bench: Bench, harness: OpenFlow) -> None:
    rules = Rules(encapsulation=Encapsulation.NATIVE, insertion=Insertion.ON_DEMAND, timeout=Timeout.IDLE,
                  duration="1 s")  # fmt: skip
    network = bench.create(*bench.places(3), rules=rules)
    guests = bench.guests(network)
    bench.meet(*guests)
    _check_all(bench, guests)

    def pair_rules() -> list[str]:
        return [line for line in harness.leftovers() if "idle_timeout" in line]

    assert pair_rules()
    bench.eventually(pair_rules, "idle rules go")
    _check_all(bench, guests)
