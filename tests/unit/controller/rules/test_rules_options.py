"""Encapsulation, insertion and timeout: the particulars of their combinations."""

from __future__ import annotations

import pytest

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane.pipeline import PROBE_ADDRESS, Kind, Table
from libnetvirt.controller.engine.effects import REROUTE
from libnetvirt.controller.ondemand.flow_templates import GRACE
from libnetvirt.controller.reports import views
from libnetvirt.model import Encapsulation, Endpoint, Insertion, Rules, VirtualNetwork
from libnetvirt.packet import add_label
from tests.support.controller_rig import (
    BROADCAST,
    Rig,
    endpoint,
    frame,
    line,
    mac,
    network,
    places,
    ring,
    tagged,
)


def rules(encapsulation: str, insertion: str = "offline", timeout: str | None = None) -> Rules:
    given = {"encapsulation": encapsulation, "insertion": insertion, "timeout": timeout}
    return Rules.model_validate(given).over(Rules(timeout="permanent"))


def pair(uuid: int, chosen: Rules, *hosts: Endpoint) -> VirtualNetwork:
    """A network on both ends of a line of three switches."""
    ends = hosts or (endpoint(1, 1, 3, uuid), endpoint(2, 3, 3, uuid))
    return network(uuid, *ends, rules=chosen)


def labelled(dpid: int, uuid: int, label: int) -> Endpoint:
    return Endpoint(uuid=uuid, switch=dpid, port=4, mpls=label)


def acquainted(rig: Rig, one: VirtualNetwork, first: int = 1) -> None:
    """Host ``first`` at the first endpoint and the next one at the second know each other."""
    a, b = one.endpoints[:2]
    for end, host in ((a, first), (b, first + 1)):
        rig.check(int(end.switch), int(end.port), tagged(end, frame(BROADCAST, mac(host))))
    for end, host, other in ((a, first, first + 1), (b, first + 1, first)):
        rig.check(int(end.switch), int(end.port), tagged(end, frame(mac(other), mac(host))))


def flows(rig: Rig, dpid: int, table: Table) -> list[of.Match]:
    """The matches of a table, without those of probes."""
    found = [f.match for f in rig.fabric.switches[dpid].flows.values() if f.table == table]
    return [match for match in found if match.get("eth_dst") != PROBE_ADDRESS]


@pytest.mark.parametrize("encapsulation", Encapsulation)
@pytest.mark.parametrize("insertion", Insertion)
def test_networks_with_different_options_coexist(encapsulation: str, insertion: str) -> None:
    rig = Rig()
    line(rig, 3)
    others = [pair(n, rules(e, i)) for n, (e, i) in enumerate(
        ((e, i) for e in Encapsulation for i in Insertion if (e, i) != (encapsulation, insertion)), 10
    )]  # fmt: skip
    for one in others:
        rig.change(None, one)
        acquainted(rig, one, int(one.uuid) * 16)
    mine = pair(5, rules(encapsulation, insertion))
    rig.change(None, mine)
    acquainted(rig, mine)
    rig.holds_what_it_should()
    rig.change(mine, None)
    for one in others:
        acquainted(rig, one, int(one.uuid) * 16)
        rig.change(one, None)
    assert not any(s.groups for s in rig.fabric.switches.values())
    assert not any(space.tunnels() for space in rig.state.labels.spaces.values())


@pytest.mark.parametrize(("encapsulation", "cost"), [("native", 0), ("vlan", 8), ("mpls", 22)])
def test_the_mtu_of_a_network_is_reported(encapsulation: str, cost: int) -> None:
    rig = Rig()
    line(rig, 3)
    spread, alone = pair(1, rules(encapsulation)), pair(2, rules(encapsulation), endpoint(1, 1, 4))
    for one in (spread, alone):
        rig.change(None, one)
    networks = rig.state.rulesdb.networks
    assert views.network_state(rig.state, networks["1"], rig.now).mtu == 1500 - cost
    assert views.network_state(rig.state, networks["2"], rig.now).mtu == 1500


@pytest.mark.parametrize("timeout", ["fixed", "idle", "permanent"])
@pytest.mark.parametrize("encapsulation", Encapsulation)
def test_a_timeout_is_a_field_of_a_pairs_rules(encapsulation: str, timeout: str) -> None:
    rig = Rig()
    line(rig, 3)
    one = pair(1, rules(encapsulation, "on-demand", timeout))
    rig.change(None, one)
    acquainted(rig, one)
    seconds = 0 if timeout == "permanent" else 60
    for dpid in (1, 3):
        made = [f for f in rig.fabric.switches[dpid].flows.values() if f.cookie & 0xFFFF == Kind.PATH]
        assert {f.idle if timeout == "idle" else f.hard for f in made if f.notify} == {seconds}
        later = {f.idle if timeout == "idle" else f.hard for f in made if not f.notify}
        assert later == {seconds + GRACE if seconds else 0}
        assert not any(f.hard if timeout == "idle" else f.idle for f in made)
    # Tunnels make the rules of transit switches one per egress.
    assert len(flows(rig, 2, Table.PATH)) == (2 if encapsulation == "native" else 0)


