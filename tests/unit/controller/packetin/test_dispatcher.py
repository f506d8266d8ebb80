"""Packet-ins: learning, rate limits, deferral, and no exceptions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.pipeline import Kind, Table
from libnetvirt.controller.engine.controller import Options
from libnetvirt.controller.intent.switches import parse_switch
from libnetvirt.controller.packetin import deferral
from libnetvirt.controller.packetin.deferral import SOURCE_LIMIT
from libnetvirt.controller.packetin.dispatcher import QUIET_TIME
from libnetvirt.controller.packetin.fair_queue import QUANTUM, QUEUE_LIMIT
from libnetvirt.controller.reports import views
from libnetvirt.controller.topology.discovery import lldp
from libnetvirt.controller.topology.link_ports import LinkPorts
from tests.support.controller_rig import (
    BROADCAST,
    NATIVE,
    VLAN,
    Rig,
    endpoint,
    frame,
    line,
    mac,
    network,
    places,
)

PAIR = network(1, endpoint(11, 1, 3), endpoint(12, 2, 3), endpoint(13, 1, 4))


def _rig(**options: Any) -> Rig:
    rig = Rig(Options(**({"rules": VLAN} | options)))
    line(rig, 2)
    rig.change(None, PAIR)
    return rig


def _up(rig: Rig, source: int, table: Table = Table.SOURCE, port: int = 3) -> of.PacketIn:
    index = rig.state.rulesdb.networks["1"].index
    match = of.Match(in_port=port, metadata=pipeline.entered(index, None))
    head = of.PacketInHead(of.NO_BUFFER, 60, 1, table, pipeline.cookie(0, Kind.BASE), match)
    return of.PacketIn(head, frame(BROADCAST, mac(source)))


def _rules_of(rig: Rig, kind: Kind) -> int:
    return sum(f.cookie & 0xFFFF == kind for s in rig.fabric.switches.values() for f in s.flows.values())


def test_a_host_is_learned_once_and_then_causes_no_packet_ins() -> None:
    rig = _rig()
    rig.check(1, 3, frame(BROADCAST, mac(1)))
    rig.check(2, 3, frame(BROADCAST, mac(2)))
    rig.fabric.inject(1, 3, frame(mac(2), mac(1)))
    assert not rig.fabric.up
    assert rig.kinds().count("host.learned") == 2
    assert places(rig.check(1, 3, frame(mac(2), mac(1)))) == [(2, 3)]


def test_packet_ins_carry_only_the_head_of_a_frame() -> None:
    rig = _rig()
    rig.fabric.inject(1, 3, frame(BROADCAST, mac(1), bytes(1400)))
    assert [len(m.frame) for _, m in rig.fabric.up] == [pipeline.LEARN_LENGTH]


def test_the_address_of_a_host_is_learned_from_arp() -> None:
    rig = _rig()
    arp = bytes.fromhex("00010800060400010200000000010a000007000000000000") + bytes([10, 0, 0, 9])
    rig.inject(1, 3, BROADCAST.to_bytes(6) + mac(1).to_bytes(6) + b"\x08\x06" + arp + bytes(18))
    assert rig.state.locator.find("1", mac(1)).addresses == ("10.0.0.7",)  # type: ignore[union-attr]


def test_a_host_moves_within_its_network_and_rules_follow() -> None:
    rig = _rig()
    rig.check(1, 3, frame(BROADCAST, mac(1)))
    rig.check(2, 3, frame(BROADCAST, mac(2)))
    assert places(rig.check(2, 3, frame(BROADCAST, mac(1)))) == [(1, 3), (1, 4)]
    assert places(rig.check(1, 4, frame(mac(1), mac(3)))) == [(2, 3)]
    assert "host.moved" in rig.kinds()
    rig.check(1, 3, frame(BROADCAST, mac(1)))
    assert places(rig.check(2, 3, frame(mac(1), mac(2)))) == [(1, 3)]
    rig.holds_what_it_should()


def test_a_silent_host_expires_on_all_switches() -> None:
    rig = _rig()
    rig.check(1, 3, frame(BROADCAST, mac(1)))
    (source,) = [f for f in rig.fabric.switches[1].flows.values() if f.notify]
    rig.fabric.switches[1].expire(source)
    rig.settle()
    assert rig.state.locator.find("1", mac(1)) is None
    assert _rules_of(rig, Kind.HOST) == 0
    rig.holds_what_it_should()


def test_the_expiry_of_a_rule_at_an_old_location_keeps_the_host() -> None:
    rig = _rig()
    rig.check(1, 3, frame(BROADCAST, mac(1)))
    rig.check(2, 3, frame(BROADCAST, mac(1)))
    index = rig.state.rulesdb.networks["1"].index
    match = of.Match(in_port=3, metadata=pipeline.entered(index, None), eth_src=mac(1))
    rig.dispatcher.flow_removed(
        1, of.FlowRemoved(pipeline.cookie(index, Kind.HOST), 100, 0, Table.SOURCE, match=match)
    )
    assert rig.state.locator.find("1", mac(1)) is not None


def test_hosts_behind_a_failed_port_are_removed() -> None:
    rig = _rig()
    rig.check(1, 3, frame(BROADCAST, mac(1)))
    rig.port(1, 3, up=False)
    rig.settle()
    assert rig.state.locator.find("1", mac(1)) is None
    rig.holds_what_it_should()


def test_packet_ins_are_limited_per_endpoint_without_effect_on_others() -> None:
    rig = _rig(packet_rate=20.0)
    for n in range(100):
        rig.dispatcher.packet_in(1, _up(rig, n + 1), rig.now)
    assert len(list(rig.state.locator.hosts("1"))) == 20
    assert rig.dispatcher.dropped == 80
    assert _rules_of(rig, Kind.QUIET) == 1
    assert rig.kinds().count("host.refused") == 1
    rig.check(2, 3, frame(BROADCAST, mac(500)))
    assert rig.state.locator.find("1", mac(500)) is not None
    # In the switch nothing more of it goes up, but frames are forwarded.
    assert places(rig.inject(1, 3, frame(BROADCAST, mac(400)))) == [(1, 4), (2, 3)]
    assert rig.state.locator.find("1", mac(400)) is None
    rig.now += 1
    rig.dispatcher.packet_in(1, _up(rig, 401), rig.now)
    assert rig.state.locator.find("1", mac(401)) is not None


def test_too_many_hosts_are_reported_once_and_muted_for_a_while() -> None:
    rig = _rig(host_limit=3)
    for n in range(1, 11):
        rig.inject(1, 3, frame(BROADCAST, mac(n)))
    assert len(list(rig.state.locator.hosts("1"))) == 3
    assert rig.kinds().count("host.refused") == 1
    (quiet,) = [f for f in rig.fabric.switches[1].flows.values() if f.cookie & 0xFFFF == Kind.QUIET]
    assert (quiet.hard, quiet.idle) == (QUIET_TIME, 0)
    rig.fabric.switches[1].expire(quiet)
    rig.now += QUIET_TIME
    rig.inject(1, 3, frame(BROADCAST, mac(11)))
    assert rig.kinds().count("host.refused") == 2
    rig.change(PAIR, None)
    assert _rules_of(rig, Kind.QUIET) == 0


def test_a_host_that_moves_to_a_full_endpoint_is_flooded_to() -> None:
    rig = _rig(host_limit=1)
    rig.check(1, 3, frame(BROADCAST, mac(1)))
    rig.check(2, 3, frame(BROADCAST, mac(2)))
    rig.check(2, 3, frame(BROADCAST, mac(1)))
    assert places(rig.check(1, 4, frame(mac(1), mac(3)))) == [(1, 3), (2, 3)]


def test_frames_of_a_network_wait_while_it_changes_and_others_do_not() -> None:
    rig = _rig()
    rig.change(None, network(2, endpoint(21, 1, 3, 20), endpoint(22, 2, 3, 20)))
    rig.dispatcher.busy = frozenset(("1",))
    rig.inject(1, 3, frame(BROADCAST, mac(1)))
    rig.inject(1, 3, frame(BROADCAST, mac(2), vlan=20))
    assert rig.state.locator.find("1", mac(1)) is None
    assert rig.state.locator.find("2", mac(2)) is not None
    rig.dispatcher.resume(rig.now)
    assert rig.state.locator.find("1", mac(1)) is not None
    rig.dispatcher.busy = None
    rig.inject(2, 3, frame(BROADCAST, mac(3), vlan=20))
    assert rig.state.locator.find("2", mac(3)) is None
    rig.dispatcher.resume(rig.now)
    assert rig.state.locator.find("2", mac(3)) is not None


def test_waiting_frames_are_bounded() -> None:
    rig = _rig(packet_rate=1e6)
    rig.dispatcher.busy = None
    for n in range(SOURCE_LIMIT + 50):
        rig.dispatcher.packet_in(1, _up(rig, n + 1), rig.now)
    while rig.dispatcher.serve_queued(rig.now):
        pass
    assert rig.dispatcher.dropped == 50
    rig.dispatcher.packet_in(2, _up(rig, 5000), rig.now)
    rig.dispatcher.resume(rig.now)
    while rig.dispatcher.serve_queued(rig.now):
        pass
    assert rig.state.locator.find("1", mac(5000)) is not None
    assert len(list(rig.state.locator.hosts("1"))) == SOURCE_LIMIT + 1


def test_frames_of_all_endpoints_that_wait_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deferral, "SOURCE_LIMIT", 20)
    monkeypatch.setattr(deferral, "FRAME_LIMIT", 30)
    rig = _rig(packet_rate=1e6)
    rig.dispatcher.busy = None
    for n in range(25):
        # Those that one endpoint sends beyond its own share take nothing of the others'.
        rig.dispatcher.packet_in(1, _up(rig, n + 1), rig.now)
    for n in range(15):
        rig.dispatcher.packet_in(2, _up(rig, n + 101), rig.now)
    while rig.dispatcher.serve_queued(rig.now):
        pass
    assert rig.dispatcher.dropped == 5 + 5
    rig.dispatcher.resume(rig.now)
    while rig.dispatcher.serve_queued(rig.now):
        pass
    assert len(list(rig.state.locator.hosts("1"))) == 30
    rig.dispatcher.busy = None
    rig.dispatcher.packet_in(2, _up(rig, 900), rig.now)
    rig.dispatcher.resume(rig.now)
    assert rig.state.locator.find("1", mac(900)) is not None


def test_waiting_frames_are_dropped_with_their_network() -> None:
    rig = _rig()
    rig.dispatcher.busy = frozenset(("1",))
    rig.dispatcher.packet_in(1, _up(rig, 1), rig.now)
    rig.execute(rig.core.operations.begin(PAIR, None))
    assert not rig.state.installed.units("host")
    assert not list(rig.state.locator.hosts("1"))


def test_forged_lldp_is_reported_once_per_interval_and_port() -> None:
    rig = Rig()
    rig.switch(1)
    junk = lldp(1, 4, 0, 6, 1, bytes(36))
    for _ in range(5):
        rig.inject(1, 3, junk)
    assert rig.kinds().count("discovery.forged") == 1
    assert rig.state.discovery.forged == 5
    rig.inject(1, 4, junk)
    assert rig.kinds().count("discovery.forged") == 2
    rig.now += 10
    rig.inject(1, 3, junk)
    assert rig.kinds().count("discovery.forged") == 3


def test_lldp_of_other_systems_is_foreign_and_reported_once_per_port() -> None:
    rig = Rig()
    line(rig, 1)
    rig.change(None, network(1, endpoint(11, 1, 5, 20)))
    daemon = bytes.fromhex(
        "0180c200000e 020000000001 88cc 0207 04020000000001 0407 03020000000001 0602 0078 0a04 686f7374"
        "fe06 0080c2 010001 fe06 00120f 010000 0000"
    )
    old = pipeline.LLDP_ADDRESS.to_bytes(6) + mac(1).to_bytes(6) + b"\x88\xcc" + bytes(46)
    for _ in range(3):
        rig.inject(1, 3, daemon)
        rig.inject(1, 4, old)
        rig.inject(1, 5, daemon)
        rig.now += 30
    assert rig.kinds().count("discovery.foreign") == 3
    assert "discovery.forged" not in rig.kinds()
    assert rig.state.discovery.foreign == {(1, 3): 3, (1, 4): 3, (1, 5): 3}
    assert not rig.state.discovery.forged
    (switch,) = views.substrate(rig.state).switches
    assert switch.notes[0] == "3 LLDP frames at port 3 are of another system, and were ignored"


def test_lldp_at_an_endpoints_port_is_no_link() -> None:
    rig = Rig()
    line(rig, 1)
    rig.switch(2)
    rig.change(None, network(1, endpoint(11, 1, 3, 20)))
    sent = rig.state.discovery.frame(2, 1, 0, rig.now)
    rig.inject(1, 3, sent)
    assert not rig.state.discovery.link_ends()
    assert rig.state.discovery.ignored == {(1, 3): 1}
    assert any(k == "discovery.forged" and "an endpoint is at this port" in m for k, m in rig.events)
    notes = {s.id: s.notes for s in views.substrate(rig.state).switches}
    assert notes["1"] == ("1 LLDP frames at port 3 were ignored: they are not from a link",)


def test_ports_that_cannot_be_links_neither_send_nor_accept_lldp() -> None:
    rig = Rig(Options(VLAN, link_ports=LinkPorts.parse("*eth1,2/2", parse_switch)))
    line(rig, 3)
    assert {(e.source, e.destination) for e in rig.state.paths.edges} == {(2, 3), (3, 2)}
    sent = {p for p, times in vars(rig.state.discovery)["_sent"].items() if times}
    assert sent <= {(1, 1), (2, 1), (2, 2), (3, 1)}
    rig.inject(1, 3, rig.state.discovery.frame(3, 1, 0, rig.now))
    assert ("the port is not one of link-ports") in rig.events[-1][1]


def test_ports_exchange_one_discovery_frame_per_interval() -> None:
    rig = Rig()
    for dpid in (1, 2, 3):
        rig.switch(dpid)
    sent: list[tuple[int, int]] = []
    send = rig.send

    def noted(dpid: int, message: Any) -> None:
        if isinstance(message, of.PacketOut):
            (output,) = [a for a in message.actions if isinstance(a, of.Output)]
            sent.append((dpid, output.port))
        send(dpid, message)

    rig.send = noted  # type: ignore[method-assign]
    for n in range(30):
        # A host relays the frames of one port to two others in turn.
        rig.now += 0.001
        rig.inject(2 + n % 2, 3, rig.state.discovery.frame(1, 3, 0, rig.now))
    assert sent == [(2, 3), (3, 3)]


def test_networks_are_served_fairly() -> None:
    rig = Rig(Options(NATIVE, packet_rate=1e6))
    rig.switch(1, 8)
    for number, port in ((1, 3), (2, 5)):
        rig.change(None, network(number, endpoint(11, 1, port), endpoint(12, 1, port + 1)))
    index = {number: rig.state.rulesdb.networks[str(number)].index for number in (1, 2)}

    def up(number: int, port: int, source: int, destination: int) -> None:
        match = of.Match(in_port=port, metadata=pipeline.entered(index[number], None))
        cookie = pipeline.cookie(index[number], Kind.FLOOD)
        head = of.PacketInHead(of.NO_BUFFER, 60, 1, Table.HOST, cookie, match)
        rig.dispatcher.packet_in(1, of.PacketIn(head, frame(destination, source)), rig.now)

    def learned(number: int) -> list[int]:
        return sorted(h.mac for h in rig.state.locator.hosts(str(number)))

    for n in range(10 * QUANTUM):
        up(1, 3, mac(n + 1), BROADCAST)
    assert len(learned(1)) == 10 * QUANTUM - QUEUE_LIMIT
    up(2, 5, mac(5000), BROADCAST)
    # The second network does not wait for the first one's storm.
    assert learned(2) == [mac(5000)]
    up(1, 3, mac(6000), BROADCAST)
    assert mac(6000) not in learned(1)
    # What waited comes in order, and nothing is lost.
    assert rig.dispatcher.serve_queued(rig.now)
    at_once = 10 * QUANTUM - QUEUE_LIMIT + 1
    assert learned(1) == [mac(n + 1) for n in range(at_once + QUANTUM)]
    while rig.dispatcher.serve_queued(rig.now):
        pass
    assert learned(1) == [mac(n + 1) for n in range(10 * QUANTUM)] + [mac(6000)]
    assert not rig.dispatcher.dropped


def test_queued_frames_are_dropped_with_their_network() -> None:
    rig = _rig(rules=NATIVE, packet_rate=1e6)
    index = rig.state.rulesdb.networks["1"].index
    match = of.Match(in_port=3, metadata=pipeline.entered(index, None))
    head = of.PacketInHead(of.NO_BUFFER, 60, 1, Table.HOST, pipeline.cookie(index, Kind.FLOOD), match)
    for n in range(2 * QUANTUM):
        rig.dispatcher.packet_in(1, of.PacketIn(head, frame(BROADCAST, mac(n + 1))), rig.now)
    rig.change(rig.networks[0], None)
    assert not rig.dispatcher.serve_queued(rig.now)
    assert not rig.dispatcher.fair_queue.pending


def test_a_packet_from_an_unclaimed_place_belongs_to_no_network() -> None:
    rig = _rig()
    index = rig.state.rulesdb.networks["1"].index
    for match in (
        of.Match(),
        of.Match(in_port=3),
        of.Match(in_port=9, metadata=pipeline.entered(index, None)),
        of.Match(in_port=3, metadata=pipeline.entered(index + 1, None)),
        of.Match(in_port=3, metadata=pipeline.entered(index, 7)),
    ):
        message = _up(rig, 1)
        head = replace(message.head, match=match)
        rig.dispatcher.packet_in(1, of.PacketIn(head, message.frame), rig.now)
    assert not list(rig.state.locator.hosts("1"))


def test_silent_hosts_of_native_networks_expire_by_time() -> None:
    rig = _rig(rules=NATIVE, host_age=30)
    rig.check(1, 3, frame(BROADCAST, mac(1)))
    for _ in range(10):
        rig.tick()
    assert rig.state.locator.find("1", mac(1)) is not None
    for _ in range(15):
        rig.tick()
    assert rig.state.locator.find("1", mac(1)) is None


payloads = st.binary(max_size=120)
numbers = st.integers(0, 2**64 - 1)


@pytest.mark.parametrize("rules", [VLAN, NATIVE], ids=["vlan", "native"])
@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=30)
@given(
    st.lists(
        st.tuples(
            st.sampled_from((1, 2)),
            st.sampled_from((*Table, 77)),
            st.integers(1, 5),
            st.one_of(numbers, st.sampled_from((1 << 32, (1 << 32) + (1 << 31)))),
            st.one_of(payloads, st.builds(lambda o: frame(BROADCAST, mac(1))[:12] + o, payloads)),
            st.booleans(),
        ),
        max_size=30,
    )
)
def test_no_packet_in_raises_an_exception(rules: Any, sent: list[Any]) -> None:
    rig = _rig(rules=rules)
    for dpid, table, port, metadata, junk, removed in sent:
        match = of.Match(in_port=port, metadata=metadata)
        cookie = pipeline.cookie(1, Kind.HOST)
        if removed:
            gone = of.FlowRemoved(cookie | metadata & 15, 1, metadata & 3, table, match=match)
            rig.dispatcher.flow_removed(dpid, gone)
        else:
            rig.dispatcher.packet_in(
                dpid, of.PacketIn(of.PacketInHead(0, 1, 1, table, cookie, match), junk), rig.now
            )
    rig.settle()
    rig.tick()
