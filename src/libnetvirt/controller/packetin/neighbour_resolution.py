"""NeighbourResolution: finds the neighbours of routers, and sends what has waited for them.

A neighbour is asked for when a packet wants to go there: :data:`TRIES` times, :data:`INTERVAL` apart
(RFC 1122, section 2.3.2.1). Meanwhile a few packets wait; the answer sends them on in their order, and puts
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
from libnetvirt.controller.intent.rulesdb import Attachment, NetworkRecord
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


class NeighbourResolution:
    """Looks after the neighbours of all routers."""

    def __init__(self, core: Controller) -> None:
        self._core = core
        self._neighbours = core.neighbours

    def forward(self, entry: NetworkRecord, onward: Onward, now: float) -> None:
        """Send a packet to its next hop, now or when that has answered."""
        hop = onward.hop
        attachment = entry.endpoints.get(hop.endpoint)
        if attachment is None or attachment.port is None:
            return
        neighbour = self._neighbours.find(entry.uuid, *hop)
        if neighbour is None:
            neighbour = self._neighbours.expect(entry.uuid, *hop, due=now + INTERVAL)
            if neighbour is None:
                return
            self._ask(attachment, neighbour)
        if neighbour.mac is not None:
            self._send(attachment, neighbour.mac, onward.packet)
            return
        self._neighbours.wait(neighbour, onward.packet)
        if neighbour.surplus > SURPLUS:
            neighbour.surplus = 0
            for flow in self._core.routing.unanswered(attachment, neighbour, QUIET_TIME):
                self._core.wire.send(attachment.dpid, adding(flow))

    def hear(self, attachment: Attachment, heard: Heard, now: float) -> None:
        """A neighbour has said its MAC address at the endpoint that has its prefix."""
        uuid, endpoint = attachment.network.uuid, attachment.endpoint.uuid
        neighbour = self._neighbours.find(uuid, endpoint, heard.address)
        before = neighbour.mac if neighbour else None
        if neighbour is None and heard.expected:
            return
        if before not in (None, heard.mac) and heard.kept:
            return
        if neighbour is not None:
            # Before the rule: what comes later must not be sooner.
            for packet in self._neighbours.release(neighbour):
                self._send(attachment, heard.mac, packet)
        due = now + self._age(heard.address)
        learned = self._neighbours.learn(uuid, endpoint, heard.address, heard.mac, due)
        if learned is None:
            if neighbour is not None:
                self._neighbours.forget(neighbour)
        elif before != heard.mac:
            self._core.neighbour_changed(attachment.network, learned)
            self._report(attachment, learned, "learned" if before is None else "moved")

    def unplugged(self, attachment: Attachment) -> None:
        """An endpoint's port went down: who comes back there may be others."""
        for neighbour in self._neighbours.at(attachment.network.uuid, attachment.endpoint.uuid):
            self._forget(attachment.network, neighbour)

    def tick(self, now: float, waits: Callable[[NetworkRecord], bool]) -> None:
        """Ask again, and give up. ``waits``: whether an operation on a network is under way."""
        for neighbour in self._neighbours.take_due(now):
            entry = self._core.rulesdb.networks.get(neighbour.network)
            attachment = entry.endpoints.get(neighbour.endpoint) if entry else None
            if entry is None or attachment is None:
                self._neighbours.forget(neighbour)
            elif waits(entry) or (neighbour.mac is not None and not self._core.reaches(attachment)):
                self._neighbours.put_off(neighbour, now + INTERVAL)
            elif neighbour.tries >= TRIES - 1 + (neighbour.mac is not None):
                waiting = self._neighbours.release(neighbour)
                self._forget(entry, neighbour)
                for packet in waiting:
                    self._refuse(entry, packet, now)
            else:
                neighbour.tries += 1
                self._neighbours.put_off(neighbour, now + INTERVAL)
                self._ask(attachment, neighbour)

    def may_err(self, attachment: Attachment, now: float) -> bool:
        """Whether one more ICMP error may go out at an endpoint (RFC 1812, section 4.3.2.8)."""
        return attachment.errors.take(self._core.options.error_rate, now)

    def _refuse(self, entry: NetworkRecord, packet: bytes, now: float) -> None:
        error = unreachable(self._core.plan(entry), packet)
        attachment = entry.endpoints.get(error.hop.endpoint) if error else None
        if error is not None and attachment is not None and self.may_err(attachment, now):
            self.forward(entry, error, now)

    def _forget(self, entry: NetworkRecord, neighbour: Neighbour) -> None:
        known = neighbour.mac is not None
        self._neighbours.forget(neighbour)
        if known:
            self._core.neighbour_changed(entry, neighbour)

    def _ask(self, attachment: Attachment, neighbour: Neighbour) -> None:
        side = Side(self._core.plan(attachment.network), attachment.endpoint.uuid)
        self.emit(attachment, question(side, neighbour.address))

    def _send(self, attachment: Attachment, mac: bytes, packet: bytes) -> None:
        ethertype = ETH_IPV4 if packet[0] >> 4 == 4 else ETH_IPV6
        self.emit(attachment, ethernet(mac, self._core.plan(attachment.network).gateway, ethertype, packet))

    def emit(self, attachment: Attachment, frame: bytes) -> None:
        """Send an untagged frame out at an endpoint."""
        if attachment.port is not None:
            self._core.wire.send(attachment.dpid, of.PacketOut(actions=deliver(attachment), frame=frame))

    def _age(self, address: bytes) -> float:
        """Seconds until a silent neighbour is asked again: not all at the same time."""
        return self._core.options.host_age * (1.0 - (int.from_bytes(address) & 63) / 256)

    def _report(self, attachment: Attachment, neighbour: Neighbour, what: str) -> None:
        assert neighbour.mac is not None
        address, mac = str(ip_address(neighbour.address)), mac_text(neighbour.mac)
        name, endpoint = attachment.network.description.name, attachment.endpoint.uuid
        self._core.publish(
            f"host.{what}",
            f"host {address} ({mac}) of network {name} was {what} at endpoint {endpoint}",
            network=attachment.network.uuid,
            endpoint=endpoint,
            mac=mac,
            address=address,
        )
