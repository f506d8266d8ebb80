"""Neighbour resolution for routed networks: ARP (RFC 826) and neighbour discovery (RFC 4861).

When a packet has to go to an unknown neighbour, the neighbour is asked up to :data:`PROBES` times,
:data:`INTERVAL` seconds apart (RFC 1122, section 2.3.2.1), and packets to it are queued. Its answer releases
them, in order, and installs the rule that forwards all later ones. Without an answer, the senders get ICMP
errors. A neighbour that was silent for long is asked again while its rule continues to forward, and removed
if it does not answer.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane.entries import add_message
from libnetvirt.controller.engine.controller import Controller
from libnetvirt.controller.intent.neighbours import Neighbour
from libnetvirt.controller.intent.rulesdb import Attachment, NetworkRecord
from libnetvirt.controller.packetin.responder import (
    NeighbourUpdate,
    RoutedPacket,
    RouterInterface,
    solicit,
    unreachable,
)
from libnetvirt.controller.rules.encapsulation import deliver
from libnetvirt.packet import ETH_IPV4, ETH_IPV6, ethernet, mac_text

#: requests to a neighbour before it is given up
PROBES = 3
#: seconds between two requests
INTERVAL = 1.0
#: packets dropped for a full queue, after which the switch is told to drop such packets itself for a while
OVERFLOW_LIMIT = 32
#: seconds for which it drops them
QUIET_TIME = 1


class NeighbourResolution:
    """Resolves and supervises the neighbours of all routed networks."""

    def __init__(self, core: Controller) -> None:
        self._core = core
        self._state = core.state
        self._neighbours = core.state.neighbours

    def forward(self, record: NetworkRecord, routed: RoutedPacket, now: float) -> None:
        """Send a packet to its next hop, now or when that has been resolved."""
        hop = routed.hop
        attachment = record.endpoints.get(hop.endpoint)
        if attachment is None or attachment.port is None:
            return
        neighbour = self._neighbours.find(record.uuid, *hop)
        if neighbour is None:
            neighbour = self._neighbours.add_incomplete(record.uuid, *hop, due=now + INTERVAL)
            if neighbour is None:
                return
            self._solicit(attachment, neighbour)
        if neighbour.mac is not None:
            self._send(attachment, neighbour.mac, routed.packet)
            return
        self._neighbours.enqueue(neighbour, routed.packet)
        if neighbour.overflow > OVERFLOW_LIMIT:
            neighbour.overflow = 0
            for flow in self._state.routing.suppress_unresolved(attachment, neighbour, QUIET_TIME):
                self._core.wire.send(attachment.dpid, add_message(flow))

    def learn(self, attachment: Attachment, update: NeighbourUpdate, now: float) -> None:
        """Process the MAC address that a neighbour announced at the endpoint with its prefix."""
        uuid, endpoint = attachment.network.uuid, attachment.endpoint.uuid
        neighbour = self._neighbours.find(uuid, endpoint, update.address)
        before = neighbour.mac if neighbour else None
        if neighbour is None and update.only_if_known:
            return
        if before not in (None, update.mac) and update.no_override:
            return
        if neighbour is not None:
            # Queued packets go out before the rule is installed, so that later ones do not overtake them.
            for packet in self._neighbours.take_queued(neighbour):
                self._send(attachment, update.mac, packet)
        due = now + self._age(update.address)
        learned = self._neighbours.learn(uuid, endpoint, update.address, update.mac, due)
        if learned is None:
            if neighbour is not None:
                self._neighbours.remove(neighbour)
        elif before != update.mac:
            self._core.hosts.neighbour_changed(attachment.network, learned)
            self._report(attachment, learned, "learned" if before is None else "moved")

    def port_down(self, attachment: Attachment) -> None:
        """Remove the neighbours at an endpoint whose port went down: other hosts may be there when it is up
        again."""
        for neighbour in self._neighbours.at(attachment.network.uuid, attachment.endpoint.uuid):
            self._remove(attachment.network, neighbour)

    def tick(self, now: float, waits: Callable[[NetworkRecord], bool]) -> None:
        """Ask neighbours that are due again, or give them up. ``waits``: whether an operation on a network is
        running."""
        for neighbour in self._neighbours.take_due(now):
            record = self._state.rulesdb.networks.get(neighbour.network)
            attachment = record.endpoints.get(neighbour.endpoint) if record else None
            if record is None or attachment is None:
                self._neighbours.remove(neighbour)
            elif waits(record) or (neighbour.mac is not None and not self._state.reaches(attachment)):
                self._neighbours.reschedule(neighbour, now + INTERVAL)
            elif neighbour.probes >= PROBES - 1 + (neighbour.mac is not None):
                waiting = self._neighbours.take_queued(neighbour)
                self._remove(record, neighbour)
                for packet in waiting:
                    self._send_unreachable(record, packet, now)
            else:
                neighbour.probes += 1
                self._neighbours.reschedule(neighbour, now + INTERVAL)
                self._solicit(attachment, neighbour)

    def may_send_error(self, attachment: Attachment, now: float) -> bool:
        """Whether one more ICMP error may be sent out at an endpoint now (rate limit, RFC 1812, section
        4.3.2.8)."""
        return attachment.errors.take(self._state.options.error_rate, now)

    def _send_unreachable(self, record: NetworkRecord, packet: bytes, now: float) -> None:
        error = unreachable(self._state.address_plan(record), packet)
        attachment = record.endpoints.get(error.hop.endpoint) if error else None
        if error is not None and attachment is not None and self.may_send_error(attachment, now):
            self.forward(record, error, now)

    def _remove(self, record: NetworkRecord, neighbour: Neighbour) -> None:
        known = neighbour.mac is not None
        self._neighbours.remove(neighbour)
        if known:
            self._core.hosts.neighbour_changed(record, neighbour)

    def _solicit(self, attachment: Attachment, neighbour: Neighbour) -> None:
        interface = RouterInterface(self._state.address_plan(attachment.network), attachment.endpoint.uuid)
        self.emit(attachment, solicit(interface, neighbour.address))

    def _send(self, attachment: Attachment, mac: bytes, packet: bytes) -> None:
        ethertype = ETH_IPV4 if packet[0] >> 4 == 4 else ETH_IPV6
        self.emit(
            attachment, ethernet(mac, self._state.address_plan(attachment.network).gateway, ethertype, packet)
        )

    def emit(self, attachment: Attachment, frame: bytes) -> None:
        """Send an untagged frame out at an endpoint, with its tag."""
        if attachment.port is not None:
            self._core.wire.send(attachment.dpid, of.PacketOut(actions=deliver(attachment), frame=frame))

    def _age(self, address: bytes) -> float:
        """Seconds after which a silent neighbour is asked again, spread so that not all are asked at the same
        time."""
        return self._state.options.host_age * (1.0 - (int.from_bytes(address) & 63) / 256)

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
