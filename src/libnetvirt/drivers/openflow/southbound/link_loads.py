"""LinkLoads: what ports send, in bit/s, from the counters of the switches.

Counters are read only while they are asked for: every :data:`WINDOW` seconds, until nobody has asked for
:data:`WATCHED` seconds. So a network that nobody watches is asked for nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from libnetvirt import openflow as of
from libnetvirt.drivers.openflow.southbound.session import Session
from libnetvirt.drivers.openflow.southbound.storm_watch import EachSwitch

#: Seconds between two readings of a switch: a load is the mean of this time.
WINDOW: Final = 2.0
#: Seconds without a question after which reading ends: longer than two scrapes of Prometheus are apart.
WATCHED: Final = 150.0
#: Seconds that a switch has for its answer; one that takes longer has no loads, and no other disadvantage.
ANSWER: Final = 10.0
#: what a switch reports for a counter that it does not have (OpenFlow 1.3.5, section 7.3.5.6)
_NOT_SUPPORTED: Final = 2**64 - 1


class LinkLoads:
    """The loads of ports. A switch has one question at a time, so that one that is slow gets no more."""

    def __init__(self, each_switch: EachSwitch, now: Callable[[], float]) -> None:
        self._each_switch = each_switch
        self._now = now
        self._asked = float("-inf")
        self._read_at = float("-inf")
        self._waiting: set[int] = set()
        self._before: dict[int, tuple[float, dict[int, of.PortStatsEntry]]] = {}
        self._loads: dict[tuple[int, int], float] = {}

    def load(self, dpid: int, port: int) -> float | None:
        """bit/s that a port has sent during the last window; None if that is not known, or not yet. Has the
        counters read for a while."""
        self._asked = self._now()
        return self._loads.get((dpid, port))

    @property
    def due(self) -> bool:
        """Whether the counters are to be read now."""
        now = self._now()
        if now - self._asked > WATCHED:
            self._before.clear()
            self._loads.clear()
            return False
        return now - self._read_at >= WINDOW

    async def read(self) -> None:
        """Read the counters of all ports once. Waits for the switches' answers."""
        self._read_at = self._now()
        there = {dpid for dpid, _ in await self._each_switch(self._ask)}
        for dpid in self._before.keys() - there:
            self._forget(dpid)

    async def _ask(self, session: Session) -> None:
        dpid = session.dpid
        if dpid in self._waiting:
            return
        self._waiting.add(dpid)
        try:
            reply = await session.request(of.PortStatsRequest(), of.PortStatsReply, within=ANSWER)
        finally:
            self._waiting.discard(dpid)
        self.seen(dpid, reply.entries)

    def seen(self, dpid: int, entries: tuple[of.PortStatsEntry, ...]) -> None:
        """A switch has reported its counters."""
        now = self._now()
        then, before = self._before.get(dpid, (now, {}))
        self._forget(dpid)
        self._before[dpid] = now, {entry.port_no: entry for entry in entries}
        for entry in entries:
            old = before.get(entry.port_no)
            if old is None or entry.tx_bytes == _NOT_SUPPORTED or entry.tx_bytes < old.tx_bytes:
                continue
            # The switch's own clock, where it has one: answers of a busy switch come late.
            seconds = _age(entry) - _age(old)
            if (seconds := seconds if seconds > 0 else now - then) > 0:
                self._loads[dpid, entry.port_no] = (entry.tx_bytes - old.tx_bytes) * 8 / seconds

    def _forget(self, dpid: int) -> None:
        _, before = self._before.pop(dpid, (0.0, {}))
        for port in before:
            self._loads.pop((dpid, port), None)


def _age(entry: of.PortStatsEntry) -> float:
    return entry.duration_sec + entry.duration_nsec / 1e9
