"""What is between switches: a bridge that eats LLDP, and segments that several switches share.

Four switches without cables. Where no hosts are, at ports 2 and 3, there is what a test plugs in: a bridge of
Linux, which forwards no LLDP frame, or a hub that forwards everything to all others.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from libnetvirt import Network, Rules
from libnetvirt.conformance import Arrival, Place
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.stream import EventReader
from libnetvirt.conformance.support.testbed import Guest, Testbed, clean
from libnetvirt.errors import NoPath, PortNotFound
from libnetvirt.model import Link, State
from tests.support.lab.wire import set_mtu, set_up
from tests.support.openflow_harness import OpenFlow
from tests.support.promised_times import by

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

INTERVAL = 0.3
STATIC = """
[[static-link]]
ends = ["1/2", "2/2"]

[[static-link]]
ends = ["3/3", "4/3"]
"""


class Plugged(OpenFlow):
    """Hosts are at the first port of each switch; the others are for links."""

    def __init__(self) -> None:
        super().__init__(4, [], hosts=3)
        self.file = self.served.directory / "links.toml"
        self.file.write_text(STATIC)
        self.served.uri += f"&lldp-interval={INTERVAL}&capacities={self.file}"

    def start(self) -> None:
        super().start()
        for switch in self.lab.switches:
            for port in (2, 3):
                name = self.lab.interface(switch, port)
                self.lab.ovs.vsctl("set", "Interface", name, "mtu_request=2000")
                set_mtu(self.lab.host_interface(switch, port), 2000)
        self.reader = EventReader(self.connection)

    def host_ports(self) -> Sequence[Place]:
        return [place for place in super().host_ports() if place.port == "1"]

    def receive(self, timeout: float) -> list[Arrival]:
        hosts = self.host_ports()
        return [arrival for arrival in super().receive(timeout) if arrival.place in hosts]

    def found(self) -> dict[tuple[str, str], Link]:
        return {(k.source, k.destination): k for k in self.connection.substrate().links}

    def up(self) -> set[tuple[str, str]]:
        return {ends for ends, k in self.found().items() if k.up and k.mtu}

    def notes(self) -> tuple[str, ...]:
        return self.connection.substrate().notes


@pytest.fixture(scope="module")
def harness(private_namespace: None) -> Iterator[Plugged]:  # noqa: ARG001
    with Plugged() as harness:
        yield harness


@pytest.fixture
def testbed(harness: Plugged) -> Iterator[Testbed]:
    testbed = Testbed(harness, None)
    yield testbed
    left = list(clean(testbed))
    testbed.eventually(harness.up, "nothing is plugged in any more")
    assert left == []


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextmanager
def linux_bridge(harness: Plugged, *ends: tuple[int, int]) -> Iterator[str]:
    """A bridge as the kernel makes it: it forwards no frame to 01:80:c2:00:00:0e."""
    name = "segment"
    ip("link", "add", name, "mtu", "2000", "type", "bridge")
    try:
        ip("link", "set", name, "up")
        for end in ends:
            ip("link", "set", harness.lab.host_interface(*end), "master", name)
        yield name
    finally:
        ip("link", "delete", name)


@contextmanager
def hub(harness: Plugged, *ends: tuple[int, int]) -> Iterator[str]:
    """A bridge of Open vSwitch that forwards every frame to all other ports, LLDP frames, too."""
    ovs, name = harness.lab.ovs, "hub"
    ovs.vsctl("add-br", name, "--", "set", "Bridge", name, "datapath_type=netdev", "fail_mode=secure")
    try:
        ovs.run("ovs-ofctl", "add-flow", name, "actions=FLOOD")
        for end in ends:
            ovs.vsctl("add-port", name, harness.lab.host_interface(*end))
        yield name
    finally:
        ovs.vsctl("del-br", name)


def linked(harness: Plugged, *pairs: tuple[str, str]) -> object:
    """For ``eventually``: what is wrong while not just these links are up, in both directions."""
    wanted = {*pairs, *((b, a) for a, b in pairs)}
    return "" if harness.up() == wanted else (harness.up(), harness.notes())


def network(testbed: Testbed, places: Sequence[Place], **rules: str) -> tuple[Network, list[Guest]]:
    made = testbed.create(*places, rules=Rules.model_validate(rules))
    return made, testbed.guests(made)


@pytest.mark.parametrize("encapsulation", ["vlan", "mpls", "native"])
def test_a_static_link_carries_networks_over_a_bridge_that_eats_lldp(
    testbed: Testbed, harness: Plugged, encapsulation: str
) -> None:
    places = harness.host_ports()[:2]
    with linux_bridge(harness, (1, 2), (2, 2)):
        testbed.eventually(lambda: linked(harness, ("1", "2")), "the static link is up", by(2.0))
        assert harness.found()["1", "2"].static
        made, guests = network(testbed, places, encapsulation=encapsulation)
        one, other = guests
        testbed.announce(*guests)
        for a, b in ((one, other), (other, one)):
            testbed.exchange(a, frames.marked(a.mac, b.mac, bytes(1400)))
        testbed.exchange(one, frames.marked(one.mac, frames.BROADCAST, b"for everybody"))
        assert made.state().state is State.ACTIVE


def test_a_static_link_is_used_only_while_probes_pass_it(testbed: Testbed, harness: Plugged) -> None:
    places = harness.host_ports()[:2]
    with pytest.raises(NoPath, match="no path leads from switch 1 to switch 2"):
        network(testbed, places)
    testbed.eventually(lambda: not harness.found(), "the switches have connected")
    assert harness.found()["1", "2"].static
    assert not harness.found()["1", "2"].up
    assert any("port 2 is static, and not used: no probe has passed it" in note for note in harness.notes())

    def reported(what: str, first: int) -> object:
        """For ``eventually``: whether an event of the link is missing."""
        events = harness.reader.events[first:]
        return not any((e.kind, e.switch, e.port) == (what, "1", "2") for e in events)

    first = len(harness.reader.events)
    with linux_bridge(harness, (1, 2), (2, 2)) as bridge:
        testbed.eventually(lambda: linked(harness, ("1", "2")), "the static link is up", by(2.0))
        testbed.eventually(lambda: reported("link.up", first), "there is an event")
        made, guests = network(testbed, places)
        testbed.announce(*guests)
        first = len(harness.reader.events)
        set_up(bridge, False)
        testbed.eventually(lambda: made.state().state is State.ACTIVE, "it is found dead", by(3.5))
        testbed.eventually(lambda: reported("link.down", first), "there is an event")
        assert any("no probe has passed it" in note for note in harness.notes())
        set_up(bridge, True)
        testbed.eventually(lambda: made.state().state is not State.ACTIVE, "it is used again", by(4.0))
        testbed.await_traffic(*guests)
        # A port that goes down counts at once, without probes.
        set_up(harness.lab.host_interface(1, 2), False)
        testbed.eventually(lambda: ("1", "2") in harness.found(), "the link is gone", by(0))
        assert any("port 2 of switch 1 is down" in note for note in harness.notes())
        set_up(harness.lab.host_interface(1, 2), True)
        testbed.await_traffic(*guests)


def test_a_port_that_is_declared_as_the_end_of_a_link_takes_no_endpoint(
    testbed: Testbed, harness: Plugged
) -> None:
    with pytest.raises(PortNotFound, match=r"is declared an end of a static link.*netvirt reload"):
        testbed.create(Place("1", "2"), harness.host_ports()[1])
    # Nor does a link come out of a reload at a port that has one.
    made = testbed.create(Place("3", "2"), harness.host_ports()[2])
    harness.file.write_text(STATIC + '[[static-link]]\nends = ["3/2", "4/2"]\n')
    harness.connection.reload()
    assert any("static link 3/2 – 4/2: port 2 of switch 3 has an endpoint" in n for n in harness.notes())
    made.remove()
    testbed.eventually(lambda: ("3", "4") not in harness.found(), "the port is free for the link")
    harness.file.write_text(STATIC)
    harness.connection.reload()
    assert not any("3/2" in note for note in harness.notes())


def test_a_segment_with_three_switches_makes_no_link_and_says_why(testbed: Testbed, harness: Plugged) -> None:
    shared = (1, 3), (2, 3), (3, 2)
    with hub(harness, *shared) as name:
        testbed.eventually(lambda: not any("on one segment" in n for n in harness.notes()), "it is noticed")
        note = next(n for n in harness.notes() if "on one segment" in n)
        assert "ports 3 of switch 1, 3 of switch 2, 2 of switch 3" in note
        testbed.eventually(lambda: "link.shared" not in harness.reader.kinds(), "there is an event")
        testbed.stays(lambda: linked(harness), "there is no link", 8 * INTERVAL)
        with pytest.raises(NoPath):
            network(testbed, harness.host_ports()[:2])
        # Two are no shared segment any more.
        harness.lab.ovs.vsctl("del-port", name, harness.lab.host_interface(*shared[2]))
        testbed.eventually(lambda: linked(harness, ("1", "2")), "the others have a link", by(4.0))
        assert not any("on one segment" in note for note in harness.notes())
        made, guests = network(testbed, harness.host_ports()[:2])
        testbed.announce(*guests)
        # The one that comes back takes nothing from them.
        testbed.stays(lambda: linked(harness, ("1", "2")), "the link stays", 5 * INTERVAL)
        harness.lab.ovs.vsctl("add-port", name, harness.lab.host_interface(*shared[2]))
        testbed.eventually(lambda: not any("on one segment" in n for n in harness.notes()), "it is noticed")
        testbed.stays(lambda: linked(harness, ("1", "2")), "the link stays", 5 * INTERVAL)
        testbed.exchange(guests[0], frames.marked(guests[0].mac, frames.BROADCAST, b"once"))
        assert made.state().state is State.ACTIVE


def test_two_links_on_one_segment_are_not_used(testbed: Testbed, harness: Plugged) -> None:
    places = harness.host_ports()
    with linux_bridge(harness, (1, 2), (2, 2)) as bridge:
        testbed.eventually(lambda: linked(harness, ("1", "2")), "the static link is up", by(2.0))
        made, guests = network(testbed, places[:2])
        testbed.announce(*guests)
        for end in ((3, 3), (4, 3)):
            ip("link", "set", harness.lab.host_interface(*end), "master", bridge)
        testbed.eventually(lambda: made.state().state is State.ACTIVE, "it is noticed", by(3.0))
        assert any("arrive at port 3 of switch" in note for note in harness.notes())
        testbed.stays(lambda: made.state().state is State.ACTIVE, "it stays", 6 * INTERVAL)
