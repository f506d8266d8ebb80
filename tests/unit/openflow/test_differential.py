"""The codec agrees with two others: ovs-ofctl prints, os-ken reads and writes the same."""

from __future__ import annotations

import logging
import re
import shutil
import subprocess
from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final

import pytest

from libnetvirt import openflow as of
from libnetvirt.openflow import nicira
from tests.support.openflow_samples import FRAME, SAMPLES

BY_NAME: Final = {type(sample).__name__: sample for sample in SAMPLES}


# --- ovs-ofctl ---


def _ofctl(*arguments: str) -> str:
    program = shutil.which("ovs-ofctl")
    if program is None:
        pytest.fail("ovs-ofctl is missing: install the package openvswitch-common")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# What ovs-ofctl cannot know, or wants more of than a sample has.
_NOT_PRINTED: Final = {
    "Error",
    "ExperimenterError",
    "ExperimenterMessage",
    "UnknownMessage",
    "TableFeaturesReply",
}


@pytest.mark.parametrize("name", sorted(BY_NAME.keys() - _NOT_PRINTED))
def test_ovs_prints_every_message_without_complaint(name: str) -> None:
    printed = _ofctl("ofp-print", BY_NAME[name].encode().hex())
    assert "decode error" not in printed
    assert "unknown" not in printed
    assert f"(xid={BY_NAME[name].xid:#x})" in printed


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("Hello", ["version bitmap: 0x04"]),
        ("FeaturesReply", ["dpid:0102030405060708", "n_tables:254, n_buffers:256, auxiliary_id:1"]),
        (
            "FlowMod",
            [
                "table:1 priority=100,metadata=0x500/0xff00,in_port=3,dl_vlan=20,dl_dst=0a:0b:0c:0d:0e:0f",
                "cookie:0x77 idle:60 hard:120 send_flow_rem",
                "actions=meter:9,push_vlan:0x88a8,set_field:4101->vlan_vid,set_queue:4,output:2,",
                "write_actions(pop_vlan,group:7),write_metadata:0x1200/0xff00,goto_table:2",
            ],
        ),
        (
            "GroupMod",
            ["group_id=7,type=all", "push_vlan:0x8100,set_field:4102->vlan_vid,output:1", "IN_PORT"],
        ),
        ("MeterMod", ["ADD meter=9 kbps burst stats", "type=drop rate=20000 burst_size=2000"]),
        ("PacketOut", ["in_port=4", "output:2 data_len=42"]),
        ("PacketIn", ["table_id=3 cookie=0x77 total_len=42 metadata=0x500,in_port=4 (via action)"]),
        (
            "FlowRemoved",
            ["reason=delete table_id=3 cookie:0x77 duration4.000000005s idle60 hard120 pkts6 bytes7"],
        ),
        ("PortStatus", ["MOD: 5(s1-eth5): addr:02:00:00:00:00:05", "10 Mbps now, 20 Mbps max"]),
        ("BundleControl", ["bundle_id=0x7 type=OPEN_REQUEST flags=atomic ordered"]),
        ("BundleAdd", ["bundle_id=0x7", "(xid=0x1c): ADD priority=5,in_port=2 actions=drop"]),
        ("RoleRequest", ["role=primary generation_id=1234605616436508552"]),
        ("PortStatsReply", ["rx pkts=2, bytes=4, drop=6, errs=8, frame=10, over=11, crc=12", "coll=13"]),
        ("QueueStatsReply", ["port 1 queue 2: bytes=3, pkts=4, errors=5, duration=6.000000007s"]),
        ("GroupStatsReply", ["group_id=1,duration=5.000000006s,ref_count=2,packet_count=3,byte_count=4"]),
        ("MeterStatsReply", ["meter:9 flow_count:1 packet_in_count:2 byte_in_count:3 duration:4.000000005s"]),
        ("QueueGetConfigReply", ["queue 1: min_rate:10.0% max_rate:50.0%"]),
        ("AggregateStatsReply", ["packet_count=1 byte_count=2 flow_count=3"]),
        ("TableStatsReply", ["table 1:", "active=2, lookup=3, matched=4"]),
        ("MeterFeaturesReply", ["max_meter:1 max_bands:4 max_color:5"]),
        ("DescReply", ["maker", "hardware", "software", "serial", "datapath"]),
    ],
)
def test_ovs_prints_the_same_fields(name: str, texts: list[str]) -> None:
    printed = _ofctl("ofp-print", BY_NAME[name].encode().hex())
    for text in texts:
        assert text in printed


