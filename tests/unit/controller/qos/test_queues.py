"""Minimums enforced by queues: the queues of ports, and which frames use which."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libnetvirt import Rules
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.engine.controller import Options
from libnetvirt.controller.engine.effects import REROUTE
from libnetvirt.controller.intent.facts import rows
from libnetvirt.controller.intent.switches import SwitchView
from libnetvirt.controller.qos.capacities import Capacities
from libnetvirt.controller.qos.enforcement import Enforcement, Support
from libnetvirt.controller.qos.queues import DEFAULT, PortQueues, Queue, union
from libnetvirt.controller.qos.te_paths import check
from libnetvirt.controller.topology.pathfinder import LinkEnd
from libnetvirt.errors import ConstraintUnmet, InvalidDescription, Unsupported
from libnetvirt.model import Constraint, Encapsulation, VirtualNetwork
from tests.support.controller_rig import (
    BROADCAST,
    VLAN,
    Rig,
    as_stored,
    endpoint,
    facts_of,
    frame,
    line,
    mac,
    network,
)

MBIT = 1_000_000
FILE = 'capacity = "100 Mbit/s"\nenforcement = "queue"'
MPLS = VLAN.changed(encapsulation=Encapsulation.MPLS)


def constrained(uuid: int = 1, **asked: object) -> VirtualNetwork:
    before = network(uuid, endpoint(1, 1, 3, uuid, 10 * uuid + 1), endpoint(2, 3, 3, uuid, 10 * uuid + 2))
    wanted = {name.replace("_", "-"): value for name, value in asked.items()}
    return before.changed(
        constraints=(Constraint.model_validate({"source": 1, "destination": 2, **wanted}),) if asked else ()
    )


def three(rules: Rules = VLAN, text: str = FILE) -> Rig:
    rig = Rig(Options(rules, capacities=text))
    line(rig, 3)
    return rig


def limited(rig: Rig) -> bool:
    """Whether a frame went through a meter of a limit."""
    return any(n in pipeline.METERS for switch in rig.fabric.switches.values() for n in switch.metered)


def send(rig: Rig, uuid: int, forth: bool = True) -> None:
    source, destination = (1, 2) if forth else (2, 1)
    tag = b"\x81\x00" + uuid.to_bytes(2)
    sent = frame(mac(10 * uuid + destination), mac(10 * uuid + source))
    rig.check(1 if forth else 3, 3, sent[:12] + tag + sent[12:])


@pytest.mark.parametrize("rules", [VLAN, MPLS], ids=["vlan", "mpls"])
def test_reserved_traffic_uses_its_queue_on_each_link_and_other_traffic_the_default(rules: Rules) -> None:
    rig = three(rules)
    for one in (constrained(1, min_bandwidth="30 Mbit/s"), constrained(2, max_hops=3), constrained(3)):
        rig.change(None, one)
    assert rig.core.constraints.queue_config() == dict.fromkeys(
        [(1, 2), (2, 2)],
        PortQueues(
            100 * MBIT,
            {
                DEFAULT: Queue(65 * MBIT, 100 * MBIT),
                1: Queue(30 * MBIT * 20 // 19, 100 * MBIT, ("1", "1", "2")),
            },
        ),
    )
    switches = rig.fabric.switches
    for uuid in (1, 2, 3):
        for forth in (True, False):
            send(rig, uuid, forth)
            found = {dpid: set(s.queued) for dpid, s in switches.items() if s.queued}
            assert found == ({1: {(2, 1)}, 2: {(2, 1)}} if (uuid, forth) == (1, True) else {})
            # A minimum is no ceiling, and what has no promise goes through no meter.
            assert not limited(rig)
            for switch in switches.values():
                switch.queued.clear()
    rig.holds_what_it_should()


def test_a_maximum_is_enforced_by_its_meter_and_caps_the_queue() -> None:
    rig = three()
    rig.change(None, constrained(min_bandwidth="19 Mbit/s", max_bandwidth="38 Mbit/s"))
    send(rig, 1)
    assert limited(rig)
    assert rig.core.constraints.queue_config()[1, 2].queues[1] == Queue(20 * MBIT, 40 * MBIT, ("1", "1", "2"))


def test_queue_numbers_survive_a_restart_and_are_released_with_their_constraint() -> None:
    rig = three()
    first, second = constrained(1, min_bandwidth="10 Mbit/s"), constrained(2, min_bandwidth="20 Mbit/s")
    for one in (first, second):
        rig.change(None, one)
    facts = facts_of(rig.core)
    again = Rig(Options(VLAN, capacities=FILE))
    again.fabric = rig.fabric
    again.core.load([first, second], facts, again.now)
    assert again.core.constraints.queue_config() == rig.core.constraints.queue_config()
    rig.change(first, None)
    assert rig.core.constraints.queue_config()[1, 2].queues.keys() == {DEFAULT, 2}
    rig.change(None, constrained(3, min_bandwidth="10 Mbit/s"))
    assert rig.core.constraints.queue_config()[1, 2].queues.keys() == {DEFAULT, 1, 2}
    rig.holds_what_it_should()


def test_an_undone_operation_leaves_queues_unchanged() -> None:
    rig = three()
    before, after = constrained(min_bandwidth="10 Mbit/s"), constrained(min_bandwidth="60 Mbit/s")
    rig.change(None, before)
    known = rig.core.constraints.queue_config()
    work = rig.core.operations.begin(before, after)
    assert work.queues == known != rig.core.constraints.queue_config()
    rig.undo(work)
    assert rig.core.constraints.queue_config() == known


def test_a_port_without_queues_admits_no_reservation_and_reservations_move() -> None:
    rig = three()
    verdicts: dict[tuple[int, int], Support] = {}
    rig.state.backend.queue_support = lambda link: verdicts.get(link, Support(True))
    before = constrained(min_bandwidth="10 Mbit/s")
    rig.change(None, before)
    # A database that was not reached yet takes nothing away.
    verdicts[2, 2] = Support(None, "not reached")
    rig.pending.add(REROUTE)
    rig.settle()
    assert not rig.state.te_paths.ordered()[0].degraded
    with pytest.raises(ConstraintUnmet, match=r"port 2 has 0 bit/s free \(not reached\)"):
        rig.core.constraints.plan(constrained(2, min_bandwidth="1 Mbit/s"))
    verdicts[2, 2] = Support(False, "it is a stranger's")
    rig.pending.add(REROUTE)
    rig.settle()
    assert "(it is a stranger's)" in rig.state.te_paths.ordered()[0].degraded
    assert rig.core.constraints.queue_config() == {}
    del verdicts[2, 2]
    rig.pending.add(REROUTE)
    rig.settle()
    assert not rig.state.te_paths.ordered()[0].degraded
    assert rig.core.constraints.queue_config().keys() == {(1, 2), (2, 2)}
    assert "constraint.restored" in rig.kinds()
    rig.holds_what_it_should()


def test_a_network_can_change_from_meters_to_queues_and_back() -> None:
    rig = three(text='capacity = "100 Mbit/s"')
    before = constrained(min_bandwidth="10 Mbit/s")
    rig.change(None, before)
    stored = rows(rig.state.journal.changes)
    for kind in (Enforcement.QUEUE, Enforcement.METER):
        again = Rig(Options(VLAN, capacities='capacity = "100 Mbit/s"', enforcement=kind))
        again.fabric = rig.fabric
        again.core.load([before], as_stored(stored), again.now)
        for dpid in (1, 2, 3):
            again.connect(dpid, 4)
        again.holds_what_it_should()
        again.fabric.switches[1].metered.clear()
        send(again, 1)
        assert limited(again) == (kind is Enforcement.METER)
        stored |= rows(again.state.journal.changes)


def test_queues_need_no_meters() -> None:
    bare = {1: SwitchView(1, known=True, meters=False)}
    least, most = constrained(min_bandwidth="10 Mbit/s"), constrained(max_bandwidth="10 Mbit/s")
    check(least, VLAN, bare, queues=True)
    for asked, queues in ((least, False), (most, True)):
        with pytest.raises(Unsupported, match="no meters"):
            check(asked, VLAN, bare, queues=queues)


def test_the_file_selects_the_enforcement_and_the_databases() -> None:
    text = 'enforcement = "queue"\n[[switch]]\nid = 1\novsdb = "unix:/x"\n'
    found = Capacities({}, text, "c.toml")
    assert (found.enforcement, found.databases) == (Enforcement.QUEUE, {1: "unix:/x"})
    for wrong, why in (
        ('enforcement = "fifo"', r"c\.toml: enforcement: .*meter, queue, queue-unchecked"),
        (text + '[[switch]]\nid = "1"\novsdb = "unix:/y"', r"switch 2: switch 1 is named twice"),
        ("[[switch]]\nid = 1", r"switch 1 ovsdb: is missing"),
        ('[[switch]]\nid = "x"\novsdb = "y"', r"switch 1: switch 'x' is not a datapath id"),
    ):
        with pytest.raises(InvalidDescription, match=why):
            Capacities({}, wrong, "c.toml")


_rates = st.integers(0, 9)
_queues = st.dictionaries(st.integers(0, 3), st.builds(Queue, _rates, _rates), min_size=1)
_ports = st.one_of(st.just(PortQueues(None)), st.builds(PortQueues, _rates, _queues))
_Shape = dict[LinkEnd, PortQueues]
_shapes = st.dictionaries(st.sampled_from([(1, 1), (2, 1)]), _ports)


@given(_shapes, _shapes)
def test_the_union_of_two_queue_shapes_has_the_queues_of_both(one: _Shape, other: _Shape) -> None:
    both = union(one, other)
    assert both == union(other, one) == union(both, one)
    for shape in (one, other):
        for place, port in shape.items():
            rate = both[place].rate
            if rate is None:
                assert PortQueues(None) in (one.get(place), other.get(place))
                continue
            assert port.rate is not None
            assert rate >= port.rate
            for number, queue in port.queues.items():
                known = both[place].queues[number]
                assert known.min_rate >= queue.min_rate
                assert known.max_rate >= queue.max_rate


def test_broadcasts_are_in_no_queue() -> None:
    rig = three()
    rig.change(None, constrained(min_bandwidth="30 Mbit/s"))
    sent = frame(BROADCAST, mac(11))
    rig.check(1, 3, sent[:12] + b"\x81\x00\x00\x01" + sent[12:])
    assert not any(switch.queued for switch in rig.fabric.switches.values())


def test_the_files_in_the_documentation_are_accepted() -> None:
    page = Path(__file__).parents[4] / "docs" / "qos.md"
    files = re.findall(r"^```toml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    assert len(files) >= 2
    assert any(Capacities({}, text, page.name).databases for text in files)
