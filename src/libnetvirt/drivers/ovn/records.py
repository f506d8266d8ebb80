"""A network's description, as its main row in the northbound database carries it: all the state there is.

The row's external_ids hold one key for the network and one for each endpoint, so that a change of one
endpoint is a small change of the database, and what it says is complete without any file of ours. An
endpoint's record is its position in the description, its tunnel key, and its document.

Tunnel keys are chosen here because OVN would give a port the key of one that the same transaction removes,
and with it the hosts that were learned there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from libnetvirt.errors import LabelsExhausted
from libnetvirt.model import Endpoint, VirtualNetwork

NUMBER = "netvirt:number"
#: the tunnel key to try first for a new endpoint
NEXT = "netvirt:next-key"
#: ports that endpoints have moved away from, and that stay until the new ones are in force
LEAVING = "netvirt:leaving"
DESCRIPTION = "netvirt:description"
ENDPOINT = "netvirt:endpoint:"
NETWORK = "netvirt:network"
#: ovn-nb(5), Logical_Switch_Port options:requested-tnl-key. A router's port in an endpoint's switch has the
#: first one: if OVN chose its key, an endpoint that comes later could take it away.
ROUTER_KEY, FIRST_KEY, MAX_TUNNEL_KEY = 1, 2, 32767


def written(network: VirtualNetwork, number: int, old: Mapping[str, str]) -> dict[str, str]:
    """The keys and values that say what ``network`` is.

    ``number``: its place in the order of creation. ``old``: what is written now, or nothing: endpoints keep
    their positions as long as these say the right order, and their tunnel keys as long as they stay where
    they are. Raises LabelsExhausted if there are more endpoints than tunnel keys.
    """
    head = network.model_dump(
        mode="json", by_alias=True, exclude_none=True, include={"name", "forwarding", "constraints", "rules"}
    )
    if len(network.endpoints) > MAX_TUNNEL_KEY - ROUTER_KEY:
        raise LabelsExhausted(
            f"network {network.name} has {len(network.endpoints)} endpoints: OVN has tunnel keys for "
            f"{MAX_TUNNEL_KEY - ROUTER_KEY} in one switch"
        )
    kept = {}
    for e in network.endpoints:
        was = _split(old.get(ENDPOINT + e.uuid, ""))
        if was is not None and _place(json.loads(was[2])) == _place(json.loads(_document(e))):
            kept[e.uuid] = was[1]
    last, fresh = 0, _fresh_keys(int(old.get(NEXT, str(FIRST_KEY))), set(kept.values()))
    keys = {NUMBER: str(number), DESCRIPTION: json.dumps(head, separators=(",", ":"))}
    following = old.get(NEXT, str(FIRST_KEY))
    for e in network.endpoints:
        was = _split(old.get(ENDPOINT + e.uuid, ""))
        last = was[0] if was is not None and was[0] > last else last + 1
        if e.uuid not in kept:
            kept[e.uuid] = next(fresh)
            following = str(kept[e.uuid] + 1 if kept[e.uuid] < MAX_TUNNEL_KEY else FIRST_KEY)
        keys[ENDPOINT + e.uuid] = f"{last} {kept[e.uuid]} {_document(e)}"
    return {**keys, NEXT: following}


def tunnel_key(keys: Mapping[str, str], endpoint: str) -> int:
    """The tunnel key of an endpoint."""
    found = _split(keys[ENDPOINT + endpoint])
    assert found is not None
    return found[1]


def is_record(key: str) -> bool:
    """Does a key of a main row's external_ids belong to the description?"""
    return key in (NUMBER, DESCRIPTION, NEXT, LEAVING) or key.startswith(ENDPOINT)


def _document(e: Endpoint) -> str:
    return e.model_dump_json(by_alias=True, exclude_defaults=True)


def _place(document: Mapping[str, object]) -> tuple[object, ...]:
    """What an endpoint's hosts depend on: if it changes, they are somewhere else."""
    return tuple(str(document.get(name)) for name in ("switch", "port", "vlan", "address"))


def _fresh_keys(first: int, taken: set[int]) -> Iterator[int]:
    """Tunnel keys in use by nobody, those that were in use last coming last."""
    for key in (*range(first, MAX_TUNNEL_KEY + 1), *range(FIRST_KEY, first)):
        if key not in taken:
            yield key


def _split(text: str) -> tuple[int, int, str] | None:
    """Position, tunnel key and document of an endpoint's record; None if it is none."""
    position, _, rest = text.partition(" ")
    key, _, document = rest.partition(" ")
    return (int(position), int(key), document) if position.isdigit() and key.isdigit() else None


class Reader:
    """Reads descriptions; remembers endpoints, so that those that did not change are the same objects."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, Endpoint]] = {}

    def read(self, uuid: str, keys: Mapping[str, str]) -> VirtualNetwork:
        """The network that ``keys`` describe. Raises ValueError or InvalidDescription if they do not."""
        head = json.loads(keys[DESCRIPTION])
        texts = [v for k, v in keys.items() if k.startswith(ENDPOINT)]
        records = sorted(found for t in texts if (found := _split(t)))
        if len(records) != len(texts):
            raise ValueError("an endpoint's record is damaged")
        known = self._known.get(uuid, {})
        now = {r[2]: known.get(r[2]) or Endpoint.model_validate_json(r[2]) for r in records}
        self._known[uuid] = now
        return VirtualNetwork.model_validate({**head, "uuid": uuid, "endpoints": tuple(now.values())})

    def wrote(self, network: VirtualNetwork, keys: Mapping[str, str]) -> None:
        """Take over the endpoints of a network that was written as ``keys``."""
        records = (_split(keys[ENDPOINT + e.uuid]) for e in network.endpoints)
        self._known[network.uuid] = {
            r[2]: e for r, e in zip(records, network.endpoints, strict=True) if r is not None
        }

    def forget(self, uuid: str) -> None:
        """A network that is gone."""
        self._known.pop(uuid, None)
