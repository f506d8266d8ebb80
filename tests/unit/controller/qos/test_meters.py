"""Limits of endpoints: which frames pass which meters, and the life of meters."""

from __future__ import annotations

from typing import Any

import pytest

from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.engine.controller import Options
from libnetvirt.controller.intent.facts import FactJournal, Facts, MeterNumber
from libnetvirt.controller.intent.switches import SwitchView
from libnetvirt.controller.qos.meters import MIN_BURST, Meters, meter
from libnetvirt.controller.rules import policing
from libnetvirt.drivers.openflow.capabilities import COMBINATIONS
from libnetvirt.errors import LabelsExhausted, Unsupported
from libnetvirt.model import Limits, Rules
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
)


def limits(**fields: str) -> Limits:
    return Limits.model_validate(fields)


OUT, IN = limits(outbound="5 Mbit/s"), limits(inbound="10 Mbit/s")
ALL_RULES = [Rules.model_validate(c.model_dump()) for c in COMBINATIONS]


def limited(rig: Rig, **what: Any) -> list[Any]:
    """Endpoints 1 and 2 at switch 1, 3 and 4 at switch 2, with limits by ``e`` and number."""
    ends = [endpoint(n, (n + 1) // 2, 3 + (n + 1) % 2) for n in (1, 2, 3, 4)]
    ends = [e.changed(bandwidth=what.get(f"e{e.uuid}")) for e in ends]
    line(rig, 2)
    rig.change(None, network(1, *ends))
    for n in (1, 2, 3, 4):
        rig.check((n + 1) // 2, 3 + (n + 1) % 2, frame(BROADCAST, mac(n)))
    for n in (1, 2, 3, 4):
        for m in (1, 2, 3, 4):
            if m != n:
                rig.check((n + 1) // 2, 3 + (n + 1) % 2, frame(mac(m), mac(n)))
    return ends


def rates(rig: Rig, dpid: int) -> list[int]:
    """The rates, in kbit/s, of a switch's meters for limits."""
    meters = rig.fabric.switches[dpid].meters
    return [m.bands[0].rate for number, m in sorted(meters.items()) if number in pipeline.METERS]  # type: ignore[union-attr]


@pytest.mark.parametrize("rules", ALL_RULES, ids=lambda r: f"{r.encapsulation}-{r.insertion}-{r.timeout}")
def test_all_traffic_of_an_endpoint_passes_its_meters(rules: Rules) -> None:
    rig = Rig(Options(rules))
    limited(rig, e1=IN, e3=OUT)
    one, two = (rig.fabric.switches[d] for d in (1, 2))
    for sent, through in (
        ((1, 3, frame(mac(3), mac(1))), (1, 1)),
        ((1, 3, frame(mac(2), mac(1))), (1, 0)),
        ((1, 4, frame(mac(3), mac(2))), (0, 1)),
        ((2, 3, frame(mac(1), mac(3))), (0, 0)),
        ((2, 4, frame(mac(3), mac(4))), (0, 1)),
        ((1, 4, frame(BROADCAST, mac(2))), (0, 1)),
    ):
        one.metered.clear()
        two.metered.clear()
        rig.check(*sent)
        found = tuple(len([m for m in s.metered if m in pipeline.METERS]) for s in (one, two))
        assert found == through, sent


@pytest.mark.parametrize("rules", ALL_RULES, ids=lambda r: f"{r.encapsulation}-{r.insertion}-{r.timeout}")
def test_a_meter_affects_only_its_endpoint(rules: Rules) -> None:
    rig = Rig(Options(rules))
    limited(rig, e3=OUT, e4=limits(outbound="1 Mbit/s"))
    two = rig.fabric.switches[2]
    numbers = sorted(n for n in two.meters if n in pipeline.METERS)
    for number, reached in zip(numbers, ((2, 4), (2, 3)), strict=True):
        two.exceeded = {number}
        assert places(rig.inject(1, 3, frame(BROADCAST, mac(1), b"x"))) == sorted([(1, 4), reached])


def test_two_tags_of_one_port_have_separate_limits() -> None:
    rig = Rig()
    rig.switch(1)
    ends = [endpoint(n, 1, 3, vlan) for n, vlan in enumerate((None, 5, 6), 1)]
    ends = [e.changed(bandwidth=OUT) for e in ends]
    rig.change(None, network(1, *ends))
    switch = rig.fabric.switches[1]
    for n, vlan in enumerate((None, 5, 6), 1):
        rig.check(1, 3, frame(BROADCAST, mac(n), vlan=vlan))
    switch.metered.clear()
    rig.check(1, 3, frame(mac(2), mac(1)))
    rig.check(1, 3, frame(mac(1), mac(3), vlan=6))
    assert len(set(switch.metered)) == 2


def test_a_new_rate_changes_only_the_meter() -> None:
    rig = Rig()
    ends = limited(rig, e1=IN, e3=OUT)
    (before,) = rig.networks
    after = before.changed(endpoints=(ends[0].changed(bandwidth=limits(inbound="7 Mbit/s")), *ends[1:]))
    work = rig.change(before, after)
    assert [len(m) for one in work.plan.rounds for m in one.values()] == [1]
    assert (rates(rig, 1), rates(rig, 2)) == ([7000], [5000])
    rig.holds_what_it_should()


def test_removed_limits_release_their_meters() -> None:
    rig = Rig()
    ends = limited(rig, e1=limits(inbound="7 Mbit/s", outbound="9 Mbit/s"), e3=OUT)
    (before,) = rig.networks
    plain = before.changed(endpoints=tuple(e.changed(bandwidth=None) for e in ends))
    rig.change(before, plain)
    assert (rates(rig, 1), rates(rig, 2)) == ([], [])
    assert not any(
        pipeline.Table.EXIT <= f.table <= pipeline.Table.STRIP
        for s in rig.fabric.switches.values()
        for f in s.flows.values()
    )
    assert facts_of(rig.core).of(MeterNumber) == []
    rig.holds_what_it_should()
    for n in (1, 2):
        rig.check(1, 2 + n, frame(mac(3), mac(n)))
    rig.change(plain, before)
    rig.change(before, None)
    assert rates(rig, 1) == []
    rig.holds_what_it_should()


def test_meter_numbers_survive_a_controller_restart() -> None:
    rig = Rig()
    limited(rig, e1=IN, e2=IN, e3=OUT)
    (known,) = rig.networks
    facts = facts_of(rig.core)
    again = Rig()
    again.fabric = rig.fabric
    again.core.load([known], facts, again.now)
    for dpid in (1, 2):
        again.pending.add(again.core.topology.switch_up(again.view(dpid, 4), again.now))
        plan = again.core.reconciler.reconcile(dpid, again.fabric.switches[dpid].dump()).plan
        assert not [
            m for one in plan.rounds for ms in one.values() for m in ms if "Meter" in type(m).__name__
        ]


def test_an_operation_that_exceeds_the_meters_of_a_switch_leaves_no_trace() -> None:
    rig = Rig()
    ends = limited(rig, e1=IN)
    (before,) = rig.networks
    rig.state.switches[1].meter_limit = pipeline.METERS.start
    after = before.changed(endpoints=(ends[0], ends[1].changed(bandwidth=IN), *ends[2:]))
    with pytest.raises(LabelsExhausted, match=r"switch 1 has no meter left.*use all 1"):
        rig.core.operations.begin(before, after)
    rig.holds_what_it_should()
    rig.check(1, 3, frame(mac(2), mac(1)))


@pytest.mark.parametrize(
    ("limit", "last"),
    [(0, 65535), (1 << 20, 65535), (65535, 65535), (65534, 65534), (4097, 4097), (4096, 4096)],
)
def test_the_last_meter_number_of_a_switch_is_used(limit: int, last: int) -> None:
    switch = SwitchView(1, connected=True, known=True, meters=True, meter_limit=limit)
    meters = Meters(FactJournal(), {1: switch})
    meters.load(Facts(MeterNumber(1, f"x/1/{n}", n) for n in pipeline.METERS if n < last))
    assert meters.number(1, "x/2/a") == last
    assert meters.number(1, "x/2/a") == last, "it is the same meter"
    with pytest.raises(LabelsExhausted, match=f"all {last - 4095}"):
        meters.number(1, "x/2/b")
    meters.keep("2", lambda *_: False)
    assert meters.number(1, "x/2/b") == last


def test_limits_that_a_switch_cannot_enforce_are_refused() -> None:
    one = endpoint(1, 1, 3).changed(bandwidth=limits(outbound="999 bit/s"))
    with pytest.raises(Unsupported, match=r"endpoint 1: outbound 999 bit/s is less.*1 kbit/s or more"):
        policing.check(one, None)
    one = one.changed(bandwidth=OUT)
    with pytest.raises(Unsupported, match=r"switch 9 has no meters"):
        policing.check(one, SwitchView(9, connected=True, known=True))
    policing.check(one, SwitchView(9))
    policing.check(endpoint(1, 1, 3), SwitchView(9, connected=True, known=True))


def test_a_switch_without_meters_still_forwards() -> None:
    rig = Rig(Options(VLAN))
    line(rig, 2)
    for view in rig.state.switches.values():
        view.meters = False
    ends = [endpoint(1, 1, 3).changed(bandwidth=IN), endpoint(2, 2, 3).changed(bandwidth=OUT)]
    rig.change(None, network(1, *ends))
    rig.check(1, 3, frame(BROADCAST, mac(1)))
    assert rates(rig, 1) == rates(rig, 2) == []


@pytest.mark.parametrize(("rate", "kbit"), [(1, 1), (1999, 1), (20_000_000, 20_000)])
def test_a_meter_never_lets_more_pass_than_asked(rate: int, kbit: int) -> None:
    (band,) = meter(5, rate).bands
    assert (band.rate, band.burst_size) == (kbit, max(MIN_BURST, kbit // 5))  # type: ignore[union-attr]
