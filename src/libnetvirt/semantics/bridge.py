"""L2 forwarding: the network is one learning switch."""

from __future__ import annotations

from libnetvirt.model import Endpoint, VirtualNetwork
from libnetvirt.model.customer_tags import ANY, UNTAGGED
from libnetvirt.packet import SLOW_PROTOCOLS, is_group, is_tagged, parse_ethernet
from libnetvirt.semantics.learned_state import HostTables, declared_hosts
from libnetvirt.semantics.outcome import DropReason, EndpointFrame


def ends_slow_protocols(endpoint: Endpoint, frame: bytes) -> bool:
    """Whether a frame concerns the links of an endpoint's aggregation group rather than the network: it
    neither enters nor leaves there."""
    if len(endpoint.ports) == 1 or frame[:6] != SLOW_PROTOCOLS:
        return False
    return endpoint.tag == UNTAGGED or (endpoint.vlan == ANY and not is_tagged(frame))


def bridge(
    network: VirtualNetwork, endpoint: Endpoint, tables: HostTables, limit: int, frame: bytes
) -> tuple[tuple[EndpointFrame, ...], HostTables, DropReason | None]:
    """Forward a frame whose tag is removed and whose source address is valid at this endpoint.

    Returns the frames that leave, the new tables, and the reason if nothing leaves.
    """
    packet = parse_ethernet(frame)
    declared = declared_hosts(network)
    if packet.source not in declared:
        tables = tables.with_host(packet.source, endpoint.uuid, limit)
    if not is_group(packet.destination):
        there = declared.get(packet.destination) or tables.hosts.get(packet.destination)
        if there == endpoint.uuid:
            return (), tables, DropReason.SAME_ENDPOINT
        if there is not None:
            return ((there, frame),), tables, None
    others = (e for e in network.endpoints if e is not endpoint and not ends_slow_protocols(e, frame))
    return tuple((e.uuid, frame) for e in others), tables, None
