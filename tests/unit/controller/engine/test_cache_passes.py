"""A switch has gone through its cache: what proves it, and what does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.pipeline import Kind
from libnetvirt.controller.engine.cache_passes import CHANGES, UNCHANGED, CachePass
from libnetvirt.controller.engine.options import Options
from libnetvirt.model import Encapsulation
from tests.support.controller_rig import NATIVE, Rig, endpoint, line, network

PROBE = pipeline.PROBE_ADDRESS.to_bytes(6)


class Caching(Rig):
    """Switches with a cache of flows: by source address, the cookie of the rule that took the first frame. It
    follows a changed rule when it is told to."""

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self.cache: dict[bytes, int] = {}
        #: the present cookie of the rule, by source address
        self.rule: dict[bytes, int] = {}
        line(self, 3)
        self.tick()
        self.tick()

    def hear(self) -> None:
        for _, message in self.fabric.up:
            if message.frame.startswith(PROBE):
                source = message.frame[6:12]
                self.rule[source] = message.head.cookie
                cookie = self.cache.setdefault(source, message.head.cookie)
                message.head = replace(message.head, cookie=cookie)
        super().hear()

    def look(self) -> None:
        """The cache follows the rules."""
        self.cache.update(self.rule)

    def begun(self, dpid: int = 2) -> CachePass:
        one = self.core.passes.begin(dpid)
        assert one is not None
        return one

    def enter(self, one: CachePass) -> None:
        self.pending.add(self.core.passes.enter(one))
        self.settle()

    def probe(self, one: CachePass) -> int:
        """Send a probe. Returns the step that it leads to."""
        self.pending.add(self.core.passes.probe(one))
        self.settle()
        return one.step

    def end(self, one: CachePass) -> None:
        self.pending.add(self.core.passes.end(one))
        self.settle()
        assert not any(
            flow.cookie == pipeline.cookie(0, Kind.PASS)
            for switch in self.fabric.switches.values()
            for flow in switch.flows.values()
        )


@pytest.mark.parametrize("kind", Encapsulation)
def test_each_change_has_to_be_seen(kind: Encapsulation) -> None:
    rig = Caching(Options(NATIVE.model_copy(update={"encapsulation": kind})))
    one = rig.begun()
    assert one.kind is kind
    for step in range(UNCHANGED):
        assert one.step == step
        rig.enter(one)
        rig.probe(one)
    for step in range(UNCHANGED, UNCHANGED + CHANGES):
        rig.enter(one)
        # The cache has not followed, however often it is asked.
        assert [rig.probe(one), rig.probe(one)] == [step, step]
        assert not one.is_over
        rig.look()
        assert rig.probe(one) == step + 1
    assert one.is_over
    rig.end(one)


def test_frames_of_the_step_before_prove_nothing() -> None:
    rig = Caching()
    one = rig.begun()
    for _ in range(UNCHANGED):
        rig.enter(one)
        rig.probe(one)
    rig.enter(one)
    rig.look()
    # Two probes are under way when the first comes up; the second is late until the rule is back.
    kept: list[tuple[int, of.PacketIn]] = []
    rig.probe(one)
    rig.look()
    rig.pending.add(rig.core.passes.probe(one))
    kept, rig.fabric.up = list(rig.fabric.up), []
    assert rig.probe(one) == UNCHANGED + 1
    rig.enter(one)
    rig.look()
    rig.probe(one)
    rig.look()
    assert rig.probe(one) == UNCHANGED + 2
    rig.enter(one)
    assert len(kept) == 1
    rig.fabric.up = kept
    rig.settle()
    assert one.step == UNCHANGED + 2
    rig.end(one)
    assert rig.probe(rig.begun()) == 1


def test_a_switch_without_such_a_cache_or_without_links_is_not_waited_for() -> None:
    rig = Caching()
    assert rig.core.passes.begin(9) is None
    rig.switch(7)
    assert rig.core.passes.begin(7) is None
    # Nothing can be sent into it while its neighbour does not answer.
    assert rig.begun(3).edge.source == 2
    rig.disconnect(2)
    assert [rig.core.passes.begin(dpid) for dpid in (1, 2, 3)] == [None] * 3

    class Other(Rig):
        description = "another switch"

    other = Other()
    line(other, 2)
    other.tick()
    assert other.core.passes.begin(2) is None


def test_only_an_endpoint_that_leaves_a_place_calls_for_it() -> None:
    rig = Caching()
    before = network(1, endpoint(11, 1, 3), endpoint(12, 2, 3))
    moved = network(1, endpoint(11, 1, 3), endpoint(12, 3, 3))
    larger = network(1, endpoint(11, 1, 3), endpoint(12, 3, 3), endpoint(13, 2, 3))
    plans = []
    for one, other in ((None, before), (before, moved), (moved, larger), (larger, moved), (moved, None)):
        work = rig.core.operations.begin(one, other)
        plans.append(bool(work.left))
        if work.left:
            # What the new place needs is there after the first rounds, and nobody sends there yet.
            receiving = work.plan.rounds[: work.plan.receiving]
            assert 3 in set[int]().union(*receiving)
        rig.execute(work)
    assert plans == [False, True, False, False, False]