_RULES: Final = (
    BY_NAME["FlowMod"],
    of.FlowMod(),
    of.FlowMod(match=of.Match(vlan_vid=0, in_port=of.Port.LOCAL), instructions=(of.ClearActions(),)),
    of.FlowMod(match=of.Match(vlan_vid=(0x1000, 0x1000), vlan_pcp=3)),
    of.FlowMod(
        match=of.Match(eth_type=0x8847, mpls_label=1000, mpls_bos=1, mpls_tc=2),
        instructions=(
            of.ApplyActions((of.SetMplsTtl(9), of.DecMplsTtl(), of.PopMpls(0x8847), of.Output(7))),
        ),
    ),
    of.FlowMod(
        match=of.Match(eth_type=0x800, ip_proto=6, ipv4_src=0x0A000001, tcp_dst=80, ip_ecn=1),
        instructions=(
            of.ApplyActions(
                (
                    of.SetField("eth_src", 0x020000000001),
                    of.SetField("eth_dst", 0x020000000002),
                    of.SetField("ipv4_dst", 0x0A000002),
                    of.DecNwTtl(),
                    of.Output(of.Port.CONTROLLER),
                )
            ),
        ),
    ),
    of.FlowMod(
        match=of.Match(eth_type=0x806, arp_op=1, arp_tpa=(0x0A000000, 0xFF000000), arp_sha=5),
        instructions=(of.ApplyActions((of.Output(of.Port.IN_PORT), of.Output(of.Port.ALL))),),
    ),
    of.FlowMod(
        match=of.Match(
            eth_type=0x86DD, ip_proto=58, ipv6_src=(0xFE80 << 112, 0xFFC0 << 112), icmpv6_type=135
        ),
        instructions=(of.ApplyActions((of.PushMpls(), of.SetField("mpls_label", 100), of.Output(1))),),
    ),
    of.FlowMod(
        match=of.Match(eth_type=0x800, ip_proto=1, icmpv4_type=8, icmpv4_code=0, tunnel_id=5),
        instructions=(
            of.ApplyActions((of.SetField("metadata", 5), of.SetField("tunnel_id", 6), of.Group(3))),
        ),
    ),
    of.FlowMod(
        match=of.Match(eth_type=0x800, ipv4_dst=(0x0A000000, 0xFFFFFF00)),
        instructions=(of.ApplyActions((nicira.check_pkt_larger(1506, 30), of.DecNwTtl())), of.GotoTable(7)),
    ),
)


@pytest.mark.parametrize("rule", _RULES, ids=repr)
def test_the_text_of_a_rule_is_read_by_ovs_as_the_same_rule(rule: of.FlowMod) -> None:
    def meaning(printed: str) -> str:
        (line,) = [line for line in printed.splitlines() if "FLOW_MOD" in line]
        return re.sub(r"xid=0x[0-9a-f]+", "", line)

    said = _ofctl("-O", "OpenFlow13", "parse-flow", of.format_flow(rule))
    assert meaning(said) == meaning(_ofctl("ofp-print", rule.encode().hex()))


@pytest.mark.parametrize("name", sorted(of.FIELDS.keys() - {"in_phy_port", "pbb_isid", "ipv6_exthdr"}))
def test_ovs_reads_every_match_field_it_knows(name: str) -> None:
    needs: dict[str, int] = {}
    for prefix, given in _NEEDED:
        if name.startswith(prefix):
            needs = given
    value = 0x1001 if name == "vlan_vid" else 0x86DD if name == "eth_type" else 1
    match = of.Match(**(needs | {name: value}))
    printed = _ofctl("ofp-print", of.FlowMod(match=match).encode().hex())
    assert "decode error" not in printed
    assert printed.count("ADD") == 1


