"""The text form of rules."""

from __future__ import annotations

import pytest

from libnetvirt import openflow as of
from libnetvirt.openflow import nicira
from tests.support.openflow_samples import INSTRUCTIONS, MATCH


def test_a_rule_to_be_added() -> None:
    rule = of.FlowMod(
        0x77, 0, 1, idle_timeout=60, priority=100, flags=1, match=MATCH, instructions=INSTRUCTIONS
    )
    assert of.format_flow(rule) == (
        "cookie=0x77, table=1, idle_timeout=60, send_flow_rem, "
        "priority=100,in_port=3,metadata=0x500/0xff00,dl_dst=0a:0b:0c:0d:0e:0f,dl_vlan=20 "
        "actions=meter:9,push_vlan:0x88a8,set_field:4101->vlan_vid,set_queue:4,output:2,"
        "write_actions(pop_vlan,group:7),write_metadata:0x1200/0xff00,goto_table:2"
    )


def test_a_rule_that_is_there() -> None:
    entry = of.FlowStatsEntry(2, 3, 250_000_000, 5, cookie=1, packet_count=8, byte_count=9)
    assert of.format_flow(entry) == (
        "cookie=0x1, duration=3.250s, table=2, n_packets=8, n_bytes=9, priority=5 actions=drop"
    )


@pytest.mark.parametrize(
    ("match", "text"),
    [
        (of.Match(), ""),
        (of.Match(in_port=of.Port.LOCAL), "in_port=LOCAL"),
        (of.Match(vlan_vid=0), "vlan_tci=0x0000/0x1fff"),
        (of.Match(vlan_vid=(0x1000, 0x1000)), "vlan_tci=0x1000/0x1000"),
        (of.Match(eth_type=0x800, ipv4_dst=(0x0A000000, 0xFFFFFF00)), "dl_type=0x0800,nw_dst=10.0.0.0/24"),
        (of.Match(ipv4_src=(0x0A000001, 0xFF0000FF)), "nw_src=10.0.0.1/255.0.0.255"),
        (of.Match(ipv6_dst=1), "ipv6_dst=::1"),
        (of.Match(eth_dst=(1 << 40, 1 << 40)), "dl_dst=01:00:00:00:00:00/01:00:00:00:00:00"),
        (of.Match(oxm_0001_31_4=(7, 15)), "oxm_0001_31_4=0x7/0xf"),
    ],
    ids=repr,
)
def test_matches(match: of.Match, text: str) -> None:
    assert of.match_text(match) == text


def test_actions() -> None:
    assert of.actions_text(()) == "drop"
    assert (
        of.actions_text(
            (
                of.SetField("eth_src", 1),
                of.PopMpls(0x800),
                of.DecNwTtl(),
                of.Output(of.Port.CONTROLLER),
                of.Output(of.Port.IN_PORT),
                of.UnknownAction(99, b"\1\2\3\4"),
            )
        )
        == "set_field:00:00:00:00:00:01->eth_src,pop_mpls:0x0800,dec_ttl,CONTROLLER:65535,IN_PORT,"
        "unknown(99,01020304)"
    )


def test_ports_have_names_where_they_are_reserved() -> None:
    assert [of.port_text(port) for port in (1, of.Port.ANY, 0xFFFFFFF0)] == ["1", "ANY", "4294967280"]


def test_actions_of_open_vswitch() -> None:
    action = nicira.check_pkt_larger(1506, 30)
    assert action.encode().hex() == "ffff001800002320003105e2001e80000408000000000000"
    assert of.actions_text((action,)) == "check_pkt_larger(1506)->OXM_OF_METADATA[30]"
    other = of.Experimenter(0x2320, bytes(16))
    assert of.actions_text((other,)) == f"experimenter(0x2320,{bytes(16).hex()})"
    assert of.actions_text((of.Experimenter(0x4F4E4600, bytes(8)),)).startswith("experimenter(")
