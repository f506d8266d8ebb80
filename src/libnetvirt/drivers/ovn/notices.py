"""Events: what changed since it was last told."""

from __future__ import annotations

from collections.abc import Callable, Collection

from libnetvirt.drivers.ovn.reporting import View
from libnetvirt.model import State


class Notices:
    """Compares what is with what was last reported.

    Networks that we are changing are looked at afterwards.
    """

    def __init__(self, view: View, publish: Callable[..., None]) -> None:
        self._view = view
        self._publish = publish
        self._held: dict[str, int] = {}
        self._names: dict[str, str] = {}
        self._states: dict[str, dict[str, State]] = {}
        self._drifted: set[str] = set()
        self._links: set[tuple[str, str]] = set()
        self._chassis: set[str] = set()
        self._started = False

    def start(self) -> None:
        """From now on, differences are told."""
        self._substrate()
        for uuid, known in self._view.northbound.known.items():
            self._names[uuid] = known.description.name
            self._look(uuid)
        self._started = True
        for uuid in self._view.northbound.known:
            self._drift(uuid)

    def hold(self, uuid: str) -> None:
        """Say nothing about a network: an operation of ours is going on."""
        self._held[uuid] = self._held.get(uuid, 0) + 1

    def resume(self, uuid: str) -> None:
        """The operation is over; the caller tells of it."""
        self._held[uuid] -= 1
        if not self._held[uuid]:
            del self._held[uuid]
        known = self._view.northbound.known.get(uuid)
        if known is None:
            self._forget(uuid)
        else:
            self._names[uuid] = known.description.name
            self._drifted.discard(uuid)
            self._look(uuid)

    def northbound(self, parts: Collection[str], described: Collection[str]) -> None:
        """Rows of some parts changed; some networks are described anew."""
        if not self._started:
            return
        known = self._view.northbound.known
        for uuid in described:
            if uuid in self._held:
                continue
            if uuid not in known:
                name = self._names.get(uuid, uuid)
                self._forget(uuid)
                self._publish("network.removed", f"network {name} was removed", network=uuid)
                continue
            kind = "changed" if uuid in self._names else "created"
            self._names[uuid] = known[uuid].description.name
            self._publish(f"network.{kind}", f"network {self._names[uuid]} was {kind}", network=uuid)
            self._look(uuid)
        for part in parts:
            if part in known and part not in self._held:
                self._drift(part)

    def southbound(self, networks: Collection[str], everybody: bool) -> None:
        """Ports of some networks changed, or chassis did."""
        if not self._started:
            return
        if everybody:
            self._substrate()
            self.everybody()
            return
        for uuid in networks:
            if uuid in self._view.northbound.known and uuid not in self._held:
                self._look(uuid)

    def everybody(self) -> None:
        """Look at all networks."""
        if self._started:
            for uuid in self._view.northbound.known:
                if uuid not in self._held:
                    self._look(uuid)

    def _forget(self, uuid: str) -> None:
        self._names.pop(uuid, None)
        self._states.pop(uuid, None)
        self._drifted.discard(uuid)
        self._view.seen = {s for s in self._view.seen if s[0] != uuid}

    def _look(self, uuid: str) -> None:
        """Tell of endpoints whose state has changed."""
        network = self._view.northbound.known[uuid].description
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

    def _drift(self, uuid: str) -> None:
        """Tell of rows that strangers changed, once."""
        found = self._view.northbound.drift(uuid)
        if bool(found) is (uuid in self._drifted):
            return
        name = self._names.get(uuid, uuid)
        if found:
            self._drifted.add(uuid)
            lines = list(found.lines())
            more = f" and {len(lines) - 3} more" if len(lines) > 3 else ""
            text = f"somebody changed rows of network {name}: {'; '.join(lines[:3])}{more}"
            self._publish("network.drift", f"{text}. 'netvirt repair' puts it right", network=uuid)
        else:
            self._drifted.discard(uuid)
            self._publish("network.mended", f"network {name} is as described again", network=uuid)

    def _substrate(self) -> None:
        """Tell of chassis and tunnels that came or went."""
        chassis, links = set(self._view.southbound.chassis()), self._view.links()
        if self._started:
            for word, names in (
                ("connected", chassis - self._chassis),
                ("disconnected", self._chassis - chassis),
            ):
                for name in sorted(names):
                    self._publish(f"switch.{word}", f"chassis {name} {word}", switch=name)
            for word, pairs in (("up", links.keys() - self._links), ("down", self._links - links.keys())):
                for a, b in sorted(pairs):
                    text = f"the tunnel from chassis {a} to chassis {b} is {word}"
                    self._publish(f"link.{word}", text, switch=a, peer=b)
        self._chassis, self._links = chassis, set(links)
