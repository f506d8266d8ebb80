"""Explaining: why frames between two endpoints arrive or not.

What switches do with a frame is read from the rules that they report, by `libnetvirt.verification`; nothing
that has made the rules is asked. What was meant (places, paths, hosts, limits) is the controller's state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from libnetvirt import openflow as of
from libnetvirt.controller.intent.rulesdb import Attachment, NetworkRecord
from libnetvirt.controller.intent.switches import switch_text
from libnetvirt.controller.reports import views
from libnetvirt.drivers.openflow import obstacles
from libnetvirt.drivers.openflow.explained import WINDOW, DirectionReport, Followed, Meter, meters
from libnetvirt.drivers.openflow.runtime import Runtime
from libnetvirt.drivers.openflow.southbound.session import Session
from libnetvirt.drivers.openflow.verifying import Reading, Verifying, joined
from libnetvirt.errors import StaleChange
from libnetvirt.model import (
    Explanation,
    Link,
    ObstacleCode,
    Traffic,
    Verdict,
)
from libnetvirt.semantics.inquiry import Inquiry
from libnetvirt.verification.forwarding import End
from libnetvirt.verification.intent import Intent, Owner
from libnetvirt.verification.tracing import Asked, Trace


class Explaining:
    """Explains what becomes of frames in the networks of a running controller."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._state = runtime.core.state

    async def explain(self, uuid: str, source: str, destination: str, traffic: Traffic) -> Explanation:
        """Explain both directions. Operations wait while switches are read. Raises StaleChange."""
        verifying = Verifying(self._runtime)
        reading = await verifying.read()
        record = self._state.rulesdb.networks.get(uuid)
        ends = [] if record is None else [record.endpoints.get(end) for end in (source, destination)]
        if record is None or record.description not in reading.described or None in ends:
            raise StaleChange(f"network {uuid} was changed or removed meanwhile: ask again")
        intents = verifying.intents(reading)
        here, there = (end for end in ends if end is not None)
        followed = [
            self._follow(record, reading, here, there, traffic),
            self._follow(record, reading, there, here, traffic.back(), back=True),
        ]
        links = _passable(reading.links)
        await asyncio.to_thread(_trace, followed, intents, reading, links)
        met = {meter for one in followed for meter in meters(one)}
        dropping = await self._dropping(met) if met else {}
        directions = tuple(
            DirectionReport(self._state, record, reading, one, dropping).made() for one in followed
        )
        works = {Verdict.ARRIVES, Verdict.FIRST_FRAME}.issuperset(one.verdict for one in directions)
        return Explanation(network=uuid, name=record.description.name, works=works, directions=directions)

    def _follow(
        self, record: NetworkRecord, reading: Reading, source: Attachment, destination: Attachment,
        traffic: Traffic, *, back: bool = False,
    ) -> Followed:  # fmt: skip
        state, now = self._state, self._runtime.now()
        hosts = reading.states[record.uuid].hosts
        inquiry = Inquiry.of(record.description, hosts, source.uuid, destination.uuid, traffic, back=back)
        unread = {switch_text(dpid) for dpid in state.switches} - reading.switches.keys()
        path = views.path(state, source, destination)
        found = [*obstacles.at_endpoint(state, source, unread, now)]
        there = [*obstacles.at_endpoint(state, destination, unread, now)]
        if not any(one.code is ObstacleCode.ENDPOINT_PENDING for one in found + there):
            found += obstacles.on_the_way(state, source, destination, path, unread, traffic.size or 0)
        found += (one for one in there if one not in found)
        return Followed(source, destination, inquiry, path, found)

    async def _dropping(self, met: set[Meter]) -> Mapping[Meter, int]:
        """The meters among these that drop frames now, with how many in `WINDOW`."""
        before = await self._dropped(met)
        await asyncio.sleep(WINDOW)
        after = await self._dropped(met)
        more = {meter: after[meter] - count for meter, count in before.items() if meter in after}
        return {meter: count for meter, count in more.items() if count > 0}

    async def _dropped(self, met: set[Meter]) -> dict[Meter, int]:
        switches = {switch for switch, _ in met}

        async def ask(session: Session) -> of.MeterStatsReply | None:
            if switch_text(session.dpid) not in switches:
                return None
            return await session.request(of.MeterStatsRequest(), of.MeterStatsReply)

        return {
            (switch_text(dpid), entry.meter_id): sum(band.packet_count for band in entry.bands)
            for dpid, reply in await self._runtime.each_switch(ask)
            if reply is not None
            for entry in reply.entries
        }


def _passable(links: Sequence[Link]) -> dict[End, End | None]:
    """Where the ports that are links lead; None for a link that is down. One that cannot be confirmed now is
    used, and frames pass it as far as is known."""
    return joined([link.model_copy(update={"up": link.up or bool(link.unconfirmed)}) for link in links])


def _asked(inquiry: Inquiry) -> Asked:
    """The frame as the model has it."""
    source, ip = inquiry.from_ip, inquiry.ip
    return Asked(
        source=int.from_bytes(inquiry.from_mac),
        destination=int.from_bytes(inquiry.mac),
        ip_version=next((one.version for one in (ip, source) if one is not None), 4),
        source_ip=None if source is None else int(source),
        ip=None if ip is None else int(ip),
        size=inquiry.traffic.size or 0,
    )


def _trace(
    followed: Sequence[Followed],
    intents: Sequence[Intent],
    reading: Reading,
    links: Mapping[End, End | None],
) -> None:
    for one in followed:
        if one.source.port is None:
            continue
        owner = Owner(one.source.network.uuid, one.source.uuid)
        if all(owner.endpoint not in i.places for i in intents if i.network.uuid == owner.network):
            continue
        ports = one.source.members or (one.source.port,)
        trace = Trace(intents, reading.switches, links, _asked(one.inquiry), owner, one.inquiry.traffic.vlan)
        switch = reading.switches.get(switch_text(one.source.dpid))
        up = [port for port in ports if switch is not None and switch.ports.get(port)] or [ports[0]]
        one.ways = trace.follow(one.destination.uuid, up[0])
        one.trace = trace
