"""What a server tells those who watch it, on real switches: the numbers follow what happens."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from libnetvirt import Encapsulation, Endpoint, Event, Insertion, Rules, Timeout, VirtualNetwork
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.stream import EventReader
from tests.support import scrape
from tests.support.openflow_harness import OpenFlow
from tests.support.scrape import Samples, value
from tests.support.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

ON_DEMAND = Rules(encapsulation=Encapsulation.NATIVE, insertion=Insertion.ON_DEMAND, timeout=Timeout.IDLE)
RATE = 20
#: seconds until something is seen
SOON = 60.0


@pytest.fixture(scope="module")
def harness(private_namespace: None) -> Iterator[OpenFlow]:  # noqa: ARG001
    options = f"&packet-rate={RATE}&lldp-interval=0.5&hold=1"
    with OpenFlow(3, [(1, 2), (2, 3), (3, 1)], hosts=1, options=options) as harness:
        yield harness


def _until(harness: OpenFlow, condition: Callable[[Samples], bool]) -> Samples:
    deadline = time.monotonic() + SOON
    while True:
        found = scrape.scrape(harness.served.socket)
        if condition(found):
            return found
        assert time.monotonic() < deadline, {name: dict(series) for name, series in found.items()}
        time.sleep(0.1)


def _ready(harness: OpenFlow) -> tuple[int, str]:
    answer = scrape.get(harness.served.socket, "/readyz")
    return answer.status_code, answer.text


def _in_state(harness: OpenFlow, state: str) -> list[str]:
    """The uuids of the networks that the server lists as being in a state."""
    answer = scrape.get(harness.served.socket, f"/v1/networks?status={state}")
    return [network["uuid"] for network in answer.json()]


def test_the_numbers_follow_what_happens(harness: OpenFlow) -> None:
    before = _until(
        harness,
        lambda s: value(s, "netvirt_switches", state="connected") == 3 and value(s, "netvirt_links") == 6,
    )
    assert value(before, "netvirt_networks") == 0
    assert value(before, "netvirt_connection_info", driver="openflow", connection="default") == 1
    rules = value(before, "netvirt_switch_rules")
    assert rules > 0

    ends = [Endpoint(uuid=str(n), switch=str(n), port="1") for n in (1, 2)]
    network = harness.connection.create(
        VirtualNetwork(name='a "b" \\', endpoints=tuple(ends), rules=ON_DEMAND)
    )
    created = _until(harness, lambda s: value(s, "netvirt_switch_rules") > rules)
    count = "netvirt_operation_duration_seconds_count"
    assert value(created, count, kind="create", result="ok") - value(before, count, kind="create") == 1
    assert value(created, "netvirt_networks", state="active") == 1
    assert value(created, "netvirt_endpoints", state="active") == 2
    assert _in_state(harness, "active") == [network.uuid]
    assert _in_state(harness, "pending") == []
    assert value(created, "netvirt_store_commits_total") > value(before, "netvirt_store_commits_total")
    name = {"network": 'a \\"b\\" \\\\'}
    assert value(created, "netvirt_network_packet_ins_total", **name) == 0

    a, b = frames.mac(1), frames.mac(2)
    _send(harness, 1, a, frames.BROADCAST)
    _send(harness, 2, b, a)
    _send(harness, 1, a, b)
    sent = _until(harness, lambda s: value(s, "netvirt_network_pairs", **name) == 2)
    ins = value(sent, "netvirt_network_packet_ins_total", **name)
    assert ins >= 3
    assert value(sent, "netvirt_packet_ins_total") >= ins
    assert value(sent, "netvirt_packet_ins_dropped_total") == 0

    burst = [frames.marked(a, frames.BROADCAST, b"%d" % n) for n in range(20 * RATE)]
    harness.lab.send(1, 1, *burst)
    storm = _until(harness, lambda s: value(s, "netvirt_packet_ins_dropped_total", reason="rate") >= RATE)
    assert value(storm, "netvirt_network_packet_ins_dropped_total", **name) >= RATE
    assert value(storm, "netvirt_network_packet_ins_total", **name) > ins

    network.remove()
    removed = _until(harness, lambda s: value(s, "netvirt_networks") == 0)
    assert value(removed, count, kind="remove", result="ok") >= 1
    assert value(removed, "netvirt_packet_ins_total") >= value(storm, "netvirt_packet_ins_total")
    assert "netvirt_network_packet_ins_total" not in removed


def _send(harness: OpenFlow, port: int, source: str, destination: str) -> None:
    """Send a frame, which the controller has to see."""
    name = "netvirt_packet_ins_total"
    before = value(scrape.scrape(harness.served.socket), name)
    harness.lab.send(port, 1, frames.marked(source, destination, b"watched"))
    _until(harness, lambda s: value(s, name) > before)


def test_lost_links_and_switches_are_seen(harness: OpenFlow) -> None:
    _until(harness, lambda s: value(s, "netvirt_links", state="up") == 6)
    ends = [Endpoint(uuid=str(n), switch=str(n), port="1") for n in (1, 2)]
    network = harness.connection.create(VirtualNetwork(name="blue", endpoints=tuple(ends)))
    before = scrape.scrape(harness.served.socket)
    assert _ready(harness) == (200, '{"status": "ready"}')
    harness.lab.cut_link(1, 2)
    try:
        _until(
            harness,
            lambda s: (
                value(s, "netvirt_links", state="up") == 4
                and value(s, "netvirt_reroutes_total") > value(before, "netvirt_reroutes_total")
                and value(s, "netvirt_paths_moved_total") > value(before, "netvirt_paths_moved_total")
                and value(s, "netvirt_events_total", kind="link.down") >= 2
            ),
        )
    finally:
        harness.lab.restore_link(1, 2)
    _until(harness, lambda s: value(s, "netvirt_links", state="up") == 6)
    harness.lab.release([2])
    try:
        gone = _until(harness, lambda s: value(s, "netvirt_switch_connected", switch="2") == 0)
        assert value(gone, "netvirt_switches", state="disconnected") == 1
        status, text = _ready(harness)
        assert status == 503
        assert "switch 2, which networks need, is not connected" in text
        assert scrape.get(harness.served.socket, "/healthz").status_code == 200
    finally:
        harness.lab.control(harness.served.target, [2])
    _until(harness, lambda s: value(s, "netvirt_switches", state="connected") == 3)
    eventually(lambda: _ready(harness)[0] == 200, "it is ready")
    network.remove()


def test_an_operation_has_one_identifier_from_the_client_to_the_rules(harness: OpenFlow) -> None:
    socket = harness.served.socket
    end = Endpoint(uuid="1", switch="1", port="1")
    network = VirtualNetwork(name="red", endpoints=(end,))
    document = network.model_dump(mode="json", by_alias=True, exclude_none=True)
    before = value(scrape.scrape(socket), "netvirt_event_readers")
    reader = EventReader(harness.connection)
    _until(harness, lambda s: value(s, "netvirt_event_readers") > before)
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), timeout=20) as client:
        headers = {"netvirt-operation": "order-4711"}
        answer = client.post("http://netvirt/v1/changes", json={"after": document}, headers=headers)
    assert (answer.status_code, answer.headers["netvirt-operation"]) == (204, "order-4711")
    assert _event(reader, "network.created").operation == "order-4711"

    def told() -> list[str]:
        log = harness.served.log.read_text().splitlines()
        return [line.partition(" INFO [order-4711] ")[2] for line in log if "[order-4711]" in line]

    eventually(lambda: len(told()) >= 2, "it is logged")
    about = told()
    assert re.fullmatch(r"network red was created: \d+ messages to 1 switches in \d+ rounds", about[0]), about
    assert "network.created: network red was created" in about[1]
    # The client's own: the session makes one for each operation.
    harness.connection.lookup("red").remove()
    removed = _event(reader, "network.removed")
    assert re.fullmatch("[0-9a-f]{32}", removed.operation)
    assert f"[{removed.operation}] network red was removed: " in harness.served.log.read_text()


def _event(reader: EventReader, kind: str) -> Event:
    reader.await_kinds(kind)
    return next(event for event in reader.events if event.kind == kind)


def test_a_state_file_that_was_removed_makes_the_server_not_ready(harness: OpenFlow) -> None:
    state = harness.served.state
    aside = state.with_name("aside.db")
    state.rename(aside)
    try:
        status, text = _ready(harness)
        assert status == 503
        assert str(state) in text
    finally:
        aside.rename(state)
    assert _ready(harness)[0] == 200


def test_promtool_finds_no_fault_in_the_page(harness: OpenFlow) -> None:
    scrape.need_promtool()
    page = scrape.get(harness.served.socket, "/metrics").text
    assert "netvirt_switch_rules{" in page
    assert scrape.promtool("check", "metrics", given=page) == ""
