"""Switches that forward past the rules of networks: how that is noticed, refused and corrected.

The fault is made in a real switch, and what is reported as the remedy is run as it is written.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import pytest

from libnetvirt import Event, Network
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.stream import EventReader
from libnetvirt.errors import SwitchUntrusted
from libnetvirt.model import State
from tests.support.bridge_settings import correct, netvirt, network, notes, request_of
from tests.support.lab.network import NOBODY
from tests.support.openflow_harness import OpenFlow
from tests.support.promised_times import by
from tests.support.waiting import eventually

INTERVAL = 0.3
#: until a fault is noticed, by probes or in the database, and until it is noticed that it was corrected
PROBED, KNOWN, CORRECTED = partial(by, 4.2, INTERVAL), partial(by, 0), partial(by, 4.9, INTERVAL)

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(180)]


class Kind(NamedTuple):
    """A way to make a bridge forward past the rules: the words of ovs-vsctl or of ovs-ofctl that do it, with
    BRIDGE and TAP (a port) to be filled in, and whether frames of a network then come out elsewhere."""

    name: str
    words: str
    leaks: bool = False


IN_BAND = Kind("in-band", "vsctl remove Bridge BRIDGE other_config disable-in-band", leaks=True)
#: A bridge's address also changes when it is given ports.
READDRESSED = Kind(
    "in-band-with-another-address",
    "vsctl set Bridge BRIDGE other_config:hwaddr=02:00:00:00:77:01 "
    "-- remove Bridge BRIDGE other_config disable-in-band",
    leaks=True,
)
STP = Kind("stp", "vsctl set Bridge BRIDGE stp_enable=true")
RSTP = Kind("rstp", "vsctl set Bridge BRIDGE rstp_enable=true")
BPDU = Kind("forward-bpdu", "vsctl set Bridge BRIDGE other_config:forward-bpdu=true")
STANDALONE = Kind("standalone", "vsctl set Bridge BRIDGE fail_mode=standalone")
MIRROR = Kind(
    "mirror",
    "vsctl -- --id=@tap get Port TAP -- --id=@mirror create Mirror name=tap select_all=true output_port=@tap "
    "-- set Bridge BRIDGE mirrors=@mirror",
    leaks=True,
)
NORMAL = Kind("rule", "ofctl cookie=0xbad,table=0,priority=60000,actions=NORMAL", leaks=True)


class Kept:
    """A connection with a network that is older than the fault, on switch 1."""

    def __init__(self, harness: OpenFlow) -> None:
        self.harness, self.lab, self.connection = harness, harness.lab, harness.connection
        self.reader = EventReader(self.connection)
        eventually(lambda: not notes(self.connection), "switch 1 is trusted")
        self.blue: Network = self.connection.create(network(7, "blue", (1, 1), (1, 2)))

    def make(self, kind: Kind) -> None:
        bridge = self.lab.bridge(1)
        tool, *words = kind.words.replace("BRIDGE", bridge).replace("TAP", self.lab.interface(1, 3)).split()
        if tool == "vsctl":
            self.lab.ovs.vsctl(*words)
        else:
            self.lab.ofctl("add-flow", 1, *words)

    def event(self, kind: str, timeout: float) -> Event:
        reported = lambda: any(e.kind == kind for e in self.reader.events)  # noqa: E731
        eventually(reported, f"{kind} is reported within {timeout:g} s", timeout)
        return next(e for e in self.reader.events if e.kind == kind)

    def leaks(self) -> bool:
        """Whether a frame of blue comes out at a port of no network."""
        self.lab.receive()
        sent = request_of(1, "127.0.0.1")
        self.lab.send(1, 1, sent)
        got: dict[int, int] = {}
        # The frame that blue is promised comes last, or the rule took it away.
        for _ in range(5):
            for arrival in self.lab.receive(0.1):
                if arrival.frame == sent:
                    got[arrival.port] = got.get(arrival.port, 0) + 1
        return 3 in got


@pytest.fixture(scope="module")
def harness(request: pytest.FixtureRequest, private_namespace: None) -> Iterator[OpenFlow]:  # noqa: ARG001
    """One switch, whose foreign rules no audit removes; its database is known if the parameter says so."""
    harness = OpenFlow(1, [], hosts=3, options=f"&lldp-interval={INTERVAL}&audit=0")
    if request.param == "database":
        harness.served.uri += f"&ovsdb={harness.lab.ovs.socket}"
    with harness:
        yield harness


BLIND = pytest.mark.parametrize("harness", ["no-database"], indirect=True)
SEEING = pytest.mark.parametrize("harness", ["database"], indirect=True)


def check(harness: OpenFlow, kind: Kind) -> None:
    kept = Kept(harness)
    try:
        kept.make(kind)
        started = time.monotonic()
        event = kept.event("switch.untrusted", KNOWN() if "ovsdb=" in harness.served.uri else PROBED())
        print(f"{kind.name}: noticed within {time.monotonic() - started:.2f} s")
        kept.harness.flush_caches()
        if kind.leaks:
            eventually(kept.leaks, "a frame of blue comes out where no network is")
        else:
            assert not kept.leaks()
        state = kept.blue.state()
        assert state.state is State.DEGRADED
        assert event.fields["remedy"] in state.endpoints[0].reason
        red = network(8, "red", (1, 3))
        with pytest.raises(SwitchUntrusted) as refusal:
            kept.connection.create(red)
        assert event.fields["remedy"] in str(refusal.value)
        # What the older network has stays, and may be changed there.
        kept.blue.modify_endpoint("1", mac=["02:00:00:00:00:01"])
        correct(kept.lab, event.fields["remedy"])
        started = time.monotonic()
        kept.event("switch.trusted", CORRECTED())
        print(f"{kind.name}: trusted again within {time.monotonic() - started:.2f} s")
        eventually(lambda: kept.blue.state().state is State.ACTIVE, "blue is active")
        eventually(lambda: not kept.leaks(), "nothing comes out elsewhere")
        kept.connection.create(red).remove()
    finally:
        kept.blue.remove()


@SEEING
def test_standalone_leaks_only_without_a_controller_and_secure_does_not(harness: OpenFlow) -> None:
    """Why ``fail_mode=standalone`` is refused although it does nothing as long as there is a controller.

    Before the other tests of this switch: once it had spanning tree on, Open vSwitch 3.1 floods no longer.
    """
    lab, sent = harness.lab, frames.marked("02:00:00:00:00:02", "02:00:00:00:00:01", b"where does it go")
    got: set[int] = set()

    def reaches_others() -> bool:
        lab.receive()
        lab.send(1, 1, sent)
        got.update(a.port for a in lab.receive(0.1) if a.frame == sent)
        return bool(got)

    bridge = lab.bridge(1)
    lab.ovs.vsctl("set", "Bridge", bridge, "fail_mode=standalone")
    try:
        # With one that does not answer, it takes fifteen seconds.
        lab.ovs.vsctl("del-controller", bridge)
        eventually(reaches_others, "without a controller, it forwards like a learning switch")
        netvirt(lab, "prepare", bridge, "--controller", NOBODY)
        harness.flush_caches()
        got.clear()
        assert not reaches_others()
    finally:
        lab.ovs.vsctl("set", "Bridge", bridge, "fail_mode=secure")
        lab.control(harness.served.target)
        eventually(lambda: all(s.connected for s in harness.connection.substrate().switches), "it is back")


@BLIND
@pytest.mark.parametrize("kind", [IN_BAND, READDRESSED, STP, RSTP, NORMAL], ids=lambda kind: kind.name)
def test_probes_find_what_takes_frames_before_the_rules(harness: OpenFlow, kind: Kind) -> None:
    check(harness, kind)


@SEEING
@pytest.mark.parametrize("kind", [IN_BAND, STP, BPDU, STANDALONE, MIRROR], ids=lambda kind: kind.name)
def test_the_database_tells_what_probes_cannot_see(harness: OpenFlow, kind: Kind) -> None:
    check(harness, kind)


@BLIND
def test_probes_come_out_at_no_host(harness: OpenFlow) -> None:
    """Whatever is wrong with the switch."""
    kept = Kept(harness)
    try:
        for kind in (IN_BAND, NORMAL, BPDU, STP):
            kept.make(kind)
        kept.event("switch.untrusted", PROBED())
        kept.lab.receive()
        own = bytes.fromhex("024e56000001")
        seen = [a for a in kept.lab.receive_for(2.0) if a.frame[6:12] == own or a.frame[12:14] == b"\x08\x06"]
        assert seen == []
    finally:
        netvirt(kept.lab, "prepare", kept.lab.bridge(1))
        kept.lab.ofctl("del-flows", 1, "cookie=0xbad/-1")
        kept.blue.remove()