@pytest.mark.parametrize("insertion", Insertion)
def test_a_native_host_cannot_enter_mpls_tunnels(insertion: str) -> None:
    rig = Rig()
    line(rig, 3)
    tunnelled, native = pair(1, rules("mpls")), pair(2, rules("native", insertion))
    for one, first in ((tunnelled, 0x10), (native, 0x20)):
        rig.change(None, one)
        acquainted(rig, one, first)
    space = rig.state.labels.spaces[Encapsulation.MPLS]
    outer, inner = space.tunnel(3).label, space.service(3, "1")
    inside = frame(BROADCAST, mac(0x10))
    for target in (0x20 + 1, 0x01005E90_0000):
        stack = (outer << 12 | 64).to_bytes(4) + (inner << 12 | 0x140).to_bytes(4)
        addresses = (target if target > 0xFF else mac(target)).to_bytes(6) + mac(0x20).to_bytes(6)
        forged = addresses + b"\x88\x47" + stack + bytes(12) + b"\x88\x47" + inside
        out = rig.inject(1, 3, tagged(native.endpoints[0], forged))
        assert out == [(3, 3, tagged(native.endpoints[1], forged))]


@pytest.mark.parametrize("insertion", Insertion)
@pytest.mark.parametrize("where", ["tunnel", "endpoint"])
def test_mpls_frames_of_hosts_are_dropped_where_labels_are_used(where: str, insertion: str) -> None:
    rig = Rig()
    line(rig, 3)
    plain = pair(1, rules("mpls" if where == "tunnel" else "vlan", insertion))
    rig.change(None, plain)
    one = plain
    if where == "endpoint":
        sent = mac(2).to_bytes(6) + mac(1).to_bytes(6) + b"\x88\x47\x00\x01\x01\x40" + bytes(46)
        assert rig.inject(1, 3, tagged(one.endpoints[0], sent)) == [(3, 3, tagged(one.endpoints[1], sent))]
        one = plain.changed(endpoints=(*plain.endpoints, labelled(2, 9, 100)))
        rig.change(plain, one)
    for kind in (b"\x88\x47", b"\x88\x48"):
        sent = BROADCAST.to_bytes(6) + mac(7).to_bytes(6) + kind + b"\x00\x01\x01\x40" + bytes(46)
        assert rig.inject(1, 3, tagged(one.endpoints[0], sent)) == []
    assert rig.state.locator.find("1", mac(7)) is None
    if where == "endpoint":
        rig.change(one, plain)
        assert places(rig.inject(1, 3, tagged(one.endpoints[0], sent))) == [(3, 3)]


def test_lingering_rules_of_a_native_path_are_removed_with_the_network() -> None:
    rig = Rig()
    ring(rig, 4)
    one = pair(1, rules("native"))
    rig.change(None, one)
    acquainted(rig, one)
    rig.fabric.switches[2].down.add(2)
    rig.state.paths.update(e for e in rig.state.paths.edges if (e.source, e.source_port) != (2, 2))
    rig.pending.add(REROUTE)
    rig.state.discovery.remove_port(2, 2)
    work = rig.core.reroute.plan()
    if work is None:  # the way led over switch 4
        pytest.fail("the way should have turned")
    rig.lingers = True
    rig.execute(work)
    rig.core.deferred.add(work)
    rig.change(one, None)
    assert not any(flows(rig, dpid, Table.PATH) for dpid in rig.fabric.switches)


def test_frames_with_an_endpoints_label_are_counted() -> None:
    rig = Rig()
    line(rig, 3)
    one = pair(1, rules("vlan"), labelled(1, 1, 100), labelled(3, 2, 200))
    rig.change(None, one)
    acquainted(rig, one)
    entry = rig.state.rulesdb.networks["1"]
    match = of.Match(in_port=4, vlan_vid=0, eth_type=0x8847, mpls_label=100, mpls_bos=1)
    assert match in flows(rig, 1, Table.CLASSIFY)
    counted = views.counters(
        rig.state, entry, [(1, of.FlowStatsEntry(Table.CLASSIFY, match=match, packet_count=3, byte_count=90))]
    )
    assert [c.received_packets for c in counted] == [3, 0]
    assert add_label(200, frame(BROADCAST, mac(1))) in [
        f for _, _, f in rig.check(1, 4, add_label(100, frame(BROADCAST, mac(1))))
    ]


@pytest.mark.parametrize("encapsulation", Encapsulation)
@pytest.mark.parametrize("fresh", [False, True], ids=["the same controller", "a new controller"])
def test_a_pairs_rule_from_before_a_move_is_not_adopted(encapsulation: str, fresh: bool) -> None:
    rig = Rig()
    line(rig, 3)
    one = pair(1, rules(encapsulation, "on-demand"), endpoint(1, 1, 3, 1), endpoint(2, 1, 4, 1))
    rig.change(None, one)
    acquainted(rig, one)
    assert [f for f in rig.fabric.switches[1].flows.values() if f.cookie & 0xFFFF == Kind.PATH]
    rig.disconnect(1)
    moved = one.changed(endpoints=(one.endpoints[0], endpoint(2, 3, 3, 7)))
    rig.change(one, moved)
    assert rig.inject(3, 3, frame(BROADCAST, mac(2), vlan=7)) == []  # switch 1 cannot be told
    if fresh:
        for route in list(rig.state.ondemand):
            rig.state.ondemand._discard(route)
    rig.core.restart._stale = False  # as if the substrate had not changed since the controller's start
    rig.connect(1, 4)
    sent = frame(mac(2), mac(1), vlan=1)
    assert rig.inject(1, 3, sent) == [(3, 3, frame(mac(2), mac(1), vlan=7))]
    assert rig.inject(1, 3, sent) == [(3, 3, frame(mac(2), mac(1), vlan=7))]
