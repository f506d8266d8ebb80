"""L2: the network as one switch."""

from __future__ import annotations

from libnetvirt.model import Endpoint, VirtualNetwork
from libnetvirt.packet import is_group, parse_ethernet
from libnetvirt.semantics.knowledge import Learned, declared_hosts
from libnetvirt.semantics.outcome import Drop, Output


def bridge(
    network: VirtualNetwork, endpoint: Endpoint, learned: Learned, limit: int, frame: bytes
) -> tuple[tuple[Output, ...], Learned, Drop | None]:
    """Forward an untagged frame whose source may be at this endpoint."""
    packet = parse_ethernet(frame)
    declared = declared_hosts(network)
    if packet.source not in declared:
        learned = learned.with_host(packet.source, endpoint.uuid, limit)
    if not is_group(packet.destination):
        there = declared.get(packet.destination) or learned.hosts.get(packet.destination)
        if there == endpoint.uuid:
            return (), learned, Drop.LOCAL
        if there is not None:
            return ((there, frame),), learned, None
    others = (e for e in network.endpoints if e is not endpoint)
    return tuple((e.uuid, frame) for e in others), learned, None
