"""Constraints on real switches: counters, pending constraints, new capacities."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from libnetvirt import Encapsulation, Network
from libnetvirt.conformance.harness import Place
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.stream import EventReader, Stream, repeated_if_void
from libnetvirt.conformance.support.testbed import Guest, Testbed, clean
from libnetvirt.errors import ConstraintUnmet, InvalidDescription, InvalidURI
from tests.support.openflow_harness import OpenFlow

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

MBIT = 1_000_000
CAPACITIES = 'capacity = "100 Mbit/s"\nlatency = "1 ms"\n'
#: bytes of a large frame, and how many are sent at once
SIZE, BURST = 1400, 25


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("constraints") / "capacities.toml"


@pytest.fixture(scope="module")
def harness(private_namespace: None, file: Path) -> Iterator[OpenFlow]:  # noqa: ARG001
    file.write_text(CAPACITIES)
    with OpenFlow(3, [(1, 2), (2, 3), (3, 1)], hosts=2, options=f"&capacities={file}") as harness:
        yield harness


@pytest.fixture
def testbed(harness: OpenFlow) -> Iterator[Testbed]:
    testbed = Testbed(harness, None)
    harness.flush_caches()
    testbed.drain()
    yield testbed
    assert list(clean(testbed)) == []


def ports(testbed: Testbed, *wanted: tuple[int, int]) -> list[Place]:
    """Host ports: (switch, which of its)."""
    every = testbed.harness.host_ports()
    return [[p for p in every if p.switch == str(switch)][which] for switch, which in wanted]


def met(testbed: Testbed, *places: Place) -> tuple[Network, list[Guest]]:
    """A network whose guests know each other."""
    network = testbed.create(*places)
    guests = testbed.guests(network)
    testbed.announce(*guests)
    return network, guests


def burst(testbed: Testbed, source: Guest, destination: Guest, times: int) -> int:
    """Send large frames in bursts; how many arrived."""
    big = frames.marked(source.mac, destination.mac, bytes(SIZE - 60)).ljust(SIZE, b"\0")
    arrived = 0
    testbed.drain()
    for _ in range(times):
        testbed.harness.send(source.place, [source.on_wire(big)] * BURST)
        while found := testbed.harness.receive(0.05):
            arrived += len(found)
    return arrived


@pytest.mark.alone
def test_constraint_counters_show_carried_and_dropped_packets(testbed: Testbed) -> None:
    network, (a, b, c) = met(testbed, *ports(testbed, (1, 0), (2, 0), (3, 0)))
    network.add_constraint(source=1, destination=2, max_bandwidth="1 Mbit/s")
    network.add_constraint(source=1, destination=3, max_hops=2)
    idle = network.constraint_statistics()
    assert [(k.source, k.destination, k.packets, k.dropped_packets, k.rate) for k in idle] == [
        ("1", "2", 0, 0, 0),
        ("1", "3", 0, 0, 0),
    ]
    assert all(0.9 <= k.window < 5 for k in idle)
    # What the switch has cached of its rules, it may use for a moment after a change.
    testbed.harness.flush_caches()
    limited, free = burst(testbed, a, b, 8), burst(testbed, a, c, 3)
    # 400 kbit may pass at once, which is 35 frames, and 89 frames a second.
    assert 30 <= limited < 8 * BURST

    def wrong() -> object:
        metered, counted = network.constraint_statistics()
        assert (metered.bytes, metered.dropped_bytes) == (
            SIZE * metered.packets,
            SIZE * metered.dropped_packets,
        )
        assert (counted.bytes, counted.dropped_packets) == (SIZE * counted.packets, 0)
        every = metered.packets + metered.dropped_packets, counted.packets
        # A busy machine may lose some before they are in the switch, and some behind it.
        entered = 0.8 * 8 * BURST <= every[0] <= 8 * BURST and 0.8 * 3 * BURST <= every[1] <= 3 * BURST
        left = limited <= metered.packets <= 1.1 * limited and free <= counted.packets <= 1.1 * free
        return not (entered and left) and (metered, counted, limited, free)

    testbed.eventually(wrong, "all frames are counted")


@pytest.mark.alone
def test_the_reported_rate_of_a_constraint_is_the_current_one(testbed: Testbed) -> None:
    network, (a, b) = met(testbed, *ports(testbed, (1, 0), (2, 0)))
    network.add_constraint(source=1, destination=2, max_bandwidth="2 Mbit/s")
    testbed.harness.flush_caches()
    with Sender(testbed, a, b):
        (counted,) = network.constraint_statistics()
    # What passes is what the meter lets through, and at the beginning a fifth of a second's worth more; on a
    # busy machine the two looks are not quite as far apart as their answers.
    assert 0.6 * 2 * MBIT <= counted.rate <= 1.6 * 2 * MBIT
    assert counted.dropped_packets > 0
    testbed.drain()
    (after,) = network.constraint_statistics()
    assert after.rate == 0
    assert after.packets >= counted.packets


class Sender:
    """Sends large frames, more than any limit here lets pass, until the block ends."""

    def __init__(self, testbed: Testbed, source: Guest, destination: Guest) -> None:
        self._testbed, self._source = testbed, source
        self._frame = frames.marked(source.mac, destination.mac, bytes(SIZE - 60)).ljust(SIZE, b"\0")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sender")

    def __enter__(self) -> None:
        self._testbed.drain()
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.01):
            self._testbed.harness.send(self._source.place, [self._source.on_wire(self._frame)] * 10)


def reserved(harness: OpenFlow) -> dict[tuple[str, str], int]:
    links = harness.connection.substrate().links
    return {(k.source, k.destination): k.reserved // MBIT for k in links if k.reserved}


def states(network: Network) -> list[str]:
    return [str(c.state) for c in network.state().constraints]


def test_a_reservation_follows_an_endpoint_that_moves_or_the_move_is_refused(
    testbed: Testbed, harness: OpenFlow
) -> None:
    one, two, other, three = ports(testbed, (1, 0), (2, 0), (1, 1), (3, 0))
    fixed, moving = testbed.create(one, two), testbed.create((three, 7), (two, 7))
    fixed.add_constraint(source=1, destination=2, min_bandwidth="60 Mbit/s", max_hops=2)
    moving.add_constraint(source=1, destination=2, min_bandwidth="60 Mbit/s", max_hops=2)
    before = moving.description(), reserved(harness), sorted(harness.leftovers())
    assert before[1] == {("1", "2"): 60, ("3", "2"): 60}
    with pytest.raises(ConstraintUnmet, match="from 1 to 2 cannot be met: min-bandwidth 60 Mbit/s is more"):
        moving.modify_endpoint(1, switch=other.switch, port=other.port)
    assert (moving.description(), reserved(harness), sorted(harness.leftovers())) == before
    # The longer way shares what it had of its last link.
    moving.modify_constraint(source=1, destination=2, min_bandwidth="60 Mbit/s", max_hops=3)
    moving.modify_endpoint(1, switch=other.switch, port=other.port)
    assert reserved(harness) == {("1", "2"): 60, ("1", "3"): 60, ("3", "2"): 60}
    guests = testbed.guests(moving)
    testbed.announce(*guests)
    testbed.check_reachability(guests)
    fixed.remove_endpoint(1)
    assert reserved(harness) == {("1", "3"): 60, ("3", "2"): 60}


@repeated_if_void
def test_new_capacities_are_accepted_or_refused_while_networks_run(
    testbed: Testbed, harness: OpenFlow, file: Path
) -> None:
    one, two, three = ports(testbed, (1, 0), (2, 0), (3, 0))
    first, second = testbed.create(one, two), testbed.create((one, 7), (two, 7))
    plain = testbed.create((one, 8), (three, 8))
    guests = testbed.guests(first)
    testbed.announce(*guests)
    first.add_constraint(source=1, destination=2, min_bandwidth="40 Mbit/s", max_hops=2)
    second.add_constraint(source=1, destination=2, min_bandwidth="30 Mbit/s", max_hops=2, priority=3)
    connection = harness.connection
    testbed.eventually(
        lambda: [k for k in connection.substrate().links if Encapsulation.VLAN not in k.encapsulations],
        "it is known what links pass",
    )
    before = reserved(harness), sorted(harness.leftovers()), connection.substrate().links
    reader = EventReader(connection)
    try:
        file.write_text('capacity = "50 Mbit/s"\nlatency = "1 ms"\n')
        with pytest.raises(ConstraintUnmet, match=f"from 1 to 2 of network {first.description().name}: min-"):
            connection.reload()
        file.write_text('capacity = "50 Mbits/s"\n')
        with pytest.raises(InvalidDescription, match=r"capacities\.toml: capacity"):
            connection.reload()
        file.rename(file.with_suffix(".away"))
        with pytest.raises(InvalidURI, match="cannot be read"):
            connection.reload(degrade=True)
        assert (reserved(harness), sorted(harness.leftovers()), connection.substrate().links) == before
        # Of the links between 1 and 2 there is room for one of them; the more important one stays.
        file.write_text('capacity = "50 Mbit/s"\nlatency = "1 ms"\n')
        with Stream(testbed, *guests) as stream:
            (said,) = connection.reload(degrade=True)
        stream.check_exactly_once()
        assert said.startswith(
            f"the constraint from 1 to 2 of network {first.description().name} is degraded"
        )
        assert (states(first), states(second)) == (["degraded"], ["active"])
        assert reserved(harness) == {("1", "2"): 30}
        # All that has no promise gets the rest of what there is now.
        assert "rate=17500" in harness.lab.ofctl("dump-meters", 1)
        testbed.eventually(lambda: "constraint.degraded" not in reader.kinds(), "an event")
        file.write_text(CAPACITIES)
        assert len(connection.reload()) == 1
        assert (states(first), states(second)) == (["active"], ["active"])
        assert "rate=25000" in harness.lab.ofctl("dump-meters", 1)
        assert not connection.reload()
        # A latency that has become too much is no less a reason.
        plain.add_constraint(source=1, destination=2, max_latency="1 ms")
        file.write_text('capacity = "100 Mbit/s"\nlatency = "2 ms"\n')
        with pytest.raises(ConstraintUnmet, match="max-latency 1 ms; max-latency 2 ms would fit"):
            connection.reload()
        assert states(plain) == ["active"]
        environment = {"LIBNETVIRT_URI": harness.served.client_uri, "PATH": ""}
        netvirt = str(Path(sys.executable).with_name("netvirt"))
        run = subprocess.run(
            [netvirt, "reload", "--degrade"], env=environment, capture_output=True, text=True, check=False
        )
        assert (run.returncode, run.stderr) == (0, "")
        assert run.stdout.startswith("the constraint from 1 to 2 of network")
        assert states(plain) == ["degraded"]
    finally:
        file.write_text(CAPACITIES)
        connection.reload()
    assert states(plain) == ["active"]
