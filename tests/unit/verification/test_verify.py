"""Verification of networks on switches in memory: what holds is proved, what does not is shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import pytest

from libnetvirt import openflow as of
from libnetvirt.model import Rules, VirtualNetwork
from libnetvirt.verification.intent import Intent, Place
from libnetvirt.verification.report import report
from libnetvirt.verification.tables import Switch
from libnetvirt.verification.verify import PROPERTIES, Finding, Verifier
from tests.support.controller_rig import VLAN, Rig, endpoint, network

LINK = ((1, 4), (2, 4))
BLUE = network(1, endpoint(11, 1, 1, None, 1), endpoint(12, 2, 1, 20, 2), endpoint(13, 2, 2, None, 3))
RED = network(2, endpoint(21, 1, 1, 30, 1), endpoint(22, 2, 1, 30, 2))
MPLS = Rules(encapsulation="mpls", insertion="offline", timeout="permanent")
NATIVE = Rules(encapsulation="native", insertion="offline", timeout="permanent")
Flows = list[of.FlowStatsEntry]


class World:
    """Two switches with networks, and what they report, which tests may change."""

    def __init__(self, networks: Sequence[VirtualNetwork], rules: Rules = VLAN) -> None:
        rig = Rig()
        for dpid in (1, 2):
            rig.switch(dpid)
        rig.link(*LINK)
        self.intents = []
        for one in networks:
            described = one.changed(rules=rules)
            rig.change(None, described)
            places = {e.uuid: Place(e.switch, (int(e.port),)) for e in one.endpoints}
            hosts = {int(m.replace(":", ""), 16): e.uuid for e in one.endpoints for m in e.mac}
            self.intents.append(Intent(described, places, hosts, rules))
        self.switches: dict[str, Switch] = {}
        for dpid, switch in rig.fabric.switches.items():
            said = switch.dump()
            ports = dict.fromkeys(range(1, 5), True)
            self.switches[str(dpid)] = Switch(str(dpid), said.flows, said.groups, said.meters, ports)

    def change(self, switch: str, edit: Callable[[Flows], Flows]) -> None:
        """Change the flow entries of a switch."""
        old = self.switches[switch]
        self.switches[switch] = Switch(switch, edit(list(old.flows)), old.groups, old.meters, old.ports)

    def verifier(self, networks: list[str] | None = None) -> Verifier:
        """A verifier that has run."""
        (a, b) = [(str(s), p) for s, p in LINK]
        verifier = Verifier(self.intents, self.switches, {a: b, b: a})
        for _ in verifier.run(networks):
            pass
        return verifier

    def findings(self) -> list[Finding]:
        """What is wrong."""
        return self.verifier().findings


def edited(flows: Flows, which: Callable[[of.FlowStatsEntry], bool], **fields: object) -> Flows:
    assert any(map(which, flows))
    return [replace(flow, **fields) if which(flow) else flow for flow in flows]  # type: ignore[arg-type]


def passes_sources(flow: of.FlowStatsEntry) -> bool:
    return flow.table_id == 3


@pytest.mark.parametrize("rules", [VLAN, MPLS], ids=["vlan", "mpls"])
def test_networks_are_proved_with_equal_addresses_in_both(rules: Rules) -> None:
    world = World([BLUE, RED], rules)
    verifier = world.verifier()
    assert verifier.findings == []
    found = report(verifier, 2, 0.5)
    assert found.proved
    assert [p.name for p in found.properties] == list(PROPERTIES)
    assert world.verifier(["2"]).classes < verifier.classes


def test_native_networks_are_proved() -> None:
    assert World([BLUE], NATIVE).findings() == []


def test_a_rule_that_admits_frames_into_another_network_is_found() -> None:
    world = World([BLUE, RED])
    into = next(
        i for f in world.switches["1"].flows for i in f.instructions
        if isinstance(i, of.WriteMetadata) and f.match.get("vlan_vid") == 0x1000 | 30
    )  # fmt: skip
    world.change(
        "1",
        lambda flows: [
            replace(f, instructions=tuple(into if isinstance(i, of.WriteMetadata) else i
                                          for i in f.instructions))
            if f.table_id == 0 and f.match.get("in_port") == 1 and f.match.get("vlan_vid") == 0 else f
            for f in flows
        ],
    )  # fmt: skip
    found = next(f for f in world.findings() if f.property == "isolation")
    assert (found.network, found.at) == ("1", ("1", 1))
    assert "of network n2" in found.text
    assert [step.switch for step in found.steps][-1] == "2"
    shown = report(world.verifier(), 2, 0.5)
    assert not shown.proved
    example = next(e for e in shown.counterexamples if e.property == "isolation")
    assert example.hops[0].table == 0
    assert "in_port=1" in example.hops[0].rule
    assert bytes.fromhex(example.wire)[6:12] == found.wire[6:12]
    assert "ofproto/trace" in example.remedy


def test_a_missing_rule_is_found_as_loss() -> None:
    world = World([BLUE])
    world.change("2", lambda flows: [f for f in flows if f.table_id != 2])
    broken = {f.property: f.text for f in world.findings()}
    assert set(broken) == {"unicast", "floods"}
    assert "does not leave at" in broken["unicast"]


def test_a_frame_that_comes_back_is_a_loop() -> None:
    world = World([BLUE])
    then = (of.ApplyActions((of.Output(of.Port.IN_PORT),)),)
    back = of.FlowStatsEntry(table_id=0, priority=999, match=of.Match(in_port=4), instructions=then)
    for switch in ("1", "2"):
        world.change(switch, lambda flows: [*flows, back])
    assert "loops" in {f.property for f in world.findings()}


def test_a_rule_that_lets_frames_of_nobody_in_is_found() -> None:
    world = World([BLUE])
    anything = of.FlowStatsEntry(
        table_id=0, priority=5, match=of.Match(in_port=3), instructions=(of.ApplyActions((of.Output(1),)),)
    )
    world.change("1", lambda flows: [*flows, anything])
    found = world.findings()
    assert {f.property for f in found} == {"entry"}
    assert found[0].at == ("1", 3)


def test_nothing_is_proved_of_what_is_not_known() -> None:
    for instruction in (
        of.ApplyActions((of.UnknownAction(99, b"\0" * 4),)),
        of.ApplyActions((of.Experimenter(0x2320, bytes((0, 99)) + bytes(6)),)),
        of.ApplyActions((of.Output(of.Port.NORMAL),)),
        of.ApplyActions((of.Group(77),)),
        of.Meter(77),
        of.WriteActions((of.Output(1),)),
    ):
        world = World([BLUE])
        world.change("1", partial(edited, which=passes_sources, instructions=(instruction,)))
        found = world.findings()
        assert any(f.unknown for f in found), instruction
        shown = report(world.verifier(), 1, 0.1)
        assert not shown.proved
        assert any("cannot be told" in p.reason for p in shown.properties)


def test_a_switch_that_has_not_answered_makes_nothing_proved_there() -> None:
    world = World([BLUE])
    del world.switches["2"]
    found = world.findings()
    assert {f.property for f in found if f.unknown} == set(PROPERTIES) - {"entry"}
    assert "switch 2 has not reported its rules" in found[0].text


def test_rules_of_the_same_priority_that_take_the_same_frames_are_not_told_apart() -> None:
    world = World([BLUE])
    twin = of.FlowStatsEntry(table_id=0, priority=200, match=of.Match(in_port=1, eth_type=0x0800))
    world.change("1", lambda flows: [*flows, twin])
    assert any(f.unknown and "the same priority" in f.text for f in world.findings())


def test_a_host_that_is_declared_elsewhere_must_be_refused() -> None:
    world = World([BLUE])
    world.change("1", lambda flows: [f for f in flows if not (f.table_id == 3 and f.priority == 10)])
    assert {f.property for f in world.findings()} == {"refusals"}