_IP4: Final = {"eth_type": 0x800}
_IP6: Final = {"eth_type": 0x86DD}
_NEEDED: Final[tuple[tuple[str, dict[str, int]], ...]] = (
    ("ip", _IP4),
    ("ipv6", _IP6),
    ("tcp", _IP4 | {"ip_proto": 6}),
    ("udp", _IP4 | {"ip_proto": 17}),
    ("sctp", _IP4 | {"ip_proto": 132}),
    ("icmpv4", _IP4 | {"ip_proto": 1}),
    ("icmpv6", _IP6 | {"ip_proto": 58}),
    ("ipv6_nd", _IP6 | {"ip_proto": 58, "icmpv6_type": 135, "icmpv6_code": 0}),
    ("ipv6_nd_tll", _IP6 | {"ip_proto": 58, "icmpv6_type": 136, "icmpv6_code": 0}),
    ("arp", {"eth_type": 0x806}),
    ("mpls", {"eth_type": 0x8847}),
    ("vlan_pcp", {"vlan_vid": 0x1001}),
)


# --- os-ken ---


@pytest.fixture(scope="module")
def ken() -> Any:
    """os-ken's OpenFlow 1.3; it logs what it cannot parse, and a test then fails by itself."""
    logging.getLogger("os_ken").setLevel(logging.CRITICAL)
    from os_ken.ofproto import ofproto_v1_3_parser

    return ofproto_v1_3_parser


@pytest.fixture(scope="module")
def datapath() -> Any:
    from os_ken.ofproto import ofproto_protocol

    return ofproto_protocol.ProtocolDesc(version=4)


def _match(ken: Any) -> Any:
    return ken.OFPMatch(in_port=3, metadata=(0x500, 0xFF00), eth_dst="0a:0b:0c:0d:0e:0f", vlan_vid=0x1014)


def _actions(ken: Any) -> list[Any]:
    return [
        ken.OFPActionPushVlan(0x88A8),
        ken.OFPActionSetField(vlan_vid=0x1005),
        ken.OFPActionSetQueue(4),
        ken.OFPActionOutput(2, 0xFFFF),
    ]


def _flow_mod(ken: Any, dp: Any) -> Any:
    return ken.OFPFlowMod(
        dp,
        cookie=0x77,
        table_id=1,
        idle_timeout=60,
        hard_timeout=120,
        priority=100,
        out_port=of.Port.ANY,
        out_group=of.GroupId.ANY,
        flags=1,
        match=_match(ken),
        instructions=[
            ken.OFPInstructionMeter(9),
            ken.OFPInstructionActions(4, _actions(ken)),
            ken.OFPInstructionActions(3, [ken.OFPActionPopVlan(), ken.OFPActionGroup(7)]),
            ken.OFPInstructionWriteMetadata(0x1200, 0xFF00),
            ken.OFPInstructionGotoTable(2),
        ],
    )


def _group_mod(ken: Any, dp: Any) -> Any:
    tagged = [ken.OFPActionPushVlan(), ken.OFPActionSetField(vlan_vid=0x1006), ken.OFPActionOutput(1, 0xFFFF)]
    back = [ken.OFPActionOutput(of.Port.IN_PORT, 0xFFFF)]
    nobody = (0, of.Port.ANY, of.GroupId.ANY)
    return ken.OFPGroupMod(dp, 0, 0, 7, [ken.OFPBucket(*nobody, tagged), ken.OFPBucket(*nobody, back)])


