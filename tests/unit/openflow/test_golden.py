"""Messages of a real switch are decoded to their meaning and encoded to the same bytes."""

from __future__ import annotations

import pytest

from libnetvirt import openflow as of
from tests.support.openflow_golden import GOLDEN


def _read(name: str) -> of.Message:
    return of.decode(bytes.fromhex(GOLDEN[name]))


@pytest.mark.parametrize("name", GOLDEN)
def test_a_switch_message_is_read_as_its_class(name: str) -> None:
    kind = "Hello" if name.startswith("Hello") else name.split("_")[0]
    assert type(_read(name)).__name__ == kind


@pytest.mark.parametrize("name", GOLDEN)
def test_a_switch_message_is_written_back_as_it_was(name: str) -> None:
    wire = _read(name).encode()
    assert len(wire) * 2 == len(GOLDEN[name])
    assert of.decode(wire) == _read(name)
    if name not in ("FlowStatsReply", "FlowRemoved"):  # there the switch orders match fields its own way
        assert wire.hex() == GOLDEN[name]


def test_features() -> None:
    assert _read("FeaturesReply") == of.FeaturesReply(0xA1, 0, 254, 0, 0x4F, 0, xid=2)


def test_hellos() -> None:
    assert _read("Hello") == of.Hello(frozenset((4,)), 4, xid=1)
    old = _read("HelloFromOpenFlow10")
    assert isinstance(old, of.Hello)
    assert (old.versions, old.version, old.offers(4), old.offers(1)) == (frozenset(), 1, False, True)


def test_a_packet_in_says_where_it_came_from() -> None:
    packet = _read("PacketIn")
    assert isinstance(packet, of.PacketIn)
    assert (packet.head.in_port, packet.head.metadata) == (of.Port.LOCAL, 0x500)
    assert (packet.head.table_id, packet.head.cookie, packet.head.reason) == (
        1,
        0x79,
        of.PacketInReason.ACTION,
    )
    assert packet.head.buffer_id == of.NO_BUFFER
    assert packet.head.total_len == len(packet.frame) == 42
    assert packet.frame[:6] == b"\xff" * 6


def test_ports() -> None:
    reply = _read("PortDescReply")
    assert isinstance(reply, of.PortDescReply)
    assert [(port.port_no, port.name, port.hw_addr) for port in reply.ports] == [
        (of.Port.LOCAL, "br0", 0x0200000000A1),
        (1, "p1", 0x020000000001),
        (2, "p2", 0x020000000002),
    ]
    assert reply.ports[1].state == of.PortState.LINK_DOWN
    assert reply.ports[1].curr_speed == 10_000_000


def test_a_rule_reads_back_as_it_was_asked_for() -> None:
    reply = _read("FlowStatsReply")
    assert isinstance(reply, of.FlowStatsReply)
    rule = reply.entries[0]
    assert rule.match == of.Match(in_port=1, vlan_vid=0x1014, metadata=(0x700, 0xFF00))
    assert rule.instructions == (
        of.Meter(5),
        of.ApplyActions((of.PopVlan(), of.SetField("eth_dst", 0x020000000002))),
        of.WriteActions((of.Group(7),)),
        of.WriteMetadata(0x1200, 0xFF00),
        of.GotoTable(1),
    )
    assert (rule.cookie, rule.priority, rule.idle_timeout) == (0x77, 100, 60)
    assert rule.flags == of.FlowModFlags.SEND_FLOW_REM


def test_a_rule_of_another_program_is_read_too() -> None:
    reply = _read("FlowStatsReply")
    assert isinstance(reply, of.FlowStatsReply)
    foreign = reply.entries[-1]
    assert foreign.table_id == 3
    assert foreign.match.get("oxm_0001_0_4") == (5, 0xFF)
    assert foreign.match.get("tcp_dst") == (0x50, 0xFFF0)
    (applied,) = foreign.instructions
    assert isinstance(applied, of.ApplyActions)
    assert isinstance(applied.actions[0], of.Experimenter | of.SetField)
    assert any(
        isinstance(action, of.Experimenter) and action.experimenter == of.NICIRA_EXPERIMENTER
        for action in applied.actions
    )


def test_groups_and_meters() -> None:
    assert _read("GroupDescReply") == of.GroupDescReply(
        (
            of.GroupDesc(
                of.GroupType.ALL,
                7,
                (
                    of.Bucket(actions=(of.PushVlan(0x88A8), of.SetField("vlan_vid", 0x1064), of.Output(2))),
                    of.Bucket(actions=(of.Output(1),)),
                ),
            ),
        ),
        xid=0x23,
    )
    flags = of.MeterFlags.KBPS | of.MeterFlags.BURST | of.MeterFlags.STATS
    assert _read("MeterConfigReply") == of.MeterConfigReply(
        (of.MeterConfig(flags, 5, (of.DropBand(20_000, 2_000),)),), xid=0x29
    )


def test_a_removed_rule_names_its_cookie_and_reason() -> None:
    removed = _read("FlowRemoved")
    assert isinstance(removed, of.FlowRemoved)
    assert (removed.cookie, removed.reason) == (0x77, of.FlowRemovedReason.DELETE)
    assert removed.match.value("vlan_vid") == 0x1014


def test_errors_have_names_and_hold_the_message_at_fault() -> None:
    texts = []
    for name in ("Error_1", "Error_2", "Error_3"):
        error = _read(name)
        assert isinstance(error, of.Error)
        texts.append(error.text)
        culprit = of.decode(error.body)
        assert culprit.xid == error.xid
    assert texts == ["GROUP_MOD_FAILED/GROUP_EXISTS", "BAD_MATCH/BAD_PREREQ", "BAD_INSTRUCTION/BAD_TABLE_ID"]


def test_bundle_answers_and_errors() -> None:
    kinds = []
    for number in (1, 2, 3):
        reply = _read(f"BundleControl_{number}")
        assert isinstance(reply, of.BundleControl)
        kinds.append(of.BundleCtrlType(reply.type).name)
        error = _read(f"ExperimenterError_{number}")
        assert isinstance(error, of.ExperimenterError)
        assert error.experimenter == of.ONF_EXPERIMENTER
        assert of.BundleFailed(error.exp_type) in (of.BundleFailed.BAD_ID, of.BundleFailed.MSG_FAILED)
        assert isinstance(of.decode(error.body), of.BundleControl)
    assert kinds == ["OPEN_REPLY", "CLOSE_REPLY", "COMMIT_REPLY"]


def test_a_changed_port_is_reported() -> None:
    status = _read("PortStatus")
    assert isinstance(status, of.PortStatus)
    assert status.reason == of.PortStatusReason.MODIFY
    assert (status.desc.name, status.desc.config) == ("p1", of.PortConfig.NO_FWD)
