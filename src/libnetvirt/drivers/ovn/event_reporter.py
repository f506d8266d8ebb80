"""Publishes events when the state that the databases show differs from the state last reported.

The databases say what is, not what happened. So the reporter keeps the last reported state of every network,
chassis and tunnel, compares it after each update, and publishes the differences. A network with an operation
of this client in progress is not compared until the operation is over; the driver publishes the operation
itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from libnetvirt.drivers.ovn.databases import Databases
from libnetvirt.drivers.ovn.mirror import Unit
from libnetvirt.drivers.ovn.planner import Planner
from libnetvirt.drivers.ovn.silence import silent_text
from libnetvirt.drivers.ovn.views import View
from libnetvirt.model import State, VirtualNetwork
from libnetvirt.model.differences import change_text

#: differences of drifted rows that an event lists
_SHOWN = 3


class EventReporter:
    """Compares the databases with what was last reported.

    ``publish(kind, message, **fields)`` publishes an event.
    """

    def __init__(
        self, databases: Databases, planner: Planner, view: View, publish: Callable[..., None]
    ) -> None:
        self._networks = databases.mirror.networks
        self._southbound = databases.southbound
        self._silence = databases.silence
        self._silent: set[str] = set()
        self._planner = planner
        self._view = view
        self._publish = publish
        #: network -> the number of its operations in progress
        self._suspended: dict[str, int] = {}
        #: the networks as they were last reported
        self._reported: dict[str, VirtualNetwork] = {}
        self._states: dict[str, dict[str, State]] = {}
        self._drifted: set[str] = set()
        #: network -> the interfaces that other programs have taken
        self._taken: dict[str, list[str]] = {}
        self._links: set[tuple[str, str]] = set()
        self._chassis: set[str] = set()
        self._started = False

    @property
    def known(self) -> Mapping[str, Mapping[str, State]]:
        """The states of endpoints as they were reported last, by network and endpoint."""
        return self._states

    @property
    def drifted(self) -> set[str]:
        """The networks with rows or interfaces that another program has changed."""
        return self._drifted | self._taken.keys()

    def start(self) -> None:
        """Record the present state; differences from it are published from now on."""
        self._silent = set(self._silence.chassis())
        self._compare_substrate()
        for uuid, network in self._networks.items():
            self._reported[uuid] = network.description
            self._compare_states(uuid)
        self._started = True
        for uuid in self._networks:
            self._compare_drift(uuid)

    def suspend(self, uuid: str) -> None:
        """An operation on a network begins: publish nothing about the network."""
        self._suspended[uuid] = self._suspended.get(uuid, 0) + 1

    def resume(self, uuid: str) -> None:
        """The operation is over."""
        self._suspended[uuid] -= 1
        if not self._suspended[uuid]:
            del self._suspended[uuid]
        network = self._networks.get(uuid)
        if network is None:
            self._remove(uuid)
        else:
            self._reported[uuid] = network.description
            self._drifted.discard(uuid)
            self._compare_states(uuid)

    def northbound_changed(self, units: Collection[Unit], described: Collection[str]) -> None:
        """Rows of some units changed; some networks are new, gone, or have another description."""
        if not self._started:
            return
        for uuid in described:
            if uuid in self._suspended:
                continue
            if uuid not in self._networks:
                name = self._name(uuid)
                self._remove(uuid)
                self._publish("network.removed", f"network {name} was removed", network=uuid)
                continue
            before, after = self._reported.get(uuid), self._networks[uuid].description
            kind = "created" if before is None else "changed"
            self._reported[uuid] = after
            text = f"network {after.name} was {kind}{change_text(before, after)}"
            self._publish(f"network.{kind}", text, network=uuid)
            self._compare_states(uuid)
        for unit in units:
            if unit in self._networks and unit not in self._suspended:
                self._compare_drift(unit)

    def southbound_changed(self, networks: Collection[str], chassis_changed: bool) -> None:
        """Ports of some networks changed, or chassis did."""
        if not self._started:
            return
        if chassis_changed:
            self._compare_substrate()
            self.compare_all()
            return
        for uuid in networks:
            if uuid in self._networks and uuid not in self._suspended:
                self._compare_states(uuid)

    def progress(self) -> None:
        """Chassis confirmed changes, or were found not to."""
        silent = set(self._silence.chassis())
        if silent == self._silent or not self._started:
            return
        for name in sorted(silent - self._silent):
            self._publish("switch.silent", silent_text([name]), switch=name)
        for name in sorted(self._silent - silent):
            if name in self._southbound.chassis():
                text = f"chassis {name} confirms changes again, and has applied those it had missed"
                self._publish("switch.returned", text, switch=name)
        self._silent = silent
        self.compare_all()

    def key_moved(self, network: str, old: int, new: int) -> None:
        """OVN has given a tunnel key of a network to another logical switch."""
        if self._started:
            text = (
                f"OVN has moved network {self._name(network)} from tunnel key {old} to {new}, as a logical "
                "switch of another program asks for its key (requested-tnl-key); frames were lost meanwhile"
            )
            self._publish("network.rekeyed", text, network=network)

    def compare_all(self) -> None:
        """Compare the endpoints of all networks."""
        if self._started:
            for uuid in self._networks:
                if uuid not in self._suspended:
                    self._compare_states(uuid)

    def _name(self, uuid: str) -> str:
        """The name of a network as it was last reported, or else its uuid."""
        network = self._reported.get(uuid)
        return uuid if network is None else network.name

    def _remove(self, uuid: str) -> None:
        self._reported.pop(uuid, None)
        self._states.pop(uuid, None)
        self._drifted.discard(uuid)
        self._taken.pop(uuid, None)
        self._view.remove(uuid)

    def _compare_states(self, uuid: str) -> None:
        """Publish the endpoints whose state changed."""
        network = self._networks[uuid].description
        old, new = self._states.get(uuid, {}), {}
        for e in network.endpoints:
            found = self._view.endpoint_state(network, e)
            new[e.uuid] = found.state
            if self._started and old.get(e.uuid, found.state) is not found.state:
                self._publish(
                    "endpoint.state",
                    f"endpoint {e.uuid} of network {network.name} is {found.state}"
                    f"{': ' + found.reason if found.reason else ''}",
                    network=uuid, endpoint=e.uuid, switch=e.switch, port=e.port, state=found.state,
                )  # fmt: skip
        self._states[uuid] = new
        self._compare_interfaces(network)

    def _compare_interfaces(self, network: VirtualNetwork) -> None:
        """Publish that other programs have taken interfaces of a network, or no longer do."""
        old, new = self._taken.get(network.uuid, []), self._view.interface_drift(network)
        if not self._started or old == new:
            return
        if new:
            self._taken[network.uuid] = new
            text = f"network {network.name}: {'; '.join(new)}"
            self._publish("network.drift", text, network=network.uuid)
        else:
            del self._taken[network.uuid]
            text = f"the interfaces of network {network.name} are its own again"
            self._publish("network.mended", text, network=network.uuid)

    def _compare_drift(self, uuid: str) -> None:
        """Publish that a network's rows have drifted, or no longer do."""
        delta = self._planner.drift(uuid)
        if bool(delta) is (uuid in self._drifted):
            return
        name = self._name(uuid)
        if delta:
            self._drifted.add(uuid)
            lines = list(delta.lines())
            more = f" and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
            changes = f"{'; '.join(lines[:_SHOWN])}{more}"
            text = f"rows of network {name} were changed by another program: {changes}"
            self._publish("network.drift", f"{text}. 'netvirt repair' restores them", network=uuid)
        else:
            self._drifted.discard(uuid)
            self._publish(
                "network.mended", f"the rows of network {name} are as described again", network=uuid
            )

    def _compare_substrate(self) -> None:
        """Publish chassis and tunnels that appeared or disappeared."""
        chassis, links = set(self._southbound.chassis()), set(self._view.links())
        if self._started:
            for word, names in (
                ("connected", chassis - self._chassis),
                ("disconnected", self._chassis - chassis),
            ):
                for name in sorted(names):
                    self._publish(f"switch.{word}", f"chassis {name} {word}", switch=name)
            for word, pairs in (("up", links - self._links), ("down", self._links - links)):
                for a, b in sorted(pairs):
                    text = f"the tunnel from chassis {a} to chassis {b} is {word}"
                    self._publish(f"link.{word}", text, switch=a, peer=b)
        self._chassis, self._links = chassis, links
