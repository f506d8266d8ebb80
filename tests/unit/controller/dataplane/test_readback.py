"""What a switch holds, read again and again: records, differences, foreign rules."""

from __future__ import annotations

from dataclasses import replace

import pytest

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import Flow, Group, Meter, Order, PlacedEntry, SwitchEntry
from libnetvirt.controller.dataplane.foreign import beyond
from libnetvirt.controller.dataplane.installed import Delta, Installed
from libnetvirt.controller.dataplane.pipeline import Kind, Table
from libnetvirt.controller.dataplane.readback import Readback, correction, counts_text, newly_refused

OUT = (of.ApplyActions((of.Output(7),)),)
ELSEWHERE = (of.ApplyActions((of.Output(8),)),)


def flow(port: int, then: tuple[of.Instruction, ...] = OUT, kind: Kind = Kind.ENDPOINT) -> Flow:
    return Flow(Table.CLASSIFY, 200, of.Match(in_port=port), then, pipeline.cookie(3, kind))


GROUP = Group(pipeline.flood_group(3, 0), of.GroupType.ALL, (of.Bucket(actions=(of.Output(1),)),))
METER = Meter(4096, of.MeterFlags.KBPS | of.MeterFlags.BURST, (of.DropBand(100, 400),))
ENTRIES: tuple[SwitchEntry, ...] = (flow(1), flow(2), flow(3), GROUP, METER)


def stats(entry: Flow, packets: int = 0) -> of.FlowStatsEntry:
    """An entry as a switch reports it, some time later."""
    flags = of.FlowModFlags.SEND_FLOW_REM if entry.notify else 0
    return of.FlowStatsEntry(
        entry.table, packets, packets, entry.priority, entry.idle, entry.hard, flags, entry.cookie,
        packets, packets * 60, entry.match, entry.instructions,
    )  # fmt: skip


def read(
    held: tuple[SwitchEntry, ...], last: Readback | None = None, packets: int = 0, watched: float = 0.0
) -> Readback:
    """A switch that holds these entries is read."""
    now = Readback(last, watched)
    flows = of.FlowStatsReply(tuple(stats(e, packets) for e in held if isinstance(e, Flow)))
    groups = of.GroupDescReply(
        tuple(of.GroupDesc(e.type, e.group_id, e.buckets) for e in held if isinstance(e, Group))
    )
    meters = of.MeterConfigReply(
        tuple(of.MeterConfig(e.flags, e.meter_id, e.bands) for e in held if isinstance(e, Meter))
    )
    now.add_flows(flows.encode()[16:])
    now.add_groups(groups.encode()[16:])
    now.add_meters(meters.encode()[16:])
    now.close()
    return now


def installed(*entries: SwitchEntry) -> Installed:
    into = Installed()
    into.replace("unit", [PlacedEntry(1, Order.ADMIT, e) for e in entries], Delta())
    return into


def found(held: tuple[SwitchEntry, ...], last: Readback | None = None) -> dict[str, SwitchEntry]:
    """The differences from ENTRIES, by kind."""
    expected = installed(*ENTRIES)
    differences = read(held, last).differences(expected.on(1), expected.generation)
    return {d.what: d.entry for d in differences}


def test_a_switch_that_holds_what_it_should_has_no_differences_whatever_its_counters() -> None:
    expected = installed(*ENTRIES)
    last = None
    for packets in (0, 5, 70_000):
        last = read(ENTRIES, last, packets)
        assert last.differences(expected.on(1), expected.generation) == []
        assert len(last) == len(ENTRIES)


def test_entries_that_were_seen_before_are_not_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    last = read(ENTRIES)

    def parse(*_: object) -> None:
        raise AssertionError("parsed again")

    for kind in (of.FlowStatsEntry, of.GroupDesc, of.MeterConfig):
        monkeypatch.setattr(kind, "parse", parse)
    assert read(ENTRIES, last, packets=9).ours.keys() == last.ours.keys()


@pytest.mark.parametrize("entry", ENTRIES, ids=str)
@pytest.mark.parametrize("again", [False, True])
def test_each_missing_entry_is_a_difference(entry: SwitchEntry, again: bool) -> None:
    held = tuple(e for e in ENTRIES if e is not entry)
    assert found(held, read(ENTRIES) if again else None) == {"missing": entry}


@pytest.mark.parametrize(
    ("entry", "changed"),
    [
        (flow(1), replace(flow(1), instructions=ELSEWHERE)),
        (flow(1), replace(flow(1), instructions=())),
        (flow(1), replace(flow(1), idle=9)),
        (flow(1), replace(flow(1), hard=9)),
        (flow(1), replace(flow(1), notify=True)),
        (flow(1), replace(flow(1), cookie=pipeline.cookie(4, Kind.ENDPOINT))),
        (flow(1), replace(flow(1), cookie=7)),
        (GROUP, replace(GROUP, type=of.GroupType.SELECT)),
        (GROUP, replace(GROUP, buckets=())),
        (METER, replace(METER, bands=(of.DropBand(101, 400),))),
    ],
)
def test_each_changed_field_is_a_difference(entry: SwitchEntry, changed: SwitchEntry) -> None:
    held = tuple(changed if e == entry else e for e in ENTRIES)
    assert found(held, read(ENTRIES)) == {"changed": entry}
    expected = installed(*ENTRIES)
    (difference,) = read(held).differences(expected.on(1), expected.generation)
    assert correction(1, [difference]).change == {(Order.ADMIT, 1): [(changed, entry)]}


