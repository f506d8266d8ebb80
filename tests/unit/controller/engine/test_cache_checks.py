"""Switches that do not apply changed rules to the frames in their cache: how a trial tells them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.pipeline import Kind
from libnetvirt.controller.engine import cache_checks
from libnetvirt.controller.engine.cache_checks import (
    AGAIN,
    APPLIED_WITHIN,
    FIRST_TIMEOUT,
    STALE_AGAIN,
    TRIAL_TIMEOUT,
)
from libnetvirt.controller.topology.link_probes import has_tag
from tests.support.controller_rig import Rig, line

PROBE = pipeline.PROBE_ADDRESS.to_bytes(6)
INTO_2 = (1, 2)


class Caching(Rig):
    """Switches with a cache of flows: by switch and source address, the cookie of the rule that took its
    first probe."""

    def __init__(self) -> None:
        super().__init__()
        self.cache: dict[tuple[int, bytes], int] = {}
        #: the switches that do not go through their cache when a rule changes, and whether they go on
        #: sending frames up by the rule that is gone
        self.stale: set[int] = set()
        self.goes_on = False
        #: seconds between a change and the look through the cache
        self.lag = 0.0
        self.seen: dict[int, float] = {}
        line(self, 2)

    def hear(self) -> None:
        up = self.fabric.up
        self.fabric.up = [(d, m) for d, m in up if not m.frame.startswith(PROBE) or self.cached(d, m)]
        super().hear()

    def cached(self, dpid: int, message: of.PacketIn) -> bool:
        """Have the cache change a message. Returns whether it is sent at all."""
        head = message.head
        first = self.cache.setdefault((dpid, message.frame[6:12]), head.cookie)
        if first == head.cookie:
            return True
        changed = self.seen.setdefault(dpid, self.now)
        if dpid not in self.stale and self.now - changed >= self.lag:
            self.cache[dpid, message.frame[6:12]] = head.cookie
            return True
        message.head = replace(head, cookie=first)
        return self.goes_on or dpid not in self.stale

    def rounds(self, seconds: float, step: float = 0.2) -> list[tuple[int, bool]]:
        """Time passes, as the runtime's timers let it. Returns what trials have shown."""
        shown = []
        for _ in range(round(seconds / step)):
            self.tick(step)
            shown += self.core.caches.take()
        return shown

    def replaced(self) -> list[int]:
        """The switches that hold the rule of a trial."""
        return [
            dpid
            for dpid, switch in self.fabric.switches.items()
            if any(flow.cookie == pipeline.cookie(0, Kind.CACHE) for flow in switch.flows.values())
        ]


FRESH = [(2, False), (1, False)]


def test_switches_that_apply_changed_rules_are_trusted_at_once() -> None:
    rig = Caching()
    assert sorted(rig.rounds(1)) == sorted(FRESH)
    assert rig.replaced() == []


@pytest.mark.parametrize("goes_on", [False, True], ids=["lost", "old-rule"])
def test_one_whose_cache_goes_on_as_before_is_found_and_the_other_is_not(goes_on: bool) -> None:
    rig = Caching()
    rig.stale, rig.goes_on = {2}, goes_on
    assert rig.rounds(APPLIED_WITHIN) == [(1, False)]
    assert rig.rounds(1.6) == [(2, True)]
    assert rig.replaced() == []
    assert rig.rounds(STALE_AGAIN - 3) == []
    # Open vSwitch is restarted.
    rig.stale.clear()
    rig.cache.clear()
    assert rig.rounds(5) == [(2, False)]


@pytest.mark.parametrize("lag", [0.5, APPLIED_WITHIN])
def test_a_cache_that_follows_late_is_not_called_stale(lag: float) -> None:
    rig = Caching()
    rig.lag = lag
    assert sorted(rig.rounds(APPLIED_WITHIN + 2)) == sorted(FRESH)


