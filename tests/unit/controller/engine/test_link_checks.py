"""Links that lose the frames of tunnels: which paths are taken, what is told and what is kept."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from libnetvirt.controller.dataplane.entries import add_message
from libnetvirt.controller.engine import tunnel_checks
from libnetvirt.controller.engine.tunnel_checks import FRESH
from libnetvirt.controller.intent.facts import (
    KnownLink,
    NetworkIndex,
    NetworkRules,
    ServiceLabel,
    TunnelLabel,
)
from libnetvirt.controller.reports import views
from libnetvirt.model import Encapsulation, State
from tests.support.controller_rig import (
    BROADCAST,
    NATIVE,
    Rig,
    as_stored,
    endpoint,
    facts_of,
    frame,
    line,
    mac,
    network,
    places,
    ring,
)

BAD = ((1, 2), (2, 1))
ONE = network(1, endpoint(11, 1, 3), endpoint(12, 2, 3))
Drops = Callable[[tuple[int, int], bytes], bool]


def service_tags(place: tuple[int, int], sent: bytes) -> bool:
    """A device on the link between switches 1 and 2 that drops 802.1ad."""
    return place in BAD and sent[12:14] == b"\x88\xa8"


def large(place: tuple[int, int], sent: bytes) -> bool:
    """The same with an MTU of 1400."""
    return place in BAD and len(sent) > 1414


def rounds(rig: Rig, seconds: float) -> None:
    """Time passes, as the runtime's timers let it."""
    for _ in range(round(seconds / 0.2)):
        rig.now += 0.2
        rig.pending.add(rig.core.links.poll(rig.now))
        rig.settle()


def routes(rig: Rig, number: int = 1) -> list[list[str]]:
    record = rig.state.rulesdb.networks[str(number)]
    return [[hop.switch for hop in path.hops] for path in views.paths(rig.state, record)]


def state(rig: Rig) -> State:
    return views.network_state(rig.state, rig.state.rulesdb.networks["1"], rig.now).state


def told(rig: Rig, kind: str) -> list[str]:
    return [text for one, text in rig.events if one == kind]


@pytest.mark.parametrize("drops", [service_tags, large])
def test_traffic_goes_round_an_unfit_link_and_takes_it_again(drops: Drops) -> None:
    rig = Rig()
    ring(rig, 4)
    rig.change(None, ONE)
    rig.check(1, 3, frame(BROADCAST, mac(1)))
    assert routes(rig) == [["1", "2"], ["2", "1"]]
    rig.fabric.drops = drops
    rounds(rig, 12)
    assert routes(rig) == [["1", "4", "3", "2"], ["2", "3", "4", "1"]]
    assert places(rig.check(1, 3, frame(BROADCAST, mac(1)))) == [(2, 3)]
    assert len(told(rig, "link.unfit")) == 2
    assert state(rig) is State.ACTIVE
    rig.fabric.drops = lambda *_: False
    rounds(rig, 12)
    assert routes(rig) == [["1", "2"], ["2", "1"]]
    assert len(told(rig, "link.fit")) == 2
    rig.holds_what_it_should()


@pytest.mark.parametrize("drops", [service_tags, large])
def test_a_link_that_does_not_pass_is_not_kept_for_the_next_run(drops: Drops) -> None:
    rig = Rig()
    ring(rig, 3)
    rig.change(None, ONE)
    rounds(rig, 1)

    def kept() -> set[tuple[int, int, int, int]]:
        return {(k.source, k.source_port, k.destination, k.destination_port) for k in
                facts_of(rig.core).of(KnownLink)}  # fmt: skip

    every = {(e.source, e.source_port, e.destination, e.destination_port) for e in rig.state.paths.edges}
    assert (len(every), kept()) == (6, every)
    rig.fabric.drops = drops
    rounds(rig, 12)
    assert kept() == every - {(1, 2, 2, 1), (2, 1, 1, 2)}
    rig.fabric.drops = lambda *_: False
    rounds(rig, 12)
    assert kept() == every


def test_without_another_way_the_network_is_down_with_the_reason() -> None:
    rig = Rig()
    line(rig, 2)
    rig.change(None, ONE)
    rig.fabric.drops = large
    rounds(rig, 12)
    found = views.network_state(rig.state, rig.state.rulesdb.networks["1"], rig.now)
    assert found.state is State.DOWN
    assert all("frames of more than 1414 bytes (MTU 1400)" in end.reason for end in found.endpoints)
    substrate = views.substrate(rig.state)
    assert [link.mtu for link in substrate.links] == [1400, 1400]
    assert sum("link-mtu=1400" in note for note in substrate.notes) == 2


def test_the_path_mtu_is_what_was_seen_less_the_labels() -> None:
    rig = Rig()
    line(rig, 2)
    rig.change(None, ONE)
    rounds(rig, 1)
    assert {path.mtu for path in views.paths(rig.state, rig.state.rulesdb.networks["1"])} == {1492}


def test_a_network_with_another_encapsulation_keeps_the_link() -> None:
    rig = Rig()
    ring(rig, 4)
    rig.change(None, ONE)
    rig.change(None, network(2, endpoint(21, 1, 4), endpoint(22, 2, 4), rules=NATIVE))
    rig.fabric.drops = service_tags
    for _ in range(6):
        rig.tick()
        rounds(rig, 2)
    assert routes(rig, 1) == [["1", "4", "3", "2"], ["2", "3", "4", "1"]]
    assert routes(rig, 2) == [["1", "2"], ["2", "1"]]


