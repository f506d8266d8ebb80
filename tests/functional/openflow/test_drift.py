"""Rules, groups and meters that another program removes, changes or adds while the connection stays."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from statistics import median

import pytest

from libnetvirt import Encapsulation, Event, Insertion, Network, Rules, State, Timeout
from libnetvirt.conformance.support.stream import EventReader
from libnetvirt.conformance.support.testbed import Guest, Testbed, clean, endpoint_at
from libnetvirt.controller.dataplane.pipeline import METERS, Kind
from tests.support.openflow_harness import OpenFlow
from tests.support.promised_times import FACTOR, by, crowd

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

#: seconds between audits, and between those where drift is only reported
AUDIT, OFTEN = 2.0, 0.2
#: within so many audits drift is found, as documented
FOUND = 1.8 / AUDIT
#: the seconds for that of pairs of hosts, as documented: it has to last before it is called one
PAIRS = 3.2
#: the seconds in which what was found is restored, as documented
RESTORED = 0.008
REPORT = "drift=report"
LIMIT = {"inbound": "100 Mbit/s", "outbound": "100 Mbit/s"}
Disturb = Callable[[OpenFlow], None]


@pytest.fixture(scope="module", params=["", f"&{REPORT}&audit={OFTEN}"], ids=["mend", "report"])
def harness(private_namespace: None, request: pytest.FixtureRequest) -> Iterator[OpenFlow]:  # noqa: ARG001
    with OpenFlow(2, [(1, 2)], hosts=2, options=request.param) as harness:
        yield harness


@pytest.fixture(scope="module")
def restoring(harness: OpenFlow) -> Iterator[list[float]]:  # noqa: ARG001 (one list for each harness)
    """How many seconds each restoration took. Most are as quick as documented."""
    took: list[float] = []
    yield took
    if len(took) >= 5:
        print("restored within", sorted(took))
        assert median(took) <= FACTOR * RESTORED * crowd()


@pytest.fixture
def testbed(harness: OpenFlow) -> Iterator[Testbed]:
    testbed = Testbed(harness, None)
    yield testbed
    assert list(clean(testbed)) == []


def remove_rules(harness: OpenFlow) -> None:
    harness.lab.ofctl("del-flows", 1, "table=0,in_port=1")


def remove_group(harness: OpenFlow) -> None:
    """Open vSwitch removes the rules that refer to it, too."""
    group = re.search(r"group_id=(\d+),type=all", harness.lab.ofctl("dump-groups", 1))
    assert group
    harness.lab.ofctl("del-groups", 1, f"group_id={group[1]}")


def remove_meter(harness: OpenFlow) -> None:
    """The rule that uses it is removed, too, without any message."""
    meters = [int(n) for n in re.findall(r"meter=(\d+)", harness.lab.ofctl("dump-meters", 1))]
    harness.lab.ofctl("del-meter", 1, f"meter={next(n for n in meters if n in METERS)}")


def change_rule(harness: OpenFlow) -> None:
    harness.lab.ofctl("mod-flows", 1, "table=0,in_port=1,vlan_tci=0x0000/0x1fff actions=drop")


def change_group(harness: OpenFlow) -> None:
    group = re.search(r"group_id=(\d+),type=all", harness.lab.ofctl("dump-groups", 1))
    assert group
    harness.lab.ofctl("mod-group", 1, f"group_id={group[1]},type=all,bucket=drop")


def add_foreign_rule(harness: OpenFlow) -> None:
    harness.lab.ofctl("add-flow", 1, "table=0,priority=65535,actions=NORMAL")


def add_marked_rule(harness: OpenFlow) -> None:
    """A rule that looks like one of ours, above all of these."""
    harness.lab.ofctl("add-flow", 1, "cookie=0x4e56000007770003,table=0,priority=300,in_port=1,actions=drop")


DISTURBANCES = [remove_rules, remove_group, remove_meter, change_rule, change_group, add_foreign_rule,
                add_marked_rule]  # fmt: skip


def _network(testbed: Testbed, harness: OpenFlow) -> tuple[Network, list[Guest]]:
    """A network on two switches, one of whose endpoints has limits; its guests have exchanged frames."""
    here, there = harness.host_ports()[0], harness.host_ports()[2]
    endpoints = [endpoint_at(here, 1, bandwidth=LIMIT), endpoint_at(harness.host_ports()[1], 2),
                 endpoint_at(there, 3)]  # fmt: skip
    network = testbed.create(endpoints=endpoints)
    return network, testbed.learned_guests(network)


def _in_time(harness: OpenFlow, audits: float) -> float:
    """The seconds in which drift has to be found that is documented to take so many audits."""
    return by(audits * (OFTEN if REPORT in harness.served.uri else AUDIT))


def _await_event(testbed: Testbed, reader: EventReader, kind: str, network: str) -> Event:
    def found() -> list[Event]:
        return [e for e in list(reader.events) if e.kind == kind and e.network == network]

    testbed.eventually(lambda: not found(), f"an event {kind}")
    return found()[0]


def _holds(harness: OpenFlow) -> set[str]:
    return set(harness.leftovers())


@pytest.mark.parametrize("disturb", DISTURBANCES, ids=lambda d: d.__name__)
def test_drift_is_found_while_the_connection_stays(
    testbed: Testbed, harness: OpenFlow, disturb: Disturb, restoring: list[float]
) -> None:
    reports = REPORT in harness.served.uri
    network, guests = _network(testbed, harness)
    testbed.eventually(harness.differences, "nothing moves any more")
    before = _holds(harness)
    reader = EventReader(harness.connection)
    assert network.state().state is State.ACTIVE
    disturb(harness)
    disturbed = time.time()
    found = _await_event(testbed, reader, "drift.found", network.uuid)
    assert found.time - disturbed < _in_time(harness, FOUND)
    assert found.switch == "1"
    assert network.description().name in found.message
    if reports:
        state = network.state()
        assert state.state is State.DEGRADED
        assert state.drift
        time.sleep(5 * OFTEN)  # some audits more
        assert [e.kind for e in reader.events if e.kind.startswith("drift.")].count("drift.found") == 1
        assert network.state().drift == state.drift
        assert set(harness.leftovers()) != before or disturb is add_foreign_rule
        name = network.description().name
        foreseen = [f"network {name}: would be repaired: {text}" for text in state.drift]
        assert harness.connection.rehearsal().repair() == foreseen
        assert network.state().drift == state.drift
        lines = harness.connection.repair()
        assert lines
        assert all("repaired" in line for line in lines)
    restored = _await_event(testbed, reader, "drift.mended", network.uuid)
    if not reports:
        restoring.append(restored.time - found.time)
        assert restoring[-1] < by(RESTORED)
    assert network.state().drift == ()
    # A rule that takes all frames also makes the switch untrusted, until it was probed again.
    testbed.eventually(lambda: network.state().state is not State.ACTIVE, "the network is active")
    testbed.eventually(lambda: _holds(harness) ^ before, "the switches hold what they held")
    testbed.stays(lambda: network.state().state is not State.ACTIVE, "the network is active", 3 * OFTEN)
    assert "NORMAL" not in harness.lab.ofctl("dump-flows", 1)
    testbed.eventually(harness.differences, "the switches hold what they should")
    harness.flush_caches()
    testbed.await_traffic(*guests)
    testbed.check_reachability(guests)
    assert not {"switch.disconnected", "switch.quarantined"} & reader.kinds()


@pytest.mark.parametrize("encapsulation", list(Encapsulation))
def test_lost_rules_of_a_pair_of_hosts_are_found_and_not_restored_blindly(
    testbed: Testbed, harness: OpenFlow, encapsulation: Encapsulation
) -> None:
    """Without the rules behind the first switch, frames of the pair are dropped for as long as it lives."""
    rules = Rules(encapsulation=encapsulation, insertion=Insertion.ON_DEMAND, timeout=Timeout.PERMANENT)
    network = testbed.create(harness.host_ports()[0], harness.host_ports()[2], rules=rules)
    guests = testbed.guests(network)
    testbed.announce(*guests)
    testbed.check_reachability(guests)
    reader = EventReader(harness.connection)
    harness.lab.ofctl("del-flows", 2, f"cookie={int(Kind.PATH)}/0xffff")
    lost = time.time()
    found = _await_event(testbed, reader, "drift.found", network.uuid)
    assert found.time - lost < by(PAIRS)
    assert found.switch == "2"
    assert "set up again" in found.message
    if REPORT in harness.served.uri:
        assert network.state().state is State.DEGRADED
        assert harness.connection.repair(network.uuid)
    _await_event(testbed, reader, "drift.mended", network.uuid)
    assert network.state().state is State.ACTIVE
    harness.flush_caches()
    testbed.await_traffic(*guests)
    testbed.check_reachability(guests)


def test_apply_of_the_same_description_repairs(testbed: Testbed, harness: OpenFlow) -> None:
    network, guests = _network(testbed, harness)
    wanted = network.description()
    assert harness.connection.apply(wanted).outcome == "unchanged"
    applied = []

    def unrepaired() -> bool:
        """An audit may be there first."""
        remove_rules(harness)
        applied.append(harness.connection.apply(wanted))
        return applied[-1].outcome != "changed"

    testbed.eventually(unrepaired, "it is repaired")
    assert "repaired" in applied[-1].changes[0]
    assert harness.connection.apply(wanted).outcome == "unchanged"
    assert network.state().state is State.ACTIVE
    harness.flush_caches()
    testbed.await_traffic(*guests)
    testbed.check_reachability(guests)
