"""Storms: which frames pass the meter, and what follows from its counters."""

from __future__ import annotations

import pytest

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.pipeline import Kind
from libnetvirt.controller.engine.effects import NOTHING, Effects
from libnetvirt.controller.engine.storm_control import CALM
from libnetvirt.controller.intent.storms import HOLD
from libnetvirt.controller.reports import views
from libnetvirt.model import Encapsulation, Endpoint, Rules, State
from tests.support.controller_rig import BROADCAST, Rig, endpoint, frame, line, mac, network

NUMBER = pipeline.METERS.start


class Scene:
    """Two switches; endpoints 1 and 2 at the first, 3 at the second. The first is guarded."""

    def __init__(self, action: str = "drop", rules: Rules | None = None) -> None:
        self.rig = Rig()
        line(self.rig, 2)
        storm = {"rate": 100, "action": action}
        self.network = network(
            1,
            endpoint(1, 1, 3).changed(storm=storm),
            endpoint(2, 1, 4),
            endpoint(3, 2, 3),
            rules=rules,
        )
        self.rig.change(None, self.network)
        self.dropped = 0

    def poll(self, dropped: int = 0, seconds: float = 1.0, *, silent: bool = False) -> Effects:
        """A second later, the meter has dropped so many frames more; ``silent``: no switch answers."""
        self.rig.now += seconds
        self.dropped += dropped
        meter = of.MeterStatsEntry(NUMBER, bands=(of.BandStats(packet_count=self.dropped),))
        assert self.rig.core.storms.watched() == {1}
        effects = self.rig.core.storms.seen({} if silent else {1: [meter]}, self.rig.now)
        self.rig.pending.add(effects)
        self.rig.pump()
        return effects

    def kinds(self, dropped: int = 0, seconds: float = 1.0) -> list[str]:
        return [event.kind for event in self.poll(dropped, seconds).events]

    def rules(self) -> list[int]:
        """The time-outs of the rules that block."""
        flows = self.rig.fabric.switches[1].flows.values()
        return [f.hard for f in flows if f.priority > 65000 and f.cookie & 0xFFFF == Kind.QUIET]

    def state(self) -> tuple[State, str]:
        record = self.rig.state.rulesdb.networks["1"]
        found = views.network_state(self.rig.state, record, self.rig.now)
        return next((e.state, e.reason) for e in found.endpoints if e.uuid == "1")

    def modify(self, one: Endpoint) -> None:
        after = self.network.changed(endpoints=[one, *self.network.endpoints[1:]])
        self.rig.change(self.network, after)
        self.network = after


@pytest.mark.parametrize("kind", [Encapsulation.VLAN, Encapsulation.MPLS])
def test_frames_for_everybody_pass_the_meter_once_and_others_do_not(kind: Encapsulation) -> None:
    scene = Scene(rules=Rules(encapsulation=kind))
    rig, one = scene.rig, scene.rig.fabric.switches[1]
    for port, number in ((3, 1), (4, 2)):
        rig.check(1, port, frame(BROADCAST, mac(number)))
    rig.check(2, 3, frame(BROADCAST, mac(3)))
    for sent, times in (
        ((1, 3, frame(BROADCAST, mac(1))), 1),
        ((1, 3, frame(0x01005E000001, mac(1))), 1),
        ((1, 3, frame(mac(9), mac(1))), 1),
        ((1, 3, frame(mac(2), mac(1))), 0),
        ((1, 3, frame(mac(3), mac(1))), 0),
        ((1, 4, frame(BROADCAST, mac(2))), 0),
        ((2, 3, frame(BROADCAST, mac(3))), 0),
    ):
        one.metered.clear()
        rig.check(*sent)
        assert one.metered.count(NUMBER) == times, sent
    meter = one.meters[NUMBER]
    assert (meter.flags, meter.bands) == (of.MeterFlags.PKTPS | of.MeterFlags.BURST, (of.DropBand(100, 100),))
    scene.modify(scene.network.endpoints[0].changed(storm=None))
    assert NUMBER not in one.meters
    rig.holds_what_it_should()


def test_a_storm_is_reported_when_it_begins_and_when_it_is_over() -> None:
    scene = Scene()
    assert scene.kinds() == []
    assert scene.kinds(50) == ["storm.began"]
    assert [scene.kinds(n) for n in (70, 0, 30)] == [[], [], []]
    assert [scene.kinds(0) for _ in range(int(CALM) - 1)] == [[]] * (int(CALM) - 1)
    assert scene.kinds(0) == ["storm.over"]
    assert scene.kinds(0) == []
    assert scene.kinds(1) == ["storm.began"]
    assert scene.rules() == []
    assert scene.state() == (State.ACTIVE, "")


def test_an_endpoint_is_blocked_until_its_time_is_over() -> None:
    scene = Scene("block")
    assert scene.kinds(5) == ["storm.blocked"]
    assert scene.rules() == [HOLD]
    assert not scene.rig.inject(1, 3, frame(BROADCAST, mac(1)))
    state, reason = scene.state()
    assert state is State.DOWN
    assert reason.startswith(f"it is blocked for {HOLD} s more: more than 100 broadcast")
    # What its meter has dropped just before the rule was there, is read later.
    assert scene.kinds(3) == []
    assert scene.kinds(0, HOLD / 2) == []
    assert scene.kinds(0, HOLD / 2) == ["storm.released"]
    assert scene.state() == (State.ACTIVE, "")


def test_a_storm_that_goes_on_blocks_again() -> None:
    scene = Scene("block")
    scene.poll(5)
    # The switch has lost the rule, and says so by its counters.
    scene.rig.fabric.switches[1].flows.clear()
    assert scene.kinds(5, 10.0) == []
    assert scene.rules() == [HOLD]
    assert scene.kinds(0, HOLD - 1.0) == []
    assert scene.kinds(0) == ["storm.released"]
    assert scene.kinds(5) == ["storm.blocked"]


def test_repair_or_a_change_of_the_endpoint_releases_it() -> None:
    scene = Scene("block")
    scene.poll(5)
    effects, lines = scene.rig.core.storms.release("1", scene.rig.now)
    scene.rig.pending.add(effects)
    scene.rig.pump()
    assert len(lines) == 1
    assert [event.kind for event in effects.events] == ["storm.released"]
    assert scene.rules() == []
    assert scene.rig.core.storms.release(None, scene.rig.now) == (NOTHING, [])
    scene.poll(5)
    assert scene.rules() == [HOLD]
    scene.modify(scene.network.endpoints[0].changed(storm={"rate": 200, "action": "block"}))
    assert scene.state() == (State.ACTIVE, "")
    assert scene.kinds() == ["storm.released"]
    assert scene.rules() == []


def test_nothing_is_read_into_a_switch_that_does_not_answer() -> None:
    scene = Scene("block")
    scene.poll(5)
    assert scene.poll(silent=True) is NOTHING
    assert scene.rules() == [HOLD]
