"""Switches that forward past the rules of networks: how that is noticed, refused and corrected.

Where a test says so, they are bridges of Open vSwitch with the settings that a user's bridge has. What is
reported as the remedy is run as it is written.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import libnetvirt
from libnetvirt import Event, Network, VirtualNetwork
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.stream import EventReader
from libnetvirt.errors import SwitchUntrusted
from libnetvirt.model import State
from tests.support.lab import Lab
from tests.support.netvirt_server import NETVIRT, Served
from tests.support.openflow_harness import OpenFlow

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(90)]

OPTIONS = "&lldp-interval=0.3"
#: hosts at (switch, port): of the blue network, and one that is in no network
BLUE, RED = ((1, 1), (2, 1)), ((1, 2), (2, 2))
TIMEOUT = 15.0


def eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def network(uuid: int, name: str, *places: tuple[int, int]) -> VirtualNetwork:
    ends = [libnetvirt.Endpoint(uuid=n, switch=s, port=p) for n, (s, p) in enumerate(places, 1)]
    return VirtualNetwork(uuid=uuid, name=name, endpoints=ends)


def with_defaults(lab: Lab) -> None:
    """Give the bridges the settings that ``ovs-vsctl add-br`` leaves them."""
    for switch in lab.switches:
        bridge = lab.bridge(switch)
        lab.ovs.vsctl(
            "remove", "Bridge", bridge, "other_config", "disable-in-band",
            "--", "clear", "Bridge", bridge, "fail_mode", "--", "clear", "Bridge", bridge, "protocols",
        )  # fmt: skip
    lab.ovs.vsctl("remove", "Open_vSwitch", ".", "other_config", "vlan-limit")


def request_of(host: int, address: str) -> bytes:
    """A broadcast ARP request of a host that claims to have this address."""
    mac = bytes((2, 0, 0, 0, 0, host))
    sender = bytes(map(int, address.split(".")))
    packet = b"\0\1\x08\0\6\4\0\1" + mac + sender + bytes(6) + bytes((10, 0, 0, 99))
    return (b"\xff" * 6 + mac + b"\x08\x06" + packet).ljust(60, b"\0")


def notes(connection: libnetvirt.Connection, switch: str = "1") -> str:
    found = {s.id: s.notes for s in connection.substrate().switches}
    return " ".join(note for note in found.get(switch, ()) if note.startswith("not trusted"))


def netvirt(lab: Lab, *words: str, status: int = 0) -> str:
    done = subprocess.run(
        [NETVIRT, *words], env=lab.ovs.environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def correct(lab: Lab, remedy: str) -> None:
    """Run a remedy as an operator does on the switch's machine."""
    for command in remedy.split("; "):
        done = subprocess.run(
            ["sh", "-c", command], env=lab.ovs.environment, capture_output=True, text=True, timeout=30,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stderr}"


# ---- the whole way of a new user -----------------------------------------------------------------------


def test_bridges_with_defaults_leak_are_refused_and_safe_after_prepare(private_namespace: None) -> None:  # noqa: ARG001
    served = Served(OPTIONS + "&untrusted=warn")
    with Lab(2, [(1, 2)], hosts=2) as lab:
        try:
            with_defaults(lab)
            lab.control(served.target)
            served.start()
            _leaks_with_a_warning(lab, served)
            served.terminate()
            served.uri = served.uri.replace("&untrusted=warn", "")
            served.start()
            lab.reconnect()
            _is_refused_until_prepared(lab, served)
        finally:
            served.stop()


def _leaks_with_a_warning(lab: Lab, served: Served) -> None:
    with libnetvirt.open(served.client_uri) as connection:
        eventually(
            lambda: "in-band" in notes(connection) and "in-band" in notes(connection, "2"), "it is noticed"
        )
        eventually(lambda: len(connection.substrate().links) == 2, "the link is found")
        blue = connection.create(network(7, "blue", *BLUE))
        state = blue.state()
        assert (state.state, {e.state for e in state.endpoints}) == (State.DEGRADED, {State.DEGRADED})
        assert all("in-band" in e.reason for e in state.endpoints)
        lab.receive()
        lab.send(*BLUE[0], request_of(1, "127.0.0.1"))
        eventually(lambda: RED[1] in {(a.switch, a.port) for a in lab.receive(0.1)}, "it leaks")
        blue.remove()


