"""Flow tables and label spaces run out: operations fail without trace."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from libnetvirt import Encapsulation, Insertion, Rules, Timeout, VirtualNetwork
from libnetvirt.conformance.harness import Place
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.stream import Stream, repeated_if_void
from libnetvirt.conformance.support.testbed import Testbed, clean, endpoint_at
from libnetvirt.controller.dataplane.pipeline import Table
from libnetvirt.controller.intent.facts import LABELS
from libnetvirt.driver import Change
from libnetvirt.drivers.openflow.opened import OpenedDriver
from libnetvirt.errors import LabelsExhausted, RuleRefused
from libnetvirt.uri import URI
from tests.support.openflow_harness import OpenFlow
from tests.support.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

OFFLINE = [
    Rules(encapsulation=encapsulation, insertion=Insertion.OFFLINE, timeout=Timeout.PERMANENT)
    for encapsulation in Encapsulation
]
ON_DEMAND = [
    Rules(encapsulation=encapsulation, insertion=Insertion.ON_DEMAND, timeout=Timeout.IDLE)
    for encapsulation in Encapsulation
]


@pytest.fixture(scope="module")
def harness(private_namespace: None) -> Iterator[OpenFlow]:  # noqa: ARG001
    with OpenFlow(3, [(1, 2), (2, 3)], hosts=3) as harness:
        yield harness


@pytest.fixture
def testbed(harness: OpenFlow) -> Iterator[Testbed]:
    testbed = Testbed(harness, None)
    yield testbed
    assert list(clean(testbed)) == []


def rules_in(harness: OpenFlow, switch: int, table: Table) -> int:
    """The number of rules in a table."""
    return len(harness.lab.ofctl("dump-flows", switch, f"table={int(table)}").splitlines()) - 1


@contextmanager
def limited(harness: OpenFlow, switch: int, table: Table, room: int) -> Iterator[int]:
    """The table takes ``room`` rules more than it has (which is returned), and refuses others."""
    bridge = harness.lab.bridge(switch)
    eventually(lambda: not harness.differences(), "nothing moves any more")
    held = rules_in(harness, switch, table)
    harness.lab.ovs.vsctl(
        "--", "--id=@t", "create", "Flow_Table", f"flow_limit={held + room}", "overflow_policy=refuse",
        "--", "set", "Bridge", bridge, f"flow_tables:{int(table)}=@t",
    )  # fmt: skip
    try:
        yield held
    finally:
        harness.lab.ovs.vsctl("clear", "Bridge", bridge, "flow_tables")


@pytest.mark.parametrize("rules", OFFLINE, ids=lambda r: r.encapsulation)
@repeated_if_void
def test_a_network_that_exceeds_a_flow_table_is_refused_without_trace(
    testbed: Testbed, harness: OpenFlow, rules: Rules
) -> None:
    p, q, r, s, *_ = harness.host_ports()[::2]
    others = testbed.guests(testbed.create(p, r))
    testbed.announce(*others)
    testbed.eventually(harness.differences, "nothing moves any more")
    before = harness.leftovers()
    macs = tuple(frames.mac(0x4000 + n) for n in range(40))
    wanted = testbed.description((q, 7), (s, 7), rules=rules)
    wanted = wanted.changed(endpoints=(wanted.endpoints[0], wanted.endpoints[1].changed(mac=macs)))
    refused = pytest.raises(RuleRefused, match=r"switch 1 refused.*TABLE_FULL.*raise the limit")
    with limited(harness, 1, Table.HOST, 10), Stream(testbed, *others) as stream, refused:
        harness.connection.create(wanted)
    stream.check_exactly_once()
    testbed.eventually(lambda: set(harness.leftovers()) ^ set(before), "the switches hold what they held")
    assert harness.connection.networks() != []
    testbed.check_reachability(others)
    guests = testbed.guests(harness.connection.create(wanted))
    frame = frames.marked(guests[0].mac, macs[-1], b"now there is room")
    assert testbed.exchange(guests[0], frame) == [guests[1].arrival(frame)]


@pytest.mark.parametrize("rules", OFFLINE[1:], ids=lambda r: r.encapsulation)
@repeated_if_void
def test_a_move_that_a_switch_refuses_goes_back_without_loss(
    testbed: Testbed, harness: OpenFlow, rules: Rules
) -> None:
    old, new, sending = ({p.switch: p for p in harness.host_ports()}[switch] for switch in "123")
    hosts = tuple(frames.mac(0x5000 + n) for n in range(5))
    # Other endpoints at both places, so that the tunnels are the same before and after.
    ends = [
        endpoint_at(sending, 1),
        endpoint_at(old, 2),
        endpoint_at(new, 3),
        endpoint_at(old, 4, 10, mac=hosts),
    ]
    network = testbed.create(endpoints=ends, rules=rules)
    harness.flush_caches()
    source, here = testbed.guest(network, ends[0]), testbed.guest(network, ends[3], hosts[0])
    there = testbed.guest(network, endpoint_at(new, 4, 10), hosts[0])
    testbed.announce(source)
    # Room for what delivers at the old place a little longer, and a probe; not for what leads to the new one.
    room, refused = len(hosts) + 2, pytest.raises(RuleRefused, match=r"switch 1 refused.*TABLE_FULL")
    with limited(harness, 1, Table.HOST, room), Places(testbed, source, here, there) as stream:
        with refused:
            network.modify_endpoint("4", switch=new.switch, port=new.port)
        testbed.eventually(harness.differences, "the switches hold what they should")
    stream.check_exactly_once()
    assert stream.places == {old, new}, "no frame was sent to the new place: the test says nothing"
    frame = frames.marked(source.mac, hosts[-1], b"to the old place")
    assert testbed.exchange(source, frame) == [testbed.guest(network, ends[3], hosts[-1]).arrival(frame)]


class Places(Stream):
    """A stream that knows where its frames have arrived."""

    @property
    def places(self) -> set[Place]:
        return {arrival.place for arrival in self._arrivals if self._text in arrival.frame}


@pytest.mark.parametrize("rules", ON_DEMAND, ids=lambda r: r.encapsulation)
def test_frames_are_delivered_when_no_rules_can_be_added_for_them(
    testbed: Testbed, harness: OpenFlow, rules: Rules
) -> None:
    by_switch = {place.switch: place for place in harness.host_ports()}
    guests = testbed.guests(testbed.create(*by_switch.values(), rules=rules))
    testbed.announce(*guests)
    table = Table.PATH if rules.encapsulation is Encapsulation.NATIVE else Table.HOST
    with limited(harness, 3, table, 0) as held:
        for _ in range(3):
            testbed.check_reachability(guests)
        assert rules_in(harness, 3, table) == held
    testbed.check_reachability(guests)
    assert rules_in(harness, 3, table) > held


async def _fill_and_create(harness: OpenFlow, uri: str, room: int) -> None:
    """With labels for ``room`` networks more on switch 1, create networks until one is refused."""
    driver = await OpenedDriver.open(URI.parse(uri))
    try:
        async with asyncio.timeout(60):
            async for _ in driver.events():
                await driver.adopt(None)  # the switches are another controller's
                if len((await driver.substrate()).links) == 2 * len(harness.lab.links):
                    break
        space = driver.runtime.core.state.labels.spaces[Encapsulation.VLAN]
        vars(space)["_inner"][1] = set(LABELS[Encapsulation.VLAN][room:])
        networks = [
            VirtualNetwork(uuid=n, endpoints=[endpoint_at(p, 1, n), endpoint_at(q, 2, n)])
            for p, q in [harness.host_ports()[::3][:2]]
            for n in range(1, room + 2)
        ]
        for network in networks[:-1]:
            await driver.apply(Change(None, network))
        before = harness.leftovers()
        with pytest.raises(LabelsExhausted, match="switch 1 serves 4093 networks with vlan tunnels"):
            await driver.apply(Change(None, networks[-1]))
        assert harness.leftovers() == before
        assert list(await driver.networks()) == networks[:-1]
        # Each encapsulation has a space of its own.
        other = networks[-1].changed(rules=OFFLINE[-1])
        assert OFFLINE[-1].encapsulation is Encapsulation.MPLS
        await driver.apply(Change(None, other))
        for network in (*networks[:-1], other):
            await driver.apply(Change(network, None))
        assert harness.leftovers() == []
    finally:
        await driver.close()


def test_a_network_without_free_labels_is_refused_without_trace(harness: OpenFlow) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    harness.lab.control(f"tcp:127.0.0.1:{port}")
    try:
        asyncio.run(_fill_and_create(harness, f"openflow:///?listen=127.0.0.1:{port}&state=:memory:", 3))
    finally:
        harness.lab.control(harness.served.target)
