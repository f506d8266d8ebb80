"""The controller's reaction to switches, ports and links that appear, fail and return."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane.pipeline import Kind
from libnetvirt.controller.engine import topology_events
from libnetvirt.controller.engine.controller import Options
from libnetvirt.controller.intent.facts import LABELS, KnownLink
from libnetvirt.controller.reports import views
from libnetvirt.model import Encapsulation, Rules, State
from tests.support.controller_rig import (
    BROADCAST,
    VLAN,
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

ONE = network(1, endpoint(11, 1, 3), endpoint(12, 3, 3), endpoint(13, 4, 3))


def _ringed(chance: Random | None = None) -> Rig:
    rig = Rig(chance=chance)
    ring(rig, 4)
    rig.change(None, ONE)
    for n, dpid in ((1, 1), (2, 3), (3, 4)):
        rig.check(dpid, 3, frame(BROADCAST, mac(n)))
    return rig


def _states(rig: Rig) -> list[State]:
    entry = rig.state.rulesdb.networks["1"]
    return [state for _, state, _ in views.endpoint_states(rig.state, entry, rig.now)]


def _outer(rig: Rig) -> dict[int, int]:
    return {dpid: rig.space.tunnel(dpid).label for dpid in (1, 3, 4)}


def test_traffic_is_rerouted_around_a_failed_link() -> None:
    rig = _ringed()
    for one in ((1, 2), (2, 2), (3, 2), (4, 2)):
        rig.cut(one)
        assert places(rig.check(1, 3, frame(BROADCAST, mac(1)))) == [(3, 3), (4, 3)]
        assert places(rig.check(1, 3, frame(mac(2), mac(1)))) == [(3, 3)]
        rig.holds_what_it_should()
        rig.cut(one, up=True)
        assert places(rig.check(3, 3, frame(mac(3), mac(2)))) == [(4, 3)]
        rig.holds_what_it_should()
    assert len(rig.state.paths.edges) == 8


def test_a_tunnel_keeps_its_label_if_only_its_ingress_changes() -> None:
    rig = Rig()
    line(rig, 4)
    rig.fabric.link((1, 4), (4, 4))
    rig.change(None, network(1, endpoint(11, 1, 3), endpoint(12, 4, 3)))
    was = rig.space.tunnel(4)
    rig.pending.add(rig.core.topology.lldp(1, [4], rig.now))
    rig.pending.add(rig.core.topology.lldp(4, [4], rig.now))
    rig.settle()
    assert len(rig.state.paths.path(1, 4) or ()) == 1
    assert rig.space.tunnel(4) == was
    rig.cut((1, 4))
    assert rig.space.tunnel(4) == was
    rig.holds_what_it_should()


def _with_detour(chance: Random | None = None) -> Rig:
    """1 - 2 - 3 - 4, where 2 has a short cut to 4 that is down."""
    rig = Rig(chance=chance)
    line(rig, 4)
    rig.link((2, 4), (4, 4))
    rig.change(None, network(1, endpoint(11, 1, 3), endpoint(12, 4, 3)))
    for n, dpid in ((1, 1), (2, 4)):
        rig.check(dpid, 3, frame(BROADCAST, mac(n)))
    rig.cut((2, 4))
    return rig


def test_a_tunnel_gets_a_new_label_if_a_transit_rule_changes() -> None:
    rig = _with_detour()
    was = rig.space.tunnel(4)
    rig.cut((2, 4), up=True)
    now = rig.space.tunnel(4)
    assert now.number == was.number
    assert now.label != was.label
    assert was.label not in vars(rig.space)["_outer"]
    rig.holds_what_it_should()
    assert places(rig.check(1, 3, frame(mac(2), mac(1)))) == [(4, 3)]


def test_a_disconnected_ingress_keeps_sending_into_the_tunnel() -> None:
    rig = _with_detour()
    was = rig.space.tunnel(4)
    rig.disconnect(1)
    rig.cut((2, 4), up=True)
    assert rig.space.tunnel(4) == was
    assert places(rig.check(1, 3, frame(mac(2), mac(1)))) == [(4, 3)]


@pytest.mark.parametrize("seed", range(10))
def test_a_link_that_comes_up_loses_no_frame(seed: int) -> None:
    rig = _ringed(Random(seed))
    rig.cut((1, 2))
    seen: list[list[Any]] = []
    rig.between = lambda: seen.append(rig.fabric.probe(1, 3, frame(mac(2), mac(1))))
    rig.cut((1, 2), up=True)
    rig.between = lambda: None
    assert {tuple(places(out)) for out in seen} == {((3, 3),)}
    assert len(vars(rig.space)["_outer"]) == len(rig.space.tunnels())


def test_paths_are_rerouted_when_all_labels_are_in_use() -> None:
    rig = _ringed()
    vars(rig.space)["_outer"].update(LABELS[Encapsulation.VLAN])
    was = _outer(rig)
    rig.cut((1, 2))
    assert places(rig.check(1, 3, frame(BROADCAST, mac(1)))) == [(3, 3), (4, 3)]
    rig.cut((1, 2), up=True)
    assert places(rig.check(1, 3, frame(BROADCAST, mac(1)))) == [(3, 3), (4, 3)]
    assert _outer(rig) == was


def test_an_island_is_reached_again_when_its_link_is_back() -> None:
    rig = Rig()
    line(rig, 2)
    rig.change(None, network(1, endpoint(11, 1, 3), endpoint(12, 2, 3), endpoint(13, 1, 4)))
    rig.cut((1, 2))
    assert places(rig.inject(1, 3, frame(BROADCAST, mac(1)))) == [(1, 4)]
    entry = rig.state.rulesdb.networks["1"]
    states = {b.endpoint.uuid: state for b, state, _ in views.endpoint_states(rig.state, entry, rig.now)}
    assert states == {"11": State.ACTIVE, "12": State.DOWN, "13": State.ACTIVE}
    rig.cut((1, 2), up=True)
    assert places(rig.inject(1, 3, frame(BROADCAST, mac(1)))) == [(1, 4), (2, 3)]


@pytest.mark.parametrize("dpid", [1, 2, 3])
def test_a_switch_that_lost_its_rules_gets_them_again(dpid: int) -> None:
    rig = _ringed()
    rig.disconnect(dpid)
    rig.fabric.switches[dpid].wipe()
    rig.connect(dpid, 4)
    rig.holds_what_it_should()
    assert places(rig.check(1, 3, frame(mac(2), mac(1)))) == [(3, 3)]


def test_a_switch_that_connects_again_is_not_touched() -> None:
    rig = _ringed()
    for dpid in (1, 2, 3, 4):
        rig.disconnect(dpid)
        rig.pending.add(rig.core.topology.switch_up(rig.view(dpid, 4), rig.now))
        assert rig.core.reconciler.reconcile(dpid, rig.fabric.switches[dpid].dump()).plan.rounds == []
        rig.settle()


def test_a_new_controller_changes_nothing_in_the_switches() -> None:
    rig = _ringed()
    held = {d: (dict(s.flows), dict(s.groups)) for d, s in rig.fabric.switches.items()}
    facts = facts_of(rig.core)
    again = Rig()
    again.known = rig.known
    again.fabric = rig.fabric
    again.core.load(rig.networks, facts, again.now)
    lost: list[int] = []
    again.between = lambda: lost.extend(
        1 for p in (((3, 3)),) if p not in places(again.fabric.probe(1, 3, frame(mac(2), mac(1))))
    )
    for dpid in (3, 1, 4, 2):
        again.connect(dpid, 4)
    again.between = lambda: None
    assert not lost
    assert {h.mac: h.endpoint for h in again.state.locator.hosts("1")} == {
        mac(1): "11",
        mac(2): "12",
        mac(3): "13",
    }
    assert {d: (dict(s.flows), dict(s.groups)) for d, s in again.fabric.switches.items()} == held
    assert places(again.check(1, 3, frame(mac(2), mac(1)))) == [(3, 3)]


def test_changes_made_while_a_switch_was_away_are_applied_on_its_return() -> None:
    rig = _ringed()
    rig.disconnect(3)
    more = ONE.changed(endpoints=(*ONE.endpoints[:1], endpoint(14, 3, 4, 20)))
    rig.change(ONE, more)
    rig.connect(3, 4)
    rig.holds_what_it_should()
    assert places(rig.check(1, 3, frame(BROADCAST, mac(1)))) == [(3, 4)]
    assert rig.inject(3, 3, frame(BROADCAST, mac(2))) == []


def test_foreign_rules_are_kept() -> None:
    rig = _ringed()
    from_others = of.FlowMod(cookie=99, table_id=9, priority=5, match=of.Match(in_port=1))
    group = of.GroupMod(of.GroupModCommand.ADD, of.GroupType.ALL, 77)
    for message in (from_others, group):
        rig.fabric.switches[1].take(message)
    rig.disconnect(1)
    rig.connect(1, 4)
    rig.change(ONE, None)
    assert [f.cookie for f in rig.fabric.switches[1].flows.values() if f.table == 9] == [99]
    assert list(rig.fabric.switches[1].groups) == [77]


def test_a_pending_endpoint_comes_up_with_its_switch() -> None:
    rig = Rig()
    line(rig, 2)
    rig.change(None, network(1, endpoint(11, 1, 3), endpoint(12, 9, "s9-eth3")))
    assert _states(rig)[1] is State.PENDING
    rig.switch(9)
    rig.link((2, 2), (9, 1))
    assert _states(rig) == [State.ACTIVE, State.ACTIVE]
    assert places(rig.inject(1, 3, frame(BROADCAST, mac(1)))) == [(9, 3)]
    rig.holds_what_it_should()


def test_an_endpoint_follows_its_ports_name() -> None:
    rig = Rig()
    rig.switch(1)
    rig.change(None, network(1, endpoint(11, 1, "s1-eth3"), endpoint(12, 1, 4)))
    for number, name in ((3, "other"), (7, "s1-eth3")):
        status = of.PortStatus(of.PortStatusReason.MODIFY, of.PortDesc(number, name=name))
        rig.pending.add(rig.core.topology.port_status(1, status, rig.now))
    rig.settle()
    assert places(rig.inject(1, 4, frame(BROADCAST, mac(1)))) == [(1, 7)]
    assert rig.inject(1, 3, frame(BROADCAST, mac(2))) == []
    rig.holds_what_it_should()


def test_a_link_survives_a_short_loss_of_the_control_connection() -> None:
    rig = _ringed()
    rig.tick()
    rig.disconnect(2)
    for _ in range(6):
        rig.tick()
    assert len(rig.state.paths.edges) == 8
    rig.connect(2, 4)
    for _ in range(5):
        rig.tick()
        assert len(rig.state.paths.edges) == 8
    assert "path.moved" not in rig.kinds()


def test_traffic_is_rerouted_around_a_switch_that_stays_away() -> None:
    rig = _ringed()
    rig.disconnect(2)
    for _ in range(12):
        rig.tick()
    assert [e.destination for e in rig.state.paths.path(1, 3) or ()] == [4, 3]
    assert places(rig.check(1, 3, frame(mac(2), mac(1)))) == [(3, 3)]


def test_links_are_stored_once() -> None:
    rig = Rig()
    line(rig, 2)
    links = {KnownLink(1, 2, 2, 1), KnownLink(2, 1, 1, 2)}
    rig.core.journal_links()
    assert set(rig.state.journal.take().values()) == {(link, True) for link in links}
    rig.core.journal_links()
    assert not rig.state.journal.take()
    rig.cut((1, 2))
    rig.core.journal_links()
    assert set(rig.state.journal.take().values()) == {(link, False) for link in links}


def test_a_switch_with_too_many_ports_is_not_believed_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = _ringed()
    view = rig.state.switches[1]
    monkeypatch.setattr("libnetvirt.controller.intent.switches.MAX_PORTS", len(view.ports) + 1)

    def report(reason: of.PortStatusReason, number: int) -> None:
        status = of.PortStatus(reason, of.PortDesc(number, name=f"p{number}"))
        rig.pending.add(rig.core.topology.port_status(1, status, rig.now))

    known = set(view.ports)
    for number in (101, 102, 103):
        report(of.PortStatusReason.ADD, number)
    assert set(view.ports) == {*known, 101}
    (note,) = views.substrate(rig.state).switches[0].notes
    assert note.startswith("it has more than")
    report(of.PortStatusReason.MODIFY, 101)
    report(of.PortStatusReason.DELETE, 101)
    report(of.PortStatusReason.ADD, 104)
    assert set(view.ports) == {*known, 104}


def test_the_substrate_is_reported() -> None:
    rig = _ringed()
    found = views.substrate(rig.state)
    assert [s.id for s in found.switches] == ["1", "2", "3", "4"]
    assert [(p.number, p.use) for p in found.switches[0].ports] == [
        (1, "link"),
        (2, "link"),
        (3, "endpoint"),
        (4, ""),
    ]
    assert len(found.links) == 8
    paths = {(p.source, p.destination): p for p in views.paths(rig.state, rig.state.rulesdb.networks["1"])}
    assert [(h.switch, h.in_port, h.out_port) for h in paths["11", "12"].hops] == [
        ("1", "3", "2"), ("2", "1", "2"), ("3", "1", "3")
    ]  # fmt: skip
    state = views.network_state(rig.state, rig.state.rulesdb.networks["1"], rig.now)
    assert (state.mtu, len(state.hosts), state.state) == (1492, 3, State.ACTIVE)


def test_every_rule_and_group_has_a_line() -> None:
    rig = _ringed()
    for dpid, switch in rig.fabric.switches.items():
        dump = switch.dump()
        lines = [views.rule_line(rig.state, dpid, flow) for flow in dump.flows]
        lines += [views.group_line(rig.state, dpid, group) for group in dump.groups]
        assert {line.network for line in lines} <= {"base", "link", "tunnel", "n1"}
    flows = [(d, f) for d, s in rig.fabric.switches.items() for f in s.dump().flows]
    counters = views.counters(rig.state, rig.state.rulesdb.networks["1"], flows)
    assert [c.endpoint for c in counters] == ["11", "12", "13"]
    assert Kind.HOST in {f.cookie & 0xFFFF for _, f in flows}


@pytest.mark.parametrize("rules", [VLAN, VLAN.model_copy(update={"encapsulation": Encapsulation.NATIVE})])
def test_declared_hosts_are_reached_before_their_switch_has_reconnected(rules: Rules) -> None:
    rig = Rig(Options(rules))
    rig.stores = True
    line(rig, 3)
    rig.change(None, network(1, endpoint(11, 1, 3, None, 1), endpoint(12, 3, 3, None, 2)))
    sent = frame(mac(1), mac(2))
    assert places(rig.check(3, 3, sent)) == [(1, 3)]
    rig.restart({2: 4, 3: 4})
    assert places(rig.fabric.inject(3, 3, sent)) == [(1, 3)]
    rig.connect(1, 4)
    assert places(rig.check(3, 3, sent)) == [(1, 3)]
    rig.holds_what_it_should()


def test_numbers_are_released_if_a_removal_is_interrupted_after_the_commit() -> None:
    rig = Rig()
    rig.stores = True
    line(rig, 3)
    rig.change(None, network(1, endpoint(11, 1, 3), endpoint(12, 3, 3)))
    rig.execute(rig.core.operations.begin(rig.networks[0], None))
    rig.commit()
    rig.restart({1: 4, 2: 4, 3: 4})
    assert rig.state.labels.networks() == []
    assert rig.space.tunnels() == []
    rig.commit()
    assert not [fact for fact in rig.stored if fact[0] not in ("link", "last-index")]


def test_switches_that_belong_to_nothing_are_forgotten_beyond_a_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(topology_events, "STRANGER_LIMIT", 8)
    rig = Rig()
    line(rig, 2)
    rig.switch(3)
    waiting = network(1, endpoint(11, 1, 3), endpoint(12, 2, 3), endpoint(13, 3, 9))
    rig.change(None, waiting)
    known = len(vars(rig.state.installed)["_switches"])
    for dpid in (1, 2, 3):
        rig.disconnect(dpid)
    for dpid in range(101, 121):
        rig.now += 0.1
        rig.switch(dpid)
        rig.disconnect(dpid)
    rig.switch(200)
    rig.tick()
    assert len(rig.state.switches) == 3 + 20 + 1, "they may come back yet"
    rig.tick(rig.state.options.hold + 1.0)
    # Those of networks, those that are connected, and the last of those that are neither.
    assert set(rig.state.switches) == {1, 2, 3, 200, *range(113, 121)}
    assert len(vars(rig.state.installed)["_switches"]) == known + 1 + 8
    assert {dpid for dpid, _ in vars(rig.state.discovery)["_sent"]} <= set(rig.state.switches)
    assert vars(rig.core.restart)["_compared"] == set(rig.state.switches)
    for dpid in range(102, 113):
        del rig.fabric.switches[dpid]
    for dpid in (1, 2, 3, 101):
        rig.connect(dpid, 4)
    rig.tick()
    rig.holds_what_it_should()


def test_a_switch_of_a_path_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topology_events, "STRANGER_LIMIT", 0)
    rig = _ringed()
    rig.disconnect(2)
    rig.switch(9)
    rig.disconnect(9)
    rig.tick(rig.state.options.hold + 1.0)
    assert 2 in rig.state.switches
    assert 9 not in rig.state.switches
    del rig.fabric.switches[9]
    rig.connect(2, 4)
    rig.holds_what_it_should()
