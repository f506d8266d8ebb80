"""Resolver: finds the neighbours of routers, and sends what has waited for them.

A neighbour is asked for when a packet wants to go there: :data:`TRIES` times, :data:`INTERVAL` apart
(RFC 1122 section 2.3.2.1). Meanwhile a few packets wait; the answer sends them on in their order, and puts
the rule in that takes all others. Without an answer their senders are told. A neighbour that was silent for
long is asked again while its rule goes on forwarding, and forgotten if it does not answer.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane.entries import adding
from libnetvirt.controller.engine.controller import Controller
from libnetvirt.controller.intent.neighbours import Neighbour
from libnetvirt.controller.intent.rulesdb import Bound, Entry
from libnetvirt.controller.packetin.responder import Heard, Onward, Side, question, unreachable
from libnetvirt.controller.rules.encapsulation import deliver
from libnetvirt.packet import ETH_IPV4, ETH_IPV6, ethernet, mac_text

#: questions to a neighbour until it is given up
TRIES = 3
#: seconds between two questions
INTERVAL = 1.0
#: packets beyond those that wait, until their switch is told to send no more for a while
SURPLUS = 32
#: seconds that it sends no more
QUIET_TIME = 1


class Resolver:
    """Looks after the neighbours of all routers."""

    def __init__(self, core: Controller) -> None:
        self._core = core
        self._neighbours = core.neighbours

    def forward(self, entry: Entry, onward: Onward, now: float) -> None:
        """Send a packet to its next hop, now or when that has answered."""
        hop = onward.hop
        bound = entry.endpoints.get(hop.endpoint)
        if bound is None or bound.port is None:
            return
        neighbour = self._neighbours.find(entry.uuid, *hop)
        if neighbour is None:
            neighbour = self._neighbours.expect(entry.uuid, *hop, due=now + INTERVAL)
            if neighbour is None:
                return
            self._ask(bound, neighbour)
        if neighbour.mac is not None:
            self._send(bound, neighbour.mac, onward.packet)
            return
        self._neighbours.wait(neighbour, onward.packet)
        if neighbour.surplus > SURPLUS:
            neighbour.surplus = 0
            for flow in self._core.routing.unanswered(bound, neighbour, QUIET_TIME):
                self._core.wire.send(bound.dpid, adding(flow))

    def hear(self, bound: Bound, heard: Heard, now: float) -> None:
        """A neighbour has said its MAC address at the endpoint that has its prefix."""
        uuid, endpoint = bound.network.uuid, bound.endpoint.uuid
        neighbour = self._neighbours.find(uuid, endpoint, heard.address)
        before = neighbour.mac if neighbour else None
        if neighbour is None and heard.expected:
            return
        if before not in (None, heard.mac) and heard.kept:
            return
        if neighbour is not None:
            # Before the rule: what comes later must not be sooner.
            for packet in self._neighbours.release(neighbour):
                self._send(bound, heard.mac, packet)
        due = now + self._age(heard.address)
        learned = self._neighbours.learn(uuid, endpoint, heard.address, heard.mac, due)
        if learned is None:
            if neighbour is not None:
                self._neighbours.forget(neighbour)
        elif before != heard.mac:
            self._core.neighbour_changed(bound.network, learned)
            self._report(bound, learned, "learned" if before is None else "moved")

    def unplugged(self, bound: Bound) -> None:
        """An endpoint's port went down: who comes back there may be others."""
        for neighbour in self._neighbours.at(bound.network.uuid, bound.endpoint.uuid):
            self._forget(bound.network, neighbour)

    def tick(self, now: float, waits: Callable[[Entry], bool]) -> None:
        """Ask again, and give up. ``waits``: whether an operation on a network is under way."""
        for neighbour in self._neighbours.take_due(now):
            entry = self._core.rulesdb.networks.get(neighbour.network)
            bound = entry.endpoints.get(neighbour.endpoint) if entry else None
            if entry is None or bound is None:
                self._neighbours.forget(neighbour)
            elif waits(entry) or (neighbour.mac is not None and not self._core.reaches(bound)):
                self._neighbours.put_off(neighbour, now + INTERVAL)
            elif neighbour.tries >= TRIES - 1 + (neighbour.mac is not None):
                waiting = self._neighbours.release(neighbour)
                self._forget(entry, neighbour)
                for packet in waiting:
                    self._refuse(entry, packet, now)
            else:
                neighbour.tries += 1
                self._neighbours.put_off(neighbour, now + INTERVAL)
                self._ask(bound, neighbour)

    def may_err(self, bound: Bound, now: float) -> bool:
        """Whether one more ICMP error may go out at an endpoint (RFC 1812 section 4.3.2.8)."""
        return bound.errors.take(self._core.options.error_rate, now)

    def _refuse(self, entry: Entry, packet: bytes, now: float) -> None:
        error = unreachable(self._core.plan(entry), packet)
        bound = entry.endpoints.get(error.hop.endpoint) if error else None
        if error is not None and bound is not None and self.may_err(bound, now):
            self.forward(entry, error, now)

    def _forget(self, entry: Entry, neighbour: Neighbour) -> None:
        known = neighbour.mac is not None
        self._neighbours.forget(neighbour)
        if known:
            self._core.neighbour_changed(entry, neighbour)

    def _ask(self, bound: Bound, neighbour: Neighbour) -> None:
        side = Side(self._core.plan(bound.network), bound.endpoint.uuid)
        self.emit(bound, question(side, neighbour.address))

    def _send(self, bound: Bound, mac: bytes, packet: bytes) -> None:
        ethertype = ETH_IPV4 if packet[0] >> 4 == 4 else ETH_IPV6
        self.emit(bound, ethernet(mac, self._core.plan(bound.network).gateway, ethertype, packet))

    def emit(self, bound: Bound, frame: bytes) -> None:
        """Send an untagged frame out at an endpoint."""
        if bound.port is not None:
            self._core.wire.send(bound.dpid, of.PacketOut(actions=deliver(bound), frame=frame))

    def _age(self, address: bytes) -> float:
        """Seconds until a silent neighbour is asked again: not all at the same time."""
        return self._core.options.host_age * (1.0 - (int.from_bytes(address) & 63) / 256)

    def _report(self, bound: Bound, neighbour: Neighbour, what: str) -> None:
        assert neighbour.mac is not None
        address, mac = str(ip_address(neighbour.address)), mac_text(neighbour.mac)
        name, endpoint = bound.network.description.name, bound.endpoint.uuid
        self._core.publish(
            f"host.{what}",
            f"host {address} ({mac}) of network {name} was {what} at endpoint {endpoint}",
            network=bound.network.uuid,
            endpoint=endpoint,
            mac=mac,
            address=address,
        )
