"""``netvirt why`` on OVN: its verdicts are those of ovn-trace, and of frames."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest

from labs.daemons import run
from libnetvirt import ExplainedDirection, Network
from libnetvirt.conformance.harness import Place
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.testbed import Guest, Testbed, endpoint_at
from libnetvirt.drivers.ovn.compiler import logical_port
from libnetvirt.model.gateway import gateway_mac
from tests.support.ovn_harness import Ovn, need_ovn

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

#: seconds in which a frame arrives that is going to: a bound, not a wait
ARRIVAL = 0.2
_texts = itertools.count(1)


@pytest.fixture(scope="module")
def harness(private_namespace: None) -> Iterator[Ovn]:  # noqa: ARG001
    need_ovn()
    with Ovn(chassis=2, hosts=3) as harness:
        yield harness


@pytest.fixture
def testbed(harness: Ovn) -> Iterator[Testbed]:
    yield Testbed(harness, None)
    for network in harness.connection.networks():
        network.remove()


def codes(found: ExplainedDirection) -> list[str]:
    return [str(one.code) for one in found.obstacles]


def explain(harness: Ovn, network: Network, **asked: Any) -> ExplainedDirection:
    return harness.connection.explain(network.uuid, 1, 2, **asked).directions[0]


def traced(harness: Ovn, network: Network, source: str, to: str, more: str = "", at: str = "1") -> bool:
    """Whether ovn-trace says that a frame leaves at endpoint 2."""
    ends = {e.uuid: logical_port(e) for e in network.description().endpoints}
    flow = f'inport == "{ends[at]}" && eth.src == {source} && eth.dst == {to}{more}'
    remote = f"--db={harness.lab.southbound.remotes}"
    switch = harness.lab.sbctl(
        "--bare", "--columns=datapath", "find", "Port_Binding", f'logical_port="{ends[at]}"'
    )
    said = run("ovn-trace", remote, "--no-leader-only", "--minimal", switch.strip(), flow)
    return f'output("{ends["2"]}")' in said


def passes(testbed: Testbed, guests: list[Guest], frame: bytes) -> bool:
    testbed.harness.send(guests[0].place, [guests[0].on_wire(frame)])
    deadline = time.monotonic() + ARRIVAL
    while (left := deadline - time.monotonic()) > 0:
        if guests[1].arrival(frame) in testbed.harness.receive(left):
            return True
    return False


def marked(source: str, to: str) -> bytes:
    return frames.marked(source, to, b"why %d" % next(_texts))


def test_switched_networks(harness: Ovn, testbed: Testbed) -> None:
    declared = "02:00:00:00:55:55"
    ends = [
        endpoint_at(Place("ch1", "p1"), 1, 10), endpoint_at(Place("ch2", "p1"), 2),
        endpoint_at(Place("ch2", "p2"), 3, mac=declared),
    ]  # fmt: skip
    network = testbed.create(endpoints=ends)
    guests = testbed.guests(network)[:2]
    testbed.announce(*guests)
    a, b = (guest.mac for guest in guests)
    found = explain(harness, network)
    assert (found.verdict, codes(found)) == ("arrives", []), found
    assert [hop.switch for hop in found.hops] == ["ch1", "ch2"]
    assert found.hops[0].tunnel.startswith("geneve:")
    assert traced(harness, network, a, b)
    assert passes(testbed, guests, marked(a, b))
    # A declared host is heard where it is declared.
    host = testbed.guest(network, network.description().endpoints[2], declared)
    assert traced(harness, network, declared, b, at="3")
    assert passes(testbed, [host, guests[1]], marked(declared, b))
    for asked, (source, to), code in (
        ({"mac": declared}, (a, declared), "host-elsewhere"),
        ({"from_mac": declared}, (declared, b), "source-refused"),
    ):
        found = explain(harness, network, **asked)
        assert (found.verdict, codes(found)) == ("lost", [code])
        assert not traced(harness, network, source, to)
        assert not passes(testbed, guests, marked(source, to))
    assert explain(harness, network, mac="02:00:00:00:77:77").verdict == "arrives"
    assert traced(harness, network, a, "02:00:00:00:77:77")
    found = explain(harness, network, vlan=11)
    assert (found.verdict, codes(found)) == ("lost", ["wrong-tag"])
    frame = marked(a, b)
    harness.send(guests[0].place, [frames.tagged(frame, frames.tag(11))])
    assert guests[1].arrival(frame) not in harness.receive(ARRIVAL)


def test_ports_that_are_down_or_missing(harness: Ovn, testbed: Testbed) -> None:
    network = testbed.create(Place("ch1", "p1"), Place("ch2", "p1"))
    guests = testbed.guests(network)
    testbed.announce(*guests)
    frame = marked(guests[0].mac, guests[1].mac)
    assert passes(testbed, guests, frame)
    harness.unplug(guests[1].place)
    testbed.eventually(lambda: codes(explain(harness, network)) != ["port-down"], "it is down", 20.0)
    assert explain(harness, network).verdict == "lost"
    assert not passes(testbed, guests, marked(guests[0].mac, guests[1].mac))
    harness.plug(guests[1].place)
    testbed.eventually(lambda: explain(harness, network).verdict != "arrives", "it is up", 20.0)
    network.add_endpoint(endpoint_at(Place("ch2", "absent"), 7), pending=True)
    found = harness.connection.explain(network.uuid, 1, 7).directions[0]
    assert (found.verdict, codes(found)) == ("lost", ["endpoint-pending"])
    # What another program has changed is not judged.
    port = logical_port(network.description().endpoints[1])
    harness.lab.nbctl("lsp-set-addresses", port)
    testbed.eventually(lambda: "rules-differ" not in codes(explain(harness, network)), "it is seen", 20.0)
    assert explain(harness, network).verdict == "unknown"
    harness.connection.repair()
    testbed.eventually(lambda: explain(harness, network).verdict != "arrives", "it is repaired", 20.0)


def test_routers(harness: Ovn, testbed: Testbed) -> None:
    ends = [endpoint_at(Place(f"ch{n}", "p3"), n, address=f"10.0.{n}.254/24") for n in (1, 2)]
    network = testbed.create(endpoints=ends, forwarding="L3")
    guests = testbed.guests(network)
    gateway = frames.mac_text(gateway_mac(network.uuid))

    def trace(ip: str) -> bool:
        more = f" && ip4.src == 10.0.1.1 && ip4.dst == {ip} && ip.ttl == 64"
        return traced(harness, network, guests[0].mac, gateway, more)

    assert codes(explain(harness, network, ip="10.0.2.1")) == ["host-unknown"]
    for guest in guests:
        n = guest.endpoint
        testbed.exchange(guest, frames.arp(guest.mac, f"10.0.{n}.1", f"10.0.{n}.254"))
    testbed.eventually(lambda: explain(harness, network).verdict != "arrives", "hosts are known", 20.0)
    assert explain(harness, network, ip="10.0.2.1", from_ip="10.0.1.1").verdict == "arrives"
    assert trace("10.0.2.1")
    for ip, code in (("10.9.0.1", "no-route"), ("10.0.1.9", "no-route")):
        found = explain(harness, network, ip=ip, from_ip="10.0.1.1")
        assert (found.verdict, codes(found)) == ("lost", [code])
        assert not trace(ip)