_WRITTEN: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "FeaturesRequest": lambda ken, dp: ken.OFPFeaturesRequest(dp),
    "EchoRequest": lambda ken, dp: ken.OFPEchoRequest(dp, b"ping"),
    "GetConfigRequest": lambda ken, dp: ken.OFPGetConfigRequest(dp),
    "SetConfig": lambda ken, dp: ken.OFPSetConfig(dp, 0, 0xFFFF),
    "BarrierRequest": lambda ken, dp: ken.OFPBarrierRequest(dp),
    "RoleRequest": lambda ken, dp: ken.OFPRoleRequest(dp, 2, 0x1122334455667788),
    "GetAsyncRequest": lambda ken, dp: ken.OFPGetAsyncRequest(dp),
    "SetAsync": lambda ken, dp: ken.OFPSetAsync(dp, [7, 6], [5, 4], [3, 2]),
    "PacketOut": lambda ken, dp: ken.OFPPacketOut(dp, of.NO_BUFFER, 4, _actions(ken), FRAME),
    "FlowMod": _flow_mod,
    "GroupMod": _group_mod,
    "PortMod": lambda ken, dp: ken.OFPPortMod(dp, 5, "02:00:00:00:00:05", 1, 0x65, 0x840),
    "TableMod": lambda ken, dp: ken.OFPTableMod(dp, 3, 0),
    "MeterMod": lambda ken, dp: ken.OFPMeterMod(dp, 0, 13, 9, [ken.OFPMeterBandDrop(20_000, 2_000)]),
    "QueueGetConfigRequest": lambda ken, dp: ken.OFPQueueGetConfigRequest(dp, 5),
    "DescRequest": lambda ken, dp: ken.OFPDescStatsRequest(dp, 0),
    "FlowStatsRequest": lambda ken, dp: ken.OFPFlowStatsRequest(
        dp, 0, 0xFF, of.Port.ANY, of.GroupId.ANY, 0x77, 0xFF, _match(ken)
    ),
    "AggregateStatsRequest": lambda ken, dp: ken.OFPAggregateStatsRequest(dp, 0, 1, 2, 3, 4, 5, _match(ken)),
    "TableStatsRequest": lambda ken, dp: ken.OFPTableStatsRequest(dp, 0),
    "PortDescRequest": lambda ken, dp: ken.OFPPortDescStatsRequest(dp, 0),
    "PortStatsRequest": lambda ken, dp: ken.OFPPortStatsRequest(dp, 0, 5),
    "QueueStatsRequest": lambda ken, dp: ken.OFPQueueStatsRequest(dp, 0, 5, 6),
    "GroupStatsRequest": lambda ken, dp: ken.OFPGroupStatsRequest(dp, 0, 7),
    "GroupDescRequest": lambda ken, dp: ken.OFPGroupDescStatsRequest(dp, 0),
    "GroupFeaturesRequest": lambda ken, dp: ken.OFPGroupFeaturesStatsRequest(dp, 0),
    "MeterStatsRequest": lambda ken, dp: ken.OFPMeterStatsRequest(dp, 0, 9),
    "MeterConfigRequest": lambda ken, dp: ken.OFPMeterConfigStatsRequest(dp, 0, 9),
    "MeterFeaturesRequest": lambda ken, dp: ken.OFPMeterFeaturesStatsRequest(dp, 0),
}


def test_os_ken_numbers_and_sizes_the_match_fields_the_same() -> None:
    from os_ken.ofproto import ofproto_v1_3

    theirs = {
        each.name: (each.num & 0x7F, each.type.size)
        for each in ofproto_v1_3.oxm_types
        if each.name in of.FIELDS
    }
    assert theirs.keys() == of.FIELDS.keys()
    assert theirs == {name: (field.order[2], field.width) for name, field in of.FIELDS.items()}


@pytest.mark.parametrize("name", _WRITTEN)
def test_os_ken_writes_the_same_bytes(name: str, ken: Any, datapath: Any) -> None:
    written = _WRITTEN[name](ken, datapath)
    written.set_xid(BY_NAME[name].xid)
    written.serialize()
    assert of.decode(bytes(written.buf)) == BY_NAME[name]
    assert BY_NAME[name].encode().hex() == bytes(written.buf).hex()


def _read(name: str, datapath: Any) -> Any:
    from os_ken.ofproto import ofproto_parser

    logging.getLogger("os_ken").setLevel(logging.CRITICAL)
    wire = BY_NAME[name].encode()
    message = ofproto_parser.msg(datapath, 4, wire[1], len(wire), BY_NAME[name].xid, wire)
    assert message is not None
    return message


