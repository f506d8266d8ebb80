"""What is reported when another client changes the northbound database."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from libnetvirt.drivers.ovn.event_reporter import EventReporter
from libnetvirt.model import EndpointState, State, VirtualNetwork

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
