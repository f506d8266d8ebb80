"""What is counted of packet-ins for monitoring is exact, although it is not counted frame by frame."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.pipeline import Kind, Table
from libnetvirt.controller.engine.controller import Options
from libnetvirt.controller.packetin.deferral import SOURCE_LIMIT
from libnetvirt.controller.packetin.fair_queue import QUANTUM, QUEUE_LIMIT
from tests.support.controller_rig import BROADCAST, NATIVE, Rig, endpoint, frame, line, mac, network

ENDS = {"1": (endpoint(11, 1, 3), endpoint(12, 2, 3)), "2": (endpoint(21, 1, 4), endpoint(22, 2, 4))}
PORTS = {"1": 3, "2": 4}


def _rig(rate: float = 1e9) -> Rig:
    rig = Rig(Options(rules=NATIVE, packet_rate=rate))
    line(rig, 2)
    for uuid, ends in ENDS.items():
        rig.change(None, network(int(uuid), *ends))
    return rig


def _frame(rig: Rig, uuid: str) -> of.PacketIn:
    index = rig.state.rulesdb.networks[uuid].index
    match = of.Match(in_port=PORTS[uuid], metadata=pipeline.entered(index, None))
    head = of.PacketInHead(of.NO_BUFFER, 60, 1, Table.HOST, pipeline.cookie(0, Kind.BASE), match)
    return of.PacketIn(head, frame(BROADCAST, mac(int(uuid))))


def _counted(rig: Rig) -> dict[str, int]:
    return {uuid: record.packet_ins for uuid, record in rig.state.rulesdb.networks.items()}


# A read brings frames of both networks; afterwards, queued ones are served for some rounds.
_READS = st.lists(
    st.tuples(
        st.sampled_from((0, 1, QUANTUM - 1, QUANTUM, QUANTUM + 1, QUANTUM + QUEUE_LIMIT + 3)),
        st.sampled_from((0, 1, QUANTUM + 1)),
        st.integers(0, 3),
    ),
    max_size=5,
)


@settings(max_examples=15, deadline=None)
@given(reads=_READS)
def test_each_frame_counts_once_however_networks_take_turns(
    reads: list[tuple[int, int, int]],
) -> None:
    rig, sent = _rig(), {"1": 0, "2": 0}
    for ones, twos, rounds in reads:
        for uuid in "1" * ones + "2" * twos:
            rig.dispatcher.packet_in(1, _frame(rig, uuid), 1.0)
            sent[uuid] += 1
            assert _counted(rig)[uuid] == sent[uuid]
        for _ in range(rounds):
            rig.dispatcher.serve_queued(1.0)
        assert _counted(rig) == sent
    assert rig.state.rulesdb.packet_ins == sum(sent.values())
    waiting = rig.dispatcher.waiting["fair"]
    while rig.dispatcher.serve_queued(1.0):
        assert rig.dispatcher.waiting["fair"] < waiting
        waiting = rig.dispatcher.waiting["fair"]
    assert _counted(rig) == sent


def test_what_exceeds_the_rate_counts_as_dropped_only() -> None:
    rig = _rig(rate=10)
    for _ in range(100):
        rig.dispatcher.packet_in(1, _frame(rig, "1"), 1.0)
    record = rig.state.rulesdb.networks["1"]
    assert record.dropped >= 50
    assert record.packet_ins + record.dropped == 100
    assert rig.dispatcher.dropped_by_reason == {
        "rate": record.dropped, "operation": 0, "pair": 0, "neighbour": 0,
    }  # fmt: skip
    assert rig.state.rulesdb.networks["2"].dropped == 0


@pytest.mark.parametrize("more", [0, 5])
def test_a_frame_that_waits_for_an_operation_counts_when_it_is_served(more: int) -> None:
    rig = _rig()
    rig.dispatcher.busy = frozenset("1")
    for _ in range(SOURCE_LIMIT + more):
        rig.dispatcher.packet_in(1, _frame(rig, "1"), 1.0)
        rig.dispatcher.serve_queued(1.0)
    while rig.dispatcher.serve_queued(1.0):
        pass
    assert _counted(rig)["1"] == more
    assert rig.dispatcher.waiting == {"fair": 0, "deferred": SOURCE_LIMIT}
    assert rig.dispatcher.dropped_by_reason["operation"] == more
    assert rig.dispatcher.dropped_by_reason["rate"] == 0
    rig.dispatcher.resume(1.0)
    assert _counted(rig)["1"] == SOURCE_LIMIT + more
    assert rig.dispatcher.waiting["deferred"] == 0


def test_the_sum_keeps_the_frames_of_removed_networks() -> None:
    rig = _rig()
    for _ in range(7):
        rig.dispatcher.packet_in(1, _frame(rig, "1"), 1.0)
    rig.dispatcher.packet_in(1, _frame(rig, "2"), 1.0)
    rig.change(rig.state.rulesdb.networks["1"].description, None)
    assert _counted(rig) == {"2": 1}
    assert rig.state.rulesdb.packet_ins == 8
