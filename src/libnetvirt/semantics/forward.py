"""From the wire to the endpoint, through the network, and back to the wire."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from libnetvirt.errors import EndpointNotFound
from libnetvirt.model import Endpoint, Forwarding, VirtualNetwork
from libnetvirt.packet import (
    PacketError,
    add_label,
    add_tag,
    is_host_mac,
    is_tagged,
    split_label,
    split_tag,
)
from libnetvirt.semantics.bridge import bridge
from libnetvirt.semantics.knowledge import Knowledge, declared_hosts
from libnetvirt.semantics.outcome import Delivery, Drop, Dropped, Outcome, Output, WireOutput
from libnetvirt.semantics.router import route


class Classified(NamedTuple):
    """A frame's endpoint, and the frame without that endpoint's tag."""

    network: VirtualNetwork
    endpoint: Endpoint
    frame: bytes


def classify(networks: Iterable[VirtualNetwork], switch: str, port: str, frame: bytes) -> Classified | Drop:
    """Whose frame it is, or why it is nobody's."""
    try:
        vlan, untagged = split_tag(frame)
    except PacketError:
        return Drop.SHORT
    if vlan == 0:
        return Drop.PRIORITY_TAG
    inside = None if vlan is not None else split_label(frame)
    found: Classified | Drop = Drop.UNCLAIMED
    for network in networks:
        for e in network.endpoints:
            if (e.switch, e.port) != (switch, port):
                continue
            if e.mpls is not None:
                if inside is not None and inside[0] == e.mpls:
                    return Classified(network, e, inside[1])
            elif e.vlan == vlan:
                found = Classified(network, e, untagged)
    return found


def forward_at(network: VirtualNetwork, knowledge: Knowledge, endpoint_uuid: str, frame: bytes) -> Delivery:
    """What comes out when a frame, already without the endpoint's tag, enters at an endpoint.

    Raises EndpointNotFound if the network has no such endpoint.
    """
    endpoint = network.endpoint(endpoint_uuid)
    if endpoint is None:
        raise EndpointNotFound(f"network {network.name} has no endpoint {endpoint_uuid}")
    drop = _unacceptable(network, endpoint, frame)
    if drop is not None:
        return Delivery((), knowledge, drop)
    work = bridge if network.forwarding is Forwarding.L2 else route
    learned = knowledge.of(network.uuid)
    try:
        outputs, learned, drop = work(network, endpoint, learned, knowledge.limit, frame)
    except Dropped as end:
        return Delivery((), knowledge, end.reason)
    except PacketError:
        return Delivery((), knowledge, Drop.MALFORMED)
    return Delivery(outputs, knowledge.with_learned(network.uuid, learned), drop)


def _unacceptable(network: VirtualNetwork, endpoint: Endpoint, frame: bytes) -> Drop | None:
    """What no network takes, L2 or L3."""
    if len(frame) < 14:
        return Drop.SHORT
    if is_tagged(frame):
        return Drop.NESTED_TAG
    source = frame[6:12]
    if not is_host_mac(source):
        return Drop.SOURCE
    if declared_hosts(network).get(source, endpoint.uuid) != endpoint.uuid:
        return Drop.ELSEWHERE
    return None


def on_wire(endpoint: Endpoint, frame: bytes) -> WireOutput:
    """A frame as it leaves at an endpoint: with its tag, if it has one."""
    tagged = add_tag(endpoint.vlan, frame) if endpoint.mpls is None else add_label(endpoint.mpls, frame)
    return endpoint.switch, endpoint.port, tagged


def forward(
    networks: Iterable[VirtualNetwork], knowledge: Knowledge, switch: str, port: str, frame: bytes
) -> Outcome:
    """What must come out of the substrate when a frame arrives at a switch's port."""
    found = classify(networks, switch, port, frame)
    if isinstance(found, Drop):
        return Outcome((), knowledge, None, found)
    network = found.network
    delivery = forward_at(network, knowledge, found.endpoint.uuid, found.frame)
    outputs = _wired(network, delivery.outputs)
    tolerated: tuple[WireOutput, ...] = ()
    if delivery.drop is Drop.NESTED_TAG and network.forwarding is Forwarding.L2:
        carried, _, _ = bridge(network, found.endpoint, knowledge.of(network.uuid), 0, found.frame)
        tolerated = _wired(network, carried)
    return Outcome(outputs, delivery.knowledge, network.uuid, delivery.drop, tolerated)


def _wired(network: VirtualNetwork, outputs: Iterable[Output]) -> tuple[WireOutput, ...]:
    return tuple(on_wire(network.by_uuid[uuid], frame) for uuid, frame in outputs)
