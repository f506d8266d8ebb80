"""Networks that keep their customers' tags, on switches in memory that know any number of them."""

from __future__ import annotations

from typing import Any

import pytest

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane.pipeline import Table
from libnetvirt.controller.engine.controller import Options
from libnetvirt.controller.intent.rulesdb import RulesDB
from libnetvirt.controller.reports.recovery import recovered
from libnetvirt.controller.reports.views import counters
from libnetvirt.drivers.openflow.capabilities import COMBINATIONS
from libnetvirt.errors import EndpointClaimed
from libnetvirt.model import Encapsulation, Endpoint, Rules, VirtualNetwork
from tests.support.controller_rig import BROADCAST, Rig, frame, line, mac, tagged

MPLS = [Rules.model_validate(c.model_dump()) for c in COMBINATIONS if c.encapsulation is Encapsulation.MPLS]
KINDS: dict[str, dict[str, Any]] = {
    "any": {"vlan": "any"},
    "set": {"vlan": "100-199,300"},
    "inner": {"vlan": 20, "inner-vlan": "any"},
}
STACKS = (b"", b"\x81\x00\x60\x96", b"\x88\xa8\x00\x96\x81\x00\x00\x05", b"\x81\x00\x01\x2c" * 4)


def _kept(uuid: int, *fields: dict[str, Any]) -> VirtualNetwork:
    """A network with endpoints at ports 3 and 4 of switch 1, and at port 3 of switch 2."""
    places = ((1, 3), (1, 4), (2, 3))
    ends = [
        {"uuid": n, "switch": switch, "port": port, **kind}
        for n, ((switch, port), kind) in enumerate(zip(places, fields, strict=True), 1)
    ]
    return VirtualNetwork.model_validate({"uuid": uuid, "name": f"n{uuid}", "endpoints": ends})


def _with_tags(sent: bytes, stack: bytes) -> bytes:
    return sent[:12] + stack + sent[12:]


@pytest.mark.parametrize("rules", MPLS, ids=lambda r: f"{r.insertion}-{r.timeout}")
@pytest.mark.parametrize("kind", KINDS)
def test_frames_leave_as_the_oracle_says_and_the_rules_tell_what_is_kept(kind: str, rules: Rules) -> None:
    rig = Rig(Options(rules))
    line(rig, 2)
    one, other = KINDS[kind], KINDS[kind] | ({"vlan": 30} if kind == "inner" else {})
    described = _kept(1, one, one, other)
    rig.change(None, described)
    below = b"\x88\xa8\x70\x14" if kind == "inner" else b""
    for _ in range(2):
        for n, e in enumerate(described.endpoints, 1):
            own = below[:3] + bytes([e.own_vlan]) if e.own_vlan is not None else b""
            for stack in (STACKS[1], *STACKS):
                for destination in (BROADCAST, *map(mac, {1, 2, 3} - {n})):
                    sent = frame(destination, mac(n))
                    rig.check(int(e.switch), int(e.port), _with_tags(sent, own + stack))
                    rig.settle()
    found = recovered({dpid: switch.dump().flows for dpid, switch in rig.fabric.switches.items()})
    assert [e.tag for e in found.networks[0].endpoints] == [e.tag for e in described.endpoints]
    assert [e.kept_tags for e in found.networks[0].endpoints] == [e.kept_tags for e in described.endpoints]


def test_received_frames_are_counted_whichever_rule_took_them() -> None:
    rig = Rig(Options(MPLS[0]))
    line(rig, 2)
    rig.change(None, _kept(1, *[KINDS["set"]] * 3))
    record = rig.core.state.rulesdb.networks["1"]
    flows = [
        (dpid, of.FlowStatsEntry(
            table_id=flow.table_id, cookie=flow.cookie, priority=flow.priority, match=flow.match,
            instructions=flow.instructions, packet_count=1, byte_count=100,
        ))
        for dpid, switch in rig.fabric.switches.items()
        for flow in switch.dump().flows
        if flow.table_id == Table.CLASSIFY and flow.cookie & 0xFFFF and flow.match.get("in_port") in (3, 4)
    ]  # fmt: skip
    found = counters(
        rig.core.state, record, [(d, f) for d, f in flows if f.cookie >> 16 & 0xFFFF == record.index]
    )
    # 100-103, 104-111, 112-127, 128-191, 192-199, 300
    assert [c.received_packets for c in found] == [6, 6, 6]


@pytest.mark.parametrize(("held", "claims", "free"), [
    ("any", (None, 5, "any", "1-9"), ()),
    ("100-199", ("any", 100, 199, "50-100", "1-4094"), (None, 99, 200, "200-300")),
])  # fmt: skip
def test_overlapping_tags_on_one_port_are_refused(held: Any, claims: Any, free: Any) -> None:
    def at(uuid: int, vlan: Any) -> VirtualNetwork:
        return VirtualNetwork(
            uuid=uuid, name=f"n{uuid}", endpoints=(Endpoint(uuid=uuid, switch=1, port=3, vlan=vlan),)
        )

    for claim in claims:
        for first, second in ((held, claim), (claim, held)):
            rulesdb = RulesDB()
            rulesdb.add(at(1, first), 1, Rules(), {})
            new = at(2, second)
            with pytest.raises(EndpointClaimed, match="endpoint 1 of network n1"):
                rulesdb.check(new, new.by_uuid, {})
            rulesdb.check(at(1, second), {"1"}, {})
            rulesdb.remove("1")
            rulesdb.check(new, new.by_uuid, {})
    for claim in free:
        rulesdb = RulesDB()
        rulesdb.add(at(1, held), 1, Rules(), {})
        new = at(2, claim)
        rulesdb.check(new, new.by_uuid, {})


@pytest.mark.parametrize(
    "kinds", [({}, KINDS["any"]), (KINDS["any"], {"vlan": 7}), (KINDS["any"], KINDS["set"])]
)
def test_a_network_begins_and_ends_to_keep_tags_while_its_endpoints_move(kinds: Any) -> None:
    rig = Rig(Options(MPLS[-1]))
    line(rig, 2, ports=6)
    before, after = (_kept(1, *[kind] * 3) for kind in kinds)
    moved = [e.changed(port=str(int(e.port) + 2)) for e in after.endpoints]
    rig.change(None, before)
    rig.change(before, after := after.changed(endpoints=moved))
    for n, e in enumerate(after.endpoints, 1):
        for stack in (b"", *STACKS[1:]):
            sent = _with_tags(frame(BROADCAST, mac(n)), stack)
            rig.check(int(e.switch), int(e.port), tagged(e, sent) if e.own_vlan else sent)
    rig.holds_what_it_should()
