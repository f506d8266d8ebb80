"""StormWatch: reads the meters of endpoints with storm protection, once a second.

What follows from the counters is decided by
:class:`~libnetvirt.controller.engine.storm_control.StormControl`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from libnetvirt import openflow as of
from libnetvirt.controller.engine.controller import Controller
from libnetvirt.controller.engine.effects import NOTHING, PendingEffects
from libnetvirt.drivers.openflow.southbound.session import Session

Meters = Sequence[of.MeterStatsEntry]
#: asks all switches that are ready, and leaves out those that fail
EachSwitch = Callable[[Callable[[Session], Coroutine[Any, Any, Any]]], Awaitable[list[tuple[int, Any]]]]


class StormWatch:
    """Reads meters, and carries out what follows."""

    def __init__(
        self,
        core: Controller,
        pending: PendingEffects,
        each_switch: EachSwitch,
        now: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        """``changed``: called when the states of endpoints may have changed."""
        self._core = core
        self._pending = pending
        self._each_switch = each_switch
        self._now = now
        self._changed = changed
        self._reading = False

    @property
    def idle(self) -> bool:
        """Whether there is nothing to read."""
        return self._reading or not (self._core.storms.watched() or self._core.state.blocked)

    async def read(self) -> None:
        """Read the meters once. Waits for the switches' answers."""
        self._reading = True
        try:
            meters = await self.meters(self._core.storms.watched())
            effects = self._core.storms.seen(meters, self._now())
        finally:
            self._reading = False
        if effects is not NOTHING:
            self._pending.add(effects)
            self._changed()

    async def meters(self, switches: set[int]) -> dict[int, Meters]:
        """The counters of the meters of some switches, as far as they answer."""

        async def ask(session: Session) -> Meters | None:
            if session.dpid not in switches:
                return None
            return (await session.request(of.MeterStatsRequest(), of.MeterStatsReply)).entries

        answers = await self._each_switch(ask) if switches else []
        return {dpid: entries for dpid, entries in answers if entries is not None}

    def release(self, uuid: str | None) -> list[str]:
        """Admit the blocked endpoints of a network again, or of all. Returns a line for each."""
        effects, lines = self._core.storms.release(uuid, self._now())
        self._pending.add(effects)
        if lines:
            self._changed()
        return lines
