"""The oracle's entry points: classify a frame, forward it in its network, add the tags where it leaves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from libnetvirt.errors import EndpointNotFound
from libnetvirt.model import Endpoint, Forwarding, VirtualNetwork
from libnetvirt.model.customer_tags import ANY, UNTAGGED, contains
from libnetvirt.packet import (
    PacketError,
    add_label,
    add_tag,
    is_host_mac,
    is_tagged,
    split_label,
    split_tag,
    tag_priority,
    with_vlan,
)
from libnetvirt.semantics.bridge import bridge, ends_slow_protocols
from libnetvirt.semantics.learned_state import LearnedState, declared_hosts
from libnetvirt.semantics.outcome import Delivery, DropReason, EndpointFrame, FrameDropped, Outcome, PortFrame
from libnetvirt.semantics.router import route


class ClassifiedFrame(NamedTuple):
    """A frame's network and endpoint, and the frame without the endpoint's tag or label.

    In a network that keeps its customers' tags it has all of them. Of an endpoint with ``inner_vlan``, it has
    also the endpoint's own tag, whose type and priority leave with it, with vlan 0 in it.
    """

    network: VirtualNetwork
    endpoint: Endpoint
    frame: bytes

    def priority(self, arrived: bytes) -> int:
        """The priority in its network of the frame, which was ``arrived`` with its tag."""
        return self.endpoint.pcp.of(tag_priority(arrived)) if self.endpoint.pcp else 0


def classify(
    networks: Iterable[VirtualNetwork], switch: str, port: str, frame: bytes
) -> ClassifiedFrame | DropReason:
    """Return the frame with its network and endpoint, or the reason why it belongs to none."""
    try:
        vlan, untagged = split_tag(frame)
    except PacketError:
        return DropReason.TRUNCATED
    found: ClassifiedFrame | DropReason = DropReason.NO_ENDPOINT
    plain = frame
    if vlan == 0:
        if is_tagged(untagged):
            found = DropReason.PRIORITY_TAG
        else:
            vlan, plain = None, untagged
    inside = None if vlan is not None else split_label(plain)
    for network in networks:
        for e in network.endpoints:
            if e.switch != switch or port not in (e.port, *e.ports):
                continue
            if e.mpls is not None:
                if inside is not None and inside[0] == e.mpls:
                    return ClassifiedFrame(network, e, inside[1])
            elif isinstance(e.vlan, str):
                if e.vlan == ANY or (vlan is not None and contains(e.vlan, vlan)):
                    return ClassifiedFrame(network, e, frame)
            elif e.vlan is None and vlan is None:
                found = ClassifiedFrame(network, e, plain)
            elif e.vlan == vlan:
                found = ClassifiedFrame(network, e, with_vlan(0, frame) if e.inner_vlan else untagged)
    return found


def forward_at_endpoint(
    network: VirtualNetwork, learned: LearnedState, endpoint_uuid: str, frame: bytes
) -> Delivery:
    """Forward a frame that enters a network at an endpoint, already without the endpoint's tag or label.

    Raises EndpointNotFound if the network has no such endpoint.
    """
    endpoint = network.endpoint(endpoint_uuid)
    if endpoint is None:
        raise EndpointNotFound(f"network {network.name} has no endpoint {endpoint_uuid}")
    drop = _drop_reason(network, endpoint, frame)
    if drop is not None:
        return Delivery((), learned, drop)
    forwarder = bridge if network.forwarding is Forwarding.L2 else route
    tables = learned.network(network.uuid)
    try:
        outputs, tables, drop = forwarder(network, endpoint, tables, learned.limit, frame)
    except FrameDropped as end:
        return Delivery((), learned, end.reason)
    except PacketError:
        return Delivery((), learned, DropReason.MALFORMED)
    return Delivery(outputs, learned.with_tables(network.uuid, tables), drop)


def _drop_reason(network: VirtualNetwork, endpoint: Endpoint, frame: bytes) -> DropReason | None:
    """Return why a frame is dropped whatever the network's forwarding; None if it is not."""
    if len(frame) < 14:
        return DropReason.TRUNCATED
    if is_tagged(frame) and not endpoint.kept_tags:
        return DropReason.NESTED_TAG
    if ends_slow_protocols(endpoint, frame):
        return DropReason.LINK_AGGREGATION
    source = frame[6:12]
    if not is_host_mac(source):
        return DropReason.INVALID_SOURCE
    if declared_hosts(network).get(source, endpoint.uuid) != endpoint.uuid:
        return DropReason.DECLARED_ELSEWHERE
    return None


def egress_frame(endpoint: Endpoint, frame: bytes, priority: int = 0) -> PortFrame:
    """Return switch, port and a frame as it leaves at an endpoint: with the endpoint's tag or label.

    The port is as in the description: of several it leaves at one, whichever.
    The frame is as in :class:`ClassifiedFrame`.
    """
    if endpoint.mpls is not None:
        frame = add_label(endpoint.mpls, frame)
    elif endpoint.own_vlan is not None:
        if endpoint.inner_vlan:
            frame = with_vlan(endpoint.own_vlan, frame)
        else:
            frame = add_tag(endpoint.own_vlan, frame, priority if endpoint.pcp else 0)
    return endpoint.switch, endpoint.port, frame


def forward(
    networks: Iterable[VirtualNetwork], learned: LearnedState, switch: str, port: str, frame: bytes
) -> Outcome:
    """Return what must come out of the substrate when a frame arrives at a switch's port."""
    networks = list(networks)
    found = classify(networks, switch, port, frame)
    if isinstance(found, DropReason):
        below: tuple[PortFrame, ...] = ()
        if found is DropReason.PRIORITY_TAG:
            below = _tolerated_below(networks, learned, switch, port, frame)
        return Outcome((), learned, None, found, below)
    network = found.network
    delivery = forward_at_endpoint(network, learned, found.endpoint.uuid, found.frame)
    priority = found.priority(frame)
    outputs = _egress_frames(network, delivery.outputs, priority)
    tolerated: tuple[PortFrame, ...] = ()
    if delivery.drop is DropReason.NESTED_TAG and network.forwarding is Forwarding.L2:
        carried, _, _ = bridge(network, found.endpoint, learned.network(network.uuid), 0, found.frame)
        tolerated = _egress_frames(network, carried, priority)
    return Outcome(outputs, delivery.learned, network.uuid, delivery.drop, tolerated)


def _tolerated_below(
    networks: Iterable[VirtualNetwork], learned: LearnedState, switch: str, port: str, frame: bytes
) -> tuple[PortFrame, ...]:
    """The frames that may come out if a switch does not see the tag below a priority tag."""
    _, below = split_tag(frame)
    for network in networks:
        for e in network.endpoints:
            if (e.switch, e.port, e.tag) == (switch, port, UNTAGGED) and network.forwarding is Forwarding.L2:
                carried, _, _ = bridge(network, e, learned.network(network.uuid), 0, below)
                return _egress_frames(network, carried, e.pcp.of(tag_priority(frame)) if e.pcp else 0)
    return ()


def _egress_frames(
    network: VirtualNetwork, outputs: Iterable[EndpointFrame], priority: int
) -> tuple[PortFrame, ...]:
    return tuple(egress_frame(network.by_uuid[uuid], frame, priority) for uuid, frame in outputs)