@pytest.mark.parametrize(
    "name", ["Error", "ExperimenterError", "EchoReply", "FlowMod", "BundleControl", "BundleAdd"]
)
def test_os_ken_reads_and_writes_back(name: str, datapath: Any) -> None:
    message = _read(name, datapath)
    message.buf = None
    message.serialize()
    assert bytes(message.buf).hex() == BY_NAME[name].encode().hex()


# Ours on the left, os-ken's attribute on the right.
_SINGLE: Final = {
    "FeaturesReply": "datapath_id n_buffers n_tables auxiliary_id capabilities",
    "GetConfigReply": "flags miss_send_len",
    "RoleReply": "role generation_id",
    "PacketIn": "head.buffer_id=buffer_id head.total_len=total_len head.reason=reason head.table_id=table_id"
    " head.cookie=cookie frame=data",
    "FlowRemoved": "cookie priority reason table_id duration_sec duration_nsec idle_timeout hard_timeout"
    " packet_count byte_count",
}


@pytest.mark.parametrize("name", _SINGLE)
def test_os_ken_reads_the_same_fields(name: str, datapath: Any) -> None:
    message = _read(name, datapath)
    for pair in _SINGLE[name].split():
        mine, _, theirs = pair.partition("=")
        assert getattr(message, theirs or mine) == attrgetter(mine)(BY_NAME[name]), mine


_PORT: Final = "port_no name config state curr advertised supported peer curr_speed max_speed"
_LISTED: Final = {
    "PortDescReply": ("ports", _PORT),
    "FlowStatsReply": (
        "entries",
        "table_id duration_sec duration_nsec priority idle_timeout hard_timeout flags cookie packet_count"
        " byte_count",
    ),
    "TableStatsReply": ("entries", "table_id active_count lookup_count matched_count"),
    "PortStatsReply": (
        "entries",
        "port_no rx_packets tx_packets rx_bytes tx_bytes rx_dropped tx_dropped rx_errors tx_errors"
        " rx_frame_err rx_over_err rx_crc_err collisions duration_sec duration_nsec",
    ),
    "QueueStatsReply": (
        "entries",
        "port_no queue_id tx_bytes tx_packets tx_errors duration_sec duration_nsec",
    ),
    "GroupStatsReply": (
        "entries",
        "group_id ref_count packet_count byte_count duration_sec duration_nsec",
    ),
    "GroupDescReply": ("entries", "type group_id"),
    "MeterStatsReply": (
        "entries",
        "meter_id flow_count packet_count=packet_in_count byte_count=byte_in_count"
        " duration_sec duration_nsec",
    ),
    "MeterConfigReply": ("entries", "flags meter_id"),
}


@pytest.mark.parametrize("name", _LISTED)
def test_os_ken_reads_the_same_entries(name: str, datapath: Any) -> None:
    listed, fields = _LISTED[name]
    mine = getattr(BY_NAME[name], listed)
    theirs = _read(name, datapath).body
    assert len(theirs) == len(mine)
    for my, their in zip(mine, theirs, strict=True):
        for pair in fields.split():
            name_here, _, name_there = pair.partition("=")
            found = getattr(their, name_there or name_here)
            found = found.decode() if isinstance(found, bytes) else found
            assert found == getattr(my, name_here), name_here


def test_os_ken_reads_the_same_match_and_instructions(datapath: Any) -> None:
    (first, _) = _read("FlowStatsReply", datapath).body
    assert dict(first.match.items()) == {
        "in_port": 3,
        "metadata": (0x500, 0xFF00),
        "eth_dst": "0a:0b:0c:0d:0e:0f",
        "vlan_vid": 0x1014,
    }
    wire = bytearray()
    for instruction in first.instructions:
        instruction.serialize(wire, len(wire))
    reply = BY_NAME["FlowStatsReply"]
    assert isinstance(reply, of.FlowStatsReply)
    assert bytes(wire) == b"".join(each.encode() for each in reply.entries[0].instructions)
