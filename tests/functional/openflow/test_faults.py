"""Failures of switches and links during operations: no effect on others, and the requested end state."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from statistics import median

import pytest

from libnetvirt import Network, VirtualNetwork
from libnetvirt.conformance import Arrival
from libnetvirt.conformance.harness import Place
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.frames import BROADCAST
from libnetvirt.conformance.support.stream import EventReader, Stream, repeated_if_void
from libnetvirt.conformance.support.testbed import Guest, Testbed, clean, endpoint_at
from libnetvirt.errors import NoPath, RuleRefused, SubstrateError, SwitchNotFound, SwitchTimeout
from tests.support.openflow_harness import OpenFlow
from tests.support.promised_times import FACTOR, by, crowd
from tests.support.tally import Tally
from tests.support.tcp_switch import TcpSwitch

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(90)]

TIMEOUT = 1.0
#: seconds until a switch that has failed is used again: it waits twice as long after each failure
BACK = 15.0
#: for how many seconds a link that goes down interrupts traffic, as documented, and how often that is tried
DEAD, CUTS = 0.1, 5
STRANGE = Place("99", "1")
_strangers = itertools.count(200)


@pytest.fixture(scope="module")
def harness(private_namespace: None) -> Iterator[OpenFlow]:  # noqa: ARG001
    with OpenFlow(options=f"&confirm-timeout={TIMEOUT}&lldp-interval=0.5") as harness:
        yield harness


@pytest.fixture
def testbed(harness: OpenFlow) -> Iterator[Testbed]:
    testbed = Testbed(harness, None)
    # Hosts have the same addresses in each test: else a first frame may meet a cached flow of the last one.
    harness.flush_caches()
    yield testbed
    assert list(clean(testbed)) == []
    testbed.eventually(harness.differences, "the switches hold what they should")


@pytest.fixture
def strange(harness: OpenFlow, testbed: Testbed) -> Iterator[TcpSwitch]:
    """A fifth switch, that is not a real one; it has no links."""
    with _strange(harness, testbed, STRANGE) as switch:
        yield switch


def _stranger() -> Place:
    """A port of a switch that is new: one that has failed before is used again only after a while."""
    return Place(str(next(_strangers)), "1")


@contextmanager
def _strange(harness: OpenFlow, testbed: Testbed, place: Place) -> Iterator[TcpSwitch]:
    with TcpSwitch(int(place.switch), harness.served.port) as switch:
        testbed.eventually(lambda: not _connected(harness, place.switch), "it is connected", BACK)
        # It may still be reconciled: an operation waits until that is over, so that the faults that a test
        # sets meet the test's own operations.
        testbed.create((Place("1", "3"), 50), (Place("3", "3"), 50)).remove()
        yield switch
        for network in harness.connection.networks():
            network.remove()
    testbed.eventually(lambda: _connected(harness, place.switch), "it is gone")


def _connected(harness: OpenFlow, switch: str) -> bool:
    return any(s.connected for s in harness.connection.substrate().switches if s.id == switch)


def _others(testbed: Testbed) -> list[Guest]:
    guests = testbed.guests(testbed.create(*testbed.places(4)))
    testbed.announce(*guests)
    return guests


def _shared(testbed: Testbed, strange: Place = STRANGE) -> VirtualNetwork:
    """A network on real switches and a strange one."""
    real = [(place, 77) for place in testbed.places(3)]
    return testbed.description(*real, strange)


def _of(harness: OpenFlow, network: VirtualNetwork) -> list[VirtualNetwork]:
    return [d for d in harness.connection.descriptions() if d.uuid == network.uuid]


@repeated_if_void
def test_an_operation_that_a_switch_refuses_is_undone_on_all_switches(
    testbed: Testbed, harness: OpenFlow
) -> None:
    place = _stranger()
    with _strange(harness, testbed, place) as strange:
        guests = _others(testbed)
        testbed.eventually(harness.differences, "nothing moves any more")
        held = [sorted(harness.lab.dump(s)) for s in harness.lab.switches]
        network = _shared(testbed, place)
        strange.faults.refuses = True
        with Stream(testbed, guests[0], guests[2]) as stream:
            with pytest.raises(RuleRefused, match=f"switch {place.switch} refused the change"):
                harness.connection.create(network, pending=True)
            strange.faults.refuses = False
            assert not _of(harness, network)
            assert [sorted(harness.lab.dump(s)) for s in harness.lab.switches] == held
        stream.check_exactly_once()
        testbed.eventually(lambda: not _connected(harness, place.switch), "the switch is back", BACK)
        harness.connection.create(network, pending=True)
        assert strange.agent.switch.groups


@pytest.mark.parametrize("way", ["silent", "mute"])
@repeated_if_void
def test_an_unresponsive_switch_is_backed_off_and_reconciled_later(
    testbed: Testbed, harness: OpenFlow, way: str
) -> None:
    place = _stranger()
    with _strange(harness, testbed, place) as strange:
        guests, network = _others(testbed), _shared(testbed, place)
        reader = EventReader(harness.connection)
        setattr(strange.faults, way, True)
        with Stream(testbed, guests[0], guests[2]) as stream:
            started = time.monotonic()
            silent = rf"switch {place.switch} from 127.0.0.1:\d+ did not answer within 1 s"
            with pytest.raises(SwitchTimeout, match=silent):
                harness.connection.create(network, pending=True)
            assert time.monotonic() - started < by(TIMEOUT)
            assert not _of(harness, network)
            with pytest.raises(SwitchNotFound, match="will be retried"):
                harness.connection.create(network)
            # Meanwhile it connects again and again, and nobody waits for it.
            longest = 0.0
            deadline = time.monotonic() + 5 * TIMEOUT
            while time.monotonic() < deadline:
                started = time.monotonic()
                other = testbed.create((Place("1", "3"), 50), (Place("3", "3"), 50))
                other.remove()
                longest = max(longest, time.monotonic() - started)
            assert longest < TIMEOUT * crowd()
        stream.check_exactly_once()
        reader.await_kinds("switch.quarantined")
        assert strange.connections >= 2
        setattr(strange.faults, way, False)
        testbed.eventually(lambda: not _connected(harness, place.switch), "it is taken up again", BACK)
        harness.connection.create(network, pending=True)
        testbed.check_reachability(guests)


def test_an_operation_that_waits_for_a_switch_does_not_block_others(
    testbed: Testbed, harness: OpenFlow
) -> None:
    place = Place("98", "1")  # one that has not failed yet, and is soon taken up again
    network, done = _shared(testbed, place), 0
    ended: list[BaseException] = []

    def ask() -> None:
        try:
            harness.connection.create(network, pending=True)
        except SwitchTimeout as error:
            ended.append(error)

    with _strange(harness, testbed, place) as strange:
        strange.faults.silent = True
        before = strange.agent.barriers
        with _running(ask) as waiting:
            while waiting.is_alive():
                waits = strange.agent.barriers > before
                testbed.create((Place("1", "3"), 50), (Place("3", "3"), 50)).remove()
                done += waits and not ended
        assert len(ended) == 1
        assert done >= 1
        assert not _of(harness, network)
        strange.faults.silent = False
        testbed.eventually(lambda: not _connected(harness, place.switch), "it is taken up again", BACK)
        harness.connection.create(network, pending=True)


def test_a_switch_that_disconnects_during_a_change_has_it_after_reconnection(
    testbed: Testbed, harness: OpenFlow, strange: TcpSwitch
) -> None:
    network = _shared(testbed)
    strange.faults.breaks = True
    with pytest.raises(SwitchTimeout, match="the connection of switch 99"):
        harness.connection.create(network, pending=True)
    assert not _of(harness, network)
    strange.faults.breaks = False
    testbed.eventually(lambda: not _connected(harness, STRANGE.switch), "it is back", BACK)
    created = harness.connection.create(network, pending=True)
    strange.faults.breaks = True
    with pytest.raises(SwitchTimeout):
        created.remove_endpoint("4")
    strange.faults.breaks = False
    assert _of(harness, network) == [network]
    testbed.eventually(lambda: not _connected(harness, STRANGE.switch), "it is back", BACK)
    assert strange.agent.switch.groups


def test_duplicate_messages_and_reordered_rules_are_harmless(
    testbed: Testbed, harness: OpenFlow, strange: TcpSwitch
) -> None:
    guests, network = _others(testbed), _shared(testbed)
    strange.faults.plain, strange.faults.repeats, strange.faults.order = True, True, Random(7)
    count = strange.connections
    strange.reconnect()
    testbed.eventually(lambda: strange.connections == count, "it connects again")
    testbed.eventually(lambda: not _connected(harness, STRANGE.switch), "it is taken up")
    created = harness.connection.create(network, pending=True)
    created.remove_endpoint("4")
    created.add_endpoint(endpoint_at(STRANGE, 5, 30), pending=True)
    created.modify_endpoint("5", vlan=31, pending=True)
    assert strange.agent.switch.groups
    assert strange.agent.changes > 5
    created.remove()
    assert not strange.agent.switch.groups
    testbed.check_reachability(guests)


def test_real_switches_that_freeze_are_reconciled_when_they_respond_again(
    testbed: Testbed, harness: OpenFlow
) -> None:
    guests = _others(testbed)
    network = testbed.description(*((place, 60) for place in testbed.places(4)))
    harness.lab.ovs.freeze_switch()
    try:
        with pytest.raises(SwitchTimeout, match="did not answer within 1 s"):
            harness.connection.create(network)
    finally:
        harness.lab.ovs.thaw_switch()
    assert not _of(harness, network)
    all_back = lambda: not all(_connected(harness, s) for s in "1234")  # noqa: E731
    testbed.eventually(all_back, "all are connected again", BACK)
    testbed.await_links()
    testbed.eventually(harness.differences, "the switches hold what they should")
    testbed.check_reachability(guests)
    harness.connection.create(network)


@contextmanager
def _running(work: Callable[[], None]) -> Iterator[threading.Thread]:
    """Something goes on in a thread of its own, and comes to its end."""
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield thread
    finally:
        thread.join()


@contextmanager
def _meanwhile(*work: Callable[[], None]) -> Iterator[None]:
    """Something goes on again and again in threads of its own; its errors are this test's."""
    over, errors = threading.Event(), []

    def run(action: Callable[[], None]) -> None:
        try:
            while not over.is_set():
                action()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(action,)) for action in work]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]


