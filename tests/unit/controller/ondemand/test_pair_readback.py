"""Which flow entries of pairs a switch holds: few of them are parsed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane.entries import Flow
from libnetvirt.controller.dataplane.pipeline import Kind
from libnetvirt.controller.engine.controller import Options
from libnetvirt.controller.ondemand.pair_readback import REQUEST_SIZE, PairReadback, requests
from libnetvirt.model import Encapsulation, Insertion, Rules, Timeout
from tests.support.controller_rig import Rig, endpoint, frame, mac, network

HOSTS = 20
SERVER = 7


def _rig(encapsulation: Encapsulation = Encapsulation.VLAN) -> Rig:
    """Two switches, with pairs of many hosts and one server, in both directions."""
    rules = Rules(encapsulation=encapsulation, insertion=Insertion.ON_DEMAND, timeout=Timeout.PERMANENT)
    rig = Rig(Options(rules))
    for dpid in (1, 2):
        rig.switch(dpid)
    rig.link((1, 2), (2, 1))
    rig.change(None, network(1, endpoint(11, 1, 3), endpoint(12, 2, 3)))
    rig.inject(2, 3, frame(mac(1), mac(SERVER)))
    for host in range(100, 100 + HOSTS):
        rig.inject(1, 3, frame(mac(SERVER), mac(host)))
        rig.inject(2, 3, frame(mac(host), mac(SERVER)))
    return rig


def _held(rig: Rig, dpid: int) -> list[Flow]:
    return [f for f in rig.fabric.switches[dpid].flows.values() if f.cookie & 0xFFFF == Kind.PATH]


def _read(rig: Rig, dpid: int, held: list[Flow], last: PairReadback | None = None) -> PairReadback:
    now = PairReadback(dpid, rig.state.rulesdb, rig.state.ondemand, last)
    entries = [
        of.FlowStatsEntry(
            f.table, 1, 2, f.priority, f.idle, f.hard, int(f.notify), f.cookie, 3, 4, f.match, f.instructions
        )
        for f in held
    ]
    now.add(of.FlowStatsReply(tuple(entries)).encode()[16:])
    now.close()
    return now


@pytest.mark.parametrize("encapsulation", list(Encapsulation))
@pytest.mark.parametrize("dpid", [1, 2])
def test_every_pair_is_found_and_few_entries_are_parsed(
    monkeypatch: pytest.MonkeyPatch, dpid: int, encapsulation: Encapsulation
) -> None:
    rig = _rig(encapsulation)
    held, parsed = _held(rig, dpid), 0
    parse = of.FlowStatsEntry.parse

    def count(buf: bytes, pos: int, end: int) -> tuple[of.FlowStatsEntry, int]:
        nonlocal parsed
        parsed += 1
        return parse(buf, pos, end)

    monkeypatch.setattr(of.FlowStatsEntry, "parse", count)
    pairs = list(rig.state.ondemand)
    assert len(pairs) == len(held) == 2 * HOSTS
    read = _read(rig, dpid, held)
    assert parsed == 2  # one for each direction
    assert not read.strange
    assert not any(read.lacks(pair) for pair in pairs)
    again = _read(rig, dpid, held, read)
    assert parsed == 2
    assert again.held == read.held


@pytest.mark.parametrize("dpid", [1, 2])
def test_a_pair_lacks_an_entry_that_is_gone_or_changed_and_only_that(dpid: int) -> None:
    rig = _rig()
    held = _held(rig, dpid)
    first = _read(rig, dpid, held)
    gone, changed, other = held[3], held[4], held[5]
    now = [
        *held[:3],
        replace(changed, instructions=()),
        replace(other, match=other.match.replace(eth_src=mac(0x999))),
        *held[6:],
    ]
    for last in (None, first):
        read = _read(rig, dpid, now, last)
        lacking = [pair for pair in rig.state.ondemand if read.lacks(pair)]
        assert {flow.key for pair in lacking for flow in pair.on(dpid)} == {
            f.key for f in (gone, changed, other)
        }
        assert len(read.strange) == 2


def test_a_pair_that_was_set_up_again_is_not_taken_for_the_old_one() -> None:
    rig = _rig()
    read = _read(rig, 1, _held(rig, 1))
    old = next(iter(rig.state.ondemand))
    rig.state.ondemand.remove(old)
    assert len(_read(rig, 1, _held(rig, 1), read).held) == len(read.held) - 1


def test_many_entries_are_asked_for_in_parts_that_cover_all() -> None:
    assert [r.match for r in requests(REQUEST_SIZE)] == [of.Match()]
    parts = requests(3 * REQUEST_SIZE)
    assert len(parts) == 4
    for address in range(8):
        exact = of.Match(eth_dst=mac(address))
        assert sum(exact.overlaps(part.match) for part in parts) == 1
