"""A network that is one router, between Linux hosts on real switches."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from libnetvirt import Network
from libnetvirt.conformance.harness import Place
from libnetvirt.conformance.support.testbed import Testbed, clean, endpoint_at
from tests.support.lab.linux_hosts import LinuxHost, need_programs
from tests.support.openflow_harness import OpenFlow
from tests.support.promised_times import by, crowd

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(120)]

FAMILIES = pytest.mark.parametrize("v6", [False, True], ids=["IPv4", "IPv6"])
#: the port of a switch that a host is behind
PORT = 21


@pytest.fixture(scope="module")
def harness(private_namespace: None) -> Iterator[OpenFlow]:  # noqa: ARG001
    need_programs()
    with OpenFlow(options="&host-age=5") as harness:
        yield harness


class Routed:
    """A router with real hosts at three of its endpoints, number n at switch n."""

    def __init__(self, testbed: Testbed, harness: OpenFlow, hosts: list[LinuxHost], network: Network) -> None:
        self.testbed, self.harness, self.hosts, self.network = testbed, harness, hosts, network

    def address(self, number: int, v6: bool) -> str:
        return f"fd00:{number}::1" if v6 else f"10.0.{number}.1"

    def gateway(self, number: int, v6: bool) -> str:
        return f"fd00:{number}::fe" if v6 else f"10.0.{number}.254"

    def ping(self, source: int, target: str, count: int = 3) -> str:
        family = "-6" if ":" in target else "-4"
        return self.hosts[source - 1].run(
            "ping", family, "-n", "-c", str(count), "-i", "0.05", "-W", "2", target
        )


@pytest.fixture
def routed(harness: OpenFlow) -> Iterator[Routed]:
    testbed = Testbed(harness, None)
    with ExitStack() as stack:
        hosts = [
            stack.enter_context(
                LinuxHost(
                    harness.lab,
                    n,
                    PORT,
                    (f"10.0.{n}.1/24", f"fd00:{n}::1/64"),
                    (f"10.0.{n}.254", f"fd00:{n}::fe"),
                )
            )
            for n in (1, 2, 3)
        ]
        wanted = {(str(n), str(PORT)) for n in (1, 2, 3)}

        def missing() -> set[tuple[str, str]]:
            switches = harness.connection.substrate().switches
            return wanted - {(s.id, str(p.number)) for s in switches for p in s.ports if p.up}

        testbed.eventually(missing, "the driver knows the hosts' ports")
        endpoints = [
            endpoint_at(Place(str(n), str(PORT)), n, address=(f"10.0.{n}.254/24", f"fd00:{n}::fe/64"))
            for n in (1, 2, 3)
        ]
        network = testbed.create(forwarding="L3", endpoints=endpoints)
        yield Routed(testbed, harness, hosts, network)
        assert list(clean(testbed)) == []


def received(output: str) -> int:
    """How many answers ping got."""
    found = re.search(r"(\d+) received", output)
    assert found, output
    return int(found[1])


@FAMILIES
def test_hosts_reach_the_router_and_one_another(routed: Routed, v6: bool) -> None:
    for target in (
        routed.gateway(1, v6),
        routed.gateway(3, v6),
        routed.address(2, v6),
        routed.address(3, v6),
    ):
        assert received(routed.ping(1, target)) == 3, target
    assert "ttl=63" in routed.ping(2, routed.address(3, v6))


@FAMILIES
def test_traceroute_shows_exactly_one_router(routed: Routed, v6: bool) -> None:
    target = routed.address(3, v6)
    shown = routed.hosts[0].run("traceroute", "-6" if v6 else "-4", "-n", "-q", "1", "-w", "2", target)
    hops = re.findall(r"^ *(\d+) +(\S+)", shown, re.MULTILINE)
    assert hops == [("1", routed.gateway(1, v6)), ("2", target)], shown


@FAMILIES
def test_unreachable_destinations_are_reported_by_icmp(routed: Routed, v6: bool) -> None:
    nobody = "fd00:2::77" if v6 else "10.0.2.77"
    nowhere = "2001:db8::1" if v6 else "192.0.2.1"
    shown = routed.hosts[0].run("ping", "-n", "-c", "1", "-w", "6", nobody)
    assert f"From {routed.gateway(1, v6)}" in shown, shown
    assert "Address unreachable" in shown or "Destination Host Unreachable" in shown, shown
    shown = routed.hosts[0].run("ping", "-n", "-c", "1", "-w", "2", nowhere)
    assert f"From {routed.gateway(1, v6)}" in shown, shown
    assert "No route" in shown or "Destination Net Unreachable" in shown, shown


@pytest.mark.alone
@FAMILIES
def test_tcp_and_udp_bypass_the_controller(routed: Routed, v6: bool) -> None:
    target = routed.address(2, v6)
    assert received(routed.ping(1, target)) == 3
    before = _sent_up(routed.harness)
    server = routed.hosts[1].start("iperf3", "-s", "-1", "-J", "--forceflush")
    try:
        routed.testbed.eventually(lambda: _unheard(routed), "iperf3 listens")
        report = json.loads(routed.hosts[0].run("iperf3", "-c", target, "-t", "1", "-J"))
        assert report["end"]["sum_received"]["bits_per_second"] > 10e6, report["end"]
    finally:
        server.kill()
        server.communicate()
    server = routed.hosts[1].start("iperf3", "-s", "-1", "-J", "--forceflush")
    try:
        routed.testbed.eventually(lambda: _unheard(routed), "iperf3 listens")
        report = json.loads(routed.hosts[0].run("iperf3", "-c", target, "-u", "-b", "20M", "-t", "1", "-J"))
        assert report["end"]["sum"]["lost_percent"] < 5 * crowd(), report["end"]
    finally:
        server.kill()
        server.communicate()
    assert _sent_up(routed.harness) - before < 50


@FAMILIES
def test_oversized_packets_are_reported_by_icmp(routed: Routed, v6: bool) -> None:
    mtu = routed.network.state().mtu
    assert mtu == 1492
    target, head = routed.address(2, v6), 48 if v6 else 28
    assert received(routed.ping(1, target)) == 3

    def ping(size: int, how: str) -> str:
        options = ("-n", "-c", "2", "-W", "2", "-i", "0.2", "-M", how, "-s", str(size - head))
        return routed.hosts[0].run("ping", *options, target)

    assert received(ping(mtu, "do")) == 2
    shown = ping(mtu + 1, "do")
    assert f"From {routed.gateway(1, v6)}" in shown, shown
    assert f"mtu={mtu}" in shown.replace(" ", ""), shown
    # Over IPv4 the router cuts them; over IPv6 the first answer tells its sender.
    assert received(ping(1500, "dont")) >= (1 if v6 else 2)


def _unheard(routed: Routed) -> bool:
    """Whether nobody listens for iperf3 yet."""
    return "LISTEN" not in routed.hosts[1].run("ss", "-ltn", "sport", "=", ":5201")


def _sent_up(harness: OpenFlow) -> int:
    """Packets that rules of routers have sent to the controller.

    Not those of table *onward*: Open vSwitch counts there also what was not too large.
    """
    lines = [line for s in harness.lab.switches for line in harness.lab.dump(s, statistics=True)]
    counts = [
        re.search(r"n_packets=(\d+)", x) for x in lines if "CONTROLLER" in x and re.search(r"table=[679],", x)
    ]
    return sum(int(found[1]) for found in counts if found)


def test_a_silent_neighbour_expires_and_is_resolved_again(routed: Routed) -> None:
    """With host-age=5: asked again after at most five seconds, and given up three questions later."""
    target = routed.address(2, False)
    assert received(routed.ping(1, target)) == 3

    def known() -> bool:
        return any(target in host.addresses for host in routed.network.state().hosts)

    assert known()
    time.sleep(9)
    assert known(), "who answers stays known"
    routed.hosts[1].must("ip", "address", "del", f"{target}/24", "dev", "eth0")
    routed.testbed.eventually(known, "who does not answer is forgotten", by(12.0))
    routed.hosts[1].must("ip", "address", "add", f"{target}/24", "dev", "eth0")
    routed.hosts[1].must("ip", "route", "replace", "default", "via", routed.gateway(2, False))
    assert received(routed.ping(1, target)) == 3


def test_an_unplugged_host_is_resolved_again(routed: Routed) -> None:
    target = routed.address(2, True)
    assert received(routed.ping(1, target)) == 3
    routed.hosts[1].must("ip", "link", "set", "eth0", "down")
    routed.testbed.eventually(
        lambda: any(host.endpoint == "2" for host in routed.network.state().hosts),
        "the neighbours are forgotten",
    )
    routed.hosts[1].plug_in()
    routed.testbed.eventually(lambda: not received(routed.ping(1, target, 1)), "the host answers again")


def test_pings_continue_through_a_controller_restart_and_a_link_failure(routed: Routed) -> None:
    harness, target = routed.harness, routed.address(3, False)
    assert received(routed.ping(1, target)) == 3
    stream = routed.hosts[0].start("ping", "-n", "-i", "0.01", "-c", "600", "-W", "1", target)
    harness.kill_controller()
    harness.start_controller()
    link = next(link for link in harness.links() if "1" in link)
    harness.cut_link(*link)
    try:
        shown = stream.communicate(timeout=60)[0]
    finally:
        harness.restore_link(*link)
        routed.testbed.await_links()
    routed.network = harness.connection.lookup(routed.network.uuid)
    # A cut costs what it takes to move the paths; the restart costs nothing.
    assert received(shown) > 600 - 100 * crowd(), shown[-500:]
    assert "DUP" not in shown


@pytest.mark.alone
def test_errors_are_limited_per_endpoint(routed: Routed) -> None:
    """At most a hundred at once and a hundred a second: a flood of packets cannot make a flood of errors."""
    host, target = routed.hosts[0], routed.address(2, False)
    assert received(routed.ping(1, target)) == 3

    def errors() -> int:
        names, values = (
            x.split() for x in host.must("cat", "/proc/net/snmp").splitlines() if x[:5] == "Icmp:"
        )
        return int(dict(zip(names, values, strict=True))["InTimeExcds"])

    before, begin = errors(), time.monotonic()
    host.run("ping", "-n", "-f", "-t", "1", "-c", "3000", "-i", "0.001", "-W", "1", target, timeout=60)
    spent = time.monotonic() - begin
    assert 50 <= errors() - before <= 100 + 100 * (spent + 0.5), spent
    # Others are served as before.
    assert received(routed.ping(2, routed.address(3, False))) == 3