def test_a_new_link_is_not_taken_before_it_was_seen_to_pass() -> None:
    rig = Rig()
    line(rig, 4)
    rig.change(None, network(1, endpoint(11, 1, 3), endpoint(12, 4, 3)))
    rig.check(1, 3, frame(BROADCAST, mac(1)))
    rig.fabric.drops = lambda place, sent: place in ((1, 4), (4, 4)) and sent[12:14] == b"\x88\xa8"
    rig.between = lambda: seen.append(rig.fabric.probe(1, 3, frame(BROADCAST, mac(1))))
    seen: list[list[tuple[int, int, bytes]]] = []
    rig.link((1, 4), (4, 4))
    rounds(rig, 12)
    assert {tuple(places(out)) for out in seen} == {((4, 3),)}
    assert routes(rig) == [["1", "2", "3", "4"], ["4", "3", "2", "1"]]


def test_unfit_links_are_not_kept_for_the_next_run() -> None:
    rig = Rig()
    ring(rig, 4)
    rig.change(None, ONE)
    rig.fabric.drops = service_tags
    rounds(rig, 12)
    kept = {(link.source, link.destination) for link in facts_of(rig.core).of(KnownLink)}
    assert len(kept) == 6
    assert not kept & {(1, 2), (2, 1)}


def test_labels_that_probes_use_now_are_replaced() -> None:
    rig = Rig()
    line(rig, 2)
    rig.change(None, ONE)
    known = facts_of(rig.core)
    facts = [fact for kind in (NetworkIndex, NetworkRules, KnownLink) for fact in known.of(kind)]
    old = [TunnelLabel(Encapsulation.VLAN, 2, 1, 4094), ServiceLabel(Encapsulation.VLAN, 2, "1", 4094)]
    again = Rig()
    again.fabric = rig.fabric
    again.core.load([ONE], as_stored(dict(fact.row() for fact in (*facts, *old))), again.now)
    for dpid in (1, 2):
        again.connect(dpid, 4)
    assert again.space.tunnel(2).label != 4094
    assert again.space.service(2, "1") != 4094
    again.known = again.known.after_change(None, ONE)
    assert places(again.check(1, 3, frame(BROADCAST, mac(1)))) == [(2, 3)]


def _seen(rig: Rig, before: set[int] | None = None) -> tuple[int, int]:
    """How many ways a network makes, and how many of them a probe does not get."""
    check = rig.core.tunnels.check("1", before or set(), rig.now)
    if check is None:
        return 0, 0
    count = len(check.missing)
    rig.pending.add(rig.core.tunnels.send(check))
    rig.settle()
    return count, len(check.missing)


@pytest.mark.parametrize("rules", [None, NATIVE], ids=["vlan", "native"])
def test_the_ways_of_a_network_are_seen_once_in_a_while(rules: object) -> None:
    rig = Rig()
    line(rig, 3)
    ends = (endpoint(11, 1, 3), endpoint(12, 2, 3), endpoint(13, 3, 3))
    rig.change(None, network(1, *ends, rules=NATIVE if rules else None))
    count = 4 if rules else 6
    assert _seen(rig) == (count, 0)
    assert _seen(rig) == (0, 0)
    rig.now += FRESH + 1
    assert _seen(rig, {1, 2}) == (count if rules else 4, 0)
    assert rig.core.tunnels.check("1", {1, 2, 3}, rig.now) is None


def test_of_very_many_ways_each_switch_has_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel_checks, "WAYS_LIMIT", 5)
    rig = Rig()
    line(rig, 5)
    rig.change(None, network(1, *(endpoint(10 + dpid, dpid, 3) for dpid in range(1, 6))))
    check = rig.core.tunnels.check("1", set(), rig.now)
    assert check is not None
    ends = [way.ends for way in check.missing.values()]
    assert [{pair[side] for pair in ends} for side in (0, 1)] == [{1, 2, 3, 4, 5}] * 2
    assert len(ends) == 5


def test_probes_are_sent_again_no_faster_than_slow_switches_can_send_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig()
    line(rig, 2)
    rig.change(None, network(1, endpoint(11, 1, 3), endpoint(12, 2, 3)))
    check = rig.core.tunnels.check("1", set(), rig.now)
    assert check is not None
    pauses = []
    for _ in range(6):
        rig.core.tunnels.send(check)
        pauses.append(check.pause)
    assert pauses == [0.04, 0.08, 0.16, 0.2, 0.2, 0.2]
    # Of many, all are in time sent before any is sent again.
    monkeypatch.setattr(tunnel_checks, "AGAIN", len(check.missing))
    rig.core.tunnels.send(check)
    assert check.pause == 1.0
    rig.core.tunnels.end(check)


def test_a_way_whose_rules_or_links_do_not_forward_is_not_seen() -> None:
    rig = Rig()
    line(rig, 3)
    rig.change(None, network(1, endpoint(11, 1, 3), endpoint(12, 3, 3)))
    rig.fabric.drops = lambda place, sent: place == (2, 2) and len(sent) > 1500
    assert _seen(rig) == (2, 1)
    check = rig.core.tunnels.check("1", set(), rig.now)
    assert check is not None
    assert "no frame of 1506 bytes gets from switch 1 to switch 3" in rig.core.tunnels.unseen_text(check)
    rig.fabric.drops = lambda *_: False
    assert _seen(rig) == (1, 0)


def test_the_entries_of_probes_are_part_of_every_switch() -> None:
    rig = Rig()
    rig.switch(1)
    held = {add_message(p.entry).encode() for p in rig.state.installed.on(1).values()}
    assert sum(b"\x02\x4e\x56\x00\x00\x11" in message for message in held) == 3
