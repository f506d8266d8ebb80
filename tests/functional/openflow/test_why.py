"""``netvirt why`` on real switches: each obstacle is made, found, and shown by frames that do not arrive."""

from __future__ import annotations

import itertools
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

import libnetvirt
from libnetvirt import ExplainedDirection, Explanation, Network, Rules
from libnetvirt.conformance.harness import Place
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.testbed import Guest, Testbed, endpoint_at
from libnetvirt.model.gateway import gateway_mac
from tests.support.lab.wire import set_mtu
from tests.support.netvirt_server import NETVIRT
from tests.support.openflow_harness import OpenFlow

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

#: seconds in which a frame arrives that is going to: a bound, not a wait
ARRIVAL = 0.1
#: seconds for the controller to see what has happened
SEEN = 40.0
_texts = itertools.count(1)


@pytest.fixture(scope="module")
def harness(private_namespace: None) -> Iterator[OpenFlow]:  # noqa: ARG001
    with OpenFlow(3, [(1, 2), (2, 3), (3, 1)], hosts=3, options="&drift=report") as harness:
        yield harness


@dataclass
class Pair:
    """A network of three endpoints, 1 with VLAN 10, each on its switch, and two of its hosts."""

    harness: OpenFlow
    testbed: Testbed
    network: Network
    guests: list[Guest]

    @property
    def a(self) -> Guest:
        return self.guests[0]

    @property
    def b(self) -> Guest:
        return self.guests[-1]

    def explain(self, **asked: Any) -> Explanation:
        return self.harness.connection.explain(self.network.uuid, 1, self.b.endpoint, **asked)

    def there(self, **asked: Any) -> ExplainedDirection:
        return self.explain(**asked).directions[0]

    def codes(self, **asked: Any) -> list[str]:
        return [str(one.code) for one in self.there(**asked).obstacles]

    def frame(self, size: int = 0) -> bytes:
        """A frame from a to b that nobody has sent before; ``size``: bytes behind its Ethernet header."""
        text = b"why %d" % next(_texts)
        return frames.marked(self.a.mac, self.b.mac, text + bytes(max(0, size - len(text))))

    def passes(self, frame: bytes | None = None, to: Guest | None = None) -> bool:
        """Whether a frame of a arrives."""
        frame, to = frame or self.frame(), to or self.b
        self.harness.send(self.a.place, [self.a.on_wire(frame)])
        deadline = time.monotonic() + ARRIVAL
        while (left := deadline - time.monotonic()) > 0:
            if to.arrival(frame) in self.harness.receive(left):
                return True
        return False

    def await_code(self, code: str, **asked: Any) -> ExplainedDirection:
        def missing() -> object:
            found = self.there(**asked)
            return None if code in [o.code for o in found.obstacles] else found

        self.testbed.eventually(missing, f"the obstacle {code} is found", SEEN)
        return self.there(**asked)

    def await_works(self) -> None:
        def missing() -> object:
            found = self.explain()
            return None if found.works and self.passes() else found

        self.testbed.eventually(missing, "everything works", SEEN)


@pytest.fixture
def testbed(harness: OpenFlow) -> Iterator[Testbed]:
    testbed = Testbed(harness, None)
    yield testbed
    for network in harness.connection.networks():
        network.remove()


@pytest.fixture
def pair(harness: OpenFlow, testbed: Testbed) -> Pair:
    network = testbed.create((Place("1", "1"), 10), Place("2", "1"), Place("3", "1"))
    guests = testbed.guests(network)
    testbed.announce(*guests)
    made = Pair(harness, testbed, network, guests)
    made.await_works()
    return made


