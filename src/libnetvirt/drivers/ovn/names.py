"""Which chassis a switch of a description is, also after the chassis was renamed.

A description names a chassis by its name (``system-id``) or its hostname, and both may change. So the row of
each endpoint has a mark with both, as they were when the row was made: where a switch is no longer
registered, its chassis is the one that still has the other name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from libnetvirt.drivers.ovn.schema import CHASSIS
from libnetvirt.ovsdb.database import Row


class ChassisNames:
    """The names of chassis. ``registered`` returns the rows of the chassis that are registered, by name."""

    def __init__(self, registered: Callable[[], Mapping[str, Row]]) -> None:
        self._registered = registered
        #: switch -> the name and the hostname of its chassis, by the marks
        self._remembered: dict[str, tuple[str, str]] = {}

    def chassis_of(self, switch: str) -> str | None:
        """The name of the chassis that a switch is; None if it is not registered."""
        found = self._named(switch)
        if found is not None or switch not in self._remembered:
            return found
        name, hostname = self._remembered[switch]
        if name in self._registered():
            return name
        found = self._named(hostname) if hostname else None
        # Not one that is known to have had another hostname.
        return None if found in {n for n, host in self._remembered.values() if host != hostname} else found

    def _named(self, switch: str) -> str | None:
        """The chassis with this name, or else with this hostname if it is the only one; None without one."""
        chassis = self._registered()
        if switch in chassis:
            return switch
        by_hostname = [name for name, row in chassis.items() if row["hostname"] == switch]
        return by_hostname[0] if len(by_hostname) == 1 else None

    def aliases(self, switch: str) -> list[str]:
        """The other words for the chassis of a switch."""
        name = self.chassis_of(switch)
        row = self._registered().get(name) if name else None
        if row is None:
            return []
        words = {row["name"], row["hostname"], *self._remembered} - {switch, ""}
        return [word for word in words if self.chassis_of(word) == name]

    def requested(self, switch: str) -> str:
        """What OVN has to be asked for: the switch as described, while it is registered by that word."""
        return switch if self._named(switch) else self.chassis_of(switch) or switch

    def mark(self, switch: str) -> dict[str, str]:
        """The mark of an endpoint there; none while the chassis is not registered."""
        name = self.chassis_of(switch)
        if name is None:
            return {}
        hostname = self._registered()[name]["hostname"]
        # A hostname that several have says nothing.
        known = hostname if self._named(hostname) == name else ""
        return {CHASSIS: json.dumps([switch, name, known])}

    def remember(self, row: Row) -> None:
        """Read the mark of a row, if it has one."""
        mark = row["external_ids"].get(CHASSIS)
        if mark:
            try:
                switch, name, hostname = json.loads(mark)
            except ValueError:
                return
            self._remembered[str(switch)] = str(name), str(hostname)


#: for a compiler without any chassis
NO_NAMES = ChassisNames(dict)
