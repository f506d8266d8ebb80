"""Queries to a switch that has connected: its description, its features, its entries.

Every function waits for the switch, and raises RuleRefused if it answers with an error, SwitchTimeout if it
does not answer in time.
"""

from __future__ import annotations

import contextlib

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.installed import SwitchSnapshot
from libnetvirt.controller.engine.controller import port_view
from libnetvirt.controller.intent.switches import SwitchView
from libnetvirt.drivers.openflow.southbound.session import Session
from libnetvirt.errors import RuleRefused

#: what switches report by themselves: everything, and unlike by default also packets whose TTL has expired
_REPORTS = of.SetAsync(packet_in=(0b111, 0), port_status=(0b111, 0b111), flow_removed=(0b1111, 0))


async def describe(session: Session) -> SwitchView:
    """Configure a switch, and ask for its description, ports, bundles and meters."""
    session.send(of.SetConfig(0, of.CONTROLLER_NO_BUFFER))
    session.send(_REPORTS)
    await session.probe_bundles()
    desc = await session.request(of.DescRequest(), of.DescReply)
    ports = await session.request(of.PortDescRequest(), of.PortDescReply)
    view = SwitchView(session.dpid, connected=True, known=True, address=session.address)
    for desc_of_port in ports.ports:
        if (port := port_view(desc_of_port)) is not None:
            view.add_port(port)
    local = next((p for p in ports.ports if p.port_no == of.Port.LOCAL), None)
    if local is not None:
        view.bridge, view.local_mac = local.name, local.hw_addr
    view.description = " ".join(t for t in (desc.mfr_desc, desc.hw_desc, desc.sw_desc) if t)
    view.bundles, view.tables = session.bundles, session.tables
    with contextlib.suppress(RuleRefused):
        meters = await session.request(of.MeterFeaturesRequest(), of.MeterFeaturesReply)
        view.meter_limit = meters.max_meter
        view.meters = meters.max_meter > 0 and bool(meters.band_types & 1 << of.BandType.DROP)
    return view


async def exercise(session: Session) -> None:
    """Have a switch carry out and confirm a change without effect, to see whether it can confirm others."""
    no_effect = of.FlowMod(
        table_id=of.ALL_TABLES,
        command=of.FlowModCommand.DELETE,
        cookie=pipeline.COOKIE_MARK | pipeline.UNUSED,
        cookie_mask=0xFFFF_FFFF_FFFF_FFFF,
    )
    await session.confirm([no_effect])


async def snapshot(session: Session) -> SwitchSnapshot:
    """The entries of a switch: flows with our cookie, all groups and meters."""
    flows = await session.request(
        of.FlowStatsRequest(cookie=pipeline.COOKIE_MARK, cookie_mask=pipeline.COOKIE_MARK_MASK),
        of.FlowStatsReply,
    )
    groups = await session.request(of.GroupDescRequest(), of.GroupDescReply)
    try:
        meters = list((await session.request(of.MeterConfigRequest(), of.MeterConfigReply)).entries)
    except RuleRefused:
        meters = []
    return SwitchSnapshot(list(flows.entries), list(groups.entries), meters)


async def foreign_flows(session: Session) -> int:
    """How many flows a switch holds that are not ours."""
    total = await session.request(of.AggregateStatsRequest(), of.AggregateStatsReply)
    ours = await session.request(
        of.AggregateStatsRequest(cookie=pipeline.COOKIE_MARK, cookie_mask=pipeline.COOKIE_MARK_MASK),
        of.AggregateStatsReply,
    )
    return total.flow_count - ours.flow_count