def test_links_that_lose_probes_show_nothing() -> None:
    """Neither before the rule is changed nor after it, and no rule is left."""
    rig = Caching()
    lost = False
    rig.fabric.drops = lambda place, sent: lost and place == INTO_2 and PROBE in sent[:6]
    rig.stale = {2}
    assert rig.rounds(2) == [(1, False)]
    lost = True
    assert rig.replaced() == [2]
    assert rig.rounds(TRIAL_TIMEOUT - 3) == []
    rig.rounds(5)
    assert rig.replaced() == []


def test_a_first_probe_that_is_lost_is_sent_again() -> None:
    rig = Caching()
    lost: list[bytes] = []

    def first(place: tuple[int, int], sent: bytes) -> bool:
        plain = sent[:12] + sent[20:]
        if place != INTO_2 or lost or not rig.core.caches.awaits(plain):
            return False
        lost.append(sent)
        return True

    rig.fabric.drops = first
    assert rig.rounds(FIRST_TIMEOUT) == [(1, False)]
    assert lost
    assert rig.rounds(1) == [(2, False)]


def test_a_switch_that_reads_one_tag_only_shows_nothing_until_it_reads_two() -> None:
    """Its probes come up by another rule, whose change would not be looked for in its cache."""
    rig = Caching()
    hear, blind = rig.hear, True

    def one_tag() -> None:
        for _, message in rig.fabric.up:
            if blind and rig.core.caches.awaits(message.frame):
                message.frame = message.frame[:12] + b"\x88\xa8\x0f\xfe" + message.frame[12:]
                assert has_tag(message.frame)
        hear()

    rig.hear = one_tag  # type: ignore[method-assign]
    assert rig.rounds(3) == []
    assert rig.replaced() == []
    blind = False
    assert sorted(rig.rounds(3)) == sorted(FRESH)


def test_it_is_tried_again_when_it_has_connected_when_another_link_passes_and_now_and_then() -> None:
    rig = Caching()
    assert len(rig.rounds(3)) == 2
    assert rig.rounds(60) == []
    rig.disconnect(2)
    rig.connect(2, 4)
    assert rig.rounds(5) == [(2, False)]
    rig.link((1, 3), (2, 3))
    assert sorted(rig.rounds(5)) == sorted(FRESH)
    assert rig.rounds(AGAIN - 20, step=2.0) == []
    assert sorted(rig.rounds(20)) == sorted(FRESH)


def test_it_is_tried_again_when_all_its_links_have_failed_and_pass_again() -> None:
    """As when ``vlan-limit`` is raised while the controller is connected."""
    rig = Caching()
    assert len(rig.rounds(3)) == 2
    rig.fabric.drops = lambda _, sent: sent[12:14] == b"\x88\xa8"
    assert rig.rounds(20) == []
    assert rig.core.links._state.link_probes.failed()
    rig.fabric.drops = lambda *_: False
    rig.stale = {2}
    assert sorted(rig.rounds(30)) == [(1, False), (2, True)]


def test_few_switches_are_tried_at_once_and_all_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_checks, "AT_ONCE", 1)
    rig = Caching()
    rig.lag = 0.5
    shown = []
    for _ in range(20):
        rig.tick(0.2)
        assert len(rig.replaced()) <= 1
        shown += rig.core.caches.take()
    assert sorted(shown) == sorted(FRESH)


def test_other_switches_are_not_tried() -> None:
    class Other(Caching):
        description = "Some other switch"

    rig = Other()
    assert rig.rounds(10) == []


def test_a_switch_that_is_lost_in_a_trial_is_tried_when_it_is_back() -> None:
    rig = Caching()
    rig.stale = {2}
    assert rig.rounds(2) == [(1, False)]
    rig.disconnect(2)
    rig.rounds(1)
    rig.connect(2, 4)
    assert rig.rounds(APPLIED_WITHIN + 3) == [(2, True)]


def test_nothing_is_remembered_of_probes_that_were_lost_and_of_switches_that_are_gone() -> None:
    rig = Caching()
    rig.stale = {2}
    assert len(rig.rounds(APPLIED_WITHIN + 2)) == 2
    assert rig.core.caches._sent == {}
    assert rig.core.caches._known.keys() == {1, 2}
    del rig.state.switches[2]
    rig.core.caches.tick(rig.now)
    assert rig.core.caches._known.keys() == {1}