def _until(enough: Callable[[], bool]) -> Iterator[None]:
    """Again and again for three seconds, on a busy machine until it is enough or half a minute is over."""
    began = time.monotonic()
    while (now := time.monotonic()) < began + 3 or (not enough() and now < began + 30):
        yield


def _flapping(harness: OpenFlow, a: int, b: int, seed: int) -> Callable[[], None]:
    chance = random.Random(seed)

    def flap() -> None:
        harness.lab.cut_link(a, b)
        time.sleep(chance.uniform(0, 0.05))
        harness.lab.restore_link(a, b)
        time.sleep(chance.uniform(0, 0.05))

    return flap


@repeated_if_void
def test_two_flapping_links_leave_the_network_unchanged(testbed: Testbed, harness: OpenFlow) -> None:
    guests = _others(testbed)
    neighbours = testbed.guests(testbed.create((Place("1", "3"), 40), (Place("1", "2"), 40)))
    testbed.announce(*neighbours)
    with (
        Stream(testbed, neighbours[0], neighbours[1]) as stream,
        _meanwhile(_flapping(harness, 1, 2, seed=1), _flapping(harness, 3, 4, seed=2)),
    ):
        time.sleep(2)
    # Its switch has nothing to do with links.
    stream.check_exactly_once()
    testbed.await_links()
    testbed.await_traffic(*guests)
    testbed.eventually(harness.differences, "the switches hold what they should")
    testbed.announce(*guests)
    testbed.check_reachability(guests)


