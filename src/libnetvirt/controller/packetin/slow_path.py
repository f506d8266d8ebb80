"""The slow path of routed networks: processes packets that the switches' rules do not forward.

Tables *gateway* and *route* send up packets to the router itself and packets without a route, *onward* those
that are too large for a tunnel, and *neighbour* routed packets whose neighbour is not known. Each packet is
processed from scratch, whatever table it came from: rules may have changed since it was sent up, and what can
be forwarded by now is.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address

from libnetvirt.controller.dataplane.entries import add_message
from libnetvirt.controller.dataplane.pipeline import Table
from libnetvirt.controller.engine.controller import Controller
from libnetvirt.controller.intent.rulesdb import Attachment, NetworkRecord
from libnetvirt.controller.packetin.neighbour_resolution import QUIET_TIME, NeighbourResolution
from libnetvirt.controller.packetin.responder import (
    Reaction,
    RoutedPacket,
    RouterInterface,
    fit_to_mtu,
    respond,
    route_frame,
)


class SlowPath:
    """Replies, learns and forwards for all routed networks.

    ``refuse``: called with an endpoint, the MAC address of a host there, the time and a reason, to report
    that something the host sends is ignored.
    """

    def __init__(self, core: Controller, refuse: Callable[[Attachment, int, float, str], None]) -> None:
        self._core = core
        self._refuse = refuse
        self._state = core.state
        self.resolution = NeighbourResolution(core)

    def packet(
        self, record: NetworkRecord, attachment: Attachment | None, table: int, frame: bytes, now: float
    ) -> None:
        """Process a frame that a table sent up. ``attachment``: where it entered; None if it came out of a
        tunnel."""
        plan = self._state.address_plan(record)
        if table == Table.NEIGHBOUR:
            routed = route_frame(plan, frame)
            if routed is not None:
                self.resolution.forward(record, routed, now)
            return
        if attachment is None:
            return
        interface = RouterInterface(plan, attachment.endpoint.uuid)
        reaction = respond(interface, frame)
        self._answer(attachment, reaction, now)
        if reaction.claimed:
            address = ip_address(reaction.claimed)
            self._refuse(
                attachment,
                int.from_bytes(frame[6:12]),
                now,
                f"claims the network's own address {address}: is it configured on a host there?",
            )
        if reaction.update is not None:
            self.resolution.learn(attachment, reaction.update, now)
        if reaction.routed is None:
            return
        hop, packet = reaction.routed
        egress, mtu = record.endpoints.get(hop.endpoint), self._state.routing.mtu(record)
        pieces: Reaction | list[bytes] = [packet]
        if egress is not None and egress.dpid != attachment.dpid and len(packet) > mtu:
            pieces = fit_to_mtu(interface, frame, packet, mtu)
        if isinstance(pieces, Reaction):
            self._answer(attachment, pieces, now)
            return
        for piece in pieces:
            self.resolution.forward(record, RoutedPacket(hop, piece), now)

    def _answer(self, attachment: Attachment, reaction: Reaction, now: float) -> None:
        if reaction.answer is not None and (
            not reaction.error or self.resolution.may_send_error(attachment, now)
        ):
            self.resolution.emit(attachment, reaction.answer)

    def rate_exceeded(self, attachment: Attachment, table: int) -> None:
        """Have an endpoint's switch drop packets without a route for a while, because more come up than are
        served."""
        if table == Table.ROUTE and attachment.port is not None:
            self._core.wire.send(
                attachment.dpid, add_message(self._state.routing.suppress_no_route(attachment, QUIET_TIME))
            )
