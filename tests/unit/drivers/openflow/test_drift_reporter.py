"""Drift in events and in the answer to a repair: bounded, whatever has drifted."""

from __future__ import annotations

from typing import Any

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import Flow
from libnetvirt.controller.dataplane.pipeline import Kind, Table
from libnetvirt.controller.dataplane.readback import Difference, Drift
from libnetvirt.controller.reports import views
from libnetvirt.drivers.openflow.drift_reporter import LINE_LIMIT, NETWORK_LIMIT, DriftReporter
from libnetvirt.model import State
from tests.support.controller_rig import Rig, endpoint, network

RIG = Rig()
RIG.switch(1)
RIG.change(None, network(1, endpoint(11, 1, 3), endpoint(12, 1, 4)))


def drift(port: int, *networks: str) -> Drift:
    flow = Flow(Table.CLASSIFY, 300, of.Match(in_port=port), (), pipeline.cookie(9, Kind.ENDPOINT))
    return Drift(1, Difference(None, flow), frozenset(networks))


def test_each_network_has_its_event_up_to_a_limit_and_one_more_tells_of_all_others() -> None:
    events: list[tuple[str, str, dict[str, str]]] = []

    def publish(kind: str, message: str, **fields: str) -> None:
        events.append((kind, message, fields))

    found = [drift(n, str(1000 + n)) for n in range(NETWORK_LIMIT + 9)]
    DriftReporter(RIG.state, publish).found(1, found, "So be it")
    assert len(events) == NETWORK_LIMIT + 1
    assert {kind for kind, _, _ in events} == {"drift.found"}
    *single, (_, message, fields) = events
    assert all(f["network"] and f["count"] == "1" for _, _, f in single)
    assert (fields["network"], fields["count"], fields["switch"]) == ("", "9", "1")
    assert message.endswith("So be it")


def test_what_concerns_two_networks_is_told_to_both_and_what_concerns_none_once() -> None:
    events: list[Any] = []

    def publish(kind: str, message: str, **fields: str) -> None:  # noqa: ARG001
        events.append((fields["network"], message))

    reporter = DriftReporter(RIG.state, publish)
    reporter.found(1, [drift(1, "1", "2"), drift(2)], "")
    assert [uuid for uuid, _ in events] == ["2", "1", ""]
    assert "of network n1 on switch 1" in events[1][1]
    reporter.found(1, [], "")
    reporter.undone(1, [])
    assert len(events) == 3


def test_the_lines_of_a_repair_and_of_a_state_are_bounded() -> None:
    many = [drift(n, "1") for n in range(1, 101)]
    lines = DriftReporter(RIG.state, lambda *_, **__: None).lines(many, "1")
    assert len(lines) == LINE_LIMIT + 1
    assert lines[-1] == f"network n1: repaired: {100 - LINE_LIMIT} more"
    RIG.state.drift[1] = tuple(many)
    state = views.network_state(RIG.state, RIG.state.rulesdb.networks["1"], 0.0)
    assert state.state is State.DEGRADED
    assert len(state.drift) == views.DRIFT_LIMIT + 1
    assert state.drift[0].startswith("switch 1: rule priority=300,in_port=1 in table classify")
