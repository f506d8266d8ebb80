"""On-demand networks: rules are installed on the first packet, and no frame overtakes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import permutations
from random import Random

import pytest

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.pipeline import Kind, Table
from libnetvirt.controller.engine.controller import Options
from libnetvirt.controller.engine.effects import REROUTE
from libnetvirt.controller.intent.locator import Host
from libnetvirt.controller.ondemand.flow_templates import GRACE
from libnetvirt.controller.ondemand.flows import QUEUE_LIMIT
from libnetvirt.controller.packetin.deferral import SOURCE_LIMIT
from tests.support.controller_rig import (
    BROADCAST,
    NATIVE,
    Rig,
    endpoint,
    facts_of,
    frame,
    line,
    mac,
    network,
    places,
    ring,
)

ONE = network(1, endpoint(11, 1, 3), endpoint(12, 3, 3, 20), endpoint(13, 3, 4))
THERE, HERE = mac(2), mac(1)


class Watched(Rig):
    """Notes what is sent, and confirms when told to."""

    def __init__(self) -> None:
        super().__init__(Options(NATIVE))
        self.sent: list[tuple[int, of.Message]] = []
        self.asked: list[tuple[int, Callable[[bool], None]]] = []
        self.hold = False
        line(self, 3)
        self.change(None, ONE)
        self.check(3, 3, frame(BROADCAST, THERE, vlan=20))
        self.check(1, 3, frame(BROADCAST, HERE))
        self.sent.clear()
        self.hold = True

    def send(self, dpid: int, message: of.Message) -> None:
        if getattr(self, "hold", False):
            self.sent.append((dpid, message))
        super().send(dpid, message)

    def confirm(self, dpid: int, done: Callable[[bool], None]) -> None:
        if self.hold:
            self.asked.append((dpid, done))
        else:
            super().confirm(dpid, done)

    def told(self, kind: type[of.Message]) -> list[int]:
        return [dpid for dpid, message in self.sent if isinstance(message, kind)]

    def confirm_all(self) -> None:
        asked, self.asked = self.asked, []
        for _, done in asked:
            done(True)
        self.settle()


def _host(rig: Rig, address: int) -> Host:
    host = rig.state.locator.find("1", address)
    assert host is not None
    return host


def _paths(rig: Rig) -> list[tuple[int, int]]:
    return sorted(
        (d, f.table)
        for d, s in rig.fabric.switches.items()
        for f in s.flows.values()
        if f.cookie & 0xFFFF == Kind.PATH
    )


def test_rules_are_installed_from_the_last_hop_to_the_first() -> None:
    rig = Watched()
    assert rig.inject(1, 3, frame(THERE, HERE, b"a")) == []
    assert rig.told(of.FlowMod) == [3, 2]
    assert [dpid for dpid, _ in rig.asked] == [3, 2]
    rig.asked.pop(0)[1](True)
    assert rig.told(of.FlowMod) == [3, 2]
    assert rig.told(of.PacketOut) == []
    rig.confirm_all()
    assert rig.told(of.FlowMod) == [3, 2, 1]
    assert rig.told(of.PacketOut) == [3]
    assert [f[-46:-45] for _, _, f in rig.out] == [b"a"]
    # From now on the switches know the way.
    assert places(rig.fabric.inject(1, 3, frame(THERE, HERE))) == [(3, 3)]
    assert not rig.fabric.up


def test_waiting_frames_are_released_in_order_and_bounded() -> None:
    rig = Watched()
    for n in range(QUEUE_LIMIT + 10):
        rig.inject(1, 3, frame(THERE, HERE, n.to_bytes(2)))
    assert rig.told(of.FlowMod) == [3, 2]
    rig.confirm_all()
    released = [int.from_bytes(m.frame[14:16]) for _, m in rig.sent if isinstance(m, of.PacketOut)]
    assert released == list(range(QUEUE_LIMIT))
    assert rig.state.ondemand.dropped == 10
    assert rig.dispatcher.all_dropped == 10


def test_frames_that_wait_for_a_path_that_moves_are_delivered_once() -> None:
    rig = Watched()
    for n in range(3):
        rig.inject(1, 3, frame(THERE, HERE, n.to_bytes(2)))
    assert rig.told(of.PacketOut) == []
    rig.cut((1, 2))
    rig.confirm_all()
    released = [int.from_bytes(m.frame[14:16]) for _, m in rig.sent if isinstance(m, of.PacketOut)]
    assert released == list(range(3))


def test_all_frames_that_waited_for_an_operation_may_wait_for_their_rules() -> None:
    assert QUEUE_LIMIT >= SOURCE_LIMIT
    rig = Watched()
    rig.dispatcher.busy = frozenset((ONE.uuid,))
    for n in range(SOURCE_LIMIT):
        rig.inject(1, 3, frame(THERE, HERE, n.to_bytes(2)))
    assert rig.told(of.FlowMod) == []
    rig.dispatcher.resume(rig.now)
    rig.confirm_all()
    released = [int.from_bytes(m.frame[14:16]) for _, m in rig.sent if isinstance(m, of.PacketOut)]
    assert released == list(range(SOURCE_LIMIT))
    assert rig.dispatcher.all_dropped == 0


def test_an_unconfirmed_rule_is_removed_and_the_next_frame_retries() -> None:
    rig = Watched()
    rig.inject(1, 3, frame(THERE, HERE))
    rig.asked.pop(0)[1](False)
    rig.asked.pop(0)[1](True)
    rig.confirm_all()
    assert not list(rig.state.ondemand)
    assert _paths(rig) == []
    rig.inject(1, 3, frame(THERE, HERE, b"again"))
    rig.confirm_all()
    assert places(rig.out) == [(3, 3)]
    assert _paths(rig) == [(1, Table.HOST), (2, Table.PATH), (3, Table.PATH)]


def test_a_switch_that_disconnects_before_confirming_fails_the_pair() -> None:
    rig = Watched()
    rig.inject(1, 3, frame(THERE, HERE))
    rig.disconnect(2)
    assert not list(rig.state.ondemand)
    rig.confirm_all()
    assert (1, Table.HOST) not in _paths(rig)


def test_the_expiry_of_the_ingress_rule_removes_the_others() -> None:
    rig = Watched()
    rig.inject(1, 3, frame(THERE, HERE))
    rig.confirm_all()
    flows = {
        d: f
        for d, s in rig.fabric.switches.items()
        for f in s.flows.values()
        if f.cookie & 0xFFFF == Kind.PATH
    }
    assert (flows[1].idle, flows[1].hard, flows[1].notify) == (60, 0, True)
    assert {(flows[d].idle, flows[d].notify) for d in (2, 3)} == {(60 + GRACE, False)}
    rig.fabric.switches[1].expire(flows[1])
    rig.settle()
    rig.confirm_all()
    assert _paths(rig) == []
    assert not list(rig.state.ondemand)


def test_a_pair_on_one_switch_needs_no_confirmation() -> None:
    rig = Watched()
    rig.hold = False
    rig.check(3, 4, frame(BROADCAST, mac(3)))
    assert places(rig.check(3, 4, frame(THERE, mac(3)))) == [(3, 3)]
    assert places(rig.fabric.inject(3, 4, frame(THERE, mac(3)))) == [(3, 3)]
    assert not rig.fabric.up


def test_broadcasts_are_sent_directly_to_the_endpoints() -> None:
    rig = Watched()
    assert places(rig.inject(1, 3, frame(BROADCAST, HERE))) == [(3, 3), (3, 4)]
    assert rig.told(of.PacketOut) == [3]
    assert rig.told(of.FlowMod) == []


def test_rules_follow_a_host_that_moves() -> None:
    rig = Watched()
    rig.hold = False
    rig.check(1, 3, frame(THERE, HERE))
    rig.check(3, 4, frame(BROADCAST, HERE))
    assert _paths(rig) == []
    assert places(rig.check(3, 3, frame(HERE, THERE, vlan=20))) == [(3, 4)]


def test_an_address_of_another_native_network_is_not_served() -> None:
    rig = Watched()
    rig.hold = False
    rig.change(None, network(2, endpoint(21, 1, 4), endpoint(22, 2, 3)))
    assert rig.inject(1, 4, frame(BROADCAST, HERE)) == []
    assert rig.inject(1, 4, frame(THERE, HERE)) == []
    assert rig.kinds().count("host.refused") == 1
    assert places(rig.check(1, 3, frame(THERE, HERE))) == [(3, 3)]


def test_paths_follow_topology_changes() -> None:
    rig = Rig(Options(NATIVE))
    ring(rig, 4)
    rig.change(None, network(1, endpoint(11, 1, 3), endpoint(12, 3, 3)))
    rig.check(1, 3, frame(BROADCAST, HERE))
    rig.check(3, 3, frame(HERE, THERE))
    assert _paths(rig) == [(1, Table.PATH), (2, Table.PATH), (3, Table.HOST)]
    rig.cut((1, 2))
    assert _paths(rig) == []
    assert places(rig.check(3, 3, frame(HERE, THERE))) == [(1, 3)]
    assert _paths(rig) == [(1, Table.PATH), (3, Table.HOST), (4, Table.PATH)]


def _restarted(rig: Rig, count: int, order: Sequence[int] = ()) -> Rig:
    """The same switches with a new controller."""
    facts = facts_of(rig.core)
    again = Rig(rig.state.options)
    again.known = rig.known
    again.fabric = rig.fabric
    again.core.load(rig.networks, facts, again.now)
    for dpid in order or range(1, count + 1):
        again.connect(dpid, 4)
    return again


def test_a_new_controller_adopts_existing_rules() -> None:
    rig = Watched()
    rig.hold = False
    rig.check(1, 3, frame(THERE, HERE))
    before = _paths(rig)
    again = _restarted(rig, 3)
    assert _paths(again) == before
    assert [dpid for r in again.state.ondemand for dpid, _ in r.downstream or ()] == [3, 2]
    assert again.state.locator.find("1", HERE).endpoint == "11"  # type: ignore[union-attr]
    assert places(again.fabric.inject(1, 3, frame(THERE, HERE))) == [(3, 3)]
    assert not again.fabric.up
    again.change(ONE, None)
    assert _paths(again) == []


ORDERS = list(permutations((1, 2, 3)))


@pytest.mark.parametrize("order", ORDERS)
def test_a_rule_is_adopted_in_any_order_of_switch_connections(order: Sequence[int]) -> None:
    """The destination has been silent for so long that only the rules that lead to it tell where it is."""
    rig = Watched()
    rig.hold = False
    rig.check(1, 3, frame(THERE, HERE))
    before = _paths(rig)
    again = _restarted(rig, 3, order)
    assert _paths(again) == before
    assert not again.fabric.up
    assert _host(again, THERE).endpoint == "12"
    # All of it is known: it goes with its destination.
    again.check(3, 4, frame(BROADCAST, THERE))
    assert _paths(again) == []


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("lost", [2, 3])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_rule_whose_path_is_broken_downstream_is_not_adopted(
    order: Sequence[int], lost: int, elsewhere: bool
) -> None:
    rig = Watched()
    rig.hold = False
    rig.check(1, 3, frame(THERE, HERE))
    switch = rig.fabric.switches[lost]
    (key,) = [k for k, f in switch.flows.items() if f.cookie & 0xFFFF == Kind.PATH]
    if elsewhere:
        switch.flows[key] = replace(switch.flows[key], instructions=())
    else:
        del switch.flows[key]
    again = _restarted(rig, 3, order)
    assert _paths(again) == []
    assert places(again.inject(1, 3, frame(THERE, HERE))) == [(3, 3), (3, 4)]  # nobody has said where it is
    again.check(3, 3, frame(BROADCAST, THERE, vlan=20))
    assert places(again.check(1, 3, frame(THERE, HERE))) == [(3, 3)]
    assert len(_paths(again)) == 3


def test_adoption_does_not_wait_forever_for_a_transit_switch() -> None:
    rig = Watched()
    rig.hold = False
    rig.check(1, 3, frame(THERE, HERE))
    again = _restarted(rig, 3, (1, 3))
    assert (1, Table.HOST) in _paths(again)
    again.now += again.state.options.hold + 1
    for effects in again.core.tick(again.now):
        again.pending.add(effects)
    again.settle()
    assert (1, Table.HOST) not in _paths(again)
    again.connect(2, 4)
    again.check(3, 3, frame(BROADCAST, THERE, vlan=20))
    assert places(again.check(1, 3, frame(THERE, HERE))) == [(3, 3)]


def test_rules_of_a_late_switch_keep_forwarding_and_are_adopted() -> None:
    rig = Watched()
    rig.hold = False
    rig.check(1, 3, frame(THERE, HERE))
    before = _paths(rig)
    again = _restarted(rig, 3, (2, 3))
    again.tick(again.state.options.hold + 1)
    assert _paths(again) == before
    assert places(again.fabric.inject(1, 3, frame(THERE, HERE))) == [(3, 3)]
    again.connect(1, 4)
    assert _paths(again) == before
    assert [len(r.downstream or ()) for r in again.state.ondemand] == [2]


@pytest.mark.parametrize("order", ORDERS)
def test_switches_that_reconnect_during_adoption_keep_forwarding(order: Sequence[int]) -> None:
    """A switch that is away makes paths through it dearer; that is no reason to doubt what was taken over."""
    rig = Watched()
    rig.hold = False
    rig.check(1, 3, frame(THERE, HERE))
    before = _paths(rig)
    again = _restarted(rig, 3, order[:2])
    for dpid in order[:2]:
        again.disconnect(dpid)
    again.pending.add(REROUTE)
    again.settle()
    for dpid in order:
        again.connect(dpid, 4)
        assert _paths(again) == before
        assert places(again.fabric.inject(1, 3, frame(THERE, HERE))) == [(3, 3)]
    assert not again.fabric.up
    assert [len(r.downstream or ()) for r in again.state.ondemand] == [2]


def test_adopted_rules_are_checked_again_when_a_link_fails_during_adoption() -> None:
    rig = Watched()
    rig.hold = False
    rig.check(1, 3, frame(THERE, HERE))
    again = _restarted(rig, 3, (1, 2))
    again.cut((1, 2))
    assert (1, Table.HOST) not in _paths(again)


def test_a_rule_whose_path_broke_before_its_ingress_switch_connected_is_not_adopted() -> None:
    rig = Watched()
    rig.hold = False
    rig.check(1, 3, frame(THERE, HERE))
    again = _restarted(rig, 3, (2, 3))
    again.disconnect(2)
    flows = again.fabric.switches[2].flows
    del flows[next(k for k, f in flows.items() if f.cookie & 0xFFFF == Kind.PATH)]
    again.connect(2, 4)
    again.connect(1, 4)
    assert _paths(again) == []


def test_leftover_rules_downstream_of_the_ingress_are_removed() -> None:
    """Its controller was killed between the removal of the first rule and that of the others."""
    rig = Watched()
    rig.hold = False
    rig.check(1, 3, frame(THERE, HERE))
    flows = rig.fabric.switches[1].flows
    del flows[next(k for k, f in flows.items() if f.cookie & 0xFFFF == Kind.PATH)]
    assert _paths(rig) == [(2, Table.PATH), (3, Table.PATH)]
    assert _paths(_restarted(rig, 3)) == []


def test_a_removed_endpoint_receives_nothing_from_adopted_rules() -> None:
    rig = Watched()
    rig.hold = False
    rig.check(1, 3, frame(THERE, HERE))
    again = _restarted(rig, 3)
    again.change(ONE, ONE.changed(endpoints=tuple(e for e in ONE.endpoints if e.uuid != "12")))
    assert places(again.inject(1, 3, frame(THERE, HERE))) == [(3, 4)]


MOVED = ONE.changed(endpoints=(ONE.endpoints[0], endpoint(12, 2, 3), ONE.endpoints[2]))


def test_a_rule_removed_while_its_switch_was_away_is_not_adopted() -> None:
    rig = Watched()
    rig.hold = False
    rig.check(1, 3, frame(THERE, HERE))
    rig.disconnect(1)
    rig.change(ONE, MOVED)
    rig.connect(1, 4)
    assert places(rig.check(1, 3, frame(THERE, HERE))) == [(2, 3)]


def test_a_rule_whose_endpoint_moved_while_its_switch_was_away_is_not_adopted() -> None:
    rig = Watched()
    rig.hold = False
    rig.check(1, 3, frame(THERE, HERE))
    rig.disconnect(1)
    rig.change(ONE, MOVED)
    again = _restarted(rig, 3)
    assert places(again.inject(1, 3, frame(THERE, HERE))) == [(2, 3), (3, 4)]


def test_a_rule_to_an_old_location_of_its_host_is_not_adopted() -> None:
    """The host is known from what it sends elsewhere; which switch comes first does not matter."""
    for order in ((1, 2, 3), (3, 2, 1)):
        rig = Watched()
        rig.hold = False
        rig.check(1, 3, frame(THERE, HERE))
        rig.disconnect(1)
        rig.change(ONE, MOVED)
        rig.inject(3, 4, frame(BROADCAST, mac(3)))
        rig.inject(2, 3, frame(mac(3), THERE))
        again = _restarted(rig, 3, order)
        assert places(again.inject(1, 3, frame(THERE, HERE))) == [(2, 3)]


def test_a_pair_is_set_up_again_when_a_switch_lost_a_rule() -> None:
    rig = Watched()
    rig.hold = False
    rig.check(1, 3, frame(THERE, HERE))
    rig.disconnect(2)
    rig.fabric.switches[2].wipe()
    rig.connect(2, 4)
    assert places(rig.check(1, 3, frame(THERE, HERE))) == [(3, 3)]


def test_a_removed_network_leaves_no_path_anywhere() -> None:
    rig = Watched()
    rig.hold = False
    rig.check(1, 3, frame(THERE, HERE))
    rig.change(ONE, None)
    assert _paths(rig) == []
    assert not list(rig.state.ondemand)


def test_rules_removed_while_a_switch_was_away_are_deleted_on_its_return() -> None:
    rig = Watched()
    rig.hold = False
    rig.check(1, 3, frame(THERE, HERE))
    rig.disconnect(2)
    rig.change(ONE, None)
    assert _paths(rig) == [(2, Table.PATH)]
    rig.connect(2, 4)
    assert _paths(rig) == []


def test_a_removed_pair_is_deleted_from_its_ingress_switch_first() -> None:
    for seed in range(20):
        rig = Rig(Options(NATIVE), Random(seed))
        line(rig, 3)
        rig.change(None, ONE)
        rig.check(3, 3, frame(BROADCAST, THERE, vlan=20))
        rig.check(1, 3, frame(BROADCAST, HERE))
        rig.check(1, 3, frame(THERE, HERE))
        lost: list[int] = []

        def between(rig: Rig = rig, lost: list[int] = lost) -> None:
            # Delivered by rules, or by the controller; never swallowed.
            up = len(rig.fabric.up)
            out = rig.fabric.inject(1, 3, frame(THERE, HERE))
            if not out and len(rig.fabric.up) == up:
                lost.append(1)
            del rig.fabric.up[up:]

        rig.between = between
        rig.state.ondemand.remove_host(_host(rig, THERE))
        rig.pump()
        rig.between = lambda: None
        assert not lost, seed


def test_a_pair_set_up_again_during_its_removal_keeps_common_rules() -> None:
    rig = Watched()
    rig.inject(1, 3, frame(THERE, HERE))
    rig.confirm_all()
    rig.state.ondemand.remove_host(_host(rig, THERE))
    (late,) = rig.asked
    rig.asked.clear()
    rig.inject(1, 3, frame(THERE, HERE))
    rig.confirm_all()
    late[1](True)
    rig.settle()
    assert places(rig.fabric.inject(1, 3, frame(THERE, HERE))) == [(3, 3)]
    assert _paths(rig) == [(1, Table.HOST), (2, Table.PATH), (3, Table.PATH)]


def test_frames_too_short_to_have_a_type_are_ignored() -> None:
    rig = Watched()
    attachment = rig.state.rulesdb.networks["1"].endpoints["11"]
    metadata = pipeline.entered(attachment.network.index, None)
    match = of.Match(in_port=3, metadata=metadata)
    cookie = pipeline.cookie(attachment.network.index, Kind.FLOOD)
    head = of.PacketInHead(of.NO_BUFFER, 5, 0, Table.HOST, cookie, match)
    rig.dispatcher.packet_in(1, of.PacketIn(head, b"short"), 0.0)
    assert not rig.sent


def test_rules_behind_the_first_switch_outlast_each_removal_of_their_pair() -> None:
    rig = Rig(Options(NATIVE))
    line(rig, 3)
    rig.change(None, ONE)
    rig.inject(3, 3, frame(BROADCAST, THERE, vlan=20))
    rig.inject(1, 3, frame(BROADCAST, HERE))
    rig.silent.add(0)  # where rules wait until frames in flight have passed
    for _ in range(2):
        rig.inject(1, 3, frame(THERE, HERE))
        assert [dpid for dpid, _ in _paths(rig)] == [1, 2, 3]
        rig.state.ondemand.remove_endpoints("1", ["12"])
        rig.settle()
        assert [dpid for dpid, _ in _paths(rig)] == [2, 3]
    # Those that were removed last have not waited long enough when the first have.
    for left in ([2, 3], []):
        over = rig.queues[0].popleft()
        assert callable(over)
        over(True)
        rig.settle()
        assert [dpid for dpid, _ in _paths(rig)] == left
