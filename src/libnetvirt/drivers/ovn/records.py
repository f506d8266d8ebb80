"""A network's description, stored in ``external_ids`` of its main row in the northbound database.

There is one key for the network and one for each endpoint, so that a change of one endpoint is a small update
of the row. Together they are the whole description: the driver keeps no file. The record of an endpoint is
its position in the description, its tunnel key, and the endpoint as JSON.

The driver chooses the tunnel keys of ports. OVN would give a new port the key of one that the same
transaction removes, and the new port would inherit the MAC addresses that OVN has learned at the old one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from libnetvirt.errors import LabelsExhausted
from libnetvirt.model import Endpoint, VirtualNetwork

#: keys in external_ids: the network's position in the order of creation
SEQUENCE = "netvirt:number"
#: the first tunnel key to consider for a new endpoint
NEXT_KEY = "netvirt:next-key"
#: the logical ports that moving endpoints vacate; they are kept until the new ports forward
VACATED = "netvirt:leaving"
DESCRIPTION = "netvirt:description"
#: followed by the endpoint's uuid
ENDPOINT_PREFIX = "netvirt:endpoint:"
#: ovn-nb(5), Logical_Switch_Port options:requested-tnl-key. The router port in an endpoint's logical switch
#: has the first key: OVN's own choice could be the key of a later endpoint.
ROUTER_KEY, FIRST_KEY, MAX_TUNNEL_KEY = 1, 2, 32767


def encode(network: VirtualNetwork, sequence: int, old: Mapping[str, str]) -> dict[str, str]:
    """The records of a network.

    ``sequence``: its position in the order of creation. ``old``: its stored records, empty for a new network.
    Endpoints keep their stored position while the order is the same, and their tunnel key while they stay at
    the same port and tag. Raises LabelsExhausted if there are more endpoints than tunnel keys.
    """
    head = network.model_dump(
        mode="json", by_alias=True, exclude_none=True, include={"name", "forwarding", "constraints", "rules"}
    )
    if len(network.endpoints) > MAX_TUNNEL_KEY - ROUTER_KEY:
        raise LabelsExhausted(
            f"network {network.name} has {len(network.endpoints)} endpoints: OVN has tunnel keys for "
            f"{MAX_TUNNEL_KEY - ROUTER_KEY} in one switch"
        )
    tunnel_keys = {}
    for e in network.endpoints:
        was = _split(old.get(ENDPOINT_PREFIX + e.uuid, ""))
        if was is not None and _location(json.loads(was[2])) == _location(json.loads(_document(e))):
            tunnel_keys[e.uuid] = was[1]
    next_key = old.get(NEXT_KEY, str(FIRST_KEY))
    position, free = 0, _free_keys(int(next_key), set(tunnel_keys.values()))
    records = {SEQUENCE: str(sequence), DESCRIPTION: json.dumps(head, separators=(",", ":"))}
    for e in network.endpoints:
        was = _split(old.get(ENDPOINT_PREFIX + e.uuid, ""))
        position = was[0] if was is not None and was[0] > position else position + 1
        if e.uuid not in tunnel_keys:
            key = tunnel_keys[e.uuid] = next(free)
            next_key = str(key + 1 if key < MAX_TUNNEL_KEY else FIRST_KEY)
        records[ENDPOINT_PREFIX + e.uuid] = f"{position} {tunnel_keys[e.uuid]} {_document(e)}"
    return {**records, NEXT_KEY: next_key}


def tunnel_key(records: Mapping[str, str], endpoint: str) -> int:
    """The tunnel key of an endpoint, by its uuid."""
    found = _split(records[ENDPOINT_PREFIX + endpoint])
    assert found is not None
    return found[1]


def is_record(key: str) -> bool:
    """Whether a key in a main row's ``external_ids`` belongs to the description."""
    return key in (SEQUENCE, DESCRIPTION, NEXT_KEY, VACATED) or key.startswith(ENDPOINT_PREFIX)


def _document(e: Endpoint) -> str:
    return e.model_dump_json(by_alias=True, exclude_defaults=True)


def _location(document: Mapping[str, object]) -> tuple[object, ...]:
    """The fields that decide where an endpoint's hosts are: learned hosts are stale if one changes."""
    return tuple(str(document.get(name)) for name in ("switch", "port", "vlan", "address"))


def _free_keys(first: int, taken: set[int]) -> Iterator[int]:
    """Tunnel keys not in use, from ``first`` on and then from the start: a released key is reused last."""
    for key in (*range(first, MAX_TUNNEL_KEY + 1), *range(FIRST_KEY, first)):
        if key not in taken:
            yield key


def _split(text: str) -> tuple[int, int, str] | None:
    """(position, tunnel key, JSON) of an endpoint's record; None if it is malformed."""
    position, _, rest = text.partition(" ")
    key, _, document = rest.partition(" ")
    return (int(position), int(key), document) if position.isdigit() and key.isdigit() else None


class Decoder:
    """Decodes descriptions. Endpoints are cached: one that did not change is decoded to the same object."""

    def __init__(self) -> None:
        #: network -> JSON of an endpoint -> the endpoint
        self._cache: dict[str, dict[str, Endpoint]] = {}

    def decode(self, uuid: str, records: Mapping[str, str]) -> VirtualNetwork:
        """The network with these records. Raises KeyError, ValueError or InvalidDescription if they are
        damaged."""
        head = json.loads(records[DESCRIPTION])
        texts = [v for k, v in records.items() if k.startswith(ENDPOINT_PREFIX)]
        found = sorted(split for t in texts if (split := _split(t)))
        if len(found) != len(texts):
            raise ValueError("the record of an endpoint is damaged")
        cached = self._cache.get(uuid, {})
        endpoints = {r[2]: cached.get(r[2]) or Endpoint.model_validate_json(r[2]) for r in found}
        self._cache[uuid] = endpoints
        return VirtualNetwork.model_validate({**head, "uuid": uuid, "endpoints": tuple(endpoints.values())})

    def cache(self, network: VirtualNetwork, records: Mapping[str, str]) -> None:
        """Cache the endpoints of a network that is about to be written as ``records``."""
        found = (_split(records[ENDPOINT_PREFIX + e.uuid]) for e in network.endpoints)
        self._cache[network.uuid] = {
            r[2]: e for r, e in zip(found, network.endpoints, strict=True) if r is not None
        }

    def evict(self, uuid: str) -> None:
        """Drop the cached endpoints of a removed network."""
        self._cache.pop(uuid, None)
