"""Operations: their messages, their scope, and that failed ones leave no trace."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.installed import Installed
from libnetvirt.controller.dataplane.pipeline import Kind, Table
from libnetvirt.controller.engine.controller import Controller, Options
from libnetvirt.controller.engine.state import TunnelUsers
from libnetvirt.controller.intent.facts import LABELS, TunnelLabel
from libnetvirt.controller.intent.labels import Tunnel
from libnetvirt.errors import LabelsExhausted
from libnetvirt.model import Encapsulation, Endpoint
from tests.support.controller_rig import (
    BROADCAST,
    NATIVE,
    VLAN,
    Rig,
    counted,
    endpoint,
    facts_of,
    frame,
    line,
    mac,
    network,
    places,
    ring,
)


def _entries(installed: Installed, rig: Rig) -> dict[int, Any]:
    return {d: {k: p.entry for k, p in installed.on(d).items()} for d in rig.fabric.switches}


def _state(core: Controller) -> dict[str, Any]:
    """All that an operation may change, in a form that compares. Labels go round: the last one given is
    not compared, nor is what the store need not be told."""
    labels: dict[Any, Any] = {"indexes": dict(vars(core.state.labels)["_indexes"])}
    labels["rules"] = dict(vars(core.state.labels)["_rules"])
    for kind, space in core.state.labels.spaces.items():
        for name in ("_tunnels", "_numbers", "_outer"):
            labels[kind, name] = copy.deepcopy(vars(space)[name])
        for name in ("_services", "_inner"):
            labels[kind, name] = {d: copy.copy(x) for d, x in vars(space)[name].items() if x}
    installed = vars(core.state.installed)
    return {
        "labels": labels,
        "units": {u: dict(p) for u, p in installed["_units"].items()},
        "entries": {d: dict(p) for d, p in installed["_switches"].items() if p},
        "needs": {
            k: {e: dict(c) for e, c in n.by_egress.items() if c} for k, n in core.state.tunnel_users.items()
        },
        "networks": {u: (e.description, e.index, e.rules) for u, e in core.state.rulesdb.networks.items()},
        "indexes": set(core.state.rulesdb.by_index),
        "places": {p: b.endpoint for p, b in core.state.rulesdb.by_point.items()},
        "ports": dict(core.state.rulesdb.ports),
        "names": dict(core.state.rulesdb._names),
        "hosts": {u: list(core.state.locator.hosts(u)) for u in core.state.rulesdb.networks},
        "located": set(core.state.locator._networks),
        "native": dict(core.state.locator._native),
    }


# ---- what a network does ---------------------------------------------------------------------------


def test_a_network_on_two_switches() -> None:
    rig = Rig()
    line(rig, 2)
    rig.change(None, network(1, endpoint(11, 1, 3), endpoint(12, 1, 4, 20), endpoint(13, 2, 3, 30)))
    assert places(rig.check(1, 3, frame(BROADCAST, mac(1)))) == [(1, 4), (2, 3)]
    assert places(rig.check(2, 3, frame(mac(1), mac(3), vlan=30))) == [(1, 3)]
    assert places(rig.check(1, 3, frame(mac(3), mac(1)))) == [(2, 3)]
    assert places(rig.check(1, 3, frame(mac(9), mac(1)))) == [(1, 4), (2, 3)]
    assert rig.check(1, 4, frame(BROADCAST, mac(1))) == []  # no tag: nobody's
    assert rig.check(1, 4, frame(BROADCAST, mac(1), vlan=21)) == []
    rig.holds_what_it_should()


def test_endpoints_that_share_a_port_reach_each_other_through_it() -> None:
    rig = Rig()
    rig.switch(1)
    rig.change(None, network(1, endpoint(11, 1, 3), endpoint(12, 1, 3, 20), endpoint(13, 1, 3, 30)))
    sent = frame(BROADCAST, mac(1), vlan=20)
    assert [f[12:16] for _, _, f in rig.check(1, 3, sent)] == [b"\x81\x00\x00\x1e", b"\x88\xb5.."]
    assert [f[12:16] for _, _, f in rig.check(1, 3, frame(mac(1), mac(2)))] == [b"\x81\x00\x00\x14"]
    assert rig.check(1, 3, frame(mac(1), mac(3), vlan=20)) == []


def test_hosts_with_equal_addresses_in_two_networks_stay_isolated() -> None:
    rig = Rig()
    line(rig, 2)
    for uuid, vlan in ((1, None), (2, 20)):
        rig.change(None, network(uuid, endpoint(11, 1, 3, vlan), endpoint(12, 2, 3, vlan)))
        rig.check(1, 3, frame(BROADCAST, mac(1), vlan=vlan))
        rig.check(2, 3, frame(BROADCAST, mac(2), vlan=vlan))
    for vlan in (None, 20):
        assert places(rig.check(1, 3, frame(mac(2), mac(1), vlan=vlan))) == [(2, 3)]


@pytest.mark.parametrize("rules", [VLAN, NATIVE], ids=["vlan", "native"])
def test_guests_may_send_lldp_to_each_other(rules: Any) -> None:
    rig = Rig(Options(rules))
    line(rig, 2)
    rig.change(None, network(1, endpoint(11, 1, 3), endpoint(12, 2, 3)))
    sent = pipeline.LLDP_ADDRESS.to_bytes(6) + mac(1).to_bytes(6) + b"\x88\xcc" + bytes(46)
    assert places(rig.check(1, 3, sent)) == [(2, 3)]
    assert not rig.state.discovery.forged
    assert not rig.state.discovery.foreign


def test_lldp_with_an_unclaimed_tag_causes_no_packet_in() -> None:
    rig = Rig()
    rig.switch(1)
    sent = pipeline.LLDP_ADDRESS.to_bytes(6) + mac(1).to_bytes(6) + b"\x81\x00\x00\x07\x88\xcc" + bytes(46)
    rig.fabric.inject(1, 3, sent)
    assert not rig.fabric.up


def test_tunnel_tags_from_hosts_are_dropped() -> None:
    rig = Rig()
    line(rig, 2)
    rig.change(None, network(1, endpoint(11, 1, 3), endpoint(12, 2, 3), endpoint(13, 1, 4, 20)))
    body = b"\x88\xb5" + bytes(46)
    for outer in range(1, 6):
        for inner in range(1, 6):
            tags = b"\x88\xa8" + outer.to_bytes(2) + b"\x88\xa8" + inner.to_bytes(2)
            for port in (3, 4):
                assert rig.check(1, port, BROADCAST.to_bytes(6) + mac(1).to_bytes(6) + tags + body) == []


def test_declared_hosts_are_known_at_once_and_cannot_be_hijacked() -> None:
    rig = Rig()
    line(rig, 2)
    rig.change(None, network(1, endpoint(11, 1, 3, None, 1), endpoint(12, 2, 3), endpoint(13, 2, 4)))
    assert places(rig.check(2, 3, frame(mac(1), mac(2)))) == [(1, 3)]
    assert rig.check(2, 3, frame(BROADCAST, mac(1))) == []
    assert rig.state.locator.find("1", mac(1)).endpoint == "11"  # type: ignore[union-attr]
    assert places(rig.check(1, 3, frame(BROADCAST, mac(1)))) == [(2, 3), (2, 4)]


def test_hosts_learned_at_an_endpoint_move_along() -> None:
    rig = Rig()
    line(rig, 2)
    one = network(1, endpoint(11, 1, 3), endpoint(12, 2, 3), endpoint(13, 1, 4))
    rig.change(None, one)
    rig.check(1, 3, frame(BROADCAST, mac(1)))
    rig.change(one, network(1, endpoint(11, 2, 4), endpoint(12, 2, 3), endpoint(13, 1, 4)))
    assert places(rig.check(2, 3, frame(mac(1), mac(2)))) == [(2, 4)]
    assert places(rig.check(1, 4, frame(mac(1), mac(3)))) == [(2, 4)]
    rig.holds_what_it_should()


def test_many_endpoints_on_one_switch_are_flooded_by_several_groups() -> None:
    rig = Rig()
    rig.switch(1, 600)
    rig.change(None, network(1, *(endpoint(p, 1, p) for p in range(1, 601))))
    assert len(rig.fabric.switches[1].groups) == 64
    assert places(rig.check(1, 300, frame(BROADCAST, mac(1)))) == [(1, p) for p in range(1, 601) if p != 300]


# ---- what a change touches -------------------------------------------------------------------------


def _spread(size: int) -> Rig:
    """A network of so many endpoints on four switches."""
    rig = Rig()
    ring(rig, 4, 600)
    rig.change(None, network(1, *(endpoint(n, 1 + n % 4, 3 + n // 4) for n in range(1, size + 1))))
    return rig


@pytest.mark.parametrize("switch", [1, 3])
def test_one_more_endpoint_costs_the_same_in_a_small_and_in_a_large_network(switch: int) -> None:
    costs = []
    for size in (10, 1000):
        rig = _spread(size)
        old = rig.networks[0]
        work = rig.change(old, old.changed(endpoints=(*old.endpoints, endpoint(9999, switch, 500))))
        costs.append(counted(work))
        assert work.plan.switches == {switch}
        rig.holds_what_it_should()
        back = rig.change(rig.networks[0], old)
        assert back.plan.switches == {switch}
        costs.append(counted(back))
    assert costs[0] == costs[2]
    assert costs[1] == costs[3]
    assert sum(costs[0].values()) == 2


def test_a_first_endpoint_on_a_switch_changes_only_its_own_networks_rules() -> None:
    rig = Rig()
    ring(rig, 4)
    rig.change(None, network(1, endpoint(11, 1, 3), endpoint(12, 2, 3)))
    two = network(2, endpoint(21, 1, 4), endpoint(22, 2, 4))
    rig.change(None, two)
    before = _entries(rig.state.installed, rig)
    rig.change(two, two.changed(endpoints=(*two.endpoints, endpoint(23, 3, 3))))
    index = rig.state.rulesdb.networks["1"].index
    for dpid, entries in before.items():
        for key, entry in entries.items():
            cookie = getattr(entry, "cookie", 0)
            if pipeline.cookie_network(cookie) == index or cookie & 0xFFFF in (Kind.BASE, Kind.LINK):
                assert rig.state.installed.on(dpid)[key].entry == entry
    assert places(rig.check(3, 3, frame(BROADCAST, mac(1)))) == [(1, 4), (2, 4)]


def test_an_empty_change_sends_no_messages() -> None:
    rig = Rig()
    line(rig, 2)
    one = network(1, endpoint(11, 1, 3), endpoint(12, 2, 3))
    rig.change(None, one)
    assert rig.change(one, one.changed(name="other")).plan.rounds == []
    assert rig.state.rulesdb.find("other") is not None


def test_creation_takes_one_round_and_removal_one_masked_delete_per_switch() -> None:
    rig = Rig()
    line(rig, 3)
    one = network(1, *(endpoint(10 * d + p, d, p) for d in (1, 2, 3) for p in (3, 4)))
    assert len(rig.change(None, one).plan.rounds) == 1
    for dpid in (1, 2, 3):
        rig.check(dpid, 3, frame(BROADCAST, mac(dpid)))
    (only,) = rig.change(one, None).plan.rounds
    for messages in only.values():
        masked = [m for m in messages if isinstance(m, of.FlowMod) and m.command == of.FlowModCommand.DELETE]
        assert len(masked) == 1
        others = [m for m in messages if isinstance(m, of.FlowMod) and m not in masked]
        assert {m.table_id for m in others} <= {Table.TUNNEL}


def test_a_plan_installs_egress_then_ingress_then_admission_and_removes_last() -> None:
    rig = Rig()
    line(rig, 2)
    one = network(1, endpoint(11, 1, 3), endpoint(12, 1, 4))
    rig.change(None, one)
    receive, send, admit, removal = rig.core.operations.begin(
        one, network(1, endpoint(11, 1, 3), endpoint(13, 2, 3))
    ).plan.rounds
    assert set(receive) == {1, 2}  # tunnels and floods at both
    assert {getattr(m, "table_id", Table.HOST) for m in send[1]} == {Table.HOST}
    assert [m.table_id for m in admit[2]] == [Table.CLASSIFY]  # type: ignore[attr-defined]
    group, flow = removal[1]
    assert isinstance(group, of.GroupMod)
    assert group.command == of.GroupModCommand.MODIFY  # one bucket less
    assert isinstance(flow, of.FlowMod)
    assert flow.command == of.FlowModCommand.DELETE_STRICT


# ---- and back --------------------------------------------------------------------------------------

SMALL = network(1, endpoint(11, 1, 3), endpoint(12, 1, 4))
LARGE = network(
    1, endpoint(11, 1, 3, None, 7), endpoint(12, 2, 4), endpoint(13, 3, 3, 20), endpoint(14, 3, 3)
)


@pytest.mark.parametrize(("before", "after"), [(None, LARGE), (SMALL, LARGE)])
def test_the_inverse_call_undoes_a_change(before: Any, after: Any) -> None:
    rig = Rig()
    ring(rig, 4)
    rig.change(None, network(5, endpoint(11, 1, 3, 5), endpoint(12, 4, 4, 5)))
    if before is not None:
        rig.change(None, before)
    was = _state(rig.core)
    rig.core.operations.begin(before, after)
    rig.core.operations.begin(after, before).cleanup()
    assert _state(rig.core)["entries"] == was["entries"]
    assert _state(rig.core)["needs"] == was["needs"]
    assert _state(rig.core)["places"] == was["places"]


def test_undoing_a_removal_restores_forwarding() -> None:
    rig = Rig()
    ring(rig, 4)
    rig.change(None, LARGE)
    rig.core.operations.begin(LARGE, None)
    rig.core.operations.begin(None, LARGE)
    for dpid, switch in rig.fabric.switches.items():
        rig.execute(rig.core.reconciler.reconcile(dpid, switch.dump()))
    rig.known = rig.known.after_change(LARGE, None)
    rig.check(1, 3, frame(BROADCAST, mac(7)))
    rig.check(3, 3, frame(mac(7), mac(8), vlan=20))
    rig.holds_what_it_should()


def _exhaust(rig: Rig, what: str) -> None:
    labels = vars(rig.space)
    if what == "outer":
        labels["_outer"].update(LABELS[Encapsulation.VLAN])
    elif what == "all outer but one":
        labels["_outer"].update(set(LABELS[Encapsulation.VLAN]) - {4000})
    else:
        labels["_inner"].setdefault(3, set()).update(LABELS[Encapsulation.VLAN])
        labels["_services"].setdefault(3, {})


@pytest.mark.parametrize("what", ["outer", "all outer but one", "inner"])
@pytest.mark.parametrize("before", [None, SMALL], ids=["create", "alter"])
def test_an_operation_without_free_labels_fails_without_trace(what: str, before: Any) -> None:
    rig = Rig()
    ring(rig, 4)
    rig.change(None, network(5, endpoint(11, 2, 3, 5)))
    if before is not None:
        rig.change(None, before)
        rig.check(1, 3, frame(BROADCAST, mac(1)))
    _exhaust(rig, what)
    was = _state(rig.core)
    with pytest.raises(LabelsExhausted):
        rig.core.operations.begin(before, LARGE)
    assert _state(rig.core) == was
    tunnels = facts_of(rig.core).of(TunnelLabel)
    assert {t.egress for t in tunnels} <= set(rig.space.tunnels())


def test_tunnels_are_there_as_long_as_a_network_needs_them() -> None:
    needs = TunnelUsers()
    assert needs.change(set(), {1, 2}) == {1, 2}
    assert needs.ingresses(1) == [2]
    assert needs.change(set(), {1, 2, 3}) >= {1, 2, 3}
    assert needs.ingresses(1) == [2, 3]
    assert needs.change({1, 2, 3}, {1, 2}) >= {3}
    assert needs.ingresses(1) == [2]
    assert needs.ingresses(3) == []
    needs.change({1, 2}, set())
    assert needs.ingresses(1) == [2]
    needs.change({1, 2}, set())
    assert not any(needs.by_egress.values())


def test_tunnels_are_shared_and_removed_with_their_last_network() -> None:
    rig = Rig()
    ring(rig, 4)
    networks = [network(u, endpoint(11, 1, 3, u), endpoint(12, 2, 3, u)) for u in (1, 2)]
    for one in networks:
        rig.change(None, one)
    assert sorted(rig.space.tunnels()) == [1, 2]
    tunnel = {
        (u, p.dpid, p.entry) for u in rig.state.installed.units("tunnel") for p in rig.state.installed.unit(u)
    }
    rig.change(networks[0], None)
    assert tunnel == {
        (u, p.dpid, p.entry) for u in rig.state.installed.units("tunnel") for p in rig.state.installed.unit(u)
    }
    rig.change(networks[1], None)
    assert rig.space.tunnels() == []
    assert not rig.state.installed.units("tunnel")
    assert isinstance(rig.space.tunnel(1), Tunnel)


def test_the_encapsulation_can_be_changed() -> None:
    rig = Rig()
    line(rig, 2)
    old = network(1, endpoint(11, 1, 3), endpoint(12, 2, 3))
    rig.change(None, old)
    new = old.changed(rules=NATIVE)
    rig.change(old, new)
    rig.known = rig.known.after_change(new, None)
    rig.check(1, 3, frame(BROADCAST, mac(1)))
    rig.check(2, 3, frame(mac(1), mac(2)))
    assert not rig.state.installed.units("tunnel")
    rig.change(new, old)
    rig.known = rig.known.after_change(new, None)
    rig.check(1, 3, frame(BROADCAST, mac(1)))
    rig.check(2, 3, frame(mac(1), mac(2)))
    assert not [
        f for s in rig.fabric.switches.values() for f in s.flows.values() if f.cookie & 0xFFFF == Kind.PATH
    ]
    rig.holds_what_it_should()


# ---- what an endpoint leaves behind --------------------------------------------------------------------

HERE = network(1, endpoint(11, 1, 3), endpoint(12, 2, 3))
BESIDE = network(1, endpoint(11, 1, 3), endpoint(12, 2, 3), endpoint(13, 2, 4))


def _elsewhere(before: Any) -> Any:
    return before.changed(
        endpoints=tuple(endpoint(12, 3, 3) if e.uuid == "12" else e for e in before.endpoints)
    )


def _moved_host(before: Any) -> Rig:
    """A rig where endpoint 12, with a host, has just moved from switch 2 to switch 3."""
    rig = Rig()
    line(rig, 3)
    rig.change(None, before)
    rig.check(2, 3, frame(BROADCAST, mac(2)))
    rig.check(1, 3, frame(mac(2), mac(1)))
    rig.lingers = True
    rig.change(before, _elsewhere(before))
    return rig


def _late(rig: Rig, before: Any) -> list[tuple[int, int]]:
    """Where a frame comes out that switch 1 still sends by the rules of ``before``."""
    stale = Rig()
    line(stale, 3)
    stale.change(None, before)
    stale.check(2, 3, frame(BROADCAST, mac(2)))
    switches = rig.fabric.switches
    now = switches[1]
    switches[1] = stale.fabric.switches[1]
    try:
        return places(rig.inject(1, 3, frame(mac(2), mac(1))))
    finally:
        switches[1] = now


@pytest.mark.parametrize("before", [HERE, BESIDE], ids=["the only one there", "beside another"])
def test_frames_sent_by_cached_flows_arrive_where_the_endpoint_was(before: Any) -> None:
    rig = _moved_host(before)
    assert places(rig.check(1, 3, frame(mac(2), mac(1)))) == [(3, 3)]
    assert _late(rig, before) == [(2, 3)]
    rig.linger_over()
    rig.settle()
    assert (2, 3) not in _late(rig, before)
    rig.holds_what_it_should()


@pytest.mark.parametrize("before", [HERE, BESIDE], ids=["the only one there", "beside another"])
def test_nothing_is_delivered_at_a_place_that_another_network_takes(before: Any) -> None:
    rig = _moved_host(before)
    other = network(2, endpoint(21, 2, 3), endpoint(22, 1, 4))
    rig.change(None, other)
    assert (2, 3) not in _late(rig, before)
    rig.holds_what_it_should()


def test_a_removed_endpoint_gets_no_frame_that_is_under_way() -> None:
    rig = Rig()
    line(rig, 3)
    rig.change(None, BESIDE)
    rig.check(2, 3, frame(BROADCAST, mac(2)))
    rig.lingers = True
    rig.change(BESIDE, BESIDE.changed(endpoints=BESIDE.endpoints[:1]))
    assert _late(rig, BESIDE) == []


def test_an_endpoint_may_move_to_and_fro_before_its_old_places_are_cleared() -> None:
    rig = Rig()
    line(rig, 3)
    now = HERE.changed(
        endpoints=(HERE.endpoints[0], HERE.endpoints[1].changed(bandwidth={"outbound": "5 Mbit/s"}))
    )
    rig.change(None, now)
    rig.check(2, 3, frame(BROADCAST, mac(2)))
    rig.lingers = True
    for step in range(8):
        if step == 5:
            (first, *_) = rig.core.deferred.transactions
            rig.execute(type(first)(rig.core.deferred.due(first), frozenset()))
            rig.pending.add(first.cleanup())
        switch, port = ((3, 3), (2, 3), (2, 4))[step % 3]
        then = now.changed(
            endpoints=(now.endpoints[0], now.endpoints[1].changed(switch=str(switch), port=str(port)))
        )
        rig.change(now, then)
        assert places(rig.check(1, 3, frame(mac(2), mac(1)))) == [(switch, port)]
        now = then
    rig.holds_what_it_should()


@pytest.mark.parametrize("tag", ["vlan", "mpls"])
def test_the_rules_of_endpoints_on_one_port_do_not_depend_on_how_they_came_to_be(tag: str) -> None:
    def ends(*labels: int) -> Any:
        tagged = [
            Endpoint.model_validate({"uuid": n, "switch": "1", "port": "3", tag: label})
            for n, label in enumerate(labels, 11)
        ]
        return network(1, endpoint(21, 2, 3)).changed(endpoints=(*tagged, endpoint(21, 2, 3)))

    rig, fresh = Rig(), Rig()
    line(rig, 2)
    line(fresh, 2)
    rig.change(None, ends(100, 200, 300, 400))
    rig.change(ends(100, 200, 300, 400), ends(100, 250, 300, 400))
    fresh.change(None, ends(100, 250, 300, 400))
    for dpid in (1, 2):
        assert _entries(rig.state.installed, rig)[dpid] == _entries(fresh.state.installed, fresh)[dpid]