@repeated_if_void
def test_traffic_leaves_a_dead_link_as_soon_as_documented(testbed: Testbed, harness: OpenFlow) -> None:
    network, (near, far, *_) = testbed.create_active(*testbed.places(4))

    def way() -> list[str]:
        (path,) = (p for p in network.paths() if (p.source, p.destination) == (near.endpoint, far.endpoint))
        return [hop.switch for hop in path.hops]

    gaps = []
    for _ in range(CUTS):
        a, b, *_ = before = way()
        with Stream(testbed, near, far) as stream:
            harness.cut_link(a, b)
            try:
                testbed.eventually(lambda: way()[:2] == before[:2], "traffic takes another way", by(DEAD))  # noqa: B023
            finally:
                harness.restore_link(a, b)
        assert stream.gap > 0
        assert (stream.duplicates, stream.misdelivered) == ([], [])
        gaps.append(stream.gap)
        testbed.await_links()
        testbed.eventually(lambda: way() != before, "the short way is taken again")  # noqa: B023
        testbed.await_traffic(near, far)
    print("without traffic:", *(f"{gap * 1000:.0f} ms" for gap in sorted(gaps)))
    assert max(gaps) <= by(DEAD)
    assert median(gaps) <= FACTOR * DEAD * crowd()


def test_networks_change_during_a_reroute(testbed: Testbed, harness: OpenFlow) -> None:
    guests = _others(testbed)
    changing = testbed.create(*((place, 60) for place in testbed.places(4)))
    tally, chance = Tally(), random.Random(3)
    with _meanwhile(_flapping(harness, 1, 2, seed=3), _flapping(harness, 2, 3, seed=4)):
        for _ in _until(lambda: tally.done >= 10):
            before = changing.description()
            place = chance.choice(testbed.places(4))
            done = tally.done
            with tally.trial(NoPath):  # an island, for a moment
                _change(changing, chance, place)
            assert tally.done > done or changing.description() == before
    print(f"{tally.done} changes done, refused: {tally.refused}")
    tally.check(least=10, most_refused=0.5)
    testbed.await_links()
    testbed.eventually(harness.differences, "the switches hold what they should")
    changed = testbed.guests(changing)
    for group in (guests, changed):
        testbed.await_traffic(*group)
        testbed.announce(*group)
        testbed.check_reachability(group)


