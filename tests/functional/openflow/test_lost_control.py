"""Control connections that fail while their switches forward on: no frame is lost, and the state says so."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import pytest

from libnetvirt import Encapsulation, Insertion, Network, NoPath, Rules, State, Timeout
from libnetvirt import openflow as of
from libnetvirt.conformance.harness import Place
from libnetvirt.conformance.support.stream import EventReader, Stream, repeated_if_void
from libnetvirt.conformance.support.testbed import Guest, Testbed, clean
from libnetvirt.controller.dataplane.pipeline import Table
from tests.support.control_relay import ControlRelay
from tests.support.openflow_harness import OpenFlow
from tests.support.promised_times import by

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(90)]

#: seconds until a switch has failed to confirm its rules
CONFIRM = 1
INTERVAL, HOLD = 0.2, 1.5
#: as long as paths could still be cut by a timeout: the link time-out and ``hold``, and two rounds
EXPOSURE = 3 * INTERVAL + HOLD + 2 * INTERVAL
#: until it is noticed that a switch does not answer, and that a link loses all frames
SILENT, LOST = partial(by, 6, INTERVAL), partial(by, 8, INTERVAL)
#: for how long something that has come back must stay so: longer than anything that could still expire
STAYS = 5 * INTERVAL
#: for how long it may be otherwise at a time: a busy machine exceeds the link time-out, which is short here
SPELL = partial(by, 0)
NO_ANSWER = "switch 2 does not answer"
#: 1 and 3 are opposite in the ring
NEAR, FAR = Place("1", "1"), Place("3", "1")
RULES = [
    None,
    Rules(encapsulation=Encapsulation.NATIVE, insertion=Insertion.OFFLINE, timeout=Timeout.PERMANENT),
    Rules(encapsulation=Encapsulation.MPLS, insertion=Insertion.ON_DEMAND, timeout=Timeout.PERMANENT),
]


class Relayed(OpenFlow):
    """A ring of four switches, each with a relay in its control connection."""

    def __init__(self) -> None:
        super().__init__(hosts=1, options=f"&confirm-timeout={CONFIRM}&lldp-interval={INTERVAL}&hold={HOLD}")
        self.timeout = 30.0  # a switch that connects again waits for seconds
        self.relays: dict[int, ControlRelay] = {}
        self._stack = ExitStack()

    def start(self) -> None:
        try:
            self.lab.start()
            for switch in self.lab.switches:
                self.relays[switch] = self._stack.enter_context(ControlRelay(self.served.port))
            self.lab.control(self.served.target, [])
            self.served_by_relays()
            self.start_controller()
        except BaseException:
            self.stop()
            raise

    def served_by_relays(self) -> None:
        for switch, relay in self.relays.items():
            self.lab.control(relay.target, [switch])

    def stop(self) -> None:
        super().stop()
        self._stack.close()


@pytest.fixture(scope="module")
def harness(private_namespace: None) -> Iterator[Relayed]:  # noqa: ARG001
    with Relayed() as harness:
        yield harness


@pytest.fixture(params=RULES, ids=["vlan", "native", "on-demand"])
def testbed(harness: Relayed, request: pytest.FixtureRequest) -> Iterator[Testbed]:
    testbed = Testbed(harness, request.param)
    yield testbed
    for relay in harness.relays.values():
        relay.restore()
    testbed.await_links()
    assert list(clean(testbed)) == []
    testbed.eventually(harness.differences, "the switches hold what they should")


TWO = pytest.mark.parametrize("testbed", RULES[:2], ids=["vlan", "native"], indirect=True)
ONE = pytest.mark.parametrize("testbed", RULES[:1], ids=["vlan"], indirect=True)


def _pair(testbed: Testbed) -> tuple[Network, Guest, Guest]:
    """A network whose two guests have exchanged frames."""
    network, (near, far) = testbed.create_active(NEAR, FAR)
    return network, near, far


@contextmanager
def _line(testbed: Testbed, harness: Relayed) -> Iterator[None]:
    """1 - 2 - 3 - 4: there is one way only."""
    harness.cut_link("4", "1")
    testbed.eventually(lambda: len(harness.connection.substrate().links) != 6, "there is one way")
    try:
        yield
    finally:
        harness.restore_link("4", "1")


def _transit(network: Network) -> str:
    (path,) = (p for p in network.paths() if p.source == "1")
    return path.hops[1].switch


def _reasons(harness: Relayed, switch: str) -> set[str]:
    """Why the links of a switch are unconfirmed."""
    links = harness.connection.substrate().links
    return {link.unconfirmed for link in links if switch in (link.source, link.destination)}


def _unless(network: Network, state: State, reason: str = "") -> Callable[[], object]:
    """What is not as it should be."""

    def found() -> object:
        seen = network.state()
        right = seen.state is state and all(reason in e.reason for e in seen.endpoints)
        return None if right else (seen.state, [e.reason for e in seen.endpoints])

    return found


@repeated_if_void
def test_a_transit_switch_without_alternative_forwards_on_without_its_control_connection(
    testbed: Testbed, harness: Relayed
) -> None:
    """First nothing passes, then the connection ends, then the switch comes back."""
    with _line(testbed, harness):
        network, near, far = _pair(testbed)
        reader, relay = EventReader(harness.connection), harness.relays[2]
        with Stream(testbed, near, far) as there:
            relay.silence()
            testbed.eventually(_unless(network, State.UNCONFIRMED, NO_ANSWER), "the state says so", SILENT())
            unconfirmed = lambda: _reasons(harness, "2") != {NO_ANSWER}  # noqa: E731
            testbed.eventually(unconfirmed, "its links are unconfirmed", by(0))
            testbed.eventually(lambda: "switch.silent" not in reader.kinds(), "it is reported", by(0))
            with pytest.raises(NoPath, match="leads through switch 2, which cannot be given rules"):
                testbed.create((Place("1", "1"), 60), (Place("4", "1"), 60))
            time.sleep(EXPOSURE)
            relay.cut()
            gone = _unless(network, State.UNCONFIRMED, "switch 2 is not connected")
            testbed.eventually(gone, "it ends", by(0))
            testbed.stays(gone, "the state says so", EXPOSURE, SPELL())
            assert _transit(network) == "2"
            relay.restore()
            testbed.eventually(_unless(network, State.ACTIVE), "it is back")
            testbed.stays(_unless(network, State.ACTIVE), "it stays", STAYS, SPELL())
        there.check_exactly_once()
        reader.await_kinds("switch.silent", "link.unconfirmed", "link.up", "endpoint.state")
        assert not {"link.down", "path.moved", "discovery.forged"} & reader.kinds()
        testbed.check_reachability([near, far])


@TWO
@repeated_if_void
def test_in_a_ring_traffic_moves_off_a_switch_that_does_not_answer(
    testbed: Testbed, harness: Relayed
) -> None:
    network, near, far = _pair(testbed)
    silent = _transit(network)
    with Stream(testbed, near, far) as stream:
        harness.relays[int(silent)].silence()
        testbed.eventually(lambda: _transit(network) == silent, "the path is moved", SILENT())
        testbed.stays(_unless(network, State.ACTIVE), "it is active", EXPOSURE, SPELL())
        harness.relays[int(silent)].restore()
        testbed.await_links()
    stream.check_exactly_once()
    testbed.check_reachability([near, far])


def _leads_on(message: bytes) -> bool:
    """Whether a switch is told how to pass on frames of other switches."""
    decoded = of.decode(message)
    if isinstance(decoded, of.BundleAdd):
        decoded = decoded.message
    return isinstance(decoded, of.FlowMod) and decoded.table_id in (Table.TUNNEL, Table.PATH)


@TWO
@repeated_if_void
def test_traffic_stays_where_it_is_while_the_other_way_is_not_confirmed(
    testbed: Testbed, harness: Relayed
) -> None:
    """The switch of the other way stops answering when it is about to get its rules."""
    network, near, far = _pair(testbed)
    silent = int(_transit(network))
    other = harness.relays[6 - silent]
    with Stream(testbed, near, far) as stream:
        other.silence_at(_leads_on)
        harness.relays[silent].silence()
        testbed.eventually(lambda: not other.is_silent, "paths are moved", SILENT())
        both = _unless(network, State.UNCONFIRMED, "switch ")
        testbed.eventually(both, "it is given up", by(2, INTERVAL) + CONFIRM)
        testbed.stays(both, "the state says so", EXPOSURE, SPELL())
        assert _transit(network) == str(silent)
        harness.relays[silent].restore()
        other.restore()
        testbed.eventually(_unless(network, State.ACTIVE), "the switches are back")
        testbed.await_links()
    stream.check_exactly_once()
    testbed.check_reachability([near, far])


@ONE
@repeated_if_void
def test_in_a_ring_traffic_moves_off_a_switch_without_connection_after_hold(
    testbed: Testbed, harness: Relayed
) -> None:
    network, near, far = _pair(testbed)
    gone = _transit(network)
    with Stream(testbed, near, far) as stream:
        harness.relays[int(gone)].cut()
        began = time.monotonic()
        testbed.eventually(lambda: _transit(network) == gone, "the path is moved", HOLD + by(2, INTERVAL))
        assert time.monotonic() - began > HOLD - INTERVAL
        harness.relays[int(gone)].restore()
        testbed.await_links()
    stream.check_exactly_once()
    testbed.check_reachability([near, far])


@ONE
@repeated_if_void
def test_nothing_is_moved_when_the_controller_is_cut_off(testbed: Testbed, harness: Relayed) -> None:
    network, near, far = _pair(testbed)
    reader, transit = EventReader(harness.connection), _transit(network)
    with Stream(testbed, near, far) as stream:
        for relay in harness.relays.values():
            relay.silence()
        testbed.eventually(lambda: "control.lost" not in reader.kinds(), "it is noticed", SILENT())
        testbed.eventually(_unless(network, State.UNCONFIRMED), "the state says so", by(0))
        testbed.stays(_unless(network, State.UNCONFIRMED), "the state says so", EXPOSURE, SPELL())
        for relay in harness.relays.values():
            relay.cut()
        gone = _unless(network, State.UNCONFIRMED, "no switch answers")
        testbed.eventually(gone, "connections end", by(0))
        testbed.stays(gone, "the state says so", EXPOSURE, SPELL())
        for relay in harness.relays.values():
            relay.restore()
        testbed.eventually(_unless(network, State.ACTIVE), "the switches are back")
        testbed.await_links()
        testbed.stays(_unless(network, State.ACTIVE), "they stay", STAYS, SPELL())
        assert _transit(network) == transit
    stream.check_exactly_once()
    assert "path.moved" not in reader.kinds()
    testbed.check_reachability([near, far])


@contextmanager
def _dead(wires: Sequence[str]) -> Iterator[None]:
    """These interfaces stay up and send no frame: each is larger than the bucket of its limit."""
    bucket = ["tbf", "rate", "8bit", "burst", "10", "limit", "10"]
    for wire in wires:
        subprocess.run(["tc", "qdisc", "add", "dev", wire, "root", *bucket], check=True)
    try:
        yield
    finally:
        for wire in wires:
            subprocess.run(["tc", "qdisc", "del", "dev", wire, "root"], check=True)


@ONE
def test_traffic_is_rerouted_around_a_switch_that_is_frozen(testbed: Testbed, harness: Relayed) -> None:
    """It neither answers nor forwards, and its neighbours' ports stay up."""
    network, near, far = _pair(testbed)
    frozen = int(_transit(network))
    wires = [harness.lab.interface(*end) for end in harness.lab.link_ports if end[0] == frozen]
    with _dead(wires):
        harness.relays[frozen].silence()
        testbed.eventually(lambda: _transit(network) == str(frozen), "the path is moved", SILENT())
        testbed.await_traffic(near, far)
        testbed.stays(_unless(network, State.ACTIVE), "it is active", STAYS, SPELL())
    harness.relays[frozen].restore()
    testbed.await_links()
    testbed.check_reachability([near, far])


@ONE
def test_a_link_that_loses_frames_between_switches_that_answer_is_down(
    testbed: Testbed, harness: Relayed
) -> None:
    network, near, far = _pair(testbed)
    first, transit, *_ = next(p for p in network.paths() if p.source == "1").hops
    wires = [
        harness.lab.interface(int(first.switch), int(first.out_port)),
        harness.lab.interface(int(transit.switch), int(transit.in_port)),
    ]
    reader = EventReader(harness.connection)
    with _dead(wires):
        testbed.eventually(lambda: _transit(network) == transit.switch, "the path is moved", LOST())
        testbed.eventually(lambda: "link.down" not in reader.kinds(), "the link is reported", by(0))
        assert "link.unconfirmed" not in reader.kinds()
        testbed.await_traffic(near, far)
    testbed.await_links()
