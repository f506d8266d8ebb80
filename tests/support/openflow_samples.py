"""One telling example of every message, with numbers that differ so that swapped fields show."""

from __future__ import annotations

from typing import Final

from libnetvirt import openflow as of

MATCH: Final = of.Match(in_port=3, metadata=(0x500, 0xFF00), eth_dst=0x0A0B0C0D0E0F, vlan_vid=0x1014)
ACTIONS: Final = (of.PushVlan(0x88A8), of.SetField("vlan_vid", 0x1005), of.SetQueue(4), of.Output(2))
INSTRUCTIONS: Final = (
    of.Meter(9),
    of.ApplyActions(ACTIONS),
    of.WriteActions((of.PopVlan(), of.Group(7))),
    of.WriteMetadata(0x1200, 0xFF00),
    of.GotoTable(2),
)
BUCKETS: Final = (
    of.Bucket(0, of.Port.ANY, of.GroupId.ANY, (of.PushVlan(), of.SetField("vlan_vid", 0x1006), of.Output(1))),
    of.Bucket(actions=(of.Output(of.Port.IN_PORT),)),
)
BANDS: Final = (of.DropBand(20_000, 2_000),)
PORT: Final = of.PortDesc(5, 0x020000000005, "s1-eth5", 1, 4, 0x840, 0x100, 0x200, 0x400, 10_000, 20_000)
FRAME: Final = bytes.fromhex(
    "ffffffffffff0200000000a1080600010800060400010200000000a10a0000010000000000000a000002"
)

SAMPLES: Final[tuple[of.Message, ...]] = (
    of.Hello(xid=1),
    of.Error(5, 1, b"\x04\x0e\x00\x08\x00\x00\x00\x07", xid=2),
    of.ExperimenterError(2313, of.ONF_EXPERIMENTER, b"abcd", xid=3),
    of.EchoRequest(b"ping", xid=4),
    of.EchoReply(b"ping", xid=4),
    of.ExperimenterMessage(0x2320, 10, bytes(8), xid=5),
    of.UnknownMessage(99, b"abcd", xid=6),
    of.FeaturesRequest(xid=7),
    of.FeaturesReply(0x0102030405060708, 256, 254, 1, 0x4F, 0, xid=8),
    of.GetConfigRequest(xid=9),
    of.GetConfigReply(1, 128, xid=10),
    of.SetConfig(0, 0xFFFF, xid=11),
    of.BarrierRequest(xid=12),
    of.BarrierReply(xid=13),
    of.RoleRequest(of.ControllerRole.MASTER, 0x1122334455667788, xid=14),
    of.RoleReply(of.ControllerRole.SLAVE, 0x1122334455667788, xid=15),
    of.GetAsyncRequest(xid=16),
    of.GetAsyncReply((1, 2), (3, 4), (5, 6), xid=17),
    of.SetAsync((7, 6), (5, 4), (3, 2), xid=18),
    of.PacketIn(of.PacketInHead(of.NO_BUFFER, 42, 1, 3, 0x77, of.Match(in_port=4, metadata=0x500)), FRAME),
    of.PacketOut(of.NO_BUFFER, 4, ACTIONS, FRAME, xid=19),
    of.FlowRemoved(0x77, 100, 2, 3, 4, 5, 60, 120, 6, 7, MATCH),
    of.PortStatus(of.PortStatusReason.MODIFY, PORT),
    of.FlowMod(
        0x77,
        0,
        1,
        of.FlowModCommand.ADD,
        60,
        120,
        100,
        flags=1,
        match=MATCH,
        instructions=INSTRUCTIONS,
        xid=20,
    ),
    of.GroupMod(of.GroupModCommand.ADD, of.GroupType.ALL, 7, BUCKETS, xid=21),
    of.PortMod(5, 0x020000000005, 1, 0x65, 0x840, xid=22),
    of.TableMod(3, 0, xid=23),
    of.MeterMod(
        of.MeterModCommand.ADD,
        of.MeterFlags.KBPS | of.MeterFlags.BURST | of.MeterFlags.STATS,
        9,
        BANDS,
        xid=24,
    ),
    of.QueueGetConfigRequest(5, xid=25),
    of.QueueGetConfigReply(5, (of.PacketQueue(1, 5, (of.MinRate(100), of.MaxRate(500))),), xid=26),
    of.BundleControl(7, of.BundleCtrlType.OPEN_REQUEST, xid=27),
    of.BundleAdd(7, 3, of.FlowMod(priority=5, match=of.Match(in_port=2), xid=28), xid=28),
    of.DescRequest(xid=30),
    of.DescReply("maker", "hardware", "software", "serial", "datapath", xid=31),
    of.FlowStatsRequest(0xFF, of.Port.ANY, of.GroupId.ANY, 0x77, 0xFF, MATCH, xid=32),
    of.FlowStatsReply(
        (
            of.FlowStatsEntry(1, 2, 3, 100, 60, 120, 1, 0x77, 8, 9, MATCH, INSTRUCTIONS),
            of.FlowStatsEntry(2, 3, 4, 5),
        ),
        xid=33,
    ),
    of.AggregateStatsRequest(1, 2, 3, 4, 5, MATCH, xid=34),
    of.AggregateStatsReply(1, 2, 3, xid=35),
    of.TableStatsRequest(xid=36),
    of.TableStatsReply((of.TableStatsEntry(1, 2, 3, 4),), xid=37),
    of.TableFeaturesRequest(xid=38),
    of.TableFeaturesReply(
        (of.TableFeatures(1, "classify", 2, 3, 0, 5, (of.TableProperty(2, b"\x02\x03\x04"),)),), xid=39
    ),
    of.PortDescRequest(xid=40),
    of.PortDescReply((PORT,), xid=41),
    of.PortStatsRequest(5, xid=42),
    of.PortStatsReply((of.PortStatsEntry(*range(1, 16)),), xid=43),
    of.QueueStatsRequest(5, 6, xid=44),
    of.QueueStatsReply((of.QueueStatsEntry(*range(1, 8)),), xid=45),
    of.GroupStatsRequest(7, xid=46),
    of.GroupStatsReply((of.GroupStatsEntry(1, 2, 3, 4, 5, 6, (of.BucketStats(7, 8),)),), xid=47),
    of.GroupDescRequest(xid=48),
    of.GroupDescReply((of.GroupDesc(of.GroupType.ALL, 7, BUCKETS),), xid=49),
    of.GroupFeaturesRequest(xid=50),
    of.GroupFeaturesReply(1, 2, (3, 4, 5, 6), (7, 8, 9, 10), xid=51),
    of.MeterStatsRequest(9, xid=52),
    of.MeterStatsReply((of.MeterStatsEntry(9, 1, 2, 3, 4, 5, (of.BandStats(6, 7),)),), xid=53),
    of.MeterConfigRequest(9, xid=54),
    of.MeterConfigReply((of.MeterConfig(13, 9, BANDS),), xid=55),
    of.MeterFeaturesRequest(xid=56),
    of.MeterFeaturesReply(1, 2, 3, 4, 5, xid=57),
)
"""In the order of the specification's chapters."""
