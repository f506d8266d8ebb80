"""The emulated switches behave as a controller expects of real ones. No sockets."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any

import pytest

from benchmarks.fleet import graphs, wire
from benchmarks.fleet.fleet import Fleet
from benchmarks.fleet.switch import Switch
from benchmarks.fleet.tables import PLAIN, Miss, Tables
from benchmarks.fleet.traffic import Host, frame, introductions, pairs, percentile
from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.pipeline import Kind, Table


def decoded(data: bytes) -> list[of.Message]:
    """The messages in a stream of bytes."""
    found = []
    while data:
        length = int.from_bytes(data[2:4])
        found.append(of.decode(data[:length]))
        data = data[length:]
    return found


def said(switch: Switch) -> list[of.Message]:
    """What the switch had to say."""
    out, switch.out = switch.out, []
    return decoded(b"".join(out))


def sent(message: of.Message, xid: int = 7) -> bytes:
    """A message of the controller."""
    message.xid = xid
    return message.encode()


# Graphs


@pytest.mark.parametrize(
    ("graph", "switches", "links"),
    [
        (graphs.line(1), 1, 0),
        (graphs.line(5), 5, 4),
        (graphs.ring(5), 5, 5),
        (graphs.fat_tree(2), 5, 4),
        (graphs.fat_tree(4), 20, 32),
        (graphs.dumbbell(7), 7, 7),
        (graphs.scattered(12, 20), 12, 20),
    ],
)
def test_a_graph_is_connected_and_its_links_lead_back(graph: graphs.Graph, switches: int, links: int) -> None:
    assert (graph.switches, len(graph.peers)) == (switches, 2 * links)
    assert all(graph.peers[there] == here for here, there in graph.peers.items())
    neighbours: dict[int, set[int]] = {n: set() for n in range(1, switches + 1)}
    for (here, _), (there, _) in graph.peers.items():
        neighbours[here].add(there)
    assert len(graphs.distances(neighbours, 1)) == switches
    assert set(graph.edge) <= neighbours.keys()


def test_a_fat_tree_has_hosts_at_its_edge_only() -> None:
    tree = graphs.fat_tree(4)
    assert len(tree.edge) == 8
    assert all(len(tree.link_ports(switch)) == 2 for switch in tree.edge)
    assert all(len(tree.link_ports(switch)) == 4 for switch in range(1, 5))


def test_a_random_graph_is_the_same_for_the_same_seed() -> None:
    assert graphs.scattered(20, 40, seed=3) == graphs.scattered(20, 40, seed=3)
    assert graphs.scattered(20, 40, seed=3) != graphs.scattered(20, 40, seed=4)


def test_the_tunnels_over_a_link_are_counted() -> None:
    assert graphs.dumbbell(9).crossing(1, 2) == 2 * 3 * 3
    assert graphs.line(4).crossing(2, 3) == 8


@pytest.mark.parametrize(("kind", "switches"), [("line", 3), ("ring", 4), ("fat-tree", 20), ("random", 9)])
def test_graphs_have_names(kind: str, switches: int) -> None:
    assert graphs.named(kind, switches).switches == switches


def test_an_unknown_graph_is_refused() -> None:
    with pytest.raises(ValueError, match="no graph"):
        graphs.named("star", 4)


# Tables


def flow(
    table: int = 0,
    cookie: int = 1,
    then: tuple[of.Instruction, ...] = (),
    priority: int = 10,
    **fields: Any,
) -> of.FlowMod:
    """A flow-mod that adds."""
    match = of.Match(**fields)
    return of.FlowMod(table_id=table, priority=priority, cookie=cookie, match=match, instructions=then)


def told(tables: Tables, request: of.FlowStatsRequest) -> list[of.FlowStatsEntry]:
    """What the tables answer to a request."""
    found: list[of.FlowStatsEntry] = []
    for part in wire.multipart_replies(1, wire.FLOW, tables.flow_stats(sent(request))):
        reply = of.decode(part)
        assert isinstance(reply, of.FlowStatsReply)
        found += reply.entries
    return found


def test_flow_statistics_return_the_flow_as_it_was_added() -> None:
    tables, then = Tables(), (of.ApplyActions((of.PopVlan(), of.Output(3))), of.GotoTable(2))
    given = flow(1, 0xABCD, then, in_port=3, eth_dst=0x020000000001)
    tables.apply(sent(given))
    (entry,) = told(tables, of.FlowStatsRequest())
    assert (entry.table_id, entry.priority, entry.cookie) == (1, 10, 0xABCD)
    assert (entry.match, entry.instructions) == (given.match, then)


def test_adding_twice_replaces_and_modifying_keeps_the_cookie() -> None:
    tables = Tables()
    for cookie in (1, 2):
        tables.apply(sent(flow(cookie=cookie, in_port=3)))
    change = flow(cookie=9, then=(of.GotoTable(5),), in_port=3)
    change.command = of.FlowModCommand.MODIFY_STRICT
    tables.apply(sent(change))
    (entry,) = told(tables, of.FlowStatsRequest())
    assert (entry.cookie, entry.instructions) == (2, (of.GotoTable(5),))


def test_one_masked_delete_removes_a_network() -> None:
    tables = Tables()
    for index in (1, 2):
        for port in (1, 2, 3):
            tables.apply(sent(flow(cookie=pipeline.cookie(index, Kind.ENDPOINT), in_port=port + 10 * index)))
    delete = of.FlowMod(
        table_id=of.ALL_TABLES, command=of.FlowModCommand.DELETE,
        cookie=pipeline.cookie(1, Kind.BASE), cookie_mask=pipeline.COOKIE_NETWORK_MASK,
    )  # fmt: skip
    tables.apply(sent(delete))
    assert {pipeline.cookie_network(e.cookie) for e in told(tables, of.FlowStatsRequest())} == {2}
    assert tables.count(sent(of.AggregateStatsRequest())) == 3


def test_a_strict_delete_removes_one_flow_and_a_loose_one_what_is_more_specific() -> None:
    for command, left in ((of.FlowModCommand.DELETE_STRICT, 2), (of.FlowModCommand.DELETE, 1)):
        tables = Tables()
        tables.apply(sent(flow(in_port=3)))
        tables.apply(sent(flow(in_port=3, eth_dst=5)))
        tables.apply(sent(flow(in_port=4)))
        delete = flow(cookie=0, in_port=3)
        delete.command = command
        tables.apply(sent(delete))
        assert len(tables.flows) == left


def test_replies_are_filtered_by_cookie_and_split_when_too_long() -> None:
    tables = Tables()
    for number in range(2_000):
        tables.apply(sent(flow(cookie=number % 2, in_port=number, eth_dst=5)))
    whole = list(wire.multipart_replies(1, wire.FLOW, tables.flow_stats(sent(of.FlowStatsRequest()))))
    assert len(whole) > 1
    assert all(len(part) <= 0xFFFF for part in whole)
    assert len(told(tables, of.FlowStatsRequest(cookie=1, cookie_mask=1))) == 1_000


def test_groups_and_meters_are_added_and_removed() -> None:
    tables = Tables()
    bucket = of.Bucket(actions=(of.Output(1),))
    for command in (of.GroupModCommand.ADD, of.GroupModCommand.MODIFY):
        tables.apply(sent(of.GroupMod(command, of.GroupType.ALL, 5, (bucket,))))
    (group,) = tables.group_desc()
    assert len(group) == 8 + len(bucket.encode())
    tables.apply(sent(of.GroupMod(of.GroupModCommand.DELETE, of.GroupType.ALL, 5)))
    assert not tables.groups


def test_the_packet_in_format_of_a_port_follows_the_rules() -> None:
    tables = Tables()
    enter = (of.WriteMetadata(pipeline.entered(3, None), pipeline.METADATA_ALL), of.GotoTable(Table.HOST))
    tables.apply(sent(flow(Table.CLASSIFY, pipeline.cookie(3, Kind.ENDPOINT), enter, in_port=1, vlan_vid=0)))
    up = (of.ApplyActions((of.Output(of.Port.CONTROLLER),)),)
    cookie = pipeline.cookie(3, Kind.FLOOD)
    tables.apply(sent(flow(Table.HOST, cookie, up, metadata=(3 << 32, pipeline.METADATA_SIDE))))
    other = pipeline.cookie(4, Kind.FLOOD)
    tables.apply(sent(flow(Table.HOST, other, up, metadata=(4 << 32, pipeline.METADATA_SIDE))))
    found, default = tables.misses()
    assert found == {1: Miss(Table.HOST, cookie, 3 << 32, 1)}
    assert default == PLAIN


def test_a_learning_switch_gets_packet_ins_from_the_first_table() -> None:
    tables = Tables()
    up = (of.ApplyActions((of.Output(of.Port.CONTROLLER),)),)
    tables.apply(sent(flow(0, 77, up, priority=0)))
    assert tables.misses() == ({}, Miss(0, 77, None, 0))


# Switches


def fleet(graph: graphs.Graph, hosts: int = 2) -> Fleet:
    """A fleet that nobody has connected."""
    return Fleet(graph, list(graph.edge), hosts)


def test_a_switch_answers_the_handshake() -> None:
    one = fleet(graphs.line(1)).switches[1]
    one.connected()
    one.receive(sent(of.FeaturesRequest(), 3) + sent(of.EchoRequest(b"x"), 4) + sent(of.BarrierRequest(), 5))
    hello, features, echo, barrier = said(one)
    assert isinstance(hello, of.Hello)
    assert hello.offers(4)
    assert isinstance(features, of.FeaturesReply)
    assert (features.datapath_id, features.n_tables, features.xid) == (1, 254, 3)
    assert isinstance(echo, of.EchoReply)
    assert (echo.body, echo.xid) == (b"x", 4)
    assert isinstance(barrier, of.BarrierReply)
    assert barrier.xid == 5


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_messages_are_read_from_any_segmentation(size: int) -> None:
    one = fleet(graphs.line(1)).switches[1]
    stream = b"".join(sent(of.EchoRequest(bytes(n)), n) for n in range(10)) + sent(flow(in_port=1))
    for pos in range(0, len(stream), size):
        one.receive(stream[pos : pos + size])
    assert [m.xid for m in said(one) if isinstance(m, of.EchoReply)] == list(range(10))
    assert len(one.tables.flows) == 1


def test_ports_and_the_switch_description_are_reported() -> None:
    two = fleet(graphs.line(2)).switches[2]
    two.set_port(1, False)
    two.receive(sent(of.PortDescRequest()) + sent(of.DescRequest()) + sent(of.MeterFeaturesRequest()))
    status, ports, desc, meters = said(two)
    assert isinstance(status, of.PortStatus)
    assert isinstance(ports, of.PortDescReply)
    assert [p.port_no for p in ports.ports] == [1, 2, graphs.FIRST_LINK_PORT]
    assert ports.ports[0] == status.desc
    assert ports.ports[0].state & of.PortState.LINK_DOWN
    assert ports.ports[2].name == f"s2-{graphs.FIRST_LINK_PORT}"
    assert isinstance(desc, of.DescReply)
    assert desc.hw_desc == "emulated switch"
    assert isinstance(meters, of.MeterFeaturesReply)
    assert meters.max_meter


def test_a_bundle_changes_nothing_until_it_is_committed() -> None:
    one = fleet(graphs.line(1)).switches[1]
    one.receive(sent(of.BundleControl(1, of.BundleCtrlType.OPEN_REQUEST)))
    one.receive(sent(of.BundleAdd(1, 3, flow(in_port=1))))
    assert not one.tables.flows
    one.receive(sent(of.BundleControl(1, of.BundleCtrlType.COMMIT_REQUEST)))
    assert len(one.tables.flows) == 1
    replies = [m.type for m in said(one) if isinstance(m, of.BundleControl)]
    assert replies == [of.BundleCtrlType.OPEN_REPLY, of.BundleCtrlType.COMMIT_REPLY]
    one.receive(sent(of.BundleControl(2, of.BundleCtrlType.OPEN_REQUEST)))
    one.receive(sent(of.BundleAdd(2, 3, flow(in_port=2))))
    one.receive(sent(of.BundleControl(2, of.BundleCtrlType.DISCARD_REQUEST)))
    assert len(one.tables.flows) == 1


def test_lldp_causes_a_packet_in_only_at_the_far_end_of_its_link() -> None:
    whole = fleet(graphs.line(3))
    two, port = whole.switches[2], graphs.FIRST_LINK_PORT
    rule = flow(0, 0x4E56 << 48, (of.ApplyActions((of.Output(of.Port.CONTROLLER),)),), eth_type=0x88CC)
    whole.switches[1].receive(sent(rule))
    packet = bytes(12) + wire.LLDP + b"here"
    two.receive(sent(of.PacketOut(actions=(of.Output(port),), frame=packet)))
    (up,) = said(whole.switches[1])
    assert isinstance(up, of.PacketIn)
    assert (up.head.in_port, up.frame, up.head.table_id, up.head.cookie) == (port, packet, 0, 0x4E56 << 48)
    assert not said(whole.switches[3])
    two.receive(sent(of.PacketOut(actions=(of.Output(1),), frame=packet)))
    assert not said(whole.switches[1]) + said(whole.switches[2]) + said(whole.switches[3])


def test_a_cut_link_carries_nothing() -> None:
    whole = fleet(graphs.line(2))
    whole.switches[1].set_port(graphs.FIRST_LINK_PORT, False)
    message = of.PacketOut(actions=(of.Output(graphs.FIRST_LINK_PORT),), frame=bytes(12) + wire.LLDP)
    whole.switches[1].receive(sent(message))
    assert not said(whole.switches[2])


# Traffic


def test_a_set_up_is_complete_when_its_frame_is_delivered_once() -> None:
    whole = fleet(graphs.line(2), hosts=2)
    traffic = whole.traffic
    traffic.begin([(0, 3)], 10)  # the first host of switch 1 to the second of switch 2
    assert traffic.ask(0.0)
    assert not traffic.ask(0.0)
    (up,) = said(whole.switches[1])
    assert isinstance(up, of.PacketIn)
    assert up.head.in_port == 1
    assert up.frame == frame(whole.hosts[3].mac, whole.hosts[0], whole.hosts[3], traffic.base)
    out = of.PacketOut(actions=(of.Output(1),), frame=up.frame)
    whole.switches[2].receive(sent(out))
    assert (traffic.outstanding, traffic.strays) == (1, 1)
    out = of.PacketOut(actions=(of.Output(2),), frame=up.frame)
    whole.switches[2].receive(sent(out) * 2)
    assert (traffic.outstanding, traffic.strays, traffic.twice) == (0, 1, 1)


def test_a_late_frame_of_an_earlier_trial_does_not_count() -> None:
    whole = fleet(graphs.line(1), hosts=2)
    traffic = whole.traffic
    traffic.begin([(0, 1)], 1)
    traffic.ask(0.0)
    (late,) = said(whole.switches[1])
    assert isinstance(late, of.PacketIn)
    traffic.begin([(0, 1)], 1)
    traffic.ask(0.0)
    for port in (1, 2):
        whole.switches[1].receive(sent(of.PacketOut(actions=(of.Output(port),), frame=late.frame)))
    assert (traffic.outstanding, traffic.strays, traffic.twice, traffic.out) == (1, 0, 0, 2)


def test_a_packet_out_over_a_link_causes_a_packet_in_at_the_far_end() -> None:
    whole = fleet(graphs.line(2))
    whole.traffic.begin([(0, 2)], 1)
    whole.traffic.ask(0.0)
    data = frame(whole.hosts[2].mac, whole.hosts[0], whole.hosts[2], whole.traffic.base)
    message = of.PacketOut(in_port=1, actions=(of.Output(of.Port.FLOOD),), frame=data)
    whole.switches[1].receive(sent(message))
    (up,) = said(whole.switches[2])
    assert isinstance(up, of.PacketIn)
    assert (up.head.in_port, up.frame) == (graphs.FIRST_LINK_PORT, data)
    assert whole.traffic.strays == 1  # the flood came out at the other host of the first switch


def hosts(switches: int, each: int) -> list[Host]:
    places = [(s, p) for s in range(1, switches + 1) for p in range(1, each + 1)]
    return [Host(n, s, p, n) for n, (s, p) in enumerate(places)]


def crowded(switches: int, ports: int, behind: int) -> list[Host]:
    """Several hosts behind each port."""
    return Fleet(graphs.line(switches), list(range(1, switches + 1)), ports, behind).hosts


@pytest.mark.parametrize("behind", [1, 5])
@pytest.mark.parametrize(("switches", "networks", "reach"), [(1, 1, 0), (1, 2, 0), (5, 2, 4), (6, 3, 4)])
def test_pairs_are_new_in_one_network_and_at_the_requested_distance(
    switches: int, networks: int, reach: int, behind: int
) -> None:
    every = crowded(switches, 12, behind)
    found = list(pairs(every, networks, reach))
    assert found
    assert len(set(found)) == len(found)
    # The first part's frames are for everybody, so their pairs have not met.
    introduced = set(introductions(every, networks, reach)[1])
    for source, target in found:
        assert every[source].endpoint != every[target].endpoint
        assert every[target].dpid - every[source].dpid == reach
        assert (every[source].endpoint - every[target].endpoint) % networks == 0
        assert (source, target) not in introduced


@pytest.mark.parametrize("reach", [0, 1])
@pytest.mark.parametrize("count", [97, 500, 1_000])
def test_all_ports_send_equally_many(count: int, reach: int) -> None:
    every = crowded(2, 8, 16)
    senders = [every[source].endpoint for source, _ in itertools.islice(pairs(every, 2, reach), count)]
    assert max(Counter(senders).values()) <= math.ceil(count / (8 if reach else 16) / 16) * 16
    assert Fleet(graphs.line(2), [1, 2], 8, 16).possible(2, reach) == len(list(pairs(every, 2, reach)))


@pytest.mark.parametrize("behind", [1, 5])
@pytest.mark.parametrize("reach", [0, 4])
def test_every_host_is_introduced_to_another_port(behind: int, reach: int) -> None:
    every = crowded(5, 12, behind)
    met = [pair for part in introductions(every, 2, reach) for pair in part]
    assert {source for source, _ in met} == set(range(60 * behind))
    assert all(every[a].endpoint != every[b].endpoint for a, b in met)


def test_pairs_that_a_trial_did_not_use_are_used_by_the_next_one() -> None:
    whole = Fleet(graphs.line(1), [1], 4, 3)
    every = list(pairs(whole.hosts, 1, 0))
    whole.traffic.begin(whole.new_pairs(1, 0), 10)
    for _ in range(4):
        whole.traffic.ask(0.0)
    whole.put_back(1, 0)
    whole.traffic.begin(whole.new_pairs(1, 0), 1000)
    assert whole.traffic.unused == every[4:]


def test_percentiles() -> None:
    assert percentile([], 0.5) == 0
    assert percentile([1.0, 2.0, 3.0], 0.5) == 2.0
    assert percentile([1.0, 2.0, 3.0], 0.99) == 3.0


def test_host_frames_are_well_formed() -> None:
    one, two = hosts(1, 2)
    data = frame(two.mac, one, two, 5)
    assert len(data) == wire.FRAME_LENGTH
    assert int.from_bytes(data[16:18]) == len(data) - 14  # IP's total length
    assert (data[:6], data[6:12], data[26:30], data[30:34]) == (two.mac, one.mac, one.address, two.address)
