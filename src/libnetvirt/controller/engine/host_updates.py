"""HostUpdates: changes the rules that lead to a host, as soon as it is learned, moves or is removed.

A host that is learned, moves or goes silent changes one unit of one network. That needs no round and no lock:
the messages go out on the :class:`~libnetvirt.controller.ondemand.flows.Wire` in the order of the rounds, and
frames that meet half of them come up to the controller and are served there.
"""

from __future__ import annotations

from libnetvirt.controller.dataplane.installed import Delta
from libnetvirt.controller.engine.state import ControllerState
from libnetvirt.controller.engine.units import UnitCompiler
from libnetvirt.controller.intent.locator import Host
from libnetvirt.controller.intent.neighbours import Neighbour
from libnetvirt.controller.intent.rulesdb import NetworkRecord
from libnetvirt.controller.ondemand.flows import Wire


class HostUpdates:
    """Updates the rules of single hosts and neighbours on switches."""

    def __init__(self, state: ControllerState, units: UnitCompiler, wire: Wire) -> None:
        self._state = state
        self._units = units
        self._wire = wire

    def host_changed(self, record: NetworkRecord, host: Host) -> None:
        """A host was learned, moved or was removed."""
        if record.on_demand:
            self._state.ondemand.remove_host(host)
            return
        delta = Delta()
        self._units.compile_host(record, host.mac, delta)
        self._send(delta)

    def neighbour_changed(self, record: NetworkRecord, neighbour: Neighbour) -> None:
        """A neighbour of a router was learned, moved or was removed."""
        delta = Delta()
        self._units.compile_neighbour(record, neighbour, delta)
        self._send(delta)

    def _send(self, delta: Delta) -> None:
        for one in delta.plan().rounds:
            for dpid, messages in one.items():
                for message in messages:
                    self._wire.send(dpid, message)