def test_an_entry_with_our_mark_that_is_not_expected_is_a_difference() -> None:
    for surplus in (flow(9), replace(GROUP, group_id=GROUP.group_id + 1), replace(METER, meter_id=5000)):
        assert found((*ENTRIES, surplus)) == {"not expected": surplus}


def test_rules_of_pairs_and_short_lived_ones_are_counted_only() -> None:
    passing = (flow(9, kind=Kind.PATH), flow(10, kind=Kind.QUIET))
    first = read((*ENTRIES, *passing))
    again = read((*ENTRIES, *passing), first)
    assert found((*ENTRIES, *passing)) == {}
    assert (first.passing, again.passing) == (2, 2)


@pytest.mark.parametrize(
    ("match", "priority", "above"),
    [
        (of.Match(), 65535, True),
        (of.Match(), 200, True),
        (of.Match(), 199, False),
        (of.Match(in_port=1), 300, True),
        (of.Match(in_port=9), 300, False),
        (of.Match(in_port=1, eth_type=0x88B6), 300, True),
        (of.Match(eth_type=0x88B6), 300, True),
    ],
)
def test_a_foreign_rule_matters_if_it_may_take_frames_from_ours(
    match: of.Match, priority: int, above: bool
) -> None:
    foreign = Flow(Table.CLASSIFY, priority, match, (), 0xABC)
    assert found((*ENTRIES, foreign)) == ({"of another program": foreign} if above else {})
    other_table = replace(foreign, table=200)
    assert found((*ENTRIES, other_table)) == {}


def test_what_drops_frames_in_every_switch_may_be_overridden() -> None:
    base = Flow(Table.CLASSIFY, 0, of.Match(), (), pipeline.cookie(0, Kind.BASE))
    foreign = Flow(Table.CLASSIFY, 3, of.Match(in_port=3), (), 0xABC)
    expected = {e.key: PlacedEntry(1, Order.ADMIT, e) for e in (base, flow(1))}
    assert beyond([foreign], expected).others == [foreign]


def test_a_foreign_rule_is_judged_again_when_ours_change() -> None:
    foreign = Flow(Table.CLASSIFY, 300, of.Match(in_port=9), (), 0xABC)
    expected = installed(*ENTRIES)
    last = read((*ENTRIES, foreign))
    assert last.differences(expected.on(1), expected.generation) == []
    expected.replace("more", [PlacedEntry(1, Order.ADMIT, flow(9))], Delta())
    now = read((*ENTRIES, flow(9), foreign), last)
    assert [d.held for d in now.differences(expected.on(1), expected.generation)] == [foreign]


def test_differences_are_counted_and_told_in_words() -> None:
    expected = installed(*ENTRIES)
    held = (replace(flow(1), instructions=ELSEWHERE), flow(9))
    differences = read(held).differences(expected.on(1), expected.generation)
    text = counts_text(differences)
    assert text.startswith("2 rules missing, 1 group missing, 1 meter missing, 1 rule changed, 1 rule not ")
    assert "rule priority=200,in_port=1 in table classify (changed)" in text
    assert text.endswith(" and 3 more")


@pytest.mark.parametrize("wrong", [b"\0", b"\0\x08" + bytes(6), b"\0\x39" + bytes(70), b"\0\xff" + bytes(70)])
def test_malformed_records_are_refused(wrong: bytes) -> None:
    with pytest.raises(of.ProtocolError):
        of.flow_records(wrong)
    with pytest.raises(of.ProtocolError):
        of.description_records(wrong[:3])


REFUSAL = Flow(Table.SOURCE, 10, of.Match(eth_src=7), (), pipeline.cookie(3, Kind.DECLARED))
#: rules of declared hosts that let frames pass or lead to the host, and drops of another kind
OTHERS = (
    Flow(Table.SOURCE, 100, of.Match(eth_src=7), OUT, pipeline.cookie(3, Kind.DECLARED)),
    Flow(Table.HOST, 20, of.Match(eth_dst=7), (), pipeline.cookie(3, Kind.DECLARED)),
    Flow(Table.SOURCE, 10, of.Match(eth_src=8), (), pipeline.cookie(3, Kind.QUIET)),
    Flow(Table.SOURCE, 0, of.Match(), (), pipeline.cookie(0, Kind.BASE)),
)


def test_rules_that_have_refused_declared_hosts_since_the_last_reading_are_told() -> None:
    held = (REFUSAL, *OTHERS)
    first = read(held, packets=9)
    assert newly_refused(first, None) == []
    same = read(held, first, packets=9)
    assert newly_refused(same, first) == []
    more = read(held, same, packets=10)
    assert newly_refused(more, same) == [REFUSAL]
    assert newly_refused(read(held, more, packets=10), more) == []


def test_at_the_first_reading_only_rules_that_are_younger_than_the_connection_count() -> None:
    # They are as old, in seconds, as the number of their packets.
    assert newly_refused(read((REFUSAL, *OTHERS), packets=9, watched=9.0), None) == []
    assert newly_refused(read((REFUSAL, *OTHERS), packets=9, watched=9.5), None) == [REFUSAL]


def test_a_rule_that_is_new_or_was_installed_again_counts_from_zero() -> None:
    before = read(OTHERS, packets=5)
    new = read((REFUSAL, *OTHERS), before, packets=5)
    assert newly_refused(new, before) == [REFUSAL]
    again = read((REFUSAL, *OTHERS), new, packets=2)
    assert newly_refused(again, new) == [REFUSAL]
    unused = read((REFUSAL, *OTHERS), new)
    assert newly_refused(unused, new) == []
