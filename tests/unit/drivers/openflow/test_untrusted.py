"""Switches that are not trusted: what is refused there, what stays, and what a network's state says."""

from __future__ import annotations

import pytest

from libnetvirt.controller.engine.controller import Options
from libnetvirt.controller.reports import views
from libnetvirt.controller.topology import probes
from libnetvirt.controller.topology.trust import Finding, Untrusted
from libnetvirt.driver import Change
from libnetvirt.drivers.openflow.driver import OpenFlowDriver
from libnetvirt.drivers.openflow.validation import Validator
from libnetvirt.errors import SwitchUntrusted
from libnetvirt.model import State, VirtualNetwork
from tests.support.controller_rig import VLAN, Rig, endpoint, network

MIRROR = Finding("mirror", "it mirrors", "ovs-vsctl clear Bridge s2 mirrors")
OLD = network(1, endpoint(11, 1, 3), endpoint(12, 2, 3))
ELSEWHERE = network(2, endpoint(21, 1, 4), endpoint(22, 1, 3, 20))
BESIDE = network(2, endpoint(21, 1, 4), endpoint(22, 2, 4))
ACROSS = network(2, endpoint(21, 1, 4), endpoint(22, 3, 4))


def line(untrusted: Untrusted = Untrusted.REFUSE) -> Rig:
    """Switches 1 - 2 - 3 in a line. A network is on 1 and 2; then 2 turns out to be unsafe."""
    rig = Rig(Options(VLAN, untrusted=untrusted))
    for dpid in (1, 2, 3):
        rig.switch(dpid)
    rig.link((1, 2), (2, 1))
    rig.link((2, 2), (3, 1))
    rig.change(None, OLD)
    rig.state.trust.found(2, "database", [MIRROR])
    return rig


def validate(rig: Rig, before: VirtualNetwork | None, after: VirtualNetwork, pending: bool = False) -> None:
    Validator(rig.core, OpenFlowDriver.offers(), lambda: {}).validate(Change(before, after, pending=pending))


def test_new_endpoints_on_it_are_refused_with_the_remedy() -> None:
    rig = line()
    for pending in (False, True):
        with pytest.raises(
            SwitchUntrusted, match=r"endpoint 22: switch 2 .*it mirrors.*clear Bridge s2 mirrors"
        ):
            validate(rig, None, BESIDE, pending)
    validate(rig, None, ELSEWHERE)
    with pytest.raises(SwitchUntrusted):
        validate(rig, OLD, OLD.changed(endpoints=(*OLD.endpoints, endpoint(13, 2, 4))))


def test_new_paths_through_it_are_refused() -> None:
    with pytest.raises(SwitchUntrusted, match=r"path from switch . leads through another switch: switch 2"):
        validate(line(), None, ACROSS)


def test_an_older_network_may_be_changed_there() -> None:
    rig = line()
    validate(rig, OLD, OLD.changed(endpoints=(OLD.endpoints[0], endpoint(12, 2, 3, None, 5))))
    validate(rig, OLD, OLD.changed(endpoints=(*OLD.endpoints, endpoint(13, 1, 4))))
    with pytest.raises(SwitchUntrusted):
        validate(rig, OLD, OLD.changed(endpoints=(endpoint(11, 2, 4), OLD.endpoints[1])))


def test_with_a_warning_everything_is_allowed() -> None:
    rig = line(Untrusted.WARN)
    validate(rig, None, BESIDE)
    validate(rig, None, ACROSS)


def test_the_state_says_where_frames_may_go_astray() -> None:
    rig = line(Untrusted.WARN)
    rig.change(None, ACROSS)
    records = rig.state.rulesdb.networks
    old, across = (views.network_state(rig.state, records[uuid], rig.now) for uuid in ("1", "2"))
    assert [(e.uuid, e.state) for e in old.endpoints] == [("11", State.ACTIVE), ("12", State.DEGRADED)]
    assert {e.state for e in across.endpoints} == {State.DEGRADED} == {across.state}
    assert all("switch 2 may forward" in e.reason for e in across.endpoints)
    notes = {s.id: s.notes for s in views.substrate(rig.state).switches}
    assert [n for n in notes["2"] if n.startswith("not trusted: it mirrors")]
    assert not notes["1"]
    rig.state.trust.found(2, "database", [])
    assert views.network_state(rig.state, records["2"], rig.now).state is State.ACTIVE


def test_only_bridges_of_open_vswitch_have_entries_that_count_probes() -> None:
    rig = line()
    assert all(entry.key in rig.state.installed.on(1) for entry in probes.ENTRIES.values())
    rig.description = "Another vendor's switch 1.0"
    rig.switch(4)
    assert not any(entry.key in rig.state.installed.on(4) for entry in probes.ENTRIES.values())
