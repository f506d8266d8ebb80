"""What is asked of a switch that has connected, and what becomes of its answers."""

from __future__ import annotations

import asyncio

import pytest

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.installed import SwitchSnapshot
from libnetvirt.controller.intent.switches import SwitchView
from libnetvirt.drivers.openflow.southbound import probe
from tests.unit.drivers.openflow.southbound.test_session import Peer, _turn

REFUSED = of.Error(of.ErrorType.BAD_REQUEST, of.BadRequest.BAD_MULTIPART)
DROP, REMARK = 1 << of.BandType.DROP, 1 << of.BandType.DSCP_REMARK
PORTS = of.PortDescReply(
    (
        of.PortDesc(1, name="eth1", curr_speed=10_000),
        of.PortDesc(of.Port.LOCAL, hw_addr=0x0200_0000_0009, name="br0"),
    )
)


def described(meters: of.Message, **answers: of.Message) -> tuple[SwitchView, list[of.Message]]:
    """The view of a switch that answers so, and what it was sent without a reply."""
    told: list[of.Message] = []

    async def story() -> SwitchView:
        peer = Peer()
        task = asyncio.create_task(probe.describe(peer.session))
        while not task.done():
            await _turn()
            for sent in peer.got():
                answer: of.Message | None = answers.get(type(sent).__name__)
                if answer is None and isinstance(sent, of.BundleControl):
                    answer = of.BundleControl(sent.bundle_id, of.BundleCtrlType.OPEN_REPLY)
                    if sent.type != of.BundleCtrlType.OPEN_REQUEST:
                        continue
                elif answer is None and isinstance(sent, of.DescRequest):
                    answer = of.DescReply(mfr_desc="Nicira, Inc.", hw_desc="Open vSwitch", sw_desc="3.1.0")
                elif answer is None and isinstance(sent, of.PortDescRequest):
                    answer = PORTS
                elif isinstance(sent, of.MeterFeaturesRequest):
                    answer = meters
                elif answer is None:
                    told.append(sent)
                    continue
                answer.xid = sent.xid
                peer.say(answer)
        return task.result()

    return asyncio.run(story()), told


@pytest.mark.parametrize(
    ("meters", "usable", "limit"),
    [
        (of.MeterFeaturesReply(9, DROP), True, 9),
        (of.MeterFeaturesReply(1, DROP | REMARK), True, 1),
        (of.MeterFeaturesReply(0, DROP), False, 0),
        (of.MeterFeaturesReply(9, REMARK), False, 9),
        (of.MeterFeaturesReply(9, 0), False, 9),
        (REFUSED, False, 0),
    ],
)
def test_a_switch_has_meters_if_it_has_some_that_drop(meters: of.Message, usable: bool, limit: int) -> None:
    view, _ = described(meters)
    assert (view.meters, view.meter_limit) == (usable, limit)


def test_a_switch_is_as_it_describes_itself() -> None:
    view, told = described(REFUSED)
    assert (view.dpid, view.connected, view.known, view.tables) == (7, True, True, 254)
    assert view.description == "Nicira, Inc. Open vSwitch 3.1.0"
    assert {n: (p.name, p.up, p.speed) for n, p in view.ports.items()} == {1: ("eth1", True, 10_000_000)}
    assert (view.bridge, view.local_mac) == ("br0", 0x0200_0000_0009)
    assert view.bundles
    assert [type(m) for m in told] == [of.SetConfig, of.SetAsync]
    config, reports = told
    assert isinstance(config, of.SetConfig)
    assert (config.flags, config.miss_send_len) == (0, of.CONTROLLER_NO_BUFFER)
    assert isinstance(reports, of.SetAsync)
    # Packets without a rule, by a rule, with a TTL that has run out; and nothing as a slave but ports.
    assert (reports.packet_in, reports.port_status, reports.flow_removed) == ((7, 0), (7, 7), (15, 0))
    view, _ = described(REFUSED, DescRequest=of.DescReply(sw_desc="x"), BundleControl=REFUSED)
    assert (view.description, view.bundles) == ("x", False)


def test_entries_and_foreign_flows_are_asked_for_by_cookie() -> None:
    async def story() -> None:
        peer = Peer()
        entry = of.FlowStatsEntry(table_id=1, cookie=pipeline.COOKIE_MARK)
        group, meter = of.GroupDesc(0, 7, ()), of.MeterConfig(0, 9, ())
        answers: dict[type[of.Message], of.Message] = {
            of.FlowStatsRequest: of.FlowStatsReply((entry,)),
            of.GroupDescRequest: of.GroupDescReply((group,)),
            of.MeterConfigRequest: of.MeterConfigReply((meter,)),
        }
        mark = (pipeline.COOKIE_MARK, pipeline.COOKIE_MARK_MASK)

        async def answered(task: asyncio.Task[SwitchSnapshot] | asyncio.Task[int]) -> object:
            counts = iter((12, 5))
            while not task.done():
                await _turn()
                for sent in peer.got():
                    answer = answers.get(type(sent), REFUSED)
                    if isinstance(sent, of.AggregateStatsRequest):
                        count = next(counts)
                        assert (sent.cookie, sent.cookie_mask) == ((0, 0) if count == 12 else mark)
                        answer = of.AggregateStatsReply(0, 0, count)
                    if isinstance(sent, of.FlowStatsRequest):
                        assert (sent.cookie, sent.cookie_mask) == mark
                    answer.xid = sent.xid
                    peer.say(answer)
            return task.result()

        wanted = SwitchSnapshot([entry], [group], [meter])
        assert await answered(asyncio.create_task(probe.snapshot(peer.session))) == wanted
        answers[of.MeterConfigRequest] = REFUSED
        wanted.meters.clear()
        assert await answered(asyncio.create_task(probe.snapshot(peer.session))) == wanted, "it has no meters"
        assert await answered(asyncio.create_task(probe.foreign_flows(peer.session))) == 7

    asyncio.run(story())