def _is_refused_until_prepared(lab: Lab, served: Served) -> None:
    with libnetvirt.open(served.client_uri) as connection:
        reader = EventReader(connection)
        eventually(
            lambda: "in-band" in notes(connection) and "in-band" in notes(connection, "2"), "it is noticed"
        )
        eventually(lambda: len(connection.substrate().links) == 2, "the link is found")
        with pytest.raises(SwitchUntrusted, match="disable-in-band=true"):
            connection.create(network(7, "blue", *BLUE))
        assert list(connection.networks()) == []
        bridges = [lab.bridge(switch) for switch in lab.switches]
        found = netvirt(lab, "doctor", *bridges, status=7)
        assert found.count("in-band control is on") == found.count("fail_mode is not secure") == 2
        assert "vlan-limit is 1" in found
        for switch, bridge in zip(lab.switches, bridges, strict=True):
            links = [w for s, p in lab.link_ports if s == switch for w in ("--link", lab.interface(s, p))]
            said = netvirt(lab, "prepare", bridge, "--controller", served.target, *links)
            assert f"bridge {bridge} is prepared" in said
        assert netvirt(lab, "doctor", *bridges, "--controller", served.target).count("nothing is wrong") == 2
        eventually(lambda: not notes(connection) + notes(connection, "2"), "they are trusted")
        eventually(lambda: sum(e.kind == "switch.trusted" for e in reader.events) == 2, "that is reported")
        eventually(lambda: len(connection.substrate().links) == 2, "the link is found")
        blue = connection.create(network(7, "blue", *BLUE))
        assert blue.state().state is State.ACTIVE
        lab.receive()
        lab.send(*BLUE[0], *(request_of(1, address) for address in ("127.0.0.1", "10.0.0.1")))
        arrived: list[tuple[int, int]] = []

        def both() -> bool:
            arrived.extend(_places(lab))
            return len(arrived) >= 2

        eventually(both, "both frames are carried")
        lab.ovs.appctl("version")
        arrived += _places(lab)
        assert arrived == [BLUE[1]] * 2


def _places(lab: Lab) -> list[tuple[int, int]]:
    arp = b"\x08\x06"
    return [(a.switch, a.port) for a in lab.receive(0.1) if a.frame[12:14] == arp]


# ---- one kind at a time --------------------------------------------------------------------------------


class Kind(NamedTuple):
    """A way to make a bridge forward past the rules: the words of ovs-vsctl or of ovs-ofctl that do it, with
    BRIDGE and TAP (a port) to be filled in, and whether frames of a network then come out elsewhere."""

    name: str
    words: str
    leaks: bool = False


IN_BAND = Kind("in-band", "vsctl remove Bridge BRIDGE other_config disable-in-band", leaks=True)
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

    def event(self, kind: str) -> Event:
        eventually(lambda: any(e.kind == kind for e in self.reader.events), f"{kind} is reported")
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
def blind(private_namespace: None) -> Iterator[OpenFlow]:  # noqa: ARG001
    """Switches whose databases are not known."""
    with OpenFlow(1, [], hosts=3, options=OPTIONS) as harness:
        yield harness


@pytest.fixture(scope="module")
def seeing(private_namespace: None) -> Iterator[OpenFlow]:  # noqa: ARG001
    """Switches whose database is known."""
    harness = OpenFlow(1, [], hosts=3, options=OPTIONS)
    harness.served.uri += f"&ovsdb={harness.lab.ovs.socket}"
    with harness:
        yield harness


