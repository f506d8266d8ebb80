"""LLDP frames that hosts send into real switches: forged, replayed and relayed ones."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from libnetvirt import Endpoint
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.stream import EventReader
from libnetvirt.conformance.support.testbed import Guest, Testbed, clean
from libnetvirt.controller.dataplane.pipeline import LLDP_RATE
from libnetvirt.errors import PortNotFound
from libnetvirt.model import Link
from tests.support.lab.wire import Wire
from tests.support.openflow_harness import OpenFlow, is_discovery, is_lldp

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(180)]

#: hosts at ports that no network uses
HERE, THERE = (1, 3), (3, 3)
OPTIONS = "&lldp-interval=0.3"


#: for tests of a connection where the ports that are links are declared
DECLARED = pytest.mark.parametrize("harness", ["&link-ports=10?"], indirect=True)


class Watched(OpenFlow):
    """Whose events are kept from the start: the same is reported once in ten seconds."""

    def start(self) -> None:
        super().start()
        self.reader = EventReader(self.connection)

    def ignored(self) -> int:
        """How many LLDP frames were ignored."""
        notes = (note for s in self.connection.substrate().switches for note in s.notes)
        return sum(int(note.split()[0]) for note in notes if "LLDP frames at port" in note)


@pytest.fixture(scope="module")
def harness(request: pytest.FixtureRequest, private_namespace: None) -> Iterator[Watched]:  # noqa: ARG001
    with Watched(options=OPTIONS + getattr(request, "param", "")) as harness:
        # A younger link than three intervals is given up when its frames are copied (docs/switches.md).
        time.sleep(1.1)
        yield harness


class Scene:
    """A network whose guests must not notice, and what is heard of the attack."""

    def __init__(self, harness: Watched) -> None:
        self.harness = harness
        self.testbed = Testbed(harness, None)
        places = self.testbed.places(4)
        # On a port with a tagged endpoint LLDP comes up to the controller.
        self.network = self.testbed.create(*places[:3], (places[3], 20))
        self.guests: list[Guest] = self.testbed.guests(self.network)
        self.testbed.announce(*self.guests)
        self.testbed.drain()
        self.links = self.seen_links()
        self.ignored = harness.ignored()
        self.first = len(harness.reader.events)

    def seen_links(self) -> tuple[Link, ...]:
        return self.harness.connection.substrate().links

    def caught(self, place: tuple[int, int]) -> bytes:
        """The next frame of Discovery that comes out at a host."""
        caught: list[bytes] = []
        self.harness.lab.receive()

        def none() -> bool:
            arrived = self.harness.lab.receive(0.2)
            caught.extend(a.frame for a in arrived if a[:2] == place and is_lldp(a.frame))
            return not caught

        self.testbed.eventually(none, f"a frame of Discovery comes out at {place}")
        return caught[0]

    def reported(self, said: str) -> None:
        """Wait for the event, and for the count of it."""

        def missing() -> list[str]:
            found = [e.message for e in self.harness.reader.events if e.kind == "discovery.forged"]
            return [] if any(said in message for message in found) else [*found, said]

        self.testbed.eventually(missing, "it is reported")
        self.testbed.eventually(lambda: self.harness.ignored() == self.ignored, "it is counted")

    def unharmed(self) -> None:
        """The links are what they were, and so is what comes out."""
        time.sleep(0.3)
        assert self.seen_links() == self.links
        assert not [e for e in self.harness.reader.events[self.first :] if e.kind == "link.up"]
        self.testbed.check_reachability(self.guests)


@contextmanager
def _scene(harness: Watched) -> Iterator[Scene]:
    scene = Scene(harness)
    try:
        yield scene
        scene.unharmed()
    finally:
        left = list(clean(scene.testbed))
    assert left == []


def test_forged_lldp_frames_change_nothing(harness: Watched) -> None:
    with _scene(harness) as scene:
        genuine = scene.caught(HERE)
        for place in harness.lab.host_ports:
            harness.lab.send(*place, genuine[:-20] + bytes(20), genuine[:30])
        scene.reported("its signature is wrong")


def test_ordinary_lldp_frames_of_a_host_are_foreign_and_told_once(harness: Watched) -> None:
    with _scene(harness) as scene:
        daemon = frames.lldp("02:00:00:00:00:09")
        for _ in range(3):
            harness.lab.send(*HERE, daemon)
            time.sleep(0.1)
        scene.testbed.eventually(lambda: harness.ignored() < scene.ignored + 3, "they are counted")

        def told() -> int:
            found = [e for e in harness.reader.events if e.kind == "discovery.foreign"]
            return [(e.switch, e.port) for e in found].count(("1", "3"))

        scene.testbed.eventually(lambda: not told(), "it is told")
        assert told() == 1
        forged = [e for e in harness.reader.events[scene.first :] if e.kind == "discovery.forged"]
        assert not forged


def test_a_captured_lldp_frame_is_accepted_once_and_makes_no_link(harness: Watched) -> None:
    with _scene(harness) as scene:
        genuine = scene.caught(HERE)
        harness.lab.send(*THERE, genuine, genuine, genuine)
        scene.reported("a copy or a replay")


def test_an_expired_lldp_frame_changes_nothing(harness: Watched) -> None:
    with _scene(harness) as scene:
        genuine = scene.caught(HERE)
        time.sleep(1.1)  # three intervals, after which it is too old
        harness.lab.send(*THERE, genuine)
        scene.reported("a replay")


def test_a_replayed_lldp_frame_of_a_link_changes_nothing(harness: Watched) -> None:
    """An attacker has tapped the cable between switches 1 and 2, and plays its frames elsewhere."""
    with _scene(harness) as scene:
        tap = Wire(harness.lab.interface(2, 101))
        caught: list[bytes] = []

        def none() -> bool:
            frame = tap.receive()
            caught.extend([frame] if frame is not None and is_lldp(frame) else [])
            return not caught

        try:
            scene.testbed.eventually(none, "a frame of Discovery is on the link")
        finally:
            tap.close()

        def unnoticed() -> list[str]:
            # The switches' meters may drop some, after the frames of other tests.
            for place in harness.lab.host_ports:
                harness.lab.send(*place, *caught)
            time.sleep(0.2)
            events = harness.reader.events[scene.first :]
            said = [e.message for e in events if e.kind in {"discovery.forged", "link.shared"}]
            # Of two frames that arrive within a time-out it cannot be told which of them is the copy.
            told = [text for text in said if "a copy or a replay" in text or "are on one segment" in text]
            return [] if told else [*said, "nothing of a copy"]

        scene.testbed.eventually(unnoticed, "a replay is reported")
        scene.testbed.eventually(lambda: harness.ignored() <= scene.ignored, "it is counted")


@pytest.mark.parametrize("guest", range(4), ids=["endpoint", "endpoint", "endpoint", "tagged endpoint"])
def test_lldp_relayed_to_an_endpoint_changes_nothing(harness: Watched, guest: int) -> None:
    with _scene(harness) as scene:
        place = scene.guests[guest].place
        for _ in range(3):
            harness.lab.send(int(place.switch), int(place.port), scene.caught(HERE))
        # At an endpoint without a tag it is the guest's own traffic.
        if scene.guests[guest].vlan:
            scene.reported("an endpoint is at this port")


def test_no_discovery_frame_is_sent_to_endpoints(harness: Watched) -> None:
    with _scene(harness) as scene:
        harness.lab.receive()
        arrived: set[tuple[int, int]] = set()

        def unheard() -> bool:
            arrived.update(a[:2] for a in harness.lab.receive_for(0.8) if is_discovery(a.frame))
            return HERE not in arrived

        scene.testbed.eventually(unheard, "discovery frames come out elsewhere")
        assert not arrived & {(int(g.place.switch), int(g.place.port)) for g in scene.guests}


def _pass_on(harness: Watched, seconds: float, *, until_linked: bool = True) -> None:
    """Two hosts send each other all that comes out at their ports."""
    other = {HERE: THERE, THERE: HERE}
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for switch, port, frame in harness.lab.receive(0.05):
            if (switch, port) in other:
                harness.lab.send(*other[switch, port], frame)
        if until_linked and any(
            (link.source, link.source_port) == ("1", "3") for link in harness.connection.substrate().links
        ):
            return


def test_lldp_relayed_in_one_direction_makes_no_link(harness: Watched) -> None:
    with _scene(harness) as scene:
        for _ in range(4):
            harness.lab.send(*THERE, scene.caught(HERE))


def test_lldp_relayed_in_both_directions_makes_a_link_while_it_is_relayed(harness: Watched) -> None:
    """What docs/switches.md warns of: without ``link-ports`` it cannot be told from a cable."""
    testbed, reader = Testbed(harness, None), harness.reader
    before = harness.connection.substrate().links
    _pass_on(harness, 30)
    testbed.eventually(lambda: "link.up" not in reader.kinds(), "the link is reported")
    testbed.eventually(lambda: harness.connection.substrate().links != before, "it is lost again")
    testbed.eventually(lambda: "link.down" not in reader.kinds(), "that is reported, too")


@DECLARED
def test_with_declared_link_ports_hosts_cannot_make_a_link(harness: Watched) -> None:
    with _scene(harness) as scene:
        _pass_on(harness, 1.0)
        tap = Wire(harness.lab.interface(2, 101))
        try:
            deadline = time.monotonic() + 1.0
            while time.monotonic() < deadline:
                frame = tap.receive()
                if frame is not None:
                    for place in (HERE, THERE):
                        harness.lab.send(*place, frame)
                time.sleep(0.001)
        finally:
            tap.close()
        scene.reported("the port is not one of link-ports")
        with pytest.raises(PortNotFound, match="kept for links"):
            scene.network.add_endpoint(Endpoint(uuid="99", switch="1", port="101"))


@DECLARED
def test_with_declared_link_ports_hosts_receive_no_discovery_frames(harness: Watched) -> None:
    harness.lab.receive()
    assert not [a for a in harness.lab.receive_for(0.8) if is_discovery(a.frame)]


def test_a_flood_of_lldp_frames_is_limited_by_a_meter_in_the_switch(harness: Watched) -> None:
    with _scene(harness) as scene:
        daemon = frames.lldp("02:00:00:00:00:09")
        began, sent = time.monotonic(), 0
        for _ in range(80):  # no more at once than a switch takes from its socket
            harness.lab.send(*HERE, *[daemon] * 50)
            sent += 50
            time.sleep(0.005)
        took = time.monotonic() - began
        seen = [scene.ignored]

        def growing() -> bool:
            time.sleep(0.2)
            seen.append(harness.ignored())
            return seen[-1] != seen[-2]

        scene.testbed.eventually(growing, "all that came up is counted")
        # As many at once as in a second; and some more for what waits in the switch's socket.
        assert LLDP_RATE // 2 <= seen[-1] - scene.ignored <= LLDP_RATE * (2 + took) < sent