def _change(network: Network, chance: Random, place: Place) -> None:
    endpoints = network.description().endpoints
    vlan = chance.randint(100, 4000)
    if len(endpoints) < 3 or chance.random() < 0.3:
        network.add_endpoint(endpoint_at(place, 1 + max(int(e.uuid) for e in endpoints), vlan))
    elif chance.random() < 0.5 and len(endpoints) > 3:
        network.remove_endpoint(chance.choice(endpoints).uuid)
    else:
        network.modify_endpoint(chance.choice(endpoints).uuid, vlan=vlan)


def test_both_parts_of_a_partitioned_substrate_forward_and_rejoin(
    testbed: Testbed, harness: OpenFlow
) -> None:
    """Cut between 1 and 2 and between 3 and 4: switches 1 and 4 are one part, 2 and 3 the other."""
    network = testbed.create(*testbed.places(4))
    guests = testbed.guests(network)
    testbed.announce(*guests)
    parts = [[g for g in guests if g.place.switch in part] for part in ("14", "23")]
    for a, b in ((1, 2), (3, 4)):
        harness.lab.cut_link(a, b)
    try:
        for part in parts:
            testbed.await_traffic(*part)
        testbed.eventually(harness.differences, "the switches hold what they should")
        for one, other in parts:
            testbed.drain()
            frame = frames.marked(one.mac, BROADCAST, b"to my part")
            harness.send(one.place, [frame])
            arrived: list[Arrival] = []

            def silent() -> bool:
                arrived.extend(a for a in harness.receive(0.1) if a.frame == frame)  # noqa: B023
                return not arrived  # noqa: B023

            testbed.eventually(silent, "it arrives")
            assert arrived + [a for a in _heard(harness) if a.frame == frame] == [other.arrival(frame)]
        # Of a split network each part can be changed as far as it can be told.
        harness.connection.lookup(network.uuid).modify_endpoint(parts[0][0].endpoint, vlan=33)
        harness.connection.lookup(network.uuid).modify_endpoint(parts[0][0].endpoint, vlan=None)
    finally:
        for a, b in ((1, 2), (3, 4)):
            harness.lab.restore_link(a, b)
    testbed.await_links()
    testbed.await_traffic(*guests)
    testbed.announce(*guests)
    testbed.check_reachability(guests)


def _heard(harness: OpenFlow) -> list[Arrival]:
    found: list[Arrival] = []
    deadline = time.monotonic() + 0.4
    while time.monotonic() < deadline:
        found += harness.receive(0.1)
    return found


def _remove(network: Network, deadline: float) -> None:
    """Remove a network. If a switch is lost meanwhile, nothing was done, and it is tried again."""
    while True:
        try:
            network.remove()
            return
        except SubstrateError:
            if time.monotonic() > deadline:
                raise


def test_operations_succeed_while_a_switch_disconnects_and_reconnects(
    testbed: Testbed, harness: OpenFlow
) -> None:
    guests, tally, chance = _others(testbed), Tally(), random.Random(5)

    def restart() -> None:
        harness.lab.restart_switch(2)
        time.sleep(chance.uniform(0, 0.5))

    with _meanwhile(restart):
        for _ in _until(lambda: tally.done >= 5):
            done = tally.done
            with tally.trial(SwitchNotFound, NoPath, SwitchTimeout):
                network = testbed.create(*((place, 60) for place in testbed.places(4)))
                _remove(network, time.monotonic() + BACK)
            if tally.done == done:
                testbed.eventually(lambda: not _connected(harness, "2"), "it is back", BACK)
    print(f"{tally.done} networks created and removed, refused: {tally.refused}")
    tally.check(least=5, most_refused=0.6)
    testbed.await_links()
    testbed.eventually(harness.differences, "the switches hold what they should")
    testbed.await_traffic(*guests)
    testbed.announce(*guests)
    testbed.check_reachability(guests)
