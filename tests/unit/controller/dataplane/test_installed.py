"""Installed rules: deltas, plans, and the comparison with the snapshot of a switch."""

from __future__ import annotations

from dataclasses import replace

import pytest

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import (
    Flow,
    Group,
    Order,
    PlacedEntry,
    add_message,
    delete_message,
    modify_message,
)
from libnetvirt.controller.dataplane.installed import UNCOMPARED, Delta, Installed, Plan, SwitchSnapshot
from libnetvirt.controller.dataplane.pipeline import Kind

RECEIVE, SEND, ADMIT, WITHDRAW = Order


def _flow(number: int, *then: of.Instruction, index: int = 1, kind: Kind = Kind.HOST) -> Flow:
    return Flow(4, 20, of.Match(in_port=number), then, pipeline.cookie(index, kind))


def _group(number: int, port: int = 1) -> Group:
    bucket = of.Bucket(actions=(of.Output(port),))
    return Group(pipeline.tunnel_group(number), of.GroupType.INDIRECT, (bucket,))


def _stats(flow: Flow) -> of.FlowStatsEntry:
    return of.FlowStatsEntry(
        flow.table,
        priority=flow.priority,
        cookie=flow.cookie,
        match=flow.match,
        instructions=flow.instructions,
    )


def _told(plan: Plan) -> list[dict[int, list[of.Message]]]:
    return plan.rounds


OUT = of.ApplyActions((of.Output(1),))
ELSEWHERE = of.ApplyActions((of.Output(2),))


def test_replacing_a_unit_records_additions_changes_and_removals() -> None:
    installed = Installed()
    installed.replace("u", [PlacedEntry(1, SEND, _flow(1)), PlacedEntry(2, SEND, _flow(2))], Delta())
    into = Delta()
    installed.replace("u", [PlacedEntry(1, SEND, _flow(1, OUT)), PlacedEntry(3, ADMIT, _flow(3))], into)
    assert into.change == {(SEND, 1): [(_flow(1), _flow(1, OUT))]}
    assert into.put == {(ADMIT, 3): [_flow(3)]}
    assert into.remove == {2: [_flow(2)]}
    assert installed.count() == 2
    assert not installed.on(2)
    again = Delta()
    installed.replace("u", [PlacedEntry(1, SEND, _flow(1, OUT)), PlacedEntry(3, ADMIT, _flow(3))], again)
    assert again.plan().rounds == []


def test_rounds_are_ordered_and_groups_precede_the_flows_that_use_them() -> None:
    into, installed = Delta(), Installed()
    entries = [
        PlacedEntry(1, ADMIT, _flow(1)),
        PlacedEntry(1, SEND, _flow(2)),
        PlacedEntry(1, SEND, _group(1)),
        PlacedEntry(2, RECEIVE, _flow(3)),
    ]
    installed.replace("u", entries, into)
    plan = into.plan()
    assert [list(r) for r in _told(plan)] == [[2], [1], [1]]
    assert plan.rounds[1][1] == [add_message(_group(1)), add_message(_flow(2))]
    assert plan.switches == {1, 2}
    gone = Delta()
    installed.replace("u", (), gone)
    assert gone.plan().rounds == [
        {
            1: [delete_message(_flow(1)), delete_message(_flow(2)), delete_message(_group(1))],
            2: [delete_message(_flow(3))],
        }
    ]
    assert gone.plan().merged() == gone.plan()
    whole = into.plan().merged()
    assert whole.rounds[0][1] == [add_message(_group(1)), add_message(_flow(2)), add_message(_flow(1))]
    assert Plan([]).merged().rounds == []


def test_entries_that_another_unit_takes_over_are_not_removed() -> None:
    for first, second in (("old", "new"), ("new", "old")):
        installed = Installed()
        installed.replace("old", [PlacedEntry(1, SEND, _flow(1))], Delta())
        into = Delta()
        for unit in (first, second):
            installed.replace(unit, [PlacedEntry(1, SEND, _flow(1, OUT))] if unit == "new" else (), into)
        installed.keep_reclaimed(into)
        assert into.remove == {}
        assert installed.on(1)[_flow(1).key].entry == _flow(1, OUT)


def test_a_changed_flow_keeps_its_counters_where_it_can() -> None:
    same = modify_message(_flow(1), _flow(1, OUT))
    assert isinstance(same, of.FlowMod)
    assert same.command == of.FlowModCommand.MODIFY_STRICT
    other = modify_message(_flow(1), _flow(1, OUT, index=2))
    assert isinstance(other, of.FlowMod)
    assert other.command == of.FlowModCommand.ADD


def test_a_removed_network_takes_one_masked_delete_per_switch() -> None:
    installed = Installed()
    entries = [PlacedEntry(d, SEND, _flow(n, index=7)) for d in (1, 2) for n in range(50)]
    entries += [PlacedEntry(1, SEND, _flow(99, index=8)), PlacedEntry(1, SEND, _group(3))]
    installed.replace("u", entries, Delta())
    into = Delta()
    installed.replace("u", (), into)
    (only,) = into.plan([7]).rounds
    (masked,) = only[2]
    assert isinstance(masked, of.FlowMod)
    assert masked.cookie_mask == pipeline.COOKIE_NETWORK_MASK
    assert masked.cookie == pipeline.cookie(7, Kind.BASE) & pipeline.COOKIE_NETWORK_MASK
    assert only[1] == [masked, delete_message(_flow(99, index=8)), delete_message(_group(3))]


