"""Operations of the HTTP interface on real switches, one of which does not answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest

from libnetvirt.conformance.harness import Place
from libnetvirt.conformance.support.testbed import Testbed, clean
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.pipeline import Kind
from libnetvirt.daemon.wire import dump
from tests.support.openflow_harness import OpenFlow
from tests.support.tcp_switch import TcpSwitch

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(120)]

#: so long that no operation fails by itself
TIMEOUT = 40.0
#: seconds until a switch is connected
CONNECTED = 20.0
#: a fifth switch, that is not a real one; it has no links
STRANGE = Place("99", "1")
#: the rule that counts commits
MARKER = f"cookie={pipeline.cookie(0, Kind.OWNER):#x},"


@pytest.fixture(scope="module")
def harness(private_namespace: None) -> Iterator[OpenFlow]:  # noqa: ARG001
    with OpenFlow(options=f"&confirm-timeout={TIMEOUT}") as harness:
        yield harness


@pytest.fixture
def testbed(harness: OpenFlow) -> Iterator[Testbed]:
    testbed = Testbed(harness, None)
    harness.flush_caches()
    yield testbed
    assert list(clean(testbed)) == []
    testbed.eventually(harness.differences, "the switches hold what they should")


@pytest.fixture
def client(harness: OpenFlow) -> Iterator[httpx.Client]:
    transport = httpx.HTTPTransport(uds=str(harness.served.socket))
    with closing(httpx.Client(transport=transport, base_url="http://netvirt/v1", timeout=60)) as client:
        yield client


def _held(harness: OpenFlow) -> list[list[str]]:
    """All rules of the real switches but the markers."""
    return [
        sorted(line for line in harness.lab.dump(s) if MARKER not in line.replace(" ", ""))
        for s in harness.lab.switches
    ]


@pytest.mark.parametrize("yields", [False, True], ids=["holds the lock", "waits for the switch"])
def test_an_operation_that_waits_for_a_switch_is_seen_cancelled_and_leaves_nothing(
    testbed: Testbed, harness: OpenFlow, client: httpx.Client, yields: bool
) -> None:
    def connected() -> bool:
        return any(s.connected for s in harness.connection.substrate().switches if s.id == STRANGE.switch)

    with TcpSwitch(int(STRANGE.switch), harness.served.port) as strange:
        testbed.eventually(lambda: not connected(), "the switch is connected", CONNECTED)
        # It may still be reconciled: an operation waits until that is over.
        testbed.create((Place("1", "3"), 50), (Place("3", "3"), 50)).remove()
        testbed.eventually(harness.differences, "the switches hold what they should")
        held, of_strange = _held(harness), set(strange.agent.switch.flows)
        network = testbed.description(*((place, 77) for place in testbed.places(3)), STRANGE)
        name = f"slow-{network.uuid}"
        content = b'{"after": %s, "pending": true}' % dump(network)
        strange.faults.silent = True
        reply = client.post(
            "/changes",
            content=content,
            headers={"prefer": "respond-async", "netvirt-operation": name},
        )
        assert (reply.status_code, reply.headers["location"]) == (202, f"/v1/operations/{name}")

        def now() -> dict[str, Any]:
            found: dict[str, Any] = client.get(f"/operations/{name}").json()
            return found

        testbed.eventually(lambda: "progress" not in now(), "the messages are sent", CONNECTED)
        progress = now()["progress"]
        assert 0 <= progress["done"] < progress["all"]
        if yields:
            testbed.create((Place("1", "3"), 50), (Place("3", "3"), 50)).remove()
        running = client.get("/operations", params={"state": "running"}).json()
        assert [(one["id"], one["kind"], one["network"]) for one in running] == [
            (name, "create", network.uuid)
        ]
        ended = client.post(f"/operations/{name}/cancel")
        assert (ended.status_code, ended.json()["state"]) == (200, "cancelled")
        assert now() == ended.json()
        assert network.uuid not in {one.uuid for one in harness.connection.descriptions()}
        testbed.eventually(lambda: _held(harness) != held, "nothing is left on the real switches")
        strange.faults.silent = False
        strange.reconnect()
        testbed.eventually(
            lambda: not connected() or set(strange.agent.switch.flows) != of_strange,
            "nothing is left on the switch that did not answer",
            CONNECTED,
        )
        again = client.post("/changes", content=content, headers={"prefer": "respond-async"})
        place = again.headers["location"]
        done = client.get(place.removeprefix("/v1"), params={"wait": 60}).json()
        assert (done["state"], done["progress"]["done"]) == ("succeeded", done["progress"]["all"])
        harness.connection.lookup(network.uuid).remove()
    testbed.eventually(connected, "the switch is gone", CONNECTED)
