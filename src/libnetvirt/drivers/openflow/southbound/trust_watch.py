"""TrustWatch: finds out, again and again, whether switches forward frames past the rules of networks.

Over OpenFlow, each bridge of Open vSwitch is sent `probes` when it connects and then once a round; an entry
of ours counts those that reach our tables. In the database of a switch, if it is known, its settings are
judged (`libnetvirt.ovsdb.bridges`) whenever they change. Whether a switch applies changed rules to frames in
its cache is tried by `libnetvirt.controller.engine.cache_checks`. What is found is kept in
:class:`~libnetvirt.controller.topology.trust.Trust`, and reported when it changes: ``switch.untrusted``,
``switch.trusted``.

What probes cannot show, and the database does: mirrors, and ``fail_mode=standalone``, which acts only while a
switch has no controller.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane.entries import add_message
from libnetvirt.controller.dataplane.pipeline import Table, is_ours
from libnetvirt.controller.engine.controller import Controller
from libnetvirt.controller.intent.switches import SwitchView, switch_text
from libnetvirt.controller.topology import probes
from libnetvirt.controller.topology.probes import Probe
from libnetvirt.controller.topology.trust import Finding, Untrusted
from libnetvirt.drivers.openflow.southbound.session import Session
from libnetvirt.errors import RuleRefused, SwitchTimeout
from libnetvirt.ovsdb import bridges

#: seconds that a switch may take to answer; one that takes longer is asked again in the next round
ANSWER_TIMEOUT = 2.0
#: A probe counts as taken after so many that were not counted, with so many seconds between two.
TRIES, PAUSE = 3, 0.1
#: seconds until Open vSwitch has followed a change of its database
SETTLED = 1.0
#: switches that are probed at the same time
AT_ONCE = 32
PROBES, DATABASE, CACHE = "probes", "database", "cache"
_BY_PROBES = ("in-band", "stp", "rule", "above")
_OPENFLOW = "ovs-ofctl -O OpenFlow13"


class TrustWatch:
    """Keeps the controller's `Trust` up to date."""

    def __init__(
        self,
        core: Controller,
        sessions: Mapping[int, Session],
        tables: Callable[[int], bridges.Tables | None],
        changed: Callable[[], None],
    ) -> None:
        """``tables``: the copy of a switch's database, or None. ``changed``: called when the states of
        networks may have changed."""
        self._core = core
        self._trust = core.state.trust
        self._sessions = sessions
        self._tables = tables
        self._changed = changed
        self._at_once = asyncio.Semaphore(AT_ONCE)
        # By switch: the counters of our entries when they were last read.
        self._counted: dict[int, dict[Probe, int]] = {}
        self._probing = False
        # By switch: when its settings were seen corrected in the database.
        self._corrected: dict[int, float] = {}

    async def connected(self, session: Session) -> None:
        """A switch has connected and holds our entries: probe it, and read its settings. Waits for its
        answers."""
        self._counted.pop(session.dpid, None)
        self._read(session.dpid)
        await self._probe(session)

    async def probe_all(self) -> None:
        """Probe all switches that are ready. Does nothing if that is still under way."""
        if self._probing:
            return
        self._probing = True
        try:
            await asyncio.gather(*(self._one(s) for s in list(self._sessions.values()) if s.served))
        finally:
            self._probing = False

    def read_databases(self) -> None:
        """Judge the settings of all switches again. Does not block."""
        for dpid in self._core.state.switches:
            self._read(dpid)

    def read_caches(self) -> None:
        """Take note of what was shown by frames in the caches of switches. Does not block."""
        stale = Finding(bridges.STALE.kind, bridges.STALE.text, bridges.STALE.remedy)
        for dpid, is_stale in self._core.caches.take():
            self.found(dpid, CACHE, (stale,) if is_stale else ())

    # ---- the database --------------------------------------------------------------------------

    def _read(self, dpid: int) -> None:
        found = self._in_database(dpid)
        if found is None:
            return
        gone = [finding for finding in self._trust.by(dpid, DATABASE) if finding not in found]
        if gone and self._renews(dpid):
            # Open vSwitch follows its database later, and its cache may not: until then it is not trusted.
            self._corrected.setdefault(dpid, asyncio.get_running_loop().time())
            found += gone
        self.found(dpid, DATABASE, found)

    def _in_database(self, dpid: int) -> list[Finding] | None:
        """What the database of a switch says against it; None if it says nothing about the switch."""
        tables = self._tables(dpid)
        bridge = bridges.of_switch(tables, dpid) if tables is not None else None
        if tables is None or bridge is None:
            return None
        return [Finding(f.kind, f.text, f.remedy) for f in bridges.dangers(tables, bridge)]

    def _renews(self, dpid: int) -> bool:
        """Whether a switch is probed, and its cache renewed, in each round."""
        session, view = self._sessions.get(dpid), self._core.state.switches.get(dpid)
        return session is not None and session.served and view is not None and view.is_open_vswitch

    def _renew(self, session: Session) -> bool:
        """Make a switch forget what it has cached under settings that were corrected a while ago. Returns
        whether that was necessary.

        Open vSwitch goes on mirroring what it has in its cache (seen with 3.1), but goes through its cache
        when an entry is added, even one that is there already.
        """
        since = self._corrected.get(session.dpid)
        if since is None or asyncio.get_running_loop().time() - since < SETTLED:
            return False
        for entry in probes.ENTRIES.values():
            session.send(add_message(entry))
        self._counted.pop(session.dpid, None)
        return True

    # ---- probes --------------------------------------------------------------------------------

    async def _one(self, session: Session) -> None:
        async with self._at_once:
            await self._probe(session)

    async def _probe(self, session: Session) -> None:
        """Probe a switch, if it is one that can be. A switch that does not answer keeps its findings."""
        view = self._core.state.switches.get(session.dpid)
        if view is None or not view.is_open_vswitch:
            return
        renewed = self._renew(session)
        with contextlib.suppress(SwitchTimeout, RuleRefused):
            taken = await self._taken(session, view)
            findings = await self._explain(session, view, taken)
            if self._sessions.get(session.dpid) is session:
                self.found(session.dpid, PROBES, findings)
                if renewed:
                    self._corrected.pop(session.dpid, None)
                    self.found(session.dpid, DATABASE, self._in_database(session.dpid) or ())

    async def _taken(self, session: Session, view: SwitchView) -> list[Probe]:
        """The probes that did not reach our entries."""
        left = list(Probe)
        # A switch that is known to take probes is not sent more than it has to be.
        for attempt in range(1 if self._suspect(session.dpid) else TRIES):
            if attempt:
                await asyncio.sleep(PAUSE)
            before = self._counted.get(session.dpid)
            if before is None:
                before = await self._count(session)
            now = await self._probed(session, [probes.packet_out(probe, view.local_mac) for probe in left])
            # An entry that is missing says nothing: it is restored, and counts again.
            left = [p for p in left if p in now and p in before and now[p] == before[p]]
            if not left:
                break
        return left

    async def _probed(self, session: Session, messages: list[of.PacketOut]) -> dict[Probe, int]:
        """Send these probes. Returns the counters after them. Raises RuleRefused if the switch takes no
        packet-outs, for example because this controller is not its master: then probes say nothing."""
        with session.refusable(messages) as refused:
            session.send(of.BarrierRequest())
            now = await self._count(session)
            if refused():
                raise RuleRefused(f"switch {switch_text(session.dpid)} refused a probe")
        return now

    async def _count(self, session: Session) -> dict[Probe, int]:
        table, cookie, mask = probes.COUNTERS
        asked = of.FlowStatsRequest(table_id=table, cookie=cookie, cookie_mask=mask)
        reply = await session.request(asked, of.FlowStatsReply, ANSWER_TIMEOUT)
        self._counted[session.dpid] = counted = probes.counted(reply.entries)
        return counted

    async def _explain(self, session: Session, view: SwitchView, taken: list[Probe]) -> list[Finding]:
        """What may have taken these probes."""
        bridge, found = view.bridge or "BRIDGE", []
        if not taken:
            return []
        rule = await self._foreign(session, taken)
        if rule is not None:
            return [
                Finding(
                    "rule",
                    "a rule of another program takes frames before the rules of networks do: "
                    f"{of.format_flow(rule)}",
                    f"{_OPENFLOW} del-flows {bridge} table={rule.table_id},cookie={rule.cookie:#x}/-1",
                )
            ]
        if Probe.ABOVE in taken:
            if not await self._is_in_band(session):
                return [
                    Finding(
                        "above",
                        "something takes frames before the rules of networks do",
                        f"netvirt doctor {bridge}",
                    )
                ]
            found.append(
                Finding(
                    "in-band",
                    "in-band control is on: hidden rules above all others forward ARP and TCP that concern "
                    "the controller's address, and ARP and DHCP of the bridge itself, like a learning switch",
                    f"ovs-vsctl set Bridge {bridge} other_config:disable-in-band=true",
                )
            )
        if Probe.SPANNING_TREE in taken:
            found.append(
                Finding(
                    "stp",
                    "it takes spanning tree frames itself: the bridge has spanning tree on (stp_enable or "
                    "rstp_enable), sends such frames to hosts and blocks ports",
                    f"ovs-vsctl set Bridge {bridge} stp_enable=false rstp_enable=false",
                )
            )
        return found

    async def _is_in_band(self, session: Session) -> bool:
        """Whether only a probe with the bridge's own address is taken, as in-band control does it."""
        before = self._counted[session.dpid]
        now = await self._probed(session, [probes.packet_out(Probe.ABOVE, 0)])
        return now.get(Probe.ABOVE, 0) > before.get(Probe.ABOVE, 0)

    async def _foreign(self, session: Session, taken: list[Probe]) -> of.FlowStatsEntry | None:
        """The rule of another program that takes one of these probes, or None."""
        asked = of.FlowStatsRequest(table_id=Table.CLASSIFY)
        reply = await session.request(asked, of.FlowStatsReply, ANSWER_TIMEOUT)
        foreign = [
            entry
            for entry in reply.entries
            if not is_ours(entry.cookie) and any(probes.meets(probe, entry.match) for probe in taken)
        ]
        return max(foreign, key=lambda entry: entry.priority, default=None)

    def _suspect(self, dpid: int) -> bool:
        return any(finding.kind in _BY_PROBES for finding in self._trust.findings(dpid))

    # ---- reports -------------------------------------------------------------------------------

    def found(self, dpid: int, source: str, findings: Iterable[Finding]) -> None:
        """Take note of what a source has found about a switch, and report it if it is new."""
        if not self._trust.found(dpid, source, findings):
            return
        name, why = switch_text(dpid), self._trust.why(dpid)
        if why:
            refused = self._core.state.options.untrusted is Untrusted.REFUSE
            found = self._trust.findings(dpid)
            self._core.publish(
                "switch.untrusted",
                f"switch {name} may forward frames past the rules of networks: {why}"
                f"{' New networks are refused there.' if refused else ''}",
                switch=name,
                reason="; ".join(finding.reason for finding in found),
                remedy="; ".join(finding.remedy for finding in found),
            )
        else:
            text = f"switch {name} forwards by the rules of networks only"
            self._core.publish("switch.trusted", text, switch=name)
        self._changed()
