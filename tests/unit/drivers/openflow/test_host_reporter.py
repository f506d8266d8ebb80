"""Declared hosts that are used elsewhere: what is reported, and how often."""

from __future__ import annotations

from libnetvirt.controller.dataplane.entries import Flow
from libnetvirt.controller.dataplane.pipeline import Table
from libnetvirt.controller.dataplane.readback import is_refusal
from libnetvirt.controller.packetin.dispatcher import REPORT_INTERVAL
from libnetvirt.drivers.openflow.host_reporter import HostReporter
from tests.support.controller_rig import Rig, endpoint, line, mac, network

ONE = network(1, endpoint(11, 1, 3, None, 1, 2), endpoint(12, 2, 3))
TWO = network(2, endpoint(21, 1, 4, None, 3), endpoint(22, 2, 4))


class Reports:
    """What is published, as (network, switch, address)."""

    def __init__(self) -> None:
        self.rig = Rig()
        line(self.rig, 2)
        for description in (ONE, TWO):
            self.rig.change(None, description)
        self.found: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.reporter = HostReporter(self.rig.state, self.publish)

    def publish(self, kind: str, message: str, **fields: str) -> None:
        assert kind == "host.refused"
        self.found.append((fields["network"], fields["switch"], fields["mac"]))
        self.texts.append(message)

    def rules(self, *hosts: int) -> list[Flow]:
        """The rules of switch 2 that refuse these hosts."""
        flows = [e for e in self.rig.fabric.switches[2].flows.values() if is_refusal(e)]
        assert all(f.table == Table.SOURCE for f in flows)
        return [f for f in flows if f.match.value("eth_src") in map(mac, hosts)]


def test_each_network_and_switch_is_reported_once_in_a_while() -> None:
    reports = Reports()
    rules = reports.rules(1, 2, 3)
    assert len(rules) == 3
    for now in (0.0, REPORT_INTERVAL - 0.1):
        reports.reporter.refused(2, rules, now)
    assert reports.found == [("1", "2", "02:00:00:00:00:01"), ("2", "2", "02:00:00:00:00:03")]
    assert "of network n1, and 1 more: frames" in reports.texts[0]
    assert "of network n2: frames" in reports.texts[1]
    reports.reporter.refused(1, rules[:1], REPORT_INTERVAL - 0.1)
    reports.reporter.refused(2, reports.rules(2), REPORT_INTERVAL)
    assert reports.found[2:] == [("1", "1", "02:00:00:00:00:01"), ("1", "2", "02:00:00:00:00:02")]


def test_a_network_that_was_removed_meanwhile_is_not_reported() -> None:
    reports = Reports()
    rules = reports.rules(1)
    reports.rig.change(ONE, None)
    reports.reporter.refused(2, rules, 0.0)
    assert reports.found == []