def test_reconciliation_adds_changes_and_removes_entries() -> None:
    installed = Installed()
    right, missing, wrong = _flow(1), _flow(2), _flow(3, OUT)
    entries = [
        PlacedEntry(1, RECEIVE, right),
        PlacedEntry(1, ADMIT, missing),
        PlacedEntry(1, SEND, wrong),
        PlacedEntry(1, SEND, _group(1)),
    ]
    installed.replace("u", entries, Delta())
    surplus = _flow(4)
    foreign = Flow(0, 1, of.Match(), (), 0x1234)
    dump = SwitchSnapshot(
        [_stats(right), _stats(_flow(3, ELSEWHERE)), _stats(surplus), _stats(foreign)],
        [
            of.GroupDesc(of.GroupType.INDIRECT, _group(1, 9).group_id, _group(1, 9).buckets),
            of.GroupDesc(of.GroupType.ALL, 5, ()),
        ],
        [of.MeterConfig(1, 77)],
    )
    into = installed.compare(1, dump)
    assert into.put == {(ADMIT, 1): [missing]}
    assert into.change == {(SEND, 1): [(_flow(3, ELSEWHERE), wrong), (_group(1, 9), _group(1))]}
    assert into.remove == {1: [surplus]}


def test_a_switch_in_the_desired_state_gets_no_messages() -> None:
    installed = Installed()
    installed.replace("u", [PlacedEntry(1, SEND, _flow(1, OUT)), PlacedEntry(1, SEND, _group(1))], Delta())
    groups = [of.GroupDesc(of.GroupType.INDIRECT, _group(1).group_id, _group(1).buckets)]
    assert installed.compare(1, SwitchSnapshot([_stats(_flow(1, OUT))], groups)).plan().rounds == []
    assert installed.compare(2, SwitchSnapshot()).plan().rounds == []


@pytest.mark.parametrize("kind", UNCOMPARED)
def test_rules_with_a_timeout_are_not_compared(kind: Kind) -> None:
    assert Installed().compare(1, SwitchSnapshot([_stats(_flow(1, kind=kind))])).plan().rounds == []


@pytest.mark.parametrize("notify", [False, True])
@pytest.mark.parametrize("held", [False, True])
def test_whether_a_rule_reports_that_it_has_expired_is_compared(notify: bool, held: bool) -> None:
    installed, wanted = Installed(), replace(_flow(1, OUT), notify=notify)
    installed.replace("u", [PlacedEntry(1, SEND, wanted)], Delta())
    # Other flags say nothing.
    flags = of.FlowModFlags.NO_BYT_COUNTS | (of.FlowModFlags.SEND_FLOW_REM if held else 0)
    reported = replace(_stats(_flow(1, OUT)), flags=int(flags))
    changed = installed.compare(1, SwitchSnapshot([reported])).change
    assert changed == ({} if notify is held else {(SEND, 1): [(replace(wanted, notify=held), wanted)]})


def test_removals_that_were_put_off_are_taken_up_unless_their_entries_are_expected_again() -> None:
    installed, put_off = Installed(), Delta()
    first, second, third = _flow(1), _flow(2), _flow(3)
    installed.replace("u", [PlacedEntry(1, SEND, e) for e in (first, second)], Delta())
    installed.replace("v", [PlacedEntry(2, SEND, third)], Delta())
    put_off.remove = {1: [first, second], 2: [third]}
    for unit in ("u", "v"):
        installed.replace(unit, [], Delta())
    installed.put_off(put_off)
    assert installed.outlasting(1) == {first.key: first, second.key: second}
    again = Delta()
    installed.replace("u", [PlacedEntry(1, SEND, first)], again)
    installed.keep_reclaimed(again)
    installed.take_up(put_off)
    assert put_off.remove == {1: [second], 2: [third]}
    assert installed.outlasting(1) == {}
    assert installed.outlasting(2) == {}


def test_group_numbers_and_cookies_are_decoded() -> None:
    assert (
        pipeline.flood_group_network(pipeline.flood_group(pipeline.MAX_NETWORKS, 255))
        == pipeline.MAX_NETWORKS
    )
    assert pipeline.flood_group_network(pipeline.tunnel_group(1)) == 0
    value = pipeline.cookie(pipeline.MAX_NETWORKS, Kind.QUIET)
    assert pipeline.cookie_network(value) == pipeline.MAX_NETWORKS
    assert pipeline.is_ours(value)
    assert not pipeline.is_ours(0)
    assert pipeline.entered(5, 4094) & pipeline.METADATA_TAG == pipeline.tag_code(4094)
    assert (
        pipeline.tunnelled(5) & pipeline.METADATA_SIDE != pipeline.entered(5, None) & pipeline.METADATA_SIDE
    )
