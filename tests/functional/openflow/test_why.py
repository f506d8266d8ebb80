"""``netvirt why`` on real switches."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from libnetvirt.conformance.support.testbed import Testbed
from tests.support.netvirt_server import NETVIRT
from tests.support.openflow_harness import OpenFlow

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def harness(private_namespace: None) -> Iterator[OpenFlow]:  # noqa: ARG001
    with OpenFlow(3, [(1, 2), (2, 3)], hosts=3, options="&drift=report") as harness:
        yield harness


def why(harness: OpenFlow, *words: str) -> tuple[int, str]:
    done = subprocess.run(
        [NETVIRT, "why", *words, "-c", harness.served.client_uri],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr

def test_try(harness: OpenFlow) -> None:
    testbed = Testbed(harness, None)
    ports = list(harness.host_ports())
    a, b = ports[0], ports[-1]
    network = testbed.create((a,10), b)
    guests = testbed.guests(network)
    name = network.description().name
    print(why(harness, name, "1", "2")[1])
    testbed.announce(*guests)
    print(why(harness, name, "1", "2")[1])
    print(why(harness, name, "1", "2", "--vlan", "7", "--size", "9000")[1])
    print(harness.connection.explain(name, 1, 2).to_json())
    l3 = testbed.create(endpoints=[dict(uuid=1,switch=a.switch,port=a.port,vlan=30,address="10.0.1.254/24"),
       dict(uuid=2,switch=b.switch,port=b.port,vlan=30,address="10.0.2.254/24")],forwarding="L3")
    print(why(harness, l3.description().name, "1", "2", "--ip", "10.0.2.1", "--from-ip","10.0.1.1")[1])
    assert 0
