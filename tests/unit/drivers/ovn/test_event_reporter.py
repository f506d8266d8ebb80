"""What is reported when another client changes the northbound database."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from libnetvirt.drivers.ovn.event_reporter import EventReporter
from libnetvirt.model import EndpointState, State, VirtualNetwork
from tests.unit.drivers.ovn.deployment import Deployment

BLUE = VirtualNetwork(uuid=7, name="blue", endpoints=[{"uuid": 11, "switch": "ch1", "port": "p1"}])


def test_changes_of_another_client_are_reported_with_the_differences() -> None:
    networks: dict[str, Any] = {}
    events: list[tuple[str, str]] = []
    southbound = SimpleNamespace(chassis=dict)
    databases = SimpleNamespace(
        mirror=SimpleNamespace(networks=networks),
        southbound=southbound,
        silence=SimpleNamespace(chassis=tuple),
    )
    planner = SimpleNamespace(drift=lambda _: None)
    view = SimpleNamespace(
        links=dict,
        remove=lambda _: None,
        interface_drift=lambda _: [],
        endpoint_state=lambda _, e: EndpointState(uuid=e.uuid, state=State.ACTIVE),
    )

    def publish(kind: str, message: str, **_: str) -> None:
        events.append((kind, message))

    reporter = EventReporter(cast(Any, databases), cast(Any, planner), cast(Any, view), publish)
    reporter.start()

    def put(network: VirtualNetwork | None) -> None:
        networks.clear()
        if network is not None:
            networks["7"] = SimpleNamespace(description=network)
        reporter.northbound_changed(("7",), ("7",))

    put(BLUE)
    more = (*BLUE.endpoints, {"uuid": 12, "switch": "ch2", "port": "p1"})
    put(BLUE.changed(name="azure", endpoints=more))
    put(None)
    assert events == [
        ("network.created", "network blue was created"),
        ("network.changed", "network azure was changed: name: blue -> azure; endpoint 12 added"),
        ("network.removed", "network azure was removed"),
    ]


class Watched(Deployment):
    """A deployment whose changes reach an event reporter, as the driver passes them on."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[tuple[str, str, dict[str, str]]] = []
        self.reporter = EventReporter(self.databases, self.planner, self.view, self._publish)
        self.interfaces("p1")
        self.change(None, BLUE)
        self.reporter.start()
        self.described.clear()
        self.seen.clear()

    def _publish(self, kind: str, message: str, **fields: str) -> None:
        self.events.append((kind, message, fields))

    def told(self) -> list[tuple[str, str, dict[str, str]]]:
        """The events about what has changed since the last call."""
        described, self.described[:] = list(self.described), []
        seen, self.seen[:] = list(self.seen), []
        for units, uuids in described:
            self.reporter.northbound_changed(units, uuids)
        for networks, chassis in seen:
            self.reporter.southbound_changed(networks, chassis)
        events, self.events = self.events, []
        return events


def test_the_states_of_endpoints_are_reported_when_they_change() -> None:
    ovn = Watched()
    fields = {"network": "7", "endpoint": "11", "switch": "ch1", "port": "p1"}
    assert ovn.told() == []
    ovn.bind(BLUE, "11")
    assert ovn.told() == [
        ("endpoint.state", "endpoint 11 of network blue is active", {**fields, "state": "active"})
    ]
    ovn.bind(BLUE, "11")
    assert ovn.told() == []
    ovn.bind(BLUE, "11", up=False)
    ((_, text, found),) = ovn.told()
    assert text == "endpoint 11 of network blue is down: chassis ch1 has not bound interface p1"
    assert found == {**fields, "state": "down"}


def test_while_an_operation_is_in_progress_nothing_is_reported_about_its_network() -> None:
    ovn = Watched()
    ovn.reporter.suspend("7")
    ovn.reporter.suspend("7")
    ovn.bind(BLUE, "11")
    ovn.change(BLUE, BLUE.changed(name="azure"))
    assert ovn.told() == []
    ovn.reporter.resume("7")
    assert [kind for kind, *_ in ovn.told()] == ["endpoint.state"], "as it is when one of the two is over"
    ovn.bind(BLUE, "11", up=False)
    assert ovn.told() == [], "the other one is still in progress"
    ovn.reporter.resume("7")
    assert "endpoint 11 of network azure is down" in ovn.told()[0][1]
    ovn.reporter.suspend("7")
    ovn.change(BLUE.changed(name="azure"), None)
    assert ovn.told() == []
    ovn.reporter.resume("7")
    assert ovn.told() == []


def test_chassis_and_tunnels_that_come_and_go_are_reported() -> None:
    ovn = Watched()
    ovn.sb("Encap", "e3", type="geneve", ip="192.0.2.3")
    ovn.sb("Chassis", "c3", name="ch3", hostname="host3", encaps=frozenset({"e3"}))
    pairs = [("ch1", "ch3"), ("ch2", "ch3"), ("ch3", "ch1"), ("ch3", "ch2")]
    assert ovn.told() == [
        ("switch.connected", "chassis ch3 connected", {"switch": "ch3"}),
        *(("link.up", f"the tunnel from chassis {a} to chassis {b} is up", {"switch": a, "peer": b})
          for a, b in pairs),
    ]  # fmt: skip
    ovn.gone("Chassis", "c3")
    assert [event[:2] for event in ovn.told()] == [
        ("switch.disconnected", "chassis ch3 disconnected"),
        *(("link.down", f"the tunnel from chassis {a} to chassis {b} is down") for a, b in pairs),
    ]
    ovn.bind(BLUE, "11")
    ovn.told()
    ovn.gone("Chassis", "c1")
    kinds = [kind for kind, *_ in ovn.told()]
    assert kinds == ["switch.disconnected", "link.down", "link.down", "endpoint.state"]


@pytest.mark.parametrize("count", [1, 3, 5])
def test_rows_that_others_change_are_reported_once_and_when_they_are_repaired(count: int) -> None:
    ovn = Watched()
    switch = next(u for u, r in ovn.server.tables["Logical_Switch"].items() if r["name"] == "netvirt-7")
    for n in range(count):
        uuid = {"op": "insert", "table": "Logical_Switch_Port", "uuid-name": "x",
                "row": {"name": f"x{n}", "external_ids": ["map", [["netvirt:owner", "libnetvirt"],
                                                                 ["netvirt:network", "7"]]]}}  # fmt: skip
        hold = {"op": "mutate", "table": "Logical_Switch", "where": [["_uuid", "==", ["uuid", switch]]],
                "mutations": [["ports", "insert", ["set", [["named-uuid", "x"]]]]]}  # fmt: skip
        ovn.commit([uuid, hold])
    ((kind, text, fields),) = [event for event in ovn.told() if event[0].startswith("network")]
    assert (kind, fields) == ("network.drift", {"network": "7"})
    assert text.startswith("rows of network blue were changed by another program: Logical_Switch_Port x")
    assert text.endswith(". 'netvirt repair' restores them")
    assert text.count("should not exist") == min(count, 3)
    assert (f" and {count - 3} more. " in text) is (count > 3)
    assert " more. " in text or count <= 3
    ovn.commit(ovn.planner.repair("7"))
    assert [event[:2] for event in ovn.told()] == [
        ("network.mended", "the rows of network blue are as described again")
    ]
    assert ovn.told() == []
