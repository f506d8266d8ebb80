"""SwitchConnections: the switches that can be sent rules now, and how long each may take to confirm them."""

from __future__ import annotations

from collections.abc import Iterable

from libnetvirt.drivers.openflow.execution.fair_lock import UnresponsiveSwitches
from libnetvirt.drivers.openflow.southbound.session import Session


class SwitchConnections:
    """One session for each switch that is connected, as they come and go."""

    def __init__(self, confirm_timeout: float) -> None:
        """``confirm_timeout``: seconds that a switch has to confirm a change."""
        self.confirm_timeout = confirm_timeout
        self.by_switch: dict[int, Session] = {}
        #: those that no transaction waits for at the moment
        self.unresponsive = UnresponsiveSwitches()

    def of(self, switches: Iterable[int]) -> list[Session]:
        """The sessions of those switches that are connected."""
        return [session for dpid in switches if (session := self.by_switch.get(dpid)) is not None]