def check(harness: OpenFlow, kind: Kind) -> None:
    kept = Kept(harness)
    try:
        kept.make(kind)
        started = time.monotonic()
        event = kept.event("switch.untrusted")
        print(f"{kind.name}: noticed within {time.monotonic() - started:.2f} s")
        assert kept.leaks() is kind.leaks
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
        kept.event("switch.trusted")
        assert kept.blue.state().state is State.ACTIVE
        eventually(lambda: not kept.leaks(), "nothing comes out elsewhere")
        kept.connection.create(red).remove()
    finally:
        kept.blue.remove()


@pytest.mark.parametrize("kind", [IN_BAND, STP, RSTP, NORMAL], ids=lambda kind: kind.name)
def test_probes_find_what_takes_frames_before_the_rules(blind: OpenFlow, kind: Kind) -> None:
    check(blind, kind)


@pytest.mark.parametrize("kind", [IN_BAND, STP, RSTP, BPDU, STANDALONE, MIRROR], ids=lambda kind: kind.name)
def test_the_database_tells_what_probes_cannot_see(seeing: OpenFlow, kind: Kind) -> None:
    check(seeing, kind)


def test_standalone_leaks_only_without_a_controller_and_secure_does_not(seeing: OpenFlow) -> None:
    """Why ``fail_mode=standalone`` is refused although it does nothing as long as there is a controller."""
    lab, sent = seeing.lab, frames.marked("02:00:00:00:00:02", "02:00:00:00:00:01", b"where does it go")
    got: set[int] = set()

    def reaches_others() -> bool:
        lab.receive()
        lab.send(1, 1, sent)
        got.update(a.port for a in lab.receive(0.1) if a.frame == sent)
        return bool(got)

    bridge = lab.bridge(1)
    lab.ovs.vsctl("set", "Bridge", bridge, "fail_mode=standalone")
    lab.ovs.vsctl("--", "set", "Controller", bridge, "inactivity_probe=1000", "max_backoff=1000")
    try:
        lab.release()
        eventually(reaches_others, "without a controller, it forwards like a learning switch")
        netvirt(lab, "prepare", bridge)
        lab.release()
        got.clear()
        lab.ovs.appctl("revalidator/purge")
        assert not reaches_others()
    finally:
        lab.ovs.vsctl("set", "Bridge", bridge, "fail_mode=secure")
        lab.control(seeing.served.target)
        seeing.start_controller()


def test_probes_come_out_at_no_host(blind: OpenFlow) -> None:
    """Whatever is wrong with the switch."""
    kept = Kept(blind)
    try:
        for kind in (IN_BAND, NORMAL, BPDU, STP):
            kept.make(kind)
        kept.event("switch.untrusted")
        kept.lab.receive()
        own = bytes.fromhex("024e56000001")
        seen = [a for a in kept.lab.receive_for(2.0) if a.frame[6:12] == own or a.frame[12:14] == b"\x08\x06"]
        assert seen == []
    finally:
        netvirt(kept.lab, "prepare", kept.lab.bridge(1))
        kept.lab.ofctl("del-flows", 1, "cookie=0xbad/-1")
        kept.blue.remove()


def test_what_is_documented_sets_a_bridge_up(tmp_path: Path) -> None:  # noqa: ARG001
    """The commands of `netvirt prepare --print` have the same effect as `netvirt prepare`."""
    with Lab(1, hosts=1) as lab:
        with_defaults(lab)
        bridge = lab.bridge(1)
        words = [bridge, "--controller", "tcp:127.0.0.1:6653", "--datapath-id", "17"]
        printed = netvirt(lab, "prepare", *words, "--print")
        correct(lab, "; ".join(printed.splitlines()))
        assert "nothing is wrong" in netvirt(lab, "doctor", *words)
        with_defaults(lab)
        assert "unsafe: in-band" in netvirt(lab, "doctor", *words, status=7)
        netvirt(lab, "prepare", *words)
        assert "nothing is wrong" in netvirt(lab, "doctor", *words)
        said = netvirt(lab, "prepare", *words)
        assert said == f"bridge {bridge} is prepared\n"
