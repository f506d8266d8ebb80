"""Rate limits, measured between real hosts on real switches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest

from libnetvirt import Encapsulation, Insertion, Network, Rules, Timeout
from libnetvirt.conformance.harness import Place
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.testbed import Testbed, clean, endpoint_at
from tests.support.lab.linux_hosts import LinuxHost, need_programs
from tests.support.lab.traffic import Flow, run
from tests.support.openflow_harness import OpenFlow
from tests.support.promised_times import crowd

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

PORT = 21
MBIT = 1_000_000
SECONDS = 6.0
OFFLINE_VLAN = Rules(encapsulation=Encapsulation.VLAN, insertion=Insertion.OFFLINE, timeout=Timeout.PERMANENT)
OFFLINE_MPLS = OFFLINE_VLAN.changed(encapsulation=Encapsulation.MPLS)
ON_DEMAND_NATIVE = Rules(
    encapsulation=Encapsulation.NATIVE, insertion=Insertion.ON_DEMAND, timeout=Timeout.IDLE
)


@pytest.fixture(scope="module")
def harness(private_namespace: None) -> Iterator[OpenFlow]:  # noqa: ARG001
    need_programs()
    with OpenFlow(2, [(1, 2)], hosts=2) as harness:
        yield harness


@dataclass
class Pair:
    """Two real hosts on two switches."""

    testbed: Testbed
    hosts: tuple[LinuxHost, LinuxHost]

    def flow(self, backwards: bool = False, rate: int | None = None) -> Flow:
        a, b = reversed(self.hosts) if backwards else self.hosts
        return Flow(a, b, "10.0.0.1" if backwards else "10.0.0.2", rate)

    @contextmanager
    def network(self, *limits: dict[str, str] | None, rules: Rules | None = None) -> Iterator[Network]:
        ends = [
            endpoint_at(Place(str(n), str(PORT)), n).changed(bandwidth=limit)
            for n, limit in enumerate(limits, 1)
        ]
        description = self.testbed.description(endpoints=ends, rules=rules)
        network = self.testbed.harness.connection.create(description)
        assert "2 received" in self.hosts[0].run("ping", "-c", "2", "-i", "0.2", "-W", "5", "10.0.0.2")
        yield network
        network.remove()


@pytest.fixture
def pair(harness: OpenFlow) -> Iterator[Pair]:
    testbed = Testbed(harness, None)
    with ExitStack() as stack:
        hosts = [
            stack.enter_context(LinuxHost(harness.lab, n, PORT, (f"10.0.0.{n}/24",), ())) for n in (1, 2)
        ]

        def missing() -> set[str]:
            switches = harness.connection.substrate().switches
            return {"1", "2"} - {s.id for s in switches for p in s.ports if p.number == PORT and p.up}

        testbed.eventually(missing, "the ports are there")
        yield Pair(testbed, (hosts[0], hosts[1]))
        assert list(clean(testbed)) == []


@pytest.mark.alone
@pytest.mark.parametrize(
    "rules", [OFFLINE_VLAN, OFFLINE_MPLS, ON_DEMAND_NATIVE], ids=["vlan", "mpls", "native"]
)
def test_an_endpoint_never_receives_more_than_its_limit(pair: Pair, rules: Rules) -> None:
    with pair.network(
        {"inbound": "20 Mbit/s"}, {"inbound": "8 Mbit/s", "outbound": "12 Mbit/s"}, rules=rules
    ):
        out, back = run([pair.flow(rate=60 * MBIT), pair.flow(True, rate=60 * MBIT)], SECONDS)
        assert 0.95 * 12 * MBIT <= out <= 1.05 * 12 * MBIT
        assert 0.95 * 8 * MBIT <= back <= 1.05 * 8 * MBIT


@pytest.mark.alone
def test_tcp_reaches_its_limit_and_a_new_limit_applies_at_once(pair: Pair) -> None:
    with pair.network({"inbound": "20 Mbit/s"}, {"outbound": "60 Mbit/s"}) as network:
        (got,) = run([pair.flow()], SECONDS)
        assert 0.8 * 20 * MBIT <= got <= 1.05 * 20 * MBIT
        network.modify_endpoint(1, bandwidth={"inbound": "40 Mbit/s"})
        (got,) = run([pair.flow()], SECONDS)
        assert 0.8 * 40 * MBIT <= got <= 1.05 * 40 * MBIT
        network.modify_endpoint(1, bandwidth=None)
        (got,) = run([pair.flow(rate=50 * MBIT)], SECONDS)
        # More than any limit here let pass; all of it, unless the machine is too busy to carry that.
        assert got >= max(1.1 * 40 * MBIT, 0.95 * 50 * MBIT / crowd())


@pytest.mark.alone
def test_a_limit_of_one_host_does_not_affect_others(pair: Pair, harness: OpenFlow) -> None:
    """Many frames for everybody: the limited endpoint gets its rate, the one beside it all of them."""
    source, beside, limited = Place("1", "1"), Place("2", "1"), Place("2", "2")
    network = pair.testbed.create(source, beside, limited)
    network.modify_endpoint(3, bandwidth={"outbound": "1 Mbit/s"})
    arrived = dict.fromkeys((beside, limited), 0)
    for sent in range(20, 201, 20):
        harness.send(source, [frames.marked(frames.mac(5), frames.BROADCAST, bytes(1000))] * 20)

        def missing(sent: int = sent) -> dict[Place, int]:
            for arrival in harness.receive(0.05):
                arrived[arrival.place] += 1
            return arrived if arrived[beside] < sent else {}

        pair.testbed.eventually(missing, f"all {sent} frames reach the endpoint without limits")
    # 400 kbit may pass at once, and 1 Mbit/s after that.
    assert 40 <= arrived[limited] < 150


@pytest.mark.parametrize("tag", [{"vlan": 20}, {"mpls": 99}, None], ids=str)
@pytest.mark.parametrize(
    "rules", [OFFLINE_VLAN, OFFLINE_MPLS, ON_DEMAND_NATIVE], ids=["vlan", "mpls", "native"]
)
def test_limits_of_tagged_endpoints_do_not_alter_frames(
    pair: Pair, harness: OpenFlow, rules: Rules, tag: dict[str, int] | None
) -> None:
    """Whatever the tags: what is within the limits comes out as the oracle says, to one and to all."""
    limits = {"bandwidth": {"inbound": "100 Mbit/s", "outbound": "100 Mbit/s"}}
    one, two, *_ = harness.host_ports()
    far = next(p for p in harness.host_ports() if p.switch == "2")
    places = [(one, tag), (two, None), (far, tag), (one, {"vlan": 5})]
    ends = [endpoint_at(place, n, t, **limits) for n, (place, t) in enumerate(places, 1)]
    guests = pair.testbed.guests(
        harness.connection.create(pair.testbed.description(endpoints=ends, rules=rules))
    )
    pair.testbed.announce(*guests)
    pair.testbed.check_reachability(guests)


@pytest.mark.alone
def test_limits_of_router_endpoints_hold(harness: OpenFlow) -> None:
    testbed = Testbed(harness, None)
    with ExitStack() as stack:
        hosts = [
            stack.enter_context(
                LinuxHost(harness.lab, n, PORT, (f"10.0.{n}.1/24",), (f"10.0.{n}.254",), mtu=1492)
            )
            for n in (1, 2)
        ]
        wanted = {"1", "2"}
        testbed.eventually(
            lambda: (
                wanted
                - {
                    s.id
                    for s in harness.connection.substrate().switches
                    for p in s.ports
                    if p.number == PORT and p.up
                }
            ),
            "the ports are there",
        )
        limits = ({"inbound": "20 Mbit/s"}, {"inbound": "8 Mbit/s", "outbound": "12 Mbit/s"})
        ends = [
            endpoint_at(Place(str(n), str(PORT)), n, address=[f"10.0.{n}.254/24"], bandwidth=limit)
            for n, limit in enumerate(limits, 1)
        ]
        network = harness.connection.create(testbed.description(endpoints=ends, forwarding="L3"))
        assert "2 received" in hosts[0].run("ping", "-c", "2", "-i", "0.2", "-W", "5", "10.0.2.1")
        flows = [
            Flow(hosts[0], hosts[1], "10.0.2.1", 60 * MBIT),
            Flow(hosts[1], hosts[0], "10.0.1.1", 60 * MBIT),
        ]
        there, back = run(flows, SECONDS)
        assert 0.95 * 12 * MBIT <= there <= 1.05 * 12 * MBIT
        assert 0.95 * 8 * MBIT <= back <= 1.05 * 8 * MBIT
        network.remove()
        assert list(clean(testbed)) == []
