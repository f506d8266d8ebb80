"""How the openflow driver manages switches: reconnections, restarts, foreign rules, idle rules."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

from libnetvirt import Encapsulation, Insertion, Rules, Timeout
from libnetvirt.conformance.support.stream import EventReader, Stream, repeated_if_void
from libnetvirt.conformance.support.testbed import Guest, Testbed, clean
from tests.support.openflow_harness import OpenFlow, of_a_network

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

STALE = "cookie=0x4e56000000770006,table=4,priority=7,metadata=0x7700000000/0xffffffff00000000,actions=drop"


@pytest.fixture(scope="module")
def harness(private_namespace: None) -> Iterator[OpenFlow]:  # noqa: ARG001
    with OpenFlow() as harness:
        yield harness


@pytest.fixture
def testbed(harness: OpenFlow) -> Iterator[Testbed]:
    testbed = Testbed(harness, None)
    yield testbed
    assert list(clean(testbed)) == []


def reconnect(testbed: Testbed, harness: OpenFlow, switch: int) -> None:
    """Break the connection of one switch, which goes on forwarding, and let it connect again."""
    harness.lab.release([switch])
    testbed.eventually(lambda: _connected(harness, switch), "the driver has seen it go")
    harness.lab.control(harness.served.target, [switch])
    testbed.eventually(lambda: not _connected(harness, switch), "the switch is back")
    testbed.await_links()


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


def _active_guests(testbed: Testbed) -> list[Guest]:
    guests = testbed.guests(testbed.create(*testbed.places(4)))
    testbed.announce(*guests)
    return guests


def test_a_reconnection_repairs_differences_and_keeps_all_other_rules(
    testbed: Testbed, harness: OpenFlow
) -> None:
    guests = _active_guests(testbed)
    for _ in range(5):
        testbed.check_reachability(guests)
    # The switch counts with a delay of its own.
    testbed.eventually(lambda: not any(_count(harness, 1).values()), "frames are counted")
    before = _count(harness, 1)
    busy = {rule for rule, packets in before.items() if packets}
    assert busy
    lost = next(rule for rule in before if rule not in busy) if len(busy) < len(before) else min(busy)
    harness.lab.release([1])
    testbed.eventually(lambda: _connected(harness, 1), "the driver has seen it go")
    table = re.search(r"table=\d+", lost)
    cookie = re.search(r"cookie=(0x[0-9a-f]+)", lost)
    assert cookie
    where = f"cookie={cookie[1]}/-1" + (f",{table[0]}" if table else ",table=0")
    harness.lab.ofctl("del-flows", 1, where)
    gone = set(before) - set(_count(harness, 1))
    assert lost in gone
    harness.lab.ofctl("add-flow", 1, STALE)
    harness.lab.control(harness.served.target, [1])
    testbed.eventually(lambda: set(_count(harness, 1)) ^ set(before), "the rules are as before")
    testbed.await_links()
    after = _count(harness, 1)
    assert busy - gone
    assert all(after[rule] >= before[rule] for rule in busy - gone)
    testbed.await_traffic(*guests)
    testbed.check_reachability(guests)


@repeated_if_void
def test_a_switch_that_reconnects_loses_no_frame(testbed: Testbed, harness: OpenFlow) -> None:
    guests = _active_guests(testbed)
    with Stream(testbed, guests[0], guests[1]) as stream:
        for switch in (1, 2):
            reconnect(testbed, harness, switch)
    stream.check_exactly_once()


def test_foreign_rules_are_kept(testbed: Testbed, harness: OpenFlow) -> None:
    foreign = "cookie=0xabc,table=0,priority=3,in_port=3,dl_type=0x88b6,actions=drop"
    harness.lab.ofctl("add-flow", 2, foreign)
    try:
        guests = _active_guests(testbed)
        reconnect(testbed, harness, 2)
        testbed.check_reachability(guests)
        list(clean(testbed))
        reconnect(testbed, harness, 2)
        assert any("cookie=0xabc" in line for line in harness.lab.dump(2))
        notes = {s.id: s.notes for s in harness.connection.substrate().switches}
        assert any("of another program" in note for note in notes["2"])
    finally:
        harness.lab.ofctl("del-flows", 2, "cookie=0xabc/-1")


@repeated_if_void
def test_a_second_bridge_with_a_datapath_id_is_refused_and_disturbs_nobody(
    testbed: Testbed, harness: OpenFlow
) -> None:
    reader = EventReader(harness.connection)
    guests = _active_guests(testbed)
    ovs = harness.lab.ovs
    try:
        with Stream(testbed, guests[0], guests[1]) as stream:
            ovs.vsctl(
                "add-br", "twin", "--", "set", "Bridge", "twin", "datapath_type=netdev",
                "protocols=OpenFlow13", "fail_mode=secure", "other_config:disable-in-band=true",
                "other_config:datapath-id=0000000000000001",
                "--", "set-controller", "twin", harness.served.target,
            )  # fmt: skip
            testbed.eventually(lambda: "switch.refused" not in reader.kinds(), "the second bridge is refused")
            time.sleep(5)  # it tries again
        stream.check_exactly_once()
        refused = [e for e in reader.events if e.kind == "switch.refused"]
        assert len(refused) == 1
        substrate = harness.connection.substrate()
        (first,) = [s for s in substrate.switches if s.id == "1"]
        assert first.connected
        assert first.address == refused[0].fields["holder"]
        assert refused[0].fields["address"] in refused[0].message
        assert first.address in refused[0].message
        assert [n for n in substrate.notes if "its datapath id, 1, is that of" in n and first.address in n]
        assert not {"switch.disconnected", "link.down"} & set(reader.kinds())
        ovs.vsctl("set", "Bridge", "twin", "other_config:datapath-id=00000000000000aa")
        testbed.eventually(lambda: not _connected(harness, 0xAA), "it is used under a datapath id of its own")
        testbed.eventually(
            lambda: [n for n in harness.connection.substrate().notes if "its datapath id" in n],
            "nothing is said any more",
        )
    finally:
        ovs.vsctl("--if-exists", "del-br", "twin")
    testbed.check_reachability(guests)


def test_all_switches_restart_at_once(testbed: Testbed, harness: OpenFlow) -> None:
    guests = _active_guests(testbed)
    harness.lab.restart_all()
    testbed.await_links()
    testbed.await_traffic(*guests)
    testbed.announce(*guests)
    testbed.check_reachability(guests)


def test_a_switch_that_speaks_only_openflow_1_0_is_reported(testbed: Testbed, harness: OpenFlow) -> None:
    guests = _active_guests(testbed)
    reader = EventReader(harness.connection)
    harness.lab.ovs.vsctl("add-br", "old", "--", "set", "Bridge", "old", "datapath_type=netdev",
                          "fail_mode=secure", "protocols=OpenFlow10")  # fmt: skip
    try:
        harness.lab.ovs.vsctl("set-controller", "old", harness.served.target)
        testbed.eventually(lambda: "switch.refused" not in reader.kinds(), "an event switch.refused")
        refused = next(e for e in reader.events if e.kind == "switch.refused")
        assert "1.0" in refused.message or "0x01" in refused.message
        testbed.check_reachability(guests)
    finally:
        harness.lab.ovs.vsctl("del-br", "old")


def test_idle_rules_expire_and_are_installed_again(testbed: Testbed, harness: OpenFlow) -> None:
    rules = Rules(encapsulation=Encapsulation.NATIVE, insertion=Insertion.ON_DEMAND, timeout=Timeout.IDLE,
                  duration="1 s")  # fmt: skip
    network = testbed.create(*testbed.places(3), rules=rules)
    guests = testbed.guests(network)
    testbed.announce(*guests)
    testbed.check_reachability(guests)

    def pair_rules() -> list[str]:
        return [line for line in harness.leftovers() if "idle_timeout" in line]

    def unseen() -> bool:
        """On a busy machine they may be gone before they are read."""
        testbed.check_reachability(guests)
        return not pair_rules()

    testbed.eventually(unseen, "there are such rules")
    testbed.eventually(pair_rules, "idle rules go")
    testbed.check_reachability(guests)