def command(harness: OpenFlow, *words: str) -> tuple[int, str]:
    done = subprocess.run(
        [NETVIRT, *words, "-c", harness.served.client_uri],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def link_port(harness: OpenFlow, a: int, b: int) -> int:
    """The port of switch ``a`` that leads to ``b``."""
    return next(p for (s, p), far in harness.lab.link_ports.items() if (s, far[0]) == (a, b))


def test_the_way_of_a_frame_is_shown_with_rules_and_tunnels(pair: Pair) -> None:
    name = pair.network.description().name
    status, said = command(pair.harness, "why", name, "1", "3")
    assert status == 0, said
    for part in (
        "1 -> 3: frames arrive", "3 -> 1: frames arrive", "switch 1, in at port 1", "to switch 3 port",
        "tunnel vlan 3", f"host {pair.a.mac} at endpoint 1, learned", "vlan 10", "classify: cookie=",
    ):  # fmt: skip
        assert part in said, said
    status, said = command(pair.harness, "why", name, "1", "3", "--format", "json")
    document = json.loads(said)
    assert status == 0
    assert document == pair.explain().to_json() | {"directions": document["directions"]}
    there, back = document["directions"]
    assert [hop["switch"] for hop in there["hops"]] == ["1", "3"]
    assert [hop["switch"] for hop in back["hops"]] == ["3", "1"]
    assert there["hops"][0]["link"]["destination"] == "3"
    assert [rule["table"] for rule in there["hops"][0]["rules"]] == ["classify", "source", "host"]
    assert there["hops"][-1]["out-port"] == "1"
    # The frame in bytes is what Open vSwitch says that it forwards.
    traced = pair.harness.lab.ovs.appctl(
        "ofproto/trace", pair.harness.lab.bridge(1), f"in_port={pair.a.place.port}", there["wire"]
    )
    assert f"output:{there['hops'][0]['out-port']}" in traced


def test_bad_questions(pair: Pair) -> None:
    status, said = command(pair.harness, "why", pair.network.description().name, "1", "4")
    assert (status, "has no endpoint 4. It has: 1, 2, 3" in said) == (4, True), said
    explain = pair.harness.connection.explain
    with pytest.raises(libnetvirt.InvalidDescription, match="are both endpoint 1"):
        explain(pair.network.uuid, 1, 1)
    with pytest.raises(libnetvirt.InvalidDescription, match="traffic/mac: 'nonsense' is not a MAC address"):
        pair.explain(mac="nonsense")
    with pytest.raises(libnetvirt.InvalidDescription, match="size 1 is out of range"):
        pair.explain(size=1)
    with pytest.raises(libnetvirt.InvalidDescription, match="mix IPv4 and IPv6"):
        pair.explain(ip="10.0.0.1", from_ip="fd00::1")
    with pytest.raises(TypeError, match="not both"):
        pair.explain(traffic=libnetvirt.Traffic(), size=100)


def test_port_down(pair: Pair) -> None:
    pair.harness.unplug(pair.b.place)
    found = pair.await_code("port-down")
    assert found.verdict == "lost"
    assert found.obstacles[0].endpoint == "3"
    assert not pair.passes()
    # The other way, frames cannot enter.
    assert pair.explain().directions[1].verdict == "lost"
    pair.harness.plug(pair.b.place)
    pair.await_works()


def test_wrong_tag(pair: Pair) -> None:
    found = pair.there(vlan=11)
    assert (found.verdict, found.obstacles[0].code) == ("lost", "wrong-tag")
    assert "belong to no endpoint; endpoint 1 has VLAN 10" in found.obstacles[0].text
    frame = pair.frame()
    pair.harness.send(pair.a.place, [frames.tagged(frame, frames.tag(11))])
    assert pair.b.arrival(frame) not in pair.harness.receive(ARRIVAL)
    other = pair.testbed.create((Place("1", "1"), 11), Place("2", "2"))
    assert "belong to another network" in pair.there(vlan=11).obstacles[0].text
    other.remove()
    assert pair.there(vlan=10).verdict == "arrives"


def test_hosts_elsewhere_and_unknown(pair: Pair) -> None:
    middle = pair.guests[1]
    found = pair.there(mac=middle.mac)
    assert (found.verdict, [o.code for o in found.obstacles]) == ("lost", ["host-elsewhere"])
    assert "known at endpoint 2 (learned)" in found.obstacles[0].text
    frame = frames.marked(pair.a.mac, middle.mac, b"elsewhere")
    assert not pair.passes(frame)
    assert pair.passes(frames.marked(pair.a.mac, middle.mac, b"there"), middle)
    # Frames to an unknown host reach all.
    found = pair.there(mac="02:00:00:00:77:77")
    assert found.verdict == "arrives"
    assert "no host 02:00:00:00:77:77 is known: frames to it are sent to all endpoints" in found.notes
    assert pair.passes(frames.marked(pair.a.mac, "02:00:00:00:77:77", b"who?"))


def test_source_refused(pair: Pair) -> None:
    declared = "02:00:00:00:55:55"
    pair.network.modify_endpoint(2, mac=declared)
    found = pair.there(from_mac=declared)
    assert (found.verdict, [o.code for o in found.obstacles]) == ("lost", ["source-refused"])
    assert not pair.passes(frames.marked(declared, pair.b.mac, b"false"))
    assert pair.there().verdict == "arrives"


def test_endpoint_pending(pair: Pair) -> None:
    pair.network.add_endpoint(endpoint_at(Place("2", "77"), 4), pending=True)
    found = pair.harness.connection.explain(pair.network.uuid, 1, 4)
    assert [one.verdict for one in found.directions] == ["lost", "lost"]
    assert [o.code for o in found.directions[0].obstacles] == ["endpoint-pending"]
    assert "has no port 77" in found.directions[0].obstacles[0].text
    assert not found.works


def test_no_path(pair: Pair) -> None:
    for a, b in (("2", "3"), ("3", "1")):
        pair.harness.cut_link(a, b)
    found = pair.await_code("no-path")
    assert found.verdict == "lost"
    assert not pair.passes()
    for a, b in (("2", "3"), ("3", "1")):
        pair.harness.restore_link(a, b)
    pair.await_works()


def test_meter_drops(pair: Pair) -> None:
    pair.network.modify_endpoint(1, bandwidth={"inbound": "1 Mbit/s"})
    assert pair.there().inbound == 1_000_000
    frame, done = pair.frame(1000), threading.Event()

    def send() -> None:
        while not done.wait(0.005):
            pair.harness.send(pair.a.place, [pair.a.on_wire(frame)] * 5)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        found = pair.await_code("meter-drops")
    finally:
        done.set()
        sender.join()
    assert found.verdict == "partly"
    sent = 400
    while pair.harness.receive(ARRIVAL):
        pass
    pair.harness.send(pair.a.place, [pair.a.on_wire(frame)] * sent)
    arrived = 0
    while got := pair.harness.receive(ARRIVAL):
        arrived += len(got)
    assert 0 < arrived < sent
    assert pair.codes() == []


@contextmanager
def rule(harness: OpenFlow, switch: int, match: str, actions: str) -> Iterator[None]:
    harness.lab.ofctl("add-flow", switch, f"cookie=0x77,priority=900,{match},actions={actions}")
    try:
        yield
    finally:
        harness.lab.ofctl("del-flows", switch, "cookie=0x77/-1")


def test_foreign_rule(pair: Pair) -> None:
    with rule(
        pair.harness, 3, f"table=0,in_port={link_port(pair.harness, 3, 1)},vlan_tci=0x1000/0x1000", "drop"
    ):
        found = pair.there()
        assert (found.verdict, [o.code for o in found.obstacles]) == ("lost", ["foreign-rule"])
        assert "in switch 3" in found.obstacles[0].text
        assert found.hops[-1].rules[-1].foreign
        assert not pair.passes()
    pair.await_works()


def test_link_down(pair: Pair) -> None:
    pair.harness.cut_link("1", "2")
    testbed, port = pair.testbed, link_port(pair.harness, 1, 2)
    links = pair.harness.connection.substrate
    testbed.eventually(
        lambda: [n for n in links().links if {n.source, n.destination} == {"1", "2"} and n.up],
        "the link is down",
        SEEN,
    )
    with rule(pair.harness, 1, "table=0,in_port=1,dl_vlan=10", f"output:{port}"):
        found = pair.there()
        assert (found.verdict, [o.code for o in found.obstacles]) == ("lost", ["link-down", "foreign-rule"])
        assert f"out of switch 1 port {port}, which is down" in found.obstacles[0].text
        assert not pair.passes()
    pair.harness.restore_link("1", "2")
    pair.await_works()


def test_rules_differ(pair: Pair) -> None:
    saved = [line for line in pair.harness.lab.dump(3) if line.startswith("flow") and "table=2," in line]
    assert saved
    pair.harness.lab.ofctl("del-flows", 3, "table=2")
    found = pair.there()
    assert (found.verdict, [o.code for o in found.obstacles]) == ("lost", ["rules-differ"])
    assert "in switch 3, table service: no rule takes it" in found.obstacles[0].text
    assert not pair.passes()
    pair.harness.connection.repair()
    pair.await_works()


def test_loop(pair: Pair) -> None:
    there, back = link_port(pair.harness, 1, 2), link_port(pair.harness, 2, 1)
    mac = f"dl_src={pair.a.mac}"
    with (
        rule(pair.harness, 1, f"table=0,in_port={there},{mac}", "IN_PORT"),
        rule(pair.harness, 2, f"table=0,in_port={back},{mac}", "IN_PORT"),
    ):
        lab = pair.harness.lab
        lab.ofctl("add-flow", 1, f"cookie=0x77,priority=901,table=0,in_port=1,{mac},actions=output:{there}")
        found = pair.there()
        assert found.verdict == "lost"
        assert [o.code for o in found.obstacles] == ["loop", "foreign-rule", "foreign-rule", "foreign-rule"]
        assert not pair.passes()
    pair.await_works()


def test_not_understood(pair: Pair) -> None:
    with rule(pair.harness, 1, "table=0,in_port=1,dl_vlan=10", "exit"):
        found = pair.there()
        assert (found.verdict, found.obstacles[-1].code) == ("unknown", "not-understood")
        assert not pair.passes()
    pair.await_works()


def test_endpoint_blocked(pair: Pair) -> None:
    pair.network.modify_endpoint(1, storm={"rate": 20, "action": "block"})

    def missing() -> object:
        storm = [frames.marked(pair.a.mac, frames.BROADCAST, b"storm")] * 40
        pair.harness.send(pair.a.place, [pair.a.on_wire(frame) for frame in storm])
        return "endpoint-blocked" not in pair.codes()

    pair.testbed.eventually(missing, "it is blocked", SEEN)
    assert pair.there().verdict == "lost"
    assert not pair.passes()
    pair.network.modify_endpoint(1, storm=None)
    pair.await_works()


def test_switch_unresponsive(pair: Pair) -> None:
    lab = pair.harness.lab
    lab.switch_off(3)
    found = pair.await_code("switch-unresponsive")
    assert found.verdict in ("lost", "unknown")
    assert not pair.passes()
    lab.switch_on(3)
    pair.await_works()


def test_what_a_switch_without_connection_does_cannot_be_told(pair: Pair) -> None:
    lab, unknown = pair.harness.lab, "02:00:00:00:77:77"
    lab.release([2])

    def told() -> object:
        found = pair.harness.connection.explain(pair.network.uuid, 1, 2).directions[0]
        codes = [str(o.code) for o in found.obstacles]
        return None if (found.verdict, codes) == ("unknown", ["switch-unresponsive"]) else found

    pair.testbed.eventually(told, "it is seen", SEEN)
    # That a copy of the frame goes there does not matter to others.
    assert pair.there(mac=unknown).verdict == "arrives"
    assert pair.passes(frames.marked(pair.a.mac, unknown, b"to all"))
    lab.reconnect([2])
    pair.await_works()


def test_on_demand(harness: OpenFlow, testbed: Testbed) -> None:
    rules = Rules(encapsulation="vlan", insertion="on-demand", timeout="permanent")
    network = testbed.create(Place("1", "1"), Place("3", "1"), rules=rules)
    guests = testbed.guests(network)
    testbed.announce(*guests)
    made = Pair(harness, testbed, network, guests)
    found = harness.connection.explain(network.uuid, 1, 2)
    assert [one.verdict for one in found.directions] == ["first-frame", "first-frame"]
    assert found.works
    assert found.directions[0].obstacles == ()
    assert "there are no rules for these hosts yet: set up on the first frame" in found.directions[0].notes
    assert found.directions[0].hops[-1].out_port == "controller"
    testbed.exchange(guests[0], made.frame())
    testbed.eventually(
        lambda: made.harness.connection.explain(network.uuid, 1, 2).directions[0].verdict != "arrives",
        "the rules are there",
        SEEN,
    )


def test_routers(harness: OpenFlow, testbed: Testbed) -> None:
    ends = [
        endpoint_at(Place(s, "2"), uuid, 30, address=f"10.0.{uuid}.254/24")
        for uuid, s in ((1, "1"), (2, "3"))
    ]
    network = testbed.create(endpoints=ends, forwarding="L3")
    guests = testbed.guests(network)
    for guest in guests:
        testbed.exchange(
            guest, frames.arp(guest.mac, f"10.0.{guest.endpoint}.1", f"10.0.{guest.endpoint}.254")
        )
    gateway = frames.mac_text(gateway_mac(network.uuid))

    def explain(**asked: Any) -> ExplainedDirection:
        return harness.connection.explain(network.uuid, 1, 2, **asked).directions[0]

    def packet(to: str, ttl: int = 64) -> bytes:
        return frames.ipv4(guests[0].mac, gateway, "10.0.1.1", to, b"why %d" % next(_texts), ttl=ttl)

    found = explain()
    assert found.verdict == "arrives", found
    assert [hop.switch for hop in found.hops] == ["1", "3"]
    testbed.exchange(guests[0], packet("10.0.2.1"))
    found = explain(ip="10.0.2.9")
    assert (found.verdict, [o.code for o in found.obstacles]) == ("lost", ["host-unknown"])
    for ip in ("10.9.9.9", "10.0.1.7"):
        found = explain(ip=ip)
        assert (found.verdict, [o.code for o in found.obstacles]) == ("lost", ["no-route"]), found
    # The router asks for the unknown host; the packets themselves do not arrive.
    for to in ("10.0.2.9", "10.9.9.9", "10.0.1.7"):
        arrived = testbed.exchange(guests[0], packet(to))
        assert all(b"why" not in one.frame or one.place == guests[0].place for one in arrived)
    assert explain(ip="10.0.2.1", size=1400).verdict == "arrives"
    assert [o.code for o in explain(ip="10.0.2.1", size=1600).obstacles] == ["mtu"]


# The last one: links that have lost frames are taken again only after a time, which is not waited for.
def test_mtu(pair: Pair) -> None:
    lab = pair.harness.lab
    ends = [
        lab.interface(*end)
        for pair_ in ((1, 3), (2, 3))
        for end in (lab._link(*pair_), lab.link_ports[lab._link(*pair_)])
    ]

    def set_mtus(mtu: int) -> None:
        for name in ends:
            lab.ovs.vsctl("set", "Interface", name, f"mtu_request={mtu}")
            set_mtu(name, mtu)

    assert pair.passes(pair.frame(1400))
    set_mtus(1300)
    found = pair.await_code("mtu", size=1400)
    assert found.verdict == "lost"
    assert not pair.passes(pair.frame(1400))
